/**
 * The scanner of src/json/scan.ts once more, in AssemblyScript: it reads the inside of strings 16 bytes
 * at a time (WebAssembly SIMD). `npm run build:wasm` compiles it to src/json/scan.wasm.
 *
 * It writes the same tape, integer by integer, and refuses the same texts at the same place; a test
 * runs both. What member names mean is data written by `addName`. It has no imports and reads and
 * writes nothing but its own memory; the host lays that out:
 *
 *   names    slots, then a record for each name         written once by addName
 *   stack    32 bytes for each level of depth
 *   input    the text, then 16 zero bytes or more
 *   tape     5 integers for each entry
 */

// As in src/json/scan.ts and src/json/token.ts.
const OBJECT = 1
const ARRAY = 2
const STRING = 3
const NUMBER = 4
const LITERAL = 5
const KEY = 6
const FLAG_SHIFT = 3
const NAME_SHIFT = 6
const ESCAPED = 1
const WIDE = 2
const DIGITS = 4
const ENTRY: usize = 20

/** Answers of `scan` below zero: the tape is full, or what is wrong with the text. */
const FULL = -1
const NAME_MISSING = -2
const MISPLACED = -3
const TWICE = -4
const NO_COLON = -5
const TOO_DEEP = -6
const TRAILING = -7
const UNFINISHED_STRING = -8
const UNKNOWN_ESCAPE = -9
const LONE_SURROGATE = -10
const MALFORMED_ESCAPE = -11
const MALFORMED_NUMBER = -12
const NO_VALUE = -13

// The host numbers names from 0; a record is next, length, number, unused, then the text in whole
// pieces of 16 bytes, the last one filled up with zeros.
const SLOTS: u32 = 1024
let names: usize = 0
let records: usize = 0

/** Where the text is wrong, in bytes from its beginning. */
let offset: usize = 0
export function errorOffset(): usize {
  return offset
}

/** Flags of the string that `endOfString` has passed, and whether it has failed. */
let flags: i32 = 0
let failure: i32 = 0

function fail(code: i32, at: usize): usize {
  failure = code
  offset = at
  return at
}

/** Makes room for names at `at`, where the host left zeros. */
export function beginNames(at: usize): void {
  names = at
  records = at + SLOTS * 4
}

/** Adds the name of `length` bytes at `text`, which zeros follow; answers where its record ends. */
export function addName(text: usize, length: u32, id: i32): usize {
  const slot = slotOf(text, length)
  const record = records
  store<u32>(record, load<u32>(slot))
  store<u32>(record, length, 4)
  store<i32>(record, id, 8)
  memory.copy(record + 16, text, length)
  store<u32>(slot, <u32>record)
  records = record + 16 + ((<usize>length + 15) & ~15)
  return records
}

/** The slot of a name: by its first eight bytes, its last eight, and its length. */
@inline
function slotOf(text: usize, length: u32): usize {
  let hash: u64
  if (length >= 8) hash = load<u64>(text) ^ (load<u64>(text + length - 8) * 0x9e3779b97f4a7c15)
  else hash = load<u64>(text) & (((<u64>1) << ((<u64>length) << 3)) - 1)
  hash = (hash + length) * 0xd6e8feb86659fd93
  return names + <usize>(hash >> 54) * 4
}

/** The number of a name, or -1. */
@inline
function find(text: usize, length: u32): i32 {
  for (let record = <usize>load<u32>(slotOf(text, length)); record != 0; record = load<u32>(record)) {
    if (load<u32>(record, 4) != length) continue
    let n: u32 = 0
    let same = true
    while (n + 16 <= length) {
      if (v128.any_true(v128.xor(v128.load(text + n), v128.load(record + 16 + n)))) {
        same = false
        break
      }
      n += 16
    }
    if (!same) continue
    const rest = (1 << (length - n)) - 1
    const equal = i8x16.bitmask(i8x16.eq(v128.load(text + n), v128.load(record + 16 + n)))
    if ((equal & rest) == rest) return load<i32>(record, 8)
  }
  return -1
}

@inline
function isSpace(c: u32): bool {
  return c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09
}

@inline
function skipSpace(at: usize): usize {
  let i = at
  while (isSpace(load<u8>(i))) i++
  return i
}

@inline
function isDigit(c: u32): bool {
  return c - 0x30 < 10
}

/** From behind the opening quote to behind the closing one (RFC 8259 §7); sets `flags`. */
@inline
function endOfString(from: usize, end: usize): usize {
  let i = from
  let digits = 0
  let seen = 0
  while (true) {
    const piece = v128.load(i)
    const stops = i8x16.bitmask(
      v128.or(
        v128.or(
          i8x16.eq(piece, i8x16.splat(0x22)),
          i8x16.eq(piece, i8x16.splat(0x5c)),
        ),
        i8x16.lt_u(piece, i8x16.splat(0x20)),
      ),
    )
    const wide = i8x16.bitmask(piece)
    const digit = i8x16.bitmask(i8x16.lt_u(i8x16.sub(piece, i8x16.splat(0x30)), i8x16.splat(10)))
    if (stops == 0) {
      digits += popcnt(digit)
      if (wide != 0) seen |= WIDE
      i += 16
      continue
    }
    const before = (stops & -stops) - 1
    digits += popcnt(digit & before)
    if ((wide & before) != 0) seen |= WIDE
    i += ctz(stops)
    const c = load<u8>(i)
    if (c == 0x22) break
    if (c != 0x5c || i >= end) return fail(UNFINISHED_STRING, i)
    seen |= ESCAPED
    i = escape(i)
    if (failure != 0) return i
  }
  flags = seen != 0 ? seen | DIGITS : digits >= 9 ? DIGITS : 0
  return i + 1
}

function hex(at: usize): i32 {
  let value = 0
  for (let n: usize = 0; n < 4; n++) {
    const c = <u32>load<u8>(at + n)
    let digit: u32
    if (isDigit(c)) digit = c - 0x30
    else if ((c | 0x20) - 0x61 < 6) digit = (c | 0x20) - 0x57
    else return -1
    value = (value << 4) | digit
  }
  return value
}

/** Checks one escape and answers where it ends; a surrogate must come as a pair. */
function escape(i: usize): usize {
  const c = load<u8>(i + 1)
  if (c != 0x75) {
    if (
      c == 0x22 || c == 0x5c || c == 0x2f || c == 0x62 || c == 0x66 || c == 0x6e || c == 0x72 || c == 0x74
    ) return i + 2
    return fail(UNKNOWN_ESCAPE, i)
  }
  const unit = hex(i + 2)
  if (unit < 0) return fail(MALFORMED_ESCAPE, i + 2)
  if (unit < 0xd800 || unit > 0xdfff) return i + 6
  if (unit <= 0xdbff && load<u8>(i + 6) == 0x5c && load<u8>(i + 7) == 0x75) {
    const low = hex(i + 8)
    if (low < 0) return fail(MALFORMED_ESCAPE, i + 8)
    if (low >= 0xdc00 && low <= 0xdfff) return i + 12
  }
  return fail(LONE_SURROGATE, i)
}

/** The number of an escaped name: decoded to `scratch`. No name is longer than 120 bytes or beyond ASCII. */
function findDecoded(from: usize, end: usize, scratch: usize): i32 {
  let n: u32 = 0
  memory.fill(scratch, 0, 144)
  for (let i = from; i < end; n++) {
    if (n >= 120) return -1
    let c = <u32>load<u8>(i++)
    if (c == 0x5c) {
      c = <u32>load<u8>(i++)
      if (c == 0x75) {
        c = hex(i)
        i += 4
      } else if (c == 0x62) c = 0x08
      else if (c == 0x66) c = 0x0c
      else if (c == 0x6e) c = 0x0a
      else if (c == 0x72) c = 0x0d
      else if (c == 0x74) c = 0x09
    }
    if (c >= 0x80) return -1
    store<u8>(scratch + n, c)
  }
  return find(scratch, n)
}

/** RFC 8259 §6: no leading zero, no bare point, an exponent with digits. */
@inline
function endOfNumber(from: usize): usize {
  let i = load<u8>(from) == 0x2d ? from + 1 : from
  if (load<u8>(i) == 0x30) i++
  else {
    if (!isDigit(load<u8>(i))) return fail(MALFORMED_NUMBER, i)
    do i++
    while (isDigit(load<u8>(i)))
  }
  if (load<u8>(i) == 0x2e) {
    i++
    if (!isDigit(load<u8>(i))) return fail(MALFORMED_NUMBER, i)
    do i++
    while (isDigit(load<u8>(i)))
  }
  if ((load<u8>(i) | 0x20) == 0x65) {
    i++
    const sign = load<u8>(i)
    if (sign == 0x2b || sign == 0x2d) i++
    if (!isDigit(load<u8>(i))) return fail(MALFORMED_NUMBER, i)
    do i++
    while (isDigit(load<u8>(i)))
  }
  return i
}

@inline
function endOfLiteral(i: usize): usize {
  const word = load<u32>(i)
  if (word == 0x65757274 || word == 0x6c6c756e) return i + 4 // true, null
  if (word == 0x736c6166 && load<u8>(i + 4) == 0x65) return i + 5 // false
  return fail(NO_VALUE, i)
}

/**
 * Scans the text of `length` bytes at `input`. Answers the number of entries on the tape, or a code
 * below zero and the place by `errorOffset`. `stack` has room for `maximumDepth` + 2 levels of 32 bytes:
 * where the open container is on the tape, whether it is an object, the number of the name around it
 * plus one, unused, and one bit for each name met; behind them are 144 bytes more.
 */
export function scan(
  input: usize,
  length: usize,
  tape: usize,
  capacity: usize,
  stack: usize,
  maximumDepth: i32,
): i32 {
  const end = input + length
  // Two entries are made at most between two looks at the room that is left.
  const full = tape + (capacity - 2) * ENTRY
  const scratch = stack + (<usize>maximumDepth + 2) * 32
  let w = tape
  let i = input
  let depth = 0
  let level = stack
  let inObject = false
  let name = 0
  failure = 0

  while (true) {
    // A value begins here, unless a name has to come first.
    let c = <u32>load<u8>(i)
    if (c <= 0x20) {
      i = skipSpace(i)
      c = load<u8>(i)
      if (c <= 0x20) return wrong(MISPLACED, i, input)
    }
    if (w > full) return FULL

    if (inObject) {
      if (c != 0x22) return wrong(NAME_MISSING, i, input)
      const start = i
      i = endOfString(i + 1, end)
      if (failure != 0) return wrong(failure, offset, input)
      const id =
        (flags & ESCAPED) == 0
          ? find(start + 1, <u32>(i - start - 2))
          : findDecoded(start + 1, i - 1, scratch)
      store<i32>(w, <i32>(start - input))
      store<i32>(w, <i32>(i - input), 4)
      store<i32>(w, KEY | ((id + 1) << NAME_SHIFT) | (flags << FLAG_SHIFT), 12)
      w += ENTRY
      name = id + 1
      if (id >= 0) {
        const slot = level + 16 + ((<usize>id >> 5) << 2)
        const bit = 1 << (id & 31)
        const had = load<i32>(slot)
        if ((had & bit) != 0) return wrong(TWICE, i, input)
        store<i32>(slot, had | bit)
      }
      i = skipSpace(i)
      if (load<u8>(i) != 0x3a) return wrong(NO_COLON, i, input)
      i = skipSpace(i + 1)
      c = load<u8>(i)
    }

    store<i32>(w, <i32>(i - input))
    if (c == 0x22) {
      i = endOfString(i + 1, end)
      if (failure != 0) return wrong(failure, offset, input)
      store<i32>(w, <i32>(i - input), 4)
      store<i32>(w, STRING | (name << NAME_SHIFT) | (flags << FLAG_SHIFT), 12)
      w += ENTRY
    } else if (c == 0x7b || c == 0x5b) {
      if (depth >= maximumDepth) return wrong(TOO_DEEP, i, input)
      depth++
      level += 32
      inObject = c == 0x7b
      store<u32>(level, <u32>w)
      store<i32>(level, inObject ? 1 : 0, 4)
      store<i32>(level, name, 8)
      store<i32>(w, (inObject ? OBJECT : ARRAY) | (name << NAME_SHIFT), 12)
      w += ENTRY
      if (inObject) v128.store(level + 16, i64x2.splat(0))
      i = skipSpace(i + 1)
      if (<u32>load<u8>(i) != (inObject ? 0x7d : 0x5d)) continue
    } else {
      const isNumber = c == 0x2d || isDigit(c)
      i = isNumber ? endOfNumber(i) : endOfLiteral(i)
      if (failure != 0) return wrong(failure, offset, input)
      store<i32>(w, <i32>(i - input), 4)
      store<i32>(w, (isNumber ? NUMBER : LITERAL) | (name << NAME_SHIFT), 12)
      w += ENTRY
    }

    // After a value: a comma, or the end of one container or more.
    while (true) {
      i = skipSpace(i)
      if (depth == 0) {
        if (i < end) return wrong(TRAILING, i, input)
        return <i32>((w - tape) / ENTRY)
      }
      c = load<u8>(i)
      i++
      if (c == 0x2c) {
        name = load<i32>(level, 8)
        break
      }
      if (c != (inObject ? 0x7d : 0x5d)) return wrong(MISPLACED, i - 1, input)
      const open = <usize>load<u32>(level)
      store<i32>(open, <i32>(i - input), 4)
      store<i32>(open, <i32>((w - tape) / ENTRY), 8)
      // Which of the first 32 names the object has.
      if (inObject) store<i32>(open, load<i32>(level, 16), 16)
      depth--
      level -= 32
      inObject = load<i32>(level, 4) != 0
    }
  }
}

function wrong(code: i32, at: usize, input: usize): i32 {
  offset = at - input
  return code
}

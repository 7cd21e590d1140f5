/**
 * The scanner of src/json/scan.ts once more, in AssemblyScript: it reads the inside of strings 16 bytes
 * at a time (WebAssembly SIMD). `npm run build:wasm` compiles it to src/json/scan.wasm.
 *
 * It writes the same tape, integer by integer, and refuses the same texts at the same place; a test
 * runs both. What member names mean is data written by `addName`. It has no imports and reads and
 * writes nothing but its own memory; the host lays that out:
 *
 *   names    slots, then a record for each name         written once by addName
 *   kept     strings that were met                      cleared when scans have no number left
 *   guesses  which name came next
 *   twins    objects and lists that were scanned        cleared likewise
 *   outlines what is compared of objects, and what was met
 *   notice   what is worth a look, as Notice says       written once by the host
 *   stack    48 bytes for each level of depth
 *   input    the text, then 16 zero bytes or more
 *   tape     4 integers for each entry
 *   noted    strings, keys and numbers worth a look, then objects: an integer each
 */

// As in src/json/scan.ts and src/json/token.ts.
const OBJECT = 1
const ARRAY = 2
const STRING = 3
const NUMBER = 4
const LITERAL = 5
const KEY = 6
const KIND_MASK = 7
const FLAG_SHIFT = 3
const NAME_SHIFT = 6
const ESCAPED = 1
const WIDE = 2
/** Of these two the tape knows; that there are many digits matters only here. */
const WRITTEN = 3
const DIGITS = 4
const ENTRY: usize = 16

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
// pieces of 16 bytes, the last one filled up with zeros. Of a name of 15 bytes or less a quote follows
// the text, and then come 16 bytes that say which of those are to be compared.
const SLOTS: u32 = 8192
let names: usize = 0
let records: usize = 0

/** Where the text is wrong, in bytes from its beginning. */
let offset: usize = 0
export function errorOffset(): usize {
  return offset
}

/** Bytes of a level of the stack. */
const LEVEL: usize = 48

/** As in src/json/notice.ts: what is asked of strings by their names. */
const ALWAYS: u32 = 1
const PREFIXED: u32 = 2
const UNSEARCHED: u32 = 4
const NAMED: u32 = 8
const LEAST_DIGITS = 9
const WIDEST_GAP = 3
const LEAST_BYTES: usize = 7
const LEAST_WHOLE = 7
const MOST_SHOWN = 4
let asked: usize = 0
let prefix: usize = 0
let prefixLength: usize = 0
let membersA: i32 = 0
let membersB: i32 = 0
let membersC: i32 = 0

/**
 * What is noted: at `at` there is the prefix of `length` bytes, 16 zeros, and a byte for each name.
 */
export function beginNotice(at: usize, length: usize, a: i32, b: i32, c: i32): void {
  prefix = at
  prefixLength = length
  asked = prefix + length + 16
  membersA = a
  membersB = b
  membersC = c
}

/** Whether anything beyond ASCII was met: then it must be UTF-8. */
let seen: i32 = 0
export function hasWide(): i32 {
  return seen & WIDE
}

let notedValues: usize = 0
let notedObjects: usize = 0
export function countOfValues(): usize {
  return notedValues
}
export function countOfObjects(): usize {
  return notedObjects
}

/** Which of 16 bytes are digits, and which interrupt a number: neither that nor a gap in it. */
@inline
function digitsOf(piece: v128): u32 {
  return i8x16.bitmask(i8x16.gt_s(i8x16.add(piece, i8x16.splat(0x46)), i8x16.splat(0x75)))
}
@inline
function gapsOf(piece: v128): u32 {
  return i8x16.bitmask(
    v128.or(i8x16.eq(piece, i8x16.splat(0x20)), i8x16.eq(piece, i8x16.splat(0x2d))),
  )
}

/** Dots behind three digits, or behind two and a dot: of an SSN or card, not of a second or most OIDs. */
@inline
function pointsOf(one: v128, two: v128, digits: u32): u32 {
  const dots =
    i8x16.bitmask(i8x16.eq(one, i8x16.splat(0x2e))) |
    (i8x16.bitmask(i8x16.eq(two, i8x16.splat(0x2e))) << 16)
  return dots & (digits << 1) & (digits << 2) & ((digits | dots) << 3)
}

@inline
function markupOf(piece: v128): u32 {
  return i8x16.bitmask(
    v128.or(i8x16.eq(piece, i8x16.splat(0x26)), i8x16.eq(piece, i8x16.splat(0x3c))),
  )
}

/** Whether a question mark is in a text; behind it there are 16 bytes that can be read. */
@inline
function hasQuery(from: usize, end: usize): bool {
  for (let i = from; i < end; i += 16) {
    let met = i8x16.bitmask(i8x16.eq(v128.load(i), i8x16.splat(0x3f)))
    if (end - i < 16) met &= (1 << <i32>(end - i)) - 1
    if (met != 0) return true
  }
  return false
}

/**
 * Whether ASCII text may hold a number of nine digits or more, gaps of a few signs within it. A date
 * with a time begins with eight digits and has no long run behind them: that much is told at once.
 */
@inline
function mayHoldNumber(from: usize, end: usize): bool {
  const length = <u32>(end - from)
  if (length <= 32) {
    const one = v128.load(from)
    const two = v128.load(from, 16)
    const digits = digitsOf(one) | (digitsOf(two) << 16)
    const inside = <u32>(((<u64>1) << length) - 1)
    if (((markupOf(one) | (markupOf(two) << 16)) & inside) != 0) return true
    const gaps = gapsOf(one) | (gapsOf(two) << 16)
    const run = (digits | gaps | pointsOf(one, two, digits)) & inside
    // Up to where the first run ends, and what is left behind it.
    const first = run & ~(run + 1)
    let rest = run & (run + 1)
    rest &= rest >> 1
    rest &= rest >> 2
    rest &= rest >> 4
    rest &= rest >> 1
    if (rest == 0 && <i32>popcnt(digits & first) < LEAST_DIGITS) return false
  }
  return holdsNumber(from, end)
}

function holdsNumber(from: usize, end: usize): bool {
  let digits = 0
  let gap = 0
  for (let i = from; i < end; i++) {
    const c = <u32>load<u8>(i)
    if (isDigit(c)) {
      digits = gap > WIDEST_GAP ? 1 : digits + 1
      if (digits == LEAST_DIGITS) return true
      gap = 0
    } else if (c == 0x20 || c == 0x2d || (c == 0x2e && isGroup(from, i))) gap++
    else if (c == 0x26 || c == 0x3c) return true
    else {
      digits = 0
      gap = 0
    }
  }
  return false
}

function isGroup(from: usize, end: usize): bool {
  if (end - from < 3 || !isDigit(load<u8>(end - 1))) return false
  return isDigit(load<u8>(end - 2)) && (load<u8>(end - 3) == 0x2e || isDigit(load<u8>(end - 3)))
}

/** Whether a number has so few digits that they may be shown. */
@inline
function isShort(from: usize, end: usize): bool {
  const size = <i32>(end - from)
  return size < 16 && <i32>popcnt(digitsOf(v128.load(from)) & ((1 << size) - 1)) <= MOST_SHOWN
}

/** Whether a number may be a long integer: nothing but zeros behind the point, or any exponent. */
function mayBeLong(from: usize, end: usize): bool {
  let digits = 0
  let isWhole = true
  let isBehind = false
  for (let i = from; i < end; i++) {
    const c = <u32>load<u8>(i)
    if (c == 0x2e) isBehind = true
    else if ((c | 0x20) == 0x65) return true
    else if (isBehind) isWhole = isWhole && c == 0x30
    else if (c != 0x2d) digits++
  }
  return isWhole && digits >= LEAST_WHOLE
}

/** Whether a string is worth a look: by its name, its prefix, or a number that it may hold. */
@inline
function isNotable(from: usize, end: usize, seen: i32, ask: u32): bool {
  if ((ask & ALWAYS) != 0) return true
  if ((ask & PREFIXED) != 0) {
    if ((seen & ESCAPED) != 0) return true
    if (end - from >= prefixLength && isSame(from, prefix, prefixLength)) return true
    if (seen != 0 && hasQuery(from, end)) return true
  }
  if (seen == 0 || (ask & UNSEARCHED) != 0) return false
  return (seen & (ESCAPED | WIDE)) != 0 || mayHoldNumber(from, end)
}

/** Whether a string begins as content within an address does: "data" in any case, or a space. */
@inline
function mayBeInline(piece: v128, ask: u32): bool {
  const begin = i32x4.extract_lane(piece, 0)
  if ((begin | 0x20202020) != 0x61746164 && (begin & 0xff) != 0x20) return false
  return (ask & (PREFIXED | UNSEARCHED)) != UNSEARCHED
}

/** Whether two texts are the same; behind both there are 16 bytes that can be read. */
@inline
function isSame(one: usize, other: usize, length: usize): bool {
  let n: usize = 0
  while (n + 16 <= length) {
    if (v128.any_true(v128.xor(v128.load(one + n), v128.load(other + n)))) return false
    n += 16
  }
  const rest = (1 << <i32>(length - n)) - 1
  const equal = i8x16.bitmask(i8x16.eq(v128.load(one + n), v128.load(other + n)))
  return (equal & rest) == rest
}

/**
 * Slots by the hash of a text: where it begins, its length, the entry that had it, and in which scan;
 * each slot for the last one that was met.
 */
const KEPT: u32 = 1024
let kept: usize = 0
let scans: u32 = 0
export function beginKept(at: usize): void {
  kept = at
}

/** The entry of an equal string that was asked about before, or its own. */
export function sameAs(input: usize, tape: usize, own: u32): u32 {
  const at = tape + <usize>own * ENTRY
  const from = input + load<u32>(at) + 1
  const length = load<u32>(at, 4) - load<u32>(at) - 2
  if (length > 128) return own
  let hash: u64
  if (length >= 8) hash = load<u64>(from) ^ (load<u64>(from + length - 8) * 0x9e3779b97f4a7c15)
  else hash = load<u64>(from) & (((<u64>1) << ((<u64>length) << 3)) - 1)
  hash = (hash + length) * 0xd6e8feb86659fd93
  const slot = kept + <usize>(hash >> 54) * 16
  const met = (<u64>length) | ((<u64>scans) << 32)
  if (load<u64>(slot) == met && isSame(from, load<u32>(slot, 8), length)) return load<u32>(slot, 12)
  store<u64>(slot, met)
  store<u64>(slot, (<u64>from) | ((<u64>own) << 32), 8)
  return own
}

/** What has failed, or 0. */
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

/** Adds the name of `length` bytes at `text`, which zeros follow. */
export function addName(text: usize, length: u32, id: i32): void {
  const slot = slotOf(text, length)
  const record = records
  store<u32>(record, load<u32>(slot))
  records = addRecord(record, text, length, id)
  store<u32>(slot, <u32>record)
}

/** Answers where the record ends. */
function addRecord(record: usize, text: usize, length: u32, id: i32): usize {
  store<u32>(record, length, 4)
  store<i32>(record, id, 8)
  memory.copy(record + 16, text, length)
  if (length >= 16) return record + 16 + ((<usize>length + 15) & ~15)
  store<u8>(record + 16 + length, 0x22)
  v128.store(record + 32, firstOf(i8x16.splat(-1), length + 1))
  return record + 48
}

/**
 * What name comes next is guessed: by the name around the object and the name before, the one that came
 * last time, of 15 bytes or less. Where nothing is known yet, it is the empty name, which has no number.
 */
const GUESSES: u32 = 2048
let guesses: usize = 0
let nameless: usize = 0
export function beginGuesses(at: usize): void {
  guesses = at
  nameless = at + GUESSES * 4
  addRecord(nameless, 0, 0, -1)
  for (let spot = at; spot < nameless; spot += 4) store<u32>(spot, <u32>nameless)
}

/** The slot for a name, 0 = none, within an object by another; `slots` is a power of two. */
@inline
function slotWithin(around: u32, name: u32, slots: u32): usize {
  return ((around * 89) ^ name) & (slots - 1)
}

/** Where the guess stands for what follows a name, 0 = none yet, within an object by another. */
@inline
function spotOf(around: u32, before: u32): usize {
  return guesses + slotWithin(around, before, GUESSES) * 4
}

/**
 * Objects and lists come again byte for byte: a coding, a category, what a search says of each entry. What
 * such a text comes to depends on nothing but its bytes and the name in front, and on the depth for its
 * limit: so it is not scanned again, its entries and notes are those of its twin. Of each name the last one
 * is kept, within an object by another: its first entry, in which scan, the level around it, and from where
 * to where its notes stand.
 */
const TWINS: u32 = 512
const TWIN: usize = 32
let twins: usize = 0
export function beginTwins(at: usize): void {
  twins = at
}

@inline
function twinOf(around: u32, name: u32): usize {
  return twins + slotWithin(around, name, TWINS) * TWIN
}

@inline
function keepTwin(twin: usize, open: usize, level: usize, nextValue: usize, nextObject: usize): void {
  store<u32>(twin, <u32>open)
  store<u32>(twin, scans, 4)
  store<u32>(twin, <u32>(level - LEVEL), 8)
  store<u64>(twin, load<u64>(level, 36), 12)
  store<u32>(twin, <u32>nextValue, 20)
  store<u32>(twin, <u32>nextObject, 24)
}

/** How long the twin is that stands at `at` once more, behind the same name and not deeper; 0 = none does. */
@inline
function twinAt(twin: usize, at: usize, word: i32, level: usize, input: usize): usize {
  if (load<u32>(twin, 4) != scans || load<u32>(twin, 8) < <u32>level) return 0
  const open = <usize>load<u32>(twin)
  if (load<i32>(open, 8) != word) return 0
  const start = load<u32>(open)
  const length = <usize>(load<u32>(open, 4) - start)
  return isSame(input + start, at, length) ? length : 0
}

/** Writes the entries from `from` to `to` once more, so many bytes and entries behind. */
@inline
function copyEntries(w: usize, from: usize, to: usize, bytes: u32, entries: u32): usize {
  const further = i32x4(<i32>bytes, <i32>bytes, 0, 0)
  for (; from < to; from += ENTRY, w += ENTRY) {
    v128.store(w, i32x4.add(v128.load(from), further))
    if ((load<i32>(from, 8) & KIND_MASK) <= ARRAY) store<u32>(w, load<u32>(from, 12) + entries, 12)
  }
  return w
}

/** Writes notes once more, of so many entries behind. */
@inline
function copyNotes(w: usize, from: usize, to: usize, entries: u32): usize {
  for (; from < to; from += 4, w += 4) store<u32>(w, load<u32>(from) + entries)
  return w
}

/** Whether a name of 15 bytes or less and its quote stand there. */
@inline
function isName(piece: v128, record: usize): bool {
  const differs = v128.xor(piece, v128.load(record, 16))
  return !v128.any_true(v128.and(differs, v128.load(record, 32)))
}

/** The first `length` of 16 bytes, and zeros behind them. */
@inline
function firstOf(piece: v128, length: u32): v128 {
  const places = i8x16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
  return v128.and(piece, i8x16.lt_u(places, i8x16.splat(<i8>length)))
}

/** The slot of a name of up to 15 bytes, zeros behind them. */
@inline
function shortSlotOf(name: v128): usize {
  const low = i64x2.extract_lane(name, 0)
  const high = i64x2.extract_lane(name, 1)
  const hash = (low ^ (high * 0x9e3779b97f4a7c15)) * 0xd6e8feb86659fd93
  return names + <usize>((<u64>hash) >> 51) * 4
}

/** The record of such a name, or of none. */
@inline
function findShort(piece: v128, length: u32): usize {
  let record = <usize>load<u32>(shortSlotOf(firstOf(piece, length)))
  while (record != 0 && (load<u32>(record, 4) != length || !isName(piece, record))) record = load<u32>(record)
  return record == 0 ? nameless : record
}

/** The slot of a name: of a longer one by its first eight bytes, its last eight, and its length. */
function slotOf(text: usize, length: u32): usize {
  if (length < 16) return shortSlotOf(firstOf(v128.load(text), length))
  const hash = load<u64>(text) ^ (load<u64>(text + length - 8) * 0x9e3779b97f4a7c15)
  return names + <usize>(((hash + length) * 0xd6e8feb86659fd93) >> 51) * 4
}

/** The record of a name, or of none. */
@inline
function find(text: usize, length: u32): usize {
  for (let record = <usize>load<u32>(slotOf(text, length)); record != 0; record = load<u32>(record)) {
    if (load<u32>(record, 4) == length && isSame(text, record + 16, length)) return record
  }
  return nameless
}

@inline
function isSpace(c: u32): bool {
  return c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09
}

@inline
function skipSpace(at: usize): usize {
  let i = at
  if (load<u8>(i) > 0x20) return i
  // A space, or a line with its indent.
  while (isSpace(load<u8>(i))) {
    const piece = v128.load(i)
    const space = i8x16.bitmask(
      v128.or(
        v128.or(i8x16.eq(piece, i8x16.splat(0x20)), i8x16.eq(piece, i8x16.splat(0x0a))),
        v128.or(i8x16.eq(piece, i8x16.splat(0x0d)), i8x16.eq(piece, i8x16.splat(0x09))),
      ),
    )
    i += ctz(~space)
  }
  return i
}

@inline
function isDigit(c: u32): bool {
  return c - 0x30 < 10
}

/**
 * From behind the opening quote to behind the closing one (RFC 8259 §7): the place in the lower half of
 * the answer, the flags in the upper one; below zero when it failed. `digits` were met before.
 */
function endOfString(from: usize, end: usize, digits: i32): i64 {
  let i = from
  let met = 0
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
    const digit = digitsOf(piece)
    if (stops == 0) {
      digits += popcnt(digit)
      if (wide != 0) met |= WIDE
      i += 16
      continue
    }
    const before = (stops & -stops) - 1
    digits += popcnt(digit & before)
    if ((wide & before) != 0) met |= WIDE
    i += ctz(stops)
    const c = load<u8>(i)
    if (c == 0x22) break
    if (c != 0x5c || i >= end) {
      fail(UNFINISHED_STRING, i)
      return -1
    }
    met |= ESCAPED
    i = escape(i)
    if (failure != 0) return -1
  }
  seen |= met
  const flags = met != 0 ? met | DIGITS : (<i32>(digits >= LEAST_DIGITS)) * DIGITS
  return (<i64>(i + 1)) | ((<i64>flags) << 32)
}

/** Which of 16 bytes are quotes. */
@inline
function quotesOf(piece: v128): u32 {
  return i8x16.bitmask(i8x16.eq(piece, i8x16.splat(0x22)))
}

/** Which of 16 bytes ask for a closer look: beyond ASCII, a control character, or a backslash. */
@inline
function oddOf(piece: v128): u32 {
  return i8x16.bitmask(
    v128.or(i8x16.eq(piece, i8x16.splat(0x5c)), i8x16.lt_s(piece, i8x16.splat(0x20))),
  )
}

/** Writes an entry. */
@inline
function write(w: usize, start: usize, end: usize, word: i32, last: u32): void {
  store<u64>(w, <u64>start | ((<u64>end) << 32))
  store<u64>(w, <u64>(<u32>word) | ((<u64>last) << 32), 8)
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

/** The record of an escaped name: decoded to `scratch`. No name is longer than 120 bytes or beyond ASCII. */
function findDecoded(from: usize, end: usize, scratch: usize): usize {
  let n: u32 = 0
  memory.fill(scratch, 0, 144)
  for (let i = from; i < end; n++) {
    if (n >= 120) return nameless
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
    if (c >= 0x80) return nameless
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
 * below zero and the place by `errorOffset`. `stack` has room for `maximumDepth` + 2 levels of 48 bytes:
 * where the open container is on the tape, whether it is an object, the number of the name around it
 * plus one, where the next name is guessed, one bit for each name met, one for each of the first 32 that
 * has a short number, and where its notes begin; behind them are 144 bytes more.
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
  const scratch = stack + (<usize>maximumDepth + 2) * LEVEL
  let w = tape
  let i = input
  let depth = 0
  let level = stack
  let inObject = false
  let name = 0
  let spot = guesses
  /** Entries on the tape. */
  let count: u32 = 0
  const values = tape + <usize>capacity * ENTRY
  const objects = values + <usize>capacity * 4
  let nextValue = values
  let nextObject = objects
  failure = 0
  seen = 0
  // What was kept by scans of before has another number; when there is none left it is cleared.
  if (++scans == 0) {
    memory.fill(kept, 0, KEPT * 16)
    for (let n: usize = 0; n < OUTLINES; n++) store<u64>(outlines + n * OUTLINE_SLOT, 0)
    memory.fill(twins, 0, <usize>TWINS * TWIN)
    scans = 1
  }

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
      // Most names are 15 letters or less, and follow one another as they did before.
      const piece = v128.load(i + 1)
      let record = <usize>load<u32>(spot)
      let flags = 0
      if (isName(piece, record)) i += <usize>load<u32>(record, 4) + 2
      else {
        const quotes = quotesOf(piece)
        const before = (quotes & -quotes) - 1
        if (quotes != 0 && (oddOf(piece) & before) == 0) {
          const size = ctz(quotes)
          i += size + 2
          record = findShort(piece, size)
          store<u32>(spot, <u32>record)
          // No name that is looked for has so many digits in it.
          if (record == nameless && <i32>popcnt(digitsOf(piece) & before) >= LEAST_DIGITS) flags = DIGITS
        } else {
          const string = endOfString(i + 1, end, 0)
          if (string < 0) return wrong(failure, offset, input)
          i = <usize>(string & 0xffffffff)
          flags = <i32>(string >> 32)
          record =
            (flags & ESCAPED) == 0
              ? find(start + 1, <u32>(i - start - 2))
              : findDecoded(start + 1, i - 1, scratch)
        }
      }
      const id = load<i32>(record, 8)
      write(w, start - input, i - input, KEY | ((id + 1) << NAME_SHIFT) | ((flags & WRITTEN) << FLAG_SHIFT), 0)
      if (flags != 0 && isNotable(start, i, flags, 0)) {
        store<u32>(nextValue, count)
        nextValue += 4
      }
      w += ENTRY
      count++
      name = id + 1
      spot = spotOf(load<i32>(level, 8), name)
      if (<u32>id < 128) {
        const slot = level + 16 + ((<usize>id >> 5) << 2)
        const bit = 1 << (id & 31)
        const had = load<i32>(slot)
        if ((had & bit) != 0) return wrong(TWICE, i, input)
        store<i32>(slot, had | bit)
      }
      if (load<u16>(i) == 0x223a) {
        i++
        c = 0x22
      } else {
        i = skipSpace(i)
        if (load<u8>(i) != 0x3a) return wrong(NO_COLON, i, input)
        i = skipSpace(i + 1)
        c = load<u8>(i)
      }
    }

    if (c == 0x22) {
      const from = i + 1
      const one = v128.load(from)
      const ask = <u32>load<u8>(asked + name)
      let quotes = quotesOf(one)
      let odd = oddOf(one)
      let before = (quotes & -quotes) - 1
      let flags: i32 = 0
      // Half of all values end within 16 bytes, and most of those are too short for a number.
      if (quotes != 0 && (odd & before) == 0) {
        const size = <i32>ctz(quotes)
        if (size >= LEAST_DIGITS)
          flags = (<i32>(<i32>popcnt(digitsOf(one) & before) >= LEAST_DIGITS)) * DIGITS
        i = from + size + 1
      } else {
        const two = v128.load(from, 16)
        quotes |= quotesOf(two) << 16
        odd |= oddOf(two) << 16
        const digits = digitsOf(one) | (digitsOf(two) << 16)
        before = (quotes & -quotes) - 1
        odd &= before
        if (quotes != 0 && odd == 0) {
          flags = (<i32>(<i32>popcnt(digits & before) >= LEAST_DIGITS)) * DIGITS
          i = from + ctz(quotes) + 1
        } else {
          const string =
            odd == 0
              ? endOfString(from + 32, end, popcnt(digits))
              : endOfString(from, end, 0)
          if (string < 0) return wrong(failure, offset, input)
          i = <usize>(string & 0xffffffff)
          flags = <i32>(string >> 32)
        }
      }
      write(w, from - 1 - input, i - input, STRING | (name << NAME_SHIFT) | ((flags & WRITTEN) << FLAG_SHIFT), 0)
      if (mayBeInline(one, ask) || ((flags | ask) != 0 && isNotable(from, i - 1, flags, ask))) {
        store<u32>(nextValue, count)
        nextValue += 4
      }
      w += ENTRY
      count++
    } else if (c == 0x7b || c == 0x5b) {
      if (depth >= maximumDepth) return wrong(TOO_DEEP, i, input)
      const word = (c == 0x7b ? OBJECT : ARRAY) | (name << NAME_SHIFT)
      const twin = twinOf(load<i32>(level, 8), name)
      const length = twinAt(twin, i, word, level, input)
      if (length != 0) {
        const open = <usize>load<u32>(twin)
        const behind = tape + <usize>load<u32>(open, 12) * ENTRY
        if (w + (behind - open) > full) return FULL
        const entries = <u32>((w - open) / ENTRY)
        nextValue = copyNotes(nextValue, load<u32>(twin, 12), load<u32>(twin, 20), entries)
        nextObject = copyNotes(nextObject, load<u32>(twin, 16), load<u32>(twin, 24), entries)
        count += <u32>((behind - open) / ENTRY)
        w = copyEntries(w, open, behind, <u32>(i - input) - load<u32>(open), entries)
        i += length
      } else {
        depth++
        level += LEVEL
        inObject = c == 0x7b
        store<u32>(level, <u32>w)
        store<i32>(level, inObject ? 1 : 0, 4)
        store<i32>(level, name, 8)
        store<u32>(level - LEVEL, <u32>spot, 12)
        store<u32>(level, <u32>nextValue, 36)
        store<u32>(level, <u32>nextObject, 40)
        spot = spotOf(name, 0)
        // Its end and the entry behind it are not known yet.
        write(w, i - input, 0, word, 0)
        w += ENTRY
        count++
        if (inObject) {
          v128.store(level + 16, i64x2.splat(0))
          store<i32>(level, 0, 32)
        }
        i = skipSpace(i + 1)
        if (<u32>load<u8>(i) != (inObject ? 0x7d : 0x5d)) continue
      }
    } else {
      const isNumber = c == 0x2d || isDigit(c)
      const start = i
      i = isNumber ? endOfNumber(i) : endOfLiteral(i)
      if (failure != 0) return wrong(failure, offset, input)
      write(w, start - input, i - input, (isNumber ? NUMBER : LITERAL) | (name << NAME_SHIFT), 0)
      if (isNumber && inObject && <u32>(name - 1) < 32 && isShort(start, i))
        store<i32>(level, load<i32>(level, 32) | (1 << (name - 1)), 32)
      // No literal is as long.
      if (i - start >= LEAST_BYTES && mayBeLong(start, i)) {
        store<u32>(nextValue, count)
        nextValue += 4
      }
      w += ENTRY
      count++
    }

    // After a value: a comma, or the end of one container or more.
    while (true) {
      // Mostly the next member.
      if (inObject && load<u16>(i) == 0x222c) {
        i++
        break
      }
      c = load<u8>(i)
      if (c <= 0x20) {
        i = skipSpace(i)
        c = load<u8>(i)
      }
      if (depth == 0) {
        if (i < end) return wrong(TRAILING, i, input)
        notedValues = (nextValue - values) / 4
        notedObjects = (nextObject - objects) / 4
        return <i32>count
      }
      i++
      if (c == 0x2c) {
        name = load<i32>(level, 8)
        break
      }
      if (c != (inObject ? 0x7d : 0x5d)) return wrong(MISPLACED, i - 1, input)
      const open = <usize>load<u32>(level)
      store<i32>(open, <i32>(i - input), 4)
      store<u32>(open, count, 12)
      // Which of the first 32 names the object has: said by its first key.
      if (inObject) {
        const had = load<i32>(level, 16)
        if (had != 0) store<i32>(open + ENTRY, had, 12)
        const told = had & ~load<i32>(level, 32)
        const isNamed = (<u32>load<u8>(asked + load<i32>(level, 8)) & NAMED) != 0
        if (((told & membersA) != 0 && (had & membersB) != 0) || (had & membersC) != 0 || isNamed) {
          store<u32>(nextObject, <u32>((open - tape) / ENTRY))
          nextObject += 4
        }
      }
      keepTwin(twinOf(load<i32>(level - LEVEL, 8), load<i32>(level, 8)), open, level, nextValue, nextObject)
      depth--
      level -= LEVEL
      inObject = load<i32>(level, 4) != 0
      spot = load<u32>(level, 12)
    }
  }
}

/**
 * Outlines: of an object is written down what stands at some places in it, eight bytes for each value (its
 * word, and the entry of an equal string before it) and each end of a container. Which places is data, as
 * in src/json/notice.ts: a byte for the column of each name, and rows of one byte for each column.
 */
const IGNORED: u32 = 0
const OUTLINED: u32 = 1
const TEXT: u32 = 2
const COLUMNS: u32 = 64
/** Of values in one outline; an object that has more is like none. */
const LONGEST_OUTLINE: usize = 64 * 8
/** Slots by the hash of an outline: its length, in which scan, its object, unused; then what is in it. */
const OUTLINES: usize = 64
const OUTLINE_SLOT: usize = 16 + LONGEST_OUTLINE
let outlines: usize = 0
let current: usize = 0
let columns: usize = 0
let steps: usize = 0
export function beginOutlines(slots: usize, columnsAt: usize, stepsAt: usize): void {
  outlines = slots
  current = slots + OUTLINES * OUTLINE_SLOT
  columns = columnsAt
  steps = stepsAt
}

/**
 * Compares the objects of the list at entry `list` of what was scanned. Writes to `pairs` two integers for
 * each that has the outline of one before it: its entry, and that one's. Answers how many there are.
 */
export function compare(input: usize, tape: usize, list: u32, pairs: usize): usize {
  let w = pairs
  const end = load<u32>(tape + <usize>list * ENTRY, 12)
  for (let entry = list + 1; entry < end; ) {
    const at = tape + <usize>entry * ENTRY
    if ((load<i32>(at, 8) & KIND_MASK) != OBJECT) entry = after(at, entry)
    else {
      const next = load<u32>(at, 12)
      const first = alike(outlineMembers(input, tape, entry, OUTLINED, current), entry)
      if (first != entry) {
        store<u32>(w, entry)
        store<u32>(w, first, 4)
        w += 8
      }
      entry = next
    }
  }
  return (w - pairs) / 8
}

@inline
function after(at: usize, entry: u32): u32 {
  return (load<i32>(at, 8) & KIND_MASK) <= ARRAY ? load<u32>(at, 12) : entry + 1
}

/** Of each member of an object what its state asks for; answers where the outline ends. */
function outlineMembers(input: usize, tape: usize, object: u32, state: u32, out: usize): usize {
  const row = steps + state * COLUMNS
  const end = load<u32>(tape + <usize>object * ENTRY, 12)
  for (let entry = object + 1; entry < end; ) {
    const name = load<u32>(tape + <usize>entry * ENTRY, 8) >> NAME_SHIFT
    const value = entry + 1
    const place = <u32>load<u8>(row + load<u8>(columns + name))
    const at = tape + <usize>value * ENTRY
    if (place != IGNORED) out = outlineValue(input, tape, value, place, out)
    entry = after(at, value)
  }
  return out
}

function outlineValue(input: usize, tape: usize, value: u32, place: u32, out: usize): usize {
  const at = tape + <usize>value * ENTRY
  const word = load<i32>(at, 8)
  const kind = word & KIND_MASK
  out = outline(out, word, kind == STRING && place == TEXT ? sameAs(input, tape, value) : 0)
  if (kind > ARRAY) return out
  if (kind == OBJECT) out = outlineMembers(input, tape, value, place, out)
  else {
    const end = load<u32>(at, 12)
    for (let entry = value + 1; entry < end; entry = after(tape + <usize>entry * ENTRY, entry)) {
      out = outlineValue(input, tape, entry, place, out)
    }
  }
  return outline(out, 0, 0)
}

/** Adds to an outline, as long as there is room. */
@inline
function outline(out: usize, word: i32, text: u32): usize {
  store<u64>(out, (<u64>(<u32>word)) | ((<u64>text) << 32))
  return out < current + LONGEST_OUTLINE ? out + 8 : out
}

/** The object before that has the outline that ends at `end`, or the object itself. */
function alike(end: usize, own: u32): u32 {
  const length = end - current
  if (length >= LONGEST_OUTLINE) return own
  let hash: u64 = length
  for (let at = current; at < end; at += 8) hash = (hash ^ load<u64>(at)) * 0xd6e8feb86659fd93
  const slot = outlines + <usize>(hash >> 58) * OUTLINE_SLOT
  const met = (<u64>length) | ((<u64>scans) << 32)
  if (load<u64>(slot) == met && isSame(current, slot + 16, length)) return load<u32>(slot, 8)
  store<u64>(slot, met)
  store<u32>(slot, own, 8)
  copy(slot + 16, current, length)
  return own
}

/**
 * Writes the text from `from` to `to` to `out`, with edits: four integers each (begin and end in the
 * text, begin and length of what takes its place at `texts`), by their begins. One inside another gives
 * way to the outer one. Answers the length of what was written.
 */
export function splice(
  input: usize,
  from: usize,
  to: usize,
  edits: usize,
  count: i32,
  texts: usize,
  out: usize,
): usize {
  let at = from
  let w = out
  for (let n = 0; n < count; n++, edits += 16) {
    const start = <usize>load<u32>(edits)
    if (start < at) continue
    w = copy(w, input + at, start - at)
    w = copy(w, texts + load<u32>(edits, 8), load<u32>(edits, 12))
    at = load<u32>(edits, 4)
  }
  return copy(w, input + at, to - at) - out
}

/** Copies pieces of 16 bytes, so that up to 15 bytes more are written than asked for. */
@inline
function copy(to: usize, from: usize, length: usize): usize {
  if (length > 1024) memory.copy(to, from, length)
  else for (let n: usize = 0; n < length; n += 16) v128.store(to + n, v128.load(from + n))
  return to + length
}

function wrong(code: i32, at: usize, input: usize): i32 {
  offset = at - input
  return code
}

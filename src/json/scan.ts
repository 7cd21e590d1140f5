import { isUtf8 } from 'node:buffer'

/**
 * One strict pass over the bytes of a JSON text (RFC 8259) into a tape of spans. Nothing is copied
 * and no string is made; whoever edits splices into the original bytes. Knows nothing of FHIR.
 */

/** A text that is not the JSON it should be. */
export class JsonError extends Error {
  override readonly name = 'JsonError'
  readonly offset: number

  constructor(message: string, offset: number) {
    super(message)
    this.offset = offset
  }
}

/** Kinds of tape entries; the containers first. */
export const KIND = { object: 1, array: 2, string: 3, number: 4, literal: 5, key: 6 } as const

/** Flags of a string. */
export const FLAG = {
  /** Holds an escape sequence: compare decoded. */
  escaped: 1,
  /** Holds bytes beyond ASCII. */
  wide: 2,
  /** Holds at least nine ASCII digits. */
  digits: 4,
} as const

/**
 * Integers per entry: start, end (bytes), next (containers: the entry after all that is in it), kind
 * with flags and name, and for objects which of the first 32 names they have.
 */
export const WIDTH = 5
export const KIND_MASK = 7
export const FLAG_SHIFT = 3
export const FLAG_MASK = 7
/** Above it stands the number of the nearest member name around the value, plus one. */
export const NAME_SHIFT = 6

/** Names worth knowing; their numbers stand on the tape. At most 128. */
export type Names = {
  readonly list: readonly string[]
  readonly find: (bytes: Buffer, start: number, end: number) => number
  readonly id: (name: string) => number
}

/** Compiles a list of member names into a lookup by length, two bytes, and then all of them. */
export function compileNames(list: readonly string[]): Names {
  if (list.length > 128) throw new RangeError('at most 128 names')
  const known = list.map((name) => Buffer.from(name))
  /** First candidate by hash and next candidate by id, plus one; 0 = none. */
  const first = new Uint8Array(1024)
  const next = new Uint8Array(129)
  known.forEach((bytes, id) => {
    const hash = hashOf(bytes, 0, bytes.length)
    next[id] = first[hash] as number
    first[hash] = id + 1
  })
  const ids = new Map(list.map((name, id) => [name, id]))
  return {
    list,
    id: (name) => ids.get(name) ?? -1,
    find(bytes, start, end) {
      const length = end - start
      if (length === 0) return ids.get('') ?? -1
      for (let one = first[hashOf(bytes, start, end)] as number; one > 0;) {
        const candidate = known[one - 1] as Buffer
        if (candidate.length === length) {
          let n = 0
          while (n < length && candidate[n] === bytes[start + n]) n++
          if (n === length) return one - 1
        }
        one = next[one - 1] as number
      }
      return -1
    },
  }
}

function hashOf(bytes: Buffer, start: number, end: number): number {
  const length = end - start
  const middle = bytes[start + (length >> 1)] as number
  return (
    ((bytes[start] as number) * 5 + middle * 11 + (bytes[end - 1] as number) * 3 + length * 67) &
    1023
  )
}

/** The result of a scan: `length` entries of WIDTH integers each; entry 0 is the root value. */
export type Tape = { readonly data: Int32Array; readonly length: number; readonly bytes: Buffer }

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COMMA = 0x2c
const COLON = 0x3a
/** What a byte means inside a string: nothing, one more digit, or a reason to look. */
const PLAIN = 0
const DIGIT = 1
const HIGH = 2
const STOP = 3
const CLASS = new Uint8Array(256).fill(PLAIN)
CLASS.fill(STOP, 0, 0x20)
CLASS.fill(DIGIT, 0x30, 0x3a)
CLASS.fill(HIGH, 0x80)
CLASS[QUOTE] = STOP
CLASS[BACKSLASH] = STOP

/**
 * Memory for tapes, used again by each scan it is given to: a tape is good until the next one. Making
 * and clearing new memory costs a fifth of a scan.
 */
export class Room {
  #data = new Int32Array(0)

  take(length: number): Int32Array<ArrayBuffer> {
    if (this.#data.length >= length + 2 * WIDTH) return this.#data
    const data = new Int32Array(length + 64 * WIDTH)
    this.keep(data)
    return data
  }

  keep(data: Int32Array<ArrayBuffer>): void {
    if (data.length <= LARGEST_KEPT) this.#data = data
  }
}
const LARGEST_KEPT = 2_000_000

/**
 * Scans a whole text. Throws JsonError on anything that is not strict JSON: invalid UTF-8, lone
 * surrogates, a named member twice in one object, depth over `maximumDepth`, truncation, trailing bytes.
 */
export function scan(
  bytes: Buffer,
  names: Names,
  maximumDepth: number,
  room: Room = new Room(),
): Tape {
  if (!isUtf8(bytes)) throw new JsonError('not UTF-8', 0)
  // One function with plain locals: shared between closures they would live in memory, three times slower.
  const { length } = bytes
  let data = room.take((length >> 3) * WIDTH)
  let full = data.length - 2 * WIDTH
  let w = 0
  let i = 0
  let depth = 0
  /** Where the open containers begin on the tape, whether each is an object, the name around it. */
  const open = new Int32Array(maximumDepth + 2)
  const isObject = new Uint8Array(maximumDepth + 2)
  const nameAt = new Int32Array(maximumDepth + 2)
  const seen = new Int32Array((maximumDepth + 2) * 4)
  /** The number of the name around the value to come, plus one; 0 = none. */
  let name = 0
  let c = 0

  for (;;) {
    // A value begins here, unless a name has to come first.
    c = bytes[i] as number
    while (c <= 0x20) {
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) throw misplaced(i)
      c = bytes[++i] as number
    }
    if (w > full) {
      const larger = new Int32Array(data.length * 2)
      larger.set(data)
      data = larger
      full = data.length - 2 * WIDTH
      room.keep(data)
    }

    if (depth > 0 && isObject[depth] === 1) {
      if (c !== QUOTE) throw new JsonError('a member name is missing', i)
      const start = i++
      let digits = 0
      let k = CLASS[bytes[i] as number] as number
      while (k <= DIGIT) {
        digits += k
        k = CLASS[bytes[++i] as number] as number
      }
      let id: number
      if (bytes[i] === QUOTE) {
        id = names.find(bytes, start + 1, i)
        i++
        const flags = digits >= 9 ? FLAG.digits : 0
        data[w + 3] = KIND.key | ((id + 1) << NAME_SHIFT) | (flags << FLAG_SHIFT)
      } else {
        const { end, flags } = endOfString(bytes, i)
        i = end
        id = names.id(JSON.parse(bytes.toString('utf8', start, i)) as string)
        data[w + 3] = KIND.key | ((id + 1) << NAME_SHIFT) | ((flags | FLAG.digits) << FLAG_SHIFT)
      }
      if (id >= 0) {
        const slot = depth * 4 + (id >> 5)
        const bit = 1 << (id & 31)
        const had = seen[slot] as number
        if ((had & bit) !== 0) throw new JsonError('a member is there twice', i)
        seen[slot] = had | bit
      }
      data[w] = start
      data[w + 1] = i
      w += WIDTH
      name = id + 1
      c = bytes[i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
      if (c !== COLON) throw new JsonError('a colon is missing', i)
      c = bytes[++i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
    }

    if (c === QUOTE) {
      data[w] = i++
      let digits = 0
      let k = CLASS[bytes[i] as number] as number
      while (k <= DIGIT) {
        digits += k
        k = CLASS[bytes[++i] as number] as number
      }
      let flags = digits >= 9 ? FLAG.digits : 0
      if (bytes[i] === QUOTE) i++
      else {
        const rest = endOfString(bytes, i)
        i = rest.end
        flags = rest.flags | FLAG.digits
      }
      data[w + 1] = i
      data[w + 3] = KIND.string | (name << NAME_SHIFT) | (flags << FLAG_SHIFT)
      w += WIDTH
    } else if (c === 0x7b || c === 0x5b) {
      if (depth >= maximumDepth) throw new JsonError('too deep', i)
      depth++
      open[depth] = w
      nameAt[depth] = name
      data[w] = i++
      const object = c === 0x7b ? 1 : 0
      isObject[depth] = object
      data[w + 3] = (object === 1 ? KIND.object : KIND.array) | (name << NAME_SHIFT)
      w += WIDTH
      if (object === 1) {
        const slot = depth * 4
        seen[slot] = 0
        seen[slot + 1] = 0
        seen[slot + 2] = 0
        seen[slot + 3] = 0
      }
      c = bytes[i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
      if (c !== (object === 1 ? 0x7d : 0x5d)) continue
    } else {
      data[w] = i
      const isNumber = c === 0x2d || (c >= 0x30 && c <= 0x39)
      i = isNumber ? endOfNumber(bytes, i) : endOfLiteral(bytes, i)
      data[w + 1] = i
      data[w + 3] = (isNumber ? KIND.number : KIND.literal) | (name << NAME_SHIFT)
      w += WIDTH
    }

    // After a value: a comma, or the end of one container or more.
    for (;;) {
      c = bytes[i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
      if (depth === 0) {
        if (i < length) throw new JsonError('more after the end', i)
        return { data, length: w / WIDTH, bytes }
      }
      i++
      if (c === COMMA) {
        name = nameAt[depth] as number
        break
      }
      if (c !== (isObject[depth] === 1 ? 0x7d : 0x5d)) throw misplaced(i - 1)
      const at = open[depth] as number
      data[at + 1] = i
      data[at + 2] = w / WIDTH
      // Which of the first 32 names the object has.
      if (isObject[depth] === 1) data[at + 4] = seen[depth * 4] as number
      depth--
    }
  }
}

function misplaced(at: number): JsonError {
  return new JsonError('a comma or an end is missing', at)
}

/** The rest of a string that holds more than plain ASCII. */
function endOfString(bytes: Buffer, from: number): { end: number; flags: number } {
  let flags = 0
  let i = from
  for (;;) {
    const k = CLASS[bytes[i] as number]
    if (k === STOP || k === undefined) {
      const stop = bytes[i]
      if (stop === QUOTE) return { end: i + 1, flags }
      if (stop !== BACKSLASH) throw new JsonError('an unfinished string', i)
      flags |= FLAG.escaped
      i = escape(bytes, i)
    } else {
      if (k === HIGH) flags |= FLAG.wide
      i++
    }
  }
}

const isDigit = (c: number | undefined): boolean => c !== undefined && c >= 0x30 && c <= 0x39

/** RFC 8259 §6: no leading zero, no bare point, an exponent with digits. */
function endOfNumber(bytes: Buffer, from: number): number {
  let i = bytes[from] === 0x2d ? from + 1 : from
  const digits = (): void => {
    if (!isDigit(bytes[i])) throw new JsonError('a malformed number', i)
    while (isDigit(bytes[i])) i++
  }
  if (bytes[i] === 0x30) i++
  else digits()
  if (bytes[i] === 0x2e) {
    i++
    digits()
  }
  if (bytes[i] === 0x65 || bytes[i] === 0x45) {
    i++
    if (bytes[i] === 0x2b || bytes[i] === 0x2d) i++
    digits()
  }
  return i
}

function endOfLiteral(bytes: Buffer, i: number): number {
  const text = bytes[i] === 0x74 ? 'true' : bytes[i] === 0x6e ? 'null' : 'false'
  if (bytes.toString('latin1', i, i + text.length) !== text)
    throw new JsonError('a value is missing', i)
  return i + text.length
}

/** Checks one escape at `i` and answers where it ends; a surrogate must come as a pair. */
function escape(bytes: Buffer, i: number): number {
  const c = bytes[i + 1]
  if (c !== 0x75) {
    if (c !== undefined && '"\\/bfnrt'.includes(String.fromCharCode(c))) return i + 2
    throw new JsonError('an unknown escape', i)
  }
  const unit = hex(bytes, i + 2)
  if (unit < 0xd800 || unit > 0xdfff) return i + 6
  if (unit <= 0xdbff && bytes[i + 6] === BACKSLASH && bytes[i + 7] === 0x75) {
    const low = hex(bytes, i + 8)
    if (low >= 0xdc00 && low <= 0xdfff) return i + 12
  }
  throw new JsonError('a lone surrogate', i)
}

function hex(bytes: Buffer, at: number): number {
  const text = bytes.toString('latin1', at, at + 4)
  if (!/^[0-9a-fA-F]{4}$/.test(text)) throw new JsonError('a malformed escape', at)
  return Number.parseInt(text, 16)
}

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

/** Kinds of tape entries. */
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

/** Integers per entry: kind, start, end (bytes), next (entry after this value), name, flags. */
export const WIDTH = 6

/** Names worth knowing; their numbers stand on the tape. At most 128. */
export type Names = {
  readonly list: readonly string[]
  readonly find: (bytes: Buffer, start: number, end: number) => number
  readonly id: (name: string) => number
}

/** Compiles a list of member names into a lookup by length and bytes. */
export function compileNames(list: readonly string[]): Names {
  if (list.length > 128) throw new RangeError('at most 128 names')
  const buckets: { bytes: Uint8Array; id: number }[][] = []
  list.forEach((name, id) => {
    const bytes = Buffer.from(name)
    ;(buckets[bytes.length] ??= []).push({ bytes, id })
  })
  const ids = new Map(list.map((name, id) => [name, id]))
  return {
    list,
    id: (name) => ids.get(name) ?? -1,
    find(bytes, start, end) {
      const bucket = buckets[end - start]
      if (bucket === undefined) return -1
      next: for (const candidate of bucket) {
        const known = candidate.bytes
        for (let i = 0; i < known.length; i++) if (known[i] !== bytes[start + i]) continue next
        return candidate.id
      }
      return -1
    },
  }
}

/** The result of a scan: `length` entries of WIDTH integers each; entry 0 is the root value. */
export type Tape = { readonly data: Int32Array; readonly length: number; readonly bytes: Buffer }

const QUOTE = 0x22
const BACKSLASH = 0x5c
const [PLAIN, DIGIT, HIGH, STOP] = [0, 1, 2, 3]
/** What a byte means inside a string. */
const CLASS = new Uint8Array(256).fill(PLAIN)
CLASS.fill(STOP, 0, 0x20)
CLASS.fill(DIGIT, 0x30, 0x3a)
CLASS.fill(HIGH, 0x80)
CLASS[QUOTE] = STOP
CLASS[BACKSLASH] = STOP

const LITERALS = ['true', 'false', 'null'].map((text) => Buffer.from(text))

/**
 * Scans a whole text. Throws JsonError on anything that is not strict JSON: invalid UTF-8, lone
 * surrogates, a named member twice in one object, depth over `maximumDepth`, truncation, trailing bytes.
 */
export function scan(bytes: Buffer, names: Names, maximumDepth: number): Tape {
  if (!isUtf8(bytes)) throw new JsonError('not UTF-8', 0)
  const { length } = bytes
  let data = new Int32Array(Math.max(256, (length >> 3) * WIDTH))
  let count = 0
  let i = 0
  let depth = 0
  const open = new Int32Array(maximumDepth + 2)
  const nameAt = new Int32Array(maximumDepth + 2).fill(-1)
  const isObject = new Uint8Array(maximumDepth + 2)
  const seen = new Int32Array((maximumDepth + 2) * 4)

  const fail = (message: string): never => {
    throw new JsonError(message, i)
  }
  const skip = (): void => {
    while (i < length) {
      const c = bytes[i]
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return
      i++
    }
  }
  const emit = (kind: number, start: number, end: number, name: number, flags: number): void => {
    const at = count * WIDTH
    if (at + WIDTH > data.length) {
      const larger = new Int32Array(data.length * 2)
      larger.set(data)
      data = larger
    }
    data[at] = kind
    data[at + 1] = start
    data[at + 2] = end
    data[at + 3] = count + 1
    data[at + 4] = name
    data[at + 5] = flags
    count++
  }
  /** `i` is after the opening quote; leaves it after the closing one; answers the flags. */
  const string = (): number => {
    let flags = 0
    let digits = 0
    for (;;) {
      const c = CLASS[bytes[i] ?? 0] ?? STOP
      if (c === PLAIN) i++
      else if (c === DIGIT) {
        digits++
        i++
      } else if (c === HIGH) {
        flags |= FLAG.wide
        i++
      } else if (i >= length) fail('an unfinished string')
      else if (bytes[i] === QUOTE) {
        i++
        return digits >= 9 ? flags | FLAG.digits : flags
      } else if (bytes[i] === BACKSLASH) {
        flags |= FLAG.escaped
        i = escape(bytes, i)
      } else fail('a control character in a string')
    }
  }
  const number = (start: number): void => {
    i = start
    if (bytes[i] === 0x2d) i++
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
  }
  const digits = (): void => {
    const from = i
    while (i < length && (bytes[i] ?? 0) >= 0x30 && (bytes[i] ?? 0) <= 0x39) i++
    if (i === from) fail('a malformed number')
  }
  const key = (): void => {
    if (bytes[i] !== QUOTE) fail('a member name is missing')
    const start = i++
    const flags = string()
    const id =
      (flags & FLAG.escaped) === 0
        ? names.find(bytes, start + 1, i - 1)
        : names.id(JSON.parse(bytes.toString('utf8', start, i)) as string)
    if (id >= 0) {
      const slot = depth * 4 + (id >> 5)
      const bit = 1 << (id & 31)
      if (((seen[slot] ?? 0) & bit) !== 0) fail('a member is there twice')
      seen[slot] = (seen[slot] ?? 0) | bit
    }
    emit(KIND.key, start, i, id, flags)
    nameAt[depth] = id
    skip()
    if (bytes[i] !== 0x3a) fail('a colon is missing')
    i++
    skip()
  }

  skip()
  for (;;) {
    // A value begins at i.
    const start = i
    const c = bytes[i]
    const name = nameAt[depth] ?? -1
    if (c === QUOTE) {
      i++
      const flags = string()
      emit(KIND.string, start, i, name, flags)
    } else if (c === 0x7b || c === 0x5b) {
      if (depth >= maximumDepth) fail('too deep')
      emit(c === 0x7b ? KIND.object : KIND.array, start, 0, name, 0)
      depth++
      open[depth] = count - 1
      isObject[depth] = c === 0x7b ? 1 : 0
      nameAt[depth] = name
      seen.fill(0, depth * 4, depth * 4 + 4)
      i++
      skip()
      if (bytes[i] !== (c === 0x7b ? 0x7d : 0x5d)) {
        if (c === 0x7b) key()
        continue
      }
    } else if (c === 0x2d || (c !== undefined && c >= 0x30 && c <= 0x39)) {
      number(start)
      emit(KIND.number, start, i, name, 0)
    } else {
      const literal = LITERALS.find(
        (text) => bytes.compare(text, 0, text.length, i, Math.min(i + text.length, length)) === 0,
      )
      if (literal === undefined) fail('a value is missing')
      i += literal?.length ?? 0
      emit(KIND.literal, start, i, name, 0)
    }
    // A value has ended at i, or an empty container is about to.
    for (;;) {
      skip()
      if (depth === 0) {
        if (i !== length) fail('more after the end')
        return { data, length: count, bytes }
      }
      const end = bytes[i]
      if (end === 0x2c) {
        const [previous] = [data[(count - 1) * WIDTH]]
        if (previous === KIND.key || open[depth] === count - 1) fail('a value is missing')
        i++
        skip()
        if (isObject[depth] === 1) key()
        break
      }
      if (end !== (isObject[depth] === 1 ? 0x7d : 0x5d)) fail('a comma or an end is missing')
      i++
      const at = (open[depth] ?? 0) * WIDTH
      data[at + 2] = i
      data[at + 3] = count
      // Which of the first 32 names the object has.
      data[at + 5] = isObject[depth] === 1 ? (seen[depth * 4] ?? 0) : 0
      depth--
    }
  }
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

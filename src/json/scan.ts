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
const COMMA = 0x2c
const COLON = 0x3a
const PLAIN = 0
const DIGIT = 1
const HIGH = 2
const STOP = 3
/** What a byte means inside a string. */
const CLASS = new Uint8Array(256).fill(PLAIN)
CLASS.fill(STOP, 0, 0x20)
CLASS.fill(DIGIT, 0x30, 0x3a)
CLASS.fill(HIGH, 0x80)
CLASS[QUOTE] = STOP
CLASS[BACKSLASH] = STOP

/**
 * Scans a whole text. Throws JsonError on anything that is not strict JSON: invalid UTF-8, lone
 * surrogates, a named member twice in one object, depth over `maximumDepth`, truncation, trailing bytes.
 */
export function scan(bytes: Buffer, names: Names, maximumDepth: number): Tape {
  if (!isUtf8(bytes)) throw new JsonError('not UTF-8', 0)
  // One function with plain locals: shared between closures they would live in memory, three times slower.
  const { length } = bytes
  let data = new Int32Array(Math.max(64, length >> 4) * WIDTH)
  let full = data.length - 2 * WIDTH
  let w = 0
  let i = 0
  let depth = 0
  /** Where the open containers begin on the tape, whether each is an object, the name around it. */
  const open = new Int32Array(maximumDepth + 2)
  const isObject = new Uint8Array(maximumDepth + 2)
  const nameAt = new Int32Array(maximumDepth + 2).fill(-1)
  const seen = new Int32Array((maximumDepth + 2) * 4)
  /** What may come next: a value, a member name, or what follows a value. */
  let expect: 'value' | 'name' | 'next' = 'value'
  let mayClose = false

  for (;;) {
    let c = bytes[i] as number
    while (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09) c = bytes[++i] as number
    if (expect === 'next') {
      if (depth === 0) {
        if (i < length) throw new JsonError('more after the end', i)
        return { data, length: w / WIDTH, bytes }
      }
      if (c === COMMA) {
        i++
        expect = isObject[depth] === 1 ? 'name' : 'value'
        mayClose = false
        continue
      }
      mayClose = true
    }
    if (mayClose && c === (isObject[depth] === 1 ? 0x7d : 0x5d)) {
      const at = open[depth] as number
      data[at + 2] = ++i
      data[at + 3] = w / WIDTH
      // Which of the first 32 names the object has.
      data[at + 5] = isObject[depth] === 1 ? (seen[depth * 4] as number) : 0
      depth--
      expect = 'next'
      continue
    }
    if (expect === 'next') throw new JsonError('a comma or an end is missing', i)
    mayClose = false
    if (w > full) {
      const larger = new Int32Array(data.length * 2)
      larger.set(data)
      data = larger
      full = data.length - 2 * WIDTH
    }
    const start = i
    data[w + 1] = start
    data[w + 3] = w / WIDTH + 1
    data[w + 4] = nameAt[depth] as number
    if (c === QUOTE) {
      let flags = 0
      let digits = 0
      i++
      for (;;) {
        let k = CLASS[bytes[i] as number]
        while (k === PLAIN) k = CLASS[bytes[++i] as number]
        if (k === DIGIT) {
          digits++
          i++
        } else if (k === HIGH) {
          flags |= FLAG.wide
          i++
        } else {
          const stop = bytes[i]
          if (stop === QUOTE) break
          if (stop !== BACKSLASH) throw new JsonError('an unfinished string', i)
          flags |= FLAG.escaped
          i = escape(bytes, i)
        }
      }
      i++
      if (digits >= 9) flags |= FLAG.digits
      data[w + 2] = i
      data[w + 5] = flags
      if (expect === 'value') {
        data[w] = KIND.string
        w += WIDTH
        expect = 'next'
        continue
      }
      const id =
        (flags & FLAG.escaped) === 0
          ? names.find(bytes, start + 1, i - 1)
          : names.id(JSON.parse(bytes.toString('utf8', start, i)) as string)
      if (id >= 0) {
        const slot = depth * 4 + (id >> 5)
        const bit = 1 << (id & 31)
        if (((seen[slot] as number) & bit) !== 0) throw new JsonError('a member is there twice', i)
        seen[slot] = (seen[slot] as number) | bit
      }
      data[w] = KIND.key
      data[w + 4] = id
      w += WIDTH
      nameAt[depth] = id
      c = bytes[i] as number
      while (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09) c = bytes[++i] as number
      if (c !== COLON) throw new JsonError('a colon is missing', i)
      i++
      expect = 'value'
      continue
    }
    if (expect === 'name') throw new JsonError('a member name is missing', i)
    if (c === 0x7b || c === 0x5b) {
      if (depth >= maximumDepth) throw new JsonError('too deep', i)
      const around = nameAt[depth] as number
      const object = c === 0x7b ? 1 : 0
      data[w] = object === 1 ? KIND.object : KIND.array
      depth++
      open[depth] = w
      isObject[depth] = object
      nameAt[depth] = around
      const slot = depth * 4
      seen[slot] = 0
      seen[slot + 1] = 0
      seen[slot + 2] = 0
      seen[slot + 3] = 0
      w += WIDTH
      i++
      expect = object === 1 ? 'name' : 'value'
      mayClose = true
      continue
    }
    data[w + 5] = 0
    if (c === 0x2d || (c >= 0x30 && c <= 0x39)) {
      i = endOfNumber(bytes, i)
      data[w] = KIND.number
    } else {
      i = endOfLiteral(bytes, i)
      data[w] = KIND.literal
    }
    data[w + 2] = i
    w += WIDTH
    expect = 'next'
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

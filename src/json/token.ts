/** The tokens of JSON (RFC 8259 §6, §7): where each ends, and what is none. */

/** A text that is not the JSON it should be. */
export class JsonError extends Error {
  override readonly name = 'JsonError'
  readonly offset: number

  constructor(message: string, offset: number) {
    super(message)
    this.offset = offset
  }
}

/** Flags of a string. */
export const FLAG = {
  /** Holds an escape sequence: compare decoded. */
  escaped: 1,
  /** Holds bytes beyond ASCII. */
  wide: 2,
} as const

const QUOTE = 0x22
const BACKSLASH = 0x5c
/** What a byte means inside a string: nothing, or a reason to look. */
export const PLAIN = 0
const HIGH = 1
const STOP = 2
export const CLASS = new Uint8Array(256).fill(PLAIN)
CLASS.fill(STOP, 0, 0x20)
CLASS.fill(HIGH, 0x80)
CLASS[QUOTE] = STOP
CLASS[BACKSLASH] = STOP

/** The rest of a string that holds more than plain ASCII. */
export function endOfString(bytes: Buffer, from: number): { end: number; flags: number } {
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
export function endOfNumber(bytes: Buffer, from: number): number {
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

export function endOfLiteral(bytes: Buffer, i: number): number {
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

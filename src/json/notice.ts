/**
 * What a scan notes down besides the tape, so that whoever reads it need not pass over everything to
 * find the little that matters. A scan knows nothing of what the notes are for.
 */

/** What is asked of strings by the name of the member around them: bits. */
export const ASK = {
  /** Noted whatever is in it. */
  always: 1,
  /** Noted when it begins with the prefix, or has an escape. */
  prefixed: 2,
  /** Not noted for a number or content in it; with `prefixed`, unless it is content, or the number in a query. */
  unsearched: 4,
  /** An object by this name is noted whatever is in it. */
  object: 8,
} as const

/** A number worth noting has so many digits, with so many signs between two of them at most. */
export const LEAST_DIGITS = 9
export const WIDEST_GAP = 3

export type Notice = {
  /** ASK bits by name plus one; names beyond its end are asked nothing. */
  readonly asked: Uint8Array
  /** ASCII. */
  readonly prefix: string
  /**
   * Bits of membersOf(object): noted when it has one of the first, unless that is a short number, and one of
   * the second, or one of the third.
   */
  readonly members: readonly [first: number, second: number, third: number]
  /** What is looked at when objects are compared: `compare` of a tape. */
  readonly outline: Outline
}

/**
 * A number is written in so many bytes at least that is noted, and has so many digits before its point: of
 * nine digits the first two may be zeros, which no number is written with.
 */
export const LEAST_BYTES = 7
export const LEAST_WHOLE = 7

/** A short number has so many digits at most: of a longer one as many may be shown. */
export const MOST_SHOWN = 4

/** Whether a number is short. */
export function isShort(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start >= 16) return false
  let digits = 0
  for (let i = start; i < end; i++) {
    const c = bytes[i] as number
    if (c >= 0x30 && c <= 0x39) digits++
  }
  return digits <= MOST_SHOWN
}

/** Nothing is asked: noted are strings with escapes, beyond ASCII, with a number or content in them, and long numbers. */
export const NOTHING: Notice = {
  asked: new Uint8Array(0),
  prefix: '',
  members: [0, 0, 0],
  outline: { columns: new Uint8Array(0), steps: new Uint8Array(0) },
}

/**
 * What a value is to the outline of an object. Of each value the kind counts; the elements of a list are
 * what the list is, and what the members of an object are is said by its row: more of them have numbers.
 */
export const PLACE = {
  /** Not even the kind counts, nor anything in it. */
  ignored: 0,
  /** The object itself. */
  outlined: 1,
  /** If it is a string, what it says counts as well. */
  text: 2,
} as const
/** One for each name there can be in an outline, and one for all others. */
export const COLUMNS = 64

/** What is compared of objects. */
export type Outline = {
  /** By name plus one: its column. */
  readonly columns: Uint8Array
  /** Rows of COLUMNS: what a member is, by what the object is and the column of the name. */
  readonly steps: Uint8Array
}

/** Whether there are as many digits in ASCII bytes at all. */
export function hasDigits(bytes: Uint8Array, start: number, end: number): boolean {
  let digits = 0
  for (let i = start; i < end; i++) {
    const c = bytes[i] as number
    if (c >= 0x30 && c <= 0x39) digits++
  }
  return digits >= LEAST_DIGITS
}

/**
 * Whether ASCII bytes may hold such a number: digits with spaces and dashes between, and with dots behind three
 * digits or behind two and a dot. In markup anything may stand between them.
 */
export function mayHoldNumber(bytes: Uint8Array, start: number, end: number): boolean {
  let digits = 0
  let gap = 0
  for (let i = start; i < end; i++) {
    const c = bytes[i] as number
    if (c >= 0x30 && c <= 0x39) {
      digits = gap > WIDEST_GAP ? 1 : digits + 1
      if (digits === LEAST_DIGITS) return true
      gap = 0
    } else if (c === 0x20 || c === 0x2d || (c === 0x2e && isGroup(bytes, start, i))) gap++
    else if (c === 0x26 || c === 0x3c) return true
    else {
      digits = 0
      gap = 0
    }
  }
  return false
}

/** Whether digits end here as before a dot of an SSN or card, not of a second, a version or most OIDs. */
function isGroup(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < 3 || !isDigit(bytes[end - 1]) || !isDigit(bytes[end - 2])) return false
  return bytes[end - 3] === 0x2e || isDigit(bytes[end - 3])
}
const isDigit = (c: number | undefined): boolean => c !== undefined && c >= 0x30 && c <= 0x39

/**
 * Whether a string may be content within an address (RFC 2397), by its begin: `data`, or a space, which is
 * left out before an address (URL Standard §4.4). Where no address is and nothing is searched, none is.
 */
export function mayBeInline(bytes: Uint8Array, start: number, asked: number): boolean {
  if ((asked & (ASK.prefixed | ASK.unsearched)) === ASK.unsearched) return false
  if (bytes[start] === 0x20) return true
  for (let n = 0; n < DATA.length; n++)
    if (((bytes[start + n] as number) | 0x20) !== DATA[n]) return false
  return true
}
const DATA = Uint8Array.from([0x64, 0x61, 0x74, 0x61])

/** Whether a number may be a long integer: nothing but zeros behind the point, or any exponent. */
export function mayBeLong(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start < LEAST_BYTES) return false
  let digits = 0
  let isWhole = true
  let isBehind = false
  for (let i = start; i < end; i++) {
    const c = bytes[i] as number
    if (c === 0x2e) isBehind = true
    else if ((c | 0x20) === 0x65) return true
    else if (isBehind) isWhole &&= c === 0x30
    else if (c !== 0x2d) digits++
  }
  return isWhole && digits >= LEAST_WHOLE
}

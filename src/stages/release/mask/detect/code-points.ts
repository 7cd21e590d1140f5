/** What is found out of a code point, once for each: a number below 0xffff. */
export class CodePoints {
  readonly #table = new Uint16Array(0x10000).fill(UNKNOWN)
  readonly #beyond = new Map<number, number>()
  readonly #find: (code: number) => number

  constructor(find: (code: number) => number) {
    this.#find = find
  }

  of(code: number): number {
    const known = code < 0x10000 ? this.#table[code] : this.#beyond.get(code)
    return known === undefined || known === UNKNOWN ? this.#learn(code) : known
  }

  #learn(code: number): number {
    const found = this.#find(code)
    if (code < 0x10000) this.#table[code] = found
    else this.#beyond.set(code, found)
    return found
  }
}
const UNKNOWN = 0xffff

/** Soft hyphen, zero-width signs, word joiner. */
export const UNSEEN_SIGN = /[\u00ad\u200b-\u200f\u2060\ufeff]/
export const DASH_SIGN = /[\p{Pd}\u2212]/u

/** A decimal digit of any script as that of ASCII; undefined = it is none. */
export function asciiDigit(code: number): number | undefined {
  if (!isDigit(code)) return undefined
  if (code >= 0x1d7ce && code <= 0x1d7ff) return 0x30 + ((code - 0x1d7ce) % 10)
  // The decimal digits of a script are ten in a row that begins where no digit is before (Unicode §4.6).
  let zero = code
  while (code - zero < 9 && isDigit(zero - 1)) zero--
  return 0x30 + code - zero
}
const isDigit = (code: number): boolean => /\p{Nd}/u.test(String.fromCodePoint(code))

/** The text of the first so many UTF-16 units. */
export const textOfUnits = (units: Uint16Array<ArrayBuffer>, length: number): string =>
  Buffer.from(units.buffer, 0, length * 2).toString('utf16le')

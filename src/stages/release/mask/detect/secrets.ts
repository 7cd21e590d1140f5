import { WIDEST_GAP } from '../../../../json/notice.ts'
import { doubled } from './check-digits.ts'
import { asciiDigit, DASH_SIGN, UNSEEN_SIGN } from './code-points.ts'

/** Finds SSNs and payment cards in decoded text (requirements §9.2). Linear in the text's length. */

/** A secret in a text; `start` and `end` are offsets in UTF-16 units. */
export type Finding = {
  readonly start: number
  readonly end: number
  readonly rule: 'ssn' | 'payment-card'
}

/** What a UTF-16 unit means to a number: 0 to 9 a digit of any script, or one of these. */
const SPACE = 10
const DASH = 11
/** Cannot be seen, so it separates nothing. */
const UNSEEN = 12
/** The first half of a mathematical digit, and of other signs. */
const HALF = 13
const OTHER = 14
const MEANING = Uint8Array.from({ length: 0x10000 }, (_, unit) => meaningOf(unit))

function meaningOf(unit: number): number {
  if (unit === 0xd835) return HALF
  const sign = String.fromCharCode(unit)
  if (UNSEEN_SIGN.test(sign)) return UNSEEN
  if (/[\s\u0085]/.test(sign)) return SPACE
  if (DASH_SIGN.test(sign)) return DASH
  const digit = asciiDigit(unit)
  return digit === undefined ? OTHER : digit - 0x30
}

/** Mathematical digits: five blocks of ten without a gap, two units each. */
function halfMeaning(text: string, at: number): number {
  const low = text.charCodeAt(at + 1) - 0xdfce
  return low >= 0 && low < 50 ? low % 10 : OTHER
}

const KEYWORD = /(?:ssn|s\. ?s\. ?n|social\s{1,3}security|soc\.? ?sec)[^\d]{0,20}$/i

/** Digits with few separators between them; the lists go together, up to `length`. */
class Run {
  length = 0
  at: Int32Array
  value: Uint8Array
  /** Separators before the digit; how many there are beyond WIDEST_GAP is all the same. */
  gap: Uint8Array
  /** The sums of Luhn before each digit, modulo 10: with the digits of odd places doubled, or of even ones. */
  odd: Uint8Array
  even: Uint8Array
  #isSummed = false

  constructor() {
    ;[this.at, this.value, this.gap, this.odd, this.even] = listsOf(ROOM)
  }

  add(at: number, value: number, gap: number): void {
    const n = this.length++
    if (n === this.at.length) this.#grow()
    this.at[n] = at
    this.value[n] = value
    this.gap[n] = gap
  }

  /** Once, for the first of many digits that may be cards. */
  sum(): void {
    if (this.#isSummed) return
    this.#isSummed = true
    const { value, odd, even } = this
    for (let n = 0; n < this.length; n++) {
      const once = value[n] as number
      const twice = doubled(once)
      const isEven = (n & 1) === 0
      odd[n + 1] = moduloTen((odd[n] as number) + (isEven ? once : twice))
      even[n + 1] = moduloTen((even[n] as number) + (isEven ? twice : once))
    }
  }

  clear(): void {
    this.length = 0
    this.#isSummed = false
    if (this.at.length > LARGEST_KEPT)
      [this.at, this.value, this.gap, this.odd, this.even] = listsOf(ROOM)
  }

  #grow(): void {
    const [at, value, gap] = [this.at, this.value, this.gap]
    ;[this.at, this.value, this.gap, this.odd, this.even] = listsOf(at.length * 4)
    this.at.set(at)
    this.value.set(value)
    this.gap.set(gap)
  }
}

/** Of a sum of two digits. */
const moduloTen = (sum: number): number => (sum > 9 ? sum - 10 : sum)

const ROOM = 32
const LARGEST_KEPT = 4096
const listsOf = (room: number): [Int32Array, Uint8Array, Uint8Array, Uint8Array, Uint8Array] => [
  new Int32Array(room),
  new Uint8Array(room),
  new Uint8Array(room),
  // Of all digits together as well.
  new Uint8Array(room + 1),
  new Uint8Array(room + 1),
]
/** One for all texts, which are looked at one after the other: its lists cost more than a short text. */
const RUN = new Run()

/** All findings, in order and apart; separators and keyword context as §9.2 asks for. */
export function findSecrets(written: string): Finding[] {
  const text = hasInnerDot(written) ? withDashes(written) : written
  const findings: Finding[] = []
  const run = RUN
  let gap = 0
  for (let i = 0; i < text.length; i++) {
    let meaning = MEANING[text.charCodeAt(i)] as number
    const at = i
    if (meaning === HALF && (meaning = halfMeaning(text, i)) < SPACE) i++
    if (meaning < SPACE) {
      if (gap > WIDEST_GAP && run.length > 0) endRun(text, run, findings)
      run.add(at, meaning, run.length === 0 ? 0 : gap)
      gap = 0
    } else if (meaning === OTHER) {
      if (run.length > 0) endRun(text, run, findings)
      gap = 0
    } else if (meaning !== UNSEEN && gap <= WIDEST_GAP) gap++
  }
  endRun(text, run, findings)
  return findings
}

/**
 * Dots are in OIDs, versions, decimals and addresses too: only what stands alone is a number, of the groups that
 * it is written in.
 */
const DOTTED =
  /(?<![\d.])(?:\d{3}\.\d\d\.\d{4}|\d{4}\.\d{4}\.\d{4}\.\d{4}(?:\.\d{3})?|\d{4}\.\d{6}\.\d{4,5})(?!\.?\d)/g
const OF_VERSION = /(?<![a-z])(?:v|ver|version|rev|revision|release|build)[.:]?\s{0,3}$/i

/** Whether a digit stands behind a dot: behind those of sentences none does. */
function hasInnerDot(text: string): boolean {
  for (let at = text.indexOf('.'); at >= 0; at = text.indexOf('.', at + 1)) {
    const next = text.charCodeAt(at + 1)
    if (next >= 0x30 && next <= 0x39) return true
  }
  return false
}

/** With dashes in place of the dots of such numbers: every sign stands where it stood. */
function withDashes(text: string): string {
  return text.replace(DOTTED, (number, start: number) =>
    OF_VERSION.test(text.slice(Math.max(0, start - 16), start))
      ? number
      : number.replaceAll('.', '-'),
  )
}

/** The nine digits that a text begins with, if they are an SSN where something beside it says so. */
export function findBareSsn(text: string): Finding | undefined {
  if (!BARE.test(text)) return undefined
  const [found] = findSecrets(CALLED + text)
  if (found?.rule !== 'ssn') return undefined
  return { ...found, start: found.start - CALLED.length, end: found.end - CALLED.length }
}

const BARE = /^\P{Nd}{0,16}\p{Nd}{9}(?!\p{Nd})/u
const CALLED = 'SSN '

/**
 * A run may hold more than one number ("555 123-45-6789", a list of cards): each digit that begins a
 * group is tried as the begin of a card, then of an SSN.
 */
function endRun(text: string, run: Run, findings: Finding[]): void {
  const { at, gap, length } = run
  for (let n = 0; n + 9 <= length; n++) {
    if (n > 0 && gap[n] === 0) continue
    const card = cardLength(run, n)
    const count = card > 0 ? card : isSsnAt(text, run, n) ? 9 : 0
    if (count === 0) continue
    const last = at[n + count - 1] ?? 0
    const isWide = text.charCodeAt(last) === 0xd835
    findings.push({
      start: at[n] ?? 0,
      end: last + (isWide ? 2 : 1),
      rule: card > 0 ? 'payment-card' : 'ssn',
    })
    n += count - 1
  }
  run.clear()
}

function isSsnAt(text: string, { at, value, gap, length }: Run, n: number): boolean {
  if (gap[n + 1] !== 0 || gap[n + 2] !== 0) return false
  if (n + 9 < length && gap[n + 9] === 0) return false
  let gaps = 0
  for (let i = 1; i < 9; i++) if (gap[n + i] !== 0) gaps |= 1 << i
  const bare = gaps === 0
  // Groups of three, two and four.
  if (!bare && gaps !== ((1 << 3) | (1 << 5))) return false
  let number = 0
  for (let i = n; i < n + 9; i++) number = number * 10 + (value[i] as number)
  const area = Math.floor(number / 1_000_000)
  const [group, serial] = [Math.floor(number / 10_000) % 100, number % 10_000]
  // SSA: area not 000, 666 or 9xx; group not 00; serial not 0000.
  if (area === 0 || area === 666 || area >= 900 || group === 0 || serial === 0) return false
  const begin = at[n] ?? 0
  return !bare || KEYWORD.test(text.slice(Math.max(0, begin - 40), begin))
}

/** Issuer ranges of ISO/IEC 7812 in use, by the first four digits, with the lengths they have. */
const RANGES: readonly (readonly [from: number, to: number, lengths: readonly number[]])[] = [
  [4000, 4999, [19, 16, 13]],
  [5100, 5599, [16]],
  [2221, 2720, [16]],
  [3400, 3499, [15]],
  [3700, 3799, [15]],
  [6011, 6011, [19, 16]],
  [6440, 6599, [19, 16]],
  [3528, 3589, [19, 16]],
  [3000, 3099, [19, 16, 14]],
  [3600, 3699, [19, 16, 14]],
  [3800, 3899, [19, 16, 14]],
  [6200, 6299, [19, 18, 17, 16]],
]

/** The lengths by the first four digits. */
const LENGTHS = Array.from(
  { length: 10_000 },
  (_, prefix) => RANGES.find(([from, to]) => prefix >= from && prefix <= to)?.[2],
)

/** How many digits from the n-th on are a card number, the most that are one; 0 = none. */
function cardLength(run: Run, n: number): number {
  if (n + 13 > run.length) return 0
  const { value } = run
  let prefix = 0
  for (let i = n; i < n + 4; i++) prefix = prefix * 10 + (value[i] as number)
  const lengths = LENGTHS[prefix]
  if (lengths === undefined) return 0
  for (const length of lengths) if (isCard(run, n, n + length)) return length
  return 0
}

/** Issuer range, length and check digit (Luhn) together: Luhn alone passes one number in ten. */
function isCard(run: Run, begin: number, end: number): boolean {
  if (end > run.length || (end < run.length && run.gap[end] === 0)) return false
  // Of two digits the first one is doubled, counted from the end.
  run.sum()
  const { odd, even } = run
  return end % 2 === 0 ? even[begin] === even[end] : odd[begin] === odd[end]
}

/** The text with each finding's digits starred but for the last four. */
export function starSecrets(text: string, findings: readonly Finding[]): string {
  let out = ''
  let at = 0
  for (const { start, end } of findings) {
    out += text.slice(at, start) + starred(text.slice(start, end))
    at = end
  }
  return out + text.slice(at)
}

/** Every digit but the last four becomes '*'; separators stay. */
function starred(text: string): string {
  let left = -4
  for (let at = 0; at < text.length; at++) if (digitWidth(text, at) > 0) left++
  let out = ''
  let stars = 0
  let at = 0
  for (; left > 0; at++) {
    const width = digitWidth(text, at)
    if (width > 0) {
      stars++
      left--
      at += width - 1
    } else {
      out += '*'.repeat(stars) + text.charAt(at)
      stars = 0
    }
  }
  return out + '*'.repeat(stars) + text.slice(at)
}

/** UTF-16 units of the decimal digit of any script that begins there; 0 = there is none. */
function digitWidth(text: string, at: number): number {
  const unit = text.charCodeAt(at)
  if ((MEANING[unit] as number) < SPACE) return 1
  // Beyond 16 bits there are more scripts than the mathematical signs.
  if ((unit & 0xfc00) !== 0xd800) return 0
  return asciiDigit(text.codePointAt(at) ?? unit) === undefined ? 0 : 2
}

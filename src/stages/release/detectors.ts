/** Finds SSNs and payment cards in decoded text (requirements §9.2). Linear in the text's length. */

/** A secret in a text; `start` and `end` are offsets in UTF-16 units. */
export type Finding = {
  readonly start: number
  readonly end: number
  readonly rule: 'ssn' | 'payment-card'
}

/** Digits of any script fold to ASCII, one unit to one unit, so that offsets hold. */
function fold(text: string): string {
  return text.replace(/[\p{Nd}\p{Zs}\p{Pd}]/gu, (c) => {
    if (c.length > 1) return '00'.slice(0, c.length)
    if (/\p{Zs}/u.test(c)) return ' '
    if (/\p{Pd}/u.test(c)) return '-'
    const code = c.charCodeAt(0)
    if (code < 0x80) return c
    // Every decimal digit block of Unicode has its zero at a multiple of ten from the next.
    let zero = code
    while (zero > code - 10 && /\p{Nd}/u.test(String.fromCharCode(zero - 1))) zero--
    return String((code - zero) % 10)
  })
}

const RUN = /\d(?:[ -]?\d){8,}/g
const SSN = /^\d{3}([ -])\d{2}\1\d{4}$/
const KEYWORD = /(?:ssn|social security|soc\.? ?sec)[^\d]{0,20}$/i

/** All findings, in order; separators and keyword context as §9.2 asks for. */
export function findSecrets(original: string): Finding[] {
  const text = /^[\x00-\x7f]*$/.test(original) ? original : fold(original)
  const findings: Finding[] = []
  for (const match of text.matchAll(RUN)) {
    const run = match[0]
    const start = match.index
    const digits = run.replace(/[ -]/g, '')
    if (digits.length > 40) continue
    const found = cardIn(run, start) ?? ssnIn(text, run, start)
    if (found !== undefined) findings.push(found)
  }
  return findings
}

function ssnIn(text: string, run: string, start: number): Finding | undefined {
  // A run may hold more than the number: "555 123-45-6789". Its last eleven units are tried too.
  for (const [from, length] of candidates(run)) {
    const part = run.slice(from, from + length)
    const separated = SSN.test(part)
    const bare =
      /^\d{9}$/.test(part) && KEYWORD.test(text.slice(Math.max(0, start + from - 40), start + from))
    if ((separated || bare) && isSsn(part.replace(/\D/g, ''))) {
      return { start: start + from, end: start + from + length, rule: 'ssn' }
    }
  }
  return undefined
}

function* candidates(run: string): Generator<[from: number, length: number]> {
  for (let from = 0; from + 9 <= run.length; from++) {
    const before = run[from - 1]
    if (from > 0 && before !== ' ' && before !== '-') continue
    for (const length of [11, 9]) {
      const next = run[from + length]
      if (from + length <= run.length && (next === undefined || next === ' ' || next === '-')) {
        yield [from, length]
      }
    }
  }
}

/** SSA: area not 000, 666 or 9xx; group not 00; serial not 0000. */
export function isSsn(digits: string): boolean {
  return /^(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}$/.test(digits)
}

/** Issuer ranges of ISO/IEC 7812 in use, with the lengths they have. */
const RANGES: readonly (readonly [prefix: RegExp, lengths: readonly number[]])[] = [
  [/^4/, [13, 16, 19]],
  [/^(5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [16]],
  [/^3[47]/, [15]],
  [/^(6011|64[4-9]|65)/, [16, 19]],
  [/^35(2[89]|[3-8])/, [16, 19]],
  [/^3(0|6|8)/, [14, 16, 19]],
  [/^62/, [16, 17, 18, 19]],
]

function cardIn(run: string, start: number): Finding | undefined {
  for (let from = 0; from < run.length; from++) {
    const before = run[from - 1]
    if (from > 0 && before !== ' ' && before !== '-') continue
    for (let end = run.length; end > from; end--) {
      const next = run[end]
      if (next !== undefined && next !== ' ' && next !== '-') continue
      const digits = run.slice(from, end).replace(/[ -]/g, '')
      if (digits.length > 19) continue
      if (digits.length < 13) break
      if (isCard(digits)) return { start: start + from, end: start + end, rule: 'payment-card' }
    }
  }
  return undefined
}

/** Issuer range, length and check digit (Luhn) together: Luhn alone passes one number in ten. */
export function isCard(digits: string): boolean {
  if (!RANGES.some(([prefix, lengths]) => prefix.test(digits) && lengths.includes(digits.length))) {
    return false
  }
  let sum = 0
  for (let i = 0; i < digits.length; i++) {
    let digit = digits.charCodeAt(digits.length - 1 - i) - 48
    if (i % 2 === 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2
    sum += digit
  }
  return sum % 10 === 0
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
export function starred(text: string): string {
  const units = Array.from(text)
  let left = units.filter((c) => /\p{Nd}/u.test(c)).length
  return units.map((c) => (/\p{Nd}/u.test(c) && left-- > 4 ? '*' : c)).join('')
}

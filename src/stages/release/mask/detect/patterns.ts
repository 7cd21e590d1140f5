import type { DetectorName } from '../../../../policy/masking-schema.ts'
import {
  isCpf,
  isDea,
  isDni,
  isFnr,
  isHetu,
  isIban,
  isIhi,
  isKvnr,
  isLuhn,
  isNhi,
  isNhs,
  isNir,
  isSsin,
  isVerhoeff,
  weighted,
} from './check-digits.ts'
import type { Check } from './check-digits.ts'

export type PatternName = Exclude<DetectorName, 'us-ssn' | 'payment-card'>

/**
 * Detectors besides SSNs and payment cards (requirements §9.2): a pattern of bounded length each, and
 * where there is one the check digits, so that of the many numbers of FHIR few are taken. Bare digits
 * count with a word for them before, since one number in ten has a good check digit by chance.
 */
export type Pattern = {
  /** Of what bounded-pattern.ts can read, so that all are found in one pass. */
  readonly pattern: RegExp
  /** Of the letters and digits of a match. */
  readonly check?: Check
  /** Words one of which must stand shortly before digits that have no separators. */
  readonly words?: RegExp
}

const SEPARATED = (groups: readonly number[]): string =>
  groups.map((n) => `\\d{${n}}`).join('[ -]?')
const number = (groups: readonly number[]): RegExp =>
  new RegExp(`(?<![\\w-])${SEPARATED(groups)}(?![\\w-])`, 'g')

/**
 * Signs of an address of mail (RFC 5322 §3.2.3) but for `/` and what markup has, and letters of scripts
 * that have spaces between words (RFC 6531): elsewhere all that stands before would be one with it.
 */
const ATOM = "\\w.!#$%'*=?^{|}~\\u00c0-\\u052f\\u1e00-\\u1fff-"
/** RFC 5321 §4.5.3.1.1: of what stands before the @. */
const MOST_BEFORE_AT = 64
const LABEL = '[\\w\\u00c0-\\u052f\\u1e00-\\u1fff-]{1,63}'
/**
 * Of names without a dot one alone: `pain@rest` is no address. None begins with a +, as telephone
 * numbers do: to be both for long would take many states.
 */
const MAIL = new RegExp(
  `(?<![${ATOM}])[${ATOM}][+${ATOM}]{0,${MOST_BEFORE_AT - 1}}@(?:${LABEL}(?:\\.${LABEL}){1,8}|localhost)`,
  'g',
)

const MAY_STAND_BEFORE_AT = new RegExp(`[+${ATOM}]`)
/** A text is looked at first when it is so long that it could be made to be slow. */
const LONG = 256

/**
 * For each sign of a text the place of the @ that an address from there would have, 0 = none. What stands behind
 * an @ is the same from wherever before it one begins: it is looked at once. Undefined for a short text.
 */
export function atsOf(text: string): Int32Array | undefined {
  if (text.length < LONG) return undefined
  const ats = new Int32Array(text.length)
  let next = 0
  for (let at = text.length - 1; at >= 0; at--) {
    const unit = text.charCodeAt(at)
    if (unit === 0x40) next = at
    else if (next !== 0 && (next - at > MOST_BEFORE_AT || !mayStandBeforeAt(unit))) next = 0
    else ats[at] = next
  }
  return ats
}

const ASCII = Array.from({ length: 128 }, (_, n) =>
  MAY_STAND_BEFORE_AT.test(String.fromCharCode(n)),
)
function mayStandBeforeAt(unit: number): boolean {
  return ASCII[unit] ?? MAY_STAND_BEFORE_AT.test(String.fromCharCode(unit))
}

export const PATTERNS: Readonly<Record<PatternName, Pattern>> = {
  'us-itin': {
    pattern: /(?<![\w-])9\d{2}[ -]?(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])[ -]?\d{4}(?![\w-])/g,
    words: /itin|tax|tin/i,
  },
  'us-mbi': {
    pattern:
      /(?<!\w)[1-9][AC-HJ-NP-RT-Y][0-9AC-HJ-NP-RT-Y]\d[ -]?[AC-HJ-NP-RT-Y][0-9AC-HJ-NP-RT-Y]\d[ -]?[AC-HJ-NP-RT-Y]{2}\d{2}(?!\w)/gi,
  },
  'us-dea': {
    pattern: /(?<!\w)[A-Z]{2}\d{7}(?!\w)/gi,
    check: isDea,
  },
  'uk-nhs': {
    pattern: number([3, 3, 4]),
    check: isNhs,
    words: /nhs/i,
  },
  'ca-sin': { pattern: number([3, 3, 3]), check: isLuhn, words: /\bsin\b|\bnas\b|insurance/i },
  'de-kvnr': {
    pattern: /(?<!\w)[A-Z]\d{9}(?!\w)/gi,
    check: isKvnr,
  },
  'fr-nir': {
    pattern: /(?<!\w)[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?!\w)/gi,
    check: isNir,
  },
  'nl-bsn': {
    pattern: number([9]),
    check: (digits) => weighted(digits, [9, 8, 7, 6, 5, 4, 3, 2, -1]) % 11 === 0,
    words: /bsn|burgerservice/i,
  },
  'au-ihi': { pattern: number([4, 4, 4, 4]), check: isIhi },
  'au-medicare': {
    pattern: /(?<![\w-])[2-6]\d{3}[ -]?\d{5}[ -]?\d(?:[ -]?\d)?(?![\w-])/g,
    check: (digits) => weighted(digits, [1, 3, 7, 9, 1, 3, 7, 9]) % 10 === digits[8],
    words: /medicare/i,
  },
  'br-cpf': {
    pattern: /(?<![\w-])\d{3}\.?\d{3}\.?\d{3}-?\d{2}(?![\w-])/g,
    check: isCpf,
    words: /cpf/i,
  },
  'it-cf': { pattern: /(?<!\w)[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z](?!\w)/gi },
  'be-ssin': {
    pattern: /(?<![\w-])\d{2}\.?\d{2}\.?\d{2}[ -]?\d{3}[.-]?\d{2}(?![\w-])/g,
    check: isSsin,
    words: /ssin|niss|insz|rijks|registre/i,
  },
  'no-fnr': {
    pattern: number([6, 5]),
    check: isFnr,
  },
  'se-pnr': {
    pattern: /(?<![\w-])(?:19|20)?\d{6}[-+]?\d{4}(?![\w-])/g,
    check: (digits, count) => isLuhn(digits, count, count - 10),
    words: /person/i,
  },
  'fi-hetu': {
    pattern: /(?<!\w)\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y](?!\w)/gi,
    check: isHetu,
  },
  'es-dni': {
    pattern: /(?<!\w)(?:\d{8}|[XYZ]\d{7})-?[A-Z](?!\w)/gi,
    check: isDni,
  },
  'pl-pesel': {
    pattern: number([11]),
    check: (digits) => weighted(digits, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]) % 10 === 0,
    words: /pesel/i,
  },
  'nz-nhi': {
    pattern: /(?<!\w)[A-HJ-NP-Z]{3}\d{4}(?!\w)/gi,
    check: isNhi,
  },
  'in-aadhaar': { pattern: number([4, 4, 4]), check: isVerhoeff, words: /aadhaar|uidai/i },
  iban: {
    pattern: /(?<!\w)[A-Z]{2}\d{2}(?:[ .-]?[0-9A-Z]{4}){2,7}(?:[ .-]?[0-9A-Z]{1,3})?(?!\w)/gi,
    check: isIban,
  },
  // With a country code; of North America; bare only where words say what it is.
  phone: {
    pattern:
      /(?<![\w+-])(?:\+\d{1,3}(?:[ .()/-]{1,3}\d{1,12}){1,2}(?:[ .()/-]{1,3}\d{1,8}){0,4}|\+\d{8,15})(?![\d])|(?<![\w+-])(?:1[ .-]{1,2})?(?:\(\d{3}\)[ ./-]{0,2}|\d{3}[ ./-]{1,2})\d{3}[ .-]\d{4}(?![\w-])|(?<![\w.+-])\d{10,11}(?![\w-])/g,
    check: (_, count) => count >= 8,
    words: /phone|telef|\btel\b|\bfax|mobil|\bcell|pager|whatsapp|\bsms\b|\bcall\b/i,
  },
  email: { pattern: MAIL },
  url: {
    pattern: /(?<!\w)(?:https?|ftp):\/\/[^\s"'<>]{1,2000}|(?<![\w.])www\.[^\s"'<>]{3,2000}/gi,
  },
  ip: {
    pattern:
      /(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])|(?<![\w:])(?:[\da-f]{1,4}:){3,7}(?::[\da-f]{1,4}|[\da-f]{1,4}|:)(?![\w:])|(?<![\w:])[\da-f]{4}:(?:[\da-f]{1,4}:){0,6}(?::[\da-f]{1,4}){1,7}(?![\w:])/gi,
  },
}

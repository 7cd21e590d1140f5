import type { DetectorName } from '../../policy/masking-schema.ts'
import { findSecrets } from './detectors.ts'

/**
 * Detectors besides SSNs and payment cards (requirements §9.2): a pattern of bounded length each, and
 * where there is one the check digits, so that of the many numbers of FHIR few are taken. Bare digits
 * count with a word for them before, since one number in ten has a good check digit by chance.
 */
type Pattern = {
  /** Bounded: no `*`, `+` or `{n,}`, so that the cost is that of the text's length. */
  readonly pattern: RegExp
  /** Of the match without separators, in capitals. */
  readonly check?: (text: string) => boolean
  /** Words one of which must stand shortly before digits that have no separators. */
  readonly words?: RegExp
}

const SEPARATED = (groups: readonly number[]): string =>
  groups.map((n) => `\\d{${n}}`).join('[ -]?')
const number = (groups: readonly number[]): RegExp =>
  new RegExp(`(?<![\\w-])${SEPARATED(groups)}(?![\\w-])`, 'g')

const PATTERNS: Readonly<Record<Exclude<DetectorName, 'us-ssn' | 'payment-card'>, Pattern>> = {
  'us-itin': {
    pattern: /(?<![\w-])9\d{2}[ -]?(?:5\d|6[0-5]|7\d|8[0-8]|9[0-24-9])[ -]?\d{4}(?![\w-])/g,
    words: /itin|tax|tin/i,
  },
  'us-mbi': {
    pattern:
      /(?<!\w)[1-9][AC-HJ-NP-RT-Y][0-9AC-HJ-NP-RT-Y]\d-?[AC-HJ-NP-RT-Y][0-9AC-HJ-NP-RT-Y]\d-?[AC-HJ-NP-RT-Y]{2}\d{2}(?!\w)/gi,
  },
  'us-dea': {
    pattern: /(?<!\w)[A-Z]{2}\d{7}(?!\w)/gi,
    check: (text) => {
      const d = digitsOf(text)
      const at = (n: number): number => d[n] ?? 0
      return (at(0) + at(2) + at(4) + 2 * (at(1) + at(3) + at(5))) % 10 === d[6]
    },
  },
  'uk-nhs': {
    pattern: number([3, 3, 4]),
    check: (text) => {
      const d = digitsOf(text)
      const check = 11 - (weighted(d, [10, 9, 8, 7, 6, 5, 4, 3, 2]) % 11)
      return check !== 10 && (check === 11 ? 0 : check) === d[9]
    },
    words: /nhs/i,
  },
  'ca-sin': { pattern: number([3, 3, 3]), check: isLuhn, words: /\bsin\b|\bnas\b|insurance/i },
  'de-kvnr': {
    pattern: /(?<!\w)[A-Z]\d{9}(?!\w)/gi,
    check: (text) => {
      const letter = text.charCodeAt(0) - 64
      const d = [Math.floor(letter / 10), letter % 10, ...digitsOf(text)]
      const sum = d.slice(0, 10).reduce((all, digit, n) => {
        const part = n % 2 === 0 ? digit : digit * 2
        return all + (part > 9 ? part - 9 : part)
      }, 0)
      return sum % 10 === d[10]
    },
  },
  'fr-nir': {
    pattern: /(?<!\w)[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?!\w)/gi,
    check: (text) => {
      const digits = text.replace('2A', '19').replace('2B', '18')
      return 97 - Number(BigInt(digits.slice(0, 13)) % 97n) === Number(digits.slice(13))
    },
  },
  'nl-bsn': {
    pattern: number([9]),
    check: (text) => weighted(digitsOf(text), [9, 8, 7, 6, 5, 4, 3, 2, -1]) % 11 === 0,
    words: /bsn|burgerservice/i,
  },
  'au-ihi': { pattern: number([4, 4, 4, 4]), check: (t) => t.startsWith('80036') && isLuhn(t) },
  'au-medicare': {
    pattern: /(?<![\w-])[2-6]\d{3}[ -]?\d{5}[ -]?\d(?:[ -]?\d)?(?![\w-])/g,
    check: (text) => weighted(digitsOf(text), [1, 3, 7, 9, 1, 3, 7, 9]) % 10 === digitsOf(text)[8],
    words: /medicare/i,
  },
  'br-cpf': {
    pattern: /(?<![\w-])\d{3}\.?\d{3}\.?\d{3}-?\d{2}(?![\w-])/g,
    check: (text) => {
      const d = digitsOf(text)
      const digit = (length: number): number => {
        const rest = d.slice(0, length).reduce((sum, one, n) => sum + one * (length + 1 - n), 0)
        return ((rest * 10) % 11) % 10
      }
      return new Set(d).size > 1 && digit(9) === d[9] && digit(10) === d[10]
    },
    words: /cpf/i,
  },
  'it-cf': { pattern: /(?<!\w)[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z](?!\w)/gi },
  'be-ssin': {
    pattern: /(?<![\w-])\d{2}\.?\d{2}\.?\d{2}[ -]?\d{3}[.-]?\d{2}(?![\w-])/g,
    check: (text) => {
      const check = Number(text.slice(9))
      return ['', '2'].some((head) => 97 - (Number(head + text.slice(0, 9)) % 97) === check)
    },
    words: /ssin|niss|insz|rijks|registre/i,
  },
  'no-fnr': {
    pattern: number([6, 5]),
    check: (text) => {
      const d = digitsOf(text)
      return (
        weighted(d, [3, 7, 6, 1, 8, 9, 4, 5, 2, 1]) % 11 === 0 &&
        weighted(d, [5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1]) % 11 === 0
      )
    },
  },
  'se-pnr': {
    pattern: /(?<![\w-])(?:19|20)?\d{6}[-+]?\d{4}(?![\w-])/g,
    check: (text) => isLuhn(text.slice(-10)),
    words: /person/i,
  },
  'fi-hetu': {
    pattern: /(?<!\w)\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y](?!\w)/gi,
    check: (text) => {
      const digits = digitsOf(text.slice(0, -1)).join('')
      return '0123456789ABCDEFHJKLMNPRSTUVWXY'[Number(digits) % 31] === text.at(-1)
    },
  },
  'es-dni': {
    pattern: /(?<!\w)(?:\d{8}|[XYZ]\d{7})-?[A-Z](?!\w)/gi,
    check: (text) => {
      const digits = text.replace(/^[XYZ]/, (c) => String('XYZ'.indexOf(c))).slice(0, -1)
      return 'TRWAGMYFPDXBNJZSQVHLCKE'[Number(digits) % 23] === text.at(-1)
    },
  },
  'pl-pesel': {
    pattern: number([11]),
    check: (text) => weighted(digitsOf(text), [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]) % 10 === 0,
    words: /pesel/i,
  },
  'nz-nhi': {
    pattern: /(?<!\w)[A-HJ-NP-Z]{3}\d{4}(?!\w)/gi,
    check: (text) => {
      const letters = 'ABCDEFGHJKLMNPQRSTUVWXYZ'
      const values = Array.from(text, (c) => (/\d/.test(c) ? Number(c) : letters.indexOf(c) + 1))
      const rest = weighted(values, [7, 6, 5, 4, 3, 2]) % 11
      return rest !== 0 && (11 - rest) % 10 === values[6]
    },
  },
  'in-aadhaar': { pattern: number([4, 4, 4]), check: isVerhoeff, words: /aadhaar|uidai/i },
  iban: {
    pattern: /(?<!\w)[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?(?!\w)/gi,
    check: (text) => {
      const turned = (text.slice(4) + text.slice(0, 4)).replace(/[A-Z]/g, (c) =>
        String(c.charCodeAt(0) - 55),
      )
      return text.length <= 34 && BigInt(turned) % 97n === 1n
    },
  },
  phone: {
    pattern:
      /(?<![\w+-])(?:\+\d{1,3}(?:[ .()-]{1,2}\d{1,5}){2,5}|\+\d{8,15}|\(?\d{3}\)?[ .-]{1,2}\d{3}[ .-]\d{4})(?![\w-])/g,
  },
  email: { pattern: /(?<![\w.%+-])[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}/g },
  url: {
    pattern: /(?<!\w)(?:https?|ftp):\/\/[^\s"'<>]{1,2000}|(?<![\w.])www\.[^\s"'<>]{3,2000}/gi,
  },
  ip: {
    pattern:
      /(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.])|(?<![\w:])(?:[\da-f]{1,4}:){3,7}(?::[\da-f]{1,4}|[\da-f]{1,4}|:)(?![\w:])/gi,
  },
}

/** All patterns, for whoever proves that they are bounded. */
export const patternSources = (): readonly [name: string, source: string][] =>
  Object.entries(PATTERNS).map(([name, { pattern }]) => [name, pattern.source])

/** A part of a text; `start` and `end` are offsets in UTF-16 units. */
export type Found = { readonly start: number; readonly end: number; readonly name: DetectorName }

const MAY_HOLD = /[\d@]|www\.|:\/\/|[^\0-\x7f]/i
const NOTHING: Found[] = []

/** What the detectors find, in order and apart; where two overlap the first one's whole. */
export function findAll(text: string, names: ReadonlySet<DetectorName>): Found[] {
  // Whatever is looked for has a digit or one of these signs in it.
  if (!MAY_HOLD.test(text)) return NOTHING
  const found: Found[] = []
  const hasNumbers = names.has('us-ssn') || names.has('payment-card')
  for (const { start, end, rule } of hasNumbers ? findSecrets(text) : []) {
    const name = rule === 'ssn' ? 'us-ssn' : rule
    if (names.has(name)) found.push({ start, end, name })
  }
  const plain = flatten(text)
  for (const name of names) {
    if (name === 'us-ssn' || name === 'payment-card') continue
    const { pattern, check, words } = PATTERNS[name]
    for (const match of plain.text.matchAll(pattern)) {
      const raw = match[0]
      if (check?.(raw.replaceAll(/[ .+-]/g, '').toUpperCase()) === false) continue
      const { index } = match
      const isBare = /^\d{1,40}$/.test(raw)
      if (
        isBare &&
        words !== undefined &&
        !words.test(plain.text.slice(Math.max(0, index - 40), index))
      )
        continue
      found.push({ start: plain.at(index), end: plain.at(index + raw.length - 1) + 1, name })
    }
  }
  found.sort((a, b) => a.start - b.start || b.end - a.end)
  const apart: Found[] = []
  for (const one of found) {
    const last = apart.at(-1)
    if (last === undefined || one.start >= last.end) apart.push(one)
    else if (one.end > last.end) apart[apart.length - 1] = { ...last, end: one.end }
  }
  return apart
}

/** The text with ASCII digits, spaces and dashes, without what cannot be seen; and where each stood. */
function flatten(text: string): { readonly text: string; readonly at: (index: number) => number } {
  if (/^[\t\n\r -~]*$/.test(text)) return { text, at: (index) => index }
  const places = new Uint32Array(text.length)
  const units = new Uint16Array(text.length)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at) ?? 0
    const plain = plainOf(code)
    if (plain !== NOTHING_SEEN) {
      places[length] = at
      units[length++] = plain
    }
    if (code > 0xffff) at++
  }
  const out = Buffer.from(units.buffer, 0, length * 2).toString('utf16le')
  return { text: out, at: (index) => (index < length ? (places[index] ?? 0) : text.length) }
}
const UNSEEN = /[\u00ad\u200b-\u200f\u2060\ufeff]/

/** What a character comes to, found out once for each: there are only so many. */
export function plainOf(code: number): number {
  const known = code < PLAIN.length ? PLAIN[code] : PLAIN_BEYOND.get(code)
  if (known !== undefined && known !== UNKNOWN) return known
  const plain = flattened(code)
  if (code < PLAIN.length) PLAIN[code] = plain
  else PLAIN_BEYOND.set(code, plain)
  return plain
}
const UNKNOWN = 0xffff
const NOTHING_SEEN = 0xfffe
const PLAIN = new Uint16Array(0x10000).fill(UNKNOWN)
const PLAIN_BEYOND = new Map<number, number>()

function flattened(code: number): number {
  const one = String.fromCodePoint(code)
  if (UNSEEN.test(one)) return NOTHING_SEEN
  const plain = /\p{Nd}/u.test(one)
    ? digitOf(code)
    : /\p{Zs}/u.test(one)
      ? ' '
      : /[\p{Pd}\u2212]/u.test(one)
        ? '-'
        : one.normalize('NFKC')
  return plain.length === 1 ? plain.charCodeAt(0) : 0xfffd
}

/** The decimal digits of a script are ten in a row that begins where no digit is before (Unicode §4.6). */
function digitOf(code: number): string {
  if (code >= 0x1d7ce && code <= 0x1d7ff) return String((code - 0x1d7ce) % 10)
  let zero = code
  while (code - zero < 9 && /\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--
  return String(code - zero)
}

function digitsOf(text: string): number[] {
  const digits: number[] = []
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - 0x30
    if (digit >= 0 && digit <= 9) digits.push(digit)
  }
  return digits
}

const weighted = (digits: readonly number[], weights: readonly number[]): number =>
  weights.reduce((sum, weight, n) => sum + weight * (digits[n] ?? 0), 0)

function isLuhn(text: string): boolean {
  let sum = 0
  let place = 0
  for (let at = text.length - 1; at >= 0; at--) {
    const digit = text.charCodeAt(at) - 0x30
    if (digit < 0 || digit > 9) continue
    const part = place++ % 2 === 0 ? digit : digit * 2
    sum += part > 9 ? part - 9 : part
  }
  return sum % 10 === 0
}

/** The dihedral group of a pentagon, and the permutation by place (Verhoeff 1969). */
function isVerhoeff(text: string): boolean {
  let sum = 0
  let place = 0
  for (let at = text.length - 1; at >= 0; at--) {
    let value = text.charCodeAt(at) - 0x30
    if (value < 0 || value > 9) continue
    for (let i = place++ % 8; i > 0; i--) value = TURN[value] ?? 0
    sum = multiply(sum, value)
  }
  return sum === 0
}
const TURN = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]

function multiply(a: number, b: number): number {
  if (a < 5) return b < 5 ? (a + b) % 5 : ((a + b - 5) % 5) + 5
  return b < 5 ? ((a - b + 5) % 5) + 5 : (a - b + 5) % 5
}

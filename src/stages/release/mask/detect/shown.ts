import { asciiDigit, CodePoints, textOfUnits } from './code-points.ts'

/**
 * A text as its reader sees it, which is where numbers are looked for that are not to be found in what
 * is written: tags and character references of markup (narratives are XHTML, and notes often are), signs
 * that cannot be seen, raised and circled digits. undefined = it is what is written.
 */
export function shownOf(text: string): string | undefined {
  const isMarkup = MARKUP.test(text)
  if (!isMarkup && !UNUSUAL.test(text)) return undefined
  const bare = isMarkup ? decodeReferences(withoutTags(withoutComments(text))) : text
  if (!UNUSUAL.test(bare)) return bare === text ? undefined : bare
  const shown = visible(bare)
  return shown === text ? undefined : shown
}

/**
 * Whether a text may show `least` digits, however they are written: each takes a digit of ASCII, be it in
 * a character reference, or a sign beyond ASCII, of which one may stand for two (circled 21).
 */
export function mayShowDigits(text: string, least: number): boolean {
  let count = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    if (unit >= 0x80) count += 2
    else if (unit >= 0x30 && unit <= 0x39) count++
    if (count >= least) return true
  }
  return false
}

/** What is seen: digits of all scripts as those of ASCII, and signs as those that they stand for. */
function visible(text: string): string {
  const units = new Uint16Array(text.length)
  let length = 0
  let isPlain = true
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    const code = isFirst(unit) ? (text.codePointAt(at) ?? unit) : unit
    const isWide = code > 0xffff
    if (isWide) at++
    const seen = SEEN.of(code)
    if (seen < GONE) units[length++] = seen
    else if (seen === ITSELF) {
      isPlain = false
      const joined = isSecond(unit) ? SEEN.of(codeOf(units[length - 1] ?? 0, unit)) : ITSELF
      if (joined < GONE) units[length - 1] = joined
      else {
        units[length++] = unit
        if (isWide) units[length++] = text.charCodeAt(at)
      }
    }
  }
  const shown = textOfUnits(units, length)
  // A sign may be one with those around it, but no digit is; nor does one stand for digits of a script.
  return isPlain ? shown : shown.normalize('NFKC')
}

const isFirst = (unit: number): boolean => (unit & 0xfc00) === 0xd800
const isSecond = (unit: number): boolean => (unit & 0xfc00) === 0xdc00
/** Of two halves, between which there may have been what is not seen; of anything else none. */
const codeOf = (first: number, second: number): number =>
  isFirst(first) ? ((first - 0xd7c0) << 10) + (second & 0x3ff) : second

/** Default-ignorable and format characters, marks on other signs, controls but for white space. */
const INVISIBLE = /[\p{DI}\p{Cf}\p{M}]|(?![\t-\r\u0085])\p{Cc}/u
const GONE = 0x80
const ITSELF = 0x81
const SEEN = new CodePoints((code) => {
  if (INVISIBLE.test(String.fromCodePoint(code))) return GONE
  return code < 0x80 ? code : (asciiDigit(code) ?? ITSELF)
})

const MARKUP = /[<&]/
const UNUSUAL = /[^\t\n\r -~]/
/** None goes beyond the next `<`, and a name is tried in its whole length only: linear in the text's. */
const TAG =
  /<!\[CDATA\[|\]\]>|<\/?[A-Za-z](?=([\w:.-]{0,40}))\1(?:[^<>"']|"[^"<]{0,5000}"|'[^'<]{0,5000}'){0,5000}>/y

function withoutComments(text: string): string {
  let out = ''
  let at = 0
  for (;;) {
    const start = text.indexOf('<!--', at)
    const end = start < 0 ? -1 : text.indexOf('-->', start + 4)
    if (end < 0) return at === 0 ? text : out + text.slice(at)
    out += text.slice(at, start)
    at = end + 3
  }
}

/** Stands where one thing is shown apart from the next: cells, paragraphs, items of a list. */
const APART = [0x20, 0x7c, 0x20]
const BLOCK = new Set(
  (
    'address article aside blockquote body br caption center col colgroup dd div dl dt fieldset figure ' +
    'footer form h1 h2 h3 h4 h5 h6 head header hr html img legend li main nav ol p pre section table ' +
    'tbody td tfoot th thead title tr ul'
  ).split(' '),
)
const LONGEST_BLOCK = 10
const OF_NAME = Uint8Array.from({ length: 0x80 }, (_, code) =>
  /[\w:.-]/.test(String.fromCharCode(code)) ? 1 : 0,
)
const [LESS, MARK, SLASH, BRACKET] = [0x3c, 0x21, 0x2f, 0x5d]
const [AND, HASH, END] = [0x26, 0x23, 0x3b]

/** Any other tag, also one that nobody knows, separates nothing. */
function withoutTags(text: string): string {
  // No tag is shorter than what stands for it.
  const units = new Uint16Array(text.length)
  let length = 0
  let isSame = true
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    const end = unit === LESS || unit === BRACKET ? endOfTag(text, at) : 0
    if (end === 0) units[length++] = unit
    else {
      if (isBlock(text, at + 1)) for (const one of APART) units[length++] = one
      at = end - 1
      isSame = false
    }
  }
  return isSame ? text : textOfUnits(units, length)
}

/** Where what begins here ends; 0 = it is no tag, as its second sign tells of most. */
function endOfTag(text: string, at: number): number {
  const second = text.charCodeAt(at + 1)
  if (OF_NAME[second] !== 1 && second !== SLASH && second !== MARK && second !== BRACKET) return 0
  TAG.lastIndex = at
  return TAG.test(text) ? TAG.lastIndex : 0
}

function isBlock(text: string, at: number): boolean {
  const start = text.charCodeAt(at) === SLASH ? at + 1 : at
  let end = start
  while (end - start <= LONGEST_BLOCK && OF_NAME[text.charCodeAt(end)] === 1) end++
  return BLOCK.has(text.slice(start, end).toLowerCase())
}

/** Beyond all code points. */
const NOTHING = 0x110000
/** The references by name that stand for what separates or cannot be seen, and what mail is made of. */
const NAMED: ReadonlyMap<string, number> = new Map(
  [
    ...['nbsp', 'ensp', 'emsp', 'thinsp', 'numsp', 'puncsp', 'hairsp'].map(
      (n) => [n, ' '] as const,
    ),
    ...['ndash', 'mdash', 'minus', 'hyphen', 'dash', 'horbar'].map((n) => [n, '-'] as const),
    ...['shy', 'zwnj', 'zwj', 'lrm', 'rlm'].map((n) => [n, ''] as const),
    ...Object.entries({ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }),
    ...Object.entries({ commat: '@', period: '.', colon: ':', sol: '/', plus: '+', lowbar: '_' }),
    ...Object.entries({ lpar: '(', rpar: ')', num: '#', Tab: '\t', NewLine: '\n' }),
  ].map(([name, sign]) => [name, sign.codePointAt(0) ?? NOTHING]),
)
const LONGEST_NAME = 12
/** No reference is as long: `&`, a name and `;`. */
const LONGER = 16

/** Character references of XML and HTML in place of which the character stands. */
export function decodeReferences(text: string): string {
  if (!text.includes('&')) return text
  // Each is longer than what it stands for.
  const units = new Uint16Array(text.length)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at)
    const found = unit === AND ? referenceAt(text, at) : 0
    if (found === 0) {
      units[length++] = unit
      continue
    }
    at += (found % LONGER) - 1
    const code = Math.floor(found / LONGER)
    if (code < 0x10000) units[length++] = code
    else if (code < NOTHING) {
      units[length++] = 0xd7c0 + (code >> 10)
      units[length++] = 0xdc00 + (code & 0x3ff)
    }
  }
  return length === text.length ? text : textOfUnits(units, length)
}

/** What a reference stands for, times LONGER, and its length; 0 = there is none. */
function referenceAt(text: string, at: number): number {
  if (text.charCodeAt(at + 1) === HASH)
    return (text.charCodeAt(at + 2) | 0x20) === 0x78
      ? numberAt(text, at, at + 3, 6, 16)
      : numberAt(text, at, at + 2, 7, 10)
  let end = at + 1
  while (end - at <= LONGEST_NAME && OF_NAME[text.charCodeAt(end)] === 1) end++
  if (text.charCodeAt(end) !== END) return 0
  const code = NAMED.get(text.slice(at + 1, end))
  return code === undefined ? 0 : code * LONGER + end + 1 - at
}

/** `;` may be left out behind a number. */
function numberAt(text: string, at: number, from: number, most: number, base: number): number {
  let end = from
  let code = 0
  for (; end < from + most; end++) {
    const digit = DIGIT[text.charCodeAt(end)] ?? base
    if (digit >= base) break
    code = code * base + digit
  }
  if (end === from || code >= NOTHING) return 0
  if (text.charCodeAt(end) === END) end++
  return code * LONGER + end - at
}
const DIGIT = Uint8Array.from({ length: 0x80 }, (_, code) => {
  const sign = String.fromCharCode(code)
  return /[\da-f]/i.test(sign) ? parseInt(sign, 16) : 16
})

import { plainOf } from './patterns.ts'

/**
 * A text as its reader sees it, which is where numbers are looked for that are not to be found in what
 * is written: tags and character references of markup (narratives are XHTML, and notes often are), signs
 * that cannot be seen, raised and circled digits. undefined = it is what is written.
 */
export function shownOf(text: string): string | undefined {
  const isMarkup = MARKUP.test(text)
  if (!isMarkup && !UNUSUAL.test(text)) return undefined
  const bare = isMarkup ? decodeReferences(withoutComments(text).replace(TAG, withoutTag)) : text
  if (!UNUSUAL.test(bare)) return bare === text ? undefined : bare
  const shown = inAscii(bare.replace(INVISIBLE, '').normalize('NFKC'))
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

/** The digits of all scripts as those of ASCII. */
function inAscii(text: string): string {
  if (!UNUSUAL.test(text)) return text
  const units = new Uint16Array(text.length)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at) ?? 0
    const plain = code < 0x80 ? code : plainOf(code)
    const isDigit = plain >= 0x30 && plain <= 0x39
    units[length++] = isDigit ? plain : text.charCodeAt(at)
    if (code > 0xffff) {
      at++
      if (!isDigit) units[length++] = text.charCodeAt(at)
    }
  }
  return Buffer.from(units.buffer, 0, length * 2).toString('utf16le')
}

const MARKUP = /[<&]/
const UNUSUAL = /[^\t\n\r -~]/
/** None goes beyond the next `<` or `&`, so that both are linear in the text's length. */
const TAG =
  /<!\[CDATA\[|\]\]>|<\/?([A-Za-z][\w:.-]{0,40})(?:[^<>"']|"[^"<]{0,5000}"|'[^'<]{0,5000}'){0,5000}>/g
const REFERENCE = /&(?:#(\d{1,7});?|#[xX]([\dA-Fa-f]{1,6});?|([A-Za-z]{2,12});)/g
/** Default-ignorable and format characters, marks on other signs, controls but for white space. */
const INVISIBLE = /[\p{DI}\p{Cf}\p{M}]|(?![\t-\r\u0085])\p{Cc}/gu

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
const APART = ' | '
const BLOCK = new Set(
  (
    'address article aside blockquote body br caption center col colgroup dd div dl dt fieldset figure ' +
    'footer form h1 h2 h3 h4 h5 h6 head header hr html img legend li main nav ol p pre section table ' +
    'tbody td tfoot th thead title tr ul'
  ).split(' '),
)

/** Any other tag, also one that nobody knows, separates nothing. */
const withoutTag = (_tag: string, name: string | undefined): string =>
  name !== undefined && BLOCK.has(name.toLowerCase()) ? APART : ''

/** The references by name that stand for what separates or cannot be seen, and what mail is made of. */
const NAMED: ReadonlyMap<string, string> = new Map([
  ...['nbsp', 'ensp', 'emsp', 'thinsp', 'numsp', 'puncsp', 'hairsp'].map((n) => [n, ' '] as const),
  ...['ndash', 'mdash', 'minus', 'hyphen', 'dash', 'horbar'].map((n) => [n, '-'] as const),
  ...['shy', 'zwnj', 'zwj', 'lrm', 'rlm'].map((n) => [n, ''] as const),
  ...Object.entries({ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }),
  ...Object.entries({ commat: '@', period: '.', colon: ':', sol: '/', plus: '+', lowbar: '_' }),
  ...Object.entries({ lpar: '(', rpar: ')', num: '#', Tab: '\t', NewLine: '\n' }),
])

/** Character references of XML and HTML in place of which the character stands. */
export function decodeReferences(text: string): string {
  if (!text.includes('&')) return text
  return text.replace(
    REFERENCE,
    (whole: string, decimal?: string, hexadecimal?: string, name?: string) => {
      if (name !== undefined) return NAMED.get(name) ?? whole
      const code = decimal === undefined ? parseInt(hexadecimal ?? '', 16) : Number(decimal)
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole
    },
  )
}

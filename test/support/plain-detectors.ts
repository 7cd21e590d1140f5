import type { DetectorName } from '../../src/policy/masking-schema.ts'
import { findSecrets } from '../../src/stages/release/mask/detect/secrets.ts'
import type { Found } from '../../src/stages/release/mask/detect/finder.ts'
import { PATTERNS } from '../../src/stages/release/mask/detect/patterns.ts'
import { flatten } from '../../src/stages/release/mask/detect/plain-text.ts'

/** The detectors as simply as can be: every pattern by itself through the whole text, everything sorted. */
export function plainFindAll(text: string, names: ReadonlySet<DetectorName>): Found[] {
  const found: Found[] = findSecrets(text)
    .map(({ start, end, rule }) => ({
      start,
      end,
      name: rule === 'ssn' ? ('us-ssn' as const) : rule,
    }))
    .filter(({ name }) => names.has(name))
  const plain = flatten(text)
  for (const name of names) {
    if (name === 'us-ssn' || name === 'payment-card') continue
    const { pattern, check, words } = PATTERNS[name]
    for (const { 0: raw, index } of plain.text.matchAll(pattern)) {
      const digits = Array.from(raw.replaceAll(/[^\da-z]/gi, ''), (sign) => parseInt(sign, 36))
      if (check?.(Uint8Array.from(digits), digits.length) === false) continue
      if (/^\d+$/.test(raw) && words !== undefined && !isNear(words, plain.text, index)) continue
      found.push({ start: plain.at(index), end: plain.at(index + raw.length - 1) + 1, name })
    }
  }
  // What is equal stays as it is.
  found.sort((a, b) => a.start - b.start || b.end - a.end)
  const apart: Found[] = []
  for (const one of found) {
    const last = apart.at(-1)
    if (last === undefined || one.start >= last.end) apart.push(one)
    else if (one.end > last.end) apart[apart.length - 1] = { ...last, end: one.end }
  }
  return apart
}

/** Whether one of the words begins within 40 signs before a place. */
function isNear(words: RegExp, text: string, place: number): boolean {
  const search = new RegExp(words, 'gi')
  search.lastIndex = Math.max(0, place - 40)
  return (search.exec(text)?.index ?? Infinity) < place
}

/** A text as its reader sees it, one step after the other; of markup what {@link PARTS} have. */
export function plainShown(text: string): string {
  const bare = /[<&]/.test(text) ? withoutMarkup(text) : text
  if (/^[\t\n\r -~]*$/.test(bare)) return bare
  return bare
    .replace(/[\p{DI}\p{Cf}\p{M}]|(?![\t-\r\u0085])\p{Cc}/gu, '')
    .normalize('NFKC')
    .replace(/\p{Nd}/gu, (digit) => flatten(digit).text)
}

function withoutMarkup(text: string): string {
  return text
    .replace(/<!--[^]*?-->/g, '')
    .replace(
      /<!\[CDATA\[|\]\]>|<\/?([A-Za-z][\w:.-]{0,40})(?:[^<>"']|"[^"<]*"|'[^'<]*')*>/g,
      (_, name?: string) => (/^(?:p|td|br|blockquote)$/i.test(name ?? '') ? ' | ' : ''),
    )
    .replace(
      /&(?:#(\d{1,7});?|#[xX]([\dA-Fa-f]{1,6});?|(nbsp|amp|lt|shy|ndash|commat);)/g,
      (whole: string, decimal?: string, hexadecimal?: string, name?: string) => {
        if (name !== undefined) return NAMED[name] ?? whole
        const code = decimal === undefined ? parseInt(hexadecimal ?? '', 16) : Number(decimal)
        return code <= 0x10ffff ? String.fromCodePoint(code) : whole
      },
    )
}
const NAMED: Readonly<Record<string, string>> = {
  nbsp: ' ',
  amp: '&',
  lt: '<',
  shy: '',
  ndash: '-',
  commat: '@',
}

const parts = (text: string): readonly string[] => text.split('~')

/** Parts of texts: numbers that detectors look for and nearly do, words, what stands between, markup. */
export const PARTS: readonly string[] = [
  ...parts(
    '912-78-1234~912781234~1EG4-TE5-MK73~1EG4TE5MK73~AB1234563~943 476 5919~9434765919~9434',
  ),
  ...parts(
    '046 454 286~046-454-286~046454286~X110406067~1 84 12 76 451 089 46~184122A45108946~111222333',
  ),
  ...parts(
    '8003608166690503~8003 6081 6669 0503~2123 45670 1~2123 45670 1 2~2123456701~529.982.247-25',
  ),
  ...parts(
    '52998224725~RSSMRA85T10A562S~85.07.30-033.28~85073003328~811218-9876~19811218-9876~010100',
  ),
  ...parts(
    '131052-308T~131052A308T~12345678Z~X1234567-L~44051401359~ZZZ0016~2341 2341 2346~234123412346',
  ),
  ...parts(
    'GB82 WEST 1234 5698 7654 32~GB82WEST12345698765432~GB82 WEST 1234~NL91ABNA0417164300~AB12',
  ),
  ...parts(
    '+1 (555) 123-4567~555-123-4567~(555) 123.4567~+4930123456~+49 30 12~a.b@example.org~a@b.c~@',
  ),
  ...parts(
    "(617)555-1234~617/555-1234~1-800-555-1234~+49 (0)30 1234567~tel~6175551234~o'b@x.org~jö@ö.de~a@localhost",
  ),
  ...parts('fe80::1~2001:db8::1:2~a::b~DE89-3704-0044-0532-0130-00~1EG4 TE5 MK73~/~+1/~ö~é'),
  ...parts(
    'http://x.org/y?z~ftp://~ftp://x~www.abc~www.~10.0.0.1~256.1.1.1~2001:db8:0:1::~a:b:c::d~1:2:',
  ),
  ...parts(
    '123-45-6789~123456789~4111 1111 1111 1111~4111111111111111~4111~19~20~9~1~0~33~26010112345',
  ),
  ...parts(
    'itin~tax~nhs~sin~nas~cosin~sinus~insurance~bsn~medicare~cpf~ssin~person~pesel~aadhaar~ssn~x_',
  ),
  ...parts(`A~b~ ~  ~\t~\n~-~ - ~.~,~:~;~/~_~+~(~)~@~"~'~|~%~${' '.repeat(29)}~${'x'.repeat(70)}`),
  ...parts(
    '\u00a0~\u2011~\u200b~\u00ad~\u2212~\u2028~é~ſ~\u212a~１~４~٣~𝟒~\u{1e951}~\ud835~\udfd0~\u0007~²~㉑',
  ),
  ...parts(
    '\u0301~<b>~</b>~<p>~</p>~<TD>~<br/>~<blockquote>~<br.~<a b="x>y">~<x:y>~<b\ty=\'1\'>~<1>~</>~<~>',
  ),
  ...parts(
    '<!-- -->~<!--x-->~<!--~-->~<![CDATA[~]]>~]]~&#49;~&#4~&#x34;~&#X3~&#1234567890~&#0;~&#x110000;',
  ),
  ...parts(
    '&#55349;~&#57296;~&#x1d7ce;~&nbsp;~&shy;~&amp;~&lt;~&ndash;~&commat;~&commat~&zzz;~&~&#~&#x~&;',
  ),
]

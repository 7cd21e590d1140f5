import { asciiDigit, CodePoints, DASH_SIGN, textOfUnits, UNSEEN_SIGN } from './code-points.ts'

export type PlainText = {
  readonly text: string
  /** Where a sign of it stood in the text that it was made of. */
  readonly at: (index: number) => number
}

/** The text with ASCII digits, spaces and dashes, without what cannot be seen. */
export function flatten(text: string): PlainText {
  if (/^[\t\n\r -~]*$/.test(text)) return { text, at: (index) => index }
  const places = new Uint32Array(text.length)
  const units = new Uint16Array(text.length)
  let length = 0
  for (let at = 0; at < text.length; at++) {
    const code = text.codePointAt(at) ?? 0
    const plain = PLAIN.of(code)
    if (plain !== UNSEEN) {
      places[length] = at
      units[length++] = plain
    }
    if (code > 0xffff) at++
  }
  return {
    text: textOfUnits(units, length),
    at: (index) => (index < length ? (places[index] ?? 0) : text.length),
  }
}

const UNSEEN = 0xfffe
const PLAIN = new CodePoints((code) => {
  const sign = String.fromCodePoint(code)
  if (UNSEEN_SIGN.test(sign)) return UNSEEN
  const digit = asciiDigit(code)
  if (digit !== undefined) return digit
  const plain = /\p{Zs}/u.test(sign) ? ' ' : DASH_SIGN.test(sign) ? '-' : sign.normalize('NFKC')
  return plain.length === 1 ? plain.charCodeAt(0) : 0xfffd
})

import type { Edit } from '../../json/tape.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, endOf, flagsOf, kindOf, nameOf, startOf, textOf } from '../../json/tape.ts'
import { FLAG } from '../../json/token.ts'
import type { Context } from './context.ts'
import { ADDRESS, BASED } from './vocabulary.ts'

type Addresses = Pick<
  Context,
  'upstreamUrl' | 'upstreamBytes' | 'upstreamSpelt' | 'publicUrl' | 'publicText'
>

/** Of a context: upstream's base, and ours in place of it. */
export const addressesOf = (upstreamUrl: string, publicUrl: string): Addresses => ({
  upstreamUrl,
  upstreamBytes: Buffer.from(upstreamUrl),
  upstreamSpelt: [upstreamUrl, upstreamUrl.replaceAll('/', '\\/')].map((text) => Buffer.from(text)),
  publicUrl,
  publicText: JSON.stringify(publicUrl).slice(1, -1),
})

/**
 * Our address in place of upstream's (REST-10), structurally: only where a URL can stand, and only
 * when the whole base is there, so that `http://up/base-two` is not taken for `http://up/base`.
 */
export function rewriteUrl(
  tape: Tape,
  entry: number,
  flags: number,
  context: Context,
): Edit | undefined {
  const { upstreamBytes, publicText } = context
  const start = startOf(tape, entry)
  const end = endOf(tape, entry)
  const { length } = upstreamBytes
  if (end - start - 2 < length) return undefined
  if ((flags & FLAG.escaped) !== 0) {
    const text = textOf(tape, entry) ?? ''
    const ours = publicOf(text, context)
    return ours === text ? undefined : { start, end, text: JSON.stringify(ours) }
  }
  // Most references are relative and most URLs elsewhere: the bytes tell without making a string.
  const { bytes } = tape
  // The end first: most addresses begin alike.
  for (let n = length - 1; n >= 0; n--) {
    if (bytes[start + 1 + n] !== upstreamBytes[n]) return undefined
  }
  const next = bytes[start + 1 + length] as number
  const isWhole = next === QUOTE || next === SLASH || next === QUESTION || next === HASH
  return isWhole ? { start: start + 1, end: start + 1 + length, text: publicText } : undefined
}

const QUOTE = 0x22
const SLASH = 0x2f
const QUESTION = 0x3f
const HASH = 0x23

/** The same for one string, added to `edits`. */
export function releaseAddress(tape: Tape, entry: number, context: Context, edits: Edit[]): void {
  if (kindOf(tape, entry) !== KIND.string) return
  const edit = rewriteUrl(tape, entry, flagsOf(tape, entry), context)
  if (edit !== undefined) edits.push(edit)
}

/** The same wherever it stands in a narrative, as links do. */
export function rewriteWithin(
  tape: Tape,
  div: number,
  { upstreamSpelt, publicText }: Context,
  edits: Edit[],
): void {
  if (div < 0 || kindOf(tape, div) !== KIND.string) return
  const start = startOf(tape, div)
  const text = tape.bytes.subarray(start, endOf(tape, div))
  for (const base of upstreamSpelt) {
    for (let at = text.indexOf(base); at >= 0; at = text.indexOf(base, at + base.length)) {
      const end = at + base.length
      if (GOES_ON.test(text.toString('latin1', end, end + 2))) continue
      edits.push({ start: start + at, end: start + end, text: publicText })
    }
  }
}
/** The address is that of something else, as `http://up/base-two`. */
const GOES_ON = /^(?:[\w~%-]|[.:]\w)/

/** The same for every address in a value. */
export function rewriteUrls(tape: Tape, value: number, context: Context, edits: Edit[]): void {
  const { notable, at } = context.words
  const end = after(tape, value)
  for (let entry = value; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.string) continue
    const name = nameOf(tape, entry)
    const mark = notable[name + 1]
    if (mark === ADDRESS || mark === BASED) releaseAddress(tape, entry, context, edits)
    else if (name === at.div) rewriteWithin(tape, entry, context, edits)
  }
}

/** The same address at our base, when it is one of upstream's. */
export function publicOf(text: string, { upstreamUrl, publicUrl }: Context): string {
  const next = text[upstreamUrl.length]
  if (!text.startsWith(upstreamUrl) || (next !== undefined && !'/?#'.includes(next))) return text
  return publicUrl + text.slice(upstreamUrl.length)
}

import type { Edit } from '../../json/edit.ts'
import type { Tape } from '../../json/scan.ts'
import { after, endOf, startOf, textOf, walk } from '../../json/tape.ts'
import { FLAG } from '../../json/token.ts'
import type { Context } from './context.ts'

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
  const { upstreamUrl } = context
  const start = startOf(tape, entry)
  const end = endOf(tape, entry)
  if (end - start - 2 < upstreamUrl.length) return undefined
  if ((flags & FLAG.escaped) === 0) {
    // Most references are relative and most URLs elsewhere: the bytes tell without making a string.
    for (let n = 0; n < upstreamUrl.length; n++) {
      if (tape.bytes[start + 1 + n] !== upstreamUrl.charCodeAt(n)) return undefined
    }
  }
  const text = textOf(tape, entry) ?? ''
  const ours = publicOf(text, context)
  return ours === text ? undefined : { start, end, text: JSON.stringify(ours) }
}

/** The same for every address in a value. */
export function rewriteUrls(tape: Tape, value: number, context: Context, edits: Edit[]): void {
  const { addresses, notable } = context.words
  const visitor = {
    notable,
    members: 0,
    string(entry: number, name: number, flags: number): void {
      const edit = addresses.has(name) ? rewriteUrl(tape, entry, flags, context) : undefined
      if (edit !== undefined) edits.push(edit)
    },
    key: () => undefined,
    object: () => undefined,
  }
  walk(tape, value, visitor, after(tape, value))
}

/** The same address at our base, when it is one of upstream's. */
export function publicOf(text: string, { upstreamUrl, publicUrl }: Context): string {
  const next = text[upstreamUrl.length]
  if (!text.startsWith(upstreamUrl) || (next !== undefined && !'/?#'.includes(next))) return text
  return publicUrl + text.slice(upstreamUrl.length)
}

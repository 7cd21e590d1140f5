import { splice } from '../../json/edit.ts'
import type { Edit } from '../../json/edit.ts'
import { KIND } from '../../json/scan.ts'
import type { Room, Tape } from '../../json/scan.ts'
import { after, endOf, kindOf, nameOf, startOf } from '../../json/tape.ts'
import type { Tally } from '../../exchange.ts'
import type { Terms } from '../../permit.ts'
import { judge } from './judge.ts'
import type { Verdict } from './judge.ts'
import { planMasking } from './mask.ts'
import type { BundleWords, Vocabulary } from './vocabulary.ts'

/** What every part of release needs to know; made once. */
export type Context = {
  readonly words: Vocabulary
  readonly bundleWords: BundleWords
  readonly upstreamUrl: string
  readonly publicUrl: string
  readonly maximumDepth: number
  /** One tape at a time: whoever scans is done with the last one. */
  readonly room: Room
}

/** Judges one resource and plans its edits; undefined = withheld. Counts either way. */
export function releaseResource(
  tape: Tape,
  object: number,
  terms: Terms,
  context: Context,
  tally: Tally,
): { readonly verdict: Verdict; readonly edits: Edit[] } | undefined {
  const { words, upstreamUrl, publicUrl } = context
  tally.inspected += 1
  const verdict = judge(tape, object, terms, words, [upstreamUrl, publicUrl])
  if (verdict.withheld !== undefined) {
    tally.withheld += 1
    return undefined
  }
  const { edits, counts } = planMasking(tape, object, terms.masking, words)
  edits.push(...rewriteUrls(tape, object, context))
  tally.released += 1
  for (const [rule, count] of counts) tally.masked.set(rule, (tally.masked.get(rule) ?? 0) + count)
  for (const patient of verdict.patients) tally.patients.add(patient)
  return { verdict, edits }
}

/** The bytes of a resource with its edits. */
export function bytesOf(tape: Tape, object: number, edits: readonly Edit[]): Buffer {
  return splice(tape.bytes, edits, startOf(tape, object), endOf(tape, object))
}

/**
 * Our address in place of upstream's (REST-10), structurally: only where a URL can stand, and only
 * when the whole base is there, so that `http://up/base-two` is not taken for `http://up/base`.
 */
export function rewriteUrls(tape: Tape, value: number, context: Context): Edit[] {
  const { addresses } = context.words
  const shortest = context.upstreamUrl.length
  const first = context.upstreamUrl.charCodeAt(0)
  const edits: Edit[] = []
  const end = after(tape, value)
  for (let entry = value; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.string) continue
    const start = startOf(tape, entry) + 1
    const finish = endOf(tape, entry) - 1
    if (finish - start < shortest) continue
    // Cheap first: what starts otherwise, and not with an escape, is another URL or none.
    if (tape.bytes[start] !== first && tape.bytes[start] !== 0x5c) continue
    if (!addresses.has(nameOf(tape, entry))) continue
    const text = JSON.parse(tape.bytes.toString('utf8', start - 1, finish + 1)) as string
    const ours = publicOf(text, context)
    if (ours !== text) edits.push({ start: start - 1, end: finish + 1, text: JSON.stringify(ours) })
  }
  return edits
}

/** The same address at our base, when it is one of upstream's. */
export function publicOf(text: string, { upstreamUrl, publicUrl }: Context): string {
  const next = text[upstreamUrl.length]
  if (!text.startsWith(upstreamUrl) || (next !== undefined && !'/?#'.includes(next))) return text
  return publicUrl + text.slice(upstreamUrl.length)
}

import type { Tally } from '../../exchange.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import { removeMembers, splice } from '../../json/edit.ts'
import type { Edit } from '../../json/edit.ts'
import type { Tape } from '../../json/scan.ts'
import { elements, endOf, member, nameOf, startOf } from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import { releaseResource, rewriteUrls } from './resource.ts'
import type { Context } from './resource.ts'
import { Refusal } from '../../refusal.ts'

/**
 * The edits that leave of a Bundle what may be seen. Entries without a resource (a deletion in a
 * history) cannot be judged and go; `total` goes, because it counts what other pages withhold
 * (REST-11); links go but for a self link that says what was asked (paging is sealed in a later
 * version); members nobody knows go.
 */
export function releaseBundle(tape: Tape, permit: Permit, context: Context, tally: Tally): Edit[] {
  const { at } = context.words
  const edits: Edit[] = []
  const kept = new Set([at.resourceType, at.id, at.meta, at.type, at.timestamp, at.link, at.entry])
  edits.push(...removeMembers(tape, 0, (key) => !kept.has(nameOf(tape, key))))
  const link = member(tape, 0, at.link)
  if (link >= 0) {
    edits.push({
      start: startOf(tape, link),
      end: endOf(tape, link),
      text: selfLinks(permit, context),
    })
  }
  const entry = member(tape, 0, at.entry)
  const pieces: Buffer[] = []
  let dropped = false
  const inner: Edit[] = []
  for (const element of elements(tape, entry)) {
    const released = releaseEntry(tape, element, permit, context, tally)
    if (released === undefined) {
      dropped = true
      continue
    }
    inner.push(...released)
    pieces.push(splice(tape.bytes, released, startOf(tape, element), endOf(tape, element)))
  }
  if (!dropped) return [...edits, ...inner]
  return [
    ...edits,
    {
      start: startOf(tape, entry),
      end: endOf(tape, entry),
      text: `[${pieces.map((piece) => piece.toString('utf8')).join(',')}]`,
    },
  ]
}

/** The edits of one entry, or undefined: the whole entry is withheld. */
export function releaseEntry(
  tape: Tape,
  element: number,
  permit: Permit,
  context: Context,
  tally: Tally,
): Edit[] | undefined {
  const { at } = context.words
  const resource = member(tape, element, at.resource)
  if (resource < 0) {
    tally.inspected += 1
    tally.withheld += 1
    return undefined
  }
  const released = releaseResource(tape, resource, permit.terms, context, tally)
  if (released === undefined) return undefined
  const known = new Set([at.fullUrl, at.resource, at.search, at.request, at.response])
  const edits = removeMembers(tape, element, (key) => !known.has(nameOf(tape, key)))
  for (const beside of [at.fullUrl, at.response]) {
    const value = member(tape, element, beside)
    if (value >= 0) edits.push(...rewriteUrls(tape, value, context))
  }
  return [...edits, ...released.edits]
}

/** Bundle.link: what was asked, at our address; what narrowing added does not show. */
export function selfLinks(permit: Permit, { publicUrl }: Context): string {
  const { path, query, form } = formatInteraction(permit.requested)
  const asked = form === undefined ? query : form
  const url = publicUrl + path.replace(/\/_search$/, '') + (asked === '' ? '' : `?${asked}`)
  return `[{"relation":"self","url":${JSON.stringify(url)}}]`
}

/** What a Bundle that is not what it should be comes to. */
export function unreadable(detail: string, cause?: unknown): Refusal {
  return new Refusal('upstream-unreadable', { detail, ...(cause === undefined ? {} : { cause }) })
}

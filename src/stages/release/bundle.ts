import type { Tally } from '../../exchange.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import type { Edit } from '../../json/tape.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { elements, endOf, kindOf, member, startOf, textOf } from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import type { Context } from './context.ts'
import { formatMark, hiddenOf } from './frame.ts'
import { keepOnly, releaseEntries, without } from './entry.ts'
import { createTrail } from './trail.ts'
import { Refusal } from '../../refusal.ts'

/**
 * The edits that leave of a Bundle what may be seen. Entries without a resource (a deletion in a
 * history) cannot be judged and go; `total` goes, because it counts what other pages withhold
 * (REST-11); links become ours; members nobody knows go.
 */
export function releaseBundle(tape: Tape, permit: Permit, context: Context, tally: Tally): Edit[] {
  const { at } = context.words
  const edits: Edit[] = []
  const link = member(tape, 0, at.link)
  if (link >= 0) {
    const text = formatLinks(permit, readPages(tape, link, context), context)
    edits.push({ start: startOf(tape, link), end: endOf(tape, link), text })
  }
  const entry = member(tape, 0, at.entry)
  if (entry >= 0 && kindOf(tape, entry) !== KIND.array) throw unreadable('entries that are no list')
  const before = tally.withheld
  const trail = permit.terms.follows && createTrail(permit.terms.follows, tally)
  const { left, withheld } = releaseEntries(tape, entry, permit, context, tally, edits, trail)
  // What was led to by what came after it; without anything to lead to it there is none.
  for (const text of trail?.rest() ?? []) {
    const last = endOf(tape, entry) - 1
    edits.push({ start: last, end: last, text: `,${text.toString('utf8')}` })
  }
  if (permit.terms.tellsWithheld === true && tally.withheld > before) {
    if (left === 0) {
      const whole = { start: startOf(tape, entry), end: endOf(tape, entry) }
      const { bundle } = context.bundleWords
      return [
        ...keepOnly(tape, 0, bundle, context.bundleWords),
        ...edits,
        { ...whole, text: `[${SUPPRESSED}]` },
      ]
    }
    const last = endOf(tape, entry) - 1
    edits.push({ start: last, end: last, text: `,${SUPPRESSED}` })
  }
  // FHIR knows no empty list: without entries the member goes as well.
  const { bundle, empty } = context.bundleWords
  const isTimed = !hiddenOf(permit, context).time
  const shown = left > 0 ? bundle : empty
  const kept = keepOnly(
    tape,
    0,
    isTimed ? shown : without(shown, at.timestamp),
    context.bundleWords,
  )
  const mark = formatMark(tally)
  const marks =
    mark === undefined
      ? []
      : [{ start: startOf(tape, 0) + 1, end: startOf(tape, 0) + 1, text: `${mark},` }]
  return [...marks, ...kept, ...edits, ...withheld]
}

/**
 * BTG-2, security-labels.html#break-the-glass: who is entitled to break glass is told that there is
 * more. Everybody else is left blind.
 */
export const SUPPRESSED = JSON.stringify({
  resource: {
    resourceType: 'OperationOutcome',
    issue: [
      {
        severity: 'information',
        code: 'suppressed',
        details: {
          coding: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-ActReason', code: 'BTG' }],
          text: 'Something was withheld. In an emergency repeat the request with X-Break-Glass-Reason, for one patient.',
        },
      },
    ],
  },
  search: { mode: 'outcome' },
})

/** Links of a Bundle by which a client goes on; a search says `previous`, some servers `prev`. */
const PAGES = new Set(['next', 'prev', 'previous', 'first', 'last'])

/** The pages that upstream offers, each as an address below its base: those alone are followed. */
export function readPages(
  tape: Tape,
  link: number,
  { words: { at }, bases }: Context,
): readonly (readonly [relation: string, target: string])[] {
  const pages: [string, string][] = []
  for (const element of elements(tape, link)) {
    const relation = textOf(tape, member(tape, element, at.relation)) ?? ''
    const url = textOf(tape, member(tape, element, at.url)) ?? ''
    const target = below(url, bases)
    if (PAGES.has(relation) && target !== undefined) pages.push([relation, target])
  }
  return pages
}

/** The part of an address that follows one of our bases; undefined for any other address. */
export function below(url: string, bases: readonly string[]): string | undefined {
  const base = bases.find((one) => url.startsWith(one) && /^[/?]/.test(url.slice(one.length)))
  if (base === undefined) return undefined
  const target = url.slice(base.length)
  const path = target.replace(/\?.*$/, '')
  const isPlain = /^[\x21-\x7e]*$/.test(target) && !/[\\#]/.test(target)
  // What a server could read as another path than the one below its base is not followed.
  return isPlain && !/%|\/\.{0,2}(?:\/|$)/.test(path === '/' ? '' : path) ? target : undefined
}

/**
 * Bundle.link: what was asked, at our address (what narrowing added does not show), and the further
 * pages, sealed for who asked (REST-9).
 */
export function formatLinks(
  permit: Permit,
  pages: ReturnType<typeof readPages>,
  { publicUrl }: Context,
): string {
  const { path, query, form } = formatInteraction(permit.requested)
  const asked = form === undefined ? query : form
  const url = publicUrl + path.replace(/\/_search$/, '') + (asked === '' ? '' : `?${asked}`)
  const links = [{ relation: 'self', url }]
  for (const [relation, target] of pages) {
    if (permit.pageLink === undefined) break
    links.push({ relation, url: `${publicUrl}?_cursor=${permit.pageLink(target)}` })
  }
  return JSON.stringify(links)
}

/** What a Bundle that is not what it should be comes to. */
export function unreadable(detail: string, cause?: unknown): Refusal {
  return new Refusal('upstream-unreadable', { detail, ...(cause === undefined ? {} : { cause }) })
}

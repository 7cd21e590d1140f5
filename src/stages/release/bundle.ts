import { formatInteraction } from '../../fhir/interaction.ts'
import { below } from '../../fhir/reference.ts'
import type { Tape } from '../../json/tape.ts'
import { elements, member, textOf } from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import type { Context } from './context.ts'
import type { Page } from './page.ts'
import { Refusal } from '../../refusal.ts'

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

/**
 * The page that upstream offers next, as an address below its base: no other is followed. Pages go forward
 * alone: one before the first, or a last one, would tell what has been withheld between (REST-11).
 */
export function readNext(
  tape: Tape,
  link: number,
  { words: { at }, bases }: Context,
): string | undefined {
  for (const element of elements(tape, link)) {
    if (textOf(tape, member(tape, element, at.relation)) !== 'next') continue
    const target = below(textOf(tape, member(tape, element, at.url)) ?? '', bases)
    if (target !== undefined) return target
  }
  return undefined
}

/**
 * Bundle.link: what was asked, at our address (what narrowing added does not show), and the next page,
 * sealed for who asked (REST-9).
 */
export function formatLinks(permit: Permit, page: Page, { publicUrl }: Context): string {
  const { path, query, form } = formatInteraction(permit.requested)
  const asked = form === undefined ? query : form
  const url = publicUrl + path.replace(/\/_search$/, '') + (asked === '' ? '' : `?${asked}`)
  const links = [{ relation: 'self', url }]
  const next = page.next()
  if (next !== undefined && permit.paging !== undefined) {
    const cursor = permit.paging.link(next.place, next.size)
    links.push({ relation: 'next', url: `${publicUrl}?_cursor=${cursor}` })
  }
  return JSON.stringify(links)
}

/** What a Bundle that is not what it should be comes to. */
export function unreadable(detail: string, cause?: unknown): Refusal {
  return new Refusal('upstream-unreadable', { detail, ...(cause === undefined ? {} : { cause }) })
}

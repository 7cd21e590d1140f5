import type { Tally } from '../../exchange.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import { removeElements, removeMembers } from '../../json/edit.ts'
import type { Edit } from '../../json/edit.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import {
  after,
  elements,
  endOf,
  isContainer,
  kindOf,
  member,
  nameOf,
  startOf,
  textOf,
} from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import { publicOf, rewriteUrls } from './address.ts'
import type { Context } from './context.ts'
import { releaseResource } from './resource.ts'
import type { Beside, BundleWords } from './vocabulary.ts'
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
  let left = 0
  const withheld = removeElements(tape, entry, (element) => {
    const released = releaseEntry(tape, element, permit, context, tally)
    if (released === undefined) return true
    left += 1
    edits.push(...released)
    return false
  })
  // FHIR knows no empty list: without entries the member goes as well.
  const { bundle, empty } = context.bundleWords
  const kept = keepOnly(tape, 0, left > 0 ? bundle : empty, context.bundleWords)
  return [...kept, ...edits, ...withheld]
}

/** The edits of one entry, or undefined: the whole entry is withheld. */
export function releaseEntry(
  tape: Tape,
  element: number,
  permit: Permit,
  context: Context,
  tally: Tally,
): readonly Edit[] | undefined {
  const { at } = context.words
  const resource = member(tape, element, at.resource)
  if (resource < 0) {
    tally.inspected += 1
    tally.withheld += 1
    return undefined
  }
  const released = releaseResource(tape, resource, permit.terms, context, tally)
  if (released === undefined) return undefined
  const edits = [...released.edits]
  const { entry, beside } = context.bundleWords
  const end = after(tape, element)
  let isPlain = true
  for (let key = element + 1; key < end; key = after(tape, key + 1)) {
    const name = nameOf(tape, key)
    if (name === at.resource) continue
    if (name === at.fullUrl) rewriteUrls(tape, key + 1, context, edits)
    // Beside the resource stands what upstream says of it, its outcome and criteria among it:
    // nobody judges those, so only what is named stays.
    const part = beside.get(name)
    if (part !== undefined && kindOf(tape, key + 1) === KIND.object) {
      releaseBeside(tape, key + 1, part, context, edits)
    } else if (part !== undefined || name !== at.fullUrl || isContainer(tape, key + 1))
      isPlain = false
  }
  if (!isPlain) edits.push(...keepOnly(tape, element, entry, context.bundleWords))
  return edits
}

/** `search`, `request` or `response` of an entry. */
function releaseBeside(
  tape: Tape,
  value: number,
  { kept, hasAddress }: Beside,
  context: Context,
  edits: Edit[],
): void {
  edits.push(...keepOnly(tape, value, kept, context.bundleWords))
  if (hasAddress) releaseAddresses(tape, value, context, edits)
}

/** The addresses of a request or response, without the criteria of a conditional write. */
function releaseAddresses(tape: Tape, value: number, context: Context, edits: Edit[]): void {
  const url = member(tape, value, context.words.at.url)
  const text = textOf(tape, url)
  if (text?.includes('?') !== true) {
    rewriteUrls(tape, value, context, edits)
    return
  }
  // Criteria may name what is masked elsewhere.
  const bare = publicOf(text.slice(0, text.indexOf('?')), context)
  edits.push({ start: startOf(tape, url), end: endOf(tape, url), text: JSON.stringify(bare) })
}

/** Takes out of an object every member that is not named, or holds more than a simple value. */
function keepOnly(
  tape: Tape,
  object: number,
  kept: ReadonlySet<number>,
  { nested, beside }: BundleWords,
): Edit[] {
  return removeMembers(tape, object, (key) => {
    const name = nameOf(tape, key)
    if (!kept.has(name)) return true
    if (beside.has(name)) return kindOf(tape, key + 1) !== KIND.object
    return isContainer(tape, key + 1) && !nested.has(name)
  })
}

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
function below(url: string, bases: readonly string[]): string | undefined {
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

import type { Tally } from '../../exchange.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import { orderEdits, removeElements, removeMembers } from '../../json/edit.ts'
import type { Edit } from '../../json/tape.ts'
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
import { publicOf, releaseAddress, rewriteUrls } from './address.ts'
import type { Hidden } from './compile-masking.ts'
import type { Context } from './context.ts'
import { formatMark, hiddenIn, hiddenOf } from './frame.ts'
import { pseudonym } from './methods.ts'
import { releaseResource, viewerOf } from './resource.ts'
import type { Released } from './resource.ts'
import { isIn } from './vocabulary.ts'
import type { Beside, BundleWords, NameSet } from './vocabulary.ts'
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
  const { left, withheld } = releaseEntries(tape, entry, permit, context, tally, edits)
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

/**
 * Adds the edits of those entries of a list that leave, in order. Answers how many do, and the edits
 * that take out the others.
 */
export function releaseEntries(
  tape: Tape,
  list: number,
  permit: Permit,
  context: Context,
  tally: Tally,
  edits: Edit[],
): { readonly left: number; readonly withheld: readonly Edit[] } {
  let left = 0
  const withheld = removeElements(tape, list, (element) => {
    const released = releaseEntry(tape, element, permit, context, tally)
    if (released === undefined) return true
    left += 1
    for (const edit of released) edits.push(edit)
    return false
  })
  return { left, withheld }
}

/** The edits of one entry, or undefined: the whole entry is withheld. */
function releaseEntry(
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
  const edits: Edit[] = []
  const { besideOf } = context.bundleWords
  const { maskings } = released.verdict
  const view = maskings.length === 0 ? undefined : viewOf(released, permit, context)
  const entry =
    released.renamed === 'gone' ? context.bundleWords.nameless : context.bundleWords.entry
  const end = after(tape, element)
  let isPlain = true
  for (let key = element + 1; key < end; key = after(tape, key + 1)) {
    const name = nameOf(tape, key)
    if (name === at.resource) {
      for (const edit of orderEdits(released.edits)) edits.push(edit)
      continue
    }
    const isSimple = !isContainer(tape, key + 1)
    if (name === at.fullUrl && isSimple) {
      if (view?.rename !== undefined) renameAddress(tape, key + 1, view, edits)
      else releaseAddress(tape, key + 1, context, edits)
      if (isIn(entry, name)) continue
    }
    // Beside the resource stands what upstream says of it, its outcome and criteria among it:
    // nobody judges those, so only what is named stays.
    const part = besideOf[name + 1]
    if (part !== undefined && isIn(entry, name) && kindOf(tape, key + 1) === KIND.object) {
      releaseBeside(tape, key + 1, part, context, edits, view)
    } else if (part !== undefined || !isIn(entry, name) || !isSimple) isPlain = false
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
  view: View | undefined,
): void {
  const { at } = context.words
  let shown = kept
  if (view?.version === true && isIn(kept, at.etag)) shown = without(shown, at.etag)
  if (view?.time === true && isIn(kept, at.lastModified)) shown = without(shown, at.lastModified)
  for (const edit of keepOnly(tape, value, shown, context.bundleWords)) edits.push(edit)
  if (!hasAddress) return
  if (view?.rename === undefined) releaseAddresses(tape, value, context, edits)
  else {
    for (const name of [at.url, at.location])
      renameAddress(tape, member(tape, value, name), view, edits)
  }
}

/** What may be seen beside a resource of which something is masked. */
type View = Hidden & {
  /** The address under which the caller knows it; undefined = its own. */
  readonly rename: ((address: string) => string) | undefined
}

function viewOf({ verdict, renamed }: Released, permit: Permit, context: Context): View {
  const viewer = viewerOf(verdict, permit.terms, context)
  const rename = (address: string): string => {
    if (viewer === undefined) return ''
    const { methods } = viewer
    const query = address.indexOf('?')
    const named = pseudonym(query < 0 ? address : address.slice(0, query), 'uri', methods)
    return /^[A-Z]/.test(named) ? `${context.publicUrl}/${named}` : named
  }
  const hidden = hiddenIn(verdict)
  // Also where the resource itself does not say its id.
  return { ...hidden, rename: renamed === undefined && !hidden.id ? undefined : rename }
}

/** Puts the address that the caller knows in place of one of upstream's, if it names a resource. */
function renameAddress(tape: Tape, value: number, view: View | undefined, edits: Edit[]): void {
  const text = textOf(tape, value)
  if (text === undefined || !/[/:]/.test(text)) return
  const renamed = view?.rename?.(text) ?? ''
  edits.push({
    start: startOf(tape, value),
    end: endOf(tape, value),
    text: JSON.stringify(renamed),
  })
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
function keepOnly(tape: Tape, object: number, kept: NameSet, words: BundleWords): readonly Edit[] {
  return removeMembers(tape, object, (key) => goes(tape, key, kept, words))
}

function goes(tape: Tape, key: number, kept: NameSet, { nested, besideOf }: BundleWords): boolean {
  const name = nameOf(tape, key)
  if (!isIn(kept, name)) return true
  const isBeside = besideOf[name + 1] !== undefined
  if (!isContainer(tape, key + 1)) return isBeside
  return isBeside ? kindOf(tape, key + 1) !== KIND.object : !isIn(nested, name)
}

function without(set: NameSet, name: number): NameSet {
  const left = Uint8Array.from(set)
  left[name + 1] = 0
  return left
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

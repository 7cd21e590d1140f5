import type { Tally } from '../../exchange.ts'
import { orderEdits, removeElements, removeMembers } from '../../json/edit.ts'
import type { Edit } from '../../json/tape.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import {
  after,
  endOf,
  flagsOf,
  isContainer,
  kindOf,
  member,
  nameOf,
  startOf,
  textOf,
} from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import { publicOf, releaseAddress, rewriteUrl, rewriteUrls } from './address.ts'
import { isFullUrl } from './forms.ts'
import type { Hidden } from './mask/compile-masking.ts'
import type { Context } from './context.ts'
import { hiddenIn } from './frame.ts'
import { planMasking } from './mask/plan-masking.ts'
import { identify } from './judge.ts'
import { isFound, releaseResource } from './resource.ts'
import { pseudonym } from './mask/pseudonyms.ts'
import type { Released } from './resource.ts'
import { addCounts, newTally } from './tally.ts'
import type { Page } from './page.ts'
import type { Trail } from './trail.ts'
import { isIn } from './vocabulary.ts'
import type { Beside, BundleWords, NameSet } from './vocabulary.ts'

/** What the entries of a list are released with. */
type Parts = {
  readonly permit: Permit
  readonly context: Context
  readonly tally: Tally
  /** Where those of an entry that leaves are added, in order. */
  readonly edits: Edit[]
  /** What has been released before, if that matters. */
  readonly seen: ReadonlySet<string> | undefined
}

/** The same, counted apart, as long as it is not known whether an entry leaves. */
const apart = (parts: Parts): Parts => ({ ...parts, tally: newTally(new Set()), edits: [] })

/** Which of the entries leave that may: on this page, and where links are followed by one of those. */
type Gate = { readonly page: Page; readonly trail: Trail | undefined }

/**
 * Adds the edits of those entries of a list that leave, in order. Answers how many do, where the last
 * entry ends, and the edits that take out the others. Commas alone stand between them then.
 */
export function releaseEntries(
  tape: Tape,
  list: number,
  { permit, context, tally, edits }: Omit<Parts, 'seen'>,
  { page, trail }: Gate,
): { readonly left: number; readonly end: number; readonly withheld: readonly Edit[] } {
  const parts = { permit, context, tally, edits, seen: tally.seen }
  let left = 0
  const known = new Map<number, Common>()
  /** Compared only when there is one that others could be like. */
  let pairs: Int32Array | undefined
  let pair = 0
  const mayLeave = (element: number): boolean =>
    releaseEntry(tape, element, apart(parts), () => undefined) !== undefined
  /** Where the element before ends. */
  let before = -1
  const withheld = removeElements(tape, list, (element) => {
    const made = edits.length
    const start = startOf(tape, element)
    if (left > 0 && start - before > 1) edits.push({ start: before, end: start, text: ',' })
    before = endOf(tape, element)
    const first = firstOf(element)
    const leaves = page.admits(tape, element, first, mayLeave) && take(element, first)
    if (leaves) {
      page.leave(element)
      left += 1
    } else edits.length = made
    return !leaves
  })
  page.rest(tape)
  return { left, end: before, withheld }

  /** The one before that the entry is like; itself when there is none, or none is looked for. */
  function firstOf(element: number): number {
    if (known.size > 0) pairs ??= tape.compare(list)
    while (pairs !== undefined && (pairs[pair] as number) < element) pair += 2
    return pairs?.[pair] === element ? (pairs[pair + 1] as number) : element
  }

  function take(element: number, first: number): boolean {
    if (trail !== undefined) return followEntry(tape, element, parts, trail)
    const common = first === element ? undefined : known.get(first)
    if (common !== undefined && repeatEntry(tape, element, common, parts)) return true
    return releaseEntry(tape, element, parts, (found) => known.set(first, found)) !== undefined
  }
}

/** Releases an entry if it was searched for, or something that has left leads to it. */
function followEntry(tape: Tape, element: number, parts: Parts, trail: Trail): boolean {
  const { tally, edits, context } = parts
  const { at } = context.words
  const own = apart(parts)
  const released = releaseEntry(tape, element, own, () => undefined)
  if (released === undefined) {
    tally.inspected += own.tally.inspected
    tally.withheld += own.tally.withheld
    return false
  }
  const mode = textOf(tape, member(tape, member(tape, element, at.search), at.mode))
  const { verdict, shown } = released
  const candidate = { type: verdict.type, shown, mode, tally: own.tally }
  // A copy: what it stands in is good for this call alone.
  const leaves = trail.take(candidate, () =>
    Buffer.from(tape.splice(own.edits, startOf(tape, element), endOf(tape, element))),
  )
  if (leaves) for (const edit of own.edits) edits.push(edit)
  return leaves
}

/**
 * What has been found of an entry and holds for all that are like it (outline.ts): it leaves, nothing in it is
 * masked but by the baseline, and beside the resource nothing changes but its address. Where the two stand, in
 * entries of the tape from the element on; an address behind the resource, from the end of that: no two are as
 * long. undefined = there is no address.
 */
type Common = {
  readonly type: string | undefined
  readonly resource: number
  readonly fullUrl: { readonly isBehind: boolean; readonly offset: number } | undefined
}

/** Releases an entry that is like one before it. false = it has to be judged itself after all. */
function repeatEntry(
  tape: Tape,
  element: number,
  { type, resource, fullUrl }: Common,
  { permit: { terms }, context, tally, edits }: Parts,
): boolean {
  const object = element + resource
  const { isBehind = false, offset = 0 } = fullUrl ?? {}
  const address = fullUrl === undefined ? -1 : (isBehind ? after(tape, object) : element) + offset
  if (address >= 0 && kindOf(tape, address) !== KIND.string) return false
  const ours = address < 0 ? undefined : rewriteUrl(tape, address, flagsOf(tape, address), context)
  // Upstream's base has its form.
  if (address >= 0 && !isFullUrl(tape, address, ours?.end)) return false
  const masked = planMasking(tape, object, undefined, context)
  if (masked === undefined || masked.renamed !== undefined) return false
  if (masked.counts !== undefined && !isFound(tape, object, masked.edits, type, terms, context)) {
    return false
  }
  if (ours !== undefined && !isBehind) edits.push(ours)
  for (const edit of orderEdits(masked.edits)) edits.push(edit)
  if (ours !== undefined && isBehind) edits.push(ours)
  tally.inspected += 1
  tally.released += 1
  addCounts(tally, masked.counts)
  return true
}

/** What leaves of an entry, with its edits; `say` hears what holds for those that are like it. */
function releaseEntry(
  tape: Tape,
  element: number,
  { permit: { terms }, context, tally, edits, seen }: Parts,
  say: (found: Common) => void,
): Released | undefined {
  const { at } = context.words
  const resource = member(tape, element, at.resource)
  if (resource < 0) {
    tally.inspected += 1
    tally.withheld += 1
    return undefined
  }
  const released = releaseResource(tape, resource, terms, context, tally, seen)
  if (released === undefined) return undefined
  const { besideOf } = context.bundleWords
  const { maskings } = released.verdict
  const idOf = (): string | undefined => identify(tape, resource, context.words).id
  const view = maskings.length === 0 ? undefined : viewOf(released, idOf, context)
  let entry = released.renamed === 'gone' ? context.bundleWords.nameless : context.bundleWords.entry
  const end = after(tape, element)
  let isPlain = true
  // What was cut down, or is remembered by its id, is so for itself.
  let isCommon = released.verdict.isCommon && tally.seen === undefined && terms.trim === undefined
  let fullUrl: Common['fullUrl']
  for (let key = element + 1; key < end; key = after(tape, key + 1)) {
    const name = nameOf(tape, key)
    if (name === at.resource) {
      for (const edit of orderEdits(released.edits)) edits.push(edit)
      continue
    }
    const isSimple = !isContainer(tape, key + 1)
    if (name === at.fullUrl && isSimple) {
      const isBehind = key > resource
      fullUrl = { isBehind, offset: key + 1 - (isBehind ? after(tape, resource) : element) }
      if (view?.rename !== undefined) renameAddress(tape, key + 1, view, edits)
      else if (isFullUrl(tape, key + 1)) releaseAddress(tape, key + 1, context, edits)
      else entry = without(entry, name)
      if (isIn(entry, name)) continue
    }
    // Beside the resource stands what upstream says of it, its outcome and criteria among it:
    // nobody judges those, so only what is named stays.
    const part = besideOf[name + 1]
    if (part !== undefined && isIn(entry, name) && kindOf(tape, key + 1) === KIND.object) {
      const before = edits.length
      releaseBeside(tape, key + 1, part, context, edits, view)
      if (part.hasAddress || edits.length > before) isCommon = false
    } else if (part !== undefined || !isIn(entry, name) || !isSimple) isPlain = false
  }
  if (!isPlain) {
    for (const edit of keepOnly(tape, element, entry, context.bundleWords)) edits.push(edit)
  } else if (isCommon) say({ type: released.verdict.type, resource: resource - element, fullUrl })
  return released
}

/** `search`, `request` or `response` of an entry: each member of it in its form, or not at all. */
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
  const { bundleWords, bases } = context
  const isSaidAnew = (name: number): boolean =>
    view?.rename !== undefined && (name === at.url || name === at.location)
  const cut = removeMembers(tape, value, (key) => {
    if (goes(tape, key, shown, bundleWords)) return true
    const name = nameOf(tape, key)
    const said = isSaidAnew(name) || (bundleWords.formOf[name + 1]?.(tape, key + 1, bases) ?? true)
    if (typeof said === 'string')
      edits.push({
        start: startOf(tape, key + 1),
        end: endOf(tape, key + 1),
        text: JSON.stringify(said),
      })
    return said === false
  })
  for (const edit of cut) edits.push(edit)
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

function viewOf(
  { verdict, renamed, viewer }: Released,
  idOf: () => string | undefined,
  context: Context,
): View {
  const rename = (address: string): string => {
    if (viewer === undefined) return ''
    const { methods } = viewer
    if (!address.includes('/')) return pseudonym(address, 'uri', methods)
    const own = `${verdict.type}/${idOf()}`
    const query = address.indexOf('?')
    const bare = (query < 0 ? address : address.slice(0, query)).replace(VERSION, '')
    // Beside a resource, upstream's name for itself may be another than the one that we know.
    const named = pseudonym(bare.endsWith(`/${own}`) ? own : bare, 'uri', methods)
    return /^[A-Z]/.test(named) ? `${context.publicUrl}/${named}` : named
  }
  const hidden = hiddenIn(verdict)
  // Also where the resource itself does not say its id.
  return { ...hidden, rename: renamed === undefined && !hidden.id ? undefined : rename }
}

const VERSION = /\/_history\/[^/]{1,64}$/

/** Puts the address that the caller knows in place of one of upstream's, if it names a resource. */
function renameAddress(tape: Tape, value: number, view: View | undefined, edits: Edit[]): void {
  if (value < 0) return
  // What is no text is no address, and may be an id.
  const text = textOf(tape, value) ?? ''
  // Criteria may name what is masked elsewhere; what is left may be a type alone, or nothing.
  const query = text.indexOf('?')
  const bare = query < 0 ? text : text.slice(0, query)
  const renamed = /^(?:[A-Z][A-Za-z]{1,63})?$/.test(bare) ? bare : (view?.rename?.(bare) ?? '')
  if (renamed === text && kindOf(tape, value) === KIND.string) return
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

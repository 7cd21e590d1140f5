import { WITHHELD_DIV } from '../../fhir/withheld.ts'
import { findLoss } from '../../json/loss.ts'
import { restore, RestoreError } from '../../json/restore.ts'
import type { ShapeOf } from '../../json/restore.ts'
import { TreeError } from '../../json/tree.ts'
import type { Node } from '../../json/tree.ts'
import type { Grant, Reach, Terms } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { ASKED } from './asked.ts'
import type { Asking, Patched } from './patched.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'
import { giveTurn } from './turn.ts'

/** One way by which the caller may have been shown the current version, and what it was shown. */
export type Sight = { readonly terms: Terms; readonly view: Buffer; readonly isWhole: boolean }
/** All of them, where some of it is hidden in any: first the one that what is written is held to. */
export type Sights = readonly [Sight, ...Sight[]]

/**
 * How the caller may have been shown the current version; undefined if it has seen all of it, however it
 * asked. What it may not read at all it must not replace either, where it is masked for it: it has never
 * seen the whole (MASK-10).
 *
 * @param isMarked - what is written has the marks of a masked view, and so comes from one
 */
export async function sightsOf(
  { inspect, view, ways }: Request,
  type: string,
  grant: Grant,
  current: Buffer,
  isMarked: boolean,
): Promise<Sights | undefined> {
  const sights: Sight[] = []
  for (const terms of ways(type)) {
    await giveTurn(current)
    // A right to read others is none to read this one: as if it were not there (SCOPE-6).
    const { masked, withheld } = inspect(terms, current)
    if (withheld !== undefined) continue
    const isWhole = masked === 0
    await giveTurn(current)
    sights.push({ terms, isWhole, view: isWhole ? current : view(terms, current) })
  }
  const hidden = sights.filter(({ isWhole }) => !isWhole)
  const first = (isMarked ? undefined : sights.find(({ isWhole }) => isWhole)) ?? hidden[0]
  if (sights.length === 0) {
    if (inspect(only(type, grant), current).masked === 0) return undefined
    throw new Refusal('body-rule-broken', { detail: 'the caller has never seen the whole' })
  }
  if (first === undefined || hidden.length === 0) return undefined
  return [first, ...hidden.filter((one) => one !== first)]
}

/**
 * MASK-9: to add what masking takes away without a mark would be refused where there is such a value, and
 * so tell of it. Throws Refusal wherever it may not be seen, whether there is one or not: who is never
 * shown an element gives it to nothing that is there already.
 */
export async function checkAdded(
  request: Request,
  type: string,
  current: Buffer,
  writtenFor: (view: Buffer) => Buffer | undefined | Promise<Buffer | undefined>,
): Promise<void> {
  const ways = request.ways(type)
  // The baseline takes nothing away but for a mark.
  const isMild = ({ masking }: Reach): boolean => masking.size === 1
  if (ways.some((terms) => terms.grantFor(type)?.reach.some(isMild))) return
  const seen = await viewsBy(request, ways, current)
  const [first] = seen
  const written = first === undefined ? undefined : await writtenFor(first.view)
  if (written === undefined) return
  const shows = await viewsBy(
    request,
    seen.map(({ terms }) => terms),
    written,
  )
  const wrote = await treeOf(request, written)
  const trees = async (views: typeof seen): Promise<Node[]> => {
    const nodes: Node[] = []
    for (const { view } of views) nodes.push(await treeOf(request, view))
    return nodes
  }
  const path = findUnseen(wrote, await trees(seen), await trees(shows), [])
  if (path !== undefined) throw hidden('what is hidden is added', path.join('.'))
}

/** What each of the ways shows of a resource, where it shows it. */
async function viewsBy(
  { inspect, view }: Request,
  ways: readonly Terms[],
  resource: Buffer,
): Promise<readonly Pick<Sight, 'terms' | 'view'>[]> {
  const views: Pick<Sight, 'terms' | 'view'>[] = []
  for (const terms of ways) {
    await giveTurn(resource)
    if (inspect(terms, resource).withheld !== undefined) continue
    await giveTurn(resource)
    views.push({ terms, view: view(terms, resource) })
  }
  return views
}

/** Where in what was written a member is that no view has, neither of what was there nor of what is new. */
function findUnseen(
  wrote: Node,
  seen: readonly Node[],
  shows: readonly Node[],
  path: readonly string[],
): readonly string[] | undefined {
  if (shows.length === 0) return undefined
  // Nor in what is shown as it was written: of long lists nearly nothing is to be looked into.
  if ([...seen, ...shows].some(({ canon }) => canon === wrote.canon)) return undefined
  if (wrote.kind === 'array') {
    // Where items come or go it is not known which is which; nor is there a place that tells.
    const isSame = [...seen, ...shows].every(({ items }) => items.length === wrote.items.length)
    if (!isSame) return undefined
    for (const [at, item] of wrote.items.entries()) {
      const inner = (nodes: readonly Node[]): Node[] =>
        nodes.flatMap(({ items }) => items[at] ?? [])
      const found = findUnseen(item, inner(seen), inner(shows), path)
      if (found !== undefined) return found
    }
  }
  for (const [name, value] of wrote.members) {
    const inner = (nodes: readonly Node[]): Node[] =>
      nodes.flatMap(({ members }) => members.get(name) ?? [])
    const isMarked = [...seen, ...shows].some(({ members }) => members.has(`_${name}`))
    const [before, after] = [inner(seen), inner(shows)]
    if (before.length === 0 && after.length === 0 && !isMarked) return [...path, name]
    // In what is new there was nothing to hide.
    if (before.length === 0) continue
    const found = findUnseen(value, before, after, [...path, name])
    if (found !== undefined) return found
  }
  return undefined
}

/**
 * SCOPE-4: a patch that asks something of the current version ("test", `where()`) tells by its success
 * what a read would. Throws Refusal unless the caller may read it.
 */
export function checkReadable({ holdings, inspect }: Request, type: string, current: Buffer): void {
  const read = holdings.demand(type, ASKED.read)
  if (isSeen(inspect, type, read, current)) return
  throw new Refusal('body-rule-broken', { detail: 'a test of what the caller may not read' })
}

function isSeen(inspect: Request['inspect'], type: string, read: Grant, current: Buffer): boolean {
  return inspect(only(type, read), current).withheld === undefined
}

/**
 * The body with everything back that was hidden from who wrote it, byte for byte as upstream holds it.
 * Throws Refusal, which says where, when it cannot be told what was meant.
 */
export async function restoreHidden(
  request: Request,
  current: Buffer,
  [first, ...others]: Sights,
  body: Buffer,
): Promise<Buffer> {
  const m = await treeOf(request, first.view)
  const b = await treeOf(request, body)
  for (const { view } of others) checkKept(m, await treeOf(request, view), b)
  if (first.isWhole) return body
  const o = await treeOf(request, current)
  await giveTurn(current)
  return Buffer.from(restored(o, m, b, request.shapeOf))
}

/**
 * MASK-10: which way of several the caller has seen it nobody can tell. Throws Refusal unless all that
 * one of them hides is written as the first one shows it.
 */
function checkKept(first: Node, other: Node, wrote: Node): void {
  const isMade = (name: string): boolean => name === 'text' && isGenerated(first)
  for (const [name, whole] of first.members) {
    if (isMade(name)) continue
    const path = findLoss(whole, other.members.get(name), wrote.members.get(name), [name])
    if (path === undefined) continue
    throw hidden('hidden in another view', path.join('.'), undefined, 'body-unseen')
  }
}

/** Whether there is nothing in the narrative that is not in the rest (narrative-status "generated"). */
const isGenerated = ({ members }: Node): boolean =>
  members.get('text')?.members.get('status')?.canon === '"generated"'

/**
 * A patch is held against what the caller saw first: what it finds there is all that it may find. Then
 * the same patch must do to the current version what it did to the view. Throws Refusal otherwise.
 */
export async function checkPatched(
  request: Request,
  current: Buffer,
  [{ view: seen, isWhole }, ...others]: Sights,
  patched: Patched,
): Promise<void> {
  for (const other of others) await checkMeant(request, seen, other, patched)
  if (isWhole) return
  const meant = await patched.asking(seen)
  let done: Asking
  try {
    done = await patched.asking(current)
  } catch (cause) {
    throw hidden('a patch of what is hidden', undefined, cause)
  }
  // Whatever it asks of what is hidden, and whether that holds: who is told of one is told of the other.
  if (done.asked !== meant.asked) throw hidden('a condition on what is hidden')
  const o = await treeOf(request, done.before)
  const m = await treeOf(request, meant.before)
  const b = await treeOf(request, meant.after)
  await giveTurn(current)
  const text = Buffer.from(restored(o, m, b, request.shapeOf))
  const { canon } = await treeOf(request, text)
  if (canon !== (await treeOf(request, done.after)).canon) throw hidden('a patch of what is hidden')
}

/**
 * The same where the caller may have seen another view: a patch that can be made of that as well must not
 * take away what is hidden there. One that tests what is hidden there cannot.
 */
async function checkMeant(
  request: Request,
  first: Buffer,
  { view }: Sight,
  patched: Patched,
): Promise<void> {
  if (!(await patched.isApplicable(view))) return
  const { before, after } = await patched.of(first)
  checkKept(
    await treeOf(request, before),
    await treeOf(request, (await patched.of(view)).before),
    await treeOf(request, after),
  )
}

function restored(o: Node, m: Node, b: Node, shapeOf: ShapeOf): string {
  try {
    return restore(o, m, b, shapeOf)
  } catch (error) {
    if (error instanceof RestoreError) throw hidden('hidden values in the body', error.path, error)
    throw error
  }
}

function hidden(
  detail: string,
  path?: string,
  cause?: unknown,
  reason: 'body-hides' | 'body-unseen' = 'body-hides',
): Refusal {
  const isName = path !== undefined && /^[A-Za-z0-9_.]{1,200}$/.test(path)
  return new Refusal(reason, { detail, ...(isName ? { element: path } : {}), cause })
}

/**
 * Masking goes by what stands beside a value: the system of an identifier, the use of a telephone
 * number, a label, the type of what is contained. Throws Refusal when a change to those would bring to
 * light what was hidden: seen again by any of the ways, the new version must show what was `written`, each
 * value in its place, or what masking makes of that, or what it has shown there before.
 */
export async function checkStillHidden(
  request: Request,
  sights: Sights,
  next: Buffer,
  writtenFor: (sight: Sight) => Buffer | Promise<Buffer>,
): Promise<void> {
  for (const sight of sights) {
    if (!sight.isWhole) await checkHiddenFrom(request, sight, next, await writtenFor(sight))
  }
}

async function checkHiddenFrom(
  request: Request,
  { terms, view: before }: Sight,
  next: Buffer,
  written: Buffer,
): Promise<void> {
  await giveTurn(next)
  // What this way will not show at all it does not bring to light.
  if (request.inspect(terms, next).withheld !== undefined) return
  const view = async (bytes: Buffer): Promise<Node> => {
    await giveTurn(bytes)
    return treeOf(request, request.view(terms, bytes))
  }
  const [shown, masked] = [await view(next), await view(written)]
  const [wrote, seen] = [await treeOf(request, written), await treeOf(request, before)]
  await giveTurn(next)
  const metas = [wrote, masked, seen].map(({ members }) => members.get('meta'))
  for (const [name, value] of shown.members) {
    const [a, b, c] = [wrote, masked, seen].map(({ members }) => members.get(name))
    const isKnown =
      name === 'meta'
        ? isLabelled(value, metas)
        : isTold(value, { wrote: a, masked: b, seen: c }, name)
    if (!isKnown) throw hidden('it would show what was hidden')
  }
}

/** What was written in a place, what masking makes of that, and what was shown there before. */
type Told = {
  readonly wrote?: Node | undefined
  readonly masked?: Node | undefined
  readonly seen?: Node | undefined
}

/** Whether a value shows nothing but one of those. */
function isTold(shown: Node, { wrote, masked, seen }: Told, name: string): boolean {
  if ([wrote, masked, seen].some((one) => one?.canon === shown.canon)) return true
  if (name === 'text' && isWithheldNarrative(shown)) return true
  // All that was written there is masked: what shows is something else.
  if (masked === undefined) return false
  if (shown.kind === 'object') {
    return [...shown.members].every(([inner, value]) => {
      const [a, b, c] = [wrote, masked, seen].map((one) => one?.members.get(inner))
      return isTold(value, { wrote: a, masked: b, seen: c }, inner)
    })
  }
  const { length } = masked.items
  if (shown.kind !== 'array' || shown.items.length !== length) return false
  // Where masking takes items away, what is left stands elsewhere than it was written.
  const [a, c] = [wrote, seen].map((one) => (one?.items.length === length ? one.items : []))
  return shown.items.every((item, at) =>
    isTold(item, { wrote: a?.[at], masked: masked.items[at], seen: c?.[at] }, ''),
  )
}

/** What masking puts in the place of any narrative. */
function isWithheldNarrative({ members }: Node): boolean {
  const isEmpty = members.size === 2 && members.get('status')?.canon === '"empty"'
  return isEmpty && members.get('div')?.canon === JSON.stringify(WITHHELD_DIV)
}

/** The same of a meta, in whose lists masking says what it did: there each coding counts for itself. */
function isLabelled(shown: Node, metas: readonly (Node | undefined)[]): boolean {
  return [...shown.members].every(([name, value]) => {
    const told = metas.map((meta) => meta?.members.get(name))
    if (value.kind !== 'array') return told.some((one) => one?.canon === value.canon)
    const codings = new Set(told.flatMap((one) => one?.items.map(({ canon }) => canon) ?? []))
    return value.items.every(({ canon }) => codings.has(canon))
  })
}

/** A resource as a tree. Throws Refusal when a member of it stands twice. */
async function treeOf({ readTree }: Request, bytes: Buffer): Promise<Node> {
  await giveTurn(bytes)
  try {
    return readTree(bytes)
  } catch (cause) {
    if (cause instanceof TreeError) throw new Refusal('body-malformed', { cause })
    throw cause
  }
}

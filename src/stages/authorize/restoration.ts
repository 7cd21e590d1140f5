import { WITHHELD_DIV } from '../../fhir/withheld.ts'
import { restore, RestoreError } from '../../json/restore.ts'
import type { ShapeOf } from '../../json/restore.ts'
import { TreeError } from '../../json/tree.ts'
import type { Node } from '../../json/tree.ts'
import type { Grant } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { ASKED } from './asked.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'

/**
 * What the caller sees when it reads the current version, if some of it is hidden from it; undefined
 * when it sees all of it. A caller that may not read it at all must not replace what is masked for it
 * either: it has never seen the whole (MASK-10).
 */
export function viewOf(
  { holdings, inspect, view }: Request,
  type: string,
  grant: Grant,
  current: Buffer,
): Buffer | undefined {
  const read = holdings.look(type, ASKED.read)
  // A right to read others is none to read this one: as if it were not there (SCOPE-6).
  const isReadable = read !== undefined && isSeen(inspect, type, read, current)
  const terms = only(type, isReadable ? read : grant)
  const { masked, withheld } = inspect(terms, current)
  if (masked === 0 && withheld === undefined) return undefined
  if (!isReadable || withheld !== undefined) {
    throw new Refusal('body-rule-broken', { detail: 'the caller has never seen the whole' })
  }
  return view(terms, current)
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
export function restoreHidden(
  request: Request,
  current: Buffer,
  seen: Buffer,
  body: Buffer,
): Buffer {
  const [o, m, b] = [treeOf(request, current), treeOf(request, seen), treeOf(request, body)]
  return Buffer.from(restored(o, m, b, request.shapeOf))
}

/**
 * A patch is held against what the caller saw first: what it finds there is all that it may find. Then
 * the same patch must do to the current version what it did to the view. Throws Refusal otherwise.
 */
export function checkPatched(
  request: Request,
  versions: { readonly current: Buffer; readonly seen: Buffer },
  patch: (resource: unknown, asked: string[]) => unknown,
): void {
  const apply = (bytes: Buffer, asked: string[]): Buffer =>
    Buffer.from(JSON.stringify(patch(JSON.parse(bytes.toString('utf8')), asked)))
  const plain = (bytes: Buffer): Buffer =>
    Buffer.from(JSON.stringify(JSON.parse(bytes.toString('utf8'))))
  const { current, seen } = versions
  const [askedInView, asked]: [string[], string[]] = [[], []]
  const meant = apply(seen, askedInView)
  let done: Buffer
  try {
    done = apply(current, asked)
  } catch (cause) {
    throw hidden('a patch of what is hidden', undefined, cause)
  }
  // Whatever it asks of what is hidden, and whether that holds: who is told of one is told of the other.
  if (asked.join('\n') !== askedInView.join('\n')) throw hidden('a condition on what is hidden')
  const text = restored(
    treeOf(request, plain(current)),
    treeOf(request, plain(seen)),
    treeOf(request, meant),
    request.shapeOf,
  )
  if (treeOf(request, Buffer.from(text)).canon !== treeOf(request, done).canon) {
    throw hidden('a patch of what is hidden')
  }
}

function restored(o: Node, m: Node, b: Node, shapeOf: ShapeOf): string {
  try {
    return restore(o, m, b, shapeOf)
  } catch (error) {
    if (error instanceof RestoreError) throw hidden('hidden values in the body', error.path, error)
    throw error
  }
}

function hidden(detail: string, path?: string, cause?: unknown): Refusal {
  const isName = path !== undefined && /^[A-Za-z0-9_.]{1,200}$/.test(path)
  return new Refusal('body-hides', { detail, ...(isName ? { element: path } : {}), cause })
}

/**
 * Masking goes by what stands beside a value: the system of an identifier, the use of a telephone
 * number, a label, the type of what is contained. Throws Refusal when a change to those would bring to
 * light what was hidden: read again, the new version must show what was `written`, each value in its
 * place, or what masking makes of that.
 */
export function checkStillHidden(
  request: Request,
  type: string,
  grant: Grant,
  versions: { readonly seen: Buffer; readonly next: Buffer },
  written: Buffer,
): void {
  const terms = only(type, request.holdings.look(type, ASKED.read) ?? grant)
  const view = (bytes: Buffer): Node => treeOf(request, request.view(terms, bytes))
  const shown = view(versions.next)
  const [wrote, masked] = [treeOf(request, written), view(written)]
  const metas = [wrote, masked, treeOf(request, versions.seen)].map((one) =>
    one.members.get('meta'),
  )
  for (const [name, value] of shown.members) {
    const isTold =
      name === 'meta'
        ? isLabelled(value, metas)
        : isWritten(value, wrote.members.get(name), masked.members.get(name), name)
    if (!isTold) throw hidden('it would show what was hidden')
  }
}

/** Whether a value shows nothing but what was written there, or what masking makes of it. */
function isWritten(
  shown: Node,
  wrote: Node | undefined,
  masked: Node | undefined,
  name: string,
): boolean {
  if (shown.canon === wrote?.canon || shown.canon === masked?.canon) return true
  if (name === 'text' && isWithheldNarrative(shown)) return true
  // All that was written there is masked: what shows is something else.
  if (masked === undefined) return false
  if (shown.kind === 'object') {
    return [...shown.members].every(([inner, value]) =>
      isWritten(value, wrote?.members.get(inner), masked.members.get(inner), inner),
    )
  }
  if (shown.kind !== 'array') return false
  // Where masking takes items away, what is left stands elsewhere than it was written.
  const items = masked.items.length === wrote?.items.length ? wrote.items : []
  return (
    shown.items.length === masked.items.length &&
    shown.items.every((item, at) => isWritten(item, items[at], masked.items[at], ''))
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
function treeOf({ readTree }: Request, bytes: Buffer): Node {
  try {
    return readTree(bytes)
  } catch (cause) {
    if (cause instanceof TreeError) throw new Refusal('body-malformed', { cause })
    throw cause
  }
}

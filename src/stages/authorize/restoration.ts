import { restore, RestoreError } from '../../json/restore.ts'
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
  return Buffer.from(
    restored(treeOf(request, current), treeOf(request, seen), treeOf(request, body)),
  )
}

/**
 * A patch is held against what the caller saw first: what it finds there is all that it may find. Then
 * the same patch must do to the current version what it did to the view. Throws Refusal otherwise.
 */
export function checkPatched(
  request: Request,
  versions: { readonly current: Buffer; readonly seen: Buffer },
  patch: (resource: unknown) => unknown,
): void {
  const apply = (bytes: Buffer): Buffer =>
    Buffer.from(JSON.stringify(patch(JSON.parse(bytes.toString('utf8')))))
  const plain = (bytes: Buffer): Buffer =>
    Buffer.from(JSON.stringify(JSON.parse(bytes.toString('utf8'))))
  const { current, seen } = versions
  const meant = apply(seen)
  const text = restored(
    treeOf(request, plain(current)),
    treeOf(request, plain(seen)),
    treeOf(request, meant),
  )
  let done: Buffer
  try {
    done = apply(current)
  } catch (cause) {
    throw hidden('a patch of what is hidden', undefined, cause)
  }
  if (treeOf(request, Buffer.from(text)).canon !== treeOf(request, done).canon) {
    throw hidden('a patch of what is hidden')
  }
}

function restored(o: Node, m: Node, b: Node): string {
  try {
    return restore(o, m, b)
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
 * light what was hidden: the new version, read again, must show nothing hidden that was not `written`.
 */
export function checkStillHidden(
  request: Request,
  type: string,
  grant: Grant,
  versions: { readonly current: Buffer; readonly seen: Buffer; readonly next: Buffer },
  written: Buffer,
): void {
  const terms = only(type, request.holdings.look(type, ASKED.read) ?? grant)
  const count = (bytes: Buffer): ReadonlyMap<string, number> => countScalars(treeOf(request, bytes))
  const [was, saw] = [count(versions.current), count(versions.seen)]
  const [shown, wrote] = [count(request.view(terms, versions.next)), count(written)]
  for (const [canon, times] of shown) {
    const isHidden = (was.get(canon) ?? 0) > (saw.get(canon) ?? 0)
    if (isHidden && times > (wrote.get(canon) ?? 0)) throw hidden('it would show what was hidden')
  }
}

function countScalars(node: Node, counts = new Map<string, number>()): Map<string, number> {
  if (node.kind === 'scalar') counts.set(node.canon, (counts.get(node.canon) ?? 0) + 1)
  for (const inner of [...node.members.values(), ...node.items]) countScalars(inner, counts)
  return counts
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

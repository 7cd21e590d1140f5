import { PatchError } from './patch-error.ts'

/** Changes to a JSON tree that leave the tree as it was: what lies on the path is made anew. */

/** Decoded tokens of a JSON Pointer (RFC 6901); [] is the whole document. */
export type Pointer = readonly string[]

const MAXIMUM_WORK = 1_000_000
const MAXIMUM_DEPTH = 128

const inapplicable = (message: string): PatchError => new PatchError('body-rule-broken', message)

/** What one patch may cost: values copied or compared. Copies of copies double, so this must end. */
export class Work {
  #left = MAXIMUM_WORK
  readonly asked: string[] | undefined

  constructor(asked?: string[]) {
    this.asked = asked
  }

  /** Takes down what a condition is held against. */
  ask(values: readonly unknown[]): void {
    if (this.asked === undefined) return
    const text = JSON.stringify(values)
    this.spend(text.length >> 4)
    this.asked.push(text)
  }

  /** Throws PatchError once more than a million is spent. */
  spend(amount: number): void {
    this.#left -= amount
    if (this.#left < 0) throw inapplicable('the patch is too much work')
  }

  /** Spends for a value that will stand at a depth, with all that is in it. */
  measure(value: unknown, depth: number): void {
    if (depth > MAXIMUM_DEPTH) throw inapplicable('the result is too deep')
    this.spend(typeof value === 'string' ? 1 + (value.length >> 4) : 1)
    if (typeof value !== 'object' || value === null) return
    for (const inner of Object.values(value)) this.measure(inner, depth + 1)
  }
}

type Members = Readonly<Record<string, unknown>>
type Container = readonly unknown[] | Members

function containerOf(value: unknown): Container {
  if (typeof value === 'object' && value !== null) return value as Container
  throw inapplicable('a path goes through what is no container')
}

const isList = (value: Container): value is readonly unknown[] => Array.isArray(value)

/** RFC 6901 §4: digits without leading zeros; must be below the limit. */
function indexOf(token: string, limit: number): number {
  const index = /^(0|[1-9]\d{0,8})$/.test(token) ? Number(token) : limit
  if (index < limit) return index
  throw inapplicable('an index is malformed or beyond the list')
}

function child(container: Container, token: string): unknown {
  if (isList(container)) return container[indexOf(token, container.length)]
  if (Object.hasOwn(container, token)) return container[token]
  throw inapplicable('a path leads nowhere')
}

/** The value at a place. Like all here, throws PatchError `body-rule-broken` when there is none. */
export function valueAt(document: unknown, path: Pointer): unknown {
  return path.reduce((value, token) => child(containerOf(value), token), document)
}

/** Puts a value into a list before the index (or '-'), or into an object, replacing (RFC 6902 §4.1). */
export function insertAt(document: unknown, path: Pointer, value: unknown, work: Work): unknown {
  work.measure(value, path.length)
  if (path.length === 0) return value
  return rewrite(document, path, 0, work, (parent, token) => {
    if (!isList(parent)) return { ...parent, [token]: value }
    const index = token === '-' ? parent.length : indexOf(token, parent.length + 1)
    return parent.toSpliced(index, 0, value)
  })
}

/** Puts a value in place of one that is there. */
export function replaceAt(document: unknown, path: Pointer, value: unknown, work: Work): unknown {
  work.measure(value, path.length)
  if (path.length === 0) return value
  return rewrite(document, path, 0, work, (parent, token) => set(parent, token, value))
}

/** Takes a value away; the whole document cannot be taken away. */
export function removeAt(document: unknown, path: Pointer, work: Work): unknown {
  if (path.length === 0) throw inapplicable('the whole resource cannot be removed')
  return rewrite(document, path, 0, work, (parent, token) => {
    child(parent, token)
    if (isList(parent)) return parent.toSpliced(indexOf(token, parent.length), 1)
    return Object.fromEntries(Object.entries(parent).filter(([name]) => name !== token))
  })
}

function set(parent: Container, token: string, value: unknown): unknown {
  child(parent, token)
  if (isList(parent)) return parent.with(indexOf(token, parent.length), value)
  return { ...parent, [token]: value }
}

function rewrite(
  value: unknown,
  path: Pointer,
  at: number,
  work: Work,
  change: (parent: Container, token: string) => unknown,
): unknown {
  const parent = containerOf(value)
  const token = path[at] ?? ''
  work.spend(isList(parent) ? parent.length : Object.keys(parent).length)
  if (at === path.length - 1) return change(parent, token)
  return set(parent, token, rewrite(child(parent, token), path, at + 1, work, change))
}

/** RFC 6902 §4.6: equal as JSON, whatever the order of members. */
export function sameJson(one: unknown, other: unknown, work: Work): boolean {
  work.spend(1)
  // Not Object.is: 0 and -0 are numerically equal.
  if (one === other) return true
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null)
    return false
  if (Array.isArray(one) !== Array.isArray(other)) return false
  const names = Object.keys(one)
  return (
    names.length === Object.keys(other).length &&
    names.every(
      (name) =>
        Object.hasOwn(other, name) &&
        sameJson((one as Members)[name], (other as Members)[name], work),
    )
  )
}

import { RestoreError } from '../../src/json/restore.ts'
import type { Node } from '../../src/json/tree.ts'

/**
 * restore() of src/json/restore.ts as it is to be read: whatever stands in a list is looked for from its
 * beginning, and lists are compared item by item, whatever it costs. For short lists.
 */
export function plainRestore(original: Node, masked: Node, changed: Node): string {
  return value(original, masked, changed, []) ?? '{}'
}

const isSame = (one: Node, other: Node): boolean => one.canon === other.canon

/** undefined = nothing is left of it: neither an empty object nor an empty list is FHIR. */
function value(o: Node, m: Node, b: Node, path: readonly string[]): string | undefined {
  if (isSame(o, m)) return b.text
  if (isSame(m, b)) return o.text
  if (o.kind === 'object' && m.kind === 'object' && b.kind === 'object')
    return object(o, m, b, path)
  if (o.kind === 'array' && m.kind === 'array' && b.kind === 'array') return array(o, m, b, path)
  throw new RestoreError(path)
}

function object(o: Node, m: Node, b: Node, path: readonly string[]): string | undefined {
  const out: string[] = []
  const put = (name: string, text: string | undefined): void => {
    if (text !== undefined) out.push(`${JSON.stringify(name)}:${text}`)
  }
  for (const [name, now] of b.members) {
    const [was, seen] = [o.members.get(name), m.members.get(name)]
    if (was !== undefined && seen !== undefined) put(name, value(was, seen, now, [...path, name]))
    else if (seen !== undefined) put(name, withoutMarks(seen, now, [...path, name]))
    else if (was === undefined) put(name, now.text)
    else throw new RestoreError([...path, name])
  }
  for (const [name, was] of o.members) {
    if (b.members.has(name)) continue
    const seen = m.members.get(name)
    if (seen === undefined && isBesideMoved(name, m, b)) throw new RestoreError([...path, name])
    // What he did not see he did not take away.
    if (seen === undefined) put(name, was.text)
    else if (hides(was, seen)) throw new RestoreError([...path, name])
  }
  return out.length === 0 ? undefined : `{${out.join()}}`
}

/** `_given` belongs to `given` item by item: where that list is another, nobody knows to which. */
function isBesideMoved(name: string, m: Node, b: Node): boolean {
  if (!name.startsWith('_')) return false
  const [seen, now] = [m.members.get(name.slice(1)), b.members.get(name.slice(1))]
  return seen?.kind === 'array' && seen.canon !== now?.canon
}

/** What is left of a value when the marks that masking added are taken out again. */
function withoutMarks(mark: Node, b: Node, path: readonly string[]): string | undefined {
  if (isSame(mark, b)) return undefined
  if (mark.kind === 'object' && b.kind === 'object') {
    const left = [...b.members].flatMap(([name, now]) => {
      const added = mark.members.get(name)
      const text = added === undefined ? now.text : withoutMarks(added, now, [...path, name])
      return text === undefined ? [] : [`${JSON.stringify(name)}:${text}`]
    })
    return left.length === 0 ? undefined : `{${left.join()}}`
  }
  if (mark.kind === 'array' && b.kind === 'array') {
    const marks = mark.items.map(({ canon }) => canon)
    const left = b.items.filter(({ canon }) => !marks.includes(canon))
    // One that is gone while another has come may be the same, altered.
    const gone = marks.filter((canon) => !b.items.some((item) => item.canon === canon))
    if (gone.length > 0 && left.length > 0) throw new RestoreError(path)
    return left.length === 0 ? undefined : `[${left.map(({ text }) => text).join()}]`
  }
  throw new RestoreError(path)
}

/** Whether some of a value does not show in its masked view. */
function hides(o: Node, m: Node): boolean {
  if (isSame(o, m)) return false
  if (o.kind === 'object' && m.kind === 'object') {
    return [...o.members].some(([name, was]) => {
      const seen = m.members.get(name)
      return seen === undefined || hides(was, seen)
    })
  }
  if (o.kind !== 'array' || m.kind !== 'array') return true
  const seen = m.items.map(({ canon }) => canon)
  return o.items.some(({ canon }) => {
    const at = seen.indexOf(canon)
    if (at >= 0) seen.splice(at, 1)
    return at < 0
  })
}

/** An item of the original and what it became in the view; either may have no other. */
type Pair = { readonly was: Node | undefined; readonly seen: Node | undefined }

function array(o: Node, m: Node, b: Node, path: readonly string[]): string | undefined {
  const pairs = align(o.items, m.items, path)
  const place = locate(pairs, m.items, b.items, path)
  /** What becomes of each item of `b`; and what stands before it again. */
  const texts: (string | undefined)[] = b.items.map(({ text }) => text)
  const hidden: string[][] = Array.from({ length: b.items.length + 1 }, () => [])
  let next = 0
  for (const pair of pairs) {
    const at = place.get(pair)
    if (at !== undefined) next = at + 1
    const { was, seen } = pair
    if (was !== undefined && seen === undefined) hidden[next]?.push(was.text)
    const now = at === undefined ? undefined : b.items[at]
    if (at === undefined || seen === undefined || now === undefined) continue
    texts[at] = was === undefined ? withoutMarks(seen, now, path) : value(was, seen, now, path)
  }
  const out = texts.flatMap((text, at) => [
    ...(hidden[at] ?? []),
    ...(text === undefined ? [] : [text]),
  ])
  out.push(...(hidden[b.items.length] ?? []))
  return out.length === 0 ? undefined : `[${out.join()}]`
}

/** Whether one member was changed, added or taken away: more could be another item altogether. */
function isOneEdit(seen: Node, now: Node): boolean {
  if (seen.kind !== 'object' || now.kind !== 'object') return false
  const names = new Set([...seen.members.keys(), ...now.members.keys()])
  const changed = [...names].filter(
    (name) => seen.members.get(name)?.canon !== now.members.get(name)?.canon,
  )
  return changed.length === 1
}

/** Whether something is hidden without a mark in its place, so that nothing in an item tells of it. */
function isSilent(o: Node, m: Node): boolean {
  if (isSame(o, m) || o.kind !== m.kind) return false
  if (o.kind === 'array') return true
  const gone = [...o.members.keys()].some((name) => !m.members.has(name))
  const marked = [...m.members.keys()].some((name) => !o.members.has(name))
  if (gone && !marked) return true
  return [...o.members].some(([name, was]) => {
    const seen = m.members.get(name)
    return seen !== undefined && isSilent(was, seen)
  })
}

/** Which item became which: those that are equal stay in order, and between them all or nothing. */
function align(o: readonly Node[], m: readonly Node[], path: readonly string[]): Pair[] {
  // Masking moves nothing: where nothing has gone or come, each is where it was.
  if (o.length === m.length) return o.map((was, n) => ({ was, seen: m[n] }))
  const times = (items: readonly Node[], canon: string): number =>
    items.filter((item) => item.canon === canon).length
  // One that was masked looks like another that was not: nobody knows which is which.
  for (const { canon } of m) {
    const own = times(o, canon)
    if (own > 0 && times(m, canon) > own) throw new RestoreError(path)
  }
  const pairs: Pair[] = []
  let [from, to] = [0, 0]
  for (const [i, j] of [...commonOf(o, m), [o.length, m.length] as const]) {
    const [were, saw] = [o.slice(from, i), m.slice(to, j)]
    if (were.length > 0 && saw.length > 0 && were.length !== saw.length)
      throw new RestoreError(path)
    const count = Math.max(were.length, saw.length)
    for (let n = 0; n < count; n++) pairs.push({ was: were[n], seen: saw[n] })
    if (i < o.length) pairs.push({ was: o[i], seen: m[j] })
    ;[from, to] = [i + 1, j + 1]
  }
  return pairs
}

/** The longest common subsequence of equal items, as pairs of indexes. */
function commonOf(o: readonly Node[], m: readonly Node[]): (readonly [number, number])[] {
  const width = m.length + 1
  const lengths = new Uint32Array((o.length + 1) * width)
  for (let i = o.length - 1; i >= 0; i--) {
    for (let j = m.length - 1; j >= 0; j--) {
      lengths[i * width + j] =
        o[i]?.canon === m[j]?.canon
          ? (lengths[(i + 1) * width + j + 1] ?? 0) + 1
          : Math.max(lengths[(i + 1) * width + j] ?? 0, lengths[i * width + j + 1] ?? 0)
    }
  }
  const pairs: (readonly [number, number])[] = []
  for (let i = 0, j = 0; i < o.length && j < m.length;) {
    if (o[i]?.canon === m[j]?.canon) pairs.push([i++, j++])
    else if ((lengths[(i + 1) * width + j] ?? 0) >= (lengths[i * width + j + 1] ?? 0)) i++
    else j++
  }
  return pairs
}

/** Where in `b` each item of the view is; an item that hides something must be found, or be gone whole. */
function locate(
  pairs: readonly Pair[],
  m: readonly Node[],
  b: readonly Node[],
  path: readonly string[],
): ReadonlyMap<Pair, number> {
  const place = new Map<Pair, number>()
  const taken = new Set<number>()
  const take = (pair: Pair, at: number): void => {
    place.set(pair, at)
    taken.add(at)
  }
  const count = (items: readonly Node[], canon: string): number =>
    items.filter((item) => item.canon === canon).length
  // Items that are as they were shown.
  for (const pair of pairs) {
    const { was, seen } = pair
    if (seen === undefined) continue
    const at = b.findIndex((item, n) => !taken.has(n) && item.canon === seen.canon)
    // Of several that look alike none can be missing: nobody knows which of them it is.
    const isHiding = was !== undefined && hides(was, seen)
    if (isHiding && at >= 0 && count(b, seen.canon) !== count(m, seen.canon)) {
      throw new RestoreError(path)
    }
    if (at >= 0) take(pair, at)
  }
  // Items that were changed: by their id, or because everything else is in its place.
  for (const pair of pairs) {
    const { was, seen } = pair
    if (seen === undefined || was === undefined || place.has(pair) || isSame(was, seen)) continue
    if (!hides(was, seen)) continue
    const id = seen.members.get('id')?.canon
    const byId =
      id === undefined
        ? -1
        : b.findIndex((item, n) => !taken.has(n) && item.members.get('id')?.canon === id)
    // Each item of the view is in one pair, in order.
    const before = pairs.slice(0, pairs.indexOf(pair))
    const same = before.filter((one) => one.seen !== undefined).length
    const inPlace = b[same]
    const isEdited =
      b.length === m.length &&
      !taken.has(same) &&
      inPlace !== undefined &&
      isOneEdit(seen, inPlace) &&
      !isSilent(was, seen)
    const at = byId >= 0 ? byId : isEdited ? same : -1
    if (at < 0) throw new RestoreError(path)
    take(pair, at)
  }
  return place
}

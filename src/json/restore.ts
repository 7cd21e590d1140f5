import type { Node } from './tree.ts'

/** What somebody changed cannot be told apart from what was hidden from him. */
export class RestoreError extends Error {
  override readonly name = 'RestoreError'
  /** Where: names from the top down, no values. */
  readonly path: string

  constructor(path: readonly string[]) {
    super('a hidden value was changed, or can be placed in more than one way')
    this.path = path.join('.')
  }
}

/** What is known of an object in a resource. */
export type Shape = {
  /** The element that a member is a form of, where it has several: an object has one of them. */
  readonly choiceOf: (name: string) => string | undefined
  /** Of the object that a member holds, or of each in its list. */
  readonly inside: (name: string) => ShapeOf
}
export type ShapeOf = (object: Node) => Shape

/** Where in a resource something is; and the steps that comparing lists may still cost in all of it. */
type Place = {
  readonly path: readonly string[]
  readonly shapeOf: ShapeOf
  readonly effort: { left: number }
}

/** Some 10 ms and 8 MB: what masking leaves of a list is told without, but for lists made up for it. */
const MOST_STEPS = 4_194_304

/**
 * Somebody saw `masked`, a view of `original`, and wrote `changed`. Gives the text of what he means:
 * his changes, with everything back that was hidden from him. Throws RestoreError where he changed or
 * took away what he saw hidden, or gave a value to what he did not see at all, in another form of it too,
 * and where it cannot be told which of several items is which, with no more than a fixed effort.
 */
export function restore(original: Node, masked: Node, changed: Node, shapeOf: ShapeOf): string {
  const place = { path: [], shapeOf, effort: { left: MOST_STEPS } }
  return value(original, masked, changed, place) ?? '{}'
}

const isSame = (one: Node, other: Node): boolean => one.canon === other.canon

/** undefined = nothing is left of it: neither an empty object nor an empty list is FHIR. */
function value(o: Node, m: Node, b: Node, place: Place): string | undefined {
  if (isSame(o, m)) return b.text
  if (isSame(m, b)) return o.text
  if (o.kind === 'object' && m.kind === 'object' && b.kind === 'object')
    return object(o, m, b, place)
  if (o.kind === 'array' && m.kind === 'array' && b.kind === 'array') return array(o, m, b, place)
  throw new RestoreError(place.path)
}

function object(o: Node, m: Node, b: Node, place: Place): string | undefined {
  const { path } = place
  const shape = place.shapeOf(b)
  const below = (name: string): Place => {
    return { ...place, path: [...path, name], shapeOf: shape.inside(name) }
  }
  const out = new Map<string, string>()
  const put = (name: string, text: string | undefined): void => {
    if (text !== undefined) out.set(name, text)
  }
  for (const [name, now] of b.members) {
    const [was, seen] = [o.members.get(name), m.members.get(name)]
    if (was !== undefined && seen !== undefined) put(name, value(was, seen, now, below(name)))
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
  checkForms(o, [...out.keys()], shape, path)
  if (out.size === 0) return undefined
  return `{${[...out].map(([name, text]) => `${JSON.stringify(name)}:${text}`).join()}}`
}

/** What he wrote may be another form of what came back: only what already had both has them again. */
function checkForms(
  o: Node,
  names: readonly string[],
  { choiceOf }: Shape,
  path: readonly string[],
): void {
  const had = new Set([...o.members.keys()].map(formOf))
  const forms = new Map<string, string>()
  for (const name of names) {
    const [element, form] = [choiceOf(name), formOf(name)]
    if (element === undefined) continue
    const other = forms.get(element) ?? form
    if (form !== other && !(had.has(form) && had.has(other)))
      throw new RestoreError([...path, element])
    forms.set(element, form)
  }
}

/** `_valueString` belongs to `valueString`. */
const formOf = (name: string): string => name.replace(/^_/, '')

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
    const [marks, there] = [countsOf(mark.items), countsOf(b.items)]
    const left = b.items.filter(({ canon }) => !marks.has(canon))
    // One that is gone while another has come may be the same, altered.
    const isGone = mark.items.some(({ canon }) => !there.has(canon))
    if (isGone && left.length > 0) throw new RestoreError(path)
    return left.length === 0 ? undefined : `[${left.map(({ text }) => text).join()}]`
  }
  throw new RestoreError(path)
}

/** Whether some of a value does not show in its masked view. */
export function hides(o: Node, m: Node): boolean {
  if (isSame(o, m)) return false
  if (o.kind === 'object' && m.kind === 'object') {
    return [...o.members].some(([name, was]) => {
      const seen = m.members.get(name)
      return seen === undefined || hides(was, seen)
    })
  }
  if (o.kind !== 'array' || m.kind !== 'array') return true
  const shown = countsOf(m.items)
  return [...countsOf(o.items)].some(([canon, times]) => times > (shown.get(canon) ?? 0))
}

/** How often each item is in a list. */
export function countsOf(items: readonly Node[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const { canon } of items) counts.set(canon, (counts.get(canon) ?? 0) + 1)
  return counts
}

/** An item of the original and what it became in the view, and where there; either may have no other. */
type Pair = {
  readonly was: Node | undefined
  readonly seen: Node | undefined
  readonly seenAt: number
}

function array(o: Node, m: Node, b: Node, place: Place): string | undefined {
  const { path } = place
  const pairs = align(o.items, m.items, place)
  const places = locate(pairs, m.items, b.items, path)
  /** What becomes of each item of `b`; and what stands before it again. */
  const texts: (string | undefined)[] = b.items.map(({ text }) => text)
  const hidden: string[][] = Array.from({ length: b.items.length + 1 }, () => [])
  let next = 0
  for (const pair of pairs) {
    const at = places.get(pair)
    if (at !== undefined) next = at + 1
    const { was, seen } = pair
    if (was !== undefined && seen === undefined) hidden[next]?.push(was.text)
    const now = at === undefined ? undefined : b.items[at]
    if (at === undefined || seen === undefined || now === undefined) continue
    texts[at] = was === undefined ? withoutMarks(seen, now, path) : value(was, seen, now, place)
  }
  const out = hidden.flatMap((before, at) => {
    const text = texts[at]
    return text === undefined ? before : [...before, text]
  })
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
function align(o: readonly Node[], m: readonly Node[], place: Place): Pair[] {
  // Masking moves nothing: where nothing has gone or come, each is where it was.
  if (o.length === m.length) return o.map((was, n) => ({ was, seen: m[n], seenAt: n }))
  const { path } = place
  const [own, shown] = [countsOf(o), countsOf(m)]
  // One that was masked looks like another that was not: nobody knows which is which.
  for (const [canon, times] of shown) {
    if (times > (own.get(canon) ?? times)) throw new RestoreError(path)
  }
  const isAlone = (canon: string): boolean => own.get(canon) === 1 && shown.get(canon) === 1
  const pairs: Pair[] = []
  let [from, to] = [0, 0]
  for (const [i, j] of [...commonOf(o, m, isAlone, place), [o.length, m.length] as const]) {
    const [were, saw] = [o.slice(from, i), m.slice(to, j)]
    if (were.length > 0 && saw.length > 0 && were.length !== saw.length)
      throw new RestoreError(path)
    const count = Math.max(were.length, saw.length)
    for (let n = 0; n < count; n++) {
      pairs.push({ was: were[n], seen: saw[n], seenAt: to + n })
    }
    if (i < o.length) pairs.push({ was: o[i], seen: m[j], seenAt: j })
    ;[from, to] = [i + 1, j + 1]
  }
  return pairs
}

/** An item of a list: where it is, and a number that only its equals have. */
type Item = { readonly at: number; readonly number: number; readonly isAlone: boolean }

/**
 * The longest common subsequence of equal items, as pairs of indexes; of several as long, the one that
 * passes over more of `o` first. `isAlone`: it is in both lists, and in each of them once.
 */
function commonOf(
  o: readonly Node[],
  m: readonly Node[],
  isAlone: (canon: string) => boolean,
  place: Place,
): (readonly [number, number])[] {
  const numbers = new Map(m.map(({ canon }, at) => [canon, at]))
  const itemsOf = (nodes: readonly Node[]): readonly Item[] =>
    nodes.map(({ canon }, at) => {
      return { at, number: numbers.get(canon) ?? -1, isAlone: isAlone(canon) }
    })
  // What is not in the view at all is passed over in any case.
  const [were, saw] = [itemsOf(o).filter(({ number }) => number >= 0), itemsOf(m)]
  const known = new Set(were.map(({ number }) => number))
  const rest = saw.filter(({ number }) => known.has(number))
  // Equals are masked alike: nearly always what is in both stands in both in one order.
  if (were.length === rest.length && were.every((one, n) => isEqual(one, rest[n])))
    return pairUp(were, rest)
  let begin = 0
  while (begin < were.length && isEqual(were[begin], saw[begin])) begin++
  let [i, j] = [were.length, saw.length]
  // Only of what is alone the last are a pair for certain.
  while (i > begin && were[i - 1]?.isAlone === true && isEqual(were[i - 1], saw[j - 1])) {
    i--
    j--
  }
  return [
    ...pairUp(were.slice(0, begin), saw),
    ...longest(were.slice(begin, i), saw.slice(begin, j), place),
    ...pairUp(were.slice(i), saw.slice(j)),
  ]
}

const isEqual = (one: Item | undefined, other: Item | undefined): boolean =>
  one?.number === other?.number

const pairUp = (one: readonly Item[], other: readonly Item[]): (readonly [number, number])[] =>
  one.map(({ at }, n) => [at, other[n]?.at ?? at])

/** The same, each compared with each. */
function longest(
  one: readonly Item[],
  other: readonly Item[],
  { path, effort }: Place,
): (readonly [number, number])[] {
  const width = other.length + 1
  effort.left -= (one.length + 1) * width
  if (effort.left < 0) throw new RestoreError(path)
  // No longer than the shorter list, which is below the root of MOST_STEPS.
  const lengths = new Uint16Array((one.length + 1) * width)
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      lengths[i * width + j] = isEqual(one[i], other[j])
        ? (lengths[(i + 1) * width + j + 1] ?? 0) + 1
        : Math.max(lengths[(i + 1) * width + j] ?? 0, lengths[i * width + j + 1] ?? 0)
    }
  }
  const pairs: (readonly [number, number])[] = []
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (isEqual(one[i], other[j])) pairs.push([one[i++]?.at ?? 0, other[j++]?.at ?? 0])
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
  const places = new Map<Pair, number>()
  const taken = new Set<number>()
  const take = (pair: Pair, at: number): void => {
    places.set(pair, at)
    taken.add(at)
  }
  const [shown, there] = [countsOf(m), countsOf(b)]
  // Items that are as they were shown.
  const findSame = finder(b, (item) => item?.canon, taken)
  for (const pair of pairs) {
    const { was, seen } = pair
    if (seen === undefined) continue
    const at = findSame(seen.canon)
    if (at === undefined) continue
    // Of several that look alike none can be missing: nobody knows which of them it is.
    const isMissing = there.get(seen.canon) !== shown.get(seen.canon)
    if (isMissing && was !== undefined && hides(was, seen)) throw new RestoreError(path)
    take(pair, at)
  }
  // Items that were changed: by their id, or because everything else is in its place.
  let findId: ReturnType<typeof finder> | undefined
  for (const pair of pairs) {
    const { was, seen, seenAt: same } = pair
    if (seen === undefined || was === undefined || places.has(pair) || isSame(was, seen)) continue
    if (!hides(was, seen)) continue
    const inPlace = b[same]
    const isEdited =
      b.length === m.length &&
      !taken.has(same) &&
      inPlace !== undefined &&
      isOneEdit(seen, inPlace) &&
      !isSilent(was, seen)
    // Nearly nobody needs it, and it looks into every item.
    findId ??= finder(b, idOf, taken)
    const at = findId(idOf(seen)) ?? (isEdited ? same : undefined)
    if (at === undefined) throw new RestoreError(path)
    take(pair, at)
  }
  return places
}

const idOf = (item: Node | undefined): string | undefined => item?.members.get('id')?.canon

/** Finds the first item with a key that is not taken; what it has found is to be taken. */
function finder(
  items: readonly Node[],
  keyOf: (item: Node | undefined) => string | undefined,
  taken: ReadonlySet<number>,
): (key: string | undefined) => number | undefined {
  // The last first: the end of a list is what can be taken off for nothing.
  const places = Map.groupBy([...items.keys()].reverse(), (at) => keyOf(items[at]))
  return (key) => {
    const left = key === undefined ? undefined : places.get(key)
    let at = left?.pop()
    while (at !== undefined && taken.has(at)) at = left?.pop()
    return at
  }
}

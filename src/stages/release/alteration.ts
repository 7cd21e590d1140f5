import { removeElements, removeMembers } from '../../json/edit.ts'
import type { Edit } from '../../json/edit.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, endOf, kindOf, startOf } from '../../json/tape.ts'
import { DATA_ABSENT_EXTENSION } from './vocabulary.ts'

/** HL7 v3-ObservationValue codes that say what was done (LABEL-6). */
export type AlterationCode = 'MASKED' | 'REDACTED' | 'ABSTRED' | 'PSEUDED' | 'SUBSETTED'

/** What becomes of one value, before the edits are made of it. */
export type Alteration = {
  /** A key: the whole member; any other entry: that value. */
  readonly entry: number
  /** What takes its place; undefined = it goes. */
  readonly text: string | undefined
  /** removal: the object or array it stands in, and of an array the object around. */
  readonly parent: number
  readonly holder: number
  readonly rule: string
  readonly codes: readonly AlterationCode[]
  /** How much is taken away: of two equal places the milder one is kept where callers may see more. */
  readonly rank: number
}

/** First and last entry of what an alteration is about, the last excluded. */
export const beginOf = ({ entry }: Alteration): number => entry
export function limitOf(tape: Tape, { entry }: Alteration): number {
  return kindOf(tape, entry) === KIND.key ? after(tape, entry + 1) : after(tape, entry)
}

/** In order, without what is inside another: of two at one place the one that takes more. */
export function outermost(tape: Tape, alterations: readonly Alteration[]): Alteration[] {
  if (alterations.length < 2) return [...alterations]
  const isSorted = alterations.every(
    (one, at) => at === 0 || one.entry > (alterations[at - 1]?.entry ?? 0),
  )
  const sorted = isSorted
    ? alterations
    : alterations.toSorted(
        (a, b) => a.entry - b.entry || limitOf(tape, b) - limitOf(tape, a) || b.rank - a.rank,
      )
  let end = -1
  return sorted.filter((one) => {
    if (one.entry < end) return false
    end = limitOf(tape, one)
    return true
  })
}

/**
 * What both plans alter: a value stays when one of them leaves it. Where one takes the whole and the
 * other a part, the part goes; where both alter one value, as the milder says.
 */
export function common(
  tape: Tape,
  one: readonly Alteration[],
  other: readonly Alteration[],
): Alteration[] {
  const [a, b] = [outermost(tape, one), outermost(tape, other)]
  const found: Alteration[] = []
  let [i, n] = [0, 0]
  while (i < a.length && n < b.length) {
    const [left, right] = [a[i], b[n]]
    if (left === undefined || right === undefined) break
    const [leftEnd, rightEnd] = [limitOf(tape, left), limitOf(tape, right)]
    if (left.entry >= rightEnd) n++
    else if (right.entry >= leftEnd) i++
    else {
      const leftIsInner = left.entry > right.entry || leftEnd < rightEnd
      const rightIsInner = right.entry > left.entry || rightEnd < leftEnd
      if (leftIsInner === rightIsInner) found.push(left.rank <= right.rank ? left : right)
      else found.push(leftIsInner ? left : right)
      if (leftEnd <= rightEnd) i++
      if (rightEnd <= leftEnd) n++
    }
  }
  return found
}

/**
 * The edits of alterations none of which is inside another. FHIR knows no empty list and no empty
 * object: a list all of whose elements go goes itself, and an object that would be left empty says
 * that its content is masked.
 */
export function render(tape: Tape, alterations: readonly Alteration[]): Edit[] {
  const edits: Edit[] = []
  const lists = new Map<number, { readonly gone: Set<number>; readonly holder: number }>()
  const objects = new Map<number, Set<number>>()
  const goes = (object: number, key: number): void => {
    const gone = objects.get(object)
    if (gone === undefined) objects.set(object, new Set([key]))
    else gone.add(key)
  }
  for (const { entry, text, parent, holder } of alterations) {
    if (text !== undefined) {
      const isMember = kindOf(tape, entry) === KIND.key
      const end = endOf(tape, isMember ? entry + 1 : entry)
      edits.push({ start: startOf(tape, entry), end, text })
    } else if (kindOf(tape, parent) === KIND.array) {
      const list = lists.get(parent)
      if (list === undefined) lists.set(parent, { gone: new Set([entry]), holder })
      else list.gone.add(entry)
    } else goes(parent, entry)
  }
  for (const [list, { gone, holder }] of lists) {
    const isWhole = every(
      tape,
      list,
      (entry) => after(tape, entry),
      (entry) => gone.has(entry),
    )
    if (isWhole) goes(holder, list - 1)
    else edits.push(...removeElements(tape, list, (element) => gone.has(element)))
  }
  for (const [object, gone] of objects) {
    const isWhole = every(
      tape,
      object,
      (key) => after(tape, key + 1),
      (key) => gone.has(key),
    )
    if (isWhole) {
      const text = `{"extension":[${DATA_ABSENT_EXTENSION}]}`
      edits.push({ start: startOf(tape, object), end: endOf(tape, object), text })
    } else edits.push(...removeMembers(tape, object, (key) => gone.has(key)))
  }
  return edits
}

function every(
  tape: Tape,
  container: number,
  next: (entry: number) => number,
  holds: (entry: number) => boolean,
): boolean {
  const end = after(tape, container)
  for (let entry = container + 1; entry < end; entry = next(entry)) if (!holds(entry)) return false
  return true
}

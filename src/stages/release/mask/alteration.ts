import { beginOf, cut, finishOf } from '../../../json/edit.ts'
import type { Change } from '../../../json/edit.ts'
import { KIND } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { after, kindOf } from '../../../json/tape.ts'
import type { Recipe } from './methods.ts'
import { STUB } from './stub.ts'

/** The rule of what goes with the value beside it: not counted. */
export const BESIDE = ''

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
  /** Bits of {@link CODE}. */
  readonly codes: number
  /** How much is taken away: of two equal places the milder one is kept where callers may see more. */
  readonly rank: number
  /** By what the text is made of the value, if it is. */
  readonly recipe?: Recipe | undefined
}

/** An alteration by places; those by a recipe are of the value at their begin. */
export type MaskChange = Change & { readonly recipe?: Recipe | undefined; readonly code?: number }

/** The entry after all that an alteration is about. */
export function limitOf(tape: Tape, { entry }: Alteration): number {
  return kindOf(tape, entry) === KIND.key ? after(tape, entry + 1) : after(tape, entry)
}

/** In order, without what is inside another: of two at one place the one that takes more. */
export function outermost(tape: Tape, alterations: readonly Alteration[]): readonly Alteration[] {
  // A walk finds them in order, and looks no further into what goes.
  if (areApart(tape, alterations)) return alterations
  const sorted = alterations.toSorted(
    (a, b) => a.entry - b.entry || limitOf(tape, b) - limitOf(tape, a) || b.rank - a.rank,
  )
  let end = -1
  return sorted.filter((one) => {
    if (one.entry < end) return false
    end = limitOf(tape, one)
    return true
  })
}

function areApart(tape: Tape, alterations: readonly Alteration[]): boolean {
  let end = 0
  for (const one of alterations) {
    if (one.entry < end) return false
    end = limitOf(tape, one)
  }
  return true
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
 * Adds the changes of alterations none of which is inside another. FHIR knows no empty list and no empty
 * object: a list all of whose elements go goes itself, and an object that would be left empty says
 * that its content is masked.
 */
export function render(
  tape: Tape,
  alterations: readonly Alteration[],
  changes: MaskChange[],
): void {
  let gone: Gone | undefined
  for (const { entry, text, parent, holder, recipe, codes } of alterations) {
    if (text !== undefined) {
      const to = finishOf(kindOf(tape, entry) === KIND.key ? entry + 1 : entry)
      changes.push({ from: beginOf(entry), to, text, recipe, code: codes })
    } else {
      gone ??= { entries: new Set(), lists: new Map(), objects: new Set() }
      gone.entries.add(entry)
      if (kindOf(tape, parent) === KIND.array) gone.lists.set(parent, holder)
      else gone.objects.add(parent)
    }
  }
  if (gone !== undefined) cutAll(tape, gone, changes)
}

/** What goes, and which lists (each with the object around) and objects it goes from. */
type Gone = {
  readonly entries: Set<number>
  readonly lists: Map<number, number>
  readonly objects: Set<number>
}

function cutAll(tape: Tape, { entries, lists, objects }: Gone, all: MaskChange[]): void {
  const goes = (entry: number): boolean => entries.has(entry)
  for (const [list, holder] of lists) {
    const { isAll, changes } = cut(tape, list, goes)
    if (isAll) {
      entries.add(list - 1)
      objects.add(holder)
    } else for (const change of changes) all.push(change)
  }
  for (const object of objects) {
    const { isAll, changes } = cut(tape, object, goes)
    if (isAll) all.push({ from: beginOf(object), to: finishOf(object), text: STUB })
    else for (const change of changes) all.push(change)
  }
}

import { kindOf, after, endOf, startOf } from './tape.ts'
import { KIND } from './tape.ts'
import type { Edit, Tape } from './tape.ts'

/**
 * A place in a text by its tape, so that it means the same in every text of one structure: the number of an
 * entry times four, and which of its places.
 */
export type Place = number

export const beginOf = (entry: number): Place => entry << 2
export const finishOf = (entry: number): Place => (entry << 2) | 1
/** Of a container: behind its first bracket, and before its last. */
export const inside = (entry: number): Place => (entry << 2) | 2
export const beforeEnd = (entry: number): Place => (entry << 2) | 3

/** An edit by places. */
export type Change = { readonly from: Place; readonly to: Place; readonly text: string }

/** Where a place is in the bytes. */
export function byteAt(tape: Tape, place: Place): number {
  const entry = place >> 2
  const which = place & 3
  const byte = (which & 1) === 0 ? startOf(tape, entry) : endOf(tape, entry)
  return which < 2 ? byte : which === 2 ? byte + 1 : byte - 1
}

export const toEdit = (tape: Tape, { from, to, text }: Change): Edit => ({
  start: byteAt(tape, from),
  end: byteAt(tape, to),
  text,
})

/**
 * The bytes from `start` to `end` with the edits spliced in; every other byte is the original one.
 * An edit inside another gives way to the outer one.
 */
export function splice(
  bytes: Buffer,
  edits: readonly Edit[],
  start = 0,
  end = bytes.length,
): Buffer {
  if (edits.length === 0) return bytes.subarray(start, end)
  const ordered = orderEdits(edits)
  let size = end - start
  for (const { text } of ordered) size += text.length * 3
  const out = Buffer.allocUnsafe(size)
  let length = 0
  let at = start
  for (const edit of ordered) {
    if (edit.start < at) continue
    length += bytes.copy(out, length, at, edit.start)
    if (edit.text !== '') length += out.write(edit.text, length)
    at = edit.end
  }
  length += bytes.copy(out, length, at, end)
  return out.subarray(0, length)
}

/** In the order in which they are made; mostly they are in it, or nearly. */
export function orderEdits(edits: readonly Edit[]): readonly Edit[] {
  for (let n = 1; n < edits.length; n++) {
    if (inOrder(edits[n - 1] as Edit, edits[n] as Edit) <= 0) continue
    return edits.length > FEW ? edits.toSorted(inOrder) : insertInOrder(edits)
  }
  return edits
}
const FEW = 40

function insertInOrder(edits: readonly Edit[]): Edit[] {
  const ordered: Edit[] = []
  for (const edit of edits) {
    let n = ordered.length
    for (; n > 0 && inOrder(ordered[n - 1] as Edit, edit) > 0; n--)
      ordered[n] = ordered[n - 1] as Edit
    ordered[n] = edit
  }
  return ordered
}

/** By place; at one place insertions first, then the widest. */
export function inOrder(a: Edit, b: Edit): number {
  if (a.start !== b.start) return a.start - b.start
  if (a.end === a.start || b.end === b.start) return a.end - b.end
  return b.end - a.end
}

/**
 * The edits that take the chosen members out of an object, commas included, so that what is left is
 * still JSON. `remove` is asked for each key entry.
 */
export function removeMembers(
  tape: Tape,
  object: number,
  remove: (key: number) => boolean,
): readonly Edit[] {
  return kindOf(tape, object) === KIND.object ? cutEdits(tape, object, remove) : NONE
}

/** The same for the elements of an array. */
export function removeElements(
  tape: Tape,
  array: number,
  remove: (element: number) => boolean,
): readonly Edit[] {
  return kindOf(tape, array) === KIND.array ? cutEdits(tape, array, remove) : NONE
}

const NONE: readonly Edit[] = []

function cutEdits(
  tape: Tape,
  container: number,
  remove: (entry: number) => boolean,
): readonly Edit[] {
  const { changes } = cut(tape, container, remove)
  return changes.length === 0 ? NONE : changes.map((change) => toEdit(tape, change))
}

/** The changes to a container, and whether nothing is left in it. */
export type Cut = { readonly changes: Change[]; readonly isAll: boolean }

/** Takes the chosen members or elements out: a part goes with the comma before it, or after. */
export function cut(tape: Tape, container: number, remove: (entry: number) => boolean): Cut {
  const changes: Change[] = []
  const width = kindOf(tape, container) === KIND.object ? 1 : 0
  const end = after(tape, container)
  /** Where the last kept part ends; -1 = none yet. */
  let kept = -1
  /** Begin and end of what goes before any part is kept. */
  let first = -1
  let last = -1
  for (let entry = container + 1; entry < end; entry = after(tape, entry + width)) {
    const limit = finishOf(entry + width)
    if (!remove(entry)) {
      if (first >= 0) changes.push({ from: first, to: beginOf(entry), text: '' })
      first = -1
      kept = limit
    } else if (kept >= 0) {
      changes.push({ from: kept, to: limit, text: '' })
      kept = limit
    } else {
      if (first < 0) first = beginOf(entry)
      last = limit
    }
  }
  if (first >= 0) changes.push({ from: first, to: last, text: '' })
  return { changes, isAll: first >= 0 }
}

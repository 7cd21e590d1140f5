import { kindOf, after, endOf, startOf } from './tape.ts'
import { KIND } from './tape.ts'
import type { Tape } from './tape.ts'

/** Replaces the bytes from `start` to `end`. */
export type Edit = { readonly start: number; readonly end: number; readonly text: string }

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

/** In the order in which they are made; mostly they are in it. */
export function orderEdits(edits: readonly Edit[]): readonly Edit[] {
  for (let n = 1; n < edits.length; n++) {
    if (inOrder(edits[n - 1] as Edit, edits[n] as Edit) > 0) return edits.toSorted(inOrder)
  }
  return edits
}

/** By place; at one place insertions first, then the widest. */
function inOrder(a: Edit, b: Edit): number {
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
): Edit[] {
  if (kindOf(tape, object) !== KIND.object) return []
  const end = after(tape, object)
  let key = object + 1
  // Mostly nothing goes, and then nothing need be made.
  while (key < end && !remove(key)) key = after(tape, key + 1)
  if (key >= end) return []
  const cut = new Cut()
  for (key = object + 1; key < end; key = after(tape, key + 1)) {
    cut.pass(startOf(tape, key), endOf(tape, key + 1), remove(key))
  }
  return cut.end()
}

/** The same for the elements of an array. */
export function removeElements(
  tape: Tape,
  array: number,
  remove: (element: number) => boolean,
): Edit[] {
  const cut = new Cut()
  if (kindOf(tape, array) !== KIND.array) return cut.edits
  const end = after(tape, array)
  for (let element = array + 1; element < end; element = after(tape, element)) {
    cut.pass(startOf(tape, element), endOf(tape, element), remove(element))
  }
  return cut.end()
}

/** Takes parts out of a list with commas between: a part goes with the comma before it, or after. */
class Cut {
  readonly edits: Edit[] = []
  /** Where the last kept part ends; -1 = none yet. */
  #kept = -1
  /** Begin and end of what goes before any part is kept. */
  #start = -1
  #end = -1

  pass(start: number, end: number, isRemoved: boolean): void {
    if (!isRemoved) {
      if (this.#start >= 0) this.edits.push({ start: this.#start, end: start, text: '' })
      this.#start = -1
      this.#kept = end
    } else if (this.#kept >= 0) {
      this.edits.push({ start: this.#kept, end, text: '' })
      this.#kept = end
    } else {
      if (this.#start < 0) this.#start = start
      this.#end = end
    }
  }

  end(): Edit[] {
    if (this.#start >= 0) this.edits.push({ start: this.#start, end: this.#end, text: '' })
    return this.edits
  }
}

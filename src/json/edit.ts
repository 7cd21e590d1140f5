import { kindOf, after, endOf, startOf } from './tape.ts'
import { KIND } from './scan.ts'
import type { Tape } from './scan.ts'

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
  const pieces: Buffer[] = []
  let at = start
  for (const edit of edits.toSorted(inOrder)) {
    if (edit.start < at) continue
    pieces.push(bytes.subarray(at, edit.start), Buffer.from(edit.text))
    at = edit.end
  }
  pieces.push(bytes.subarray(at, end))
  return Buffer.concat(pieces)
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
  const edits: Edit[] = []
  if (kindOf(tape, object) !== KIND.object) return edits
  const end = after(tape, object)
  let keptEnd = -1
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    const next = after(tape, key + 1)
    const valueEnd = endOf(tape, key + 1)
    if (!remove(key)) {
      keptEnd = valueEnd
      continue
    }
    // From the last kept member on, or up to the next member when nothing was kept yet.
    if (keptEnd >= 0) edits.push({ start: keptEnd, end: valueEnd, text: '' })
    else
      edits.push({
        start: startOf(tape, key),
        end: next < end ? startOf(tape, next) : valueEnd,
        text: '',
      })
    if (keptEnd >= 0) keptEnd = valueEnd
  }
  return edits
}

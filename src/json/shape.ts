import { FLAG_MASK, FLAG_SHIFT, KIND, KIND_MASK, WIDTH } from './tape.ts'
import type { Tape } from './tape.ts'

/**
 * The structure of a value: kinds and names of all that is in it, in order, and where each container ends.
 * What texts, numbers and literals say is none of it, nor which name the value itself has; members that have
 * no number in the names of the scan all count as one.
 */
export type Shape = {
  readonly words: Int32Array
  /** Equal for equal ones. */
  readonly hash: number
}

/** No shape is longer, in integers. */
const LONGEST = 8192
const FLAGS = FLAG_MASK << FLAG_SHIFT
const scratch = new Int32Array(LONGEST + 1)

/** The shape of a value, good until the next is asked for; undefined = it is too large to have one. */
export function shapeOf({ data }: Tape, value: number): Shape | undefined {
  const end = limitOf(data, value)
  // Two integers for each at most.
  if ((end - value) * 2 > LONGEST) return undefined
  let length = 0
  let hash = 0
  let mask = KIND_MASK
  for (let entry = value; entry < end; entry++) {
    const word = (data[entry * WIDTH + 2] as number) & mask
    mask = ~FLAGS
    scratch[length++] = word
    hash = (Math.imul(hash, 31) + word) | 0
    if ((word & KIND_MASK) <= KIND.array) {
      const last = (data[entry * WIDTH + 3] as number) - value
      scratch[length++] = last
      hash = (Math.imul(hash, 31) + last) | 0
    }
  }
  return { words: scratch.subarray(0, length), hash }
}

/** Whether two are the same, whatever their hashes. */
export function isSame(one: Shape, words: Int32Array): boolean {
  const { length } = words
  if (one.words.length !== length) return false
  for (let n = 0; n < length; n++) if (one.words[n] !== words[n]) return false
  return true
}

function limitOf(data: Int32Array, value: number): number {
  const kind = (data[value * WIDTH + 2] as number) & KIND_MASK
  return kind <= KIND.array ? (data[value * WIDTH + 3] as number) : value + 1
}

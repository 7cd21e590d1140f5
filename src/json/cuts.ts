import { loadModule, PAGE } from './web-assembly.ts'
import type { Memory } from './web-assembly.ts'

/**
 * Where a JSON text that comes in slices can be cut (assembly/cuts.ts), at several gigabytes a second.
 * A cut says only where to try: whoever takes a piece scans it strictly.
 */

/** What goes on from one slice of a text to the next; zeros before its first byte. */
export type Standing = {
  depth: number
  /** Bit 0: within a string. Bit 1: behind a backslash that takes the meaning of the next byte. */
  carry: number
}

/** Looks at one slice at a time; whoever loads one is done with the last one. */
export type Cuts = {
  /** Takes a slice of at most {@link LARGEST_SLICE} bytes. */
  readonly load: (slice: Buffer) => void
  /** Where the next bracket opens among the members of the outermost object, or -1. */
  readonly nextOpen: (from: number, standing: Standing) => number
  /**
   * Where the array ends that such a bracket has opened; if it does not, the last comma between its
   * elements; or -1.
   */
  readonly lastCut: (from: number, standing: Standing) => number
}

type Exports = {
  readonly memory: Memory
  readonly nextOpen: (from: number, end: number, depth: number, carry: number) => number
  readonly lastCut: (from: number, end: number, depth: number, carry: number) => number
  readonly depthAfter: () => number
  readonly carryAfter: () => number
}

export const LARGEST_SLICE = PAGE
/** The first page is the compiler's; the last one keeps reads of 64 bytes within the memory. */
const WINDOW = PAGE
const LANES = 64

const instantiate = loadModule('cuts')

export function createCuts(): Cuts {
  const exports = instantiate() as Exports
  exports.memory.grow(2)
  const window = new Uint8Array(exports.memory.buffer, WINDOW, LARGEST_SLICE + LANES)
  let end = WINDOW

  function take(found: number, standing: Standing): number {
    standing.depth = exports.depthAfter()
    standing.carry = exports.carryAfter()
    return found === 0 ? -1 : found - WINDOW
  }

  return {
    load(slice) {
      if (slice.length > LARGEST_SLICE) throw new RangeError('a slice too large')
      window.set(slice)
      window.fill(0, slice.length, slice.length + LANES)
      end = WINDOW + slice.length
    },
    nextOpen: (from, standing) =>
      take(exports.nextOpen(WINDOW + from, end, standing.depth, standing.carry), standing),
    lastCut: (from, standing) =>
      take(exports.lastCut(WINDOW + from, end, standing.depth, standing.carry), standing),
  }
}

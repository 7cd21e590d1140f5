import { ENDS, NONE, PatternAutomaton, STATE } from './pattern-automaton.ts'

/** Tells of a match; `end` is the offset behind it. */
export type Tell = (pattern: number, start: number, end: number) => void

/**
 * Of one pattern: which of its begins come to the same, by number for each sign of a text, so that one walk is
 * enough for them; from those with 0 it comes to nothing.
 */
export type Groups = { readonly pattern: number; readonly of: Int32Array }

/** The classes of a text of this length at most are kept in one place, whichever text it is. */
const SHORT = 4096
/** No text is as long. */
const NEVER = 0x7fffffff

/**
 * Finds many patterns in one pass: their automaton is walked from every place where one of them may
 * begin until none can match any more. What a text costs does not grow with the number of patterns, and
 * no walk is longer than the longest pattern. Of several ends the last one counts, since patterns ask for
 * as much as there is.
 */
export class Recognizer {
  readonly #automaton: PatternAutomaton
  readonly #whole: readonly RegExp[]
  readonly #signs = new Uint8Array(SHORT + 1)
  /** By pattern: where the match ends that was met last. */
  readonly #ends = new Int32Array(32)

  constructor(patterns: readonly RegExp[]) {
    this.#automaton = new PatternAutomaton(patterns)
    this.#whole = patterns.map(({ source, flags }) => new RegExp(source, flags.replace('g', 'y')))
  }

  /** The matches of the `wanted` patterns (bits) by their begin; those of one pattern are apart. */
  find(text: string, wanted: number, tell: Tell, groups?: Groups): void {
    const automaton = this.#automaton
    const { starts } = automaton
    const signs = this.#signsOf(text)
    const { length } = text
    const ends = this.#ends
    let { table, endings } = automaton
    /** The patterns not within a match of theirs, and where the first of the others will not be either. */
    let free = wanted
    let soonest = NEVER
    let before = NONE
    const grouped = groups === undefined ? 0 : 1 << groups.pattern
    let walked = 0
    for (let start = 0; start < length; start++) {
      let place = (starts[before] as number) + (signs[start] as number)
      before = signs[start] as number
      let entry = table[place] as number
      if (entry === 0) {
        entry = automaton.step(place)
        ;({ table, endings } = automaton)
      }
      let state = entry & STATE
      if (state === 0) continue
      if (start >= soonest) {
        soonest = NEVER
        for (let left = wanted & ~free; left !== 0; left &= left - 1) {
          const end = ends[lowest(left)] as number
          if (end <= start) free |= left & -left
          else if (end < soonest) soonest = end
        }
      }
      let open = free
      if (groups !== undefined && ((table[state] as number) & free & grouped) !== 0) {
        const group = groups.of[start] as number
        if (group === 0 || group === walked) open &= ~grouped
        else walked = group
      }
      let met = 0
      for (let at = start + 1; ((table[state] as number) & open) !== 0; at++) {
        place = state + (signs[at] as number)
        entry = table[place] as number
        if (entry === 0) {
          entry = automaton.step(place)
          ;({ table, endings } = automaton)
        }
        if ((entry & ENDS) !== 0) {
          const here = (endings[place] as number) & open
          met |= here
          for (let left = here; left !== 0; left &= left - 1) ends[lowest(left)] = at
        }
        state = entry & STATE
      }
      if (met === 0) continue
      free &= ~met
      for (; met !== 0; met &= met - 1) {
        const pattern = lowest(met)
        const end = this.#endOf(text, pattern, start)
        ends[pattern] = end
        if (end < soonest) soonest = end
        tell(pattern, start, end)
      }
    }
  }

  /** What may go on for long was only begun. */
  #endOf(text: string, pattern: number, start: number): number {
    const end = this.#ends[pattern] as number
    const whole = this.#whole[pattern]
    if (whole === undefined || !this.#automaton.begun.has(pattern)) return end
    whole.lastIndex = start
    return whole.test(text) ? whole.lastIndex : end
  }

  /** The class of each sign, and that of nothing behind the last. */
  #signsOf(text: string): Uint8Array {
    const automaton = this.#automaton
    const { classes } = automaton
    const { length } = text
    const signs = length > SHORT ? new Uint8Array(length + 1) : this.#signs
    for (let at = 0; at < length; at++) {
      const unit = text.charCodeAt(at)
      const known = classes[unit] as number
      signs[at] = known > 0 ? known : automaton.classOf(unit)
    }
    signs[length] = NONE
    return signs
  }
}

/** The number of the lowest bit. */
const lowest = (bits: number): number => 31 - Math.clz32(bits & -bits)

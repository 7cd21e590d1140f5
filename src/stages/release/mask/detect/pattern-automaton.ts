import { waysOf } from './bounded-pattern.ts'
import type { Part } from './bounded-pattern.ts'

/** Where in a pattern a walk may be: before a sign of a set, or at an end that none of `ahead` follows. */
type Position = { readonly pattern: number } & (
  { readonly set: number; readonly next: readonly Position[] } | { readonly ahead: number }
)

/** Signs that are in the same sets are one class, by number; what is around a text is in no set. */
export const NONE = 1
/** States are places in the table with room for so many classes; 0 is that in which nothing can match. */
const ROOM = 64
/** What the table has for a class is the next state, and: it is known; patterns end before this class. */
export const STATE = -ROOM
export const ENDS = 2
const KNOWN = 1

/** What may go on for longer, last in a pattern, is followed until it has as many signs as it must have. */
const COUNTED = 100

/**
 * Many patterns as one automaton. States are made when they are first met: there are 2,500 for all
 * detectors, of which texts meet some dozens.
 */
export class PatternAutomaton {
  /** Of each state bits of the patterns that may end yet, and by class what comes next; 0 = not known. */
  table = new Int32Array(64 * ROOM)
  /** In the places of the table: bits of the patterns that end. */
  endings = new Int32Array(64 * ROOM)
  /** By UTF-16 unit; 0 = not known yet. */
  readonly classes = new Uint8Array(0x10000)
  /** By the class before: the state to begin with. */
  readonly starts = new Int32Array(ROOM)
  /** Patterns that may go on where they are said to end. */
  readonly begun = new Set<number>()
  readonly #sets: RegExp[] = []
  readonly #setsOf: ReadonlySet<number>[] = [new Set()]
  readonly #classNumbers = new Map<string, number>()
  readonly #begins: { readonly behind: number; readonly positions: readonly Position[] }[] = []
  readonly #states = new Map<string, number>()
  readonly #positions: (readonly Position[])[] = []
  readonly #numbers = new Map<Position, number>()

  /** Throws on more than 31 patterns: each is a bit. */
  constructor(patterns: readonly RegExp[]) {
    if (patterns.length > 31) throw new RangeError('more than 31 patterns')
    for (const [pattern, form] of patterns.entries()) {
      for (const { behind, parts, ahead } of waysOf(form)) {
        const end = { pattern, ahead: this.#setNumber(ahead) }
        const positions = this.#lay(parts, [end], pattern)
        this.#begins.push({ behind: this.#setNumber(behind), positions })
      }
    }
    this.#stateOf([])
    this.#classFor([])
  }

  /** Finds out the class of a UTF-16 unit. */
  classOf(unit: number): number {
    const sign = String.fromCharCode(unit)
    const sets = this.#sets.flatMap((set, n) => (set.test(sign) ? n : []))
    const known = this.#classNumbers.get(sets.join())
    return (this.classes[unit] = known ?? this.#classFor(sets))
  }

  /** Finds out what the table has at a place. */
  step(place: number): number {
    const [state, sign] = [place & STATE, place & ~STATE]
    const sets = this.#setsOf[sign]
    const next: Position[] = []
    let ends = 0
    for (const one of this.#positions[state / ROOM] ?? []) {
      if ('set' in one) {
        if (sets?.has(one.set) === true) next.push(...one.next)
      } else if (sets?.has(one.ahead) !== true) ends |= 1 << one.pattern
    }
    const entry = this.#stateOf(next) | KNOWN | (ends === 0 ? 0 : ENDS)
    this.endings[place] = ends
    return (this.table[place] = entry)
  }

  #classFor(all: readonly number[]): number {
    const sets = new Set(all)
    const number = this.#setsOf.push(sets) - 1
    this.#classNumbers.set(all.join(), number)
    if (number === ROOM) throw new Error('the patterns tell too many signs apart')
    const begins = this.#begins.filter(({ behind }) => !sets.has(behind))
    this.starts[number] = this.#stateOf(begins.flatMap(({ positions }) => positions))
    return number
  }

  #setNumber(set: RegExp | undefined): number {
    if (set === undefined) return -1
    const known = this.#sets.findIndex((one) => String(one) === String(set))
    return known >= 0 ? known : this.#sets.push(set) - 1
  }

  /** Where a row of parts begins that leads to other positions. */
  #lay(parts: readonly Part[], to: readonly Position[], pattern: number): readonly Position[] {
    return parts.reduceRight((next, part) => this.#layPart(part, next, pattern), to)
  }

  #layPart(part: Part, to: readonly Position[], pattern: number): readonly Position[] {
    if ('set' in part) return [{ pattern, set: this.#setNumber(part.set), next: to }]
    if ('ways' in part) return part.ways.flatMap((way) => this.#lay(way, to, pattern))
    const isBegun = part.most > COUNTED
    if (isBegun) {
      if (to.some((one) => 'set' in one || one.ahead >= 0))
        throw new Error(`more than ${COUNTED} signs only last in a pattern`)
      this.begun.add(pattern)
    }
    let next = to
    for (let n = isBegun ? part.least : part.most; n > 0; n--) {
      const more = this.#layPart(part.part, next, pattern)
      next = n > part.least ? [...more, ...to] : more
    }
    return next
  }

  /** The state of being in all these positions. */
  #stateOf(all: readonly Position[]): number {
    const numbers = new Map(all.map((one) => [this.#numberOf(one), one]))
    const key = [...numbers.keys()].sort((a, b) => a - b).join()
    const known = this.#states.get(key)
    if (known !== undefined) return known
    const positions = [...numbers.values()]
    const state = (this.#positions.push(positions) - 1) * ROOM
    if (state === this.table.length) {
      this.table = twice(this.table)
      this.endings = twice(this.endings)
    }
    this.table[state] = positions.reduce((bits, { pattern }) => bits | (1 << pattern), 0)
    this.#states.set(key, state)
    return state
  }

  #numberOf(position: Position): number {
    const known = this.#numbers.get(position)
    if (known !== undefined) return known
    this.#numbers.set(position, this.#numbers.size)
    return this.#numbers.size - 1
  }
}

function twice(numbers: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const more = new Int32Array(numbers.length * 2)
  more.set(numbers)
  return more
}

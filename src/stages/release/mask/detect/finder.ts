import type { DetectorName } from '../../../../policy/masking-schema.ts'
import { findSecrets } from './secrets.ts'
import { atsOf, PATTERNS } from './patterns.ts'
import type { Pattern, PatternName } from './patterns.ts'
import { flatten } from './plain-text.ts'
import { Recognizer } from './recognizer.ts'
import type { Tell } from './recognizer.ts'

/** A part of a text; `start` and `end` are offsets in UTF-16 units. */
export type Found = { readonly start: number; readonly end: number; readonly name: DetectorName }

const ROWS = Object.entries(PATTERNS).map(([name, row]: [string, Pattern]) => ({
  name: name as PatternName,
  ...row,
}))
const MAIL = ROWS.findIndex(({ name }) => name === 'email')
const RECOGNIZER = new Recognizer(ROWS.map(({ pattern }) => pattern))

/** Whatever is looked for has a digit or one of these signs in it. */
const MAY_HOLD = /[\d@:]|www\.|[^\0-\x7f]/i
const NOTHING: readonly Found[] = []

/**
 * Finds what the detectors do in a text, in order and apart; where two overlap all of it is that of the
 * stricter, or else of the first.
 */
export function createFinder(
  names: ReadonlySet<DetectorName>,
  strictness: (name: DetectorName) => number = () => 0,
): (text: string) => readonly Found[] {
  const hasNumbers = names.has('us-ssn') || names.has('payment-card')
  let wanted = 0
  for (const [n, { name }] of ROWS.entries()) if (names.has(name)) wanted |= 1 << n
  // Of two in the same place SSNs and cards come first, then as they are named.
  const ranks = new Map([...names].map((name, rank) => [name, rank]))
  for (const name of ['us-ssn', 'payment-card'] as const) ranks.set(name, -1)

  return (text) => {
    if (!MAY_HOLD.test(text)) return NOTHING
    const numbers = hasNumbers ? findSecrets(text) : []
    const apart = new Apart(ranks, strictness)
    let n = 0
    const takeNumbers = (before: number): void => {
      for (let one = numbers[n]; one !== undefined && one.start < before; one = numbers[++n]) {
        const name = one.rule === 'ssn' ? 'us-ssn' : one.rule
        if (names.has(name)) apart.add(one.start, one.end, name)
      }
    }
    if (wanted !== 0)
      findPatterns(text, wanted, (start, end, name) => {
        if (n < numbers.length) takeNumbers(start)
        apart.add(start, end, name)
      })
    takeNumbers(Infinity)
    return apart.found
  }
}

/** Puts together what overlaps, added by where it begins. */
class Apart {
  readonly found: { start: number; end: number; name: DetectorName }[] = []
  readonly #ranks: ReadonlyMap<DetectorName, number>

  readonly #strictness: (name: DetectorName) => number

  constructor(
    ranks: ReadonlyMap<DetectorName, number>,
    strictness: (name: DetectorName) => number,
  ) {
    this.#ranks = ranks
    this.#strictness = strictness
  }

  add(start: number, end: number, name: DetectorName): void {
    const last = this.found.at(-1)
    if (last === undefined || start >= last.end) {
      this.found.push({ start, end, name })
      return
    }
    const isFirst =
      start === last.start &&
      (end > last.end || (end === last.end && this.#rankOf(name) < this.#rankOf(last.name)))
    const more = this.#strictness(name) - this.#strictness(last.name)
    if (more > 0 || (more === 0 && isFirst)) last.name = name
    if (end > last.end) last.end = end
  }

  #rankOf(name: DetectorName): number {
    return this.#ranks.get(name) ?? 0
  }
}

function findPatterns(
  text: string,
  wanted: number,
  tell: (start: number, end: number, name: PatternName) => void,
): void {
  const plain = flatten(text)
  const digits = new Digits()
  const near: (WordsBefore | undefined)[] = []
  const ats = (wanted & (1 << MAIL)) === 0 ? undefined : atsOf(plain.text)
  const groups = ats === undefined ? undefined : { pattern: MAIL, of: ats }
  const found: Tell = (n, start, end) => {
    const { name, check, words } = ROWS[n] as (typeof ROWS)[number]
    if (check !== undefined || words !== undefined) digits.read(plain.text, start, end)
    if (check?.(digits.values, digits.count) === false) return
    if (words !== undefined && digits.count === end - start) {
      const before = (near[n] ??= new WordsBefore(plain.text, words))
      if (!before.has(start)) return
    }
    tell(plain.at(start), plain.at(end - 1) + 1, name)
  }
  RECOGNIZER.find(plain.text, wanted, found, groups)
}

/** The letters and digits of a part of a text, as those of base 36. */
class Digits {
  readonly values = new Uint8Array(64)
  count = 0
  #start = -1
  #end = -1

  /** Several patterns may match the same part. */
  read(text: string, start: number, end: number): void {
    if (start === this.#start && end === this.#end) return
    this.#start = start
    this.#end = end
    this.count = 0
    for (let at = start; at < end; at++) {
      const unit = text.charCodeAt(at)
      if (unit >= 0x41) this.values[this.count++] = (unit & 0x1f) + 9
      else if (unit >= 0x30) this.values[this.count++] = unit - 0x30
    }
  }
}

/** How far before a number a word for it counts. */
const NEAR = 40

/** Whether words stand shortly before places, asked from left to right: the text is searched once. */
class WordsBefore {
  readonly #text: string
  readonly #words: RegExp
  /** The first of them where it was looked for last. */
  #at = -1

  constructor(text: string, words: RegExp) {
    this.#text = text
    this.#words = new RegExp(words, 'gi')
  }

  has(index: number): boolean {
    const from = Math.max(0, index - NEAR)
    if (this.#at < from) {
      this.#words.lastIndex = from
      this.#at = this.#words.exec(this.#text)?.index ?? Infinity
    }
    return this.#at < index
  }
}

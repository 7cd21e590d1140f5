import { after, isContainer, KIND, kindOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'

/** What is around values that are asked about in order: the tape is passed over once. */
export class Around {
  readonly #tape: Tape
  /** Containers that are not at their end yet, the innermost last. */
  readonly #open: number[] = []
  #at: number
  /** By object: members whose names begin with `_`. */
  readonly #besides = new Map<number, Map<string, number[]>>()

  constructor(tape: Tape, object: number) {
    this.#tape = tape
    this.#at = object
  }

  /** The container that a key or value stands in, and that around it. */
  of(entry: number): readonly [holder: number, outer: number] {
    for (; this.#at < entry; this.#at++) {
      this.#close(this.#at)
      if (isContainer(this.#tape, this.#at)) this.#open.push(this.#at)
    }
    this.#close(entry)
    return [this.#open.at(-1) ?? -1, this.#open.at(-2) ?? -1]
  }

  /** The objects that a value stands in, the innermost first. */
  objectsOf(entry: number): readonly number[] {
    this.of(entry)
    return this.#open.filter((one) => kindOf(this.#tape, one) === KIND.object).reverse()
  }

  #close(entry: number): void {
    while (this.#open.length > 0 && after(this.#tape, this.#open.at(-1) ?? 0) <= entry)
      this.#open.pop()
  }

  /** What stands beside the member of an object, once: then it has gone. */
  takeBesides(object: number, key: number): readonly number[] {
    const name = textOf(this.#tape, key) ?? ''
    if (name.startsWith('_')) return []
    let left = this.#besides.get(object)
    if (left === undefined) this.#besides.set(object, (left = this.#listBesides(object)))
    const found = left.get(`_${name}`) ?? []
    left.delete(`_${name}`)
    return found
  }

  #listBesides(object: number): Map<string, number[]> {
    const tape = this.#tape
    const found = new Map<string, number[]>()
    for (let key = object + 1; key < after(tape, object); key = after(tape, key + 1)) {
      const name = textOf(tape, key) ?? ''
      const known = found.get(name)
      if (known !== undefined) known.push(key)
      else if (name.startsWith('_')) found.set(name, [key])
    }
    return found
  }
}

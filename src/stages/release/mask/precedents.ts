import { byteAt, inOrder, toEdit } from '../../../json/edit.ts'
import { isSame } from '../../../json/shape.ts'
import type { Shape } from '../../../json/shape.ts'
import type { Edit, Tape } from '../../../json/tape.ts'
import type { MaskChange } from './alteration.ts'
import { make } from './methods.ts'
import { SAME } from './method-context.ts'
import type { Made, MethodContext } from './method-context.ts'
import type { Recipe } from './methods.ts'
import type { Answer, Question } from './questions.ts'

/**
 * How resources were masked, to be followed for others of the same structure: a server writes a type in few
 * ways, and comparing costs less than a walk through the rules. What a walk comes to hangs on the structure
 * and on what it has asked; where both are as they were it would come to the same, and nothing is left but
 * to make the texts that hang on what values say (docs/decisions/0038).
 */
export class Precedents {
  readonly #known = new Map<number, Precedent[]>()
  /** Integers kept, about. */
  #size = 0

  /** What a resource comes to by a precedent; undefined = there is none. */
  follow(
    tape: Tape,
    object: number,
    shape: Shape,
    narratives: readonly number[],
    methods: MethodContext,
  ): (Outcome & { readonly edits: Edit[] }) | undefined {
    for (const one of this.#known.get(shape.hash) ?? NONE) {
      if (!isSame(shape, one.shape) || !areSame(one.narratives, narratives, object)) continue
      const edits = repeat(one, tape, object, methods)
      if (edits === undefined) continue
      const { counts, renamed } = one.outcome
      return { edits, counts, renamed }
    }
    return undefined
  }

  /** For a resource that is one of several; the first of a kind is let go, it may be the only one. */
  record({ hash, words }: Shape): Recording | undefined {
    const known = this.#known.get(hash)
    if (known !== undefined) {
      if (known.length >= MOST_OF_A_KIND) return undefined
      return new Recording((precedent) => {
        known.push(precedent)
        const { shape, asked, unmade, changes } = precedent
        this.#size += shape.length + (asked.length + unmade.length + changes.length) * STEP
      }, words.slice())
    }
    if (this.#size > LARGEST) {
      this.#known.clear()
      this.#size = 0
    }
    this.#known.set(hash, [])
    this.#size += STEP
    return undefined
  }
}

const NONE: readonly Precedent[] = []
const MOST_OF_A_KIND = 16
const STEP = 16
const LARGEST = 1 << 20

/** What masking comes to besides the edits. */
export type Outcome = {
  /** Altered values by rule. */
  readonly counts: ReadonlyMap<string, number>
  /** What the id has become: another one, or none that may be seen; undefined = it is as it was. */
  readonly renamed: 'pseudonym' | 'gone' | undefined
}

/** Entries and places in it are counted from the resource on. */
type Precedent = {
  readonly shape: Int32Array
  readonly narratives: readonly number[]
  readonly asked: readonly Asked[]
  readonly unmade: readonly Unmade[]
  /** In order. */
  readonly changes: readonly MaskChange[]
  readonly outcome: Outcome
}

/** Something that was asked, with the answer on which the rest hangs. */
type Asked = { readonly question: Question; readonly entry: number; readonly answer: Answer }

/** A value that stays as it is (SAME), or cannot be shown at all (undefined). */
type Unmade = { readonly recipe: Recipe; readonly entry: number; readonly made: Made | undefined }

/** What is written down while a resource is masked by the rules. */
export class Recording {
  readonly #keep: (precedent: Precedent) => void
  readonly #shape: Int32Array
  readonly #asked: Asked[] = []
  readonly #unmade: Unmade[] = []
  #made = 0
  #isComplete = true

  constructor(keep: (precedent: Precedent) => void, shape: Int32Array) {
    this.#keep = keep
    this.#shape = shape
  }

  ask(question: Question, entry: number, answer: Answer): void {
    this.#asked.push({ question, entry, answer })
  }

  make(recipe: Recipe, entry: number, made: Made | undefined): void {
    if (made === undefined || made === SAME) this.#unmade.push({ recipe, entry, made })
    else this.#made++
  }

  /** Something hangs on more than is written down. */
  giveUp(): void {
    this.#isComplete = false
  }

  /** What was found in the end; where something that was made has gone again nothing is remembered. */
  finish(
    tape: Tape,
    object: number,
    narratives: readonly number[],
    changes: readonly MaskChange[],
    outcome: Outcome,
  ): void {
    const made = changes.filter(({ recipe }) => recipe !== undefined).length
    if (!this.#isComplete || made !== this.#made) return
    const from = <T extends { readonly entry: number }>(one: T): T => ({
      ...one,
      entry: one.entry - object,
    })
    this.#keep({
      shape: this.#shape,
      narratives: narratives.map((entry) => entry - object),
      asked: this.#asked.map(from),
      unmade: this.#unmade.map(from),
      changes: changes
        .toSorted((a, b) => inOrder(toEdit(tape, a), toEdit(tape, b)))
        .map((one) => ({ ...one, from: one.from - object * 4, to: one.to - object * 4 })),
      outcome,
    })
  }
}

function areSame(known: readonly number[], narratives: readonly number[], object: number): boolean {
  return (
    known.length === narratives.length &&
    known.every((entry, n) => entry === (narratives[n] as number) - object)
  )
}

/** undefined = something is not as it was. */
function repeat(
  { asked, unmade, changes }: Precedent,
  tape: Tape,
  object: number,
  methods: MethodContext,
): Edit[] | undefined {
  for (const { question, entry, answer } of asked)
    if (question(tape, object + entry) !== answer) return undefined
  for (const { recipe, entry, made } of unmade)
    if (make(tape, object + entry, recipe, methods) !== made) return undefined
  const edits: Edit[] = []
  const base = object * 4
  for (const { from, to, text, recipe, code } of changes) {
    let own = text
    if (recipe !== undefined) {
      const made = make(tape, object + (from >> 2), recipe, methods)
      if (made === undefined || made === SAME || made.code !== code) return undefined
      own = made.text
    }
    edits.push({ start: byteAt(tape, base + from), end: byteAt(tape, base + to), text: own })
  }
  return edits
}

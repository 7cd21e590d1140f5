import { after, KIND, kindOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'

/**
 * What calls a number an SSN. Nine digits without separators are one only where words say so
 * (requirements §9.2), and in FHIR these seldom stand in the text of the value: they are the question
 * of an answer, the code of an observation, the address of an extension, the system of an identifier, the
 * name of a parameter. A number of JSON needs such words even more: as many digits are a count or a size.
 */

// As words, in kebab-case or snake_case; 45396-3 is the SSN in LOINC.
const WORDS =
  /(?<![a-z])ssn(?![a-z])|\bs\. ?s\. ?n\b|social[\s_-]{0,3}security|\bsoc\.? ?sec|\b45396-3\b/i
/** As camelCase has it: patientSSN, ssnValue. */
const CAMEL = /[a-z]SSN(?![a-z])|(?<![A-Za-z])(?:ssn|SSN)(?=[A-Z][a-z])/

export const namesSsn = (text: string): boolean => WORDS.test(text) || CAMEL.test(text)

/** Members of the object with the value whose text calls it something, and of the object around that. */
const BESIDE_IT = new Set(['text', 'display', 'url', 'linkId', 'system', 'name'])
const AROUND_IT = new Set(['text', 'url', 'linkId'])
/** Members that do so with any text in them. */
const CODED = new Set(['code', 'assigner'])

/** Whether values are called an SSN; what an object says is read once, for all that are in it. */
export class Called {
  readonly #tape: Tape
  readonly #beside = new Map<number, boolean>()
  readonly #around = new Map<number, boolean>()
  readonly #aroundChoice = new Map<number, boolean>()

  constructor(tape: Tape) {
    this.#tape = tape
  }

  /** By what is in the objects around it, the innermost first. */
  isSsn([holder, outer]: readonly number[]): boolean {
    if (holder === undefined) return false
    if (this.#isNamed(this.#beside, holder, BESIDE_IT, CODED)) return true
    if (outer === undefined) return false
    return isChoice(this.#tape, holder)
      ? this.#isNamed(this.#aroundChoice, outer, AROUND_IT, CODED)
      : this.#isNamed(this.#around, outer, AROUND_IT, NONE)
  }

  #isNamed(
    known: Map<number, boolean>,
    object: number,
    plain: ReadonlySet<string>,
    coded: ReadonlySet<string>,
  ): boolean {
    let is = known.get(object)
    if (is === undefined) known.set(object, (is = isNamedIn(this.#tape, object, plain, coded)))
    return is
  }
}

/** Whether an object is a `value[x]`: what is coded around it is the value, not what it consists of. */
const isChoice = (tape: Tape, object: number): boolean =>
  kindOf(tape, object - 1) === KIND.key && /^_?value/.test(textOf(tape, object - 1) ?? '')

const NONE: ReadonlySet<string> = new Set()

function isNamedIn(
  tape: Tape,
  object: number,
  plain: ReadonlySet<string>,
  coded: ReadonlySet<string>,
): boolean {
  for (let key = object + 1; key < after(tape, object); key = after(tape, key + 1)) {
    const name = textOf(tape, key) ?? ''
    const value = key + 1
    if (plain.has(name) && namesSsn(textOf(tape, value) ?? '')) return true
    if (coded.has(name) && isNamedWithin(tape, value)) return true
  }
  return false
}

function isNamedWithin(tape: Tape, value: number): boolean {
  for (let entry = value; entry < after(tape, value); entry++)
    if (kindOf(tape, entry) === KIND.string && namesSsn(textOf(tape, entry) ?? '')) return true
  return false
}

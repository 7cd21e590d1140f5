import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, isContainer, kindOf, nameOf, textOf } from '../../json/tape.ts'
import type { Inspection, Searching } from '../../permit.ts'
import { patientIn } from './judge.ts'
import type { Vocabulary } from './vocabulary.ts'

/** As lenient servers may read it: with a slash or blank too many, in capitals, of another base. */
const PATIENT_LIKE = /(?:^|[^a-z])patient(?:\/|%2f)/i

/**
 * What the references of a resource name, wherever they stand: patients, and by a search
 * (`Patient?identifier=…`) whomever it finds.
 */
export function referencesIn(
  tape: Tape,
  object: number,
  { at }: Vocabulary,
  bases: readonly string[],
): Pick<Inspection, 'named' | 'searches'> {
  const named = new Set<string>()
  const searches: Searching[] = []
  const end = after(tape, object)
  for (let entry = object; entry < end; entry++) {
    if (nameOf(tape, entry) !== at.reference || kindOf(tape, entry) !== KIND.string) continue
    const reference = textOf(tape, entry) ?? ''
    if (reference.includes('?')) {
      searches.push({ reference, element: namesTo(tape, object, entry).join('.') })
    }
    const patient = patientIn(tape, entry, bases)
    if (patient !== undefined) named.add(patient)
    else if (PATIENT_LIKE.test(reference)) named.add(reference)
  }
  return { named: [...named], searches }
}

/** The names of the members from a container down to an entry within it. */
function namesTo(tape: Tape, container: number, entry: number): string[] {
  const isObject = kindOf(tape, container) === KIND.object
  const end = after(tape, container)
  for (let key = container + 1; key < end;) {
    const value = isObject ? key + 1 : key
    const next = after(tape, value)
    if (entry < next) {
      const name = isObject ? [textOf(tape, key) ?? ''] : []
      return isContainer(tape, value) ? [...name, ...namesTo(tape, value, entry)] : name
    }
    key = next
  }
  return []
}

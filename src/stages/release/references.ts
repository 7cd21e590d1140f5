import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, isContainer, kindOf, nameOf, textOf } from '../../json/tape.ts'
import type { Inspection, Searching } from '../../permit.ts'
import { parseReference } from '../../fhir/reference.ts'
import { patientIn } from './judge.ts'
import type { Vocabulary } from './vocabulary.ts'

/** As lenient servers may read it: with a slash or blank too many, in capitals, of another base. */
const PATIENT_LIKE = /(?:^|[^a-z])patient(?:\/|%2f)/i

/** What a lenient server may take for a reference to what it holds: with a slash, and at no other server. */
function isLikeOurs(reference: string, bases: readonly string[]): boolean {
  if (reference.startsWith('#') || !/\/|%2f/i.test(reference)) return false
  if (!/^\s*[a-z][a-z0-9+.-]*:/i.test(reference)) return true
  const hosts = bases.map((base) => new URL(base).host)
  return URL.canParse(reference) && hosts.includes(new URL(reference).host)
}

/**
 * What the references of a resource name, wherever they stand: patients, other resources of ours, and by
 * a search (`Patient?identifier=…`) whomever it finds.
 */
export function referencesIn(
  tape: Tape,
  object: number,
  { at }: Vocabulary,
  bases: readonly string[],
): Pick<Inspection, 'named' | 'links' | 'searches'> {
  const named = new Set<string>()
  const links = new Set<string>()
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
    else {
      const local = parseReference(reference, bases)
      if (local !== undefined) links.add(`${local.type}/${local.id}`)
      else if (isLikeOurs(reference, bases)) links.add(reference)
    }
  }
  return { named: [...named], links: [...links], searches }
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

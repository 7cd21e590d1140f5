/** What FHIR itself defines for one version: types, search parameters, compartments, elements. */
import { readFileSync } from 'node:fs'
import { recall } from '../recall.ts'

/** A FHIR version this gateway can decide for. */
export type FhirVersion = 'DSTU2' | 'STU3' | 'R4' | 'R4B' | 'R5'

/** `fhirVersion` of each version, those that are met most first. */
export const NUMBERS: Readonly<Record<FhirVersion, string>> = {
  R4: '4.0.1',
  R5: '5.0.0',
  R4B: '4.3.0',
  STU3: '3.0.2',
  DSTU2: '1.0.2',
}
export const VERSIONS = Object.keys(NUMBERS) as readonly FhirVersion[]

/** As media types say it: `4.0`. */
const shortNumberOf = (version: FhirVersion): string =>
  NUMBERS[version].split('.').slice(0, 2).join('.')

/** The version that a `fhirVersion` is one of, whatever its last part; undefined when it is none of ours. */
export const versionOf = (number: string): FhirVersion | undefined =>
  VERSIONS.find((version) => number.startsWith(shortNumberOf(version)))

/** Element names from the resource down, arrays passed through: ['participant', 'actor']. */
export type ElementPath = readonly string[]

/** One search parameter of one type. */
export type SearchParameterDefinition = {
  readonly type:
    | 'number'
    | 'date'
    | 'string'
    | 'token'
    | 'reference'
    | 'composite'
    | 'quantity'
    | 'uri'
    | 'special'
  /** Elements it looks at, choice types written out (`valueQuantity`); [] when not expressible. */
  readonly paths: readonly ElementPath[]
  /** reference: types it may point at. */
  readonly targets?: readonly string[]
}

export type Definitions = {
  readonly version: FhirVersion
  /** As media types say it: `4.0` (http.html#version-parameter). */
  readonly number: string
  readonly types: ReadonlySet<string>
  /** Own parameters of a type, without those common to all (`_id`, `_lastUpdated` …). */
  readonly searchParameters: (type: string) => ReadonlyMap<string, SearchParameterDefinition>
  /**
   * Where a resource of this type names its primary subject (requirements §6.1: subject, patient,
   * beneficiary and the like), also for types outside the compartment that are about a patient
   * (Device, Task …). [] = cannot be tied to a patient. Patient itself: [] (its own id counts).
   */
  readonly patientPaths: (type: string) => readonly ElementPath[]
  /** The search parameter to AND when narrowing to one patient (§6.2); undefined = cannot be narrowed. */
  readonly patientParameter: (
    type: string,
  ) => { readonly name: string; readonly form: 'id' | 'reference' } | undefined
  /**
   * Where a resource of this type may name the owner of a compartment, by HL7's own definition of it:
   * secondary roles (author, performer, payor …) included, so a resource may be in the compartments of
   * several. [] = in none. The type itself: its own id counts too. STU3's chained members
   * (`agent.patient`) cannot be told from the resource and are left out.
   */
  readonly compartmentPaths: (compartment: CompartmentName, type: string) => readonly ElementPath[]
  /** The search parameters that HL7 defines this compartment by; [] = the type is in none. */
  readonly compartmentParameters: (compartment: CompartmentName, type: string) => readonly string[]
  /**
   * JSON keys at the top of a resource that must be there; of a choice all are named
   * (`medicationReference`, `medicationCodeableConcept`), and one of them must be there.
   */
  readonly mandatory: (type: string) => ReadonlySet<string>
  /** JSON keys at the top of a resource that `_summary=true` keeps, `id`, `meta` … included. */
  readonly summaryElements: (type: string) => ReadonlySet<string>
}

/** The compartments whose members are known here. */
export type CompartmentName = 'Patient' | 'Encounter' | 'Practitioner'

type Entry = {
  readonly patientPaths: readonly string[]
  readonly patientParameter?: string
  readonly compartments: Readonly<Partial<Record<CompartmentName, readonly string[]>>>
  readonly mandatory: readonly string[]
  readonly summary: readonly string[]
  readonly parameters: Readonly<Record<string, readonly unknown[]>>
}

/**
 * The definitions of one FHIR version, from the generated data (CC0, scripts/generate-fhir-data.ts).
 * Reads one file, that of the version, once.
 */
export const loadDefinitions = recall(readDefinitions, { most: VERSIONS.length })

function readDefinitions(version: FhirVersion): Definitions {
  const file = new URL(`./data/${version.toLowerCase()}.json`, import.meta.url)
  const data = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly types: Readonly<Record<string, Entry>>
  }
  const entries = new Map(Object.entries(data.types))
  const searchParameters = byType(
    entries,
    ({ parameters }) => new Map(Object.entries(parameters).map(define)),
  )
  const patientPaths = byType(entries, (entry) => entry.patientPaths.map(splitPath))
  const patientParameters = byType(entries, ({ patientParameter: name }) =>
    name === undefined ? undefined : ({ name, form: name === '_id' ? 'id' : 'reference' } as const),
  )
  const mandatory = byType(entries, (entry) => new Set(entry.mandatory))
  const summary = byType(entries, (entry) => new Set([...ALWAYS, ...entry.summary]))
  const compartmentPaths = (name: CompartmentName) =>
    byType(entries, ({ compartments, parameters }): readonly ElementPath[] => {
      const paths = (compartments[name] ?? []).flatMap(
        (parameter) => (parameters[parameter]?.[1] ?? []) as readonly string[],
      )
      return [...new Set(paths)].map(splitPath)
    })
  const compartments = {
    Patient: compartmentPaths('Patient'),
    Encounter: compartmentPaths('Encounter'),
    Practitioner: compartmentPaths('Practitioner'),
  }
  return {
    version,
    number: shortNumberOf(version),
    types: new Set(entries.keys()),
    searchParameters: (type) => searchParameters(type) ?? NO_PARAMETERS,
    patientPaths: (type) => patientPaths(type) ?? [],
    patientParameter: patientParameters,
    compartmentPaths: (compartment, type) => compartments[compartment](type) ?? [],
    compartmentParameters: (compartment, type) =>
      entries.get(type)?.compartments[compartment] ?? [],
    mandatory: (type) => mandatory(type) ?? NO_ELEMENTS,
    summaryElements: (type) => summary(type) ?? NO_ELEMENTS,
  }
}

const NO_PARAMETERS: ReadonlyMap<string, SearchParameterDefinition> = new Map()
const NO_ELEMENTS: ReadonlySet<string> = new Set()
/** Of every resource, summaries included (https://hl7.org/fhir/R4/search.html#summary). */
const ALWAYS = ['resourceType', 'id', 'meta', 'implicitRules']

/** What is made of the entry of a type, made when first asked for; undefined for unknown types. */
function byType<T>(
  entries: ReadonlyMap<string, Entry>,
  make: (entry: Entry) => T,
): (type: string) => T | undefined {
  const made = new Map<string, T>()
  return (type) => {
    const entry = entries.get(type)
    if (entry === undefined) return undefined
    if (!made.has(type)) made.set(type, make(entry))
    return made.get(type)
  }
}

const splitPath = (path: string): ElementPath => path.split('.')

function define([name, row]: [string, readonly unknown[]]): [string, SearchParameterDefinition] {
  const [type, paths, targets] = row as [
    SearchParameterDefinition['type'],
    readonly string[],
    (readonly string[])?,
  ]
  const found = paths.map(splitPath)
  return [name, targets === undefined ? { type, paths: found } : { type, paths: found, targets }]
}

/** What FHIR itself defines for one version: types, search parameters, patient compartment. */
import r4 from './data/r4.json' with { type: 'json' }

/** A FHIR version this gateway can decide for. */
export type FhirVersion = 'DSTU2' | 'STU3' | 'R4' | 'R4B' | 'R5'

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
  readonly types: ReadonlySet<string>
  /** Own parameters of a type, without those common to all (`_id`, `_lastUpdated` …). */
  readonly searchParameters: (type: string) => ReadonlyMap<string, SearchParameterDefinition>
  /**
   * Where a resource of this type names its primary subject (requirements §6.1: subject, patient,
   * beneficiary only). [] = cannot be tied to a patient. Patient itself: [] (its own id counts).
   */
  readonly patientPaths: (type: string) => readonly ElementPath[]
  /** The search parameter to AND when narrowing to one patient (§6.2); undefined = cannot be narrowed. */
  readonly patientParameter: (
    type: string,
  ) => { readonly name: string; readonly form: 'id' | 'reference' } | undefined
}

type Entry = {
  readonly patientPaths: readonly string[]
  readonly patientParameter?: string
  readonly parameters: Readonly<Record<string, readonly unknown[]>>
}

/**
 * The definitions of one FHIR version, from the generated data (CC0, scripts/generate-fhir-data.ts).
 * Throws for a version that this gateway cannot decide for.
 */
export function loadDefinitions(version: FhirVersion): Definitions {
  if (version !== 'R4') {
    throw new Error(`FHIR ${version} is not supported: this gateway decides for R4 only so far`)
  }
  const entries = new Map(Object.entries(r4.types as Readonly<Record<string, Entry>>))
  const searchParameters = new Map<string, ReadonlyMap<string, SearchParameterDefinition>>()
  const patientPaths = new Map<string, readonly ElementPath[]>()
  const patientParameters = new Map<string, { name: string; form: 'id' | 'reference' }>()
  for (const [type, entry] of entries) {
    searchParameters.set(type, new Map(Object.entries(entry.parameters).map(define)))
    patientPaths.set(type, entry.patientPaths.map(splitPath))
    const name = entry.patientParameter
    if (name !== undefined) {
      patientParameters.set(type, { name, form: name === '_id' ? 'id' : 'reference' })
    }
  }
  return {
    version,
    types: new Set(entries.keys()),
    searchParameters: (type) => searchParameters.get(type) ?? NO_PARAMETERS,
    patientPaths: (type) => patientPaths.get(type) ?? [],
    patientParameter: (type) => patientParameters.get(type),
  }
}

const NO_PARAMETERS: ReadonlyMap<string, SearchParameterDefinition> = new Map()

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

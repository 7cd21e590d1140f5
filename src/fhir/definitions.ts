/** What FHIR itself defines for one version: types, search parameters, patient compartment. */

/** A FHIR version this gateway can decide for. */
export type FhirVersion = 'DSTU2' | 'STU3' | 'R4' | 'R4B' | 'R5'

/** Element names from the resource down, arrays passed through: ['participant', 'actor']. */
export type ElementPath = readonly string[]

/** One search parameter of one type. */
export type SearchParameterDefinition = {
  readonly type:
    'number' | 'date' | 'string' | 'token' | 'reference' | 'composite' | 'quantity' | 'uri' | 'special'
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

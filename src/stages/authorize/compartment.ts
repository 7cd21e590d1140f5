import type { CompartmentName, Definitions } from '../../fhir/definitions.ts'
import { valuesAt } from '../../fhir/element.ts'
import { parseReference } from '../../fhir/reference.ts'
import type { Principal, ResourceId } from '../../exchange.ts'
import type { Criteria } from '../../permit.ts'
import type { Compartment } from '../../policy/evaluate.ts'

/**
 * Whose compartments, besides the patient's, a policy limits to; undefined for one whose owner the
 * token does not name: nothing is in it.
 */
export function ownersOf(
  { encounter, fhirUser }: Principal,
  compartments: ReadonlySet<Compartment>,
): readonly (ResourceId | undefined)[] {
  const owners: (ResourceId | undefined)[] = []
  if (compartments.has('encounter')) {
    owners.push(encounter === undefined ? undefined : { type: 'Encounter', id: encounter })
  }
  if (compartments.has('practitioner')) {
    owners.push(fhirUser?.type === 'Practitioner' ? fhirUser : undefined)
  }
  return owners
}

/**
 * What is in a compartment, by HL7's definition of it, as criteria that each resource is held
 * against; undefined when resources of the type are in none. Upstream is asked for it by the one
 * parameter of the definition, where there is one only.
 */
export function compileCompartment(
  { type: name, id }: ResourceId,
  type: string,
  definitions: Definitions,
  bases: readonly string[],
): Criteria | undefined {
  const compartment = name as CompartmentName
  if (type === name) {
    return {
      parameters: [{ name: '_id', values: [id] }],
      hold: (resource) => (resource as { id?: unknown } | null)?.id === id,
    }
  }
  const paths = definitions.compartmentPaths(compartment, type)
  if (paths.length === 0) return undefined
  const [parameter, ...others] = definitions.compartmentParameters(compartment, type)
  const isOne = parameter !== undefined && others.length === 0
  return {
    parameters: isOne ? [{ name: parameter, values: [`${name}/${id}`] }] : [],
    hold: (resource) =>
      paths.some((path) =>
        valuesAt(resource, path).some((value) => {
          const reference = (value as { reference?: unknown } | null)?.reference
          const local = typeof reference === 'string' ? parseReference(reference, bases) : undefined
          return local?.type === name && local.id === id
        }),
      ),
  }
}

/** Criteria that all must hold. */
export function both(criteria: readonly Criteria[]): Criteria {
  const [first] = criteria
  if (first !== undefined && criteria.length === 1) return first
  return {
    parameters: criteria.flatMap(({ parameters }) => parameters),
    hold: (resource) => criteria.every(({ hold }) => hold(resource)),
  }
}

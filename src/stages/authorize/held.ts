import type { Principal } from '../../exchange.ts'
import type { InteractionCode } from '../../fhir/interaction.ts'
import type { SmartLetter, SmartLevel } from '../../oauth/smart-scope.ts'

/**
 * Interaction to SMART letter (SCOPE-3): "r: read, vread, instance history; s: search, type and
 * system history". What is not in this table is refused for now.
 */
export const LETTER: Readonly<Partial<Record<InteractionCode, SmartLetter>>> = {
  read: 'r',
  vread: 'r',
  'history-instance': 'r',
  'search-type': 's',
  'search-compartment': 's',
  create: 'c',
  update: 'u',
  delete: 'd',
}

/** Types that `*` does not cover (SCOPE-14) and a SMART scope alone never opens (contract). */
const NEVER = new Set([
  'AuditEvent',
  'Subscription',
  'SubscriptionStatus',
  // Contents unknown until inspected (§6.1); MASK-8: what cannot be inspected is denied.
  'Binary',
  'Bundle',
  'Parameters',
])

/** Conformance resources: readable, never written through a scope. */
const CONFORMANCE = new Set([
  'CapabilityStatement',
  'CodeSystem',
  'CompartmentDefinition',
  'ConceptMap',
  'GraphDefinition',
  'ImplementationGuide',
  'MessageDefinition',
  'NamingSystem',
  'OperationDefinition',
  'SearchParameter',
  'StructureDefinition',
  'StructureMap',
  'TerminologyCapabilities',
  'ValueSet',
])

const USERS = new Set(['Practitioner', 'PractitionerRole', 'Patient', 'RelatedPerson'])

/** Whether scopes of this level mean anything for this principal (contract, SCOPE-11, SCOPE-15). */
function isUsable(level: SmartLevel, principal: Principal): boolean {
  if (level === 'patient') return principal.patient !== undefined
  if (level === 'system') return principal.kind === 'system'
  return (
    principal.kind === 'user' &&
    principal.fhirUser !== undefined &&
    USERS.has(principal.fhirUser.type)
  )
}

/** Widest first: a `user/` grant may widen a `patient/` one (requirements §3.2). */
const LEVELS: readonly SmartLevel[] = ['system', 'user', 'patient']

/** The levels at which the principal's scopes hold this letter for this type. Pure. */
export function levelsHolding(
  principal: Principal,
  letter: SmartLetter,
  type: string,
): readonly SmartLevel[] {
  if (NEVER.has(type) || (CONFORMANCE.has(type) && letter !== 'r' && letter !== 's')) return []
  return LEVELS.filter(
    (level) =>
      isUsable(level, principal) &&
      principal.scopes.some(
        (scope) =>
          scope.level === level &&
          (scope.target === '*' || scope.target === type) &&
          scope.letters.has(letter) &&
          // A granular scope grants nothing until a local evaluator can hold it (SCOPE-8).
          scope.filters.length === 0,
      ),
  )
}

import type { Principal } from '../../exchange.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import type { SmartLetter, SmartLevel } from '../../oauth/smart-scope.ts'
import type { Clearance, Confidentiality, Grant, Terms } from '../../permit.ts'
import type { Decision, PolicySet } from '../../policy/evaluate.ts'
import { Refusal } from '../../refusal.ts'

export type Asked = { readonly letter: SmartLetter; readonly word: string }

export const CONFIDENTIALITIES: readonly Confidentiality[] = ['U', 'L', 'M', 'N', 'R', 'V']
const LEVELS: readonly SmartLevel[] = ['patient', 'user', 'system']
const PERSONS = new Set(['Practitioner', 'PractitionerRole', 'Patient', 'RelatedPerson'])

// SCOPE-14: no scope is enough for these; the last three carry contents that nobody judges yet.
const NEVER = new Set(['AuditEvent', 'Subscription', 'Binary', 'Bundle', 'Parameters'])
const NEVER_WRITTEN =
  /^(?:CapabilityStatement|StructureDefinition|StructureMap|ImplementationGuide|SearchParameter|MessageDefinition|OperationDefinition|CompartmentDefinition|GraphDefinition|ExampleScenario|CodeSystem|ValueSet|ConceptMap|NamingSystem|TerminologyCapabilities|TestScript|Consent|Provenance)$/

/** Levels whose scopes hold `letter` on `type` for this principal, and can be used by it. */
export function heldLevels(principal: Principal, type: string, letter: SmartLetter): SmartLevel[] {
  return LEVELS.filter(
    (level) =>
      isUsable(principal, level) &&
      principal.scopes.some(
        (scope) =>
          scope.level === level &&
          // SCOPE-8: a filter nobody evaluates grants nothing.
          scope.filters.length === 0 &&
          (scope.target === type || scope.target === '*') &&
          scope.letters.has(letter),
      ),
  )
}

function isUsable(principal: Principal, level: SmartLevel): boolean {
  if (level === 'system') return principal.kind === 'system'
  if (level === 'patient') return principal.patient !== undefined
  const type = principal.fhirUser?.type
  if (principal.kind !== 'user' || type === undefined || !PERSONS.has(type)) return false
  // A related person is related to one patient: without that context there is no limit to hold to.
  return type !== 'RelatedPerson' || principal.patient !== undefined
}

type Held = Decision & { readonly patient: string | undefined }

/** Compares what is asked with what is held, level by level. Throws Refusal. */
export function decide(
  principal: Principal,
  interaction: Interaction,
  type: string,
  asked: Asked,
  policies: PolicySet,
  time: number,
): { readonly terms: Terms; readonly rules: readonly string[] } {
  const levels = heldLevels(principal, type, asked.letter)
  if (levels.length === 0) throw new Refusal('scope-insufficient')
  if (NEVER.has(type) || ('cud'.includes(asked.letter) && NEVER_WRITTEN.test(type))) {
    throw new Refusal('policy-denied', { detail: 'a type that no scope is enough for' })
  }
  const held = ask(principal, interaction, type, asked.word, levels, policies, time)
  if (held.length === 0) throw new Refusal('policy-denied')
  // Only a write can answer with something that a read would have to permit as well.
  const isWrite = 'cud'.includes(asked.letter)
  const readable = isWrite
    ? ask(principal, interaction, type, 'read', heldLevels(principal, type, 'r'), policies, time)
    : held
  // One level without a limit widens the others; what may be seen of it stays the strictest.
  const limit = held.every(({ patient }) => patient !== undefined) ? held[0]?.patient : undefined
  if (limit !== undefined && held.some(({ patient }) => patient !== limit)) {
    throw new Refusal('policy-denied', { detail: 'two patients at once' })
  }
  const [first, ...others] = held
  let clearance = first?.clearance ?? { confidentiality: 'U' as const, sensitivities: new Set() }
  for (const { clearance: next } of others) {
    const lower = rank(next) < rank(clearance)
    clearance = {
      confidentiality: (lower ? next : clearance).confidentiality,
      sensitivities: new Set(
        [...clearance.sensitivities].filter((code) => next.sensitivities.has(code)),
      ),
    }
  }
  // An echo must not show more than a read would.
  const masksReads = readable.some(({ masking }) => masking === 'de-identified')
  const masksWrites = held.some(({ masking }) => masking === 'de-identified')
  const mayReadBack =
    (masksWrites || !masksReads) &&
    readable.every((one) => isWithin(clearance, one.clearance)) &&
    readable.some(({ patient }) => patient === undefined || patient === limit)
  const letters = new Set<SmartLetter>(mayReadBack ? [asked.letter, 'r'] : [asked.letter])
  const grant: Grant = limit === undefined ? { letters } : { letters, patient: limit }
  const masking = held.some((one) => one.masking === 'de-identified') ? 'de-identified' : 'baseline'
  const grantFor = (other: string): Grant | undefined => (other === type ? grant : undefined)
  return {
    terms: { grantFor, clearance, masking, mayReadBack },
    rules: [...new Set(held.flatMap(({ rules }) => rules))],
  }
}

const rank = ({ confidentiality }: Clearance): number => CONFIDENTIALITIES.indexOf(confidentiality)

function isWithin(inner: Clearance, outer: Clearance): boolean {
  return (
    rank(inner) <= rank(outer) &&
    [...inner.sensitivities].every((code) => outer.sensitivities.has(code))
  )
}

function ask(
  principal: Principal,
  { id, method }: Interaction,
  type: string,
  word: string,
  levels: readonly SmartLevel[],
  policies: PolicySet,
  time: number,
): Held[] {
  const held: Held[] = []
  for (const level of levels) {
    const request = { interaction: word, type, level, id, method, time }
    const decision = policies.evaluate(principal, request)
    // A rule that denies at one level denies whatever other scopes the token has.
    if (!decision.permitted && decision.rules.length > 0) return []
    if (!decision.permitted) continue
    const own = ownPatient(principal, level)
    const limited = decision.compartment || own !== undefined
    const limit = own ?? principal.patient
    if (limited && limit === undefined) continue
    held.push({ ...decision, patient: limited ? limit : undefined })
  }
  return held
}

/** The only patient a person who is no professional acts for, whatever the policies say. */
function ownPatient({ fhirUser, patient }: Principal, level: SmartLevel): string | undefined {
  if (level !== 'user') return undefined
  if (fhirUser?.type === 'Patient') return fhirUser.id
  return fhirUser?.type === 'RelatedPerson' ? patient : undefined
}

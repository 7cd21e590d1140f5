import { both, compileCompartment, ownersOf } from './compartment.ts'
import type { Principal } from '../../exchange.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import type { Method } from '../../fhir/interaction.ts'
import type { SmartLetter, SmartLevel, SmartScope } from '../../oauth/smart-scope.ts'
import type { StepUp } from '../../oauth/strength.ts'
import type { Clearance, Confidentiality, Criteria, Grant, Reach } from '../../permit.ts'
import type { Decision, PolicyRequest, PolicySet, RuleTrace } from '../../policy/evaluate.ts'
import { Refusal } from '../../refusal.ts'

/** What an interaction needs of a type: the SMART letter, and the word that policies have for it. */
export type Asked = { readonly letter: SmartLetter; readonly word: string }

export const CONFIDENTIALITIES: readonly Confidentiality[] = ['U', 'L', 'M', 'N', 'R', 'V']
const LEVELS: readonly SmartLevel[] = ['patient', 'user', 'system']
const PERSONS = new Set(['Practitioner', 'PractitionerRole', 'Patient', 'RelatedPerson'])
const READ: Asked = { letter: 'r', word: 'read' }
const SEARCH: Asked = { letter: 's', word: 'search-type' }

// SCOPE-14: no scope is enough for these; the last three carry contents that nobody judges yet.
/** Nobody judges what is in them, or where they send it. */
const NEVER = new Set(['Subscription', 'Binary', 'Bundle', 'Parameters'])

/**
 * SCOPE-14: types that no wildcard means, neither of a scope nor of a policy: both must name them.
 * What is written to them changes what a server does, or what others believe.
 */
const NAMED_ONLY = new Set(['AuditEvent'])
/** What conformance and terminology are called in DSTU2, STU3, R4B and R5 included. */
const WRITTEN_BY_NAME_ONLY = new Set(
  (
    'CapabilityStatement Conformance StructureDefinition StructureMap DataElement SearchParameter ' +
    'ImplementationGuide MessageDefinition OperationDefinition CompartmentDefinition ' +
    'GraphDefinition ExampleScenario SubscriptionTopic Requirements ActorDefinition TestScript ' +
    'TestPlan CodeSystem ValueSet ConceptMap NamingSystem ExpansionProfile ' +
    'TerminologyCapabilities Consent Provenance'
  ).split(' '),
)

/** Whether neither a scope nor a rule means a type by "*". */
export const mustBeNamed = (type: string, letter: SmartLetter): boolean =>
  NAMED_ONLY.has(type) || ('cud'.includes(letter) && WRITTEN_BY_NAME_ONLY.has(type))

/** What the request is about, as conditions of policies may ask. */
export type About = {
  readonly id: string | undefined
  readonly method: Method
  readonly operation?: string | undefined
  /** Whether an emergency is declared: purpose BTG, a reason, and one patient (BTG-1, BTG-3). */
  readonly breakGlass?: boolean
}

export type HoldingsParts = {
  readonly policies: PolicySet
  readonly definitions: Definitions
  /** Compiles the filters of a granular scope; undefined = not exactly evaluable: grants nothing. */
  readonly compile: (scope: SmartScope, type: string) => Criteria | undefined
  /** Milliseconds since the epoch. */
  readonly now: number
  /** A reference on one of these is to a resource of ours. */
  readonly bases: readonly string[]
}

/** A scope that holds; with the criteria of a granular one. */
type Held = { readonly level: SmartLevel; readonly criteria: Criteria | undefined }

/**
 * What one principal holds, asked for one request: scopes and policies are looked at for each type
 * when it is asked for, and never twice. Requested and held stay apart; whoever asks compares.
 */
export class Holdings {
  readonly #principal: Principal
  readonly #about: About
  readonly #parts: HoldingsParts
  readonly #known = new Map<string, Grant | Refusal>()

  constructor(principal: Principal, about: About, parts: HoldingsParts) {
    this.#principal = principal
    this.#about = about
    this.#parts = parts
  }

  /** The grant for what is asked of a type. Throws Refusal when there is none. */
  demand(type: string, asked: Asked): Grant {
    const found = this.#look(type, asked)
    if (found instanceof Refusal) throw found
    return found
  }

  /** The grant for what is asked of a type, or undefined. */
  look(type: string, asked: Asked): Grant | undefined {
    const found = this.#look(type, asked)
    return found instanceof Refusal ? undefined : found
  }

  /**
   * The grant by which a resource of this type may be shown beside another, or undefined. Many come so at
   * once: what a policy masks in searches is masked there as well.
   */
  find(type: string): Grant | undefined {
    return this.look(type, SEARCH) ?? this.look(type, READ)
  }

  /** Throws Refusal unless there is a grant for one of the types at least. */
  demandAny(types: Iterable<string>, asked: Asked): void {
    let refusal: Refusal | undefined
    for (const type of types) {
      const found = this.#look(type, asked)
      if (!(found instanceof Refusal)) return
      if (refusal === undefined || rankOfReason(found) > rankOfReason(refusal)) refusal = found
    }
    throw refusal ?? new Refusal('scope-insufficient')
  }

  /**
   * Whether glass could be broken for it, by a token that was issued for an emergency and a request
   * that does not say why yet (BTG-2).
   */
  mayBreakGlass(type: string, { word }: Asked): boolean {
    const { purposes } = this.#principal
    if (this.#about.breakGlass === true || !purposes.includes('BTG')) return false
    return LEVELS.some(
      (level) =>
        isUsable(this.#principal, level) &&
        this.#ask(type, word, level, false, true).breakGlass !== undefined,
    )
  }

  #look(type: string, asked: Asked): Grant | Refusal {
    const key = `${asked.word} ${type}`
    let known = this.#known.get(key)
    if (known === undefined) {
      known = this.#decide(type, asked)
      this.#known.set(key, known)
    }
    return known
  }

  #decide(type: string, { letter, word }: Asked): Grant | Refusal {
    const byName = mustBeNamed(type, letter)
    const held = heldScopes(this.#principal, type, letter)
    const scopes: Held[] = []
    for (const scope of held) {
      if (byName && scope.target === '*') continue
      const isWhole = scope.filters.length === 0
      const criteria = isWhole ? undefined : this.#parts.compile(scope, type)
      // SCOPE-8: a filter that cannot be evaluated exactly grants nothing.
      if (isWhole || criteria !== undefined) scopes.push({ level: scope.level, criteria })
    }
    if (held.length > 0 && (NEVER.has(type) || (byName && scopes.length === 0))) {
      return new Refusal('policy-denied', { detail: 'a type that no scope is enough for' })
    }
    if (scopes.length === 0)
      return new Refusal('scope-insufficient', neededScope(this.#principal, type, letter))
    const reach: Reach[] = []
    const rules = new Set<string>()
    let isEmergency = false
    let stepUp: StepUp | undefined
    const pages: (number | undefined)[] = []
    const bans: NonNullable<Decision['parameters']>[] = []
    for (const level of LEVELS) {
      if (!isUsable(this.#principal, level)) continue
      const decision = this.#ask(type, word, level, byName)
      // A rule that denies at one level denies, whatever scopes there are at it or another: so that
      // one more scope never takes away.
      if (!decision.permitted && decision.rules.length > 0) return new Refusal('policy-denied')
      const own = scopes.filter((scope) => scope.level === level)
      const isAsked = decision.permitted || decision.stepUp !== undefined
      if (!isAsked || own.length === 0) continue
      const found = this.#reach(type, level, decision, own)
      if (decision.stepUp !== undefined) {
        if (found.length > 0) stepUp = decision.stepUp
        continue
      }
      reach.push(...found)
      if (found.length > 0) for (const rule of decision.rules) rules.add(rule)
      if (found.length === 0) continue
      pages.push(decision.results)
      if (decision.parameters !== undefined) bans.push(decision.parameters)
      if (decision.breakGlass !== undefined) isEmergency = true
    }
    // AUTHN-14: only where nothing but the login is missing.
    if (reach.length === 0 && stepUp !== undefined) {
      return new Refusal('strength-insufficient', { stepUp })
    }
    if (reach.length === 0) return new Refusal('policy-denied')
    const distinct = reach.filter(
      (one, at) => !reach.some((other, n) => n !== at && covers(other, one, n < at)),
    )
    return {
      letters: new Set([letter]),
      reach: distinct,
      rules: [...rules],
      isEmergency,
      recipient: `${this.#principal.issuer} ${this.#principal.clientId}`,
      results: largest(pages),
      forbids:
        bans.length === 0
          ? undefined
          : (name) =>
              bans.some(({ only, forbid }) => forbid.has(name) || only?.has(name) === false),
    }
  }

  /** What each rule says to what is asked of a type at one level; for people. */
  trace(type: string, { letter, word }: Asked, level: SmartLevel): readonly RuleTrace[] {
    const isDeclared = this.#about.breakGlass === true
    const question = this.#question(type, word, level, mustBeNamed(type, letter), isDeclared)
    const breakGlass = isDeclared && !this.#isOver(this.#evaluate(question))
    return this.#parts.policies.trace(this.#principal, { ...question, breakGlass })
  }

  #ask(
    type: string,
    interaction: string,
    level: SmartLevel,
    byName: boolean,
    breakGlass = this.#about.breakGlass === true,
  ): Decision {
    const question = this.#question(type, interaction, level, byName, breakGlass)
    const decision = this.#evaluate(question)
    return this.#isOver(decision) ? this.#evaluate({ ...question, breakGlass: false }) : decision
  }

  #question(
    type: string,
    interaction: string,
    level: SmartLevel,
    byName: boolean,
    breakGlass: boolean,
  ): PolicyRequest {
    const { id, operation } = this.#about
    const method = READS.has(interaction) ? readingMethod(this.#about.method) : this.#about.method
    const { now: time } = this.#parts
    return { interaction, type, level, id, method, operation, time, byName, breakGlass }
  }

  #evaluate(question: PolicyRequest): Decision {
    return this.#parts.policies.evaluate(this.#principal, question)
  }

  /** The box in time: a token issued for the emergency, and not long ago. Else all is as ever. */
  #isOver({ breakGlass }: Decision): boolean {
    if (breakGlass === undefined) return false
    const { issuedAt } = this.#principal
    return issuedAt === 0 || this.#parts.now / 1000 > issuedAt + breakGlass * 60
  }

  /** Which resources the scopes of one level reach, once a policy has permitted it. */
  #reach(
    type: string,
    level: SmartLevel,
    { compartments, clearance, masking }: Decision,
    scopes: readonly Held[],
  ): Reach[] {
    const { definitions, bases } = this.#parts
    const seen = isForPatients(this.#principal) ? clearance : forStaff(clearance)
    const isTied = type === 'Patient' || definitions.patientPaths(type).length > 0
    const own = ownPatient(this.#principal, level)
    // SCOPE-11: whatever a policy says, patient/ never reaches beyond the compartment of its patient.
    const isLimited =
      compartments.has('patient') || own !== undefined || (level === 'patient' && isTied)
    const patient = own ?? this.#principal.patient
    // A type that no patient can be told from is in nobody's compartment.
    if (isLimited && (patient === undefined || !isTied)) return []
    const within: Criteria[] = []
    for (const owner of ownersOf(this.#principal, compartments)) {
      const criteria = owner && compileCompartment(owner, type, definitions, bases)
      if (criteria === undefined) return []
      within.push(criteria)
    }
    const limit: Reach =
      isLimited && patient !== undefined
        ? { patient, clearance: seen, masking }
        : { clearance: seen, masking }
    const reach = (criteria: readonly Criteria[]): Reach =>
      criteria.length === 0 ? limit : { ...limit, criteria: both(criteria) }
    // SCOPE-6: a constrained scope beside an unconstrained one has no effect.
    if (scopes.some(({ criteria }) => criteria === undefined)) return [reach(within)]
    return scopes.map(({ criteria }) =>
      reach(criteria === undefined ? within : [criteria, ...within]),
    )
  }
}

/** Whether it is used by a patient or family, as far as the token tells. */
const isForPatients = ({ kind, fhirUser }: Principal): boolean =>
  kind !== 'system' && fhirUser?.type !== 'Practitioner' && fhirUser?.type !== 'PractitionerRole'

const FOR_STAFF = new WeakMap<Clearance, Clearance>()

/**
 * HL7 v3-ActCode NOPAT: not to be disclosed to the patient, family or caregivers "without attending
 * provider's authorization" (LABEL-5). Staff and programs need no clearance for it.
 */
function forStaff(clearance: Clearance): Clearance {
  let seen = FOR_STAFF.get(clearance)
  if (seen === undefined) {
    seen = { ...clearance, sensitivities: new Set([...clearance.sensitivities, 'NOPAT']) }
    FOR_STAFF.set(clearance, seen)
  }
  return seen
}

/** SCOPE-4: what a write answers is shown as a read would show it, also to a rule that asks for its method. */
const READS: ReadonlySet<string> = new Set(['read', 'vread', 'history-instance'])
const readingMethod = (method: Method): Method => (method === 'HEAD' ? method : 'GET')

/** Of several refusals the one is told that says most of what to do. */
const rankOfReason = ({ reason }: Refusal): number =>
  ['scope-insufficient', 'policy-denied', 'strength-insufficient'].indexOf(reason)

/** The scopes that hold `letter` on `type` for this principal, and can be used by it. */
export function heldScopes(
  principal: Principal,
  type: string,
  letter: SmartLetter,
): readonly SmartScope[] {
  return principal.scopes.filter(
    ({ level, target, letters }) =>
      (target === type || target === '*') && letters.has(letter) && isUsable(principal, level),
  )
}

/**
 * AUTHN-2, RFC 6750 §3: "the scope necessary to access the protected resource", at a level that this
 * principal can use. It says no more than what was asked.
 */
function neededScope(
  principal: Principal,
  type: string,
  letter: SmartLetter,
): { readonly scope?: string } {
  const level = LEVELS.find((one) => isUsable(principal, one))
  return level === undefined ? {} : { scope: `${level}/${type}.${letter}` }
}

const isUsable = (principal: Principal, level: SmartLevel): boolean =>
  obstacleTo(principal, level) === undefined

/** Why no scope of a level can be used by this principal; undefined = they can. */
export function obstacleTo(principal: Principal, level: SmartLevel): string | undefined {
  const { kind, patient, fhirUser } = principal
  if (level === 'system') return kind === 'system' ? undefined : 'for programs alone'
  if (level === 'patient') return patient === undefined ? 'no patient in the token' : undefined
  if (kind !== 'user' || fhirUser === undefined || !PERSONS.has(fhirUser.type))
    return 'no person in fhirUser'
  // A related person is related to one patient: without that context there is no limit to hold to.
  return fhirUser.type === 'RelatedPerson' && patient === undefined
    ? 'no patient related to'
    : undefined
}

/** The only patient a person who is no professional acts for, whatever the policies say. */
function ownPatient({ fhirUser, patient }: Principal, level: SmartLevel): string | undefined {
  if (level !== 'user') return undefined
  if (fhirUser?.type === 'Patient') return fhirUser.id
  return fhirUser?.type === 'RelatedPerson' ? patient : undefined
}

/** The widest of the levels; one without a limit has none. */
function largest(pages: readonly (number | undefined)[]): number | undefined {
  const known = pages.filter((page) => page !== undefined)
  return known.length < pages.length ? undefined : Math.max(...known)
}

/** Whether by both the same resources are shown, and as much of them. */
export function isAlike(one: Grant, other: Grant): boolean {
  const isWithin = (a: Grant, b: Grant): boolean =>
    a.reach.every((reach) => b.reach.some((wider) => covers(wider, reach, true)))
  return isWithin(one, other) && isWithin(other, one)
}

/** Whether `other` admits all that `one` admits, as mildly; of two equal ones the first stays. */
function covers(other: Reach, one: Reach, isBefore: boolean): boolean {
  if (other.criteria !== undefined && other.criteria !== one.criteria) return false
  if (other.patient !== undefined && other.patient !== one.patient) return false
  if (rankOf(other.clearance.confidentiality) < rankOf(one.clearance.confidentiality)) return false
  const { sensitivities } = other.clearance
  if (![...one.clearance.sensitivities].every((code) => sensitivities.has(code))) return false
  if (![...other.masking].every((name) => one.masking.has(name))) return false
  return isBefore || !covers(one, other, true)
}

export const rankOf = (confidentiality: Confidentiality): number =>
  CONFIDENTIALITIES.indexOf(confidentiality)

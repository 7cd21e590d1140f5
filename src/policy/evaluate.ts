import { createHash } from 'node:crypto'
import type { SmartLevel } from '../oauth/smart-scope.ts'
import { findLack } from '../oauth/strength.ts'
import type { StepUp } from '../oauth/strength.ts'
import type { Clearance, Confidentiality, MaskingNames } from '../permit.ts'
import type { Principal } from '../exchange.ts'
import type { Rate } from '../ports.ts'
import { factsOf } from './condition.ts'
import type { Condition, ConditionFacts } from './condition.ts'
import { BASELINE, BoundMasking } from './load-masking.ts'
import type { MaskingProfiles } from './load-masking.ts'
import type { Rule } from './schema.ts'

/** A rule ready to be asked; `name` is `policy/rule`. */
export type CompiledRule = Rule & {
  readonly name: string
  readonly condition: Condition | undefined
}

/** What is asked of the policies: one interaction on one type, at one scope level. */
export type PolicyRequest = {
  readonly interaction: string
  readonly type: string
  readonly level: SmartLevel
  readonly id: string | undefined
  readonly method: string
  /** Name of the operation without '$', when the interaction is one. */
  readonly operation?: string | undefined
  /** Milliseconds since the epoch. */
  readonly time: number
  /** Whether the type is one that "*" does not mean: a rule that permits must name it. */
  readonly byName?: boolean
  /** Whether an emergency is declared, with a reason, for one patient. */
  readonly breakGlass?: boolean
}

/** Whose compartment a policy may limit to: of the patient, encounter or practitioner of the token. */
export type Compartment = NonNullable<Rule['obligations']['compartment']>

export type Decision = {
  readonly permitted: boolean
  /** Names of the rules that decided. */
  readonly rules: readonly string[]
  /** In whose compartments a resource must be, all of them. */
  readonly compartments: ReadonlySet<Compartment>
  readonly clearance: Clearance
  readonly masking: MaskingNames
  /** Largest page of a search. */
  readonly results?: number
  /** Search parameters that may be used at all, and those that may not. */
  readonly parameters?: {
    readonly only?: ReadonlySet<string>
    readonly forbid: ReadonlySet<string>
  }
  /** Not permitted, and would be if the person had authenticated so (RFC 9470). */
  readonly stepUp?: StepUp
  /** Set when glass had to be broken: minutes after the token was issued for which it holds. */
  readonly breakGlass?: number
}

/** What one rule says to a question, and why. */
export type RuleTrace = {
  readonly rule: string
  readonly effect: 'permit' | 'deny'
  readonly verdict:
    | 'matches'
    | 'condition is false'
    | 'condition is undecided'
    | 'not about this interaction'
    | 'not about this operation'
    | 'not about this type'
    | 'not at this level'
    | 'no emergency'
    | 'login is too weak or too old'
  /** condition is undecided: the facts it asks for that the token and request do not give. */
  readonly missing?: readonly string[]
}

/** All policies together. Pure: the same question by the same principal, the same decision. */
export type PolicySet = {
  readonly evaluate: (principal: Principal, request: PolicyRequest) => Decision
  /** What every rule says, in the order of files; for people, not for speed. */
  readonly trace: (principal: Principal, request: PolicyRequest) => readonly RuleTrace[]
  /** SHA-256 of what the rules say, in hexadecimal: which policies decided (GOV-2). */
  readonly hash: string
  readonly rules: number
  /** Rules that limit how much a principal may ask by them, by name. */
  readonly rates: ReadonlyMap<string, Rate>
  /** The profiles that the rules name. */
  readonly masking: MaskingProfiles
}

const ORDER: readonly Confidentiality[] = ['U', 'L', 'M', 'N', 'R', 'V']
const NOTHING: Clearance = { confidentiality: 'U', sensitivities: new Set() }

/** Indexes rules by interaction, type and level; the index is bounded by the FHIR types asked. */
export function buildPolicySet(
  rules: readonly CompiledRule[],
  masking: MaskingProfiles = new Map(),
): PolicySet {
  const index = new Map<string, readonly CompiledRule[]>()
  const answers = new LastingAnswers()
  const unite = createUnite(rules, masking)
  const find = (request: PolicyRequest): readonly CompiledRule[] => {
    const { interaction, type, level, operation, byName = false } = request
    const key = `${interaction} ${type} ${level} ${operation ?? ''} ${String(byName)}`
    const known = index.get(key)
    if (known !== undefined) return known
    const found = rules.filter((rule) => strayOf(rule, request) === undefined)
    index.set(key, found)
    return found
  }
  return {
    evaluate: (principal, request) =>
      combine(find(request), new Asker(principal, request, answers), unite),
    trace: (principal, request) => {
      const asker = new Asker(principal, request, answers)
      return rules.map((rule) => {
        const { name, effect } = rule
        const verdict = strayOf(rule, request) ?? asker.tell(rule)
        if (verdict !== 'condition is undecided') return { rule: name, effect, verdict }
        return { rule: name, effect, verdict, missing: asker.lacks(rule) }
      })
    },
    hash: createHash('sha256')
      .update(JSON.stringify(rules.map((rule) => ({ ...rule, condition: rule.when }))))
      .update(masking.size === 0 ? '' : JSON.stringify([...masking]))
      .digest('hex'),
    rules: rules.length,
    rates: new Map(
      rules.flatMap(({ name, obligations: { rate } }) =>
        rate === undefined ? [] : [[name, rate] as const],
      ),
    ),
    masking,
  }
}

/** Why a rule is not about a question, or undefined: it is. */
function strayOf(
  rule: CompiledRule,
  { interaction, type, level, operation, byName = false }: PolicyRequest,
): RuleTrace['verdict'] | undefined {
  if (!(rule.interactions as readonly string[]).includes(interaction)) {
    return 'not about this interaction'
  }
  if (interaction === 'operation') {
    // A rule that denies operations and names none denies them all.
    const isAll = rule.effect === 'deny' && rule.operations.length === 0
    if (!isAll && !rule.operations.includes(`$${operation ?? ''}`))
      return 'not about this operation'
  }
  const isNamed = rule.types.includes(type)
  if (byName && rule.effect === 'permit' && !isNamed) return 'not about this type'
  if (!isNamed && !(rule.types.includes('*') && !rule.except.includes(type))) {
    return 'not about this type'
  }
  return rule.levels.includes(level) ? undefined : 'not at this level'
}

/** Default deny; deny wins; the obligations of all permits that match combine to the strictest. */
function combine(rules: readonly CompiledRule[], asker: Asker, unite: Unite): Decision {
  const plain: CompiledRule[] = []
  const emergency: CompiledRule[] = []
  for (const rule of rules) {
    const breaks = rule.obligations.breakGlass !== undefined
    if (breaks && !asker.isEmergency) continue
    if (!asker.holds(rule)) continue
    if (rule.effect === 'deny') return denied([rule.name])
    if (breaks) emergency.push(rule)
    else plain.push(rule)
  }
  // BTG-4: it overrides what the other rules permit, and no rule that denies.
  const permits = emergency.length > 0 ? emergency : plain
  const [first, ...others] = permits
  if (first === undefined) return denied([])
  const united = unite(first, others)
  const stepUp = asker.lackOf(permits)
  return stepUp === undefined ? united : { ...united, permitted: false, rules: [], stepUp }
}

/** What rules permit together; the same rules, the same object. */
type Unite = (first: CompiledRule, others: readonly CompiledRule[]) => Decision
/** Sets of rules that were seen to permit together; principals of many kinds must not grow it for ever. */
const MOST_UNITED = 1000

function createUnite(rules: readonly CompiledRule[], masking: MaskingProfiles): Unite {
  const places = new Map(rules.map((rule, at) => [rule, at]))
  const known = new Map<string, Decision>()
  return (first, others) => {
    let key = String(places.get(first))
    for (const rule of others) key += ` ${places.get(rule)}`
    let united = known.get(key)
    if (united === undefined) {
      if (known.size >= MOST_UNITED) known.clear()
      united = uniteObligations([first, ...others], masking)
      known.set(key, united)
    }
    return united
  }
}

function uniteObligations(permits: readonly CompiledRule[], profiles: MaskingProfiles): Decision {
  const clearances = permits.map(({ obligations }) => obligations.clearance)
  const rank = Math.min(...clearances.map(({ confidentiality }) => ORDER.indexOf(confidentiality)))
  const [cleared = [], ...others] = clearances.map(({ sensitivities }) => [...sensitivities])
  const minutes = permits.flatMap(({ obligations }) => obligations.breakGlass?.minutes ?? [])
  return {
    permitted: true,
    rules: permits.map(({ name }) => name),
    compartments: new Set(permits.flatMap(({ obligations }) => obligations.compartment ?? [])),
    clearance: {
      confidentiality: ORDER[rank] ?? 'U',
      sensitivities: new Set(
        cleared.filter((code) => others.every((codes) => codes.includes(code))),
      ),
    },
    masking: new BoundMasking(
      [BASELINE, ...permits.flatMap(({ obligations }) => obligations.masking)],
      profiles,
    ),
    ...(minutes.length === 0 ? {} : { breakGlass: Math.min(...minutes) }),
    ...questionOf(permits),
  }
}

/** What may be asked of upstream: the smallest page, every ban, and what all lists have in common. */
function questionOf(permits: readonly CompiledRule[]): Pick<Decision, 'results' | 'parameters'> {
  const results = permits.flatMap(({ obligations }) => obligations.results ?? [])
  const limits = permits.flatMap(({ obligations }) => obligations.parameters ?? [])
  const lists = limits.flatMap(({ only }) => (only === undefined ? [] : [new Set(only)]))
  const [first, ...others] = lists
  const only =
    first === undefined
      ? undefined
      : new Set([...first].filter((name) => others.every((list) => list.has(name))))
  return {
    ...(results.length === 0 ? {} : { results: Math.min(...results) }),
    ...(limits.length === 0
      ? {}
      : {
          parameters: {
            forbid: new Set(limits.flatMap(({ forbid }) => forbid)),
            ...(only === undefined ? {} : { only }),
          },
        }),
  }
}

function denied(rules: readonly string[]): Decision {
  return {
    permitted: false,
    rules,
    compartments: new Set(['patient']),
    clearance: NOTHING,
    masking: new Set([BASELINE]),
  }
}

/**
 * What lasting conditions said of a principal. The decision itself is made anew each time: this only
 * saves asking the same claims of the same verified token the same question (docs/decisions/0010).
 */
class LastingAnswers {
  readonly #known = new WeakMap<Principal, Map<Condition, boolean | undefined>>()

  /** Answers of one principal; undefined = cannot be decided. */
  of(principal: Principal): Map<Condition, boolean | undefined> {
    let answers = this.#known.get(principal)
    if (answers === undefined) {
      answers = new Map()
      this.#known.set(principal, answers)
    }
    return answers
  }
}

/** Asks the conditions of rules about one principal and request; facts are made when asked for. */
class Asker {
  readonly #principal: Principal
  readonly #request: PolicyRequest
  readonly #answers: Map<Condition, boolean | undefined>
  #facts: ConditionFacts | undefined
  /** BTG-1: declared, and by a token that was issued for the purpose; whatever a rule's condition says. */
  readonly isEmergency: boolean

  constructor(principal: Principal, request: PolicyRequest, answers: LastingAnswers) {
    this.#principal = principal
    this.#request = request
    this.#answers = answers.of(principal)
    this.isEmergency = request.breakGlass === true && principal.purposes.includes('BTG')
  }

  /** A condition that cannot be answered permits nothing, and denies. */
  holds({ condition, effect }: CompiledRule): boolean {
    if (condition === undefined) return true
    return this.#ask(condition) ?? effect === 'deny'
  }

  /** The same in words. */
  tell({ condition, obligations }: CompiledRule): RuleTrace['verdict'] {
    if (obligations.breakGlass !== undefined && !this.isEmergency) return 'no emergency'
    const answer = condition === undefined ? true : this.#ask(condition)
    if (answer === undefined) return 'condition is undecided'
    if (!answer) return 'condition is false'
    return this.lackOf([{ obligations }]) === undefined ? 'matches' : 'login is too weak or too old'
  }

  /** What the login lacks of all that these rules demand together. */
  lackOf(rules: readonly Pick<CompiledRule, 'obligations'>[]): StepUp | undefined {
    const required = rules.flatMap(({ obligations }) => obligations.strength ?? [])
    return required.length === 0
      ? undefined
      : findLack(this.#principal, required, this.#request.time / 1000)
  }

  /** The facts a condition asks for that are not there. */
  lacks({ condition }: CompiledRule): readonly string[] {
    const facts: Readonly<Record<string, object>> = (this.#facts ??= this.#collect())
    return [...(condition?.asks ?? [])].filter((fact) => {
      const [owner = '', name = ''] = fact.split('.')
      return !Object.hasOwn(facts[owner] ?? {}, name)
    })
  }

  #ask(condition: Condition): boolean | undefined {
    if (!condition.isLasting) return this.#decide(condition)
    if (this.#answers.has(condition)) return this.#answers.get(condition)
    const answer = this.#decide(condition)
    this.#answers.set(condition, answer)
    return answer
  }

  #decide(condition: Condition): boolean | undefined {
    this.#facts ??= this.#collect()
    try {
      return condition.holds(this.#facts)
    } catch {
      return undefined
    }
  }

  #collect(): ConditionFacts {
    const { interaction, type, method, id, time } = this.#request
    const now = new Date(time)
    return {
      principal: factsOf(this.#principal, time / 1000),
      request: { interaction, type, method, ...(id === undefined ? {} : { id }) },
      now: { hour: now.getUTCHours(), weekday: now.getUTCDay() },
    }
  }
}

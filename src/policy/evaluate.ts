import type { SmartLevel } from '../oauth/smart-scope.ts'
import type { Clearance, Confidentiality, MaskingProfile } from '../permit.ts'
import type { Condition, ConditionFacts } from './condition.ts'
import type { Rule } from './schema.ts'

/** A rule ready to be asked; `name` is `policy/rule`. */
export type CompiledRule = Omit<Rule, 'when'> & {
  readonly name: string
  readonly condition: Condition | undefined
}

/** What is asked of the policies: one interaction on one type, at one scope level. */
export type PolicyRequest = {
  readonly interaction: string
  readonly type: string
  readonly level: SmartLevel
}

export type Decision = {
  readonly permitted: boolean
  /** Names of the rules that decided. */
  readonly rules: readonly string[]
  readonly compartment: boolean
  readonly clearance: Clearance
  readonly masking: MaskingProfile
}

/** All policies together. Pure: the same question and facts, the same decision. */
export type PolicySet = {
  readonly evaluate: (request: PolicyRequest, facts: ConditionFacts) => Decision
}

const ORDER: readonly Confidentiality[] = ['U', 'L', 'M', 'N', 'R', 'V']
const NOTHING: Clearance = { confidentiality: 'U', sensitivities: new Set() }

/** Indexes rules by interaction, type and level; the index is bounded by the FHIR types asked. */
export function buildPolicySet(rules: readonly CompiledRule[]): PolicySet {
  const index = new Map<string, readonly CompiledRule[]>()
  const find = ({ interaction, type, level }: PolicyRequest): readonly CompiledRule[] => {
    const key = `${interaction} ${type} ${level}`
    const known = index.get(key)
    if (known !== undefined) return known
    const found = rules.filter(
      (rule) =>
        (rule.interactions as readonly string[]).includes(interaction) &&
        rule.levels.includes(level) &&
        (rule.types.includes(type) || (rule.types.includes('*') && !rule.except.includes(type))),
    )
    index.set(key, found)
    return found
  }
  return { evaluate: (request, facts) => combine(find(request), facts) }
}

/** Default deny; deny wins; the obligations of all permits that match combine to the strictest. */
function combine(rules: readonly CompiledRule[], facts: ConditionFacts): Decision {
  const permits: CompiledRule[] = []
  for (const rule of rules) {
    if (!holds(rule, facts)) continue
    if (rule.effect === 'deny') return denied([rule.name])
    permits.push(rule)
  }
  const [first] = permits
  if (first === undefined) return denied([])
  let { confidentiality } = first.obligations.clearance
  let sensitivities = new Set(first.obligations.clearance.sensitivities)
  for (const { obligations } of permits) {
    const { clearance } = obligations
    if (ORDER.indexOf(clearance.confidentiality) < ORDER.indexOf(confidentiality)) {
      confidentiality = clearance.confidentiality
    }
    const next = new Set(clearance.sensitivities)
    sensitivities = new Set([...sensitivities].filter((code) => next.has(code)))
  }
  return {
    permitted: true,
    rules: permits.map(({ name }) => name),
    compartment: permits.some(({ obligations }) => obligations.compartment === 'patient'),
    clearance: { confidentiality, sensitivities },
    masking: permits.some(({ obligations }) => obligations.masking === 'de-identified')
      ? 'de-identified'
      : 'baseline',
  }
}

function denied(rules: readonly string[]): Decision {
  return {
    permitted: false,
    rules,
    compartment: true,
    clearance: NOTHING,
    masking: 'de-identified',
  }
}

/** A condition that cannot be answered permits nothing, and denies. */
function holds({ condition, effect }: CompiledRule, facts: ConditionFacts): boolean {
  if (condition === undefined) return true
  try {
    return condition(facts)
  } catch {
    return effect === 'deny'
  }
}

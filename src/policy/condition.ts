import { Environment } from '@marcbachmann/cel-js'
import type { Principal } from '../exchange.ts'
import { authenticatedAgo } from '../oauth/strength.ts'

/** What a condition may ask; a fact the token does not hold is left out, and asking it fails. */
export type ConditionFacts = {
  readonly principal: Readonly<Record<string, string | number | readonly string[]>>
  readonly request: Readonly<Record<string, string>>
  /** UTC. */
  readonly now: { readonly hour: number; readonly weekday: number }
}

/** A compiled condition: pure, true or false; throws when the facts do not decide it. */
export type Condition = {
  readonly holds: (facts: ConditionFacts) => boolean
  /** Asks of the principal alone: the answer stays the same as long as the token. */
  readonly isLasting: boolean
  /** The facts it asks for, such as `principal.organization`; without those in `has()`. */
  readonly asks: ReadonlySet<string>
  /** The texts that facts are compared with: one that a fact never is makes a ban that bans nobody. */
  readonly compares: readonly Comparison[]
}

/** `request.type == 'Observation'`, or as one of a list. */
export type Comparison = { readonly fact: string; readonly text: string }

const TEXT = 'string'
const LIST = 'list<string>'

/** The facts by name: a condition that asks for another does not compile. */
const PRINCIPAL = {
  kind: TEXT,
  issuer: TEXT,
  clientId: TEXT,
  roles: LIST,
  purposes: LIST,
  organization: TEXT,
  homeCommunity: TEXT,
  nationalProvider: TEXT,
  person: TEXT,
  consentPolicies: LIST,
  patient: TEXT,
  encounter: TEXT,
  context: LIST,
  fhirUserType: TEXT,
  fhirUserId: TEXT,
  acr: TEXT,
  amr: LIST,
  authenticatedAgo: 'double',
}
/** A fact of the principal that changes while the token stays the same. */
const PASSING = 'authenticatedAgo'
const REQUEST = { interaction: TEXT, type: TEXT, id: TEXT, method: TEXT }
const NOW = { hour: 'double', weekday: 'double' }

/** The facts of a principal, those only that its token gives. `now` in seconds since the epoch. */
export function factsOf(principal: Principal, now: number): ConditionFacts['principal'] {
  const { kind, issuer, clientId, roles, purposes, organization, patient, fhirUser } = principal
  const { encounter, context = [], acr, amr = [] } = principal
  const { homeCommunity, nationalProvider, person, consentPolicies = [] } = principal.identity ?? {}
  const ago = authenticatedAgo(principal, now)
  return {
    ...{ kind, issuer, roles, purposes, context, amr, consentPolicies },
    ...(homeCommunity === undefined ? {} : { homeCommunity }),
    ...(nationalProvider === undefined ? {} : { nationalProvider }),
    ...(person === undefined ? {} : { person }),
    ...(acr === undefined ? {} : { acr }),
    ...(ago === undefined ? {} : { authenticatedAgo: ago }),
    ...(encounter === undefined ? {} : { encounter }),
    ...(clientId === undefined ? {} : { clientId }),
    ...(organization === undefined ? {} : { organization }),
    ...(patient === undefined ? {} : { patient }),
    ...(fhirUser === undefined ? {} : { fhirUserType: fhirUser.type, fhirUserId: fhirUser.id }),
  }
}

const COMPREHENSIONS = new Set(['all', 'exists', 'exists_one'])

/**
 * `matches` is a backtracking RegExp (27 characters took 2.6 s); `bind` doubles a list as often as it
 * is nested (656 characters took 2 GB); the others build lists.
 */
const REFUSED = new Set(['matches', 'map', 'filter', 'bind'])
const SCHEMAS: ReadonlyMap<string, object> = new Map<string, object>([
  ['principal', PRINCIPAL],
  ['request', REQUEST],
  ['now', NOW],
])

/** Compiles CEL against the declared facts. Throws an Error whose message says what is wrong. */
export function compileCondition(source: string): Condition {
  const environment = new Environment({ unlistedVariablesAreDyn: false })
    .registerVariable('principal', { schema: PRINCIPAL })
    .registerVariable('request', { schema: REQUEST })
    .registerVariable('now', { schema: NOW })
  const parsed = environment.parse(source)
  const checked = parsed.check()
  if (!checked.valid) throw new Error(checked.error?.message ?? 'not a valid condition')
  if (checked.type !== 'bool') throw new Error('the condition must be true or false (bool)')
  const asked: Noted = { owners: new Set(), facts: new Set(), isPassing: false, compares: [] }
  look(parsed.ast, 0, asked)
  return {
    holds: (facts) => parsed(facts) === true,
    isLasting: !asked.isPassing && !asked.owners.has('request') && !asked.owners.has('now'),
    asks: asked.facts,
    compares: asked.compares,
  }
}

type Noted = {
  readonly owners: Set<string>
  readonly facts: Set<string>
  readonly compares: Comparison[]
  isPassing: boolean
}

/** Refuses calls without bound, and notes which variables and facts are asked. */
function look(node: unknown, depth: number, asked: Noted): void {
  if (typeof node !== 'object' || node === null) return
  if (Array.isArray(node)) {
    for (const item of node) look(item, depth, asked)
    return
  }
  const { op, args } = node as { op?: unknown; args?: unknown }
  if (op === undefined) return
  if (op === 'id') asked.owners.add(String(args))
  if (mayPass(op, args)) asked.isPassing = true
  const fact = factOf(op, args)
  if (fact !== undefined) asked.facts.add(fact)
  asked.compares.push(...comparisonsOf(op, args))
  let within = depth
  if ((op === 'rcall' || op === 'call') && Array.isArray(args)) {
    const name = String(args[0])
    if (REFUSED.has(name)) throw new Error(`${name}() is not offered`)
    if (name === 'has') {
      const before = [...asked.facts]
      checkHas(args[1])
      look(args[1], within, asked)
      asked.facts.clear()
      for (const one of before) asked.facts.add(one)
      return
    }
    if (COMPREHENSIONS.has(name)) within++
    if (within > 1) throw new Error('one comprehension within another is not offered')
  }
  look(args, within, asked)
}

type Node = { readonly op?: unknown; readonly args?: unknown }

/** The texts beside a fact on either side of `==` and `!=`, or in the list that it is looked for in. */
function comparisonsOf(op: unknown, args: unknown): readonly Comparison[] {
  if ((op !== '==' && op !== '!=' && op !== 'in') || !Array.isArray(args)) return []
  const sides = args as readonly Node[]
  const fact = sides.map((side) => factOf(side.op, side.args)).find((one) => one !== undefined)
  if (fact === undefined) return []
  return sides
    .flatMap((side) => (side.op === 'list' ? (side.args as readonly Node[]) : side))
    .flatMap((side) =>
      side.op === 'value' && typeof side.args === 'string' ? [{ fact, text: side.args }] : [],
    )
}

/** The type check passes over `has()`: a misspelt fact would be absent for ever, and deny nobody. */
function checkHas(args: unknown): void {
  const [asked] = Array.isArray(args) ? (args as { op?: unknown; args?: unknown }[]) : []
  if (asked?.op !== '.' || !Array.isArray(asked.args)) return
  const [owner, fact] = asked.args as [{ op?: unknown; args?: unknown }, unknown]
  const schema = owner.op === 'id' ? SCHEMAS.get(String(owner.args)) : undefined
  if (schema !== undefined && !Object.hasOwn(schema, String(fact))) {
    throw new Error(`No such key: ${String(fact)}`)
  }
}

/** Whether an access may be to the fact that passes: by its name, or by a name that is computed. */
function mayPass(op: unknown, args: unknown): boolean {
  if (op === '.?' || op === '[?]') return true
  if ((op !== '.' && op !== '[]') || !Array.isArray(args)) return false
  const [, name] = args as [unknown, string | { op?: unknown; args?: unknown } | undefined]
  if (typeof name === 'string') return name === PASSING
  return name?.op !== 'value' || name.args === PASSING
}

/** `principal.organization` and `principal['organization']`; undefined for all else. */
function factOf(op: unknown, args: unknown): string | undefined {
  if ((op !== '.' && op !== '[]') || !Array.isArray(args)) return undefined
  const [owner, key] = args as [
    { op?: unknown; args?: unknown } | undefined,
    string | { op?: unknown; args?: unknown } | undefined,
  ]
  if (owner?.op !== 'id' || !SCHEMAS.has(String(owner.args))) return undefined
  if (typeof key === 'string') return `${String(owner.args)}.${key}`
  return key?.op === 'value' ? `${String(owner.args)}.${String(key.args)}` : undefined
}

import { Environment } from '@marcbachmann/cel-js'

/** What a condition may ask; a fact the token does not hold is left out, and asking it fails. */
export type ConditionFacts = Readonly<Record<'principal' | 'request' | 'now', object>>
export type Condition = (facts: ConditionFacts) => boolean

const SOME_LISTS = new Set(['all', 'exists', 'exists_one', 'map', 'filter'])

/** Compiles CEL against the declared facts. Throws an Error whose message says what is wrong. */
export function compileCondition(source: string): Condition {
  const environment = new Environment({ unlistedVariablesAreDyn: false })
    .registerVariable('principal', {
      schema: {
        kind: 'string',
        roles: 'list<string>',
        purposes: 'list<string>',
        levels: 'list<string>',
        patient: 'string',
        fhirUserType: 'string',
        organization: 'string',
        clientId: 'string',
        issuer: 'string',
      },
    })
    .registerVariable('request', {
      schema: { interaction: 'string', type: 'string', id: 'string', method: 'string' },
    })
    .registerVariable('now', { schema: { hour: 'double', weekday: 'double' } })
  const parsed = environment.parse(source)
  const checked = parsed.check()
  if (!checked.valid) throw new Error(checked.error?.message ?? 'not a valid condition')
  if (checked.type !== 'bool') throw new Error('the condition must be true or false (bool)')
  refuse(parsed.ast, 0)
  return (facts) => parsed(facts) === true
}

/** `matches` is a backtracking RegExp, and nested comprehensions multiply: neither is taken. */
function refuse(node: unknown, depth: number): void {
  if (typeof node !== 'object' || node === null) return
  if (Array.isArray(node)) {
    for (const item of node) refuse(item, depth)
    return
  }
  const { op, args } = node as { op?: unknown; args?: unknown }
  let within = depth
  if ((op === 'rcall' || op === 'call') && Array.isArray(args)) {
    if (args[0] === 'matches') throw new Error('matches() is not offered')
    if (typeof args[0] === 'string' && SOME_LISTS.has(args[0])) within++
    if (within > 1) throw new Error('one comprehension within another is not offered')
  }
  if (op !== undefined) refuse(args, within)
}

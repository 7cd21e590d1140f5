import { suggest } from '../config/problem.ts'
import { OPERATIONS } from '../fhir/operations.ts'
import type { Condition } from './condition.ts'
import { CLOSED } from './words.ts'
import type { Names } from './words.ts'
import { listOf, memberOf } from './yaml-file.ts'
import type { YamlFile } from './yaml-file.ts'

/** Names that mean nothing: a rule that is misspelt would ban nobody, and nobody would notice. */

const TYPE = /^[A-Z][A-Za-z]{1,63}$/
const KNOWN_OPERATIONS: ReadonlySet<string> = new Set(OPERATIONS.map(({ name }) => `$${name}`))

/** Tells every name of the rule at a place that is none, asked of what stands there. */
export function checkRuleNames(yaml: YamlFile, at: number, rule: unknown, names: Names): void {
  for (const key of ['types', 'except']) {
    listOf(rule, key).forEach((type, n) => {
      checkType(yaml, ['rules', at, key, n], type, names)
    })
  }
  listOf(rule, 'operations').forEach((name, n) => {
    if (typeof name !== 'string' || !name.startsWith('$') || KNOWN_OPERATIONS.has(name)) return
    const hint = suggest(name, [...KNOWN_OPERATIONS])
    yaml.report(['rules', at, 'operations', n], `there is no operation ${name}${hint}`)
  })
  const obligations = memberOf(rule, 'obligations')
  if (obligations !== undefined && memberOf(rule, 'effect') === 'deny') {
    yaml.report(['rules', at, 'obligations'], 'a rule that denies has no obligations')
  }
  const parameters = memberOf(obligations, 'parameters')
  for (const key of ['only', 'forbid']) {
    listOf(parameters, key).forEach((name, n) => {
      if (typeof name !== 'string' || names.isParameter(name)) return
      const message = `"${name}" is no search parameter${suggest(name, names.parameters())}`
      yaml.report(['rules', at, 'obligations', 'parameters', key, n], message)
    })
  }
}

/** What a condition compares a fact with that the fact never is, or undefined. */
export function findVain({ compares }: Condition, names: Names): string | undefined {
  for (const { fact, text } of compares) {
    const options = Object.hasOwn(CLOSED, fact) ? CLOSED[fact] : undefined
    const isVain = fact === 'request.type' ? !names.isType(text) : options?.includes(text) === false
    if (isVain) {
      const which = options === undefined ? '' : `: ${options.join(', ')}`
      return `${fact} is never "${text}"${which}`
    }
  }
  return undefined
}

/** The types that the examples of a file ask for. */
export function checkExampleTypes(yaml: YamlFile, list: string, names: Names): void {
  listOf(yaml.content, list).forEach((example, at) => {
    for (const key of ['allow', 'deny', 'mask']) {
      checkType(yaml, [list, at, key, 'type'], memberOf(memberOf(example, key), 'type'), names)
    }
  })
}

function checkType(
  { report }: YamlFile,
  path: readonly PropertyKey[],
  type: unknown,
  { isType }: Names,
): void {
  if (typeof type !== 'string' || !TYPE.test(type) || isType(type)) return
  report(path, `"${type}" is no resource type of any FHIR version`)
}

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isMap, isNode, LineCounter, parseDocument, visit } from 'yaml'
import { compileCondition } from './condition.ts'
import type { Condition } from './condition.ts'
import { buildPolicySet } from './evaluate.ts'
import type { CompiledRule, PolicySet } from './evaluate.ts'
import { checkExample, describeExample } from './examples.ts'
import type { Example } from './example-schema.ts'
import { policySchema } from './schema.ts'
import { createTypeCheck } from './words.ts'

export type PolicyProblem = {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
}

/** Everything that is wrong with a folder of policies, at once. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError'
  readonly problems: readonly PolicyProblem[]

  constructor(problems: readonly PolicyProblem[]) {
    super(problems.map((p) => `${p.file}:${p.line}:${p.column} ${p.message}`).join('\n'))
    this.problems = problems
  }
}

/** Reads every `*.yaml` of a folder. Throws {@link PolicyError} with all problems. */
export function loadPolicies(folder: string): PolicySet {
  const problems: PolicyProblem[] = []
  const rules: CompiledRule[] = []
  const names = new Set<string>()
  const examples: Placed[] = []
  const isType = createTypeCheck()
  for (const file of listFiles(folder, problems)) {
    loadFile(file, rules, examples, names, isType, problems)
  }
  // "No policy" must never mean anything but an error the operator sees.
  if (rules.length === 0 && problems.length === 0) {
    problems.push({ file: folder, line: 1, column: 1, message: 'no policy in this folder' })
  }
  if (problems.length > 0) throw new PolicyError(problems)
  const set = buildPolicySet(rules)
  for (const { example, report } of examples) {
    const problem = checkExample(set, example, Date.now())
    if (problem !== undefined) report(`example: ${describeExample(example)}: ${problem}`)
  }
  if (problems.length > 0) throw new PolicyError(problems)
  return set
}

/** An example, and where a problem with it is told. */
type Placed = { readonly example: Example; readonly report: (message: string) => void }

function listFiles(folder: string, problems: PolicyProblem[]): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => /\.ya?ml$/.test(name) && !/\.test\.ya?ml$/.test(name))
      .sort()
      .map((name) => join(folder, name))
  } catch {
    problems.push({ file: folder, line: 1, column: 1, message: 'the folder cannot be read' })
    return []
  }
}

function loadFile(
  file: string,
  rules: CompiledRule[],
  examples: Placed[],
  names: Set<string>,
  isType: (type: string) => boolean,
  problems: PolicyProblem[],
): void {
  const lines = new LineCounter()
  const told = new Set<string>()
  const report = (offset: number, message: string): void => {
    const { line, col } = lines.linePos(offset)
    const place = `${line}:${col} ${message}`
    if (told.has(place)) return
    told.add(place)
    problems.push({ file, line: Math.max(line, 1), column: Math.max(col, 1), message })
  }
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    report(0, 'the file cannot be read')
    return
  }
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  for (const error of [...document.errors, ...document.warnings]) {
    report(error.pos[0], error.message.split('\n')[0] ?? error.message)
  }
  let isBroken = document.errors.length > 0
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) !== undefined) return
      isBroken = true
      report(alias.range?.[0] ?? 0, `there is no anchor &${alias.source} before this alias`)
    },
  })
  if (isBroken) return
  let content: unknown
  try {
    content = document.toJS()
  } catch (error) {
    // Aliases of aliases beyond the limit, and whatever else does not become a value.
    report(0, error instanceof Error ? error.message : 'the file cannot be read')
    return
  }
  /** Where a value stands: at its key when it has one, else at the nearest thing around it. */
  const offsetOf = (path: readonly PropertyKey[]): number => {
    for (let length = path.length; length > 0; length--) {
      const parent = document.getIn(path.slice(0, length - 1), true)
      const key = String(path[length - 1])
      const pair = isMap(parent) ? parent.items.find((item) => String(item.key) === key) : undefined
      const node: unknown = pair?.key ?? document.getIn(path.slice(0, length), true)
      if (isNode(node) && node.range) return node.range[0]
    }
    return 0
  }
  const parsed = policySchema.safeParse(content)
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const where = issue.path.length === 0 ? '' : `${issue.path.map(String).join('.')}: `
      if (issue.code === 'unrecognized_keys') {
        for (const key of issue.keys) {
          report(offsetOf([...issue.path, key]), `${where}Unrecognized key: "${key}"`)
        }
      } else report(offsetOf(issue.path), `${where}${issue.message}`)
    }
  }
  // Asked of what stands there, so that one problem does not hide another.
  const checkType = (path: readonly PropertyKey[], type: unknown): void => {
    if (typeof type !== 'string' || !TYPE.test(type) || isType(type)) return
    report(offsetOf(path), `"${type}" is no resource type of any FHIR version`)
  }
  const conditions = listOf(content, 'rules').map((rule, at): Condition | undefined => {
    for (const key of ['types', 'except']) {
      listOf(rule, key).forEach((type, n) => {
        checkType(['rules', at, key, n], type)
      })
    }
    const when = memberOf(rule, 'when')
    if (typeof when !== 'string' || when.length === 0) return undefined
    try {
      return compileCondition(when)
    } catch (error) {
      const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : 'not readable'
      report(offsetOf(['rules', at, 'when']), `when: ${message}`)
      return undefined
    }
  })
  listOf(content, 'examples').forEach((example, at) => {
    for (const key of ['allow', 'deny']) {
      checkType(['examples', at, key, 'type'], memberOf(memberOf(example, key), 'type'))
    }
  })
  if (!parsed.success) return
  const { policy, rules: ruleList } = parsed.data
  if (names.has(policy)) report(offsetOf(['policy']), `policy "${policy}" is there twice`)
  names.add(policy)
  parsed.data.examples.forEach((example, at) => {
    examples.push({
      example,
      report: (message) => {
        report(offsetOf(['examples', at]), message)
      },
    })
  })
  const ids = new Set<string>()
  ruleList.forEach((rule, at) => {
    if (ids.has(rule.id)) report(offsetOf(['rules', at, 'id']), `rule "${rule.id}" is there twice`)
    ids.add(rule.id)
    const condition = conditions[at]
    // One that did not compile is a problem by now; without its condition it would always hold.
    if (rule.when !== undefined && condition === undefined) return
    rules.push({ ...rule, name: `${policy}/${rule.id}`, condition })
  })
}

const TYPE = /^[A-Z][A-Za-z]{1,63}$/

const memberOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined

function listOf(value: unknown, key: string): readonly unknown[] {
  const list = memberOf(value, key)
  return Array.isArray(list) ? list : []
}

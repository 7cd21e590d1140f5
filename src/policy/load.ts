import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { isMap, isNode, LineCounter, parseDocument } from 'yaml'
import { compileCondition } from './condition.ts'
import { buildPolicySet } from './evaluate.ts'
import type { CompiledRule, PolicySet } from './evaluate.ts'
import { checkExample, describeExample } from './examples.ts'
import type { Example } from './example-schema.ts'
import { policySchema } from './schema.ts'

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
  for (const file of listFiles(folder, problems)) loadFile(file, rules, examples, names, problems)
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
  problems: PolicyProblem[],
): void {
  const lines = new LineCounter()
  const report = (offset: number, message: string): void => {
    const { line, col } = lines.linePos(offset)
    problems.push({ file, line: Math.max(line, 1), column: Math.max(col, 1), message })
  }
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    report(0, 'the file cannot be read')
    return
  }
  const document = parseDocument(text, { lineCounter: lines })
  for (const error of [...document.errors, ...document.warnings]) {
    report(error.pos[0], error.message.split('\n')[0] ?? error.message)
  }
  if (document.errors.length > 0) return
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
  const parsed = policySchema.safeParse(document.toJS())
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const path =
        issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] ?? ''] : issue.path
      report(offsetOf(path), `${issue.path.map(String).join('.')}: ${issue.message}`)
    }
    return
  }
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
    try {
      const when = rule.when === undefined ? undefined : compileCondition(rule.when)
      rules.push({ ...rule, name: `${policy}/${rule.id}`, condition: when })
    } catch (error) {
      const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : 'not readable'
      report(offsetOf(['rules', at, 'when']), `when: ${message}`)
    }
  })
}

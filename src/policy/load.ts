import { readdirSync } from 'node:fs'
import type { Dirent } from 'node:fs'
import { join, resolve } from 'node:path'
import { checkExampleTypes, checkRuleNames, findVain } from './check-names.ts'
import { compileCondition } from './condition.ts'
import type { Condition } from './condition.ts'
import { buildPolicySet } from './evaluate.ts'
import type { CompiledRule, PolicySet } from './evaluate.ts'
import { caseFileSchema } from './example-schema.ts'
import type { Example } from './example-schema.ts'
import { checkExample, describeExample } from './examples.ts'
import { policySchema } from './schema.ts'
import { shippedPolicies } from '../config/shipped.ts'
import type { FhirVersion } from '../fhir/definitions.ts'
import { BASELINE, listFiles, loadMasking } from './load-masking.ts'
import type { MaskingProfiles } from './load-masking.ts'
import { createNames } from './words.ts'
import type { Names } from './words.ts'
import { listOf, memberOf, readYaml, reportIssues } from './yaml-file.ts'
import type { PolicyProblem, YamlFile } from './yaml-file.ts'

export type { PolicyProblem } from './yaml-file.ts'

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
export function loadPolicies(folder: string, version: FhirVersion = 'R4'): PolicySet {
  const problems: PolicyProblem[] = []
  const rules: CompiledRule[] = []
  const names = new Set<string>()
  const examples: Placed[] = []
  const words = createNames()
  const named: NamedMasking[] = []
  const entries = readFolder(folder, problems)
  for (const file of listFiles(folder)) {
    if (!CASES.test(file)) loadFile(file, rules, examples, names, words, named, problems)
  }
  checkUnread(folder, entries, problems)
  const masking = loadProfiles(folder, named, version, problems)
  // "No policy" must never mean anything but an error the operator sees.
  if (rules.length === 0 && problems.length === 0) {
    problems.push({ file: folder, line: 1, column: 1, message: 'no policy in this folder' })
  }
  if (problems.length > 0) throw new PolicyError(problems)
  const set = buildPolicySet(rules, masking)
  checkAll(set, examples)
  if (problems.length > 0) throw new PolicyError(problems)
  return set
}

/** A profile that a rule asks for, and how a problem with it is told. */
type NamedMasking = { readonly name: string; readonly tell: (message: string) => void }

/**
 * The profiles of the folder, and the shipped ones when a rule asks for one of those: most policies
 * need none.
 */
function loadProfiles(
  folder: string,
  named: readonly NamedMasking[],
  version: FhirVersion,
  problems: PolicyProblem[],
): MaskingProfiles {
  const own = join(folder, 'masking')
  const shipped = join(shippedPolicies(), 'masking')
  const isShipped = resolve(own) === resolve(shipped)
  let profiles: MaskingProfiles = isShipped ? new Map() : loadMasking([own], version, problems)
  if (profiles.has(BASELINE)) {
    const message = 'the baseline cannot be replaced: remove the file of that name, it holds anyway'
    problems.push({ file: own, line: 1, column: 1, message })
  }
  const isMissing = ({ name }: NamedMasking): boolean => name !== BASELINE && !profiles.has(name)
  if (named.some(isMissing)) {
    profiles = new Map([...loadMasking([shipped], version, problems), ...profiles])
  }
  for (const one of named) if (isMissing(one)) one.tell(`there is no masking "${one.name}"`)
  return profiles
}

/** What a file of cases came to. */
export type CaseReport = {
  readonly file: string
  readonly cases: number
  /** Cases that do not hold, or all that is wrong with the file. */
  readonly problems: readonly PolicyProblem[]
}

/** Checks a set of policies against every `*.test.yaml` of a folder. */
export function checkCases(set: PolicySet, folder: string): readonly CaseReport[] {
  const words = createNames()
  return listFiles(folder)
    .filter((file) => CASES.test(file))
    .map((file) => {
      const problems: PolicyProblem[] = []
      const yaml = readYaml(file, problems)
      if (yaml === undefined) return { file, cases: 0, problems }
      const parsed = caseFileSchema.safeParse(yaml.content)
      if (!parsed.success) reportIssues(yaml, parsed.error.issues)
      checkExampleTypes(yaml, 'cases', words)
      if (!parsed.success || problems.length > 0) return { file, cases: 0, problems }
      const { cases } = parsed.data
      checkAll(set, place(yaml, 'cases', cases))
      return { file, cases: cases.length, problems }
    })
}

/** An example, and how a problem with it is told. */
type Placed = { readonly example: Example; readonly report: (message: string) => void }

const place = ({ report }: YamlFile, key: string, examples: readonly Example[]): Placed[] =>
  examples.map((example, at) => ({
    example,
    report: (message) => {
      report([key, at], message)
    },
  }))

function checkAll(set: PolicySet, examples: readonly Placed[]): void {
  for (const { example, report } of examples) {
    const problem = checkExample(set, example, Date.now())
    if (problem !== undefined) report(`example: ${describeExample(example)}: ${problem}`)
  }
}

const CASES = /\.test\.ya?ml$/i

/** What is in the folder, once; nothing, with the problem told, when it cannot be read. */
function readFolder(folder: string, problems: PolicyProblem[]): readonly Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    problems.push({ file: folder, line: 1, column: 1, message: 'the folder cannot be read' })
    return []
  }
}

/**
 * A ban that nobody reads bans nobody. Names that begin with a dot are not meant to be read, such as the
 * `..data` of a ConfigMap.
 */
function checkUnread(folder: string, entries: readonly Dirent[], problems: PolicyProblem[]): void {
  for (const entry of entries) {
    if (entry.isFile() || entry.name === 'masking' || entry.name.startsWith('.')) continue
    for (const file of listFiles(join(folder, entry.name))) {
      if (CASES.test(file)) continue
      const message = 'is not read: policies stand in the folder itself, profiles in masking/'
      problems.push({ file, line: 1, column: 1, message })
    }
  }
}

function loadFile(
  file: string,
  rules: CompiledRule[],
  examples: Placed[],
  names: Set<string>,
  words: Names,
  named: NamedMasking[],
  problems: PolicyProblem[],
): void {
  const yaml = readYaml(file, problems)
  if (yaml === undefined) return
  const { content, report } = yaml
  const parsed = policySchema.safeParse(content)
  if (!parsed.success) reportIssues(yaml, parsed.error.issues)
  // Asked of what stands there, so that one problem does not hide another.
  const conditions = listOf(content, 'rules').map((rule, at): Condition | undefined => {
    checkRuleNames(yaml, at, rule, words)
    const when = memberOf(rule, 'when')
    if (typeof when !== 'string' || when.length === 0) return undefined
    try {
      const condition = compileCondition(when)
      const vain = findVain(condition, words)
      if (vain !== undefined) throw new Error(vain)
      return condition
    } catch (error) {
      const message = error instanceof Error ? (error.message.split('\n')[0] ?? '') : 'not readable'
      report(['rules', at, 'when'], `when: ${message}`)
      return undefined
    }
  })
  checkExampleTypes(yaml, 'examples', words)
  if (!parsed.success) return
  const { policy, rules: ruleList } = parsed.data
  if (names.has(policy)) report(['policy'], `policy "${policy}" is there twice`)
  names.add(policy)
  examples.push(...place(yaml, 'examples', parsed.data.examples))
  const ids = new Set<string>()
  ruleList.forEach((rule, at) => {
    for (const name of rule.obligations.masking) {
      const tell = (message: string): void => {
        report(['rules', at, 'obligations', 'masking'], message)
      }
      named.push({ name, tell })
    }
    if (ids.has(rule.id)) report(['rules', at, 'id'], `rule "${rule.id}" is there twice`)
    ids.add(rule.id)
    const condition = conditions[at]
    // One that did not compile is a problem by now; without its condition it would always hold.
    if (rule.when !== undefined && condition === undefined) return
    rules.push({ ...rule, name: `${policy}/${rule.id}`, condition })
  })
}

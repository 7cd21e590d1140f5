import { parseArgs } from 'node:util'
import { basename } from 'node:path'
import { formatProblem } from '../config/load.ts'
import { shippedPolicies } from '../config/shipped.ts'
import { checkCases, loadPolicies, PolicyError } from '../policy/load.ts'
import type { PolicySet } from '../policy/evaluate.ts'
import { EXIT, HELP, say, UsageError, warn } from './command.ts'

const HELP_TEXT = `fhirewall test: check policies against cases

Usage: fhirewall test [FOLDER]

  FOLDER      policies and their *.test.yaml files (default: FHIREWALL_POLICIES,
              or the shipped ones); --policies FOLDER is the same
  -h, --help  this text

The examples within policies are checked whenever they are loaded. A case file
holds more of them:

  cases:
    - deny: { as: { patient: p1 }, level: patient, interaction: read,
              type: Group }
      because: a group names many people

Every case that does not hold is printed as file:line:column message; exit
code 1 if there is any.`

/** `fhirewall test`. */
export async function test(args: string[]): Promise<number> {
  const { values, positionals } = parse(args)
  if (values.help === true) {
    say(HELP_TEXT)
    return EXIT.ok
  }
  const [named] = positionals
  if (positionals.length + (values.policies === undefined ? 0 : 1) > 1) {
    throw new UsageError('one folder is tested at a time')
  }
  const folder = named ?? values.policies ?? process.env.FHIREWALL_POLICIES ?? shippedPolicies()
  let policies: PolicySet
  try {
    policies = loadPolicies(folder)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    for (const problem of error.problems) warn(formatProblem(problem))
    return EXIT.failed
  }
  const reports = checkCases(policies, folder)
  for (const problem of reports.flatMap(({ problems }) => problems)) warn(formatProblem(problem))
  say(`policies ${policies.hash.slice(0, 16)}: ${policies.rules} rules, their examples hold`)
  for (const { file, cases, problems } of reports) {
    const found = problems.length === 0 ? 'all hold' : `${problems.length} problem(s)`
    say(`  ${basename(file).padEnd(44)} ${`${cases} cases`.padStart(12)}  ${found}`)
  }
  const total = reports.reduce((sum, { cases }) => sum + cases, 0)
  const broken = reports.reduce((sum, { problems }) => sum + problems.length, 0)
  say(`${total} cases in ${reports.length} files, ${broken} problems`)
  return broken === 0 ? EXIT.ok : EXIT.failed
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { ...HELP, policies: { type: 'string' } },
    })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error })
  }
}

import { findAuditProblem, findFileProblems } from '../adapters/edge-files.ts'
import { ConfigError, formatProblem, loadConfig } from '../config/load.ts'
import type { Problem } from '../config/load.ts'
import { shippedPolicies } from '../config/shipped.ts'
import type { FhirVersion } from '../fhir/definitions.ts'
import { loadPolicies, PolicyError } from '../policy/load.ts'
import { countProblems, EXIT, HELP, parseOptions, say, warn } from './command.ts'

const HELP_TEXT = `fhirewall check: check configuration and policies, without starting

Usage: fhirewall check [--config FILE] [--json]

  --config FILE   YAML configuration; FHIREWALL_… variables go before it
  --json          {"problems": […], "warnings": […]} on standard output
  -h, --help      this text

Prints every problem as file:line:column message; exit code 1 if there is any.`

/** Problems and warnings of a configuration, and of the policies it names. */
function findProblems(file: string | undefined): {
  problems: Problem[]
  warnings: readonly string[]
} {
  const problems: Problem[] = []
  let warnings: readonly string[] = []
  // With a broken configuration the policies can still be checked, where they are known to be.
  let folder = process.env.FHIREWALL_POLICIES
  let version: FhirVersion | undefined
  try {
    const loaded = loadConfig({ file, env: process.env })
    // The log is kept where it is written, which is not always where a configuration is checked.
    const audit = findAuditProblem(loaded.config)
    warnings = audit === undefined ? loaded.warnings : [...loaded.warnings, audit]
    folder = loaded.config.policies
    version = loaded.config.fhir.version
    for (const message of findFileProblems(loaded.config)) {
      problems.push({ line: 0, column: 0, message })
    }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    problems.push(...error.problems)
  }
  try {
    loadPolicies(folder ?? shippedPolicies(), version)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    problems.push(...error.problems)
  }
  return { problems, warnings }
}

/** `fhirewall check`. */
export async function check(args: string[]): Promise<number> {
  const options = parseOptions(args, {
    ...HELP,
    config: { type: 'string' },
    json: { type: 'boolean' },
  })
  if (options.help) {
    say(HELP_TEXT)
    return EXIT.ok
  }
  const { problems, warnings } = findProblems(options.config)
  if (options.json) say(JSON.stringify({ problems, warnings }, null, 2))
  else {
    for (const warning of warnings) warn(`warning: ${warning}`)
    for (const problem of problems) warn(formatProblem(problem))
    if (problems.length > 0) warn(countProblems(problems.length))
    else say('Configuration and policies are good.')
  }
  return problems.length > 0 ? EXIT.failed : EXIT.ok
}

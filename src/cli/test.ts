import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parse } from 'yaml'
import { shippedPolicies } from '../config/shipped.ts'
import { caseFileSchema } from '../policy/example-schema.ts'
import { checkExample, describeExample } from '../policy/examples.ts'
import { loadPolicies, PolicyError } from '../policy/load.ts'
import { EXIT, HELP, parseOptions, say, warn } from './command.ts'

const HELP_TEXT = `fhirewall test: check policies against cases

Usage: fhirewall test [--policies FOLDER]

  --policies FOLDER   policies and their *.test.yaml files (default:
                      FHIREWALL_POLICIES, or the shipped ones)
  -h, --help          this text

The examples within policies are checked whenever they are loaded. A case file
holds more of them:

  cases:
    - deny: { as: { patient: p1 }, level: patient, interaction: read,
              type: Group }
      because: a group names many people

Exit code 1 when a case does not hold.`

/** `fhirewall test`. */
export async function test(args: string[]): Promise<number> {
  const options = parseOptions(args, { ...HELP, policies: { type: 'string' } })
  if (options.help) {
    say(HELP_TEXT)
    return EXIT.ok
  }
  const folder = options.policies ?? process.env.FHIREWALL_POLICIES ?? shippedPolicies()
  let policies: ReturnType<typeof loadPolicies>
  try {
    policies = loadPolicies(folder)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    for (const { file, line, column, message } of error.problems) {
      warn(`${file}:${line}:${column} ${message}`)
    }
    return EXIT.failed
  }
  let [held, broken] = [0, 0]
  for (const name of readdirSync(folder)
    .filter((file) => /\.test\.ya?ml$/.test(file))
    .sort()) {
    const found = caseFileSchema.safeParse(parse(readFileSync(join(folder, name), 'utf8')))
    if (!found.success) {
      broken++
      for (const { path, message } of found.error.issues) {
        warn(`${name}: ${path.map(String).join('.')}: ${message}`)
      }
      continue
    }
    for (const example of found.data.cases) {
      const problem = checkExample(policies, example, Date.now())
      if (problem === undefined) held++
      else {
        broken++
        warn(`${basename(name)}: ${describeExample(example)}\n  ${problem}`)
      }
    }
  }
  say(`policies ${policies.hash.slice(0, 16)}: ${policies.rules} rules, their examples hold`)
  say(`cases: ${held} hold, ${broken} do not`)
  return broken === 0 ? EXIT.ok : EXIT.failed
}

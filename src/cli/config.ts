import { stringify } from 'yaml'
import { redact } from '../config/load.ts'
import { EXIT, HELP, loadOrExplain, parseOptions, say } from './command.ts'

const HELP_TEXT = `fhirewall config: print the effective configuration, without secrets

Usage: fhirewall config [--config FILE] [--json]

  --config FILE   YAML configuration; FHIREWALL_… variables go before it
  --json          as JSON instead of YAML
  -h, --help      this text`

/** `fhirewall config`. */
export async function config(args: string[]): Promise<number> {
  const options = parseOptions(args, {
    ...HELP,
    config: { type: 'string' },
    json: { type: 'boolean' },
  })
  if (options.help) {
    say(HELP_TEXT)
    return EXIT.ok
  }
  const loaded = loadOrExplain(options.config)
  if (loaded === undefined) return EXIT.failed
  const printed = redact(loaded.config)
  say(options.json ? JSON.stringify(printed, null, 2) : stringify(printed).trimEnd())
  return EXIT.ok
}

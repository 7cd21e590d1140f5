import { EXIT, HELP, parseOptions, say, UsageError } from './command.ts'
import type { DemoOptions } from './run-demo.ts'

const HELP_TEXT = `Usage: fhirewall demo [options]

Starts a whole small world on 127.0.0.1 and stays up until Ctrl-C: an OpenID
provider, a FHIR R4 server with a synthetic population, and FHIRewall between
that server and you.

Options:
  --port-base N   gateway on N, admin on N+1, OpenID provider on N+2, FHIR
                  server behind the gateway on N+3 (default 8080)
  --patients N    size of the synthetic population (default 200)
  --load DIR      also load every *.json in DIR: transaction or batch Bundles,
                  as Synthea writes them, or single resources
  --help          this text`

const whole = (name: string, text: string, low: number, high: number): number => {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN
  if (value >= low && value <= high) return value
  throw new UsageError(`--${name} takes a whole number from ${low} to ${high}, not "${text}"`)
}

const readOptions = (args: string[]): DemoOptions | 'help' => {
  const values = parseOptions(args, {
    ...HELP,
    'port-base': { type: 'string', default: '8080' },
    patients: { type: 'string', default: '200' },
    load: { type: 'string' },
  })
  if (values.help) return 'help'
  return {
    portBase: whole('port-base', values['port-base'], 1, 65_532),
    patients: whole('patients', values.patients, values.load === undefined ? 1 : 0, 100_000),
    load: values.load,
  }
}

/** `fhirewall demo`. Returns the exit code; throws {@link UsageError}. */
export async function demo(args: string[]): Promise<number> {
  const options = readOptions(args)
  if (options === 'help') {
    say(HELP_TEXT)
    return EXIT.ok
  }
  // The whole gateway and what is around it: not needed to say what is wrong with an option.
  const { runDemo } = await import('./run-demo.ts')
  return runDemo(options)
}

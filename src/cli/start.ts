import { formatProblem } from '../config/load.ts'
import { shippedPolicies } from '../config/shipped.ts'
import { PolicyError } from '../policy/load.ts'
import { tuneEngine } from './engine.ts'
import { EXIT, HELP, loadOrExplain, parseOptions, say, warn } from './command.ts'

const HELP_TEXT = `fhirewall start: start the gateway

Usage: fhirewall start [--config FILE]

  --config FILE   YAML configuration; FHIREWALL_… variables go before it
  -h, --help      this text

Stops on SIGTERM or SIGINT, and when its terminal is closed: exchanges under
way are finished first, for shutdownSeconds at most. A second signal, a second
later, stops at once. Files are followed: SIGHUP is not needed for them, and
without a terminal it does nothing.`

/** What the operator is told when the gateway cannot start. */
function explain(error: unknown): void {
  if (error instanceof PolicyError) {
    for (const problem of error.problems) warn(formatProblem(problem))
    return
  }
  warn(`The gateway cannot start: ${error instanceof Error ? error.message : String(error)}`)
  const advice = ADVICE.get(error instanceof Error && 'code' in error ? String(error.code) : '')
  if (advice !== undefined) warn(advice)
}

/** What to do about what the operating system says. */
const ADVICE: ReadonlyMap<string, string> = new Map([
  [
    'EADDRINUSE',
    'Set another port (FHIREWALL_PORT, FHIREWALL_ADMIN_PORT), or stop what listens there.',
  ],
  ['ENOENT', 'A file or folder that a setting names is not there, such as that of audit.file.'],
  ['EISDIR', 'A setting names a folder where a file is needed, such as audit.file.'],
  ['EACCES', 'A setting names what this user may not open, such as audit.file or a low port.'],
])

/** Ctrl-C signals the whole group, and whoever started this process passes its own on: that is one. */
const SAME_MS = 1000

/** Resolves at the first signal to stop; a second one ends the process at once. */
async function untilStopped(): Promise<void> {
  await new Promise<void>((resolve) => {
    let askedAt: number | undefined
    const onSignal = () => {
      const now = performance.now()
      if (askedAt !== undefined && now - askedAt > SAME_MS) process.exit(EXIT.failed)
      askedAt ??= now
      resolve()
    }
    process.on('SIGTERM', onSignal)
    process.on('SIGINT', onSignal)
    // Sent to a service, it means "read your files again"; by itself it would end all exchanges at once.
    process.on('SIGHUP', process.stdin.isTTY ? onSignal : () => undefined)
  })
}

/** `fhirewall start`: runs until a signal, then drains. */
export async function start(args: string[]): Promise<number> {
  const options = parseOptions(args, { ...HELP, config: { type: 'string' } })
  if (options.help) {
    say(HELP_TEXT)
    return EXIT.ok
  }
  const loaded = loadOrExplain(options.config)
  if (loaded === undefined) return EXIT.failed
  for (const warning of loaded.warnings) warn(`warning: ${warning}`)

  tuneEngine()
  const { start: startGateway } = await import('../main.ts')
  // Listening before the first await, so that a signal during the start is not lost.
  const stopped = untilStopped()
  let gateway: Awaited<ReturnType<typeof startGateway>>
  try {
    gateway = await startGateway(loaded.config, { policies: shippedPolicies() })
  } catch (error) {
    explain(error)
    process.exit(EXIT.failed)
  }
  say(`FHIR   ${gateway.url}`)
  say(`admin  ${gateway.adminUrl}`)

  await stopped
  say('stopping')
  const limit = setTimeout(() => {
    warn(`not everything ended within ${loaded.config.shutdownSeconds} seconds`)
    process.exit(EXIT.failed)
  }, loaded.config.shutdownSeconds * 1000)
  try {
    await gateway.close()
  } catch (error) {
    warn(`The stop failed: ${error instanceof Error ? error.message : String(error)}`)
    process.exit(EXIT.failed)
  }
  clearTimeout(limit)
  // A socket that someone forgot must not keep a stopped gateway alive.
  process.exit(EXIT.ok)
}

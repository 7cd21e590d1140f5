import { existsSync } from 'node:fs'
import { shippedVersion } from '../config/shipped.ts'
import { suggest } from '../config/problem.ts'
import type { Command } from './command.ts'
import { EXIT, say, UsageError, warn } from './command.ts'

/** The demo runs from a clone only: its identity provider and FHIR server are not published. */
async function loadDemo(): Promise<Command> {
  const file = new URL('./demo.ts', import.meta.url)
  if (!existsSync(file)) {
    throw new UsageError('The demo runs from a clone of the repository: npm ci && npm run demo')
  }
  const module = (await import(file.href)) as { demo: Command }
  return module.demo
}

/** Each command is loaded only when it is asked for. */
const COMMANDS: Readonly<Record<string, { about: string; load: () => Promise<Command> }>> = {
  start: {
    about: 'start the gateway',
    load: async () => (await import('./start.ts')).start,
  },
  demo: {
    about: 'try it: identity provider, FHIR server and gateway on this machine',
    load: loadDemo,
  },
  check: {
    about: 'check configuration and policies, without starting',
    load: async () => (await import('./check.ts')).check,
  },
  explain: {
    about: 'why a request is permitted or refused, rule by rule',
    load: async () => (await import('./explain.ts')).explain,
  },
  test: {
    about: 'check policies against cases',
    load: async () => (await import('./test.ts')).test,
  },
  config: {
    about: 'print the effective configuration, without secrets',
    load: async () => (await import('./config.ts')).config,
  },
  audit: {
    about: 'verify the audit log',
    load: async () => (await import('./audit.ts')).audit,
  },
}

const HELP_TEXT = `fhirewall: a security gateway for FHIR servers

Usage: fhirewall <command> [options]

Commands:
${Object.entries(COMMANDS)
  .map(([name, { about }]) => `  ${name.padEnd(8)}${about}`)
  .join('\n')}

fhirewall <command> --help   options of a command
fhirewall --version          version of FHIRewall
Exit codes: 0 done, 1 failed, 2 wrong usage`

async function run(args: string[]): Promise<number> {
  const [name, ...rest] = args
  if (name === '--help' || name === '-h' || name === 'help') {
    say(HELP_TEXT)
    return EXIT.ok
  }
  if (name === '--version') {
    say(shippedVersion())
    return EXIT.ok
  }
  if (name === undefined) {
    warn(HELP_TEXT)
    return EXIT.usage
  }
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (command === undefined) {
    throw new UsageError(`There is no command "${name}"${suggest(name, Object.keys(COMMANDS))}`)
  }
  return (await command.load())(rest)
}

// Started again by bin/fhirewall.js under the right Node: when that parent is killed outright, the
// channel closes, and so must we. Unreferenced, the channel alone keeps nothing alive.
if (process.env.FHIREWALL_RESTARTED !== undefined && process.channel) {
  process.on('disconnect', () => process.exit(EXIT.failed))
  process.channel.unref()
}

// Unheard, a reader that has gone (`| head`) or a full disk would end the process in the middle of its work.
for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined)

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  if (error instanceof UsageError) {
    warn(error.message)
    warn('Try: fhirewall --help')
    process.exitCode = EXIT.usage
  } else {
    warn(error instanceof Error ? (error.stack ?? error.message) : String(error))
    process.exitCode = EXIT.failed
  }
}

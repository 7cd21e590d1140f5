import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { configSchema } from '../config/schema.ts'
import { startFhirServer } from '../demo/fhir-server.ts'
import type { FhirServer } from '../demo/fhir-server.ts'
import { startIdentityProvider } from '../demo/identity-provider.ts'
import { describeDemo } from '../demo/picture.ts'
import {
  DEMO_PATIENT_ID,
  DEMO_PRACTITIONER_ID,
  DEMO_RESEARCHER_ID,
  generatePopulation,
} from '../demo/population.ts'
import { start } from '../main.ts'
import { EXIT, HELP, parseOptions, say, UsageError, warn } from './command.ts'

const HOST = '127.0.0.1'
const SEED = 2026

const HELP_TEXT = `Usage: fhirewall demo [options]

Starts a whole small world on ${HOST} and stays up until Ctrl-C: an OpenID
provider, a FHIR R4 server with a synthetic population, and FHIRewall between
that server and you.

Options:
  --port-base N   gateway on N, admin on N+1, OpenID provider on N+2, FHIR
                  server behind the gateway on N+3 (default 8080)
  --patients N    size of the synthetic population (default 200)
  --load DIR      also load every *.json in DIR: transaction or batch Bundles,
                  as Synthea writes them, or single resources
  --help          this text`

type DemoOptions = {
  readonly portBase: number
  readonly patients: number
  readonly load: string | undefined
}

/** A problem that one sentence explains. */
class DemoError extends Error {}

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

const loadFolder = async (upstream: FhirServer, folder: string): Promise<number> => {
  let names: readonly string[]
  try {
    names = (await readdir(folder)).filter((name) => name.endsWith('.json')).sort()
  } catch {
    throw new DemoError(`There is no readable folder ${folder}.`)
  }
  if (names.length === 0) throw new DemoError(`There is no *.json file in ${folder}.`)
  for (const name of names)
    try {
      upstream.put(await readFile(join(folder, name), 'utf8'))
    } catch (error) {
      throw new DemoError(`${join(folder, name)} cannot be loaded: ${String(error)}`)
    }
  return names.length
}

/** The ids of patients upstream holds, the demo's own first. */
const patientIds = (upstream: FhirServer): readonly string[] =>
  upstream.all('Patient').map((text) => (JSON.parse(text) as { id: string }).id)

const untilSignal = (): Promise<void> =>
  new Promise((resolve) => {
    // Stay subscribed: npm and the terminal may both send the same Ctrl-C.
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.on(signal, () => {
        resolve()
      })
  })

const explain = (error: unknown, portBase: number): string => {
  if (error instanceof DemoError) return error.message
  const { code, port } = error as NodeJS.ErrnoException & { port?: number }
  if (code === 'EADDRINUSE')
    return (
      `Port ${port ?? 'needed here'} is in use; the demo needs ${portBase} to ${portBase + 3}: ` +
      'stop what listens there or choose others with --port-base N.'
    )
  if (code === 'EACCES')
    return `Port ${port ?? portBase} may not be used here; choose others with --port-base N.`
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

const run = async (options: DemoOptions, ended: Promise<void>): Promise<void> => {
  const { portBase } = options
  const closers: (() => Promise<void>)[] = []
  try {
    const upstream = await startFhirServer({ host: HOST, port: portBase + 3 })
    closers.push(upstream.close)
    for (const text of generatePopulation(SEED, options.patients)) upstream.put(text)
    const files = options.load === undefined ? 0 : await loadFolder(upstream, options.load)
    const ids = patientIds(upstream)
    const own = options.patients > 0 ? DEMO_PATIENT_ID : ids[0]
    if (own === undefined) throw new DemoError(`There is no Patient in ${options.load ?? ''}.`)

    const publicUrl = `http://${HOST}:${portBase}/fhir`
    const idp = await startIdentityProvider({
      host: HOST,
      port: portBase + 2,
      audience: publicUrl,
      patientId: own,
      practitionerId: DEMO_PRACTITIONER_ID,
      researcherId: DEMO_RESEARCHER_ID,
    })
    closers.push(idp.close)

    const auditFile = join(await mkdtemp(join(tmpdir(), 'fhirewall-demo-')), 'audit.jsonl')
    const gateway = await start(
      configSchema.parse({
        host: HOST,
        port: portBase,
        admin: { host: HOST, port: portBase + 1 },
        public: { url: publicUrl },
        upstream: { url: upstream.url },
        issuers: [{ url: idp.issuer, requireType: true }],
        fhir: { version: 'R4' },
        audit: { file: auditFile },
        log: { level: 'warn' },
        shutdownSeconds: 5,
      }),
    )
    closers.push(() => gateway.close())

    const other = ids.find((id) => id !== own)
    const { adminUrl } = gateway
    const picture = { url: publicUrl, adminUrl, issuer: idp.issuer, upstream, files, auditFile }
    say(describeDemo({ ...picture, own, other }))
    await ended
    say('\nEnding.')
  } finally {
    // What came last needs those before it, so it goes first.
    for (const close of closers.reverse()) await close()
  }
}

/** `fhirewall demo`. Returns the exit code; throws {@link UsageError}. */
export async function demo(args: string[]): Promise<number> {
  const options = readOptions(args)
  if (options === 'help') {
    say(HELP_TEXT)
    return EXIT.ok
  }
  try {
    await run(options, untilSignal())
    return EXIT.ok
  } catch (error) {
    warn(explain(error, options.portBase))
    return EXIT.failed
  }
}

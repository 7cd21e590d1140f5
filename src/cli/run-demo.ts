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
import { EXIT, say, warn } from './command.ts'

const HOST = '127.0.0.1'
const SEED = 2026

/** How `fhirewall demo` was asked for. */
export type DemoOptions = {
  readonly portBase: number
  readonly patients: number
  readonly load: string | undefined
}

/** A problem that one sentence explains. */
class DemoError extends Error {}

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

/** Runs it until a signal comes; the exit code. */
export async function runDemo(options: DemoOptions): Promise<number> {
  try {
    await run(options, untilSignal())
    return EXIT.ok
  } catch (error) {
    warn(explain(error, options.portBase))
    return EXIT.failed
  }
}

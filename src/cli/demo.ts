import { mkdtemp, readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { configSchema } from '../config/schema.ts'
import { startFhirServer } from '../demo/fhir-server.ts'
import type { FhirServer } from '../demo/fhir-server.ts'
import { startIdentityProvider } from '../demo/identity-provider.ts'
import type { Persona } from '../demo/identity-provider.ts'
import {
  DEMO_PATIENT_ID,
  DEMO_PRACTITIONER_ID,
  DEMO_RESEARCHER_ID,
  generatePopulation,
} from '../demo/population.ts'
import { start } from '../main.ts'

const HOST = '127.0.0.1'
const SEED = 2026

const HELP = `Usage: fhirewall demo [options]

Starts a whole small world on ${HOST} and stays up until Ctrl-C: an OpenID
provider, a FHIR R4 server with a synthetic population, and FHIRewall between
that server and you.

Options:
  --port-base N   gateway on N, admin on N+1, OpenID provider on N+2, FHIR
                  server behind the gateway on N+3 (default 8080)
  --patients N    size of the synthetic population (default 200)
  --load DIR      also load every *.json in DIR: transaction or batch Bundles,
                  as Synthea writes them, or single resources
  --help          this text
`

type DemoOptions = {
  readonly portBase: number
  readonly patients: number
  readonly load: string | undefined
}

/** A problem that one sentence explains; `code` is the exit code. */
class DemoError extends Error {
  readonly code: number
  constructor(code: number, message: string) {
    super(message)
    this.code = code
  }
}

const whole = (name: string, text: string, low: number, high: number): number => {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : NaN
  if (value >= low && value <= high) return value
  throw new DemoError(2, `--${name} takes a whole number from ${low} to ${high}, not "${text}".`)
}

const readOptions = (args: readonly string[]): DemoOptions | 'help' => {
  let values
  try {
    values = parseArgs({
      args: [...args],
      options: {
        'port-base': { type: 'string', default: '8080' },
        patients: { type: 'string', default: '200' },
        load: { type: 'string' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values
  } catch (error) {
    throw new DemoError(2, error instanceof Error ? error.message : String(error))
  }
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
    throw new DemoError(1, `There is no readable folder ${folder}.`)
  }
  if (names.length === 0) throw new DemoError(1, `There is no *.json file in ${folder}.`)
  for (const name of names)
    try {
      upstream.put(await readFile(join(folder, name), 'utf8'))
    } catch (error) {
      throw new DemoError(1, `${join(folder, name)} cannot be loaded: ${String(error)}`)
    }
  return names.length
}

/** The ids of patients upstream holds, the demo's own first. */
const patientIds = (upstream: FhirServer): readonly string[] =>
  upstream.all('Patient').map((text) => (JSON.parse(text) as { id: string }).id)

type Picture = {
  readonly url: string
  readonly adminUrl: string
  readonly issuer: string
  readonly upstream: FhirServer
  readonly files: number
  readonly auditFile: string
  readonly own: string
  readonly other: string | undefined
}

const curl = (picture: Picture, persona: Persona, path: string): string =>
  [
    `    curl -s '${picture.url}/${path}' \\`,
    '      -H "Authorization: Bearer $(',
    `        curl -s ${picture.issuer}/demo/token/${persona})"`,
  ].join('\n')

/** What is where and what to try, in lines of at most 80 columns. */
const describe = (picture: Picture): string => {
  const { url, adminUrl, issuer, upstream, files, auditFile, own, other } = picture
  const labs = `Observation?patient=${own}&_sort=date&_count=3`
  const loaded = files === 0 ? '' : `, ${files} file${files === 1 ? '' : 's'} loaded`
  return [
    '',
    'FHIRewall demo: everything in it is invented, everything in it is real.',
    '',
    '    you ──token──► FHIRewall ──one checked request──► FHIR server',
    '                       │                                  │',
    '                 policies, audit              whole, unmasked records',
    '',
    `  FHIRewall        ${url}`,
    `  admin            ${adminUrl}  (/livez /readyz /metrics)`,
    `  OpenID provider  ${issuer}`,
    `  FHIR server      ${upstream.url}  (behind; only here to compare)`,
    `                   ${upstream.count()} resources, ${upstream.count('Patient')} patients${loaded}`,
    '  audit log',
    `    ${auditFile}`,
    '',
    '1 patient: reads the own record. The SSN is masked, in the identifier and',
    '  in the narrative; every other byte is as the FHIR server holds it.',
    curl(picture, 'patient', `Patient/${own}`),
    ...(other === undefined
      ? []
      : [
          '',
          '  The record of somebody else: 404, as if there were none.',
          curl(picture, 'patient', `Patient/${other}`),
        ]),
    '',
    '2 clinician: reads and writes in treatment. Decimals keep their precision',
    '  (1.10 stays 1.10), card numbers in notes are masked.',
    curl(picture, 'clinician', labs),
    '',
    '3 researcher: the same kind of data, de-identified.',
    curl(picture, 'researcher', 'Patient?_count=2'),
    '',
    '4 backend: a program without a person (client credentials).',
    curl(picture, 'backend', `Condition?patient=${own}`),
    '',
    'Without a token: 401 with a challenge.',
    `    curl -si '${url}/Patient/${own}'`,
    '',
    'The same record unprotected, to compare:',
    `    curl -s '${upstream.url}/Patient/${own}'`,
    '',
    'Ctrl-C ends the demo.',
  ].join('\n')
}

const untilSignal = (): Promise<void> =>
  new Promise((resolve) => {
    // Stay subscribed: npm and the terminal may both send the same Ctrl-C.
    for (const signal of ['SIGINT', 'SIGTERM'] as const)
      process.on(signal, () => {
        resolve()
      })
  })

const explain = (error: unknown, portBase: number): string => {
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
    if (own === undefined) throw new DemoError(1, `There is no Patient in ${options.load ?? ''}.`)

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
    console.log(describe({ ...picture, own, other }))
    await ended
    console.log('\nEnding.')
  } finally {
    // What came last needs those before it, so it goes first.
    for (const close of closers.reverse()) await close()
  }
}

/** `fhirewall demo`. Returns the exit code. */
export async function demo(args: string[]): Promise<number> {
  let portBase = 8080
  try {
    const options = readOptions(args)
    if (options === 'help') {
      console.log(HELP)
      return 0
    }
    portBase = options.portBase
    await run(options, untilSignal())
    return 0
  } catch (error) {
    if (error instanceof DemoError) {
      console.error(error.message + (error.code === 2 ? ' See fhirewall demo --help.' : ''))
      return error.code
    }
    console.error(explain(error, portBase))
    return 1
  }
}

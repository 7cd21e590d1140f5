import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLogger } from '../../src/adapters/logger.ts'
import { configSchema } from '../../src/config/schema.ts'
import { start } from '../../src/main.ts'
import type { Clock } from '../../src/ports.ts'
import { startIssuer } from './issuer.ts'
import { startUpstream } from './upstream.ts'
import type { Handler } from './upstream.ts'

/** The public base; nobody listens there, it is only a name. */
export const PUBLIC_URL = 'http://127.0.0.1:9/fhir'

type Settings = Record<string, unknown>

/** A whole gateway with a real issuer and a recording upstream, all on loopback, port 0. */
export async function startGateway(
  options: {
    handler?: Handler
    config?: Settings
    upstreamUrl?: string
    /** As upstream's /metadata says it. */
    fhirVersion?: string
    clock?: Clock
    /** Settings of the one issuer, beyond its address. */
    issuer?: Settings
  } = {},
) {
  const folder = await mkdtemp(join(tmpdir(), 'fhirewall-test-'))
  const auditFile = join(folder, 'audit.jsonl')
  const issuer = await startIssuer()
  const upstream = await startUpstream(options.handler, options.fhirVersion)
  const { upstream: upstreamSettings, ...settings } = options.config ?? {}
  const log: string[] = []
  const printed: string[] = []
  const printer = createLogger('debug', { write: (line) => void printed.push(line) })
  const write = (level: 'debug' | 'info' | 'warn' | 'error') => (fields: object, text: string) => {
    log.push(`${level} ${JSON.stringify(fields)} ${text}`)
    printer[level](fields, text)
  }
  const gateway = await start(
    configSchema.parse({
      port: 0,
      admin: { port: 0 },
      public: { url: PUBLIC_URL },
      fhir: { version: 'R4' },
      upstream: {
        url: options.upstreamUrl ?? upstream.url,
        ...(upstreamSettings as Settings | undefined),
      },
      issuers: [{ url: issuer.url, ...options.issuer }],
      audit: { file: auditFile },
      limits: {
        address: { burst: 100_000 },
        principal: { burst: 100_000 },
        failures: { burst: 100_000 },
      },
      shutdownSeconds: 2,
      ...settings,
    }),
    {
      ...(options.clock === undefined ? {} : { clock: options.clock }),
      log: {
        debug: write('debug'),
        info: write('info'),
        warn: write('warn'),
        error: write('error'),
      },
    },
  )
  const { port } = new URL(gateway.url)
  return {
    ...gateway,
    issuer,
    upstream,
    /** What the logger is told. */
    log,
    /** What it makes of it: lines of the operational log. */
    printed,
    port: Number(port),
    /** An access token for this gateway. */
    token: async (claims: Record<string, unknown>) => issuer.token({ aud: PUBLIC_URL, ...claims }),
    /** Sends bytes as they are, and what comes `then` after them, and returns all that comes back until the connection closes. */
    raw: async (bytes: string, then?: () => Promise<string>): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect(Number(port), '127.0.0.1', () => {
          socket.write(bytes, 'latin1')
          void then?.().then((more) => socket.write(more, 'latin1'))
        })
        const chunks: Buffer[] = []
        socket.setTimeout(5_000, () => socket.destroy())
        socket.on('data', (chunk) => chunks.push(chunk))
        socket.on('error', reject)
        socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')))
      }),
    /** The audit records so far, one AuditEvent each. */
    audit: async (): Promise<{ [key: string]: never }[]> =>
      (await readFile(auditFile, 'utf8'))
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as never),
    auditText: async () => readFile(auditFile, 'utf8'),
    metrics: async () => (await fetch(`${gateway.adminUrl}/metrics`)).text(),
    async close() {
      await gateway.close()
      await upstream.close()
      await issuer.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

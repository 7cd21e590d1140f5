import type { Config } from '../config/schema.ts'
import { versionOf } from '../fhir/definitions.ts'
import type { FhirVersion } from '../fhir/definitions.ts'
import { discard, readBody } from '../http/content.ts'
import type { Log } from '../ports.ts'
import { createUpstreamCredentials } from './upstream-credentials.ts'
import { createUpstreamPool } from './upstream-pool.ts'
import type { UpstreamPool } from './upstream-pool.ts'

/** What upstream says of itself. */
export type StatementWatch = {
  readonly start: () => Promise<void>
  readonly stop: () => void
  /** Its parsed capability statement; undefined until there is one of the version we decide for. */
  readonly statement: () => unknown
  /** Whether it said, when last it was understood, to speak another version than we decide for. */
  readonly isOther: () => boolean
}

export type StatementParts = {
  readonly pool: Pick<UpstreamPool, 'request'>
  readonly log: Pick<Log, 'warn'>
  /** The version whose tables are in force. */
  readonly expected: FhirVersion
  /** Milliseconds from one look to the next, while there is no statement and when there is one. */
  readonly pauses?: { readonly unknown: number; readonly known: number }
}

const PAUSES = { unknown: 2_000, known: 3_600_000 }

/** Reads the capability statement of upstream, again and again until it has one; then hourly. */
export function watchStatement(
  config: Config,
  { pool, log, expected, pauses = PAUSES }: StatementParts,
): StatementWatch {
  const stopped = new AbortController()
  let statement: unknown
  let isOther = false
  let timer: NodeJS.Timeout | undefined

  async function look(): Promise<void> {
    try {
      const read = await fetchStatement(pool, stopped.signal)
      if (typeof read.fhirVersion !== 'string') throw new Error('/metadata is no statement')
      const version = versionOf(read.fhirVersion)
      // Tables of one version would judge and mask the resources of another wrongly.
      isOther = version !== expected
      statement = isOther ? undefined : read
      if (isOther) {
        throw new Error(
          `upstream speaks FHIR ${version ?? 'of an unknown version'}, not ${expected}`,
        )
      }
    } catch (error) {
      if (stopped.signal.aborted) return
      const { code, message, detail } = error as Error & { code?: string; detail?: string }
      const problem = code ?? (detail === undefined ? message : `${message}: ${detail}`)
      log.warn(
        { url: config.upstream.url, problem },
        'the FHIR server is not known yet; trying again',
      )
    }
    if (stopped.signal.aborted) return
    timer = setTimeout(() => void look(), statement === undefined ? pauses.unknown : pauses.known)
    timer.unref()
  }

  return {
    start: look,
    stop() {
      stopped.abort()
      clearTimeout(timer)
    },
    statement: () => statement,
    isOther: () => isOther,
  }
}

/** How long upstream has to say its version, before it is taken for one of R4, milliseconds. */
const PATIENCE = 5_000

/**
 * The FHIR version that upstream says it speaks; undefined when it does not say one that we know. Asked once,
 * before anything that goes by a version is made.
 */
export async function askVersion(
  config: Config,
  { log, now }: { readonly log: Log; readonly now: () => number },
): Promise<FhirVersion | undefined> {
  const signal = AbortSignal.timeout(PATIENCE)
  const credentials = createUpstreamCredentials(config, { log, now })
  const pool = createUpstreamPool(config, { log, credentials })
  try {
    await credentials.start()
    const { fhirVersion } = await fetchStatement(pool, signal)
    return typeof fhirVersion === 'string' ? versionOf(fhirVersion) : undefined
  } catch {
    // Who watches it from now on says what is wrong, again and again.
    return undefined
  } finally {
    credentials.close()
    await pool.close()
  }
}

async function fetchStatement(
  pool: StatementParts['pool'],
  signal: AbortSignal,
): Promise<{ readonly fhirVersion?: unknown }> {
  const answer = await pool.request({
    method: 'GET',
    path: '/metadata',
    query: '',
    // The second is what DSTU2 calls it.
    headers: { accept: 'application/fhir+json, application/json+fhir;q=0.9' },
    signal,
  })
  if (answer.status !== 200) {
    discard(answer.body)
    throw new Error(`/metadata answered ${answer.status}`)
  }
  const body = Buffer.isBuffer(answer.body)
    ? answer.body
    : await readBody(answer.body, 67_108_864, 'upstream-unreadable')
  return JSON.parse(body.toString('utf8')) as { readonly fhirVersion?: unknown }
}

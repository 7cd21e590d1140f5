import { randomUUID } from 'node:crypto'
import type { FhirStore } from './fhir-store.ts'

/** What an export answers; `body` is NDJSON for a file. */
export type ExportReply = {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

type Job = {
  readonly asked: string
  readonly since: string
  readonly transactionTime: string
  readonly files: readonly { readonly type: string; readonly url: string; readonly count: number }[]
  /** How often its status was asked: the first time it is still running. */
  asks: number
}

const MAXIMUM_JOBS = 100

/**
 * Bulk Data Access as HAPI does it: `$export`, `$export-poll-status?_jobId=…`, and files that are
 * Binary resources. In memory, like everything of the demo.
 */
export class BulkExport {
  readonly #store: FhirStore
  readonly #jobs = new Map<string, Job>()
  readonly #files = new Map<string, string>()

  constructor(store: FhirStore) {
    this.#store = store
  }

  /** Begins a job over these types. */
  begin(base: string, asked: string, types: Iterable<string>, query: URLSearchParams): ExportReply {
    const named = query.get('_type')?.split(',')
    const since = query.get('_since') ?? ''
    const transactionTime = new Date().toISOString()
    const files: Job['files'][number][] = []
    for (const type of types) {
      if (named?.includes(type) === false) continue
      const lines = this.#store
        .all(type)
        .flatMap(({ current }) =>
          current?.text === undefined || current.lastUpdated < since ? [] : oneLine(current.text),
        )
      if (lines.length === 0) continue
      const id = randomUUID()
      this.#files.set(id, `${lines.join('\n')}\n`)
      files.push({ type, url: `${base}/Binary/${id}`, count: lines.length })
    }
    const id = randomUUID()
    this.#jobs.set(id, { asked, since, transactionTime, files, asks: 0 })
    const oldest = this.#jobs.keys().next().value
    if (this.#jobs.size > MAXIMUM_JOBS && oldest !== undefined) this.cancel(oldest)
    return {
      status: 202,
      headers: { 'content-location': `${base}/$export-poll-status?_jobId=${id}` },
    }
  }

  /** Running at first; then the manifest. */
  status(id: string): ExportReply | undefined {
    const job = this.#jobs.get(id)
    if (job === undefined) return undefined
    if (job.asks++ === 0) {
      return { status: 202, headers: { 'x-progress': 'Build in progress', 'retry-after': '1' } }
    }
    const { transactionTime, asked, files } = job
    const manifest = { transactionTime, request: asked, requiresAccessToken: true, output: files }
    return {
      status: 200,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...manifest, deleted: [], error: [] }),
    }
  }

  cancel(id: string): ExportReply | undefined {
    const job = this.#jobs.get(id)
    if (job === undefined) return undefined
    this.#jobs.delete(id)
    for (const { url } of job.files) this.#files.delete(url.slice(url.lastIndexOf('/') + 1))
    return { status: 202 }
  }

  file(id: string): ExportReply | undefined {
    const body = this.#files.get(id)
    if (body === undefined) return undefined
    return { status: 200, headers: { 'content-type': 'application/fhir+ndjson' }, body }
  }
}

/** The text without line ends: none can stand inside a JSON string. */
const oneLine = (text: string): string => text.replace(/[\r\n]+/g, ' ')

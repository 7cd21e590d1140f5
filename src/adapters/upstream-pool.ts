import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { Pool } from 'undici'
import type { Dispatcher } from 'undici'
import type { Config } from '../config/schema.ts'
import type { UpstreamAnswer, UpstreamRequest } from '../ports.ts'
import { Refusal } from '../refusal.ts'

/** The connections to the FHIR server: one bounded HTTP/1.1 pool, TLS verified, no redirects. */
export type UpstreamPool = {
  readonly request: (request: UpstreamRequest) => Promise<UpstreamAnswer>
  readonly close: () => Promise<void>
}

/** Opens no connection yet; throws when the CA file cannot be read. */
export function createUpstreamPool(config: Config): UpstreamPool {
  const { upstream } = config
  const base = new URL(upstream.url)
  const basePath = base.pathname.replace(/\/$/, '')
  const pool = new Pool(base.origin, {
    connections: upstream.connections,
    pipelining: 1,
    allowH2: false,
    // Shorter than common server idle times: a reused socket must not be one upstream is closing.
    keepAliveTimeout: 4_000,
    keepAliveMaxTimeout: 30_000,
    headersTimeout: upstream.headersTimeoutSeconds * 1000,
    bodyTimeout: upstream.bodyTimeoutSeconds * 1000,
    connect: {
      timeout: upstream.connectTimeoutSeconds * 1000,
      rejectUnauthorized: true,
      ...(upstream.caFile === undefined ? {} : { ca: readFileSync(upstream.caFile) }),
    },
  })

  // The gateway's own credential (AUTHN-19), and bodies as they are: what is compressed cannot be judged.
  const own = {
    'accept-encoding': 'identity',
    ...(upstream.authorization === undefined ? {} : { authorization: upstream.authorization }),
  }

  return {
    async request(request) {
      if (request.signal.aborted) throw new Error('the client has gone')
      return new Promise((resolve, reject) => {
        const path = basePath + request.path + (request.query === '' ? '' : `?${request.query}`)
        pool.dispatch(
          {
            path: path === '' ? '/' : path,
            method: request.method,
            headers: { ...request.headers, ...own },
            body: request.body ?? null,
          },
          new Collector(
            request.isBulk === true ? { ...upstream, maximumAnswerBytes: Infinity } : upstream,
            request.signal,
            resolve,
            reject,
          ),
        )
      })
    },
    async close() {
      await pool.destroy()
    },
  }
}

type Bounds = { readonly bufferBytes: number; readonly maximumAnswerBytes: number }

/** Collects a small body into one Buffer; hands a larger one over as a stream with back-pressure. */
class Collector implements Dispatcher.DispatchHandler {
  readonly #bounds: Bounds
  readonly #signal: AbortSignal
  readonly #resolve: (answer: UpstreamAnswer) => void
  readonly #reject: (error: unknown) => void
  #status = 0
  #headers: UpstreamAnswer['headers'] = {}
  #chunks: Buffer[] = []
  #length = 0
  #stream: Readable | undefined
  #controller: Dispatcher.DispatchController | undefined

  constructor(
    bounds: Bounds,
    signal: AbortSignal,
    resolve: (answer: UpstreamAnswer) => void,
    reject: (error: unknown) => void,
  ) {
    this.#bounds = bounds
    this.#signal = signal
    this.#resolve = resolve
    this.#reject = reject
  }

  readonly #onAbort = (): void => {
    const gone = new Error('the client has gone')
    this.#controller?.abort(gone)
    this.#reject(gone)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#signal.aborted) this.#onAbort()
    else this.#signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: UpstreamAnswer['headers'],
  ): void {
    this.#status = status
    this.#headers = headers
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#length += chunk.length
    if (this.#length > this.#bounds.maximumAnswerBytes) {
      controller.abort(
        new Refusal('upstream-unreadable', { detail: 'the answer is larger than allowed' }),
      )
      return
    }
    if (this.#stream !== undefined) {
      if (!this.#stream.push(chunk)) controller.pause()
      return
    }
    this.#chunks.push(chunk)
    if (this.#length > this.#bounds.bufferBytes) this.#openStream(controller)
  }

  onResponseEnd(): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (this.#stream !== undefined) {
      this.#stream.push(null)
      return
    }
    const [first] = this.#chunks
    const body =
      this.#chunks.length === 1 && first !== undefined
        ? first
        : Buffer.concat(this.#chunks, this.#length)
    this.#resolve({ status: this.#status, headers: this.#headers, body })
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    const refusal = this.#signal.aborted ? error : explain(error, this.#status !== 0)
    if (this.#stream !== undefined) this.#stream.destroy(refusal)
    else this.#reject(refusal)
  }

  #openStream(controller: Dispatcher.DispatchController): void {
    const stream = new Readable({
      read: () => {
        controller.resume()
      },
      destroy: (error, done) => {
        // Let go of before its end: upstream must not go on sending to nobody.
        if (!stream.readableEnded) controller.abort(error ?? new Error('not read to its end'))
        done(error)
      },
    })
    for (const chunk of this.#chunks) stream.push(chunk)
    this.#chunks = []
    this.#stream = stream
    this.#resolve({ status: this.#status, headers: this.#headers, body: stream })
  }
}

/** What an undici error means. Its text (addresses, ports) stays in `cause`, for the log alone. */
function explain(error: Error, begun: boolean): Error {
  if (error instanceof Refusal) return error
  const code = 'code' in error ? String(error.code) : ''
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') {
    return new Refusal('upstream-timeout', { detail: code, cause: error })
  }
  if (begun || code.startsWith('HPE_') || code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') {
    return new Refusal('upstream-unreadable', { detail: code, cause: error })
  }
  return new Refusal('upstream-unreachable', { detail: code, cause: error })
}

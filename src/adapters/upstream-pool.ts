import { Pool } from 'undici'
import type { Dispatcher } from 'undici'
import type { Config } from '../config/schema.ts'
import type { Departure, UpstreamAnswer, UpstreamRequest } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import type { UpstreamCredentials } from './client-credentials.ts'
import { ReadAhead } from './read-ahead.ts'
import { createTurnEnd } from './turn.ts'
import { watchUpstreamTls } from './upstream-tls.ts'
import type { WatchOptions } from './watched-files.ts'

/** The connections to the FHIR server: one bounded HTTP/1.1 pool, TLS verified, no redirects. */
export type UpstreamPool = {
  readonly request: (request: UpstreamRequest) => Promise<UpstreamAnswer>
  /** When our own certificate expires, milliseconds since the epoch; undefined without one. */
  readonly expiresAt: (() => number) | undefined
  readonly close: () => Promise<void>
}

/** What {@link createUpstreamPool} needs from outside. */
export type PoolPorts = Pick<WatchOptions<unknown>, 'log' | 'reloaded'> & {
  readonly credentials: Pick<UpstreamCredentials, 'authorization' | 'rejected'>
}

/** REST-23, RFC 9110 §7.6.3: a gateway "MUST send an appropriate Via header field" on each request. */
const VIA = '1.1 fhirewall'

/** Opens no connection yet; throws when a file of the settings cannot be read. */
export function createUpstreamPool(config: Config, ports: PoolPorts): UpstreamPool {
  const { upstream } = config
  const { credentials, log, reloaded } = ports
  const base = new URL(upstream.url)
  const basePath = base.pathname.replace(/\/$/, '')
  const spell = config.fhir.version === 'DSTU2' ? spellOld : undefined
  const trust = watchUpstreamTls(upstream, {
    ...{ log, ...(reloaded === undefined ? {} : { reloaded }) },
    changed: renew,
  })
  const turnEnd = createTurnEnd()
  const old = new Set<Pool>()
  let pool = open()

  function open(): Pool {
    return new Pool(base.origin, {
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
        // Said here, so that no variable of the environment can say otherwise (AUTHN-20).
        rejectUnauthorized: true,
        minVersion: 'TLSv1.2',
        ...trust.context(),
      },
    })
  }

  /** New requests go by the new certificate; those under way end on the connections they have. */
  function renew(): void {
    const before = pool
    pool = open()
    old.add(before)
    const closed = (): boolean => old.delete(before)
    before.close().then(closed, closed)
  }

  return {
    async request(request) {
      const shown = credentials.authorization()
      const authorization = shown instanceof Promise ? await shown : shown
      if (request.signal.aborted) throw new Error('the client has gone')
      const answer = await new Promise<UpstreamAnswer>((resolve, reject) => {
        const path = basePath + request.path + (request.query === '' ? '' : `?${request.query}`)
        pool.dispatch(
          {
            path: path === '' ? '/' : path,
            method: request.method,
            headers: {
              ...(spell?.(request.headers) ?? request.headers),
              // Bodies as they are: what is compressed cannot be judged.
              'accept-encoding': 'identity',
              via: VIA,
              ...(authorization === undefined ? {} : { authorization }),
            },
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
      if (answer.status === 401) credentials.rejected()
      await turnEnd()
      return answer
    },
    expiresAt: trust.expiresAt,
    async close() {
      trust.close()
      await Promise.all([...old, pool].map((each) => each.destroy()))
    },
  }
}

const JSON_NAME = 'application/fhir+json'
const OLD_NAME = 'application/json+fhir'

/** DSTU2 calls FHIR JSON otherwise, and not all of its servers know the name of today. */
function spellOld(headers: UpstreamRequest['headers']): UpstreamRequest['headers'] {
  const { accept, 'content-type': type } = headers
  return {
    ...headers,
    ...(accept === JSON_NAME ? { accept: `${OLD_NAME}, ${JSON_NAME};q=0.9` } : {}),
    ...(type?.startsWith(JSON_NAME) === true
      ? { 'content-type': type.replace(JSON_NAME, OLD_NAME) }
      : {}),
  }
}

type Bounds = { readonly bufferBytes: number; readonly maximumAnswerBytes: number }

/**
 * How far upstream is read ahead of what is judged: to stop and go on at every read of the socket would
 * cost more than to hold a few of them.
 */
const AHEAD_BYTES = 262_144

/** Collects a small body into one Buffer; hands a larger one over as a stream with back-pressure. */
class Collector implements Dispatcher.DispatchHandler {
  readonly #bounds: Bounds
  readonly #signal: Departure
  readonly #resolve: (answer: UpstreamAnswer) => void
  readonly #reject: (error: unknown) => void
  #status = 0
  #headers: UpstreamAnswer['headers'] = {}
  #chunks: Buffer[] = []
  #length = 0
  #stream: ReadAhead | undefined
  #controller: Dispatcher.DispatchController | undefined

  constructor(
    bounds: Bounds,
    signal: Departure,
    resolve: (answer: UpstreamAnswer) => void,
    reject: (error: unknown) => void,
  ) {
    this.#bounds = bounds
    this.#signal = signal
    this.#resolve = resolve
    this.#reject = reject
    // From now on: it may wait long for a connection, and then its client shall not.
    signal.addEventListener('abort', this.#onAbort)
  }

  readonly #onAbort = (): void => {
    const gone = new Error('the client has gone')
    this.#controller?.abort(gone)
    this.#reject(gone)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#signal.aborted) this.#onAbort()
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
      this.#stream.push(chunk)
      return
    }
    this.#chunks.push(chunk)
    if (this.#length > this.#bounds.bufferBytes) this.#openStream(controller)
  }

  onResponseEnd(): void {
    this.#signal.removeEventListener('abort', this.#onAbort)
    if (this.#stream !== undefined) {
      this.#stream.end()
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
    if (this.#stream !== undefined) this.#stream.fail(refusal)
    else this.#reject(refusal)
  }

  #openStream(controller: Dispatcher.DispatchController): void {
    const stream = new ReadAhead(controller, AHEAD_BYTES)
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

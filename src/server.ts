import { createServer, STATUS_CODES } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer as createTlsServer, Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import Fastify from 'fastify'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createCertificateReader } from './adapters/client-certificate.ts'
import { boundConnections, boundRests, roomForConnections } from './adapters/connections.ts'
import { createDelivery } from './adapters/delivery.ts'
import { ClientDeparture } from './adapters/departure.ts'
import type { ListenerCertificate } from './adapters/listener-certificate.ts'
import { FHIR_ROUTE, registerTransport } from './adapters/transport.ts'
import { createTurnEnd } from './adapters/turn.ts'
import type { UpstreamPool } from './adapters/upstream-pool.ts'
import type { Config } from './config/schema.ts'
import type { Answer, Arrival } from './exchange.ts'
import type { Gateway } from './gateway.ts'
import { answerPreflight, isPreflight } from './http/cors.ts'
import { createWayReader } from './http/forwarded.ts'
import type { IssuerKeys, Log } from './ports.ts'
import { Refusal } from './refusal.ts'
import { registerBackchannelLogout } from './routes/backchannel-logout.ts'
import { registerHealth } from './routes/health.ts'
import { registerMetrics } from './routes/metrics.ts'
import { requestIdOf, safeHeaders } from './http/headers.ts'
import { registerWellKnown } from './routes/well-known.ts'
import { addressKey } from './stages/limit/limit.ts'

/** What the FHIR listener is built from; the gateway is made once Fastify can limit. */
export type ServerParts = {
  readonly config: Config
  readonly pool: UpstreamPool
  readonly keys: IssuerKeys
  /** Makes the listener an HTTPS one. */
  readonly certificate?: ListenerCertificate | undefined
  readonly logOut: (token: string) => Promise<{ issuer: string }>
  readonly log: Log
  readonly connectionClosed: (reason: 'all' | 'address') => void
  /** `undelivered`: bytes that were answered and not taken yet, of one holder or of all. */
  readonly createGateway: (
    fastify: FastifyInstance,
    undelivered: (holder?: string) => number,
  ) => Promise<Gateway>
}

const TARGET = Symbol('request target as received')
/** Ends the body for whoever reads it, now or later, and leaves the connection to the answer. */
const BREAK = Symbol('what to do when the body breaks off')
type Received = IncomingMessage & { [TARGET]?: string; [BREAK]?: (refusal: Refusal) => void }

/** Builds the FHIR listener; it does not listen yet. */
export async function createServerFor(
  parts: ServerParts,
): Promise<{ fastify: FastifyInstance; gateway: Gateway }> {
  const { config, log } = parts
  const basePath = new URL(config.public.url).pathname.replace(/\/$/, '')
  /** Paths with a route of their own, each for one method. */
  const exact = new Map<string, string>()
  /** The answer to the last request of each connection. */
  const last = new WeakMap<Socket, ServerResponse>()
  const state: { gateway?: Gateway } = {}
  const readWay = createWayReader(config.trustedProxies)
  const spine = (): Gateway => {
    if (state.gateway === undefined) throw new Error('the gateway is not assembled yet')
    return state.gateway
  }

  const fastify = Fastify({
    logger: false,
    exposeHeadRoutes: false,
    bodyLimit: config.limits.bodyBytes,
    serverFactory: (handler) => {
      const options = {
        maxHeaderSize: config.limits.headerBytes,
        requestTimeout: config.limits.requestTimeoutSeconds * 1000,
        headersTimeout: Math.min(config.limits.requestTimeoutSeconds, 15) * 1000,
        keepAliveTimeout: 10_000,
        connectionsCheckingInterval: 1_000,
        requireHostHeader: false,
      }
      const server = listen(options, handler, parts.certificate)
      server.on('request', (request, response) => {
        last.set(request.socket, response)
      })
      spareAnswersOnTheirWay(server)
      boundRests(server)
      const { connections, share } = config.limits
      const most = Math.min(connections, roomForConnections(config.upstream.connections))
      if (most < connections) {
        log.warn(
          { count: most },
          'so many connections at most: this process may not open more files',
        )
      }
      const bounds = {
        most,
        ofOne: Math.max(8, Math.floor(most * share)),
        holderOf(address: string) {
          const way = readWay(address, {})
          return way.isTrusted ? undefined : addressKey(way.address)
        },
      }
      boundConnections(server, bounds, parts.connectionClosed)
      // RFC 9110 §10.1.1 lets an unknown expectation be ignored. Node's own 417 would be no refusal of
      // the table, and in no record.
      server.on('checkExpectation', (request, response) => {
        server.emit('request', request, response)
      })
      server.on('connect', (request: IncomingMessage, socket: Socket) => {
        // node has let go of it: an error nobody hears would end the process, and neither its own
        // limits nor a stop reach it any more.
        socket.on('error', () => undefined).resume()
        const tunnel = { ...bareArrival(socket), method: request.method ?? '' }
        const refusal = new Refusal('method-not-allowed', {
          headers: { allow: 'GET, HEAD, POST, PUT, DELETE' },
        })
        void spine()
          .refuse(tunnel, refusal)
          .then((answer) => {
            endAfter(last.get(socket), socket, answer)
          })
      })
      return server
    },
    clientErrorHandler: (error, socket) => {
      void answerBrokenHttp(spine(), error, socket, last.get(socket))
    },
    // The router decodes for routing while req.url stays encoded (CVE-2026-16117). It never sees a
    // FHIR target: every one goes to a single route, and our own parser is the only authority.
    rewriteUrl: (request: Received) => {
      const target = request.url ?? ''
      request[TARGET] = target
      return exact.get(target) === request.method ? target : FHIR_ROUTE
    },
  })

  // The defaults read and parse up to `bodyBytes`, whoever sends them.
  fastify.removeAllContentTypeParsers()
  const safe = safeHeaders(config)
  await fastify.register((scope, _options, done) => {
    scope.addHook('onRequest', (request, reply, next) => {
      void reply.headers({ ...safe, 'x-request-id': requestIdOf(request.headers) })
      next()
    })
    for (const path of registerWellKnown(scope, config, parts.keys)) exact.set(path, 'GET')
    for (const path of registerBackchannelLogout(scope, config, parts)) exact.set(path, 'POST')
    done()
  })
  const delivery = createDelivery(config.limits.stalledSeconds * 1000)
  const send = (reply: FastifyReply, answer: Answer): void => {
    delivery.send(reply.hijack().raw, answer)
  }
  state.gateway = await parts.createGateway(fastify, delivery.undelivered)

  const readCertificate = createCertificateReader(config.clientCertificates.header)
  const { terminatedBy } = config.tls
  const origins = new Set(config.cors.origins)
  const turnEnd = createTurnEnd()
  const answer = async (
    request: FastifyRequest,
    reply: FastifyReply,
    upstream: Parameters<Gateway['answer']>[1],
  ): Promise<void> => {
    if (isPreflight(request.method, request.headers)) {
      // No credentials and no data: nothing to decide, and nothing that an audit could tell.
      const target = (request.raw as Received)[TARGET] ?? ''
      const isPublic = exact.get(target) === 'GET' || target === `${basePath}/metadata`
      const headers = {
        ...answerPreflight(request.headers, origins, isPublic),
        'x-request-id': requestIdOf(request.headers),
      }
      send(reply, { status: 204, headers, body: undefined })
      return
    }
    const way = readWay(request.raw.socket.remoteAddress, request.headers)
    const isEncrypted = parts.certificate !== undefined || terminatedBy !== undefined
    const isExposed = way.cameInPlain || !(isEncrypted || way.isTrusted || way.isLocal)
    const client: Client = {
      address: way.address,
      clientCertificate: readCertificate(request.raw, way.isTrusted),
      ...(isExposed ? { isExposed } : {}),
    }
    const arrival = arrivalOf(request.raw, reply.raw, basePath, client)
    if (arrival === undefined) {
      const { address } = way
      const outside = { ...bareArrival(request.raw.socket), method: request.method, address }
      const refused = await spine().refuse(outside, new Refusal('interaction-unknown'))
      send(reply, refused)
      return
    }
    await turnEnd()
    send(reply, await spine().answer(arrival, upstream))
  }
  // What the spine does not catch is a fault of the rim: the text of the error stays here.
  fastify.setErrorHandler(async (error, request, reply) => {
    const refusal = new Refusal('internal', { cause: error })
    send(reply, await spine().refuse(bareArrival(request.raw.socket), refusal))
  })
  await registerTransport(fastify, config, parts.pool, answer)
  return { fastify, gateway: spine() }
}

/** The listener: HTTPS alone when there is a certificate for it. */
function listen(
  options: Parameters<typeof createServer>[0] & object,
  handler: Parameters<typeof createServer>[1],
  certificate: ListenerCertificate | undefined,
): Server {
  if (certificate === undefined) return closingAll(createServer(options, handler))
  const server = createTlsServer({ ...options, ...certificate.options() }, handler)
  certificate.attach(server)
  // A handshake that fails is no request: there is nobody to answer and nothing to record.
  server.removeAllListeners('tlsClientError')
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  return closingAll(server)
}

/** node:http knows a connection only after its handshake, and not beyond CONNECT; a stop must end all. */
function closingAll(server: Server): Server {
  const open = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
  })
  const closeAll = server.closeAllConnections.bind(server)
  server.closeAllConnections = () => {
    closeAll()
    for (const socket of open) socket.destroy()
  }
  return server
}

/**
 * An answer that has ended but is still on its way is not idle: node looks at `finished`, which says that
 * an answer was ended, and not that it was sent. So a stop would cut it.
 */
function spareAnswersOnTheirWay(server: Server): void {
  const open = new Set<Socket>()
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', (socket: Socket) => {
    open.add(socket)
    socket.on('close', () => open.delete(socket))
  })
  const closeIdle = server.closeIdleConnections.bind(server)
  server.closeIdleConnections = () => {
    const spared = [...open].filter((socket) => socket.writableLength > 0)
    for (const socket of spared) socket.destroy = () => socket
    closeIdle()
    // Its own again, that of its class.
    for (const socket of spared) Reflect.deleteProperty(socket, 'destroy')
  }
}

/** Who is at the other end, and by which way it came. */
type Client = Pick<Arrival, 'address' | 'clientCertificate' | 'isExposed'>

/** The request as it came in; undefined when its path is outside the public base. */
function arrivalOf(
  raw: Received,
  response: FastifyReply['raw'],
  basePath: string,
  client: Client,
): Arrival | undefined {
  const url = raw[TARGET] ?? ''
  if (!url.startsWith(basePath)) return undefined
  const target = url.slice(basePath.length)
  if (target !== '' && target[0] !== '/' && target[0] !== '?') return undefined
  const signal = new ClientDeparture()
  response.once('close', () => {
    if (!response.writableFinished) signal.abort()
  })
  // A connection without a peer was reset before anybody looked at it.
  if (client.address === '') signal.abort()
  const hasBody =
    raw.headers['transfer-encoding'] !== undefined ||
    (raw.headers['content-length'] !== undefined && raw.headers['content-length'] !== '0')
  return {
    method: raw.method ?? '',
    target,
    headers: raw.headers,
    rawHeaders: raw.rawHeaders,
    body: hasBody ? bodyOf(raw) : undefined,
    signal,
    ...client,
  }
}

/** To destroy the request, as a stream that fails does, would end the connection before its answer. */
function bodyOf(raw: Received): AsyncIterable<Buffer> {
  let broken: Refusal | undefined
  let fail: ((refusal: Refusal) => void) | undefined
  raw[BREAK] = (refusal) => {
    broken = refusal
    fail?.(refusal)
  }
  return {
    [Symbol.asyncIterator]() {
      const pieces = (raw as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
      return {
        // Not a race with one promise for all of the body: it would keep every piece that has won.
        next: () =>
          new Promise((resolve, reject) => {
            if (broken !== undefined) reject(broken)
            fail = reject
            pieces.next().then(resolve, reject)
          }),
        return: async () => (await pieces.return?.()) ?? { done: true, value: undefined },
      }
    },
  }
}

function bareArrival(socket: Socket): Arrival {
  return {
    method: '',
    target: '',
    headers: {},
    rawHeaders: [],
    address: socket.remoteAddress ?? '',
    body: undefined,
    signal: new ClientDeparture(),
  }
}

/** A request that is not even HTTP: refused from the same table, recorded, connection closed. */
async function answerBrokenHttp(
  gateway: Gateway,
  error: Error & { code?: string },
  socket: Socket,
  last: ServerResponse | undefined,
): Promise<void> {
  if (
    error.code === 'ECONNRESET' ||
    !socket.writable ||
    (last?.headersSent === true && !last.writableFinished)
  ) {
    socket.destroy()
    return
  }
  const reason =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? 'headers-too-large'
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? 'request-timeout'
        : 'header-malformed'
  const refusal = new Refusal(reason, { detail: error.code ?? 'broken HTTP' })
  const broken: Received | undefined = last?.req.complete === false ? last.req : undefined
  if (broken?.[BREAK] !== undefined) {
    // It has a record and an answer of its own, or had them.
    if (last?.headersSent === true) socket.destroy()
    else if (last !== undefined) last.shouldKeepAlive = false
    broken[BREAK](refusal)
    return
  }
  const answer = await gateway.refuse(bareArrival(socket), refusal)
  endAfter(broken === undefined ? last : undefined, socket, answer)
}

/** Not before, nor in the middle of, an answer that is owed to an earlier request. */
function endAfter(last: ServerResponse | undefined, socket: Socket, answer: Answer): void {
  if (last?.writableFinished === false) socket.destroy()
  else endWith(socket, answer)
}

/** Milliseconds in which to read the last words; who keeps its half open is cut off. */
const LINGER_MS = 1_000

/** Writes an answer by hand on a socket that has no response object, and closes it. */
function endWith(socket: Socket, answer: Answer): void {
  if (!socket.writable) {
    socket.destroy()
    return
  }
  setTimeout(() => socket.destroy(), LINGER_MS).unref()
  const body = Buffer.isBuffer(answer.body) ? answer.body : Buffer.alloc(0)
  const headers = { ...answer.headers, connection: 'close', 'content-length': String(body.length) }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const start = `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status] ?? ''}\r\n`
  socket.end(Buffer.concat([Buffer.from(`${start}${lines.join('')}\r\n`), body]))
}

/** What the admin listener shows. */
export type AdminParts = Parameters<typeof registerHealth>[1] & {
  readonly registry: Parameters<typeof registerMetrics>[1]
}

/** Builds the admin listener; it does not listen yet. */
export function createAdminServer({ registry, ...health }: AdminParts): FastifyInstance {
  // Whoever is still asking when the gateway stops would keep it from ending.
  const admin = Fastify({ logger: false, forceCloseConnections: true })
  boundConnections(admin.server, { most: 64, ofOne: 16, holderOf: addressKey })
  registerHealth(admin, health)
  registerMetrics(admin, registry)
  return admin
}

/**
 * Stops taking requests, lets those under way end, and ends for good within the limit
 * (fastify#7044: close() alone may wait for ever on a connection that never goes idle).
 */
export async function drain(fastify: FastifyInstance, milliseconds: number): Promise<void> {
  const server: Server = fastify.server
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      resolve()
    })
  })
  server.closeIdleConnections()
  const idle = setInterval(() => {
    // A keep-alive connection becomes idle only after its answer; sweep until none is left.
    server.closeIdleConnections()
  }, 50)
  const deadline = setTimeout(() => {
    server.closeAllConnections()
  }, milliseconds)
  await closed
  clearInterval(idle)
  clearTimeout(deadline)
  await fastify.close()
}

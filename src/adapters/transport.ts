import httpProxy from '@fastify/http-proxy'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Config } from '../config/schema.ts'
import { discard } from '../http/content.ts'
import type { Upstream, UpstreamAnswer, UpstreamRequest } from '../ports.ts'
import type { UpstreamPool } from './upstream-pool.ts'

/**
 * @fastify/http-proxy as transport, and as nothing else. It and the reply-from under it take URL,
 * query, headers, retries and error texts from the client's raw request; here none of that reaches
 * the wire, because the request that is sent travels whole, under a symbol no client can write, and
 * the pool sends that order alone. test/attacks/transport.test.ts has one case for each known
 * trouble of the two packages.
 */
const ORDER = Symbol('the upstream request as it was permitted')

/** What the pool hands back through reply-from; `destroy` is what it calls when the client has gone. */
type Carried = { readonly answer: UpstreamAnswer; readonly destroy: () => void }

/** A request on its way through reply-from, and who waits for it. */
type Order = { readonly request: UpstreamRequest; readonly reject: (error: unknown) => void }

type PoolRequest = { readonly headers: { readonly [ORDER]?: Order } }
type PoolResult = {
  readonly statusCode: number
  readonly headers: Record<string, string>
  readonly body: Carried
}

/** Answers one FHIR request; `upstream` works for this request only. */
export type FhirHandler = (
  request: FastifyRequest,
  reply: FastifyReply,
  upstream: Upstream,
) => Promise<void>

/** Registers the FHIR route at `/`: the server rewrites every FHIR target to it, unread. */
export async function registerTransport(
  fastify: FastifyInstance,
  config: Config,
  pool: UpstreamPool,
  handle: FhirHandler,
): Promise<void> {
  const dispatcher = {
    request(request: PoolRequest, done: (error: unknown, result?: PoolResult) => void): void {
      const order = request.headers[ORDER]
      if (order === undefined) {
        done(new Error('no permitted request to send'))
        return
      }
      const { request: asked, reject } = order
      pool.request(asked).then(
        (answer) => {
          done(null, { statusCode: 200, headers: {}, body: carry(answer) })
          // reply-from calls nobody back once the client has gone.
          if (asked.signal.aborted) reject(new Error('the client has gone'))
        },
        (error: unknown) => {
          done(error)
          if (asked.signal.aborted) reject(error)
        },
      )
    },
  }
  await fastify.register(async (scope) => {
    // Before Fastify looks at the content type, or reads a body: whatever is wrong with a request, the
    // spine says so, within its limits and with a record.
    scope.addHook('onRequest', (request, reply, done) => {
      handle(request, reply, upstreamOf(reply)).catch(done)
    })
    // Methods that the route does not take go the same way.
    scope.setNotFoundHandler(() => undefined)
    await scope.register(httpProxy, {
      upstream: new URL(config.upstream.url).origin,
      prefix: FHIR_ROUTE,
      httpMethods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
      websocket: false,
      // Any object with request() is taken as dispatcher; the type knows only undici's own.
      undici: dispatcher as never,
      disableRequestLogging: true,
    })
  })
}

/** Where the server rewrites every FHIR target to. */
export const FHIR_ROUTE = '/fhir-exchange'

function carry(answer: UpstreamAnswer): Carried {
  return {
    answer,
    destroy() {
      discard(answer.body)
    },
  }
}

function upstreamOf(reply: FastifyReply): Upstream {
  return (request) =>
    new Promise((resolve, reject) => {
      const order: Order = { request, reject }
      const options = {
        // A body of the client's is never read here; the order has the one that was judged.
        body: null,
        method: 'GET',
        retryDelay: () => null,
        // Without this, reply-from appends the client's raw query to a target that has none.
        queryString: () => '',
        rewriteRequestHeaders: () => ({ [ORDER]: order }),
        rewriteHeaders: () => ({}),
        onResponse: (_request: unknown, _reply: unknown, result: unknown) => {
          resolve((result as { stream: Carried }).stream.answer)
        },
        onError: (_reply: unknown, { error }: { error: Error }) => {
          reject(error.cause instanceof Error ? error.cause : error)
        },
      }
      reply.from('/', options)
    })
}

/**
 * What one writes first: the same packages, used as their documentation shows. Verifies every token,
 * parses, walks, masks and stringifies every body, hashes and writes one audit record per request.
 * Measured side by side by `bench/pipeline.ts`; for measuring only.
 */
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import httpProxy from '@fastify/http-proxy'
import rateLimit from '@fastify/rate-limit'
import Fastify from 'fastify'
import { createRemoteJWKSet, jwtVerify } from 'jose'

const [, , port = '0', upstream = '', issuer = '', audience = '', auditFile = '/dev/null'] =
  process.argv
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`))
const audit = createWriteStream(auditFile)
let previous = ''

const SSN = /\b\d{3}-\d{2}-\d{4}\b/g
const CARD = /\b(?:\d[ -]?){12,18}\d\b/g

function mask(value: unknown): unknown {
  if (typeof value === 'string') return value.replace(SSN, '***-**-****').replace(CARD, '****')
  if (Array.isArray(value)) return value.map(mask)
  if (value === null || typeof value !== 'object') return value
  const out: Record<string, unknown> = {}
  for (const [key, inner] of Object.entries(value)) out[key] = mask(inner)
  return out
}

const app = Fastify()
await app.register(rateLimit, { max: 1e9, timeWindow: 60_000 })
await app.register(httpProxy, {
  upstream: new URL(upstream).origin,
  prefix: '/fhir',
  rewritePrefix: new URL(upstream).pathname,
  preHandler: async (request, reply) => {
    const token = request.headers.authorization?.slice(7)
    if (token === undefined) return reply.code(401).send({})
    const { payload } = await jwtVerify(token, keys, { issuer, audience })
    if (!String(payload['scope']).includes('user/')) return reply.code(403).send({})
  },
  replyOptions: {
    rewriteRequestHeaders: (_request, headers) => ({ ...headers, 'accept-encoding': 'identity' }),
    onResponse: (request, reply, result) => {
      const { stream } = result as unknown as { stream: NodeJS.ReadableStream }
      void buffer(stream).then((bytes) => {
        const masked = JSON.stringify(mask(JSON.parse(bytes.toString())))
        const record = JSON.stringify({
          resourceType: 'AuditEvent',
          recorded: new Date().toISOString(),
          outcome: '0',
          action: 'R',
          agent: [{ requestor: true, network: { address: request.ip } }],
          entity: [{ what: { reference: request.url } }],
          previous,
        })
        previous = createHash('sha256').update(record).digest('hex')
        audit.write(`${record}\n`)
        reply.removeHeader('content-length').send(masked)
      })
    },
  },
})
await app.listen({ port: Number(port), host: '127.0.0.1' })

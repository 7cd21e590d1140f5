import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/schema.ts'
import { buildProtectedResource, protectedResourceUrl } from '../oauth/protected-resource.ts'
import { buildSmartConfiguration } from '../oauth/smart-configuration.ts'
import type { IssuerKeys } from '../ports.ts'

/**
 * `[base]/.well-known/smart-configuration` (SMART App Launch 2.2, DISC-1): public, always
 * `application/json`, readable from any origin.
 */
export function registerWellKnown(
  fastify: FastifyInstance,
  config: Config,
  keys: IssuerKeys,
): readonly string[] {
  const path = `${new URL(config.public.url).pathname.replace(/\/$/, '')}/.well-known/smart-configuration`
  fastify.get(path, async (_request, reply) => {
    const issuer = config.issuers[0]
    const metadata = issuer === undefined ? undefined : keys.metadata(issuer.url)
    reply.header('content-type', 'application/json').header('access-control-allow-origin', '*')
    if (metadata === undefined) {
      return reply
        .code(503)
        .header('retry-after', '5')
        .send('{"error":"The authorization server is not known yet. Try again shortly."}')
    }
    return reply.send(buildSmartConfiguration({ metadata, takesV1: config.access.smartV1 }))
  })
  // RFC 9728: beside the host for whoever knows the standard, below the base for whoever looks there.
  const text = buildProtectedResource({
    resource: config.public.url,
    issuers: config.issuers.map(({ url }) => url),
    proofAlgorithms: config.dpop.algorithms,
    requiresProof: config.issuers.every(({ requireBound }) => requireBound === 'dpop'),
    takesCertificates:
      config.clientCertificates.header !== 'none' || config.tls.clientCertificates !== 'none',
  })
  const base = new URL(config.public.url).pathname.replace(/\/$/, '')
  const places = [
    new URL(protectedResourceUrl(config.public.url)).pathname,
    `${base}/.well-known/oauth-protected-resource`,
  ]
  for (const place of new Set(places)) {
    fastify.get(place, async (_request, reply) =>
      reply
        .header('content-type', 'application/json')
        .header('access-control-allow-origin', '*')
        .send(text),
    )
  }
  return [path, ...new Set(places)]
}

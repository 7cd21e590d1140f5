import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/schema.ts'
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
    reply
      .header('content-type', 'application/json')
      .header('access-control-allow-origin', '*')
      .header('x-content-type-options', 'nosniff')
    if (metadata === undefined) {
      return reply
        .code(503)
        .header('retry-after', '5')
        .send('{"error":"The authorization server is not known yet. Try again shortly."}')
    }
    return reply.send(buildSmartConfiguration({ metadata }))
  })
  return [path]
}

import type { FastifyInstance } from 'fastify'

/** What readiness is made of, by name; each answers at once and never throws. */
export type HealthOptions = {
  readonly checks: Readonly<Record<string, () => boolean>>
  /** What is missed but not needed to serve; it is told and decides nothing. */
  readonly watched?: Readonly<Record<string, () => boolean>>
}

/**
 * For the admin listener: `/livez` (the event loop turns) and `/readyz` (every check holds, else
 * 503), as JSON with the result of each check.
 */
export function registerHealth(fastify: FastifyInstance, options: HealthOptions): void {
  fastify.get('/livez', async (_request, reply) => {
    void reply.header('cache-control', 'no-store')
    return { status: 'live' }
  })
  fastify.get('/readyz', async (_request, reply) => {
    const checks = Object.fromEntries(
      Object.entries(options.checks).map(([name, check]) => [name, check()]),
    )
    const isReady = Object.values(checks).every(Boolean)
    const degraded = Object.entries(options.watched ?? {}).flatMap(([name, check]) =>
      check() ? [] : [name],
    )
    void reply.code(isReady ? 200 : 503).header('cache-control', 'no-store')
    const status = isReady ? 'ready' : 'not ready'
    return { status, checks, ...(degraded.length === 0 ? {} : { degraded }) }
  })
}

import type { FastifyInstance } from 'fastify'

/** What formats the metrics: a prom-client registry. */
export type MetricsSource = {
  readonly contentType: string
  readonly metrics: () => Promise<string>
}

/** For the admin listener: `/metrics` in the Prometheus text format. */
export function registerMetrics(fastify: FastifyInstance, source: MetricsSource): void {
  fastify.get('/metrics', async (_request, reply) => {
    void reply.header('content-type', source.contentType).header('cache-control', 'no-store')
    return source.metrics()
  })
}

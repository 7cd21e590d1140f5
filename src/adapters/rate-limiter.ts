import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { CounterStore, Rate, Take, Taken } from '../ports.ts'

/** What our store is told beyond the plugin's own words: a counter is asked for `cost` cells. */
type Asked = { readonly routeOptions: object; readonly key: string }
type Limiter = (asked: Asked) => Promise<Taken>

/**
 * Registers @fastify/rate-limit over our own counters and hands back the one call the spine makes.
 * The plugin hooks no route (`global: false`), so that limits stand in the spine, where they can be
 * read; a store that fails is an error, never an open door (`skipOnError: false`).
 *
 * @returns takes cells from the counter of a key; rejects with what the store rejects with
 */
export async function registerRateLimiter(
  fastify: FastifyInstance,
  store: CounterStore,
): Promise<Take> {
  await fastify.register(rateLimit, {
    global: false,
    skipOnError: false,
    store: storeClass(store),
  })
  const limiters = new WeakMap<Rate, Limiter>()

  return (bucket, key, rate, cost) => {
    let limiter = limiters.get(rate)
    if (limiter === undefined) {
      limiter = createLimiter(fastify, rate)
      limiters.set(rate, limiter)
    }
    // The plugin hands its store a key and nothing else: the cost travels in front of it.
    return limiter({ routeOptions: {}, key: `${cost} ${bucket} ${key}` })
  }
}

function createLimiter(fastify: FastifyInstance, rate: Rate): Limiter {
  const options = {
    max: rate.burst,
    timeWindow: Math.ceil((rate.burst / rate.perSecond) * 1000),
    keyGenerator: (request: FastifyRequest) => (request as unknown as Asked).key,
    rate,
  }
  const limit = fastify.createRateLimit(options)
  return async (asked) => {
    const result = await limit(asked as unknown as FastifyRequest)
    if (result.isAllowed || !result.isExceeded) return { allowed: true, retryAfter: 0 }
    return { allowed: false, retryAfter: result.ttlInSeconds }
  }
}

type Incremented = (error: Error | null, result?: { current: number; ttl: number }) => void

/** The plugin's store interface (README, "Custom Store Example Usage") over one CounterStore. */
function storeClass(store: CounterStore) {
  return class GenericCellRateStore {
    readonly #rate: Rate | undefined

    constructor(options: object) {
      this.#rate = 'rate' in options ? (options.rate as Rate) : undefined
    }

    incr(asked: string, done: Incremented, _timeWindow: number, max: number): void {
      const space = asked.indexOf(' ')
      const cost = Number(asked.slice(0, space))
      const answer = (taken: Taken): void => {
        // The plugin refuses when `current` is above `max`.
        done(null, { current: taken.allowed ? 0 : max + 1, ttl: taken.retryAfter * 1000 })
      }
      const fail = (error: unknown): void => {
        done(error instanceof Error ? error : new Error('counter store failed', { cause: error }))
      }
      try {
        if (this.#rate === undefined) throw new Error('limiter without a rate')
        const taken = store.take(asked.slice(space + 1), this.#rate, cost)
        if (taken instanceof Promise) taken.then(answer, fail)
        else answer(taken)
      } catch (error) {
        fail(error)
      }
    }

    child(options: object): GenericCellRateStore {
      return new GenericCellRateStore(options)
    }
  }
}

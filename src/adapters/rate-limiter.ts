import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Asked, CounterStore, Shortage, Take } from '../ports.ts'
import { recall } from '../recall.ts'

/** What goes through the plugin in the place of a request and of its key. */
type Question = {
  readonly routeOptions: object
  readonly counters: readonly Asked[]
  shortage?: Shortage
}

/**
 * Registers @fastify/rate-limit over our own counters and hands back the one call the spine makes.
 * The plugin hooks no route (`global: false`), so that limits stand in the spine, where they can be
 * read; a store that fails is an error, never an open door (`skipOnError: false`).
 *
 * @returns takes cells from counters; rejects with what the store rejects with
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
  const limit = fastify.createRateLimit({
    // Our store says 1 when a counter had too few, and 0 when none had.
    max: 0,
    keyGenerator: (question) => question as unknown as string,
  })
  return async (...counters) => {
    const question: Question = { routeOptions: {}, counters }
    const result = await limit(question as unknown as FastifyRequest)
    if (result.isAllowed || !result.isExceeded) return undefined
    if (question.shortage === undefined) throw new Error('a limit is exceeded, and no counter is')
    return question.shortage
  }
}

type Incremented = (error: Error | null, result?: { current: number; ttl: number }) => void

/** The plugin's store interface (README, "Custom Store Example Usage") over one CounterStore. */
function storeClass(store: CounterStore) {
  return class GenericCellRateStore {
    incr(asked: string, done: Incremented): void {
      const question = asked as unknown as Question
      const answer = (shortage: Shortage | undefined): void => {
        if (shortage === undefined) {
          done(null, { current: 0, ttl: 0 })
          return
        }
        question.shortage = shortage
        done(null, { current: 1, ttl: shortage.retryAfter * 1000 })
      }
      const fail = (error: unknown): void => {
        done(error instanceof Error ? error : new Error('counter store failed', { cause: error }))
      }
      try {
        const found = takeEach(store, question.counters, 0)
        if (found instanceof Promise) found.then(answer, fail)
        else answer(found)
      } catch (error) {
        fail(error)
      }
    }

    child(): this {
      return this
    }
  }
}

/** From the counter at `from` on; a store in memory answers at once. */
function takeEach(
  store: CounterStore,
  counters: readonly Asked[],
  from: number,
): Shortage | undefined | Promise<Shortage | undefined> {
  for (let at = from; at < counters.length; at++) {
    const { bucket, key, rate, cost } = counters[at] as Asked
    const taken = store.take(nameOf(bucket)(key), rate, cost)
    if (taken instanceof Promise) {
      return taken.then(({ allowed, retryAfter }) =>
        allowed ? takeEach(store, counters, at + 1) : { bucket, retryAfter },
      )
    }
    if (!taken.allowed) return { bucket, retryAfter: taken.retryAfter }
  }
  return undefined
}

/** The name of a counter: a text that is new each time would be hashed each time. */
const nameOf = recall(
  (bucket: Asked['bucket']) =>
    recall((key: string) => `${bucket} ${key}`, { most: 1024, longest: 256 }),
  { most: 16 },
)

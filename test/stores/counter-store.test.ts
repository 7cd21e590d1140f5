import Fastify from 'fastify'
import fc from 'fast-check'
import t from 'tap'
import { createMemoryStore } from '../../src/adapters/memory-store.ts'
import { connectRedis } from '../../src/adapters/redis-connection.ts'
import { createRedisStore } from '../../src/adapters/redis-store.ts'
import { registerRateLimiter } from '../../src/adapters/rate-limiter.ts'
import type { Asked, CounterStore, Rate } from '../../src/ports.ts'
import { redisSettings, startRedis, until, withoutRedis } from '../support/redis.ts'

/** A clock that tests move. */
function createHeldClock() {
  let at = 1000
  return { now: () => at, monotonic: () => at, advance: (ms: number) => (at += ms) }
}
type HeldClock = ReturnType<typeof createHeldClock>

/** What every counter store must hold, memory or shared. */
function contract(name: string, create: (clock: HeldClock) => CounterStore) {
  t.test(`${name}: burst at once, then the rate (RATE-1)`, async (t) => {
    const clock = createHeldClock()
    const store = create(clock)
    const rate: Rate = { burst: 3, perSecond: 2 }
    for (let n = 0; n < 3; n++) t.ok((await store.take('k', rate, 1)).allowed)
    t.strictSame(await store.take('k', rate, 1), { allowed: false, retryAfter: 1 })
    t.ok((await store.take('other', rate, 1)).allowed, 'keys do not touch each other')
    clock.advance(500)
    t.ok((await store.take('k', rate, 1)).allowed)
    t.notOk((await store.take('k', rate, 1)).allowed)
    await store.close()
  })

  t.test(`${name}: cost, looking, and costs over the burst`, async (t) => {
    const clock = createHeldClock()
    const store = create(clock)
    const rate: Rate = { burst: 4, perSecond: 0.5 }
    t.ok((await store.take('k', rate, 3)).allowed)
    t.strictSame(await store.take('k', rate, 3), { allowed: false, retryAfter: 4 })
    t.ok((await store.take('k', rate, 0)).allowed)
    t.ok((await store.take('k', rate, 0)).allowed, 'looking takes nothing')
    t.ok((await store.take('k', rate, 1)).allowed, 'a refusal took nothing')
    t.strictSame(await store.take('k', rate, 0), { allowed: false, retryAfter: 2 })
    t.ok((await store.take('big', rate, 99)).allowed, 'counts as the burst')
    t.notOk((await store.take('big', rate, 1)).allowed)
    await store.close()
  })

  t.test(`${name}: a clock set back, or a limit raised, locks nobody out`, async (t) => {
    const clock = createHeldClock()
    const store = create(clock)
    const [low, high]: Rate[] = [
      { burst: 2, perSecond: 0.001 },
      { burst: 2, perSecond: 1 },
    ]
    for (let n = 0; n < 2; n++) t.ok((await store.take('k', low!, 1)).allowed)
    t.strictSame(
      await store.take('k', high!, 1),
      { allowed: false, retryAfter: 1 },
      'nor is it full',
    )
    for (let n = 0; n < 2; n++) t.ok((await store.take('l', high!, 1)).allowed)
    clock.advance(-500)
    t.strictSame(await store.take('l', high!, 1), { allowed: false, retryAfter: 1 })
    clock.advance(2000)
    t.ok((await store.take('l', high!, 1)).allowed)
    await store.close()
  })

  t.test(`${name}: never more than burst + rate·t, and waiting as told suffices`, async () => {
    const step = fc.record({ wait: fc.nat(3000), cost: fc.integer({ min: 1, max: 5 }) })
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: 1, max: 400 }).map((n) => n / 10),
        fc.array(step, { maxLength: 60 }),
        async (burst, perSecond, steps) => {
          const clock = createHeldClock()
          const store = create(clock)
          const rate = { burst, perSecond }
          const took: { at: number; cost: number }[] = []
          for (const { wait, cost } of steps) {
            clock.advance(wait)
            const taken = await store.take('k', rate, cost)
            if (taken.allowed) took.push({ at: clock.now(), cost: Math.min(cost, burst) })
            else {
              clock.advance(taken.retryAfter * 1000)
              const again = await store.take('k', rate, cost)
              if (!again.allowed) return false
              took.push({ at: clock.now(), cost: Math.min(cost, burst) })
            }
          }
          // Over every window that begins with a take.
          return took.every(({ at }, from) => {
            let sum = 0
            return took.slice(from).every((each) => {
              sum += each.cost
              return sum <= burst + (perSecond * (each.at - at)) / 1000 + 0.01
            })
          })
        },
      ),
      { numRuns: 200 },
    )
  })
}

contract('memory', (clock) => createMemoryStore({ trackedKeys: 100, clock }))

/** The same over a real Redis. */
async function redisContract(): Promise<void> {
  const redis = await startRedis()
  const quiet = { debug() {}, info() {}, warn() {}, error() {} }
  // However busy the machine is: a timeout here would not be about counting.
  const settings = redisSettings({ url: redis.url, timeoutSeconds: 5 })
  const connection = connectRedis(settings, { log: quiet })
  await until(connection.isReady)
  let stores = 0
  contract('redis', (clock) => {
    const prefix = `${++stores} `
    const local = {
      take: () => Promise.reject(new Error('Redis was not asked')),
      close: async () => {},
    }
    const keyOf = (kind: string, text: string) => connection.keyOf(kind, prefix + text)
    const own = { ...connection, keyOf }
    return createRedisStore({ connection: own, local, localShare: 1, now: clock.now })
  })
  t.teardown(async () => {
    await connection.close()
    await redis.close()
  })
}

if (withoutRedis === undefined) await redisContract()
else t.pass('redis', { skip: withoutRedis })

t.test('memory: spraying keys resets no limited counter, and is bounded (RATE-1)', async (t) => {
  const clock = createHeldClock()
  const store = createMemoryStore({ trackedKeys: 50, clock })
  const rate: Rate = { burst: 5, perSecond: 0.01 }
  for (let n = 0; n < 5; n++) await store.take('attacker', rate, 1)
  t.notOk((await store.take('attacker', rate, 1)).allowed)
  let allowed = 0
  for (let n = 0; n < 5000; n++) {
    if ((await store.take(`spray ${n}`, rate, 1)).allowed) allowed++
  }
  t.equal(allowed, 49 + 5, '49 counters of their own, then 5 from the one they share')
  t.notOk((await store.take('attacker', rate, 1)).allowed, 'still limited')
  clock.advance(600_000)
  t.ok((await store.take('newcomer', rate, 1)).allowed, 'full counters make room')
  for (let n = 0; n < 4; n++) t.ok((await store.take('newcomer', rate, 1)).allowed)
})

t.test('@fastify/rate-limit over our counters: cost, buckets, failure (RATE-5)', async (t) => {
  const fastify = Fastify()
  const clock = createHeldClock()
  const take = await registerRateLimiter(fastify, createMemoryStore({ trackedKeys: 100, clock }))
  const rate: Rate = { burst: 4, perSecond: 0.5 }
  const ask = (bucket: Asked['bucket'], cost: number): Asked => ({
    ...{ bucket, rate, cost },
    key: 'a b|c',
  })
  t.equal(await take(ask('address', 3)), undefined)
  t.strictSame(await take(ask('address', 3)), { bucket: 'address', retryAfter: 4 })
  t.equal(await take(ask('address', 0)), undefined)
  t.equal(await take(ask('principal', 3)), undefined, 'buckets are apart')
  t.equal(await take(ask('address', 1)), undefined)
  t.match(await take(ask('address', 0)), { bucket: 'address' })
  const several = [ask('principal', 1), ask('address', 1), ask('failures', 4)]
  t.match(await take(...several), { bucket: 'address' }, 'the first with too few is told')
  t.match(await take(ask('principal', 1)), { bucket: 'principal' }, 'what was before it is taken')
  t.equal(await take(ask('failures', 4)), undefined, 'what comes after it is not')
  await fastify.close()

  const later = Fastify()
  const slow = createMemoryStore({ trackedKeys: 100, clock })
  const takeLater = await registerRateLimiter(later, {
    take: async (...asked) => slow.take(...asked),
    close: () => slow.close(),
  })
  t.equal(await takeLater(ask('address', 4), ask('failures', 1)), undefined)
  t.match(await takeLater(ask('failures', 1), ask('address', 1), ask('failures', 2)), {
    bucket: 'address',
  })
  t.equal(await takeLater(ask('failures', 2)), undefined)
  t.match(await takeLater(ask('failures', 1)), { bucket: 'failures' })
  await later.close()

  for (const broken of [
    () => Promise.reject(new Error('store down')),
    () => {
      throw new Error('store down')
    },
  ]) {
    const other = Fastify()
    const failing = await registerRateLimiter(other, { take: broken, close: async () => undefined })
    await t.rejects(failing(ask('address', 1)), /store down/, 'never an open door')
    await other.close()
  }
})

import type { CounterStore, Rate, Taken } from '../ports.ts'
import { runScript } from './redis-connection.ts'
import type { RedisConnection, RedisScript } from './redis-connection.ts'

/**
 * The generic cell rate algorithm of memory-store.ts in one step that no other gateway can come
 * between: the key holds the time at which its counter is full again, in milliseconds of Redis' own
 * clock, and is gone by then. That is never further away than the burst takes: what says so is of a
 * clock that was set back, or of a lower limit. Answers the seconds to wait, 0 when the cells were taken.
 */
const TAKE_CELLS: RedisScript = {
  name: 'takeCells',
  numberOfKeys: 1,
  lua: `
local interval, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now, kept = tonumber(ARGV[4]), tonumber(ARGV[5])
if now == nil then
  local time = redis.call('TIME')
  now = time[1] * 1000 + time[2] / 1000
end
local cells = math.min(cost == 0 and 1 or cost, burst)
local was = tonumber(redis.call('GET', KEYS[1])) or now
local full = math.min(math.max(was, now), now + burst * interval) + cells * interval
local wait = full - burst * interval - now
if wait > 0.001 then return math.ceil(wait / 1000) end
if cost > 0 then
  redis.call('SET', KEYS[1], string.format('%.4f', full), 'PX', math.ceil(full - now) + kept)
end
return 0`,
}

/** What {@link createRedisStore} is made of. */
export type RedisStoreOptions = {
  readonly connection: RedisConnection
  /** Counts while Redis cannot be asked. */
  readonly local: CounterStore
  /** The part of each rate that this gateway allows alone meanwhile, above 0, at most 1. */
  readonly localShare: number
  /** Milliseconds, instead of Redis' own clock: for tests that hold time still. */
  readonly now?: () => number
}

/**
 * Counters that all gateways share (RATE-5). While Redis is away or too slow each gateway goes on
 * alone, with its share of every rate: never an open door, and no closed one either.
 */
export function createRedisStore(options: RedisStoreOptions): CounterStore {
  const { connection, local, localShare, now } = options
  // With time held still, keys must not go by the real one.
  const kept = now === undefined ? 0 : 3_600_000

  return {
    async take(key, rate, cost): Promise<Taken> {
      const interval = 1000 / rate.perSecond
      try {
        const name = connection.keyOf('counter', key)
        const at = now?.() ?? ''
        const cells = [interval, rate.burst, cost] as const
        const retryAfter = await runScript(connection, TAKE_CELLS, name, ...cells, at, kept)
        return { allowed: retryAfter === 0, retryAfter }
      } catch {
        return local.take(key, shareOf(rate, localShare), cost)
      }
    },
    close: () => local.close(),
  }
}

function shareOf({ burst, perSecond }: Rate, share: number): Rate {
  return { burst: Math.max(1, Math.floor(burst * share)), perSecond: perSecond * share }
}

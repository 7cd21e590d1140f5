import type { Log } from '../ports.ts'
import type { NamedLogout } from './denylist.ts'
import { runScript } from './redis-connection.ts'
import type { RedisConnection, RedisScript } from './redis-connection.ts'

/**
 * Adds one logout at the time of Redis, in milliseconds, so that clocks that differ leave none out;
 * forgets those that no living token can be older than.
 */
const PUBLISH: RedisScript = {
  name: 'publishLogout',
  numberOfKeys: 1,
  lua: `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2] * 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return now`,
}

/** Twice this is below the second within which a logout must hold everywhere (AUTHN-18). */
const LOOK_EVERY_MS = 400
/** What is read again each time: a logout may have been written a moment after a later one. */
const OVERLAP_MS = 5_000

/**
 * Logouts that all gateways share: each tells the others, and asks what they were told. While Redis
 * is away a logout holds where it was told, and its sender hears that it failed, to try again.
 */
export function shareLogouts(
  connection: RedisConnection,
  options: {
    readonly rememberSeconds: number
    /** Takes over a logout that another gateway was told; `ago` in seconds. */
    readonly learn: (logout: NamedLogout, ago: number) => void
    readonly log: Log
  },
): { readonly publish: (logout: NamedLogout) => Promise<void>; readonly close: () => void } {
  const { rememberSeconds, learn, log } = options
  const key = connection.keyOf('logouts', '')
  let seen = 0
  let isAsking = false
  let told = ''

  function tell(problem: string): void {
    if (problem !== told && problem !== '') {
      log.warn(
        { setting: 'denylist', problem },
        'logouts that other gateways were told do not hold here',
      )
    }
    told = problem
  }

  /** Why a logout was not taken over; '' when it was. */
  function take(text: string, ago: number): 'unreadable' | 'no room' | '' {
    let logout: NamedLogout
    try {
      logout = JSON.parse(text) as NamedLogout
    } catch {
      return 'unreadable'
    }
    try {
      learn(logout, ago)
      return ''
    } catch {
      return 'no room'
    }
  }

  async function look(): Promise<void> {
    if (isAsking || !connection.isReady()) return
    isAsking = true
    try {
      const from = Math.max(0, seen - OVERLAP_MS)
      const [time, found] = await connection.ask(async (redis) =>
        Promise.all([redis.time(), redis.zrange(key, from, '+inf', 'BYSCORE', 'WITHSCORES')]),
      )
      const now = Number(time[0]) * 1000 + Number(time[1]) / 1000
      // A Redis whose clock is behind that of the one before it: all is read again, the next time.
      const isBehind = now < seen
      let problem = ''
      let isMissing = false
      for (let n = 0; n + 1 < found.length; n += 2) {
        const at = Number(found[n + 1])
        const lack = take(found[n] ?? '', Math.max(0, now - at) / 1000)
        if (lack !== '') problem = lack
        // What found no room is tried again, and does not keep out what comes after it.
        if (lack === 'no room') isMissing = true
        if (!isMissing) seen = Math.max(seen, at)
      }
      seen = isBehind ? 0 : Math.min(seen, now)
      tell(problem)
    } catch (error) {
      const { name } = error as Error
      log.debug({ problem: name }, 'logouts of other gateways are not known at the moment')
    } finally {
      isAsking = false
    }
  }

  const timer = setInterval(() => void look(), LOOK_EVERY_MS)
  timer.unref()
  void look()
  return {
    async publish(logout) {
      await runScript(connection, PUBLISH, key, JSON.stringify(logout), rememberSeconds)
    },
    close: () => {
      clearInterval(timer)
    },
  }
}

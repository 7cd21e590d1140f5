import type { ReplayStore } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import { runScript } from './redis-connection.ts'
import type { RedisConnection, RedisScript } from './redis-connection.ts'

/**
 * One step: 1 the key is new and kept, 0 it was there, -1 nobody can tell. The second key says since
 * when Redis has remembered: one that lost its content a moment ago, or whose clock was set back, cannot
 * tell for as long as it would have had to remember.
 */
const REMEMBER: RedisScript = {
  name: 'remember',
  numberOfKeys: 2,
  lua: `
local seconds, now, kept = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if now == nil then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local since = tonumber(redis.call('GET', KEYS[2]))
if since == nil or since > now then
  since = now
  redis.call('SET', KEYS[2], now)
end
if (tonumber(redis.call('GET', KEYS[1])) or 0) > now then return 0 end
redis.call('SET', KEYS[1], now + seconds, 'EX', seconds + kept)
if now - since <= seconds then return -1 end
return 1`,
}

/**
 * What was used once, for all gateways (AUTHN-11). Fails closed: a proof that cannot be looked up
 * could be a second use, so it is refused as long as Redis cannot be asked. A timeout leaves open
 * whether the key was kept; then the very same proof is refused the next time, too.
 */
export function createRedisReplay(
  connection: RedisConnection,
  options: {
    /** Milliseconds, instead of Redis' own clock: for tests that hold time still. */
    readonly now?: () => number
  } = {},
): ReplayStore {
  const { now } = options
  // The script says when the time is over; the key only has to be there until then.
  const kept = now === undefined ? 1 : 3600
  const since = connection.keyOf('replay-since', '')

  async function ask(key: string, seconds: number): Promise<number> {
    const at = now === undefined ? '' : now() / 1000
    const name = connection.keyOf('replay', key)
    return runScript(connection, REMEMBER, name, since, Math.max(1, seconds), at, kept)
  }

  return {
    async remember(key, seconds) {
      let found: number
      try {
        found = await ask(key, Math.ceil(seconds))
      } catch (error) {
        throw new Refusal('replay-unavailable', { cause: error })
      }
      if (found < 0) throw new Refusal('replay-unavailable', { detail: 'Redis was empty lately' })
      return found === 1
    },
    // The connection belongs to whoever made it.
    close: async () => undefined,
  }
}

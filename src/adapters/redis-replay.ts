import type { ReplayStore } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import type { RedisConnection } from './redis-connection.ts'

/**
 * What was used once, for all gateways (AUTHN-11). Fails closed: a proof that cannot be looked up
 * could be a second use, so it is refused as long as Redis cannot be asked. A timeout leaves open
 * whether the key was kept; then the very same proof is refused the next time, too.
 */
export function createRedisReplay(connection: RedisConnection): ReplayStore {
  return {
    async remember(key, seconds) {
      const name = connection.keyOf('replay', key)
      const lasting = Math.max(1, Math.ceil(seconds))
      try {
        return (await connection.ask((redis) => redis.set(name, '', 'EX', lasting, 'NX'))) === 'OK'
      } catch (error) {
        throw new Refusal('replay-unavailable', { cause: error })
      }
    },
    // The connection belongs to whoever made it.
    close: async () => undefined,
  }
}

import type { Clock, ReplayStore } from '../ports.ts'

/** How many each new key looks at, to let go of those whose time is over. */
const SWEPT_PER_INSERT = 4
/** A store full of live keys is swept as a whole at most this often. */
const FULL_SWEEP_EVERY_MS = 1000

/**
 * A replay store in memory, for one gateway alone. Bounded by `most`: a full store rejects, for a
 * key that is let go before its time could be used a second time. It counts by the clock that proofs
 * are judged by, so that a clock set back lets nothing be used again.
 */
export function createMemoryReplay(options: {
  readonly most: number
  readonly clock: Pick<Clock, 'now'>
}): ReplayStore {
  const { most, clock } = options
  const until = new Map<string, number>()
  let sweeper = until.entries()
  let lastFullSweep = -Infinity

  const sweep = (now: number): void => {
    for (let looked = 0; looked < SWEPT_PER_INSERT; looked++) {
      const next = sweeper.next()
      if (next.done === true) {
        sweeper = until.entries()
        return
      }
      if (next.value[1] <= now) until.delete(next.value[0])
    }
  }

  const hasRoom = (now: number): boolean => {
    if (until.size < most) return true
    // Either way of leaving the interval: a clock may be set back.
    if (Math.abs(now - lastFullSweep) < FULL_SWEEP_EVERY_MS) return false
    lastFullSweep = now
    for (const [key, at] of until) if (at <= now) until.delete(key)
    return until.size < most
  }

  return {
    async remember(key, seconds) {
      const now = clock.now()
      const at = until.get(key)
      if (at !== undefined && at > now) return false
      if (at === undefined) {
        sweep(now)
        if (!hasRoom(now)) throw new Error('as many are remembered as there is room for')
      }
      until.set(key, now + seconds * 1000)
      return true
    },
    async close() {
      until.clear()
    },
  }
}

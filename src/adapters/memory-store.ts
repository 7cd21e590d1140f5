import type { Clock, CounterStore, Rate, Taken } from '../ports.ts'

/** How many counters each unknown key looks at, to let go of those that are full again. */
const SWEPT_PER_INSERT = 4
/** So few cost nothing: to let go of a counter that is back a moment later costs more than to keep it. */
const FEW = 256
/** A store full of live counters is swept as a whole at most this often. */
const FULL_SWEEP_EVERY_MS = 1000
/** Floating point: a thousandth of a millisecond never decides. */
const EPSILON_MS = 1e-3

/**
 * Counters in memory by the generic cell rate algorithm (ATM Forum TM 4.0, as virtual scheduling):
 * one number per key, the time at which the counter will be full again.
 *
 * Bounded by `trackedKeys`. A counter is let go only when it is full again, because forgetting it
 * then changes nothing; so an attacker who sprays keys cannot reset a counter that limits them. When
 * all counters are live, unknown keys share one overflow counter per rate.
 *
 * `cost` 0 takes nothing and tells whether one cell is left; a cost above the burst counts as the
 * burst, else it could never be paid.
 */
export function createMemoryStore(options: { trackedKeys: number; clock: Clock }): CounterStore {
  const { trackedKeys, clock } = options
  const fullAt = new Map<string, number>()
  const overflow = new Map<string, number>()
  const few = Math.min(FEW, trackedKeys / 4)
  let sweeper = fullAt.entries()
  let nextFullSweep = 0

  const sweep = (now: number): void => {
    if (fullAt.size < few) return
    for (let looked = 0; looked < SWEPT_PER_INSERT; looked++) {
      const next = sweeper.next()
      if (next.done === true) {
        sweeper = fullAt.entries()
        return
      }
      if (next.value[1] <= now) fullAt.delete(next.value[0])
    }
  }

  const hasRoom = (now: number): boolean => {
    if (fullAt.size < trackedKeys) return true
    if (now < nextFullSweep) return false
    nextFullSweep = now + FULL_SWEEP_EVERY_MS
    for (const [key, at] of fullAt) if (at <= now) fullAt.delete(key)
    return fullAt.size < trackedKeys
  }

  return {
    take(key, rate, cost) {
      const now = clock.monotonic()
      let counters = fullAt
      let name = key
      let at = fullAt.get(key)
      if (at === undefined) {
        sweep(now)
        if (!hasRoom(now)) {
          counters = overflow
          name = `${rate.burst} ${rate.perSecond}`
          at = overflow.get(name)
        }
      }
      const { taken, next } = takeCells(at, rate, cost, now)
      if (next !== undefined) counters.set(name, next)
      return taken
    },
    async close() {
      fullAt.clear()
      overflow.clear()
    },
  }
}

/** One step of the algorithm. `next` is absent when nothing changes. */
function takeCells(
  fullAt: number | undefined,
  rate: Rate,
  cost: number,
  now: number,
): { taken: Taken; next: number | undefined } {
  const interval = 1000 / rate.perSecond
  const cells = Math.min(cost === 0 ? 1 : cost, rate.burst)
  const whole = rate.burst * interval
  // Further away than that it was under a lower limit.
  const next = Math.min(Math.max(fullAt ?? now, now), now + whole) + cells * interval
  const wait = next - whole - now
  if (wait > EPSILON_MS) {
    return { taken: { allowed: false, retryAfter: Math.ceil(wait / 1000) }, next: undefined }
  }
  return { taken: { allowed: true, retryAfter: 0 }, next: cost === 0 ? undefined : next }
}

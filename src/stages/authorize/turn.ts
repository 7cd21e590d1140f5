import { setImmediate } from 'node:timers/promises'

/** Bytes of a resource over which each step takes a while. */
const LARGE = 262_144

/** RATE-6: between the steps over a large one, others have their turn. */
export async function giveTurn({ length }: Buffer): Promise<void> {
  if (length > LARGE) await setImmediate()
}

import { createHmac, timingSafeEqual } from 'node:crypto'

/**
 * Nonces that clients repeat in their DPoP proofs (RFC 9449 §9), so that no proof can have been made
 * long before. Nothing is stored: a nonce is the window of time it was given in, signed, and all
 * gateways with the same key know it.
 */
export type ProofNonces = {
  /** The one to give out. */
  readonly current: (now: number) => string
  /** Whether it was given out in this window or the one before. */
  readonly holds: (nonce: unknown, now: number) => boolean
}

/** `seconds`: length of a window; a nonce holds for one to two of them. Times are in seconds. */
export function createProofNonces(key: Buffer, seconds: number): ProofNonces {
  const nonceOf = (window: number): string =>
    createHmac('sha256', key).update(`DPoP-Nonce ${window}`).digest('base64url')
  const windowOf = (now: number): number => Math.floor(now / seconds)
  return {
    current: (now) => nonceOf(windowOf(now)),
    holds(nonce, now) {
      if (typeof nonce !== 'string') return false
      const given = Buffer.from(nonce)
      return [0, 1].some((back) => {
        const ours = Buffer.from(nonceOf(windowOf(now) - back))
        return given.length === ours.length && timingSafeEqual(given, ours)
      })
    },
  }
}

import { hash } from 'node:crypto'
import type { Principal } from '../../exchange.ts'
import type { Confirmation } from '../../oauth/confirmation.ts'

/** A verified token: who it speaks for, and when that holds (seconds since the epoch). */
export type Verified = {
  readonly principal: Principal
  /** What it is bound to; proved anew on every request. */
  readonly confirmation: Confirmation | undefined
  readonly notBefore: number
  readonly expiresAt: number
  /** Of the issuer's key set that verified it; undefined: no key did, the issuer vouched for it. */
  readonly generation: number | undefined
  /** When it was verified, and when that must be done again. */
  readonly verifiedAt: number
  readonly verifyAgainAt: number
}

/**
 * Verified claims (never decisions), by the SHA-256 of the whole token: a token is found only by
 * someone who has every byte of it, signature included. Bounded; the oldest goes first.
 */
export class TokenCache {
  readonly #entries = new Map<string, Verified>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  /** Also the `ath` of RFC 9449 §4.2. */
  static keyOf(token: string): string {
    return hash('sha256', token, 'base64url')
  }

  get(key: string): Verified | undefined {
    return this.#entries.get(key)
  }

  set(key: string, verified: Verified): void {
    if (this.#entries.size >= this.#most) {
      const oldest = this.#entries.keys().next()
      if (oldest.done !== true) this.#entries.delete(oldest.value)
    }
    this.#entries.set(key, verified)
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }
}

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
 * someone who has every byte of it, signature included. Bounded: in two halves, of which the older is
 * dropped as a whole when the newer is full. What was asked for meanwhile is in the newer.
 */
export class TokenCache {
  readonly #half: number
  #newer = new Map<string, Verified>()
  #older = new Map<string, Verified>()

  constructor(most: number) {
    this.#half = Math.ceil(most / 2)
  }

  /** Also the `ath` of RFC 9449 §4.2. */
  static keyOf(token: string): string {
    return hash('sha256', token, 'base64url')
  }

  get(key: string): Verified | undefined {
    const found = this.#newer.get(key)
    if (found !== undefined) return found
    const older = this.#older.get(key)
    if (older !== undefined) this.set(key, older)
    return older
  }

  set(key: string, verified: Verified): void {
    if (this.#newer.size >= this.#half) {
      this.#older = this.#newer
      this.#newer = new Map()
    }
    this.#newer.set(key, verified)
  }

  delete(key: string): void {
    this.#newer.delete(key)
    this.#older.delete(key)
  }
}

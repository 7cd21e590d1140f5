/** The logout token of OpenID Connect Back-Channel Logout 1.0 §2.4, its signature checked already. */
import type { Claims } from './claims.ts'
import { parseText } from './claims.ts'

/** Why a logout token is none. The message is for the log. */
export class LogoutTokenError extends Error {
  override readonly name = 'LogoutTokenError'
}

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'

export type LogoutToken = {
  readonly subject: string | undefined
  readonly sessionId: string | undefined
  readonly tokenId: string
  /** Seconds since the epoch. */
  readonly issuedAt: number
}

/**
 * §2.4: "RECOMMENDED that typ … logout+jwt be used"; a type that says something else is another kind
 * of token.
 */
export function isLogoutType(typ: unknown): boolean {
  if (typ === undefined) return true
  return typeof typ === 'string' && /^(?:application\/)?(?:logout\+jwt|jwt)$/i.test(typ)
}

/** Reads the claims (§2.6). Throws {@link LogoutTokenError}. */
export function parseLogoutToken(claims: Claims): LogoutToken {
  const { iat, jti, events, sub, sid } = claims
  // "Verify that the Logout Token does not contain a nonce Claim."
  if ('nonce' in claims) throw new LogoutTokenError('holds a nonce')
  if (typeof events !== 'object' || events === null || !isObject((events as Claims)[EVENT])) {
    throw new LogoutTokenError('is about no logout')
  }
  if (typeof iat !== 'number' || !Number.isFinite(iat)) throw new LogoutTokenError('has no iat')
  const tokenId = parseText(jti)
  if (tokenId === undefined) throw new LogoutTokenError('has no jti')
  const [subject, sessionId] = [parseText(sub), parseText(sid)]
  if (subject === undefined && sub !== undefined) throw new LogoutTokenError('sub cannot be read')
  if (sessionId === undefined && sid !== undefined) throw new LogoutTokenError('sid cannot be read')
  // "contains a sub Claim, a sid Claim, or both"
  if (subject === undefined && sessionId === undefined)
    throw new LogoutTokenError('is about nobody')
  return { subject, sessionId, tokenId, issuedAt: iat }
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

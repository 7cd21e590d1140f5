import { hash } from 'node:crypto'
import { jwtVerify } from 'jose'
import type { Config } from '../../config/schema.ts'
import { parseJwtObject } from '../../oauth/jwt-object.ts'
import { isLogoutType, LogoutTokenError, parseLogoutToken } from '../../oauth/logout-token.ts'
import type { Clock, IssuerKeys, LoggedOut, ReplayStore } from '../../ports.ts'

/** A logout token is shown soon after it was issued, or not at all. */
const OLDEST_SECONDS = 300
const LONGEST = 16_384
const KEY_ID = /^[\x21-\x7e]{1,256}$/

/** Takes over what a logout token says. Rejects when it is not valid, or cannot be remembered. */
export type LogOut = (token: string) => Promise<LoggedOut>

/** Checks logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.6) and denies what they end. */
export function createLogOut(
  config: Config,
  ports: {
    readonly keys: IssuerKeys
    readonly clock: Clock
    readonly replays: ReplayStore
    /** Rejects when it does not hold everywhere. */
    readonly deny: (who: LoggedOut) => Promise<void>
  },
): LogOut {
  const { keys, clock, replays, deny } = ports
  const issuers = new Map(
    config.issuers
      .filter(({ logoutAudiences }) => logoutAudiences.length > 0)
      .map((issuer) => [issuer.url, issuer] as const),
  )

  return async function logOut(token) {
    const parts = token.split('.')
    if (token.length > LONGEST || parts.length !== 3) throw new LogoutTokenError('no signed JWT')
    const header = parseJwtObject(parts[0] ?? '')
    const claimed = parseJwtObject(parts[1] ?? '')
    const issuer = issuers.get(String(claimed['iss']))
    if (issuer === undefined) throw new LogoutTokenError('not of an issuer that logs out here')
    const { alg, kid, typ, crit } = header
    if (typeof alg !== 'string' || !issuer.algorithms.some((allowed) => allowed === alg)) {
      throw new LogoutTokenError('the algorithm is not on the list')
    }
    if (crit !== undefined) throw new LogoutTokenError('crit is not understood')
    if (kid !== undefined && (typeof kid !== 'string' || !KEY_ID.test(kid))) {
      throw new LogoutTokenError('kid is not of its form')
    }
    if (!isLogoutType(typ)) throw new LogoutTokenError('another type of token')
    const key = await keys.find(issuer.url, kid === undefined ? { alg } : { alg, kid })
    const { payload } = await jwtVerify(token, key, {
      algorithms: issuer.algorithms,
      issuer: issuer.url,
      audience: issuer.logoutAudiences,
      maxTokenAge: OLDEST_SECONDS,
      clockTolerance: issuer.clockSkewSeconds,
      currentDate: new Date(clock.now()),
    })
    const { subject, sessionId, tokenId, issuedAt } = parseLogoutToken(payload)
    // By the clock of the issuer, as the `iat` of the tokens that it is compared with.
    const who = { issuer: issuer.url, subject, sessionId, at: issuedAt }
    // First: one that failed may be said again, and one that is said twice changes nothing.
    await deny(who)
    const isNew = await remember(issuer.url, tokenId, OLDEST_SECONDS + 2 * issuer.clockSkewSeconds)
    if (!isNew) throw new LogoutTokenError('was used before')
    return who
  }

  /** A store that cannot tell is no reason to leave anybody logged in: to log out twice is harmless. */
  async function remember(issuer: string, tokenId: string, seconds: number): Promise<boolean> {
    const name = hash('sha256', JSON.stringify(['logout', issuer, tokenId]), 'base64url')
    return replays.remember(name, Math.ceil(seconds) + 1).catch(() => true)
  }
}

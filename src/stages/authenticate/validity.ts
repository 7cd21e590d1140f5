import type { IssuerConfig } from '../../config/schema.ts'
import type { Principal } from '../../exchange.ts'
import type { Claims } from '../../oauth/claims.ts'
import type { Confirmation } from '../../oauth/confirmation.ts'
import { findLack } from '../../oauth/strength.ts'
import { Refusal } from '../../refusal.ts'
import type { Verified } from './token-cache.ts'

/** What an issuer's settings ask of a token that was vouched for. Times are seconds since the epoch. */

/** Rechecks what passes with time; everything else about a verified token stays true. */
export function checkTime(
  known: Pick<Verified, 'principal' | 'expiresAt' | 'notBefore'>,
  issuer: IssuerConfig | undefined,
  now: number,
): void {
  const skew = issuer?.clockSkewSeconds ?? 0
  if (now >= known.expiresAt + skew) throw new Refusal('token-expired')
  if (now < known.notBefore - skew) throw invalid('not valid yet')
  const maximumAge = issuer?.maximumAgeSeconds
  if (maximumAge !== undefined && now - known.principal.issuedAt > maximumAge + skew) {
    throw new Refusal('token-expired', { detail: 'older than allowed' })
  }
}

/** What a token says of its age, once. */
export function checkAge(claims: Claims, issuer: IssuerConfig, now: number): void {
  const { iat, exp } = claims
  if (iat !== undefined && !(typeof iat === 'number' && iat <= now + issuer.clockSkewSeconds)) {
    throw invalid('issued in the future')
  }
  const { maximumLifetimeSeconds: longest } = issuer
  if (
    longest !== undefined &&
    !(typeof exp === 'number' && typeof iat === 'number' && exp - iat <= longest)
  ) {
    throw invalid('lives longer than allowed, or does not say')
  }
  if (issuer.maximumAgeSeconds !== undefined && iat === undefined) {
    throw invalid('no iat, and a maximum age is set')
  }
}

/** AUTHN-12: an issuer whose tokens are bound issues none that are not. */
export function checkBound(
  confirmation: Confirmation | undefined,
  { requireBound }: IssuerConfig,
): void {
  const isBound = {
    none: true,
    dpop: confirmation?.thumbprint !== undefined,
    mtls: confirmation?.certificate !== undefined,
    any: confirmation !== undefined,
  }
  if (!isBound[requireBound]) throw invalid('not bound as this issuer must')
}

/** AUTHN-14: on every request, because the age of a login grows. A client alone has no login. */
export function checkStrength(
  principal: Principal,
  issuer: IssuerConfig | undefined,
  now: number,
): void {
  if (issuer === undefined || principal.kind === 'system') return
  const { acr, amr, withinSeconds } = issuer.strength
  const stepUp = findLack(principal, [{ acr, amr, within: withinSeconds }], now)
  if (stepUp !== undefined) throw new Refusal('strength-insufficient', { stepUp })
}

function invalid(detail: string): Refusal {
  return new Refusal('token-invalid', { detail })
}

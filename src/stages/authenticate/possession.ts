import { hash, randomBytes } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { Config } from '../../config/schema.ts'
import type { Arrival } from '../../exchange.ts'
import type { Confirmation } from '../../oauth/confirmation.ts'
import type { Credentials } from '../../oauth/credentials.ts'
import { createProofNonces } from '../../oauth/dpop-nonce.ts'
import { checkProof, findProof } from '../../oauth/dpop-proof.ts'
import type { Proof } from '../../oauth/dpop-proof.ts'
import type { Clock, ReplayStore } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'

/** A verified token, how it came, and what it is bound to. */
export type Shown = {
  readonly arrival: Arrival
  readonly scheme: Credentials['scheme']
  /** SHA-256 of the token, base64url. */
  readonly tokenHash: string
  readonly confirmation: Confirmation | undefined
}

/**
 * Checks that whoever shows a token is the one it was issued to (AUTHN-11, 12, 13): a bound token
 * comes with the proof of every bond it has, an unbound one as plain bearer. To be called on every
 * request. Throws Refusal or ProofError.
 */
export function createCheckPossession(
  config: Config,
  ports: { readonly replays: ReplayStore; readonly clock: Clock },
): (shown: Shown) => void | Promise<void> {
  const { maximumAgeSeconds, clockSkewSeconds, requireNonce, nonceKey, nonceSeconds } = config.dpop
  // As long as the cached token that they belong to.
  const keys = new WeakMap<Confirmation, KeyObject>()
  const algorithms: ReadonlySet<string> = new Set(config.dpop.algorithms)
  const key = nonceKey === undefined ? randomBytes(32) : Buffer.from(nonceKey, 'base64')
  const nonces = requireNonce ? createProofNonces(key, nonceSeconds) : undefined
  // From the earliest moment a proof may be shown to the latest, and the rest of a second.
  const lifetime = Math.ceil(maximumAgeSeconds + 2 * clockSkewSeconds) + 1

  return function checkPossession({ arrival, scheme, tokenHash, confirmation }) {
    const { thumbprint, certificate } = confirmation ?? {}
    // RFC 9449 §7.2: "MUST NOT be accepted as a bearer token"; nor the other way round (§7.1).
    if (scheme === 'Bearer' && thumbprint !== undefined) throw invalid('bound, but plain bearer')
    if (scheme === 'DPoP' && thumbprint === undefined) throw invalid('DPoP, but not bound to a key')
    if (certificate !== undefined) checkCertificate(arrival.clientCertificate, certificate)
    if (confirmation === undefined || thumbprint === undefined) return undefined
    const now = ports.clock.now() / 1000
    const proof = checkProof(findProof(arrival.rawHeaders), {
      method: arrival.method,
      url: `${config.public.url}${arrival.target}`,
      ...{ thumbprint, tokenHash, algorithms, now },
      key: keys.get(confirmation),
      maximumAge: maximumAgeSeconds,
      clockSkew: clockSkewSeconds,
    })
    keys.set(confirmation, proof.key)
    if (nonces !== undefined && !nonces.holds(proof.nonce, now)) {
      throw new Refusal('proof-nonce', { headers: { 'dpop-nonce': nonces.current(now) } })
    }
    return checkFirstUse(proof, thumbprint)
  }

  /** RFC 9449 §11.1: the jti is remembered as long as the proof could be shown. */
  async function checkFirstUse(proof: Proof, thumbprint: string): Promise<void> {
    // Hashed, so that a long jti takes no more room than a short one.
    const name = hash('sha256', `${thumbprint} ${proof.id}`, 'base64url')
    let isFirst: boolean
    try {
      isFirst = await ports.replays.remember(name, lifetime)
    } catch (error) {
      throw new Refusal('replay-unavailable', { cause: error })
    }
    if (!isFirst) throw new Refusal('proof-invalid', { detail: 'the proof was used before' })
  }
}

/** RFC 8705 §3: the resource server "MUST verify that the certificate matches". */
function checkCertificate(given: Buffer | undefined, expected: string): void {
  if (given === undefined) throw invalid('bound to a certificate, and none came')
  if (hash('sha256', given, 'base64url') !== expected) throw invalid('bound to another certificate')
}

function invalid(detail: string): Refusal {
  return new Refusal('token-invalid', { detail })
}

/** WWW-Authenticate challenges (RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3). */

export type ChallengeError =
  | 'invalid_request'
  | 'invalid_token'
  | 'insufficient_scope'
  | 'insufficient_user_authentication'
  | 'invalid_dpop_proof'
  | 'use_dpop_nonce'

export type Challenge = {
  readonly scheme?: 'Bearer' | 'DPoP'
  readonly realm: string
  readonly error?: ChallengeError
  readonly scope?: string
  /** RFC 9470 §3: how the person should authenticate, and how long ago at most (seconds). */
  readonly acrValues?: readonly string[]
  readonly maxAge?: number
  /** RFC 9449 §7.1: the signature algorithms that proofs may have. */
  readonly algorithms?: readonly string[]
  /** RFC 9728 §5.1: where a client finds which authorization server to ask. */
  readonly resourceMetadata?: string
}

/**
 * Formats a challenge, of the Bearer scheme unless said otherwise. RFC 6750 §3.1: "If the request
 * lacks any authentication information … the resource server SHOULD NOT include an error code": leave
 * `error` out then.
 */
export function formatChallenge(challenge: Challenge): string {
  const { scheme = 'Bearer', realm, error, scope, algorithms, resourceMetadata } = challenge
  const { acrValues, maxAge } = challenge
  const parts = [`${scheme} realm=${quote(realm)}`]
  if (error !== undefined) parts.push(`error=${quote(error)}`)
  if (scope !== undefined) parts.push(`scope=${quote(scope)}`)
  if (acrValues !== undefined) parts.push(`acr_values=${quote(acrValues.join(' '))}`)
  if (maxAge !== undefined) parts.push(`max_age=${quote(String(maxAge))}`)
  if (algorithms !== undefined) parts.push(`algs=${quote(algorithms.join(' '))}`)
  if (resourceMetadata !== undefined) parts.push(`resource_metadata=${quote(resourceMetadata)}`)
  return parts.join(', ')
}

/** quoted-string of RFC 9110 §5.6.4; what may not stand in one is left out. */
function quote(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, '').replace(/[\\"]/g, '\\$&')}"`
}

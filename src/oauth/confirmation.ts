/** What a token is bound to: its `cnf` claim (RFC 7800 §3.1). */

/** A claim that is there and cannot be honoured: the token is worth nothing then. */
export class ConfirmationError extends Error {
  override readonly name = 'ConfirmationError'
  readonly reason = 'token-invalid'
}

/** At least one of them is there; whoever shows the token proves every one. */
export type Confirmation = {
  /** JWK thumbprint (RFC 7638) of the key that signs DPoP proofs (RFC 9449 §6.1). */
  readonly thumbprint: string | undefined
  /** SHA-256 of the client certificate (RFC 8705 §3.1), base64url. */
  readonly certificate: string | undefined
}

/** SHA-256 in base64url without padding. */
const DIGEST = /^[\w-]{43}$/

/**
 * Reads a `cnf` claim; undefined when the token has none. RFC 7800 §3.1 lets a recipient ignore
 * members it does not understand; a bond we cannot check is no reason to do without, so we refuse.
 * Throws {@link ConfirmationError}.
 */
export function parseConfirmation(cnf: unknown): Confirmation | undefined {
  if (cnf === undefined) return undefined
  if (typeof cnf !== 'object' || cnf === null || Array.isArray(cnf)) {
    throw new ConfirmationError('cnf cannot be read')
  }
  const { jkt: thumbprint, 'x5t#S256': certificate, ...others } = cnf as Record<string, unknown>
  if (Object.keys(others).length > 0) throw new ConfirmationError('cnf has an unknown member')
  if (!isDigest(thumbprint) || !isDigest(certificate)) {
    throw new ConfirmationError('cnf holds no SHA-256')
  }
  if (thumbprint === undefined && certificate === undefined) {
    throw new ConfirmationError('cnf is empty')
  }
  return { thumbprint, certificate }
}

function isDigest(value: unknown): value is string | undefined {
  return value === undefined || (typeof value === 'string' && DIGEST.test(value))
}

/** What an authorization server says of a token (RFC 7662 §2.2, SMART 2.2 token introspection). */
import { claimAt } from './claims.ts'
import type { Claims } from './claims.ts'

/** An answer that vouches for nothing. The message is for the log; it quotes nothing. */
export class IntrospectionError extends Error {
  override readonly name = 'IntrospectionError'
  /** `issuer-unavailable`: no answer of RFC 7662 at all. `token-invalid`: one that grants nothing. */
  readonly reason: 'issuer-unavailable' | 'token-invalid'

  constructor(reason: IntrospectionError['reason'], message: string) {
    super(message)
    this.reason = reason
  }
}

/** What the answer must agree with. */
export type ExpectedToken = {
  readonly issuer: string
  readonly audiences: readonly string[]
  readonly requireAudience: boolean
  readonly acceptUntyped: boolean
  /** Where the tokens of this issuer have their scopes, when it is not `scope`. */
  readonly scopePath: string
  /** Of a JWT whose signature was verified: the answer may contradict none of it. */
  readonly verified?: Claims
}

/** What an access token never is. RFC 7662 lets servers tell of refresh tokens by the same endpoint. */
const OTHER_KINDS = /^(?:id|refresh|offline|logout|id_token|refresh_token|logout_token)$/i

/**
 * The claims of an active token, or undefined: it is not active. Throws {@link IntrospectionError}
 * for an answer that cannot be read, or says too little or the wrong thing.
 */
export function parseIntrospection(answer: unknown, expected: ExpectedToken): Claims | undefined {
  if (typeof answer !== 'object' || answer === null || Array.isArray(answer)) {
    throw new IntrospectionError('issuer-unavailable', 'introspection answered no object')
  }
  const claims = answer as Claims
  // RFC 7662 §2.2: "active REQUIRED. Boolean indicator"; "true" and 1 are no booleans.
  if (typeof claims['active'] !== 'boolean') {
    throw new IntrospectionError('issuer-unavailable', 'introspection answered no "active"')
  }
  if (!claims['active']) return undefined
  if (expected.verified === undefined) checkClaims(claims, expected)
  else checkAgreement(claims, expected.verified)
  return claims
}

function checkClaims(claims: Claims, expected: ExpectedToken): void {
  // SMART 2.2: "SHALL include … active, scope, client_id, exp".
  const { client_id: client, exp, nbf, iat, iss, aud, token_type: type } = claims
  const scope = claims['scope'] ?? claimAt(claims, expected.scopePath)
  if (typeof scope !== 'string' && !isTexts(scope)) throw invalid('no scope')
  if (typeof client !== 'string' || client === '') throw invalid('no client_id')
  if (!isTime(exp)) throw invalid('no exp')
  if (nbf !== undefined && !isTime(nbf)) throw invalid('nbf cannot be read')
  if (iat !== undefined && !isTime(iat)) throw invalid('iat cannot be read')
  if (iss !== undefined && iss !== expected.issuer) throw invalid('another iss')
  const names = aud === undefined ? undefined : isTexts(aud) ? aud : [aud]
  if (names === undefined && expected.requireAudience) throw invalid('no aud')
  if (names?.some((name) => expected.audiences.some((ours) => ours === name)) === false) {
    throw invalid('another aud')
  }
  if ([claims['typ'], claims['token_use']].some((kind) => OTHER_KINDS.test(String(kind)))) {
    throw invalid('not an access token')
  }
  const isTyped = typeof type === 'string' && /^(?:bearer|dpop)$/i.test(type)
  if (type !== undefined && !isTyped) throw invalid('not an access token')
  if (!isTyped && names === undefined && !expected.acceptUntyped) {
    throw invalid('neither token_type nor aud: it could be a refresh token')
  }
  // RFC 9449 §6.2: the confirmation comes with the answer; without it nothing could be proved.
  const cnf = claims['cnf'] as { jkt?: unknown } | null | undefined
  if (/^dpop$/i.test(String(type)) && cnf?.jkt === undefined) throw invalid('DPoP without cnf.jkt')
}

/** An active token that is somebody else's there is not the one that was verified here. */
function checkAgreement(claims: Claims, verified: Claims): void {
  for (const name of ['iss', 'sub', 'client_id', 'jti'] as const) {
    const [said, signed] = [claims[name], verified[name]]
    if (said !== undefined && signed !== undefined && said !== signed) {
      throw invalid(`another ${name} than was signed`)
    }
  }
  // A bond that only the answer knows of would never be proved.
  if (claims['cnf'] !== undefined && verified['cnf'] === undefined) {
    throw invalid('bound, and the JWT does not say so')
  }
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function invalid(detail: string): IntrospectionError {
  return new IntrospectionError('token-invalid', `introspection: ${detail}`)
}

import type { IssuerConfig } from '../../config/schema.ts'
import type { Claims } from '../../oauth/claims.ts'
import { parseJwtObject, splitJwt } from '../../oauth/jwt-object.ts'
import type { JwtParts } from '../../oauth/jwt-object.ts'
import { isSignatureAlgorithm } from '../../oauth/signature.ts'
import type { SignatureAlgorithm } from '../../oauth/signature.ts'
import { Refusal } from '../../refusal.ts'
import type { ReadPrincipal } from './principal.ts'
import { recall } from '../../recall.ts'

/** An access token that is a JWT, as it came: nothing of it is verified. */
export type Jwt = {
  readonly parts: JwtParts
  readonly header: Claims
}

const HEADERS = { most: 64, longest: 512 }

/**
 * Reads a token as a JWT; undefined when it is none: any other is for its issuer to read. An issuer
 * writes one header into all tokens of a key, so headers are kept, as they are: unverified.
 */
export function createParseJwt(): (token: string) => Jwt | undefined {
  const parseHeader = recall(parseJwtObject, HEADERS)

  return function parseJwt(token) {
    const parts = splitJwt(token)
    if (parts === undefined) return undefined
    try {
      return { parts, header: parseHeader(parts.head) }
    } catch {
      return undefined
    }
  }
}

/** An issuer, and what was made of its settings at the start. */
export type Trusted = {
  readonly issuer: IssuerConfig
  readonly audiences: readonly string[]
  readonly readPrincipal: ReadPrincipal
}

const KEY_ID = /^[\x21-\x7e]{1,256}$/

/** A token that a key of its issuer may have signed. */
export type Inspected = {
  readonly trusted: Trusted
  /** What chooses the key. */
  readonly header: { readonly alg: SignatureAlgorithm; readonly kid?: string }
  /** Not verified yet. */
  readonly claims: Claims
  /** What is signed (RFC 7515 §5.1), and the signature, base64url. */
  readonly input: string
  readonly signature: string
}

/** What a JWT says, none of it verified, and the issuer it says it is from. */
export type Identified = Pick<Inspected, 'trusted' | 'claims'>

/** Reads who should vouch for a JWT, and refuses what says itself that it is no access token. */
export function identify(
  { parts, header }: Jwt,
  issuers: ReadonlyMap<string, Trusted>,
): Identified {
  const claims = parseClaims(parts.body)
  const trusted = typeof claims['iss'] === 'string' ? issuers.get(claims['iss']) : undefined
  if (trusted === undefined) throw invalid('not from a configured issuer')
  checkType(header['typ'], claims, trusted.issuer)
  return { trusted, claims }
}

/** Reads the unverified parts that choose the key, and refuses what no key could mend. */
export function inspect({ parts, header }: Jwt, { trusted, claims }: Identified): Inspected {
  const { signature, input } = parts
  const { alg, kid } = header
  // AUTHN-4: "Algorithm allow-list per issuer from config, never from header".
  if (typeof alg !== 'string' || !trusted.issuer.algorithms.some((allowed) => allowed === alg)) {
    throw invalid('the algorithm is not on the list')
  }
  if (header['crit'] !== undefined) throw invalid('crit is not understood')
  if (kid !== undefined && (typeof kid !== 'string' || !KEY_ID.test(kid))) {
    throw invalid('kid is not of its form')
  }
  if (!isSignatureAlgorithm(alg)) throw invalid('the algorithm is not known')
  return { trusted, header: kid === undefined ? { alg } : { alg, kid }, claims, input, signature }
}

function parseClaims(body: string): Claims {
  try {
    return parseJwtObject(body)
  } catch (error) {
    throw invalid('not readable as JWT', error)
  }
}

/** AUTHN-6: access tokens only. An ID token says so by its type or by claims only it has. */
function checkType(typ: unknown, claims: Claims, issuer: IssuerConfig): void {
  if (typ !== undefined && typeof typ !== 'string') throw invalid('typ cannot be read')
  const type = typ?.toLowerCase().replace(/^application\//, '')
  if (type === 'at+jwt') return
  if (issuer.requireType || (type !== undefined && type !== 'jwt')) {
    throw invalid('the type is not that of an access token')
  }
  const isOther = ['nonce', 'at_hash', 'c_hash', 's_hash', 'events'].some((name) => name in claims)
  // Keycloak tells the kind of a token in a claim.
  const isNamed = ['ID', 'Refresh', 'Offline', 'Logout'].includes(String(claims['typ']))
  if (isOther || claims['token_use'] === 'id' || isNamed) throw invalid('not an access token')
}

/**
 * AUTHN-5, RFC 9068 §4: "The resource server MUST validate that the aud claim contains a resource
 * indicator value corresponding to an identifier the resource server expects for itself". `iss` has
 * chosen the issuer, by exact match; the times are looked at on every use.
 */
export function checkRegistered(claims: Claims, audiences: readonly string[]): void {
  const { aud, exp, nbf, iat } = claims
  const named: readonly unknown[] = Array.isArray(aud) ? aud : [aud]
  if (!named.some((one) => typeof one === 'string' && audiences.includes(one))) {
    throw invalid('not for this audience')
  }
  // RFC 7519 §2: a NumericDate is a JSON number.
  if (typeof exp !== 'number') throw invalid('no exp')
  for (const time of [exp, nbf, iat]) {
    if (time !== undefined && !Number.isFinite(time)) throw invalid('a time cannot be read')
  }
}

function invalid(detail: string, cause?: unknown): Refusal {
  return new Refusal('token-invalid', { detail, ...(cause === undefined ? {} : { cause }) })
}

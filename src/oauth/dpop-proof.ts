import { createPublicKey, hash } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { parseJwtObject } from './jwt-object.ts'
import { ALGORITHMS, isSignatureAlgorithm, isSignedBy } from './signature.ts'
import type { SignatureAlgorithm } from './signature.ts'

/** A proof that the sender of a request holds the key its token is bound to (RFC 9449 §4). */

/** RFC 9449 §7.1: `invalid_dpop_proof`. The message is for the log; no caller is told which check. */
export class ProofError extends Error {
  override readonly name = 'ProofError'
  readonly reason = 'proof-invalid'
}

export type ProofAlgorithm = SignatureAlgorithm
/** All that can be checked; configuration chooses among them. */
export const PROOF_ALGORITHMS = Object.keys(ALGORITHMS) as [ProofAlgorithm, ...ProofAlgorithm[]]

/** What the proof must say. Times are seconds since the epoch. */
export type ExpectedProof = {
  readonly method: string
  /** The URL as the client sees it; query and fragment do not count. */
  readonly url: string
  /** `cnf.jkt` of the token. */
  readonly thumbprint: string
  /** The key of this thumbprint, from a proof that held; saves reading it again. */
  readonly key?: KeyObject | undefined
  /** SHA-256 of the token, base64url. */
  readonly tokenHash: string
  readonly algorithms: ReadonlySet<string>
  readonly now: number
  readonly maximumAge: number
  readonly clockSkew: number
}

/** What of a proof that holds is left to be judged: has it been used, is its nonce ours? */
export type Proof = { readonly id: string; readonly nonce: unknown; readonly key: KeyObject }

const LONGEST = 8192
const LONGEST_ID = 256

/** The one DPoP header of a request. RFC 9449 §4.3: "There is not more than one DPoP HTTP request
 * header field." Throws {@link ProofError}. */
export function findProof(rawHeaders: readonly string[]): string {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.toLowerCase() !== 'dpop') continue
    if (found !== undefined) throw new ProofError('two DPoP headers')
    found = rawHeaders[i + 1] ?? ''
  }
  if (found === undefined) throw new ProofError('no DPoP header')
  return found
}

/**
 * Checks a proof by all of RFC 9449 §4.3 that needs no memory, the signature last: it costs the most.
 * Throws {@link ProofError}.
 */
export function checkProof(text: string, expected: ExpectedProof): Proof {
  const parts = text.length > LONGEST ? [] : text.split('.')
  const [head = '', body = '', signature = ''] = parts
  // "The DPoP HTTP request header field value is a single and well-formed JWT."
  if (parts.length !== 3 || !/^[\w-]+$/.test(signature)) fail('not a signed JWT')
  const header = read(head)
  // "The typ JOSE Header Parameter has the value dpop+jwt."
  if (header['typ'] !== 'dpop+jwt') fail('typ is not dpop+jwt')
  if (header['crit'] !== undefined) fail('crit is not understood')
  const { alg, jwk } = header
  if (typeof alg !== 'string' || !isSignatureAlgorithm(alg) || !expected.algorithms.has(alg)) {
    fail('the algorithm is not on the list')
  }
  const members = parsePublicJwk(jwk, alg)
  // "confirm that the public key to which the access token is bound matches the public key from
  // the DPoP proof"; before the signature, so that only a key the issuer has vouched for is used.
  if (hash('sha256', JSON.stringify(members), 'base64url') !== expected.thumbprint) {
    fail('signed by another key than the token is bound to')
  }
  const claims = checkClaims(read(body), expected)
  const key = expected.key ?? importKey(members)
  if (!isSignedBy(key, alg, `${head}.${body}`, signature)) fail('the signature does not hold')
  return { ...claims, key }
}

function checkClaims(
  claims: Readonly<Record<string, unknown>>,
  expected: ExpectedProof,
): Omit<Proof, 'key'> {
  const { jti, htm, htu, iat, ath, nonce, exp, nbf } = claims
  if (typeof jti !== 'string' || jti === '' || jti.length > LONGEST_ID)
    fail('jti is not of its form')
  // RFC 9110 §9.1: "The method token is case-sensitive".
  if (htm !== expected.method) fail('htm is another method')
  const url = typeof htu === 'string' ? normalizeUrl(htu) : undefined
  if (url === undefined || url !== normalizeUrl(expected.url)) fail('htu is another address')
  if (ath !== expected.tokenHash) fail('ath is of another token')
  const { now, maximumAge, clockSkew } = expected
  if (!isTime(iat)) fail('iat is not a time')
  if (iat > now + clockSkew) fail('iat is in the future')
  if (iat < now - maximumAge - clockSkew) fail('iat is too long ago')
  if (exp !== undefined && !(isTime(exp) && exp > now - clockSkew)) fail('exp is over')
  if (nbf !== undefined && !(isTime(nbf) && nbf <= now + clockSkew)) fail('nbf is in the future')
  return { id: jti, nonce }
}

function fail(message: string, cause?: unknown): never {
  throw new ProofError(message, { cause })
}

function isTime(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value)
}

function read(part: string): Readonly<Record<string, unknown>> {
  try {
    return parseJwtObject(part)
  } catch (error) {
    return fail('not readable as JWT', error)
  }
}

const PRIVATE = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k', 'priv']

/**
 * The members that make a key what it is, in the order of its thumbprint (RFC 7638 §3). RFC 9449
 * §4.2: the jwk "MUST NOT contain a private key". Throws ProofError.
 */
function parsePublicJwk(jwk: unknown, alg: ProofAlgorithm): Readonly<Record<string, string>> {
  if (typeof jwk !== 'object' || jwk === null || Array.isArray(jwk)) fail('jwk is not a key')
  const given = jwk as Readonly<Record<string, unknown>>
  if (PRIVATE.some((name) => given[name] !== undefined)) fail('jwk is not a public key')
  const { kty, crv }: { kty: string; crv?: string } = ALGORITHMS[alg]
  if (given['kty'] !== kty || (crv !== undefined && given['crv'] !== crv)) {
    fail('jwk is not a key for this algorithm')
  }
  const { use, key_ops: operations, alg: own } = given
  if (use !== undefined && use !== 'sig') fail('jwk is not for signatures')
  if (own !== undefined && own !== alg) fail('jwk is for another algorithm')
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) {
    fail('jwk is not for verification')
  }
  const text = (name: string, longest: number): string => {
    const value = given[name]
    if (typeof value !== 'string' || value.length > longest || !/^[\w-]+$/.test(value)) {
      return fail(`${name} of jwk cannot be read`)
    }
    return value
  }
  // 8192 bits of modulus and 32 of exponent are the most a verification should cost.
  if (kty === 'RSA') return { e: text('e', 6), kty, n: text('n', 1366) }
  const point = { crv: crv ?? '', kty, x: text('x', 88) }
  return kty === 'EC' ? { ...point, y: text('y', 88) } : point
}

function importKey(jwk: Readonly<Record<string, string>>): KeyObject {
  let key: KeyObject
  try {
    key = createPublicKey({ key: jwk, format: 'jwk' })
  } catch (error) {
    return fail('jwk is not a key', error)
  }
  const { modulusLength, publicExponent } = key.asymmetricKeyDetails ?? {}
  // RFC 7518 §3.3: "A key of size 2048 bits or larger MUST be used". With exponent 1 anyone signs.
  if (modulusLength !== undefined && modulusLength < 2048) fail('the key is too short')
  if (publicExponent !== undefined && publicExponent < 3n) fail('the exponent is too small')
  return key
}

const HTTP_URL = /^https?:\/\/[\w\-.~:[\]%]+(?:\/[\w\-.~:/[\]!$&'()*+,;=%@]*)?$/i

/**
 * An http URL without query and fragment in the one form of RFC 3986 §6.2.2 and §6.2.3: case of
 * scheme, host and escapes, needless escapes, dot segments, default port, empty path. Undefined when
 * it is no such URL, or names a user.
 */
export function normalizeUrl(text: string): string | undefined {
  const [bare = ''] = text.split(/[?#]/, 1)
  if (!HTTP_URL.test(bare)) return undefined
  if (/%(?![\da-f]{2})/i.test(bare)) return undefined
  const url = URL.parse(bare)
  if (url === null) return undefined
  const path = url.pathname.replace(/%[\da-f]{2}/gi, (escape) => {
    const letter = String.fromCharCode(parseInt(escape.slice(1), 16))
    return /[\w\-.~]/.test(letter) ? letter : escape.toUpperCase()
  })
  return `${url.origin}${path}`
}

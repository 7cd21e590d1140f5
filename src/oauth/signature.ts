import { constants, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'

/** Signatures of JWS (RFC 7515) by the asymmetric algorithms; the mathematics are those of Node. */

type Algorithm = {
  readonly kty: 'EC' | 'RSA' | 'OKP'
  readonly crv?: string
  /** The same curve as Node calls it. */
  readonly curve?: string
  readonly hash: string | null
  readonly isPss?: boolean
}

/** RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2. "MUST NOT be none or … symmetric". */
export const ALGORITHMS = {
  ES256: { kty: 'EC', crv: 'P-256', curve: 'prime256v1', hash: 'sha256' },
  ES384: { kty: 'EC', crv: 'P-384', curve: 'secp384r1', hash: 'sha384' },
  ES512: { kty: 'EC', crv: 'P-521', curve: 'secp521r1', hash: 'sha512' },
  PS256: { kty: 'RSA', hash: 'sha256', isPss: true },
  PS384: { kty: 'RSA', hash: 'sha384', isPss: true },
  PS512: { kty: 'RSA', hash: 'sha512', isPss: true },
  RS256: { kty: 'RSA', hash: 'sha256' },
  RS384: { kty: 'RSA', hash: 'sha384' },
  RS512: { kty: 'RSA', hash: 'sha512' },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', hash: null },
  Ed25519: { kty: 'OKP', crv: 'Ed25519', hash: null },
} as const satisfies Record<string, Algorithm>

export type SignatureAlgorithm = keyof typeof ALGORITHMS

export function isSignatureAlgorithm(alg: string): alg is SignatureAlgorithm {
  return Object.hasOwn(ALGORITHMS, alg)
}

/** Whether a key is one for an algorithm at all: its kind, its curve, and its size (RFC 7518 §3.3). */
export function isKeyFor(key: KeyObject, alg: SignatureAlgorithm): boolean {
  const known = FIT.get(key)
  if (known?.has(alg) === true) return true
  const isFit = key.type === 'public' && fits(key, alg)
  if (isFit) FIT.set(key, new Set([...(known ?? []), alg]))
  return isFit
}

/** For which algorithms a key was found to be one: to look at it costs more than to verify by it. */
const FIT = new WeakMap<KeyObject, ReadonlySet<SignatureAlgorithm>>()

/** The same of a public or a private key; not remembered. */
export function fits(key: KeyObject, alg: SignatureAlgorithm): boolean {
  const { kty, curve }: Algorithm = ALGORITHMS[alg]
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {}
  if (kty === 'EC') return key.asymmetricKeyType === 'ec' && namedCurve === curve
  if (kty === 'OKP') return key.asymmetricKeyType === 'ed25519'
  // "A key of size 2048 bits or larger MUST be used".
  return key.asymmetricKeyType === 'rsa' && modulusLength >= 2048
}

/** Whether the key has signed the input; answers at once. The key must be one for the algorithm. */
export function isSignedBy(
  key: KeyObject,
  alg: SignatureAlgorithm,
  input: string,
  signature: string,
): boolean {
  const { hash } = ALGORITHMS[alg]
  return verify(hash, Buffer.from(input), optionsOf(key, alg), Buffer.from(signature, 'base64url'))
}

/** The same on another thread: many at once do not hold up the event loop. */
export async function isSignedByLater(
  key: KeyObject,
  alg: SignatureAlgorithm,
  input: string,
  signature: string,
): Promise<boolean> {
  const { hash } = ALGORITHMS[alg]
  const bytes = Buffer.from(signature, 'base64url')
  return new Promise((resolve) => {
    verify(hash, Buffer.from(input), optionsOf(key, alg), bytes, (error, isSigned) => {
      // What cannot be a signature at all is none.
      resolve(error === null && isSigned)
    })
  })
}

function optionsOf(key: KeyObject, alg: SignatureAlgorithm) {
  const { kty, isPss = false }: Algorithm = ALGORITHMS[alg]
  return {
    key,
    // RFC 7518 §3.4: R and S one after the other, not as ASN.1.
    ...(kty === 'EC' ? { dsaEncoding: 'ieee-p1363' as const } : {}),
    ...(kty === 'RSA' ? { padding: isPss ? PSS : PKCS1 } : {}),
    // RFC 7518 §3.5: the salt is as long as the hash.
    ...(isPss ? { saltLength: constants.RSA_PSS_SALTLEN_DIGEST } : {}),
  }
}
const { RSA_PKCS1_PSS_PADDING: PSS, RSA_PKCS1_PADDING: PKCS1 } = constants

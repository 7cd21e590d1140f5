import { constants, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { decodeBase64Url } from './jwt-object.ts'

/** Signatures of JWS (RFC 7515) by the asymmetric algorithms; the mathematics are those of Node. */

type Algorithm = {
  readonly kty: 'EC' | 'RSA' | 'OKP'
  readonly crv?: string
  /** The same curve as Node calls it, and the octets of R and of S (RFC 7518 §3.4). */
  readonly curve?: string
  readonly octets?: number
  readonly hash: string | null
  readonly isPss?: boolean
}

/** RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2. "MUST NOT be none or … symmetric". */
export const ALGORITHMS = {
  ES256: { kty: 'EC', crv: 'P-256', curve: 'prime256v1', octets: 32, hash: 'sha256' },
  ES384: { kty: 'EC', crv: 'P-384', curve: 'secp384r1', octets: 48, hash: 'sha384' },
  ES512: { kty: 'EC', crv: 'P-521', curve: 'secp521r1', octets: 66, hash: 'sha512' },
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
  const bytes = signatureOf(alg, signature)
  if (bytes === undefined) return false
  return verify(ALGORITHMS[alg].hash, Buffer.from(input), keyOf(key, alg), bytes)
}

/** The same on another thread: many at once do not hold up the event loop. */
export async function isSignedByLater(
  key: KeyObject,
  alg: SignatureAlgorithm,
  input: string,
  signature: string,
): Promise<boolean> {
  const bytes = signatureOf(alg, signature)
  if (bytes === undefined) return false
  const { hash } = ALGORITHMS[alg]
  return new Promise((resolve) => {
    verify(hash, Buffer.from(input), keyOf(key, alg), bytes, (error, isSigned) => {
      // What cannot be a signature at all is none.
      resolve(error === null && isSigned)
    })
  })
}

/**
 * The key as Node takes it. The bare key where Node does by itself what the algorithm says: PKCS #1 for
 * RSA, ASN.1 for EC.
 */
function keyOf(key: KeyObject, alg: SignatureAlgorithm): KeyObject {
  const { isPss = false }: Algorithm = ALGORITHMS[alg]
  if (!isPss) return key
  const known = FOR_PSS.get(key)
  if (known !== undefined) return known
  const made = Object.assign(structuredClone(key), PSS)
  FOR_PSS.set(key, made)
  return made
}

/** RFC 7518 §3.5: the salt is as long as the hash. */
const PSS = {
  padding: constants.RSA_PKCS1_PSS_PADDING,
  saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
}

/**
 * Keys that say themselves how they are used: Node reads the options of whatever object holds the key,
 * and an object that is none costs it as much as the signature.
 */
const FOR_PSS = new WeakMap<KeyObject, KeyObject>()

/** The signature as Node takes it; undefined when it is none of this algorithm. */
function signatureOf(alg: SignatureAlgorithm, signature: string): Buffer | undefined {
  const { octets }: Algorithm = ALGORITHMS[alg]
  const bytes = decodeBase64Url(signature)
  if (octets === undefined || bytes === undefined) return bytes
  // RFC 7518 §3.4: "a 64-octet sequence … If it is not … the validation has failed."
  return bytes.length === 2 * octets ? formatPair(bytes, octets) : undefined
}

/**
 * R and S one after the other (RFC 7518 §3.4) as ASN.1 (RFC 3279 §2.2.3): SEQUENCE { r INTEGER, s
 * INTEGER }. Node would do it, for an eighth of what the signature costs.
 */
function formatPair(pair: Buffer, octets: number): Buffer {
  const out = Buffer.allocUnsafe(2 * octets + 9)
  let at = out.length
  // From the last byte to the first, because a length stands before what it is of.
  for (const begin of [octets, 0]) {
    let first = begin
    // A number is as short as it can be …
    while (first < begin + octets - 1 && pair[first] === 0) first += 1
    const end = at
    at -= begin + octets - first
    pair.copy(out, at, first, begin + octets)
    // … and not negative.
    if ((out[at] ?? 0) > 0x7f) out[--at] = 0
    const length = end - at
    out[--at] = length
    out[--at] = 0x02
  }
  const length = out.length - at
  out[--at] = length
  if (length > 0x7f) out[--at] = 0x81
  out[--at] = 0x30
  return out.subarray(at)
}

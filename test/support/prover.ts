import { createHash, randomUUID, sign } from 'node:crypto'
import type { JsonWebKey, KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, SignJWT } from 'jose'

type Changes = {
  /** Protected header members on top of a good proof's; undefined takes one away. */
  readonly header?: Record<string, unknown>
  /** Claims likewise. */
  readonly claims?: Record<string, unknown>
  /** Signs instead of the key that the jwk shows. */
  readonly signer?: KeyObject
}

/** base64url of a text, or of the JSON of anything else. */
export const b64 = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

/** SHA-256 in base64url. */
export const digest = (value: string | Buffer): string =>
  createHash('sha256').update(value).digest('base64url')

/** A client with a key of its own, that makes DPoP proofs: good ones, and any others. */
export async function createProver(
  alg: string,
  { publicKey, privateKey }: { publicKey: KeyObject; privateKey: KeyObject },
) {
  const jwk = publicKey.export({ format: 'jwk' })
  return {
    jwk,
    privateJwk: (): JsonWebKey => privateKey.export({ format: 'jwk' }),
    privateKey,
    /** What a token bound to this key says in `cnf.jkt`. */
    thumbprint: await calculateJwkThumbprint(jwk),
    /** A proof for this request, with changes. */
    prove: async (
      request: { method: string; url: string; token: string },
      { header, claims, signer = privateKey }: Changes = {},
    ): Promise<string> =>
      new SignJWT({
        jti: randomUUID(),
        htm: request.method,
        htu: request.url,
        iat: Math.floor(Date.now() / 1000),
        ath: digest(request.token),
        ...claims,
      })
        .setProtectedHeader({ typ: 'dpop+jwt', alg, jwk, ...header })
        .sign(signer),
  }
}

/** Signs parts as they are, past every check of a library. */
export function signRaw(head: string, body: string, key: KeyObject, der = false): string {
  const dsaEncoding = der ? 'der' : 'ieee-p1363'
  const signature = sign('sha256', Buffer.from(`${head}.${body}`), { key, dsaEncoding })
  return `${head}.${body}.${signature.toString('base64url')}`
}

import { createPublicKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { readBounded } from './bounded-body.ts'

const TIMEOUT_MS = 3_000
const LARGEST = 262_144
const MOST_KEYS = 100

/** A public key of a key set (RFC 7517), fit to verify. */
export type PublishedKey = {
  readonly kid: string | undefined
  readonly kty: string
  readonly alg: string | undefined
  readonly key: KeyObject
}

/** What a header says of the key that signed (RFC 7515 §4.1). */
export type KeyHeader = { readonly alg: string; readonly kid?: string }

/**
 * Fetches a key set, bounded in time, size and number: its keys that can verify, which may be none. Throws
 * when there is no set.
 *
 * @param issuerProtocol - of the issuer's URL; its keys may not be less protected
 */
export async function fetchKeySet(
  url: URL,
  issuerProtocol: string,
  stop: AbortSignal,
): Promise<readonly PublishedKey[]> {
  if (url.protocol !== 'https:' && url.protocol !== issuerProtocol) {
    throw new Error('jwks_uri is less protected than its issuer')
  }
  const answer = await fetch(url, {
    redirect: 'error',
    headers: { accept: 'application/json' },
    signal: AbortSignal.any([stop, AbortSignal.timeout(TIMEOUT_MS)]),
  })
  if (answer.status !== 200) {
    await answer.body?.cancel()
    throw new Error(`the key set answered ${answer.status}`)
  }
  return parseKeySet(await readBounded(answer, LARGEST))
}

function parseKeySet(text: string): readonly PublishedKey[] {
  const set: unknown = JSON.parse(text)
  const keys =
    typeof set === 'object' && set !== null ? (set as { keys?: unknown }).keys : undefined
  if (!Array.isArray(keys)) throw new Error('not a key set')
  if (keys.length > MOST_KEYS) throw new Error('more keys than any set should have')
  return keys.flatMap((jwk: unknown) => parseKey(jwk) ?? [])
}

/** A public verification key, or undefined: a kind that is never used here. */
function parseKey(jwk: unknown): PublishedKey | undefined {
  if (typeof jwk !== 'object' || jwk === null) return undefined
  const { kty, kid, alg, use, key_ops: uses } = jwk as Record<string, unknown>
  if (typeof kty !== 'string' || !['RSA', 'EC', 'OKP'].includes(kty)) return undefined
  if (use !== undefined && use !== 'sig') return undefined
  // RFC 7517 §4.3: what the key is for, as an array.
  if (uses !== undefined && !(Array.isArray(uses) && uses.includes('verify'))) return undefined
  try {
    const key = createPublicKey({ key: jwk as never, format: 'jwk' })
    // RFC 7518 §3.3: "A key of size 2048 bits or larger MUST be used".
    if (kty === 'RSA' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < 2048) return undefined
    return {
      kty,
      key,
      kid: typeof kid === 'string' ? kid : undefined,
      alg: typeof alg === 'string' ? alg : undefined,
    }
  } catch {
    return undefined
  }
}

/** The key of a set that a header speaks of, or undefined. */
export function matchKey(
  keys: readonly PublishedKey[],
  { alg, kid }: KeyHeader,
): KeyObject | undefined {
  const kty = keyType(alg)
  const fit = keys.filter(
    (key) =>
      key.kty === kty &&
      (key.alg === undefined || key.alg === alg) &&
      (kid === undefined || key.kid === kid),
  )
  // Without a kid the key must be beyond doubt.
  return fit.length === 1 || kid !== undefined ? fit[0]?.key : undefined
}

/** Which key type an algorithm needs: an RSA key never verifies ES256, whatever a header says. */
function keyType(alg: string): string {
  if (alg.startsWith('RS') || alg.startsWith('PS')) return 'RSA'
  return alg.startsWith('ES') ? 'EC' : 'OKP'
}

/** Equal for two sets of the same keys, in whatever order they were published. */
export function fingerprint(keys: readonly PublishedKey[]): string {
  return keys
    .map(({ kid, alg, key }) =>
      JSON.stringify([kid, alg, key.export({ type: 'spki', format: 'der' }).toString('base64')]),
    )
    .sort()
    .join()
}

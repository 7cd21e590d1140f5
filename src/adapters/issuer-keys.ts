import { createPublicKey } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { allowInsecureRequests, discovery } from 'openid-client'
import type { Config } from '../config/schema.ts'
import type { IssuerKeys, Log } from '../ports.ts'
import { Refusal } from '../refusal.ts'

const TIMEOUT_SECONDS = 3
const LARGEST_JWKS = 262_144
const MOST_KEYS = 100
/** Between two fetches that an unknown `kid` caused: it must not become a lever (AUTHN-10). */
const COOLDOWN_MS = 10_000
const REFRESH_MS = 300_000
const RETRY_MS = 2_000
/** Keys that could not be refreshed for this long are no longer believed. */
const STALE_MS = 3_600_000

type Known = {
  readonly kid: string | undefined
  readonly kty: string
  readonly alg: string | undefined
  readonly key: KeyObject
}

/**
 * The keys of the configured issuers, refreshed in the background. The provider is never asked while
 * a request waits, except once for a `kid` nobody has seen, at most every ten seconds.
 */
export function createIssuerKeys(
  config: Config,
  log: Log,
  now: () => number = () => Date.now(),
  refreshed: (result: 'refreshed' | 'failed') => void = () => undefined,
): IssuerKeys & { readonly start: () => Promise<void> } {
  const keepers = new Map(
    config.issuers.map(({ url }) => [url, new Keeper(url, log, now, refreshed)] as const),
  )
  return {
    find(issuer, header) {
      const keeper = keepers.get(issuer)
      if (keeper === undefined) throw new Refusal('token-invalid', { detail: 'unknown issuer' })
      return keeper.find(header)
    },
    generation(issuer) {
      const keeper = keepers.get(issuer)
      // Keys that are no longer believed vouch for no remembered token either.
      return keeper?.isReady() === true ? keeper.generation : undefined
    },
    metadata: (issuer) => keepers.get(issuer)?.metadata,
    isReady: () => [...keepers.values()].every((keeper) => keeper.isReady()),
    async start() {
      await Promise.all([...keepers.values()].map((keeper) => keeper.refresh()))
    },
    async close() {
      for (const keeper of keepers.values()) keeper.stop()
    },
  }
}

/** Which key type an algorithm needs: an RSA key never verifies ES256, whatever a header says. */
function keyType(alg: string): string {
  if (alg.startsWith('RS') || alg.startsWith('PS')) return 'RSA'
  return alg.startsWith('ES') ? 'EC' : 'OKP'
}

/** Equal for two sets of the same keys, in whatever order they were published. */
function fingerprint(keys: readonly Known[]): string {
  return keys
    .map(({ kid, alg, key }) =>
      JSON.stringify([kid, alg, key.export({ type: 'spki', format: 'der' }).toString('base64')]),
    )
    .sort()
    .join()
}

class Keeper {
  readonly #issuer: string
  readonly #log: Log
  readonly #now: () => number
  readonly #refreshed: (result: 'refreshed' | 'failed') => void
  readonly #stopped = new AbortController()
  #keys: readonly Known[] = []
  #fetchedAt = -Infinity
  #triedAt = -Infinity
  #pending: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  metadata: Readonly<Record<string, unknown>> | undefined
  generation = 0

  constructor(
    issuer: string,
    log: Log,
    now: () => number,
    refreshed: (result: 'refreshed' | 'failed') => void,
  ) {
    this.#issuer = issuer
    this.#log = log
    this.#now = now
    this.#refreshed = refreshed
  }

  isReady(): boolean {
    return this.#keys.length > 0 && this.#now() - this.#fetchedAt < STALE_MS
  }

  find(header: { readonly alg: string; readonly kid?: string }): KeyObject | Promise<KeyObject> {
    const known = this.isReady() ? this.#match(header) : undefined
    if (known !== undefined) return known
    return this.#findAfterRefresh(header)
  }

  async #findAfterRefresh(header: {
    readonly alg: string
    readonly kid?: string
  }): Promise<KeyObject> {
    if (this.#pending !== undefined || this.#now() - this.#triedAt >= COOLDOWN_MS) {
      await this.refresh()
    }
    if (!this.isReady()) {
      throw new Refusal('issuer-unavailable', { detail: 'no keys of this issuer are known' })
    }
    const known = this.#match(header)
    if (known === undefined)
      throw new Refusal('token-invalid', { detail: 'no key fits the header' })
    return known
  }

  #match({ alg, kid }: { readonly alg: string; readonly kid?: string }): KeyObject | undefined {
    const kty = keyType(alg)
    const fit = this.#keys.filter(
      (key) =>
        key.kty === kty &&
        (key.alg === undefined || key.alg === alg) &&
        (kid === undefined || key.kid === kid),
    )
    // Without a kid the key must be beyond doubt.
    return fit.length === 1 || kid !== undefined ? fit[0]?.key : undefined
  }

  /** Fetches discovery and keys; one flight at a time; keeps the old keys when it fails. */
  async refresh(): Promise<void> {
    this.#pending ??= this.#fetch().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  async #fetch(): Promise<void> {
    clearTimeout(this.#timer)
    this.#triedAt = this.#now()
    let wait = RETRY_MS
    try {
      const url = new URL(this.#issuer)
      const found = await discovery(url, 'fhirewall', undefined, undefined, {
        timeout: TIMEOUT_SECONDS,
        // Whether plain http: is acceptable was decided when configuration was loaded.
        // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so only to stand out
        execute: url.protocol === 'http:' ? [allowInsecureRequests] : [],
      })
      const metadata = found.serverMetadata()
      if (metadata.issuer !== this.#issuer) throw new Error('discovery names another issuer')
      if (metadata.jwks_uri === undefined) throw new Error('discovery names no jwks_uri')
      const keys = await fetchKeys(new URL(metadata.jwks_uri), url.protocol, this.#stopped.signal)
      if (keys.length === 0) throw new Error('the key set holds no key that can verify')
      if (fingerprint(keys) !== fingerprint(this.#keys)) this.generation += 1
      this.#keys = keys
      this.metadata = { ...metadata }
      this.#fetchedAt = this.#now()
      wait = REFRESH_MS
      this.#refreshed('refreshed')
    } catch (error) {
      if (this.#stopped.signal.aborted) return
      this.#refreshed('failed')
      const { message } = error as Error
      this.#log.warn(
        { issuer: this.#issuer, problem: message },
        'the issuer’s keys could not be fetched',
      )
    }
    this.#timer = setTimeout(() => void this.refresh(), wait)
    this.#timer.unref()
  }

  stop(): void {
    this.#stopped.abort()
    clearTimeout(this.#timer)
  }
}

async function fetchKeys(url: URL, issuerProtocol: string, stop: AbortSignal): Promise<Known[]> {
  if (url.protocol !== 'https:' && url.protocol !== issuerProtocol) {
    throw new Error('jwks_uri is less protected than its issuer')
  }
  const answer = await fetch(url, {
    redirect: 'error',
    headers: { accept: 'application/json' },
    signal: AbortSignal.any([stop, AbortSignal.timeout(TIMEOUT_SECONDS * 1000)]),
  })
  if (answer.status !== 200 || answer.body === null)
    throw new Error(`the key set answered ${answer.status}`)
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
    length += chunk.length
    if (length > LARGEST_JWKS) throw new Error('the key set is larger than any should be')
    chunks.push(chunk)
  }
  const { keys } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { keys?: unknown }
  if (!Array.isArray(keys) || keys.length > MOST_KEYS) throw new Error('not a key set')
  return keys.flatMap((jwk: unknown) => {
    const known = parseKey(jwk)
    return known === undefined ? [] : [known]
  })
}

/** A public verification key, or undefined: a kind that is never used here. */
function parseKey(jwk: unknown): Known | undefined {
  if (typeof jwk !== 'object' || jwk === null) return undefined
  const { kty, kid, alg, use } = jwk as Record<string, unknown>
  if (typeof kty !== 'string' || !['RSA', 'EC', 'OKP'].includes(kty)) return undefined
  if (use !== undefined && use !== 'sig') return undefined
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

import type { KeyObject } from 'node:crypto'
import { allowInsecureRequests, ClientError, customFetch, discovery } from 'openid-client'
import type { CustomFetchOptions, ServerMetadata } from 'openid-client'
import type { Config, IssuerConfig } from '../config/schema.ts'
import type { IssuerKeys, Log } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import { readBounded } from './bounded-body.ts'
import { fetchKeySet, fingerprint, matchKey } from './key-set.ts'
import type { KeyHeader, PublishedKey } from './key-set.ts'

const TIMEOUT_SECONDS = 3
const LARGEST_METADATA = 262_144
/** Between two fetches that an unknown `kid` caused: it must not become a lever (AUTHN-10). */
const COOLDOWN_MS = 10_000
const REFRESH_MS = 300_000
const RETRY_MS = 2_000
/** Keys that could not be refreshed for this long are no longer believed. */
const STALE_MS = 3_600_000
/** An issuer whose set is empty for this long has taken its keys back. */
const EMPTIED_MS = 60_000

/** How the keys of one issuer are, for metrics. */
export type IssuerHealth = {
  readonly issuer: string
  readonly isReady: boolean
  /** Since its keys were fetched; undefined when they never were, or when it has none. */
  readonly keysAgeSeconds: number | undefined
}

/** What happens with the keys of an issuer, for metrics. */
export type KeyEvents = {
  readonly refreshed?: (issuer: string, result: 'refreshed' | 'failed') => void
  /** A token named a key that the issuer does not have. */
  readonly unknownKey?: (issuer: string) => void
}

type Watch = { readonly log: Log; readonly now: () => number; readonly events: KeyEvents }

/**
 * The keys of the configured issuers, refreshed in the background. The provider is never asked while
 * a request waits, except once for a `kid` nobody has seen, at most every ten seconds.
 */
export function createIssuerKeys(
  config: Config,
  log: Log,
  now: () => number = () => Date.now(),
  events: KeyEvents = {},
): IssuerKeys & {
  readonly start: () => Promise<void>
  readonly health: () => readonly IssuerHealth[]
} {
  const keepers = new Map(
    config.issuers.map((issuer) => [issuer.url, new Keeper(issuer, { log, now, events })] as const),
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
    isKeyless: (issuer) => keepers.get(issuer)?.isKeyless() === true,
    isReady: () => [...keepers.values()].every((keeper) => keeper.isReady()),
    health: () => [...keepers.values()].map((keeper) => keeper.health()),
    async start() {
      await Promise.all([...keepers.values()].map((keeper) => keeper.refresh()))
    },
    async close() {
      for (const keeper of keepers.values()) keeper.stop()
    },
  }
}

/** openid-client reads all that an answer says. */
async function fetchBounded(url: string, options: CustomFetchOptions): Promise<Response> {
  const answer = await fetch(url, options as RequestInit)
  const { status, headers } = answer
  return new Response(await readBounded(answer, LARGEST_METADATA), { status, headers })
}

class Keeper {
  readonly #issuer: IssuerConfig
  readonly #watch: Watch
  readonly #stopped = new AbortController()
  #keys: readonly PublishedKey[] = []
  /** Whether the issuer has said that it has no keys: its tokens are for itself to read. */
  #isKeyless = false
  /** Since when every set held no key. */
  #emptiedAt: number | undefined
  #fetchedAt = -Infinity
  #triedAt = -Infinity
  #pending: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  metadata: Readonly<Record<string, unknown>> | undefined
  generation = 0

  constructor(issuer: IssuerConfig, watch: Watch) {
    this.#issuer = issuer
    this.#watch = watch
  }

  isKeyless(): boolean {
    return this.#isKeyless && this.#keys.length === 0
  }

  isReady(): boolean {
    if (this.#keys.length === 0) return this.isKeyless()
    return this.#watch.now() - this.#fetchedAt < STALE_MS
  }

  health(): IssuerHealth {
    const age = (this.#watch.now() - this.#fetchedAt) / 1000
    return {
      issuer: this.#issuer.url,
      isReady: this.isReady(),
      keysAgeSeconds: this.#keys.length === 0 ? undefined : age,
    }
  }

  find(header: KeyHeader): KeyObject | Promise<KeyObject> {
    const known = this.isReady() ? matchKey(this.#keys, header) : undefined
    if (known !== undefined) return known
    return this.#findAfterRefresh(header)
  }

  async #findAfterRefresh(header: KeyHeader): Promise<KeyObject> {
    if (this.#pending !== undefined || this.#isCool()) {
      await this.refresh()
    }
    if (!this.isReady()) {
      throw new Refusal('issuer-unavailable', { detail: 'no keys of this issuer are known' })
    }
    const known = matchKey(this.#keys, header)
    if (known === undefined) {
      this.#watch.events.unknownKey?.(this.#issuer.url)
      throw new Refusal('token-invalid', { detail: 'no key fits the header' })
    }
    return known
  }

  /** Either way of leaving the interval: a clock may be set back. */
  #isCool(): boolean {
    return Math.abs(this.#watch.now() - this.#triedAt) >= COOLDOWN_MS
  }

  /** Fetches discovery and keys; one flight at a time; keeps the old keys when it fails. */
  async refresh(): Promise<void> {
    this.#pending ??= this.#fetch().finally(() => {
      this.#pending = undefined
    })
    return this.#pending
  }

  async #fetch(): Promise<void> {
    const { log, now, events } = this.#watch
    const { url } = this.#issuer
    clearTimeout(this.#timer)
    this.#triedAt = now()
    let wait = RETRY_MS
    try {
      await this.#learn()
      wait = REFRESH_MS
      events.refreshed?.(url, 'refreshed')
    } catch (error) {
      if (this.#stopped.signal.aborted) return
      events.refreshed?.(url, 'failed')
      const { message, cause } = error as Error
      // "fetch failed" says nothing; its cause has a code (ENOTFOUND, ECONNREFUSED, that of a certificate).
      const { code } = (cause ?? {}) as NodeJS.ErrnoException
      log.warn({ issuer: url, problem: code ?? message }, 'the issuer’s keys could not be fetched')
    }
    this.#timer = setTimeout(() => void this.refresh(), wait)
    this.#timer.unref()
  }

  async #learn(): Promise<void> {
    const metadata = await this.#discover()
    if (metadata !== undefined && metadata.issuer !== this.#issuer.url) {
      throw new Error(`discovery names another issuer: ${metadata.issuer.slice(0, 200)}`)
    }
    if (metadata?.jwks_uri === undefined) {
      // Who had keys has them still: a server that is half up says many things.
      if (!this.#isAsked() || this.#keys.length > 0) throw new Error('discovery names no jwks_uri')
      this.#isKeyless = true
    } else {
      const keys = await fetchKeySet(
        new URL(metadata.jwks_uri),
        new URL(this.#issuer.url).protocol,
        this.#stopped.signal,
      )
      this.#checkEmptied(keys.length === 0)
      if (fingerprint(keys) !== fingerprint(this.#keys)) this.generation += 1
      this.#keys = keys
      this.#fetchedAt = this.#watch.now()
    }
    if (metadata !== undefined) this.metadata = { ...metadata }
  }

  /** Who takes its keys back ends what they vouched for; a server that is half up has none for a moment. */
  #checkEmptied(isEmpty: boolean): void {
    const now = this.#watch.now()
    this.#emptiedAt = isEmpty ? (this.#emptiedAt ?? now) : undefined
    if (this.#emptiedAt === undefined) return
    if (this.#keys.length > 0 && now - this.#emptiedAt >= EMPTIED_MS) return
    throw new Error('the key set holds no key that can verify')
  }

  /** What the issuer says of itself; undefined when it says nothing, and nothing has to be known. */
  async #discover(): Promise<ServerMetadata | undefined> {
    const url = new URL(this.#issuer.url)
    try {
      const found = await discovery(url, 'fhirewall', undefined, undefined, {
        timeout: TIMEOUT_SECONDS,
        [customFetch]: fetchBounded,
        // Whether plain http: is acceptable was decided when configuration was loaded.
        // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so only to stand out
        execute: url.protocol === 'http:' ? [allowInsecureRequests] : [],
      })
      return found.serverMetadata()
    } catch (error) {
      const answer = error instanceof ClientError ? error.cause : undefined
      const isAbsent = answer instanceof Response && answer.status === 404
      if (isAbsent && this.#issuer.introspection?.url !== undefined) return undefined
      throw error
    }
  }

  /** Whether tokens of this issuer can be told without keys. */
  #isAsked(): boolean {
    return this.#issuer.introspection?.opaque === true
  }

  stop(): void {
    this.#stopped.abort()
    clearTimeout(this.#timer)
  }
}

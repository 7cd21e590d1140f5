import type { Config, IssuerConfig } from '../../config/schema.ts'
import type { Claims } from '../../oauth/claims.ts'
import { parseIntrospection } from '../../oauth/introspection.ts'
import type { Clock, Introspection } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'

/** Tokens known as not active, at most; a flood of them forgets the oldest and asks again. */
const MOST_INACTIVE = 10_000

/** The claims of an active token, and when (seconds since the epoch) its issuer was asked. */
export type Said = { readonly claims: Claims; readonly askedAt: number }

export type Introspect = {
  /**
   * What is said of an active token. One question is under way for a token at a time, whoever asks.
   * Throws Refusal `token-invalid` (not active, or too little is said of it) or `issuer-unavailable`.
   *
   * @param verified - claims of a JWT whose signature holds, which the answer must not contradict
   */
  readonly ask: (
    issuer: IssuerConfig,
    token: { readonly token: string; readonly tokenHash: string },
    verified?: Claims,
  ) => Promise<Said>
}

/** Asks issuers about tokens (AUTHN-8), and remembers for a moment which are not active (AUTHN-9). */
export function createIntrospect(
  config: Config,
  ports: { readonly introspection: Introspection; readonly clock: Clock },
): Introspect {
  const { introspection, clock } = ports
  type Question = { readonly answer: Promise<unknown>; readonly askedAt: number }
  const underWay = new Map<string, Question>()
  /** Until when (monotonic milliseconds), by the hash of the token. */
  const inactive = new Map<string, number>()

  function question(issuer: string, token: string, tokenHash: string): Question {
    let pending = underWay.get(tokenHash)
    if (pending === undefined) {
      const askedAt = clock.now() / 1000
      const answer = introspection.ask(issuer, token).finally(() => underWay.delete(tokenHash))
      pending = { answer, askedAt }
      underWay.set(tokenHash, pending)
    }
    return pending
  }

  function isKnownInactive(tokenHash: string): boolean {
    const until = inactive.get(tokenHash)
    if (until === undefined) return false
    if (clock.monotonic() < until) return true
    inactive.delete(tokenHash)
    return false
  }

  function rememberInactive(tokenHash: string, seconds: number): void {
    if (seconds === 0) return
    if (inactive.size >= MOST_INACTIVE) {
      const oldest = inactive.keys().next()
      if (oldest.done !== true) inactive.delete(oldest.value)
    }
    inactive.set(tokenHash, clock.monotonic() + seconds * 1000)
  }

  return {
    async ask(issuer, { token, tokenHash }, verified) {
      const {
        requireAudience = false,
        acceptUntyped = false,
        negativeCacheSeconds = 0,
      } = issuer.introspection ?? {}
      if (isKnownInactive(tokenHash)) throw notActive()
      const { answer, askedAt } = question(issuer.url, token, tokenHash)
      const claims = parseIntrospection(await answer, {
        issuer: issuer.url,
        audiences: issuer.audiences ?? [config.public.url],
        ...{ requireAudience, acceptUntyped, scopePath: issuer.claims.scope },
        ...(verified === undefined ? {} : { verified }),
      })
      if (claims !== undefined) return { claims, askedAt }
      rememberInactive(tokenHash, negativeCacheSeconds)
      throw notActive()
    },
  }
}

function notActive(): Refusal {
  return new Refusal('token-invalid', { detail: 'the issuer says that it is not active' })
}

import type { KeyObject } from 'node:crypto'
import type { Config, IssuerConfig } from '../../config/schema.ts'
import type { Arrival, Principal } from '../../exchange.ts'
import type { Claims } from '../../oauth/claims.ts'
import { parseConfirmation } from '../../oauth/confirmation.ts'
import { checkForm, parseCredentials } from '../../oauth/credentials.ts'
import { isKeyFor, isSignedBy, isSignedByLater } from '../../oauth/signature.ts'
import type { Clock, Denylist, Introspection, IssuerKeys, ReplayStore } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import { checkRegistered, createParseJwt, identify, inspect } from './access-token.ts'
import type { Inspected, Trusted } from './access-token.ts'
import { createIntrospect } from './introspect.ts'
import { createCheckPossession } from './possession.ts'
import type { Shown } from './possession.ts'
import { createReadPrincipal } from './principal.ts'
import { TokenCache } from './token-cache.ts'
import type { Verified } from './token-cache.ts'
import { checkAge, checkBound, checkStrength, checkTime } from './validity.ts'

const MOST_CACHED = 10_000

/** What authentication needs from outside. */
export type AuthenticatePorts = {
  readonly keys: IssuerKeys
  readonly clock: Clock
  readonly replays: ReplayStore
  readonly introspection: Introspection
  readonly denylist: Denylist
}

/** A token as it was shown, and the name it is remembered by. */
type Token = { readonly token: string; readonly tokenHash: string }

/**
 * Who vouched for claims: the keys of that generation, or nobody's; believed until then (seconds). With
 * `askedAt` the issuer itself did.
 */
type Warrant = {
  readonly generation: number | undefined
  readonly until: number
  readonly askedAt?: number
}

/**
 * Says who asks: one access token, a JWT (RFC 9068) or one its issuer is asked about (RFC 7662), from
 * a configured issuer, for this FHIR base, shown by whom it is bound to. Answers at once for a bearer
 * token that was verified before and still holds, or whose key is known while nobody else is verified.
 */
export function createAuthenticate(
  config: Config,
  ports: AuthenticatePorts,
): (arrival: Arrival) => Principal | Promise<Principal> {
  const { clock, keys } = ports
  const issuers = new Map(config.issuers.map((issuer) => [issuer.url, trust(issuer, config)]))
  const parseJwt = createParseJwt()
  const cache = new TokenCache(MOST_CACHED)
  const checkPossession = createCheckPossession(config, ports)
  const introspect = createIntrospect(config, ports)
  /** Whose the tokens are that are no JWT. */
  const opaque = [...issuers.values()].find(({ issuer }) => issuer.introspection?.opaque === true)
  const seconds = (): number => clock.now() / 1000
  /** Whether a signature was verified in this turn of the event loop. */
  let isTaken = false

  return function authenticate(arrival) {
    const { scheme, token } = parseCredentials(arrival.rawHeaders)
    const tokenHash = TokenCache.keyOf(token)
    const shown = { arrival, scheme, tokenHash }
    const found = recall(tokenHash) ?? verify({ token, tokenHash })
    return found instanceof Promise
      ? found.then((verified) => prove(verified, shown))
      : prove(found, shown)
  }

  /** What is known of a token and still holds. Throws Refusal when its time is over. */
  function recall(tokenHash: string): Verified | undefined {
    const known = cache.get(tokenHash)
    if (known === undefined) return undefined
    const now = seconds()
    const { generation, principal, verifiedAt, verifyAgainAt } = known
    const isStale = generation !== undefined && generation !== keys.generation(principal.issuer)
    // Also when the clock was set back: nothing is believed longer than it was meant to be.
    if (isStale || now >= verifyAgainAt || now < verifiedAt) {
      cache.delete(tokenHash)
      return undefined
    }
    try {
      checkTime(known, issuers.get(principal.issuer)?.issuer, now)
    } catch (error) {
      cache.delete(tokenHash)
      throw error
    }
    return known
  }

  /** Of a token only what it says is remembered, never that someone once proved to own it. */
  function prove(
    { principal, confirmation }: Verified,
    shown: Omit<Shown, 'confirmation'>,
  ): Principal | Promise<Principal> {
    // AUTHN-18: on every request, also of a token that is known.
    if (ports.denylist.isDenied(principal)) throw new Refusal('token-revoked')
    const checked = checkPossession({ ...shown, confirmation })
    const conclude = (): Principal => {
      checkStrength(principal, issuers.get(principal.issuer)?.issuer, seconds())
      return principal
    }
    return checked === undefined ? conclude() : checked.then(conclude)
  }

  function verify(token: Token): Verified | Promise<Verified> {
    checkForm(token.token)
    const jwt = parseJwt(token.token)
    if (jwt === undefined) return verifyOpaque(opaque, token)
    const identified = identify(jwt, issuers)
    // RFC 7662 §1: whatever "the token format", an issuer without keys is the one to read it.
    return keys.isKeyless(identified.trusted.issuer.url)
      ? verifyOpaque(identified.trusted, token)
      : verifyJwt(inspect(jwt, identified), token)
  }

  /** A token that only its issuer can read. */
  async function verifyOpaque(trusted: Trusted | undefined, token: Token): Promise<Verified> {
    if (trusted === undefined) throw invalid('not a signed JWT')
    const { claims, askedAt } = await introspect.ask(trusted.issuer, token)
    const until = believedUntil(claims, trusted.issuer, seconds())
    return accept(claims, trusted, { generation: undefined, until, askedAt }, token)
  }

  function verifyJwt(inspected: Inspected, token: Token): Verified | Promise<Verified> {
    const { url } = inspected.trusted.issuer
    // Read before the key is: a set that changes meanwhile costs a second look, never a wrong hit.
    const generation = keys.generation(url)
    const conclude = (isSigned: boolean): Verified | Promise<Verified> => {
      if (!isSigned) throw invalid('the signature does not hold')
      return acceptSigned(inspected, generation, token)
    }
    const verifyBy = (key: KeyObject): Verified | Promise<Verified> => {
      const isSigned = hasSigned(key, inspected)
      return isSigned instanceof Promise ? isSigned.then(conclude) : conclude(isSigned)
    }
    const key = keys.find(url, inspected.header)
    return key instanceof Promise ? key.then(verifyBy) : verifyBy(key)
  }

  function hasSigned(
    key: KeyObject,
    { header: { alg }, input, signature }: Inspected,
  ): boolean | Promise<boolean> {
    if (!isKeyFor(key, alg)) throw invalid('the key is not one for the algorithm')
    return isFirstOfTurn()
      ? isSignedBy(key, alg, input, signature)
      : isSignedByLater(key, alg, input, signature)
  }

  /**
   * One signature in each turn of the event loop is verified at once, which takes a tenth of a
   * millisecond; a crowd goes to other threads, so that nobody waits for all of them.
   */
  function isFirstOfTurn(): boolean {
    if (isTaken) return false
    isTaken = true
    setImmediate(() => {
      isTaken = false
    })
    return true
  }

  /** Of a JWT whose signature holds. */
  function acceptSigned(
    { claims, trusted }: Inspected,
    generation: number | undefined,
    token: Token,
  ): Verified | Promise<Verified> {
    checkRegistered(claims, trusted.audiences)
    // Verified by keys that nobody knows the age of: worth this request, and no other.
    const longest = generation === undefined ? -Infinity : Infinity
    if (trusted.issuer.introspection?.always !== true) {
      return accept(claims, trusted, { generation, until: longest }, token)
    }
    return introspect.ask(trusted.issuer, token, claims).then((said) => {
      const until = Math.min(longest, believedUntil(said.claims, trusted.issuer, seconds()))
      return accept(claims, trusted, { generation, until, askedAt: said.askedAt }, token)
    })
  }

  /** Checks claims that were vouched for, by whichever way, and remembers what they say. */
  function accept(
    claims: Claims,
    { issuer, readPrincipal }: Trusted,
    { generation, until, askedAt }: Warrant,
    { tokenHash }: Token,
  ): Verified {
    const now = seconds()
    const { exp, nbf, iat } = claims
    const principal = readPrincipal(claims)
    const verified: Verified = {
      // AUTHN-18: a logout ends what was said before it, and not the next login.
      principal: iat === undefined && askedAt !== undefined ? { ...principal, askedAt } : principal,
      confirmation: parseConfirmation(claims['cnf']),
      notBefore: typeof nbf === 'number' ? nbf : 0,
      expiresAt: typeof exp === 'number' ? exp : 0,
      generation,
      verifiedAt: now,
      verifyAgainAt: until,
    }
    checkTime(verified, issuer, now)
    checkAge(claims, issuer, now)
    checkBound(verified.confirmation, issuer)
    if (until > now) cache.set(tokenHash, verified)
    return verified
  }
}

function trust(issuer: IssuerConfig, config: Config): Trusted {
  const { audiences = [config.public.url] } = issuer
  return { issuer, audiences, readPrincipal: createReadPrincipal(issuer, config) }
}

/**
 * AUTHN-9: what an issuer said is believed "only if the result has exp, never past it", and no longer
 * than configured.
 */
function believedUntil({ exp }: Claims, issuer: IssuerConfig, now: number): number {
  const { cacheSeconds = 0 } = issuer.introspection ?? {}
  return typeof exp === 'number' ? Math.min(exp, now + cacheSeconds) : -Infinity
}

function invalid(detail: string): Refusal {
  return new Refusal('token-invalid', { detail })
}

import type { JWTPayload } from 'jose'
import type { Config, IssuerConfig } from '../../config/schema.ts'
import type { Arrival, Principal } from '../../exchange.ts'
import {
  claimAt,
  isExcessive,
  parseCodes,
  parseFhirContext,
  parseFhirUser,
  parsePatient,
  parseText,
  parseTime,
} from '../../oauth/claims.ts'
import type { Claims } from '../../oauth/claims.ts'
import { parseConfirmation } from '../../oauth/confirmation.ts'
import type { Confirmation } from '../../oauth/confirmation.ts'
import { parseCredentials } from '../../oauth/credentials.ts'
import { parseExtensions } from '../../oauth/extensions.ts'
import { parseJwtObject } from '../../oauth/jwt-object.ts'
import {
  isKeyFor,
  isSignatureAlgorithm,
  isSignedBy,
  isSignedByLater,
} from '../../oauth/signature.ts'
import type { SignatureAlgorithm } from '../../oauth/signature.ts'
import { parseScopes } from '../../oauth/smart-scope.ts'
import { findLack } from '../../oauth/strength.ts'
import type { Clock, Denylist, Introspection, IssuerKeys, ReplayStore } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import { createIntrospect } from './introspect.ts'
import { createCheckPossession } from './possession.ts'
import type { Shown } from './possession.ts'
import { TokenCache } from './token-cache.ts'
import type { Verified } from './token-cache.ts'

const MOST_CACHED = 10_000

/** What authentication needs from outside. */
export type AuthenticatePorts = {
  readonly keys: IssuerKeys
  readonly clock: Clock
  readonly replays: ReplayStore
  readonly introspection: Introspection
  readonly denylist: Denylist
}

/**
 * Says who asks: one access token, a JWT (RFC 9068) or one its issuer is asked about (RFC 7662), from
 * a configured issuer, for this FHIR base, shown by whom it is bound to. Answers at once for a bearer
 * token that was verified before and still holds.
 */
export function createAuthenticate(
  config: Config,
  ports: AuthenticatePorts,
): (arrival: Arrival) => Principal | Promise<Principal> {
  const { clock, keys } = ports
  const issuers = new Map(config.issuers.map((issuer) => [issuer.url, issuer]))
  const cache = new TokenCache(MOST_CACHED)
  const checkPossession = createCheckPossession(config, ports)
  const introspect = createIntrospect(config, ports)
  /** Whether a signature was verified in this turn of the event loop. */
  let isTaken = false

  return function authenticate(arrival) {
    const { scheme, token } = parseCredentials(arrival.rawHeaders)
    const tokenHash = TokenCache.keyOf(token)
    const known = recall(tokenHash)
    if (known === undefined) {
      return verify(token, tokenHash).then((verified) =>
        prove(verified, { arrival, scheme, tokenHash }),
      )
    }
    return prove(known, { arrival, scheme, tokenHash })
  }

  /** What is known of a token and still holds. Throws Refusal when its time is over. */
  function recall(tokenHash: string): Verified | undefined {
    const known = cache.get(tokenHash)
    if (known === undefined) return undefined
    const now = clock.now() / 1000
    const { generation, principal, verifiedAt, verifyAgainAt } = known
    const isStale = generation !== undefined && generation !== keys.generation(principal.issuer)
    // Also when the clock was set back: nothing is believed longer than it was meant to be.
    if (isStale || now >= verifyAgainAt || now < verifiedAt) {
      cache.delete(tokenHash)
      return undefined
    }
    try {
      checkTime(known, issuers.get(principal.issuer), now)
    } catch (error) {
      cache.delete(tokenHash)
      throw error
    }
    return known
  }

  /** Of a token only what it says is remembered, never that someone once proved to own it. */
  function prove(
    { principal, confirmation }: Pick<Verified, 'principal' | 'confirmation'>,
    shown: Omit<Shown, 'confirmation'>,
  ): Principal | Promise<Principal> {
    // AUTHN-18: on every request, also of a token that is known.
    if (ports.denylist.isDenied(principal)) throw new Refusal('token-revoked')
    const checked = checkPossession({ ...shown, confirmation })
    const conclude = (): Principal => {
      checkStrength(principal, issuers.get(principal.issuer), clock.now() / 1000)
      return principal
    }
    return checked === undefined ? conclude() : checked.then(conclude)
  }

  async function verify(
    token: string,
    tokenHash: string,
  ): Promise<Pick<Verified, 'principal' | 'confirmation'>> {
    const verified = isJwt(token)
      ? await verifyJwt(token, tokenHash)
      : await verifyOpaque(token, tokenHash)
    if (verified.verifyAgainAt > verified.verifiedAt) cache.set(tokenHash, verified)
    return verified
  }

  /** A token that only its issuer can read. */
  async function verifyOpaque(token: string, tokenHash: string): Promise<Verified> {
    const issuer = introspect.opaqueIssuer
    if (issuer === undefined) throw invalid('not a signed JWT')
    const claims = await introspect.ask(issuer, { token, tokenHash })
    return checkClaims(claims, issuer, {
      generation: undefined,
      believedUntil: believedUntil(claims, issuer, clock.now() / 1000),
    })
  }

  /** What is checked of claims that were vouched for, by whichever way. */
  function checkClaims(
    claims: Claims,
    issuer: IssuerConfig,
    { generation, believedUntil }: { generation: number | undefined; believedUntil: number },
  ): Verified {
    const now = clock.now() / 1000
    const principal = principalOf(claims, issuer, config.public.url)
    const confirmation = parseConfirmation(claims['cnf'])
    const { exp: expiresAt = 0, nbf: notBefore = 0 } = claims as JWTPayload
    const verified = {
      ...{ principal, confirmation, notBefore, expiresAt, generation },
      ...{ verifiedAt: now, verifyAgainAt: believedUntil },
    }
    checkTime(verified, issuer, now)
    checkAge(claims, issuer, now)
    checkBound(confirmation, issuer)
    return verified
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

  async function verifyJwt(token: string, tokenHash: string): Promise<Verified> {
    const { issuer, header, claims, input, signature } = inspect(token, issuers)
    // Read before the key is: a set that changes meanwhile costs a second look, never a wrong hit.
    const generation = keys.generation(issuer.url)
    const key = await keys.find(issuer.url, header)
    if (!isKeyFor(key, header.alg)) throw invalid('the key is not one for the algorithm')
    const signed = [key, header.alg, input, signature] as const
    const isSigned = isFirstOfTurn() ? isSignedBy(...signed) : await isSignedByLater(...signed)
    if (!isSigned) throw invalid('the signature does not hold')
    checkRegistered(claims, issuer.audiences ?? [config.public.url])
    let until = Infinity
    if (issuer.introspection?.always === true) {
      const said = await introspect.ask(issuer, { token, tokenHash }, claims)
      until = believedUntil(said, issuer, clock.now() / 1000)
    }
    // Verified by keys that nobody knows the age of: worth this request, and no other.
    if (generation === undefined) until = -Infinity
    return checkClaims(claims, issuer, { generation, believedUntil: until })
  }
}

/**
 * AUTHN-5, RFC 9068 §4: "The resource server MUST validate that the aud claim contains a resource
 * indicator value corresponding to an identifier the resource server expects for itself". `iss` has
 * chosen the issuer, by exact match; the times are looked at on every use.
 */
function checkRegistered(claims: Claims, audiences: readonly string[]): void {
  const { aud, exp, nbf, iat } = claims
  const named: unknown[] = Array.isArray(aud) ? aud : [aud]
  if (!named.some((one) => typeof one === 'string' && audiences.includes(one))) {
    throw invalid('not for this audience')
  }
  // RFC 7519 §2: a NumericDate is a JSON number.
  if (typeof exp !== 'number') throw invalid('no exp')
  for (const time of [exp, nbf ?? 0, iat ?? 0]) {
    if (typeof time !== 'number' || !Number.isFinite(time)) throw invalid('a time cannot be read')
  }
}

/**
 * AUTHN-9: what an issuer said is believed "only if the result has exp, never past it", and no longer
 * than configured.
 */
function believedUntil({ exp }: Claims, issuer: IssuerConfig, now: number): number {
  const { cacheSeconds = 0 } = issuer.introspection ?? {}
  return typeof exp === 'number' ? Math.min(exp, now + cacheSeconds) : -Infinity
}

/** Whether a token reads as a JWT; any other is for its issuer to read. */
function isJwt(token: string): boolean {
  const [head = '', ...rest] = token.split('.')
  if (rest.length !== 2) return false
  try {
    parseJwtObject(head)
    return true
  } catch {
    return false
  }
}

function invalid(detail: string, cause?: unknown): Refusal {
  return new Refusal('token-invalid', { detail, ...(cause === undefined ? {} : { cause }) })
}

/** Rechecks what passes with time; everything else about a verified token stays true. */
function checkTime(known: Verified, issuer: IssuerConfig | undefined, now: number): void {
  const skew = issuer?.clockSkewSeconds ?? 0
  if (now >= known.expiresAt + skew) throw new Refusal('token-expired')
  if (now < known.notBefore - skew) throw invalid('not valid yet')
  const { maximumAgeSeconds } = issuer ?? {}
  if (
    maximumAgeSeconds !== undefined &&
    now - known.principal.issuedAt > maximumAgeSeconds + skew
  ) {
    throw new Refusal('token-expired', { detail: 'older than allowed' })
  }
}

function checkAge(claims: JWTPayload, issuer: IssuerConfig, now: number): void {
  const { iat, exp } = claims
  if (iat !== undefined && iat > now + issuer.clockSkewSeconds)
    throw invalid('issued in the future')
  const { maximumLifetimeSeconds: longest } = issuer
  if (longest !== undefined && !(exp !== undefined && iat !== undefined && exp - iat <= longest)) {
    throw invalid('lives longer than allowed, or does not say')
  }
  if (issuer.maximumAgeSeconds === undefined) return
  if (iat === undefined) throw invalid('no iat, and a maximum age is set')
  if (now - iat > issuer.maximumAgeSeconds + issuer.clockSkewSeconds) {
    throw new Refusal('token-expired', { detail: 'older than allowed' })
  }
}

/** AUTHN-12: an issuer whose tokens are bound issues none that are not. */
function checkBound(confirmation: Confirmation | undefined, { requireBound }: IssuerConfig): void {
  const { thumbprint, certificate } = confirmation ?? {}
  const isBound = {
    none: true,
    dpop: thumbprint !== undefined,
    mtls: certificate !== undefined,
    any: confirmation !== undefined,
  }
  if (!isBound[requireBound]) throw invalid('not bound as this issuer must')
}

/** AUTHN-14: on every request, because the age of a login grows. A client alone has no login. */
function checkStrength(principal: Principal, issuer: IssuerConfig | undefined, now: number): void {
  if (issuer === undefined || principal.kind === 'system') return
  const { acr, amr, withinSeconds } = issuer.strength
  const stepUp = findLack(principal, [{ acr, amr, within: withinSeconds }], now)
  if (stepUp !== undefined) throw new Refusal('strength-insufficient', { stepUp })
}

const KEY_ID = /^[\x21-\x7e]{1,256}$/

type Inspected = {
  readonly issuer: IssuerConfig
  readonly header: { readonly alg: SignatureAlgorithm; readonly kid?: string }
  /** Not verified yet. */
  readonly claims: Claims
  /** What is signed (RFC 7515 §5.1), and the signature, base64url. */
  readonly input: string
  readonly signature: string
}

/** Reads the unverified parts that choose the key, and refuses what no key could mend. */
function inspect(token: string, issuers: ReadonlyMap<string, IssuerConfig>): Inspected {
  const parts = token.split('.')
  if (parts.length !== 3) throw invalid('not a signed JWT')
  const [head = '', body = '', signature = ''] = parts
  if (!/^[\w-]+$/.test(signature)) throw invalid('not a signed JWT')
  let header: Claims
  let claimed: Claims
  try {
    header = parseJwtObject(head)
    claimed = parseJwtObject(body)
  } catch (error) {
    throw invalid('not readable as JWT', error)
  }
  const issuer = typeof claimed['iss'] === 'string' ? issuers.get(claimed['iss']) : undefined
  if (issuer === undefined) throw invalid('not from a configured issuer')
  const { alg, kid, typ } = header
  // AUTHN-4: "Algorithm allow-list per issuer from config, never from header".
  if (typeof alg !== 'string' || !issuer.algorithms.some((allowed) => allowed === alg)) {
    throw invalid('the algorithm is not on the list')
  }
  if (header['crit'] !== undefined) throw invalid('crit is not understood')
  if (kid !== undefined && (typeof kid !== 'string' || !KEY_ID.test(kid))) {
    throw invalid('kid is not of its form')
  }
  if (!isSignatureAlgorithm(alg)) throw invalid('the algorithm is not known')
  checkType(typ, claimed, issuer)
  return {
    ...{ issuer, claims: claimed, signature, input: `${head}.${body}` },
    header: kid === undefined ? { alg } : { alg, kid },
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

/** Whether the issuer marks a token as that of a client itself. */
function isMarked(claims: Claims, { clientMark }: IssuerConfig, clientId?: string): boolean {
  if (clientMark === undefined || clientId === undefined) return false
  return (
    claimAt(claims, clientMark.claim) === clientMark.value.replaceAll('{client}', () => clientId)
  )
}

/** The principal that claims speak of, by the claim paths of their issuer. Throws Refusal. */
export function principalOf(claims: Claims, issuer: IssuerConfig, publicUrl: string): Principal {
  const at = (name: keyof IssuerConfig['claims']): unknown => claimAt(claims, issuer.claims[name])
  const subject = parseText(at('subject')) ?? parseText(claims['sub'])
  // Only an absent `sub` says that there is no end-user; one that cannot be read says nothing.
  if (subject === undefined && claims['sub'] !== undefined) throw invalid('sub cannot be read')
  const clientId =
    parseText(at('client')) ?? parseText(claims['client_id']) ?? parseText(claims['azp'])
  if (subject === undefined && clientId === undefined) throw invalid('neither sub nor client_id')
  // contract: `system/` only for client credentials (`sub` absent or equal to the client id)
  const isClient =
    subject === clientId ||
    subject === parseText(claims['azp']) ||
    isMarked(claims, issuer, clientId)
  // RFC 7662 names the member of an answer; wherever the tokens of its issuer have it.
  const granted = at('scope') ?? claims['scope']
  const scopes = parseScopes(granted, issuer.scopeSeparator === 'comma' ? ',' : ' ')
  const asserted = parseExtensions(claims)
  const roles = [...new Set([...parseCodes(at('roles')), ...asserted.roles])]
  const purposes = [...new Set([...parseCodes(at('purposes')), ...asserted.purposes])]
  if ([roles, purposes].some(isExcessive)) throw invalid('more is said than can be weighed')
  // Introspection may leave `sub` out; a token with scopes of a person is no client's own.
  const isPersonal = scopes.some(({ level }) => level !== 'system')
  const kind =
    subject === undefined ? (isPersonal ? 'user' : 'system') : isClient ? 'system' : 'user'
  return {
    issuer: issuer.url,
    subject,
    clientId,
    kind,
    key: JSON.stringify([issuer.url, subject ?? '', subject === undefined ? clientId : '']),
    scopes,
    patient: parsePatient(at('patient')),
    encounter: parsePatient(at('encounter')),
    context: parseFhirContext(at('fhirContext'), publicUrl),
    fhirUser: parseFhirUser(at('fhirUser'), publicUrl),
    ...{ roles, purposes },
    organization: parseText(at('organization')) ?? asserted.organization,
    audiences: [claims['aud']].flat().filter((each) => typeof each === 'string'),
    acr: parseText(at('acr')),
    amr: parseCodes(at('amr')),
    authTime: parseTime(at('authTime')),
    sessionId: parseText(at('session')),
    tokenId: parseText(at('token')) ?? parseText(claims['jti']),
    issuedAt: typeof claims['iat'] === 'number' ? claims['iat'] : 0,
    expiresAt: typeof claims['exp'] === 'number' ? claims['exp'] : 0,
  }
}

import { declaresEmergency } from './fhir/emergency.ts'
import type { Interaction } from './fhir/interaction.ts'
import type { Identity } from './oauth/extensions.ts'
import type { SmartScope } from './oauth/smart-scope.ts'
import type { Confidentiality, Permit } from './permit.ts'
import type { Clock, Departure } from './ports.ts'
import type { Reason } from './refusal.ts'

/** One HTTP request as it came in, nothing interpreted. */
export type Arrival = {
  readonly method: string
  /** The request target as received, with the public base path taken off: '', '/Patient/1?x=y' … */
  readonly target: string
  /** Lower-case names; from `rawHeaders` (a name that is there twice is joined or dropped by Node). */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** Names and values alternating, exactly as received: the only place where doubles can be seen. */
  readonly rawHeaders: readonly string[]
  /** Address of the peer, or of the client that a trusted proxy vouches for. */
  readonly address: string
  /** DER of the certificate that the client has proved to hold, to us or to a trusted proxy. */
  readonly clientCertificate?: Buffer | undefined
  /** True when it came by plain HTTP where that is not accepted (AUTHN-20). */
  readonly isExposed?: boolean
  /** The unread body; `undefined` when the request has none. */
  readonly body: AsyncIterable<Buffer> | undefined
  /** Aborted when the client goes away before its answer is complete. */
  readonly signal: Departure
}

/** The local identity of a FHIR resource. */
export type ResourceId = { readonly type: string; readonly id: string }

/** Who asks, as vouched for by a verified access token. */
export type Principal = {
  readonly issuer: string
  /** `sub`; identity is (issuer, subject), never an e-mail or name (AUTHN-7). */
  readonly subject: string | undefined
  readonly clientId: string | undefined
  /** `system` = client credentials: no end-user behind the token (SCOPE-15). */
  readonly kind: 'user' | 'system'
  /** Stable key of (issuer, subject or client) for counters; holds no secret. */
  readonly key: string
  readonly scopes: readonly SmartScope[]
  /** Launch context: a bare Patient id (CTX-1). */
  readonly patient: string | undefined
  /** Launch context: a bare Encounter id. Context, not a limit, unless a policy makes it one (CTX-3). */
  readonly encounter?: string | undefined
  /** `fhirContext` of the launch: `Type/id` of resources on our own base. */
  readonly context?: readonly string[]
  /** The person, as a resource on our own base (CTX-2); a foreign one is undefined. */
  readonly fhirUser: ResourceId | undefined
  readonly roles: readonly string[]
  /** v3-ActReason codes the token was issued for (AUTHN-17). */
  readonly purposes: readonly string[]
  readonly organization: string | undefined
  /** What UDAP and IUA say of the person and their consent (UDAP-1, IUA-1). */
  readonly identity?: Identity | undefined
  /** `aud` of the token. */
  readonly audiences?: readonly string[]
  /** How the person authenticated, and when (seconds since the epoch), as far as the token says. */
  readonly acr?: string | undefined
  readonly amr?: readonly string[]
  readonly authTime?: number | undefined
  /** `sid`: the session at the issuer that the token belongs to. */
  readonly sessionId?: string | undefined
  /** `jti`, for audit. */
  readonly tokenId: string | undefined
  /** `iat` and `exp`: seconds since the epoch; `issuedAt` is 0 when the token does not say. */
  readonly issuedAt: number
  readonly expiresAt: number
  /** When the issuer was asked about a token that does not say `iat`, by our clock. */
  readonly askedAt?: number
}

/** What release counted. Grows until the last byte of the answer has left (a guard that examined
 * nothing must not report success). */
export type Tally = {
  inspected: number
  released: number
  withheld: number
  /** Masked values by rule: `ssn`, `payment-card` … */
  readonly masked: Map<string, number>
  /** Bare ids of the patients whose data was released. */
  readonly patients: Set<string>
  /** `Type/id` of all that was released so far, where what follows may be about it. */
  readonly seen?: Set<string>
  /** The highest confidentiality of what was released. */
  confidentiality?: Confidentiality
  /** `Type/id` of the single resource released or written, when there is exactly one. */
  resource: string | undefined
}

/**
 * What sanitize makes of an upstream answer: a success whose status, headers and media type are fit
 * to be said. Its body is FHIR JSON that nobody has judged yet.
 */
export type FitAnswer = {
  readonly status: number
  /** Only `etag`, `last-modified`, `location`, `content-location`, `retry-after`, as upstream wrote them. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | AsyncIterable<Buffer> | undefined
}

/** A request whose body, if it has one, is read: what authorize judges. */
export type Inquiry = {
  readonly arrival: Arrival
  readonly interaction: Interaction
  /** Bytes of the body (not the form of a search, which is in the parameters already). */
  readonly body: Buffer | undefined
  /** What the criteria of a conditional interaction came to, when that is known already. */
  readonly match?: Match
}

/** The one resource that criteria match within the caller's view, or none. */
export type Match = { readonly id: string | undefined }

/** The answer that leaves, already fit to be said. */
export type Answer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer | AsyncIterable<Buffer> | undefined
  /** Whom it counts against until it is taken. */
  readonly holder?: string | undefined
}

/** How an exchange ended. */
export type Outcome = 'released' | 'refused' | 'failed' | 'aborted'

/** What the stages find out about an exchange, each once. */
export type Facts = {
  readonly interaction: Interaction
  readonly principal: Principal
  readonly permit: Permit
  readonly upstreamStatus: number
  readonly tally: Tally
  /** Why it was refused or failed; absent when released. */
  readonly reason: Reason
  /** Private detail of the refusal, for the log only. */
  readonly detail: string
  /** Whether it was refused because something is kept from the caller, who hears of a miss. */
  readonly withholds: boolean
  /** Status of the answer that left. */
  readonly status: number
  readonly outcome: Outcome
}

/**
 * The append-only record of one request and its answer. Every stage writes its result once; audit,
 * metrics and detection read it at the end.
 */
export class Exchange {
  readonly id: string
  readonly arrival: Arrival
  /** Milliseconds since the epoch. */
  readonly startedAt: number
  /** Seconds by stage, in the order they ran. */
  readonly timings: (readonly [stage: string, seconds: number])[] = []
  /** Who holds its place: its address at first, then its principal; nobody when it has none. */
  holder: string | undefined = undefined
  readonly #clock: Clock
  readonly #begun: number
  #lapped: number
  /** All are there from the beginning, so that every exchange has one shape. */
  readonly #facts: { -readonly [F in keyof Facts]: Facts[F] | undefined } = {
    interaction: undefined,
    principal: undefined,
    permit: undefined,
    upstreamStatus: undefined,
    tally: undefined,
    reason: undefined,
    detail: undefined,
    withholds: undefined,
    status: undefined,
    outcome: undefined,
  }

  constructor(id: string, arrival: Arrival, clock: Clock) {
    this.id = id
    this.arrival = arrival
    this.startedAt = clock.now()
    this.#clock = clock
    this.#begun = clock.monotonic()
    this.#lapped = this.#begun
  }

  get facts(): Readonly<Partial<Facts>> {
    return this.#facts as Partial<Facts>
  }

  /** Whether an emergency was declared by somebody known, and no glass broke (BTG-1). */
  get isEmergencyRefused(): boolean {
    const { principal, permit } = this.#facts
    if (principal === undefined || permit?.breakGlass !== undefined) return false
    return declaresEmergency(this.arrival.headers)
  }

  /** Seconds since the request arrived. */
  get elapsed(): number {
    return (this.#clock.monotonic() - this.#begun) / 1000
  }

  /** Ends a stage: what has passed since the last lap is its time. */
  lap(stage: string): void {
    const now = this.#clock.monotonic()
    this.timings.push([stage, (now - this.#lapped) / 1000])
    this.#lapped = now
  }

  /**
   * The one change to what was written: for want of its audit record the answer did not leave, or not all
   * of it. `status` is that of what left instead, if anything could.
   */
  endUnrecorded(status: number | undefined): void {
    Object.assign(this.#facts, { reason: 'audit-unavailable', detail: '', outcome: 'failed' })
    if (status !== undefined) this.#facts.status = status
  }

  /** Writes one fact and hands it back. Writing the same fact twice is a fault of ours and throws. */
  record<F extends keyof Facts>(fact: F, value: Facts[F]): Facts[F] {
    if (this.#facts[fact] !== undefined) throw new Error(`fact "${fact}" written twice`)
    this.#facts[fact] = value
    return value
  }
}

/** Reads a finished exchange: metrics and log. One call per event, so they cannot drift apart. */
export type Observer = { readonly exchangeEnded: (exchange: Exchange) => void }

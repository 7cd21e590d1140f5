import type { KeyObject } from 'node:crypto'

/** Time, so that tests can hold it still. */
export type Clock = {
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Milliseconds on a clock that never jumps; only differences mean anything. */
  readonly monotonic: () => number
}

/** Tells when a client goes away before its answer is complete: of an AbortSignal what is asked of it. */
export type Departure = {
  readonly aborted: boolean
  /** `listener` is called once at most, and not when it has happened already. */
  readonly addEventListener: (type: 'abort', listener: () => void) => void
  readonly removeEventListener: (type: 'abort', listener: () => void) => void
}

/** What upstream is sent: one canonical request, built from the permit alone. */
export type UpstreamRequest = {
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** Relative to the upstream FHIR base, percent-encoded; '' or starts with '/'. */
  readonly path: string
  /** Without '?'; '' for none. */
  readonly query: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: Buffer
  /** The answer may be of any size: it is released line by line and never held as a whole. */
  readonly isBulk?: true
  /** Aborted when the client goes away: the upstream request is cancelled with it. */
  readonly signal: Departure
}

/** What upstream said, unjudged. Small bodies come as one Buffer, larger ones as a stream. */
export type UpstreamAnswer = {
  readonly status: number
  /** Lower-case names; a repeated header is an array. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Buffer | AsyncIterable<Buffer>
}

/** The FHIR server behind us. Throws {@link Refusal} `upstream-unreachable` or `upstream-timeout`. */
export type Upstream = (request: UpstreamRequest) => Promise<UpstreamAnswer>

/** A rate: `burst` at once, refilled by `perSecond`. */
export type Rate = { readonly burst: number; readonly perSecond: number }

/** The answer of a counter: `retryAfter` is seconds, whole, 0 when allowed. */
export type Taken = { readonly allowed: boolean; readonly retryAfter: number }

/** What is limited: one family of counters each. */
export type Bucket = 'address' | 'principal' | 'failures' | 'rule'

/** `cost` cells of `rate`, to be taken from the counter of `key` in `bucket`; `cost` 0 only looks. */
export type Asked = {
  readonly bucket: Bucket
  readonly key: string
  readonly rate: Rate
  readonly cost: number
}

/** The counter that had too few. `retryAfter` is seconds, whole. */
export type Shortage = { readonly bucket: Bucket; readonly retryAfter: number }

/** Takes from one counter after the other, up to the first that has too few; undefined: all had. */
export type Take = (...counters: readonly Asked[]) => Promise<Shortage | undefined>

/** Generic cell rate counters, one per key (RATE-1, RATE-5). */
export type CounterStore = {
  /**
   * Takes `cost` cells of `rate` from the counter `key`; takes nothing when there are too few.
   * `cost` 0 takes nothing and tells whether one cell is left.
   */
  readonly take: (key: string, rate: Rate, cost: number) => Taken | Promise<Taken>
  readonly close: () => Promise<void>
}

/**
 * Remembers what may be used once (AUTHN-11: the `jti` of a DPoP proof). It never forgets early: when
 * it is full, or cannot tell, it rejects, and the request is refused (`replay-unavailable`).
 */
export type ReplayStore = {
  /**
   * Remembers `key` for `seconds` (whole, positive) at least, in one step with the look-up: of two
   * callers at the same moment one alone is told true.
   *
   * @returns true when the key was new; false when it was remembered already, whose time is then
   *   left as it is
   */
  readonly remember: (key: string, seconds: number) => Promise<boolean>
  readonly close: () => Promise<void>
}

/** Signs JWTs of the gateway's own. */
export type Signer = {
  /** A compact JWS over these claims, as they are. */
  readonly sign: (claims: Readonly<Record<string, unknown>>) => Promise<string>
}

/** Asks issuers about tokens (RFC 7662). */
export type Introspection = {
  /**
   * What the issuer says of a token: JSON nobody has judged yet. Throws {@link Refusal}
   * `issuer-unavailable` when it cannot be asked or does not answer as it should.
   */
  readonly ask: (issuer: string, token: string) => Promise<unknown>
}

/** What a token says of itself that a denial can be about. */
export type DeniableToken = {
  readonly issuer: string
  readonly subject: string | undefined
  readonly clientId: string | undefined
  readonly tokenId: string | undefined
  readonly sessionId?: string | undefined
  /** Seconds since the epoch; 0 when the token does not say. */
  readonly issuedAt: number
  /** When its issuer was asked about a token that does not say, by our clock. */
  readonly askedAt?: number
}

/** Tokens that are not accepted any more, whatever they say (AUTHN-18). Asked on every request. */
export type Denylist = { readonly isDenied: (token: DeniableToken) => boolean }

/** A person or a session that was logged out at its issuer; at least one of both is named. */
export type LoggedOut = {
  readonly issuer: string
  readonly subject: string | undefined
  readonly sessionId: string | undefined
  /** When it was; seconds since the epoch. */
  readonly at: number
}

/** Where audit records go: append-only, in order, one JSON text a line. */
export type AuditSink = {
  /** False once an append has failed and none has succeeded since: new requests are refused. */
  readonly isReady: () => boolean
  /**
   * Resolves when the records are handed to the operating system, rejects when they are not. Each
   * record is the JSON text of one AuditEvent, without line end.
   */
  readonly append: (records: readonly string[]) => Promise<void>
  /** Flushes to disk and closes. */
  readonly close: () => Promise<void>
}

/** Operational log. Fields are an allow-list at the call site: no tokens, values or bodies. */
export type Log = {
  readonly debug: (fields: object, message: string) => void
  readonly info: (fields: object, message: string) => void
  readonly warn: (fields: object, message: string) => void
  readonly error: (fields: object, message: string) => void
}

/** The verification keys of the configured issuers, kept fresh in the background. */
export type IssuerKeys = {
  /**
   * The key for a token header. Answers at once while the key is known; an unknown `kid` may cause
   * one bounded refetch. Throws {@link Refusal} `token-invalid` (no such key) or
   * `issuer-unavailable` (nothing known and the issuer does not answer).
   */
  readonly find: (
    issuer: string,
    header: { readonly alg: string; readonly kid?: string },
  ) => KeyObject | Promise<KeyObject>
  /** Endpoints from discovery, for `.well-known/smart-configuration`; undefined until known. */
  readonly metadata: (issuer: string) => Readonly<Record<string, unknown>> | undefined
  /** Grows whenever the issuer's set of keys changes: what an older set verified proves nothing. */
  readonly generation: (issuer: string) => number | undefined
  /** Whether the issuer has said that it has no keys: its tokens are for itself to read. */
  readonly isKeyless: (issuer: string) => boolean
  /** Whether every issuer's keys are known, or that it has none. */
  readonly isReady: () => boolean
  readonly close: () => Promise<void>
}

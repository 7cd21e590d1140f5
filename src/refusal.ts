/**
 * Every way to say no, in one table. A reason is at once the log field, the metric label, the audit
 * outcome and `OperationOutcome.issue.details.coding.code`; the public text comes only from here.
 * Private detail (what exactly was wrong) travels in `Refusal.detail` and goes only to the log.
 *
 * Source of statuses and issue codes: HL7 FHIR R4 issue-type, RFC 6750 §3, RFC 9110 §15, RFC 6585,
 * RFC 9449 §7.
 */

import type { ChallengeError } from './oauth/challenge.ts'
import type { StepUp } from './oauth/strength.ts'

/** One row: what a caller is told. `challenge` is the error code of RFC 6750 §3.1 or
 * RFC 9449 §7.1 ('' = bare challenge). */
type Row = {
  readonly status: number
  readonly issue: string
  readonly challenge?: '' | ChallengeError
  /** What a caller is told instead: which of several checks failed is for the log alone. */
  readonly shownAs?: 'token-invalid'
  /** Seconds after which trying again makes sense. */
  readonly retryAfter?: number
  /** Whether the connection must end, because unread bytes of the request may follow. */
  readonly close?: true
  readonly text: string
}

const NOT_ACCEPTED =
  'The access token was not accepted. Get a new one from your authorization server, for this FHIR server as audience.'

export const REFUSALS = {
  // On what way?
  'tls-required': {
    status: 403,
    issue: 'security',
    close: true,
    text: 'This gateway is used over HTTPS only. Use an https address; whatever was sent here could be read on the way, so have the access token replaced.',
  },

  // Who asks?
  'credentials-missing': {
    status: 401,
    issue: 'login',
    challenge: '',
    text: 'This address needs an access token. Send it as "Authorization: Bearer <token>".',
  },
  'credentials-malformed': {
    status: 400,
    issue: 'invalid',
    challenge: 'invalid_request',
    text: 'The credentials cannot be read. Send exactly one access token, in the Authorization header only.',
  },
  'token-invalid': {
    status: 401,
    issue: 'unknown',
    challenge: 'invalid_token',
    text: NOT_ACCEPTED,
  },
  'token-expired': {
    status: 401,
    issue: 'unknown',
    challenge: 'invalid_token',
    shownAs: 'token-invalid',
    text: NOT_ACCEPTED,
  },
  'token-revoked': {
    status: 401,
    issue: 'unknown',
    challenge: 'invalid_token',
    shownAs: 'token-invalid',
    text: NOT_ACCEPTED,
  },
  'strength-insufficient': {
    status: 401,
    issue: 'login',
    challenge: 'insufficient_user_authentication',
    text: 'This takes a stronger or more recent login. Ask your authorization server for a new access token, with the acr_values and max_age in the WWW-Authenticate header.',
  },
  'issuer-unavailable': {
    status: 503,
    issue: 'transient',
    retryAfter: 5,
    text: 'The access token cannot be checked at the moment, because the authorization server does not answer. Try again shortly.',
  },
  'proof-invalid': {
    status: 401,
    issue: 'security',
    challenge: 'invalid_dpop_proof',
    text: 'The DPoP proof was not accepted. Send a new one with every request: for this method, this address and this access token, signed with the key the token is bound to.',
  },
  'proof-nonce': {
    status: 401,
    issue: 'security',
    challenge: 'use_dpop_nonce',
    text: 'The DPoP proof must hold the nonce in the DPoP-Nonce header of this answer. Make a new proof with it and send the request again.',
  },
  'replay-unavailable': {
    status: 503,
    issue: 'transient',
    retryAfter: 5,
    text: 'Whether the DPoP proof was used before cannot be told at the moment. Try again shortly, with a new proof.',
  },

  // May they?
  'scope-insufficient': {
    status: 403,
    issue: 'forbidden',
    challenge: 'insufficient_scope',
    text: 'The scopes of the access token do not cover this interaction. Ask for a token with the SMART scope it needs.',
  },
  'policy-denied': {
    status: 403,
    issue: 'forbidden',
    text: 'No policy permits this interaction for you. Ask the operator of this server, naming the request id.',
  },
  'compartment-denied': {
    status: 403,
    issue: 'forbidden',
    text: 'The resource belongs to another patient, names one or what is not of your own patient, is a new Patient, or is of none that can be told. Write only within your own patient context.',
  },
  'parameter-forbidden': {
    status: 400,
    issue: 'not-supported',
    text: 'This search parameter, modifier or chain is not permitted for you. Leave it out and search again.',
  },
  'cannot-narrow': {
    status: 403,
    issue: 'not-supported',
    text: 'The FHIR server cannot be asked this for only what you may see. Search each resource type by itself, or ask for the history of one resource.',
  },
  'interaction-refused': {
    status: 403,
    issue: 'not-supported',
    text: 'This interaction is not offered through this gateway. Its capability statement (/metadata) lists those that are.',
  },
  'operation-refused': {
    status: 403,
    issue: 'not-supported',
    text: 'This operation is not offered through this gateway. Its capability statement (/metadata) lists those that are.',
  },
  'not-found': {
    status: 404,
    issue: 'not-found',
    text: 'There is no such resource here. Check its type and id.',
  },

  // What is asked?
  'target-malformed': {
    status: 400,
    issue: 'value',
    text: 'The address is not a well-formed FHIR address. Check its path and percent-encoding.',
  },
  'interaction-unknown': {
    status: 404,
    issue: 'not-supported',
    text: 'This address is not a FHIR interaction. Check the resource type and the path; FHIR addresses are case-sensitive.',
  },
  'method-not-allowed': {
    status: 405,
    issue: 'not-supported',
    text: 'This address does not take this method. The Allow header lists those it takes.',
  },
  'parameter-unknown': {
    status: 400,
    issue: 'not-supported',
    text: 'A search parameter is not known for this resource type. The capability statement (/metadata) lists those that are.',
  },
  'parameter-malformed': {
    status: 400,
    issue: 'value',
    text: 'A parameter has a name, modifier or value that cannot be read. Check it against the FHIR search rules.',
  },
  'header-malformed': {
    status: 400,
    issue: 'value',
    text: 'A request header cannot be read, or is there twice. Send each header once, in its standard form.',
  },
  'not-acceptable': {
    status: 406,
    issue: 'not-supported',
    text: 'Only FHIR JSON of one version is offered here. Ask for "application/fhir+json".',
  },
  'media-type-unsupported': {
    status: 415,
    issue: 'not-supported',
    text: 'The body must be FHIR JSON ("application/fhir+json") of the version offered here, not compressed; a search by POST must be a form.',
  },
  'body-malformed': {
    status: 400,
    issue: 'structure',
    text: 'The body is not well-formed FHIR JSON. Check it against the JSON and FHIR format rules.',
  },
  'body-mismatch': {
    status: 400,
    issue: 'value',
    text: 'The body does not agree with the address. Its resourceType and id must be those in the address.',
  },
  'body-rule-broken': {
    status: 422,
    issue: 'business-rule',
    text: 'The resource would break a rule of this gateway, such as storing masked values or lowering a security label. Correct it and send it again.',
  },
  'reference-is-search': {
    status: 422,
    issue: 'business-rule',
    text: 'A reference in the resource is a search, which only a transaction may have. Search first, and refer to what you find by its type and id.',
  },
  'body-hides': {
    status: 422,
    issue: 'business-rule',
    text: 'The resource holds values that are masked for you, and this change to it would lose or alter them. Leave the element that is named as you read it, or ask somebody who sees it whole.',
  },
  'body-unseen': {
    status: 422,
    issue: 'business-rule',
    text: 'This change would lose or alter what some answers, such as those of a search, do not show you, and whether you have seen it cannot be told. Leave the element that is named as a read shows it, or change it by a JSON Patch that tests its value first.',
  },
  'body-too-large': {
    status: 413,
    issue: 'too-long',
    close: true,
    text: 'The body is larger than this gateway takes. Send less at once.',
  },
  'target-too-long': {
    status: 414,
    issue: 'too-long',
    close: true,
    text: 'The address is longer than this gateway takes. Search by POST, or ask for less at once.',
  },
  'headers-too-large': {
    status: 431,
    issue: 'too-long',
    close: true,
    text: 'The request headers are larger than this gateway takes. Send fewer or shorter ones.',
  },
  'precondition-failed': {
    status: 412,
    issue: 'conflict',
    text: 'The resource is not in the version that the request expects. Read it again and repeat the change.',
  },
  hidden: {
    status: 403,
    issue: 'forbidden',
    text: 'You may not see this resource. Ask the operator of this server, naming the request id.',
  },
  'page-gone': {
    status: 404,
    issue: 'not-found',
    text: 'This page link is not valid any more, or not yours. Repeat the search and follow its links.',
  },
  'export-gone': {
    status: 404,
    issue: 'not-found',
    text: 'This address of a bulk export is not valid any more, or not yours. Begin the export again.',
  },
  'multiple-matches': {
    status: 412,
    issue: 'multiple-matches',
    text: 'The criteria of this conditional request match more than one resource. Make them narrower and repeat the request.',
  },
  conflict: {
    status: 409,
    issue: 'conflict',
    text: 'The change conflicts with the present state of the resource. Read it again and repeat the change.',
  },
  gone: {
    status: 410,
    issue: 'deleted',
    text: 'The resource has been deleted.',
  },
  'rejected-upstream': {
    status: 422,
    issue: 'processing',
    text: 'The FHIR server did not accept the resource or the search. Check it against the FHIR definitions of its type.',
  },

  // How much?
  'rate-exceeded': {
    status: 429,
    issue: 'throttled',
    retryAfter: 1,
    text: 'Too many requests. Wait for the time in the Retry-After header, then go on more slowly.',
  },
  'searches-too-many': {
    status: 422,
    issue: 'too-costly',
    text: 'The transaction holds too many references that are searches (such as "Patient?identifier=…"). Refer to resources by their id, or send it in parts.',
  },
  overloaded: {
    status: 503,
    issue: 'transient',
    retryAfter: 2,
    text: 'The gateway is busy or stopping. Try again shortly.',
  },
  'request-timeout': {
    status: 408,
    issue: 'timeout',
    close: true,
    text: 'The request did not arrive in time. Send it again.',
  },

  // What came back?
  'upstream-unreachable': {
    status: 502,
    issue: 'transient',
    text: 'The FHIR server cannot be reached. Try again shortly.',
  },
  'upstream-timeout': {
    status: 504,
    issue: 'timeout',
    text: 'The FHIR server did not answer in time. Try again, or ask for less at once.',
  },
  'upstream-failed': {
    status: 502,
    issue: 'transient',
    text: 'The FHIR server failed on this request. Try again; if it persists, tell the operator the request id.',
  },
  'upstream-busy': {
    status: 503,
    issue: 'transient',
    retryAfter: 5,
    text: 'The FHIR server is busy. Try again shortly.',
  },
  'upstream-unreadable': {
    status: 502,
    issue: 'transient',
    text: 'The FHIR server sent an answer that cannot be checked, so it was not passed on. Tell the operator the request id.',
  },

  'upstream-credentials': {
    status: 503,
    issue: 'transient',
    retryAfter: 5,
    text: 'The gateway has no valid credentials for the FHIR server at the moment. Try again shortly.',
  },

  // We ourselves
  'audit-unavailable': {
    status: 503,
    issue: 'no-store',
    retryAfter: 5,
    text: 'The access cannot be recorded at the moment, so it was not carried out or its result is withheld. Try again shortly.',
  },
  'not-ready': {
    status: 503,
    issue: 'transient',
    retryAfter: 2,
    text: 'The gateway is starting and has not reached the FHIR server yet. Try again shortly.',
  },
  internal: {
    status: 500,
    issue: 'exception',
    text: 'The gateway could not complete the request. Tell the operator the request id.',
  },
} as const satisfies Record<string, Row>

/** The closed set of reasons; the only values a `reason` label, log field or coding ever has. */
export type Reason = keyof typeof REFUSALS

/** What a refusal may carry besides its reason. */
export type RefusalOptions = {
  /** For the log only; never sent. Must not hold tokens, query values or body text. */
  readonly detail?: string
  readonly cause?: unknown
  /** Response headers this very refusal needs (`Allow`, `Retry-After` …). */
  readonly headers?: Readonly<Record<string, string>>
  /** The name (never the value) of the parameter or header at fault; must be a known, safe name. */
  readonly parameter?: string
  /** The element it is about, as names from the resource down; must be of the caller's own view. */
  readonly element?: string
  /**
   * Something is there, or may be, and is kept from the caller: a denial on record (BALP: 8), whatever the
   * reason makes of it outside (AUD-1, C1).
   */
  readonly withholds?: boolean
  /** With `strength-insufficient`: what the challenge asks for. */
  readonly stepUp?: StepUp
  /** With `scope-insufficient`: the scope that would do, as the challenge says it. */
  readonly scope?: string
}

/** Thrown by any stage; rendered in one place (`stages/sanitize`), recorded in one place. */
export class Refusal extends Error {
  override readonly name = 'Refusal'
  readonly reason: Reason
  readonly detail: string | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly parameter: string | undefined
  /** The element it is about, as names from the resource down. */
  readonly element: string | undefined
  readonly withholds: boolean
  readonly stepUp: StepUp | undefined
  readonly scope: string | undefined

  constructor(reason: Reason, options: RefusalOptions = {}) {
    super(reason, options.cause === undefined ? undefined : { cause: options.cause })
    this.reason = reason
    this.detail = options.detail
    this.headers = options.headers ?? {}
    this.parameter = options.parameter
    this.element = options.element
    this.withholds = options.withholds ?? false
    this.stepUp = options.stepUp
    this.scope = options.scope
  }

  /** The row of the table for this reason. */
  get row(): Row {
    return REFUSALS[this.reason]
  }
}

/** Whether a string is a reason of the table. */
export function isReason(text: string): text is Reason {
  return Object.hasOwn(REFUSALS, text)
}

/**
 * Makes a refusal of anything thrown. The pure rooms (`fhir/`, `oauth/`, `http/`, `json/`) may not
 * know this table; their errors carry a `reason` that is one of its keys. Whatever else is thrown is
 * a fault of ours: `internal`, fail closed.
 */
export function toRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof Error && 'reason' in error && typeof error.reason === 'string') {
    if (isReason(error.reason)) {
      const parameter =
        'parameter' in error && typeof error.parameter === 'string'
          ? { parameter: error.parameter }
          : {}
      return new Refusal(error.reason, {
        detail: error.message,
        cause: error,
        ...parameter,
        ...headersOf(error),
      })
    }
  }
  return new Refusal('internal', { cause: error })
}

/** Response headers that an error of a pure room asks for (`Allow`), when they are plain strings. */
function headersOf(error: Error): { headers?: Readonly<Record<string, string>> } {
  if (!('headers' in error) || typeof error.headers !== 'object' || error.headers === null)
    return {}
  const pairs = Object.entries(error.headers).filter(
    (pair): pair is [string, string] => typeof pair[1] === 'string',
  )
  return { headers: Object.fromEntries(pairs) }
}

import { randomUUID } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

/** Request headers as RFC 9110 and RFC 9112 want them, before anything reads them. */

/** A header that cannot be accepted. `parameter` names it; its value is never repeated. */
export class HeaderError extends Error {
  override readonly name = 'HeaderError'
  readonly reason: 'header-malformed' | 'media-type-unsupported' | 'not-acceptable'
  readonly parameter: string | undefined

  constructor(reason: HeaderError['reason'], message: string, parameter?: string) {
    super(message)
    this.reason = reason
    this.parameter = parameter
  }
}

/**
 * RFC 9110 §5.3: "A sender MUST NOT generate multiple field lines with the same name" unless the
 * field is a list. Node keeps the first of some and joins others; an upstream may do otherwise, so
 * each of these is taken once or not at all. (`authorization` has an answer of its own, see oauth/.)
 */
const SINGLE = new Set([
  'host',
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'if-match',
  'if-none-match',
  'if-modified-since',
  'if-unmodified-since',
  'if-none-exist',
  'x-request-id',
  'prefer',
  'x-provenance',
  'category',
])

/**
 * Throws HeaderError on a doubled single-valued header, when Host is missing, or on a transfer coding
 * other than chunked: node takes off no other, so the body would not be what its sender meant.
 */
export function checkHeaders(rawHeaders: readonly string[]): void {
  let seen = ''
  let host = false
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] ?? '').toLowerCase()
    if (name === 'host') {
      if (host) throw new HeaderError('header-malformed', 'Host is there twice', 'Host')
      host = true
    } else if (SINGLE.has(name)) {
      const mark = `\n${name}\n`
      if (seen.includes(mark)) {
        throw new HeaderError('header-malformed', 'a single-valued header is there twice', name)
      }
      seen += mark
      if (name === 'transfer-encoding' && rawHeaders[i + 1]?.trim().toLowerCase() !== 'chunked') {
        throw new HeaderError('header-malformed', 'a transfer coding other than chunked', name)
      }
    }
  }
  if (!host) throw new HeaderError('header-malformed', 'Host is missing', 'Host')
}

const REQUEST_ID = /^[A-Za-z0-9._-]{1,64}$/

/** The caller's request id when it is safe to repeat (HTTP-6), otherwise undefined. */
export function parseRequestId(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' && REQUEST_ID.test(value) ? value : undefined
}

/** By which a request is told from others: the caller's own id, or a new one. */
export function requestIdOf(headers: IncomingHttpHeaders): string {
  return parseRequestId(headers['x-request-id']) ?? randomUUID()
}

/** The caller's correlation id comes back with the answer, when it is safe to repeat (HTTP-6). */
export function correlationOf(headers: IncomingHttpHeaders): Readonly<Record<string, string>> {
  const id = parseRequestId(headers['x-correlation-id'])
  return id === undefined ? NONE : { 'x-correlation-id': id }
}
const NONE: Readonly<Record<string, string>> = {}

/** `return=` of Prefer (RFC 7240) when it is one FHIR knows; whatever else it says is not repeated. */
export function parsePreferReturn(
  value: string | string[] | undefined,
): 'minimal' | 'representation' | 'OperationOutcome' | undefined {
  if (typeof value !== 'string') return undefined
  const found = /(?:^|[,;\s])return="?(minimal|representation|OperationOutcome)"?(?:$|[,;\s])/.exec(
    value,
  )
  return found?.[1] as 'minimal' | 'representation' | 'OperationOutcome' | undefined
}

/** Headers on every answer (HTTP-5, REST-16): clinical data is never stored or framed on its way. */
const SAFE_HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  vary: 'Authorization, Accept, Prefer, Origin',
}

/** What says whether clients come by TLS. */
type Listening = {
  readonly tls: {
    readonly certificateFile?: string | undefined
    readonly terminatedBy?: string | undefined
  }
  readonly public: { readonly url: string }
}

/**
 * The headers on every answer. RFC 6797 §7.2: Strict-Transport-Security "MUST NOT" be on an answer
 * over plain HTTP.
 */
export function safeHeaders({ tls, public: { url } }: Listening): Readonly<Record<string, string>> {
  const isTls =
    tls.certificateFile !== undefined || (tls.terminatedBy === 'proxy' && url.startsWith('https:'))
  return isTls ? { ...SAFE_HEADERS, 'strict-transport-security': 'max-age=31536000' } : SAFE_HEADERS
}

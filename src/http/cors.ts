/** Cross-origin requests of browsers (https://fetch.spec.whatwg.org/#http-cors-protocol). */

type Headers = Readonly<Record<string, string | string[] | undefined>>

/** What an app may read of an answer besides its body (DISC-5). */
const EXPOSED =
  'Location, Content-Location, ETag, Last-Modified, WWW-Authenticate, DPoP-Nonce, X-Request-Id, Retry-After'
const METHODS = 'GET, HEAD, POST, PUT, PATCH, DELETE'
const TAKEN =
  'Authorization, DPoP, Accept, Content-Type, If-Match, If-None-Match, If-Modified-Since, If-None-Exist, Prefer, X-Request-Id, X-Break-Glass-Reason'
/** Seconds for which a browser need not ask again. */
const REMEMBERED = '600'

/**
 * Headers that let a registered origin read the answer, refusals too; none for any other. Never `*`
 * and never with credentials: who asks is in the Authorization header alone.
 */
export function corsHeaders(
  headers: Headers,
  registered: ReadonlySet<string>,
): Readonly<Record<string, string>> {
  const { origin } = headers
  if (typeof origin !== 'string' || !registered.has(origin)) return NONE
  return { 'access-control-allow-origin': origin, 'access-control-expose-headers': EXPOSED }
}
const NONE: Readonly<Record<string, string>> = {}

/** Whether a request is a browser asking whether it may ask. */
export function isPreflight(method: string | undefined, headers: Headers): boolean {
  return (
    method === 'OPTIONS' &&
    headers['origin'] !== undefined &&
    headers['access-control-request-method'] !== undefined
  )
}

/**
 * The answer to a preflight; it tells nothing that is not in this file. `isPublic`: any origin may
 * read what stands there (metadata and its like), with GET and without a token.
 */
export function answerPreflight(
  headers: Headers,
  registered: ReadonlySet<string>,
  isPublic: boolean,
): Readonly<Record<string, string>> {
  const vary = 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'
  const allowed = corsHeaders(headers, registered)
  if (allowed !== NONE) {
    return {
      ...{ vary, 'access-control-allow-origin': String(headers['origin']) },
      'access-control-allow-methods': METHODS,
      'access-control-allow-headers': TAKEN,
      'access-control-max-age': REMEMBERED,
    }
  }
  if (!isPublic) return { vary }
  return {
    ...{ vary, 'access-control-allow-origin': '*', 'access-control-allow-methods': 'GET, HEAD' },
    'access-control-allow-headers': 'Accept',
    'access-control-max-age': REMEMBERED,
  }
}

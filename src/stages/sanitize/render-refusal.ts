import type { Config } from '../../config/schema.ts'
import type { Answer } from '../../exchange.ts'
import { formatOperationOutcome } from '../../fhir/operation-outcome.ts'
import { protectedResourceUrl } from '../../oauth/protected-resource.ts'
import { formatChallenge } from '../../oauth/challenge.ts'
import type { Challenge } from '../../oauth/challenge.ts'
import type { Refusal } from '../../refusal.ts'

/** The one place where a refusal becomes an answer: status, challenge, OperationOutcome (ERR-1). */
export function createRenderRefusal(
  config: Config,
): (refusal: Refusal, requestId: string, scheme?: Challenge['scheme']) => Answer {
  const challenge = createChallenge(config)
  return function renderRefusal(refusal, requestId, scheme) {
    const { row } = refusal
    const headers: Record<string, string> = {
      'content-type': 'application/fhir+json; charset=utf-8',
      ...refusal.headers,
    }
    if (row.challenge !== undefined) {
      headers['www-authenticate'] = challenge(row.challenge, scheme, askedBy(refusal))
    }
    // ERR-6: a refusal that passes says when to come back.
    if (row.retryAfter !== undefined) headers['retry-after'] ??= String(row.retryAfter)
    if (row.close === true) headers['connection'] = 'close'
    const body = formatOperationOutcome({
      severity: row.status === 500 ? 'fatal' : 'error',
      code: row.issue,
      reason: row.shownAs ?? refusal.reason,
      text: row.text,
      id: requestId,
      ...expressionOf(refusal),
    })
    return { status: row.status, headers, body: Buffer.from(body) }
  }
}

/** What a challenge asks for: RFC 6750 §3 `scope`, RFC 9470 §3 `acr_values` and `max_age`. */
const askedBy = ({ stepUp, scope }: Refusal): Asked => ({
  ...stepUp,
  ...(scope === undefined ? {} : { scope }),
})

type Asked = Pick<Challenge, 'scope' | 'acrValues' | 'maxAge'>

function expressionOf({ parameter, element }: Refusal): { readonly expression?: string } {
  if (element !== undefined) return { expression: element }
  return parameter === undefined ? {} : { expression: `http.${parameter}` }
}

/**
 * The challenges of an answer: one for each scheme that is offered, the error in that of the scheme
 * the credentials came under. RFC 9449 §7.1: "the challenge … MUST be used with the DPoP scheme" for
 * what is wrong with a proof.
 */
function createChallenge(
  config: Config,
): (
  error: '' | NonNullable<Challenge['error']>,
  scheme?: Challenge['scheme'],
  asked?: Asked,
) => string {
  const { issuers, dpop, public: published } = config
  const common = { realm: published.url, resourceMetadata: protectedResourceUrl(published.url) }
  const bearer: Challenge = { ...common, scheme: 'Bearer' }
  const proved: Challenge = { ...common, scheme: 'DPoP', algorithms: dpop.algorithms }
  const offered = [
    ...(issuers.every(({ requireBound }) => requireBound === 'dpop') ? [] : [bearer]),
    ...(dpop.requireNonce || issuers.some(({ requireBound }) => /dpop|any/.test(requireBound))
      ? [proved]
      : []),
  ]
  return (error, scheme, asked) => {
    if (error === '') return offered.map(formatChallenge).join(', ')
    const own = scheme === 'DPoP' || error.includes('dpop') ? proved : bearer
    const others = own === proved ? [] : offered.filter((other) => other !== own)
    return [{ ...own, ...asked, error }, ...others].map(formatChallenge).join(', ')
  }
}

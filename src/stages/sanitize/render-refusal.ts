import type { Config } from '../../config/schema.ts'
import type { Answer } from '../../exchange.ts'
import { formatOperationOutcome } from '../../fhir/operation-outcome.ts'
import { protectedResourceUrl } from '../../oauth/protected-resource.ts'
import { formatChallenge } from '../../oauth/challenge.ts'
import type { Refusal } from '../../refusal.ts'

/** The one place where a refusal becomes an answer: status, challenge, OperationOutcome (ERR-1). */
export function createRenderRefusal(
  config: Config,
): (refusal: Refusal, requestId: string) => Answer {
  const realm = config.public.url
  const resourceMetadata = protectedResourceUrl(realm)
  return function renderRefusal(refusal, requestId) {
    const { row } = refusal
    const headers: Record<string, string> = {
      'content-type': 'application/fhir+json; charset=utf-8',
      ...refusal.headers,
    }
    if (row.challenge === '')
      headers['www-authenticate'] = formatChallenge({ realm, resourceMetadata })
    else if (row.challenge !== undefined) {
      headers['www-authenticate'] = formatChallenge({
        ...{ realm, resourceMetadata },
        error: row.challenge,
      })
    }
    // ERR-6: a refusal that passes says when to come back.
    if (row.retryAfter !== undefined) headers['retry-after'] ??= String(row.retryAfter)
    if (row.close === true) headers['connection'] = 'close'
    const body = formatOperationOutcome({
      severity: row.status === 500 ? 'fatal' : 'error',
      code: row.issue,
      reason: refusal.reason,
      text: row.text,
      id: requestId,
      ...(refusal.parameter === undefined ? {} : { expression: `http.${refusal.parameter}` }),
    })
    return { status: row.status, headers, body: Buffer.from(body) }
  }
}

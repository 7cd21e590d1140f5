import { versionTags } from '../../http/validators.ts'
import { Refusal } from '../../refusal.ts'
import { ASKED } from './asked.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'

/** The version that a write would replace. */
type Replaced = { readonly bytes: Buffer; readonly versionId: string | undefined }

const TAGS = /^(?:W\/)?"[^"]*"(?:\s*,\s*(?:W\/)?"[^"]*")*$/

/**
 * RFC 9110 §13.2.2: "MUST NOT perform the requested method if the condition evaluates to false". Held
 * against the version that was judged, or against nothing where nothing is. Throws Refusal.
 */
export function checkPreconditions(
  request: Request,
  type: string,
  replaced: Replaced | undefined,
): void {
  const { headers } = request.inquiry.arrival
  const [match, since, none] = ['if-match', 'if-unmodified-since', 'if-none-match'].map(
    // Of a view as of the version that it is of.
    (name) => (headers[name] === undefined ? undefined : versionTags(String(headers[name]))),
  )
  const tag = `"${replaced?.versionId ?? ''}"`
  if (match !== undefined) {
    if (replaced === undefined || match !== `W/${tag}`) throw new Refusal('precondition-failed')
  } else if (since !== undefined) {
    const limit = Date.parse(since)
    if (Number.isNaN(limit)) throw malformed('If-Unmodified-Since')
    // HTTP has whole seconds. What was changed at no time that shows may have been changed since.
    const changed = replaced === undefined ? NaN : changedAt(request, type, replaced)
    if (!(Math.floor(changed / 1000) * 1000 <= limit)) throw new Refusal('precondition-failed')
  }
  if (none === undefined) return
  const text = none.trim()
  if (text !== '*' && !TAGS.test(text)) throw malformed('If-None-Match')
  if (replaced !== undefined && (text === '*' || text.includes(tag))) {
    throw new Refusal('precondition-failed')
  }
}

const malformed = (parameter: string) => new Refusal('header-malformed', { parameter })

/** When it was changed, as far as the caller may read it: a condition would tell it otherwise. */
function changedAt(request: Request, type: string, { bytes }: Replaced): number {
  const terms = only(type, request.holdings.look(type, ASKED.read))
  if (request.inspect(terms, bytes).withheld !== undefined) return NaN
  const { meta } = JSON.parse(request.view(terms, bytes).toString()) as {
    readonly meta?: { readonly lastUpdated?: string }
  }
  return Date.parse(meta?.lastUpdated ?? '')
}

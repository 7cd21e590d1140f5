import { VERSION_TAG } from '../../fhir/datatypes.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import { LINES } from '../../fhir/operations.ts'
import { discard, isFhirJson, isNdjson } from '../../http/content.ts'
import type { FitAnswer } from '../../exchange.ts'
import type { Permit } from '../../permit.ts'
import type { UpstreamAnswer } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import type { Reason } from '../../refusal.ts'
import type { Stages } from '../../stages.ts'

/** What an upstream status means for the caller (requirements §7). Its text is never passed on. */
const MEANING: Readonly<Record<number, Reason>> = {
  400: 'rejected-upstream',
  // 401 and 403 are about the gateway's own credential, which is nothing the caller can mend.
  401: 'upstream-failed',
  403: 'upstream-failed',
  404: 'not-found',
  409: 'conflict',
  410: 'gone',
  412: 'precondition-failed',
  413: 'rejected-upstream',
  422: 'rejected-upstream',
  429: 'upstream-busy',
  503: 'upstream-busy',
  504: 'upstream-timeout',
}

/** Headers of an answer that may be said at all, each in the only form that is believed. */
const SAYABLE: readonly (readonly [name: string, form: RegExp])[] = Object.entries({
  etag: VERSION_TAG,
  'last-modified': /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/,
  location: /^[\x21-\x7e]{1,2048}$/,
  'content-location': /^[\x21-\x7e]{1,2048}$/,
})

/**
 * Makes an upstream answer fit to be said, or throws the Refusal it amounts to. After this only
 * successes in identity-coded FHIR JSON of the version are left, with at most four headers.
 */
export function createSanitize({ number }: Definitions): Stages['sanitize'] {
  return (permit, answer) => sanitize(permit, answer, number)
}

function sanitize(permit: Permit, answer: UpstreamAnswer, version: string): FitAnswer {
  const { status, headers, body } = answer
  if (permit.shape === 'job' || permit.shape === 'manifest') {
    const begun = sanitizeJob(permit, answer)
    if (begun !== undefined) return begun
  }
  if (status !== 200 && status !== 201 && status !== 204) {
    discard(body)
    throw new Refusal(meaning(permit, status), { detail: `upstream answered ${status}` })
  }
  const fit: Record<string, string> = {}
  for (const [name, form] of SAYABLE) {
    const value = headers[name]
    if (typeof value === 'string' && form.test(value)) fit[name] = value
  }
  if (status === 204 || (Buffer.isBuffer(body) && body.length === 0)) {
    // A read or search that succeeds with nothing to show was not answered.
    if (permit.interaction.method === 'GET' || permit.interaction.byPost === true)
      throw unreadable(body, 'an empty body')
    discard(body)
    return { status, headers: fit, body: undefined }
  }
  const coding = headers['content-encoding']
  if (coding !== undefined && coding !== 'identity') throw unreadable(body, 'a compressed body')
  const type = headers['content-type']
  const isExpected = LINES.has(permit.shape ?? '') ? isNdjson(type) : isFhirJson(type, version)
  if (!isExpected) throw unreadable(body, 'a body that is not FHIR JSON')
  return { status, headers: fit, body }
}

/** A bulk export that has begun, goes on or was given up; undefined: it has come to its end. */
function sanitizeJob(
  permit: Permit,
  { status, headers, body }: UpstreamAnswer,
): FitAnswer | undefined {
  const isEnd = permit.interaction.method === 'DELETE' && status >= 200 && status < 300
  if (status !== 202 && !isEnd) {
    if (permit.shape === 'job' && status < 300) throw unreadable(body, 'no job for an export')
    return undefined
  }
  discard(body)
  const fit: Record<string, string> = {}
  const location = headers['content-location']
  if (typeof location === 'string') fit['content-location'] = location
  const wait = headers['retry-after']
  if (typeof wait === 'string' && /^\d{1,5}$/.test(wait)) fit['retry-after'] = wait
  return { status: 202, headers: fit, body: undefined }
}

function meaning(permit: Permit, status: number): Reason {
  const reason = MEANING[status] ?? 'upstream-failed'
  if (reason !== 'gone') return reason
  // Whose a deleted resource was cannot be told any more: confined callers see a true miss.
  const { type } = permit.interaction
  const grant = type === undefined ? undefined : permit.terms.grantFor(type)
  const isConfined = grant?.reach.some(({ patient, criteria }) => patient ?? criteria) ?? true
  return isConfined ? 'not-found' : 'gone'
}

function unreadable(body: UpstreamAnswer['body'], what: string): Refusal {
  discard(body)
  return new Refusal('upstream-unreadable', { detail: `upstream sent ${what}` })
}

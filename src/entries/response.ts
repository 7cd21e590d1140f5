import type { Answer } from '../exchange.ts'
import { readBody } from '../http/content.ts'
import { Refusal } from '../refusal.ts'
import { formatMark, raiseMark } from '../stages/release/frame.ts'
import type { Mark } from '../stages/release/frame.ts'

/** A body as one piece, of `limit` bytes at most; throws Refusal. */
export async function wholeOf(
  body: Buffer | AsyncIterable<Buffer>,
  limit: number,
): Promise<Buffer> {
  if (!Buffer.isBuffer(body)) return readBody(body, limit, 'upstream-unreadable')
  if (body.length > limit) throw new Refusal('upstream-unreadable', { detail: 'too large' })
  return body
}

/** The same of an answer. */
export async function gather(answer: Answer, limit: number): Promise<Answer> {
  return answer.body === undefined ? answer : { ...answer, body: await wholeOf(answer.body, limit) }
}

/** LABEL-3: what is shown of an entry counts to the mark of all of them; of what is not sent, nothing. */
export function markShown(mark: Mark, { body }: Answer, { confidentiality }: Mark): void {
  if (body !== undefined && confidentiality !== undefined) raiseMark(mark, confidentiality)
}

/** The entry of a response Bundle: what would have been the answer, headers as elements. */
export function formatEntry({ status, headers, body }: Answer): Buffer {
  const isOutcome = status >= 400
  const said = {
    status: String(status),
    ...(headers['location'] === undefined ? {} : { location: headers['location'] }),
    ...(headers['etag'] === undefined ? {} : { etag: headers['etag'] }),
    ...lastModified(headers['last-modified']),
  }
  const response = JSON.stringify(said)
  if (!Buffer.isBuffer(body)) return Buffer.from(`{"response":${response}}`)
  return isOutcome
    ? Buffer.concat([
        Buffer.from(`{"response":${response.slice(0, -1)},"outcome":`),
        body,
        Buffer.from('}}'),
      ])
    : Buffer.concat([Buffer.from('{"resource":'), body, Buffer.from(`,"response":${response}}`)])
}

/** FHIR has an instant where HTTP has its own date. */
function lastModified(value: string | undefined): { lastModified?: string } {
  const time = value === undefined ? NaN : Date.parse(value)
  return Number.isNaN(time) ? {} : { lastModified: new Date(time).toISOString() }
}

/** The answer to a Bundle of requests. */
export function bundleOf(type: string, entries: readonly Buffer[], mark: Mark): Answer {
  const said = formatMark(mark)
  const meta = said === undefined ? '' : `,${said}`
  const pieces: Buffer[] = [Buffer.from(`{"resourceType":"Bundle"${meta},"type":"${type}"`)]
  entries.forEach((entry, n) => pieces.push(Buffer.from(n === 0 ? ',"entry":[' : ','), entry))
  pieces.push(Buffer.from(entries.length === 0 ? '}' : ']}'))
  return {
    status: 200,
    headers: { 'content-type': 'application/fhir+json; charset=utf-8' },
    body: Buffer.concat(pieces),
  }
}

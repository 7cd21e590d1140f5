import { HeaderError } from './headers.ts'

/** Content negotiation (RFC 9110 §12, FHIR R4 http.html#mime-type) and reading of bodies. */

/** Type and subtype in lower case, without parameters; undefined when it cannot be read. */
export function parseMediaType(value: string | string[] | undefined): string | undefined {
  if (typeof value !== 'string') return undefined
  const end = value.indexOf(';')
  const type = (end === -1 ? value : value.slice(0, end)).trim().toLowerCase()
  // Only a charset parameter that says UTF-8 and FHIR's own version may follow.
  return /^[a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+$/.test(type) ? type : undefined
}

const JSON_TYPES = new Set([
  'application/fhir+json',
  'application/json',
  'application/json+fhir',
  'text/json',
])

/** Ranges of Accept that take it (RFC 9110 §12.5.1). */
const TAKES_JSON = new Set([...JSON_TYPES, 'application/*', '*/*'])

/** Whether a media type is FHIR JSON under one of its names, DSTU2 to R5, and of no other version. */
export function isFhirJson(value: string | string[] | undefined, version: string): boolean {
  const type = parseMediaType(value)
  return type !== undefined && JSON_TYPES.has(type) && !isOfOther(String(value), version)
}

/**
 * Whether a media type says to be of another FHIR version than this (`4.0`, FHIR R4
 * http.html#version-parameter). What says nothing is of the version of the server.
 */
function isOfOther(mediaType: string, version: string): boolean {
  if (!/fhirversion/i.test(mediaType)) return false
  const said = [...mediaType.matchAll(/;\s*fhirVersion\s*=\s*"?([^";\s]*)/gi)]
  return said.some(([, one = '']) => one !== version && !one.startsWith(`${version}.`))
}

/** Newline-delimited FHIR JSON, as bulk files come (https://hl7.org/fhir/uv/bulkdata). */
export const NDJSON = 'application/fhir+ndjson'
const NDJSON_TYPES = new Set([NDJSON, 'application/ndjson', 'application/x-ndjson', 'ndjson'])

/** Whether a media type is newline-delimited FHIR JSON under one of its names. */
export function isNdjson(value: string | string[] | undefined): boolean {
  const type = value === 'ndjson' ? value : parseMediaType(value)
  return type !== undefined && NDJSON_TYPES.has(type)
}

/**
 * Whether the caller takes FHIR JSON of the version (`4.0`). `_format` overrides Accept (FHIR R4
 * http.html). Throws HeaderError `not-acceptable`: only what can be inspected is offered (REST-14).
 */
export function checkAcceptable(
  accept: string | string[] | undefined,
  format: readonly string[],
  version: string,
): void {
  if (format.length > 0) {
    // '+' in a query is a space once decoded; FHIR allows "application/fhir json" for that reason.
    const isJson = format.every(
      (value) => value === 'json' || isFhirJson(value.replace(/(?<=^\w+\/\w+) /, '+'), version),
    )
    if (isJson) return
    throw new HeaderError('not-acceptable', '_format is not JSON', '_format')
  }
  if (accept === undefined || accept === '*/*') return
  const text = typeof accept === 'string' ? accept : accept.join(',')
  if (text.trim() === '') return
  for (const range of text.split(',')) {
    if (/;\s*q=0(\.0*)?\s*$/i.test(range)) continue
    const [type = ''] = range.split(';')
    if (TAKES_JSON.has(type.trim().toLowerCase()) && !isOfOther(range, version)) return
  }
  throw new HeaderError('not-acceptable', 'Accept takes no JSON', 'Accept')
}

/**
 * Throws HeaderError `media-type-unsupported` unless the body is said to be plain, UTF-8 JSON, and not of
 * another FHIR version: stored as one of this, it would not be what was written (C11).
 */
export function checkJsonContent(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  version: string,
): void {
  checkEncoding(headers)
  if (isFhirJson(headers['content-type'], version)) {
    const charset = /charset="?([^";\s]+)/i.exec(String(headers['content-type']))?.[1]
    if (charset === undefined || charset.toLowerCase() === 'utf-8') return
  }
  throw new HeaderError('media-type-unsupported', 'Content-Type is not FHIR JSON', 'Content-Type')
}

export const JSON_PATCH = 'application/json-patch+json'

/** The same for a patch: JSON Patch (RFC 6902), or a Parameters resource in FHIR JSON. */
export function checkPatchContent(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  version: string,
): void {
  if (parseMediaType(headers['content-type']) === JSON_PATCH) checkEncoding(headers)
  else checkJsonContent(headers, version)
}

/** The same for the form of a search by POST. */
export function checkFormContent(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): void {
  checkEncoding(headers)
  if (parseMediaType(headers['content-type']) === 'application/x-www-form-urlencoded') return
  throw new HeaderError('media-type-unsupported', 'Content-Type is not a form', 'Content-Type')
}

function checkEncoding(headers: Readonly<Record<string, string | string[] | undefined>>): void {
  const encoding = headers['content-encoding']
  if (encoding === undefined || encoding === 'identity') return
  throw new HeaderError('media-type-unsupported', 'the body is compressed', 'Content-Encoding')
}

/** A body that is larger than its limit, or that ended before its time. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
  readonly reason: 'body-too-large' | 'upstream-unreadable'

  constructor(reason: BodyError['reason'], message: string) {
    super(message)
    this.reason = reason
  }
}

/** So many pieces become one: a piece of a single byte takes a hundred more. */
const JOINED = 256
/** A piece costs some microseconds, however short it is: so many may be, and others have as many bytes. */
const MOST_SHORT = 65_536
const LONG = 256

/** Reads a whole body of at most `limit` bytes; throws BodyError with `reason` beyond it. */
export async function readBody(
  body: AsyncIterable<Buffer>,
  limit: number,
  reason: BodyError['reason'] = 'body-too-large',
): Promise<Buffer> {
  const chunks: Buffer[] = []
  let [length, count, joined] = [0, 0, 0]
  for await (const chunk of body) {
    length += chunk.length
    count += 1
    if (length > limit) throw new BodyError(reason, `more than ${limit} bytes`)
    if (count > MOST_SHORT + length / LONG) throw new BodyError(reason, `${count} pieces`)
    chunks.push(chunk)
    if (chunks.length - joined < JOINED) continue
    joined = chunks.push(Buffer.concat(chunks.splice(joined)))
  }
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, length)
}

/** Lets go of a body nobody will read, so that its connection is not held. */
export function discard(body: Buffer | AsyncIterable<Buffer> | undefined): void {
  if (body !== undefined && !Buffer.isBuffer(body)) void body[Symbol.asyncIterator]().return?.()
}

/**
 * Gives back at once the memory of a body, or of a chunk of one, that nobody needs any more: what a caller
 * must not see stays no longer than it has to, and the next finds memory that is still in the cache
 * (docs/decisions/0035, 0043). `kept` is what may share that memory: what was made of the body, or the chunk
 * behind. Only for what upstream has answered, of which nothing else is a part.
 */
export function forget(body: unknown, kept: unknown): void {
  if (!Buffer.isBuffer(body) || !Buffer.isBuffer(kept) || body.length < WORTH_IT) return
  const { buffer } = body
  // What node takes out of memory that it shares between small buffers is less than half of that.
  const isOwn = buffer instanceof ArrayBuffer && body.length * 2 > buffer.byteLength
  if (isOwn && kept.buffer !== buffer) buffer.transfer(0)
}
const WORTH_IT = 16_384

/** Whether the memory of a chunk has been given back: whoever reads it has come too late. */
export function isForgotten({ buffer }: Buffer): boolean {
  return buffer instanceof ArrayBuffer && buffer.detached
}

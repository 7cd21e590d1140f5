import { createSimdScan } from '../json/simd-scan.ts'
import { compileNames } from '../json/names.ts'
import { after, elements, endOf, kindOf, KIND, member, startOf, textOf } from '../json/tape.ts'
import type { Tape } from '../json/tape.ts'
import { JsonError } from '../json/token.ts'

/** A Bundle that is no request; `reason` is a key of the refusal table. */
export class BundleRequestError extends Error {
  override readonly name = 'BundleRequestError'
  readonly reason = 'body-malformed'
}

/** What one entry of a batch or transaction asks (https://hl7.org/fhir/R4/http.html#transaction). */
export type EntryRequest = {
  readonly fullUrl: string | undefined
  readonly method: string
  /** As written: relative to the base, or absolute. */
  readonly url: string
  /** The precondition headers it stands for, by lower-case name. */
  readonly headers: Readonly<Record<string, string>>
  /** The bytes of its resource. */
  readonly resource: Buffer | undefined
  /** References in the resource that are searches: `Patient?identifier=…`. */
  readonly conditionalReferences: readonly string[]
}

export type BundleRequest = {
  readonly type: 'batch' | 'transaction'
  readonly entries: readonly EntryRequest[]
}

const NAMES = compileNames(
  ['resourceType', 'type', 'entry', 'fullUrl', 'resource', 'request', 'method', 'url'].concat([
    'ifMatch',
    'ifNoneExist',
    'ifNoneMatch',
    'ifModifiedSince',
    'reference',
    'link',
    'search',
  ]),
)
const at = Object.fromEntries(NAMES.list.map((name, id) => [name, id])) as Record<string, number>
const PRECONDITIONS: readonly (readonly [element: string, header: string])[] = [
  ['ifMatch', 'if-match'],
  ['ifNoneExist', 'if-none-exist'],
  ['ifNoneMatch', 'if-none-match'],
  ['ifModifiedSince', 'if-modified-since'],
]

/**
 * Builds the reader of Bundles that are requests. Throws BundleRequestError: strict JSON, a Bundle of
 * type batch or transaction, at most `most` entries, each with a request and nothing that cannot be
 * judged beside it.
 */
export function createBundleReader(
  maximumDepth: number,
  most: number,
): (bytes: Buffer) => BundleRequest {
  const scan = createSimdScan(NAMES, maximumDepth)
  return (bytes) => {
    let tape: Tape
    try {
      tape = scan(bytes)
    } catch (error) {
      if (error instanceof JsonError) throw malformed('not strict JSON')
      throw error
    }
    const text = (object: number, name: string): string | undefined =>
      textOf(tape, member(tape, object, at[name] ?? -1))
    const type = text(0, 'type')
    if (text(0, 'resourceType') !== 'Bundle') throw malformed('no Bundle')
    if (type !== 'batch' && type !== 'transaction') {
      throw malformed('a Bundle that is neither batch nor transaction')
    }
    const list = member(tape, 0, at['entry'] ?? -1)
    if (list >= 0 && kindOf(tape, list) !== KIND.array) throw malformed('entries that are no list')
    const entries = [...elements(tape, list)]
    if (entries.length > most) throw malformed('too many entries')
    return { type, entries: entries.map((entry) => readEntry(tape, entry, text)) }
  }
}

function readEntry(
  tape: Tape,
  entry: number,
  text: (object: number, name: string) => string | undefined,
): EntryRequest {
  const request = member(tape, entry, at['request'] ?? -1)
  const method = text(request, 'method')
  const url = text(request, 'url')
  if (method === undefined || url === undefined) throw malformed('an entry without a request')
  const resource = member(tape, entry, at['resource'] ?? -1)
  if (resource >= 0 && kindOf(tape, resource) !== KIND.object) throw malformed('no resource')
  const headers: Record<string, string> = {}
  for (const [element, header] of PRECONDITIONS) {
    const value = text(request, element)
    if (value !== undefined) headers[header] = value
  }
  const conditionalReferences: string[] = []
  if (resource >= 0) {
    const end = after(tape, resource)
    for (let place = resource; place < end; place++) {
      if (kindOf(tape, place) !== KIND.key || textOf(tape, place) !== 'reference') continue
      const value = textOf(tape, place + 1)
      if (value?.includes('?') === true) conditionalReferences.push(value)
    }
  }
  return {
    fullUrl: text(entry, 'fullUrl'),
    ...{ method, url, headers, conditionalReferences },
    // The tape is gone with the next scan; the bytes are the request's own.
    resource:
      resource < 0
        ? undefined
        : tape.bytes.subarray(startOf(tape, resource), endOf(tape, resource)),
  }
}

function malformed(message: string): BundleRequestError {
  return new BundleRequestError(message)
}

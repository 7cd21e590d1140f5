import type { FitAnswer } from '../../exchange.ts'
import { VERSION_TAG } from '../../fhir/datatypes.ts'
import { elements, endOf, kindOf, KIND, member, startOf, textOf } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { unreadable } from './bundle.ts'
import type { Vocabulary } from './vocabulary.ts'

/**
 * What upstream said to each entry of a transaction, as if it had been asked alone. Nothing but a
 * whole success counts: a transaction-response has as many entries as were sent, in their order.
 */
export function splitTransaction(
  tape: Tape,
  entries: number,
  { at }: Vocabulary,
): readonly FitAnswer[] {
  const text = (object: number, name: number): string | undefined =>
    textOf(tape, member(tape, object, name))
  const isResponse =
    text(0, at.resourceType) === 'Bundle' && text(0, at.type) === 'transaction-response'
  const found = [...elements(tape, member(tape, 0, at.entry))]
  if (!isResponse || found.length !== entries) throw unreadable('no answer to each entry')
  return found.map((entry): FitAnswer => {
    const response = member(tape, entry, at.response)
    const status = Number(/^(20[014])(?: |$)/.exec(text(response, at.status) ?? '')?.[1])
    if (Number.isNaN(status)) throw unreadable('an entry that did not succeed')
    const headers: Record<string, string> = {}
    const location = text(response, at.location)
    const etag = text(response, at.etag)
    const modified = Date.parse(text(response, at.lastModified) ?? '')
    if (location !== undefined) headers['location'] = location
    if (etag !== undefined && VERSION_TAG.test(etag)) headers['etag'] = etag
    if (!Number.isNaN(modified)) headers['last-modified'] = new Date(modified).toUTCString()
    const resource = member(tape, entry, at.resource)
    const body =
      resource >= 0 && kindOf(tape, resource) === KIND.object
        ? tape.bytes.subarray(startOf(tape, resource), endOf(tape, resource))
        : undefined
    return { status, headers, body }
  })
}

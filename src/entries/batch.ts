import type { Answer } from '../exchange.ts'
import { Refusal } from '../refusal.ts'
import { turnPages } from '../stages.ts'
import type { Mark } from '../stages/release/frame.ts'
import type { AnswerEntries, EntriesParts, EntrySteps } from './entry.ts'
import { bundleOf, formatEntry, gather, markShown } from './response.ts'

/** Answers each entry of a batch alone, one after the other, as if nothing stood around it. */
export function createAnswerBatch(
  { stages, finish, refusedWith }: EntriesParts,
  { open, read, checkFullUrl, authorize }: EntrySteps,
): AnswerEntries {
  return async (whole, principal, bundle, upstream) => {
    const answers: Buffer[] = []
    const mark: Mark = {}
    let room = LARGEST_ANSWER
    for (const request of bundle.entries) {
      if (whole.arrival.signal.aborted) throw new Error('the client has gone')
      const entry = open(whole, principal, request)
      const { exchange } = entry
      let answer: Answer
      try {
        const inquiry = await read(entry, principal)
        checkFullUrl(entry)
        if (request.conditionalReferences.length > 0) {
          throw new Refusal('body-malformed', { detail: 'a conditional reference' })
        }
        const permit = await authorize(entry, inquiry, principal, upstream)
        const came = await stages.forward(permit, upstream, exchange)
        exchange.record('upstreamStatus', came.status)
        const turn = turnPages(stages, exchange, principal, upstream)
        const released = await stages.release(permit, stages.sanitize(permit, came), turn)
        exchange.record('tally', released.tally)
        answer = await gather(released.answer, room)
        markShown(mark, answer, released.tally)
        room -= Buffer.isBuffer(answer.body) ? answer.body.length : 0
      } catch (error) {
        answer = refusedWith(exchange, error)
      }
      const unrecorded = await finish(exchange, answer)
      if (unrecorded !== undefined) throw new Refusal('audit-unavailable')
      answers.push(formatEntry(answer))
    }
    return bundleOf('batch-response', answers, mark)
  }
}

/** Bytes of all answers to one batch together; whoever needs more asks in parts. */
const LARGEST_ANSWER = 67_108_864

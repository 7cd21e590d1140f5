import type { Answer, Exchange, Principal } from '../exchange.ts'
import { createBundleReader } from '../fhir/bundle-request.ts'
import type { Upstream } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import { createAnswerBatch } from './batch.ts'
import { createEntrySteps } from './entry.ts'
import type { EntriesParts } from './entry.ts'
import { createAnswerTransaction } from './transaction.ts'

/** Answers batch and transaction; throws Refusal when the Bundle as a whole is refused. */
export type AnswerBundle = (
  exchange: Exchange,
  principal: Principal,
  body: Buffer,
  upstream: Upstream,
) => Promise<Answer>

/**
 * Answers the entries of a batch or transaction, each by the same stages as a request of its own
 * (SCOPE-9, REST-7): a batch entry is asked and answered alone; a transaction is permitted as a
 * whole, before upstream sees any of it, or not at all. Each entry is audited.
 */
export function createAnswerBundle(parts: EntriesParts): AnswerBundle {
  const { jsonDepth, bundleEntries } = parts.config.limits
  const read = createBundleReader(jsonDepth, bundleEntries)
  const steps = createEntrySteps(parts)
  const answerBatch = createAnswerBatch(parts, steps)
  const answerTransaction = createAnswerTransaction(parts, steps)

  return async (whole, principal, body, upstream) => {
    // It would speak of every entry at once, and nobody has judged it.
    if (whole.arrival.headers['x-provenance'] !== undefined) {
      throw new Refusal('interaction-refused', { detail: 'X-Provenance' })
    }
    const bundle = read(body)
    return bundle.type === 'batch'
      ? answerBatch(whole, principal, bundle, upstream)
      : answerTransaction(whole, principal, bundle, upstream)
  }
}

import type {
  Answer,
  Arrival,
  Exchange,
  FitAnswer,
  Inquiry,
  Match,
  Principal,
  Tally,
} from './exchange.ts'
import type { Interaction } from './fhir/interaction.ts'
import type { Permit } from './permit.ts'
import type { Upstream, UpstreamAnswer } from './ports.ts'
import { Refusal } from './refusal.ts'

/** The stages, each made once from configuration and ports (`server.ts` assembles them). */
export type Stages = {
  readonly limit: {
    readonly address: (arrival: Arrival) => Promise<void>
    readonly principal: (principal: Principal, interaction: Interaction) => Promise<void>
    readonly permit: (principal: Principal, permit: Permit) => Promise<void> | undefined
    readonly failed: (arrival: Arrival) => Promise<void>
  }
  readonly authenticate: (arrival: Arrival) => Principal | Promise<Principal>
  /** Throws Refusal when what was shown has ended since. */
  readonly recheck: (principal: Principal) => void
  /** From here on upstream is told, with each request, on whose behalf; as far as configured. */
  readonly vouch: (exchange: Exchange, principal: Principal, upstream: Upstream) => Upstream
  readonly authorize: (
    principal: Principal,
    inquiry: Inquiry,
    upstream: Upstream,
  ) => Permit | Promise<Permit>
  /** What the criteria of a conditional interaction or a search come to, in the caller's view. */
  readonly findMatch: (principal: Principal, inquiry: Inquiry, upstream: Upstream) => Promise<Match>
  readonly forward: (
    permit: Permit,
    upstream: Upstream,
    exchange: Exchange,
  ) => Promise<UpstreamAnswer>
  readonly sanitize: (permit: Permit, answer: UpstreamAnswer) => FitAnswer
  readonly release: (
    permit: Permit,
    fit: FitAnswer,
    turn?: (permit: Permit) => Promise<FitAnswer>,
  ) => Promise<{ answer: Answer; tally: Tally }>
  /** The one permit for a whole transaction, when each of its entries has its own. */
  readonly permitTransaction: (permits: readonly Permit[], body: Buffer) => Permit
  /** What upstream said to each entry of a transaction, in order. Throws Refusal unless it fits. */
  readonly splitTransaction: (body: Buffer, entries: number) => readonly FitAnswer[]
  /** `scheme`: what the credentials came under, to be answered in the same. */
  readonly renderRefusal: (
    refusal: Refusal,
    requestId: string,
    scheme?: 'Bearer' | 'DPoP',
  ) => Answer
  readonly audit: {
    readonly isReady: () => boolean
    readonly record: (exchange: Exchange) => Promise<void>
  }
}

/**
 * How a further page of an answer is asked for: forwarded and made fit like the first, and paid for like one
 * that a client asks for (RATE-1), as far as there is something left to pay with: whoever has just enough
 * for a search would be told by its end that there is more.
 */
export function turnPages(
  { limit, forward, sanitize }: Stages,
  exchange: Exchange,
  principal: Principal,
  upstream: Upstream,
): (permit: Permit) => Promise<FitAnswer> {
  return async (permit) => {
    await limit.principal(principal, FURTHER).catch((error: unknown) => {
      if (!(error instanceof Refusal) || error.reason !== 'rate-exceeded') throw error
    })
    return sanitize(permit, await forward(permit, upstream, exchange))
  }
}
const FURTHER: Interaction = { code: 'paging', method: 'GET', parameters: [] }

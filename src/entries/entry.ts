import type { Config } from '../config/schema.ts'
import { Exchange } from '../exchange.ts'
import type { Answer, Arrival, Inquiry, Principal } from '../exchange.ts'
import type { BundleRequest, EntryRequest } from '../fhir/bundle-request.ts'
import type { Definitions } from '../fhir/definitions.ts'
import { parseInteraction } from '../fhir/interaction.ts'
import type { Interaction } from '../fhir/interaction.ts'
import type { Permit } from '../permit.ts'
import type { Clock, Upstream } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import type { Stages } from '../stages.ts'

/** What answering a Bundle of requests needs of the spine around it. */
export type EntriesParts = {
  readonly config: Config
  readonly definitions: Definitions
  readonly stages: Stages
  readonly clock: Clock
  /** Writes the end of an entry to audit, metrics and log; an answer comes back when audit fails. */
  readonly finish: (exchange: Exchange, answer: Answer) => Promise<Answer | undefined>
  readonly refusedWith: (exchange: Exchange, error: unknown) => Answer
}

/** Answers all entries of a Bundle; throws Refusal when it is refused as a whole. */
export type AnswerEntries = (
  whole: Exchange,
  principal: Principal,
  bundle: BundleRequest,
  upstream: Upstream,
) => Promise<Answer>

/** One entry on its way down the spine. */
export type Entry = {
  readonly exchange: Exchange
  readonly request: EntryRequest
}

/** The first steps of an entry, the same in a batch and in a transaction. */
export type EntrySteps = {
  /** The entry as an exchange of its own. */
  readonly open: (whole: Exchange, principal: Principal, request: EntryRequest) => Entry
  /** Parses it and takes what it costs. Throws Refusal and what the parser throws. */
  readonly read: (entry: Entry, principal: Principal) => Promise<Inquiry>
  /** A `fullUrl` may stand for nothing but its own entry; throws Refusal. */
  readonly checkFullUrl: (entry: Entry) => void
  /** Decides what it may do, and takes what that costs besides. Throws Refusal. */
  readonly authorize: (
    entry: Entry,
    inquiry: Inquiry,
    principal: Principal,
    upstream: Upstream,
  ) => Promise<Permit>
}

export function createEntrySteps({ config, definitions, stages, clock }: EntriesParts): EntrySteps {
  const { limits } = config
  const publicUrl = config.public.url.replace(/\/$/, '')

  function open(whole: Exchange, principal: Principal, request: EntryRequest): Entry {
    const { arrival } = whole
    const { accept, prefer } = arrival.headers
    const own: Arrival = {
      ...arrival,
      method: METHODS.has(request.method) ? request.method : 'other',
      target: targetOf(request),
      headers: {
        ...request.headers,
        ...{ accept, prefer, 'content-type': 'application/fhir+json' },
      },
      body: undefined,
    }
    const exchange = new Exchange(whole.id, own, clock)
    exchange.record('principal', principal)
    return { exchange, request }
  }

  /** What HTTP would not let through, or not so long, is in no record: the parser refuses what stands for it. */
  function targetOf({ url }: EntryRequest): string {
    if (isTooLong(url) || UNWRITABLE.test(url)) return '/[not recorded]'
    return url.startsWith(`${publicUrl}/`)
      ? url.slice(publicUrl.length)
      : `/${url.replace(/^\//, '')}`
  }

  function isTooLong(url: string): boolean {
    return url.length > limits.targetBytes
  }

  /** The interaction, paid for: one that cannot be read costs what the least does, since it is recorded. */
  async function readInteraction(
    { exchange, request }: Entry,
    principal: Principal,
  ): Promise<Interaction> {
    let interaction: Interaction
    try {
      if (isTooLong(request.url)) throw new Refusal('target-too-long')
      interaction = parseInteraction(exchange.arrival, definitions, limits)
    } catch (error) {
      await stages.limit.principal(principal, LEAST)
      throw error
    }
    exchange.record('interaction', interaction)
    await stages.limit.principal(principal, interaction)
    return interaction
  }

  async function read(entry: Entry, principal: Principal): Promise<Inquiry> {
    const { exchange, request } = entry
    const { arrival } = exchange
    const interaction = await readInteraction(entry, principal)
    // A search by POST has its criteria in a form, and an entry has none.
    if (!WITHIN.test(interaction.code) || interaction.byPost === true) {
      throw new Refusal('interaction-refused', { detail: 'not as an entry' })
    }
    const isWrite = /create|update|patch/.test(interaction.code)
    if (isWrite !== (request.resource !== undefined)) {
      throw new Refusal('body-malformed', { detail: 'a resource where none belongs, or none' })
    }
    return { arrival, interaction, body: request.resource }
  }

  async function authorize(
    { exchange }: Entry,
    inquiry: Inquiry,
    principal: Principal,
    upstream: Upstream,
  ): Promise<Permit> {
    const permit = exchange.record('permit', await stages.authorize(principal, inquiry, upstream))
    await stages.limit.permit(principal, permit)
    return permit
  }

  function checkFullUrl({ exchange, request: { fullUrl } }: Entry): void {
    if (fullUrl === undefined || /^urn:(?:uuid|oid):[A-Za-z0-9.-]+$/.test(fullUrl)) return
    const own = `${publicUrl}${exchange.arrival.target}`
    if (fullUrl !== own) throw new Refusal('body-malformed', { detail: 'a fullUrl of another' })
  }

  return { open, read, checkFullUrl, authorize }
}

/** What costs the least. */
const LEAST: Interaction = { code: 'read', method: 'GET', parameters: [] }

/** https://hl7.org/fhir/R4/valueset-http-verb.html */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH'])
/** Controls, line ends, signs that turn what follows: a record would say what was not asked. */
const UNWRITABLE = /[\p{C}\p{Zl}\p{Zp}]/u

/** Interactions that an entry may ask; histories, nested Bundles and jobs stand alone. */
const WITHIN =
  /^(?:read|vread|search-type|search-compartment|search-system|history-instance|(?:conditional-)?(?:create|update|patch|delete))$/

import type { Answer, Exchange, FitAnswer, Inquiry, Principal } from '../exchange.ts'
import type { BundleRequest } from '../fhir/bundle-request.ts'
import { loadElements } from '../fhir/elements.ts'
import { formatInteraction, parseInteraction } from '../fhir/interaction.ts'
import { createReplaceLinks } from '../fhir/links.ts'
import type { Permit } from '../permit.ts'
import type { Upstream } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import { turnPages } from '../stages.ts'
import type { Mark } from '../stages/release/frame.ts'
import type { AnswerEntries, EntriesParts, Entry, EntrySteps } from './entry.ts'
import { bundleOf, formatEntry, gather, markShown, wholeOf } from './response.ts'

/**
 * Answers a transaction: permitted as a whole, before upstream sees any of it, or not at all (REST-7). Each
 * entry is audited.
 */
export function createAnswerTransaction(
  { config, definitions, stages, finish, refusedWith }: EntriesParts,
  { open, read, checkFullUrl, authorize }: EntrySteps,
): AnswerEntries {
  const { limits } = config
  const replaceLinks = createReplaceLinks(loadElements(definitions.version), limits.jsonDepth)

  /**
   * A reference that is a search is answered here, in the view of the caller, and upstream gets what it
   * leads to: upstream would find what is withheld as well, and tell of it by failing (REST-6, REST-7).
   *
   * @param found - what the references of this transaction lead to, so that each is asked once
   */
  async function answerReferences(
    { exchange, request }: Entry,
    inquiry: Inquiry,
    principal: Principal,
    upstream: Upstream,
    found: Map<string, string>,
  ): Promise<Inquiry> {
    for (const reference of request.conditionalReferences) {
      if (found.has(reference)) continue
      const arrival = { ...exchange.arrival, method: 'GET', target: `/${reference}`, headers: {} }
      const interaction = parseInteraction(arrival, definitions, limits)
      await stages.limit.principal(principal, interaction)
      const { code, type = '' } = interaction
      if (code !== 'search-type') {
        throw new Refusal('body-malformed', { detail: 'a conditional reference that is no search' })
      }
      const criteria = { arrival, interaction, body: undefined }
      const match = await stages.findMatch(principal, criteria, upstream)
      if (match.id === undefined) {
        throw new Refusal('precondition-failed', { detail: 'a conditional reference to nothing' })
      }
      found.set(reference, `${type}/${match.id}`)
    }
    const { body } = inquiry
    return body === undefined ? inquiry : { ...inquiry, body: replaceLinks(body, found) }
  }

  /**
   * Answers the criteria of a transaction before anything of it is judged. What a `fullUrl` stands for is
   * known then wherever nothing new is made, and upstream will not learn it from a conditional create that
   * has become a read: links to it are replaced here, and judged as what they lead to.
   */
  async function settle(
    entries: readonly Entry[],
    inquiries: readonly Inquiry[],
    principal: Principal,
    upstream: Upstream,
  ): Promise<{
    readonly settled: readonly Inquiry[]
    readonly places: Places
    /** `Type/id` of what it writes under an id that is known. */
    readonly written: ReadonlySet<string>
  }> {
    const places = new Map<string, string>()
    const named = new Set<string>()
    const written = new Set<string>()
    const found: Inquiry[] = []
    for (const [n, inquiry] of inquiries.entries()) {
      const { code, type = '', id: own, method } = inquiry.interaction
      const match = code.startsWith('conditional-')
        ? await stages.findMatch(principal, inquiry, upstream)
        : undefined
      found.push(match === undefined ? inquiry : { ...inquiry, match })
      const fullUrl = urnOf(entries[n])
      if (fullUrl !== undefined && !isNew(named, fullUrl)) {
        throw new Refusal('body-malformed', { detail: 'a fullUrl twice' })
      }
      const id = match?.id ?? own
      if (method === 'GET' || method === 'HEAD' || id === undefined) continue
      const place = `${type}/${id}`
      if (fullUrl !== undefined && method !== 'DELETE') places.set(fullUrl, place)
      // http.html#trules: "If any resource identities (including resolved identities from conditional
      // update/delete) overlap in steps 1-3, then the transaction SHALL fail."
      if (code !== 'conditional-create' && !isNew(written, place)) {
        throw new Refusal('body-malformed', { detail: 'a resource written twice' })
      }
    }
    const settled = found.map((inquiry) =>
      inquiry.body === undefined
        ? inquiry
        : { ...inquiry, body: replaceLinks(inquiry.body, places) },
    )
    return { settled, places, written }
  }

  const answer: AnswerEntries = async (whole, principal, bundle, upstream) => {
    const entries = bundle.entries.map((request) => open(whole, principal, request))
    const answers: Answer[] = []
    const mark: Mark = {}
    try {
      checkCost(bundle)
      const permits: Permit[] = []
      const found = new Map<string, string>()
      // In the order they stand; the first that may not be is the answer to all.
      const inquiries: Inquiry[] = []
      for (const entry of entries) inquiries.push(await read(entry, principal))
      const { settled, places, written } = await settle(entries, inquiries, principal, upstream)
      for (const [n, entry] of entries.entries()) {
        const inquiry = settled[n]
        if (inquiry === undefined) throw new Error('an entry that was not read')
        checkFullUrl(entry)
        const answered = await answerReferences(entry, inquiry, principal, upstream, found)
        permits.push(await authorize(entry, answered, principal, upstream))
      }
      for (const [n, { exchange }] of entries.entries()) {
        const own = permits[n]
        if (own !== undefined) await checkReadable(own, exchange, written, principal, upstream)
      }
      const body = formatTransaction(entries, permits, places)
      const permit = whole.record('permit', stages.permitTransaction(permits, body))
      const came = await stages.forward(permit, upstream, whole)
      whole.record('upstreamStatus', came.status)
      const fit = stages.sanitize(permit, came)
      const said =
        fit.body === undefined ? Buffer.alloc(0) : await wholeOf(fit.body, limits.bodyBytes)
      const parted = stages.splitTransaction(said, entries.length)
      for (const [n, part] of parted.entries()) {
        const own = permits[n]
        const entry = entries[n]
        if (own === undefined || entry === undefined) throw new Refusal('upstream-unreadable')
        const turn = turnPages(stages, entry.exchange, principal, upstream)
        answers.push(await releasePart(own, entry.exchange, part, turn, mark))
      }
    } catch (error) {
      await finishAll(
        entries,
        entries.map(({ exchange }) => refusedWith(exchange, error)),
      )
      throw error
    }
    await finishAll(entries, answers)
    return bundleOf('transaction-response', answers.map(formatEntry), mark)
  }

  /** All of them, whatever becomes of one: their records go together. Throws Refusal when one could not. */
  async function finishAll(entries: readonly Entry[], answers: readonly Answer[]): Promise<void> {
    const ends = entries.map(({ exchange }, n) => {
      const answer = answers[n]
      if (answer === undefined) throw new Error('an entry without an answer')
      return finish(exchange, answer)
    })
    const unrecorded = (await Promise.all(ends)).some((instead) => instead !== undefined)
    if (unrecorded) throw new Refusal('audit-unavailable')
  }

  /**
   * Upstream fails all of a transaction that reads what is not there: so must what is hidden, or success
   * would tell of it. Throws Refusal. What the transaction itself writes is judged as that.
   */
  async function checkReadable(
    permit: Permit,
    exchange: Exchange,
    written: ReadonlySet<string>,
    principal: Principal,
    upstream: Upstream,
  ): Promise<void> {
    const { code, type = '', id = '' } = permit.interaction
    if (!READS.has(code) || written.has(`${type}/${id}`)) return
    const came = await stages.forward(permit, upstream, exchange)
    const turn = turnPages(stages, exchange, principal, upstream)
    const { answer } = await stages.release(permit, stages.sanitize(permit, came), turn)
    await gather(answer, limits.bodyBytes)
  }

  async function releasePart(
    permit: Permit,
    exchange: Exchange,
    part: FitAnswer,
    turn: ReturnType<typeof turnPages>,
    mark: Mark,
  ): Promise<Answer> {
    try {
      const released = await stages.release(permit, part, turn)
      exchange.record('tally', released.tally)
      const answer = await gather(released.answer, limits.bodyBytes)
      markShown(mark, answer, released.tally)
      return answer
    } catch (error) {
      // What is done is done: the others are told, and this one says what a request of its own would.
      return refusedWith(exchange, error)
    }
  }

  return answer
}

/** What is read by an id that may lead to nothing. */
const READS: ReadonlySet<string> = new Set(['read', 'vread', 'history-instance'])

/** Searches that the references of one transaction may be, equal ones counted once. */
const MOST_SEARCHES = 20

/** Before any is asked, or a body of a few megabytes would be a hundred thousand searches (RATE-1). */
function checkCost({ entries }: BundleRequest): void {
  const searches = new Set<string>()
  for (const { conditionalReferences } of entries) {
    for (const reference of conditionalReferences) searches.add(reference)
  }
  if (searches.size > MOST_SEARCHES) throw new Refusal('searches-too-many')
}

/** What a `fullUrl` of a transaction is known to stand for: `urn:…` → `Type/id`. */
type Places = ReadonlyMap<string, string>

/** Adds it. */
const isNew = (set: Set<string>, text: string): boolean => set.size < set.add(text).size

function urnOf(entry: Entry | undefined): string | undefined {
  const fullUrl = entry?.request.fullUrl
  return fullUrl?.startsWith('urn:') === true ? fullUrl : undefined
}

/** The transaction as upstream gets it: every request formatted from its permit, resources as sent. */
function formatTransaction(
  entries: readonly Entry[],
  permits: readonly Permit[],
  places: Places,
): Buffer {
  const pieces: Buffer[] = [Buffer.from('{"resourceType":"Bundle","type":"transaction","entry":[')]
  entries.forEach((entry, n) => {
    const permit = permits[n]
    if (permit === undefined) throw new Error('an entry without a permit')
    const { path, query } = formatInteraction(permit.interaction)
    const asked = {
      method: permit.interaction.method === 'HEAD' ? 'GET' : permit.interaction.method,
      url: `${path.slice(1)}${query === '' ? '' : `?${query}`}`,
      ...(permit.ifMatch === undefined ? {} : { ifMatch: permit.ifMatch }),
      ...(permit.isNew ? { ifNoneMatch: '*' } : {}),
    }
    const fullUrl = urnOf(entry)
    pieces.push(Buffer.from(`${n === 0 ? '' : ','}{`))
    if (fullUrl !== undefined && !places.has(fullUrl))
      pieces.push(Buffer.from(`"fullUrl":${JSON.stringify(fullUrl)},`))
    if (permit.body !== undefined) {
      pieces.push(Buffer.from('"resource":'), permit.body, Buffer.from(','))
    }
    pieces.push(Buffer.from(`"request":${JSON.stringify(asked)}}`))
  })
  pieces.push(Buffer.from(']}'))
  return Buffer.concat(pieces)
}

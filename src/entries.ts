import type { Config } from './config/schema.ts'
import { Exchange } from './exchange.ts'
import type { Answer, Arrival, FitAnswer, Inquiry, Principal } from './exchange.ts'
import type { BundleRequest, EntryRequest } from './fhir/bundle-request.ts'
import { createBundleReader } from './fhir/bundle-request.ts'
import type { Definitions } from './fhir/definitions.ts'
import { loadElements } from './fhir/elements.ts'
import { formatInteraction, parseInteraction } from './fhir/interaction.ts'
import type { Interaction } from './fhir/interaction.ts'
import { createReplaceLinks } from './fhir/links.ts'
import { readBody } from './http/content.ts'
import type { Permit } from './permit.ts'
import type { Clock, Upstream } from './ports.ts'
import { Refusal } from './refusal.ts'
import { turnPages } from './stages.ts'
import type { Stages } from './stages.ts'

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

/** Answers batch and transaction; throws Refusal when the Bundle as a whole is refused. */
export type AnswerBundle = (
  exchange: Exchange,
  principal: Principal,
  body: Buffer,
  upstream: Upstream,
) => Promise<Answer>

/** One entry on its way down the spine. */
type Entry = {
  readonly exchange: Exchange
  readonly inquiry: Inquiry
  readonly request: EntryRequest
}

/**
 * Answers the entries of a batch or transaction, each by the same stages as a request of its own
 * (SCOPE-9, REST-7): a batch entry is asked and answered alone; a transaction is permitted as a
 * whole, before upstream sees any of it, or not at all. Each entry is audited.
 */
export function createAnswerBundle(parts: EntriesParts): AnswerBundle {
  const { config, definitions, stages, clock } = parts
  const { limits } = config
  const read = createBundleReader(limits.jsonDepth, limits.bundleEntries)
  const replaceLinks = createReplaceLinks(loadElements(definitions.version), limits.jsonDepth)
  const publicUrl = config.public.url.replace(/\/$/, '')

  /** The entry as an exchange of its own. Throws what the parser throws. */
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
    return {
      exchange,
      inquiry: { arrival: own, interaction: NONE, body: request.resource },
      request,
    }
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

  /** Parses one entry and takes what it costs. Throws Refusal and what the parser throws. */
  async function readEntry(entry: Entry, principal: Principal): Promise<Inquiry> {
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

  async function permitEntry(
    { exchange }: Entry,
    inquiry: Inquiry,
    principal: Principal,
    upstream: Upstream,
  ): Promise<Permit> {
    const permit = exchange.record('permit', await stages.authorize(principal, inquiry, upstream))
    await stages.limit.permit(principal, permit)
    return permit
  }

  /** A `fullUrl` may stand for nothing but its own entry. */
  function checkFullUrl({ exchange, request: { fullUrl } }: Entry): void {
    if (fullUrl === undefined || /^urn:(?:uuid|oid):[A-Za-z0-9.-]+$/.test(fullUrl)) return
    const own = `${publicUrl}${exchange.arrival.target}`
    if (fullUrl !== own) throw new Refusal('body-malformed', { detail: 'a fullUrl of another' })
  }

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

  async function answerBatch(
    whole: Exchange,
    principal: Principal,
    bundle: BundleRequest,
    upstream: Upstream,
  ): Promise<Answer> {
    const answers: Buffer[] = []
    let room = LARGEST_ANSWER
    for (const request of bundle.entries) {
      if (whole.arrival.signal.aborted) throw new Error('the client has gone')
      const entry = open(whole, principal, request)
      const { exchange } = entry
      let answer: Answer
      try {
        const inquiry = await readEntry(entry, principal)
        checkFullUrl(entry)
        if (request.conditionalReferences.length > 0) {
          throw new Refusal('body-malformed', { detail: 'a conditional reference' })
        }
        const permit = await permitEntry(entry, inquiry, principal, upstream)
        const came = await stages.forward(permit, upstream, exchange)
        exchange.record('upstreamStatus', came.status)
        const turn = turnPages(stages, exchange, principal, upstream)
        const released = await stages.release(permit, stages.sanitize(permit, came), turn)
        exchange.record('tally', released.tally)
        answer = await gather(released.answer, room)
        room -= Buffer.isBuffer(answer.body) ? answer.body.length : 0
      } catch (error) {
        answer = parts.refusedWith(exchange, error)
      }
      const unrecorded = await parts.finish(exchange, answer)
      if (unrecorded !== undefined) throw new Refusal('audit-unavailable')
      answers.push(formatEntry(answer))
    }
    return bundleOf('batch-response', answers)
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
  ): Promise<{ readonly settled: readonly Inquiry[]; readonly places: Places }> {
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
    return { settled, places }
  }

  async function answerTransaction(
    whole: Exchange,
    principal: Principal,
    bundle: BundleRequest,
    upstream: Upstream,
  ): Promise<Answer> {
    const entries = bundle.entries.map((request) => open(whole, principal, request))
    const answers: Answer[] = []
    try {
      checkCost(bundle)
      const permits: Permit[] = []
      const found = new Map<string, string>()
      // In the order they stand; the first that may not be is the answer to all.
      const inquiries: Inquiry[] = []
      for (const entry of entries) inquiries.push(await readEntry(entry, principal))
      const { settled, places } = await settle(entries, inquiries, principal, upstream)
      for (const [n, entry] of entries.entries()) {
        const inquiry = settled[n]
        if (inquiry === undefined) throw new Error('an entry that was not read')
        checkFullUrl(entry)
        const answered = await answerReferences(entry, inquiry, principal, upstream, found)
        permits.push(await permitEntry(entry, answered, principal, upstream))
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
        answers.push(await releasePart(own, entry.exchange, part, turn))
      }
    } catch (error) {
      for (const { exchange } of entries) {
        const unrecorded = await parts.finish(exchange, parts.refusedWith(exchange, error))
        if (unrecorded !== undefined) throw new Refusal('audit-unavailable', { cause: error })
      }
      throw error
    }
    for (const [n, answer] of answers.entries()) {
      const exchange = entries[n]?.exchange
      if (exchange !== undefined && (await parts.finish(exchange, answer)) !== undefined) {
        throw new Refusal('audit-unavailable')
      }
    }
    return bundleOf('transaction-response', answers.map(formatEntry))
  }

  async function releasePart(
    permit: Permit,
    exchange: Exchange,
    part: FitAnswer,
    turn: ReturnType<typeof turnPages>,
  ): Promise<Answer> {
    try {
      const released = await stages.release(permit, part, turn)
      exchange.record('tally', released.tally)
      return await gather(released.answer, limits.bodyBytes)
    } catch (error) {
      // What is done is done: the others are told, and this one says what a request of its own would.
      return parts.refusedWith(exchange, error)
    }
  }

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

/** Bytes of all answers to one batch together; whoever needs more asks in parts. */
const LARGEST_ANSWER = 67_108_864

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

/** Placeholder of an entry whose address has not been parsed. */
const NONE: Interaction = { code: 'batch', method: 'POST', parameters: [] }

/** What costs the least. */
const LEAST: Interaction = { code: 'read', method: 'GET', parameters: [] }

/** https://hl7.org/fhir/R4/valueset-http-verb.html */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH'])
/** Controls, line ends, signs that turn what follows: a record would say what was not asked. */
const UNWRITABLE = /[\p{C}\p{Zl}\p{Zp}]/u

/** Interactions that an entry may ask; histories, nested Bundles and jobs stand alone. */
const WITHIN =
  /^(?:read|vread|search-type|search-compartment|search-system|history-instance|(?:conditional-)?(?:create|update|patch|delete))$/

async function wholeOf(body: Buffer | AsyncIterable<Buffer>, limit: number): Promise<Buffer> {
  if (!Buffer.isBuffer(body)) return readBody(body, limit, 'upstream-unreadable')
  if (body.length > limit) throw new Refusal('upstream-unreadable', { detail: 'too large' })
  return body
}

async function gather(answer: Answer, limit: number): Promise<Answer> {
  return answer.body === undefined ? answer : { ...answer, body: await wholeOf(answer.body, limit) }
}

/** The entry of a response Bundle: what would have been the answer, headers as elements. */
function formatEntry({ status, headers, body }: Answer): Buffer {
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

function bundleOf(type: string, entries: readonly Buffer[]): Answer {
  const pieces: Buffer[] = [Buffer.from(`{"resourceType":"Bundle","type":"${type}"`)]
  entries.forEach((entry, n) => pieces.push(Buffer.from(n === 0 ? ',"entry":[' : ','), entry))
  pieces.push(Buffer.from(entries.length === 0 ? '}' : ']}'))
  return {
    status: 200,
    headers: { 'content-type': 'application/fhir+json; charset=utf-8' },
    body: Buffer.concat(pieces),
  }
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

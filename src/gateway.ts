import type { Config } from './config/schema.ts'
import { createAnswerBundle } from './entries/answer-bundle.ts'
import { Exchange } from './exchange.ts'
import type { Answer, Arrival, Inquiry, Observer, Principal } from './exchange.ts'
import type { Definitions } from './fhir/definitions.ts'
import { formatVersions } from './fhir/capability-statement.ts'
import { parseInteraction, withForm } from './fhir/interaction.ts'
import type { Interaction } from './fhir/interaction.ts'
import { findOperation } from './fhir/operations.ts'
import {
  checkAcceptable,
  checkFormContent,
  checkJsonContent,
  checkPatchContent,
  forget,
  readBody,
} from './http/content.ts'
import { corsHeaders } from './http/cors.ts'
import { schemeOf } from './oauth/credentials.ts'
import { checkHeaders, correlationOf, requestIdOf, safeHeaders } from './http/headers.ts'
import type { Clock, Upstream } from './ports.ts'
import { Refusal, toRefusal } from './refusal.ts'
import { addressKey } from './stages/limit/limit.ts'
import { turnPages } from './stages.ts'
import type { Stages } from './stages.ts'

/** Interactions whose body is a resource or a patch. */
const BODIES: ReadonlySet<string> = new Set([
  'batch',
  ...['create', 'update', 'patch'].flatMap((code) => [code, `conditional-${code}`]),
])

/** Places that anybody may hold, however few there are. */
const LEAST_PLACES = 8

/** Bytes: a token may have 16 KiB. */
const LARGEST_TOKEN_FORM = 32_768

/** What the spine needs besides its stages. */
export type GatewayParts = {
  readonly config: Config
  readonly definitions: Definitions
  readonly stages: Stages
  readonly observers: readonly Observer[]
  readonly clock: Clock
  /** The public capability statement (JSON text), or undefined while upstream is not known. */
  readonly capabilities: () => string | undefined
  /** Whether upstream is known to speak another FHIR version than the definitions are of. */
  readonly isOther: () => boolean
  /** Bytes that were answered and not taken yet, of one holder or of all. */
  readonly undelivered: (holder?: string) => number
}

/** Answers one request. Never rejects: whatever goes wrong becomes an answer and a record. */
export type Gateway = {
  readonly answer: (arrival: Arrival, upstream: Upstream) => Promise<Answer>
  /** The same for a request that cannot go down the spine at all (broken HTTP). */
  readonly refuse: (arrival: Arrival, refusal: Refusal) => Promise<Answer>
  /** Exchanges under way, streams included. */
  readonly underWay: () => number
}

/** The whole life of a request, read top to bottom. */
export function createGateway(parts: GatewayParts): Gateway {
  const { config, definitions, stages, clock } = parts
  const { limits } = config
  const origins = new Set(config.cors.origins)
  const safe = safeHeaders(config)
  const versions = formatVersions(definitions)
  const mostPlaces = Math.max(LEAST_PLACES, Math.floor(limits.concurrent * limits.share))
  // What upstream answered in one piece may always be waiting.
  const mostBytes = Math.max(config.upstream.bufferBytes, limits.undeliveredBytes * limits.share)
  /** Places held, by address or principal. */
  const places = new Map<string, number>()
  let underWay = 0

  const answerBundle = createAnswerBundle({
    ...{ config, definitions, stages, clock, refusedWith },
    finish: async (exchange, { status }) => {
      underWay += 1
      exchange.record('status', status)
      return finish(exchange)
    },
  })

  async function answer(arrival: Arrival, bare: Upstream): Promise<Answer> {
    const exchange = open(arrival)
    try {
      checkCapacity()
      checkHeaders(arrival.rawHeaders)
      await stages.limit.address(arrival)
      hold(exchange, addressKey(arrival.address))
      if (arrival.signal.aborted) throw new Error('the client has gone')
      // AUTHN-20: refused, not redirected, or the next token would be sent in plain as well.
      if (arrival.isExposed === true) throw new Refusal('tls-required')
      exchange.lap('limit')
      const interaction = exchange.record('interaction', parse(arrival))
      if (isPublic(interaction)) return await conclude(exchange, describe(interaction))
      const principal = exchange.record('principal', await authenticate(arrival))
      const vouched = stages.vouch(exchange, principal, bare)
      const upstream = interaction.method === 'GET' ? vouched : whileValid(principal, vouched)
      exchange.lap('authenticate')
      await stages.limit.principal(principal, interaction)
      hold(exchange, principal.key)
      const inquiry = await read(arrival, interaction)
      if (arrival.body !== undefined) stages.recheck(principal)
      if (interaction.code === 'batch' && inquiry.body !== undefined) {
        const answer = await answerBundle(exchange, principal, inquiry.body, upstream)
        exchange.lap('entries')
        return await conclude(exchange, answer)
      }
      const permit = exchange.record('permit', await stages.authorize(principal, inquiry, upstream))
      await stages.limit.permit(principal, permit)
      exchange.lap('authorize')
      const came = await stages.forward(permit, upstream, exchange)
      exchange.lap('forward')
      exchange.record('upstreamStatus', came.status)
      const fit = stages.sanitize(permit, came)
      const turn = turnPages(stages, exchange, principal, upstream)
      const released = await stages.release(permit, fit, turn)
      forget(came.body, released.answer.body)
      exchange.lap('release')
      exchange.record('tally', released.tally)
      return await conclude(exchange, released.answer)
    } catch (error) {
      return conclude(exchange, refusedWith(exchange, error))
    }
  }

  function open(arrival: Arrival): Exchange {
    underWay += 1
    return new Exchange(requestIdOf(arrival.headers), arrival, clock)
  }

  function checkCapacity(): void {
    if (underWay > limits.concurrent || parts.undelivered() > limits.undeliveredBytes)
      throw new Refusal('overloaded')
    if (!stages.audit.isReady()) throw new Refusal('audit-unavailable')
    if (parts.isOther()) throw new Refusal('not-ready', { detail: 'another FHIR version' })
  }

  /**
   * RATE-6: nobody holds more than a share of what all need, by slow bodies or by answers not taken.
   * Asked after the counters, so that what is refused here is paid for as well.
   */
  function hold(exchange: Exchange, holder: string): void {
    const held = places.get(holder) ?? 0
    if (held >= mostPlaces || parts.undelivered(holder) > mostBytes)
      throw new Refusal('rate-exceeded', { detail: 'share', headers: { 'retry-after': '1' } })
    letGo(exchange)
    places.set(holder, held + 1)
    exchange.holder = holder
  }

  function letGo({ holder }: Exchange): void {
    if (holder === undefined) return
    const others = (places.get(holder) ?? 1) - 1
    if (others > 0) places.set(holder, others)
    else places.delete(holder)
  }

  function parse(arrival: Arrival): Interaction {
    const interaction = parseInteraction(arrival, definitions, limits)
    // A bulk file is NDJSON whatever a client's library says it takes.
    if (interaction.operation === 'export-file') return interaction
    const format = interaction.parameters.filter((parameter) => parameter.name === '_format')
    checkAcceptable(
      arrival.headers['accept'],
      format.flatMap((parameter) => parameter.values),
      definitions.number,
    )
    return interaction
  }

  /** AUTHN-1: what anybody may ask, FHIR R4 http.html#versions included. */
  function isPublic({ code, method }: Interaction): boolean {
    const isRead = method === 'GET' || method === 'HEAD'
    return isRead && (code === 'capabilities' || (code === 'versions' && versions !== undefined))
  }

  function authenticate(arrival: Arrival): Principal | Promise<Principal> {
    try {
      const found = stages.authenticate(arrival)
      return found instanceof Promise
        ? found.catch((error: unknown) => failed(arrival, error))
        : found
    } catch (error) {
      return failed(arrival, error)
    }
  }

  /** RATE-4: whoever fails to authenticate pays from a stricter bucket. */
  async function failed(arrival: Arrival, error: unknown): Promise<never> {
    const refusal = await checkNoForm(arrival, toRefusal(error))
    // Who only lacks the nonce of this hour, or a second factor, has proved to hold token and key.
    const isProved = refusal.reason === 'proof-nonce' || refusal.reason === 'strength-insufficient'
    if (refusal.row.status === 401 && !isProved) await stages.limit.failed(arrival)
    throw refusal
  }

  /**
   * AUTHN-3: whoever has sent its token in a form, and not in the header, is told so. A form is read for it
   * that says to be a short one; whatever else is wrong with it nobody hears.
   */
  async function checkNoForm(arrival: Arrival, refusal: Refusal): Promise<Refusal> {
    const { body, headers } = arrival
    const isShort = Number(headers['content-length'] ?? Infinity) <= LARGEST_TOKEN_FORM
    if (refusal.reason !== 'credentials-missing' || body === undefined || !isShort) return refusal
    try {
      checkFormContent(headers)
      const form = (await readBody(body, LARGEST_TOKEN_FORM)).toString('latin1')
      if (!new URLSearchParams(form).has('access_token')) return refusal
    } catch {
      return refusal
    }
    return new Refusal('credentials-malformed', { detail: 'an access token in a form' })
  }

  /** AUTHN-18: what changes something is asked by who may when it goes up, each entry of a batch too. */
  function whileValid(principal: Principal, upstream: Upstream): Upstream {
    return async (request) => {
      stages.recheck(principal)
      return upstream(request)
    }
  }

  /** Reads the body, now that it is known who sends it, under our own limits. */
  function read(arrival: Arrival, interaction: Interaction): Inquiry | Promise<Inquiry> {
    return interaction.method === 'GET' && arrival.body === undefined
      ? { arrival, interaction, body: undefined }
      : readContent(arrival, interaction)
  }

  async function readContent(arrival: Arrival, interaction: Interaction): Promise<Inquiry> {
    const takesBody =
      interaction.method === 'POST' ||
      interaction.method === 'PUT' ||
      interaction.method === 'PATCH'
    if (!takesBody) {
      if (arrival.body === undefined) return { arrival, interaction, body: undefined }
      throw new Refusal('body-malformed', { detail: 'a body where none belongs' })
    }
    if (interaction.byPost === true) {
      if (arrival.body === undefined) return { arrival, interaction, body: undefined }
      checkFormContent(arrival.headers)
      const form = await readBody(arrival.body, limits.bodyBytes)
      return {
        arrival,
        interaction: withForm(interaction, form, limits, definitions),
        body: undefined,
      }
    }
    // What is refused whole by authorize is not read before.
    const takesResource =
      BODIES.has(interaction.code) || findOperation(interaction)?.takesResource === true
    if (!takesResource) return { arrival, interaction, body: undefined }
    if (interaction.method === 'PATCH') checkPatchContent(arrival.headers, definitions.number)
    else checkJsonContent(arrival.headers, definitions.number)
    if (arrival.body === undefined) throw new Refusal('body-malformed', { detail: 'no body' })
    return { arrival, interaction, body: await readBody(arrival.body, limits.bodyBytes) }
  }

  function describe(interaction: Interaction): Answer {
    const statement = interaction.code === 'versions' ? versions : parts.capabilities()
    if (statement === undefined) throw new Refusal('not-ready')
    const body = interaction.method === 'HEAD' ? undefined : Buffer.from(statement)
    const headers = {
      'content-type': 'application/fhir+json; charset=utf-8',
      'access-control-allow-origin': '*',
    }
    return { status: 200, headers, body }
  }

  function refusedWith(exchange: Exchange, error: unknown): Answer {
    const refusal = toRefusal(error)
    if (!exchange.arrival.signal.aborted) {
      exchange.record('reason', refusal.reason)
      // Never the message of a cause: a SyntaxError quotes what it could not read.
      const detail = refusal.detail ?? (refusal.cause instanceof Error ? refusal.cause.name : '')
      exchange.record('detail', detail)
      exchange.record('withholds', refusal.withholds)
    }
    return stages.renderRefusal(
      refusal,
      exchange.id,
      schemeOf(exchange.arrival.headers['authorization']),
    )
  }

  function headersOf(exchange: Exchange, { headers }: Answer): Record<string, string> {
    const all: Record<string, string> = {
      ...safe,
      ...corsHeaders(exchange.arrival.headers, origins),
      ...correlationOf(exchange.arrival.headers),
      ...headers,
    }
    all['x-request-id'] = exchange.id
    return all
  }

  /**
   * Nothing leaves unrecorded: a whole answer is handed over only after its audit record was, a
   * streamed one is recorded with its last byte, or at the moment it broke off.
   */
  async function conclude(exchange: Exchange, answer: Answer): Promise<Answer> {
    const headers = headersOf(exchange, answer)
    const { holder } = exchange
    if (answer.body === undefined || Buffer.isBuffer(answer.body)) {
      exchange.record('status', answer.status)
      return (
        (await finish(exchange)) ?? { status: answer.status, headers, body: answer.body, holder }
      )
    }
    // The first piece is fetched before the status leaves: what fails early can still be a refusal.
    const pieces = answer.body[Symbol.asyncIterator]()
    let first: IteratorResult<Buffer, unknown>
    try {
      first = await pieces.next()
    } catch (error) {
      return conclude(exchange, refusedWith(exchange, error))
    }
    exchange.record('status', answer.status)
    return { status: answer.status, headers, body: recorded(exchange, first, pieces) }
  }

  async function* recorded(
    exchange: Exchange,
    first: IteratorResult<Buffer, unknown>,
    pieces: AsyncIterator<Buffer>,
  ): AsyncGenerator<Buffer> {
    let whole = false
    let unrecorded: boolean
    try {
      for (let piece = first; piece.done !== true; piece = await pieces.next()) yield piece.value
      whole = true
    } catch (error) {
      refusedWith(exchange, error)
      throw error
    } finally {
      await pieces.return?.()
      unrecorded = (await finish(exchange, { whole })) !== undefined
    }
    // All of it but its end has left: an answer without a record must not look whole.
    if (unrecorded) throw new Refusal('audit-unavailable')
  }

  /**
   * Writes the end of an exchange to audit, metrics and log. If audit fails an answer comes back, to leave
   * instead of the other one; of a streamed one only the end is left to be withheld.
   */
  async function finish(
    exchange: Exchange,
    streamed?: { readonly whole: boolean },
  ): Promise<Answer | undefined> {
    underWay -= 1
    letGo(exchange)
    const { reason } = exchange.facts
    const gone =
      exchange.arrival.signal.aborted || (streamed?.whole === false && reason === undefined)
    const outcome =
      reason === undefined
        ? gone
          ? 'aborted'
          : 'released'
        : new Refusal(reason).row.status >= 500
          ? 'failed'
          : 'refused'
    exchange.record('outcome', outcome)
    let unrecorded: Answer | undefined
    try {
      await stages.audit.record(exchange)
    } catch (error) {
      const refusal = new Refusal('audit-unavailable', { cause: error })
      const rendered = stages.renderRefusal(refusal, exchange.id)
      unrecorded = { ...rendered, headers: headersOf(exchange, rendered) }
      exchange.endUnrecorded(streamed === undefined ? rendered.status : undefined)
    }
    for (const observer of parts.observers) observer.exchangeEnded(exchange)
    return unrecorded
  }

  async function refuse(arrival: Arrival, refusal: Refusal): Promise<Answer> {
    const exchange = open(arrival)
    try {
      // What cannot be answered is recorded nevertheless, so it is counted (docs/decisions/0008).
      await stages.limit.address(arrival)
      throw refusal
    } catch (error) {
      return conclude(exchange, refusedWith(exchange, error))
    }
  }

  return { answer, refuse, underWay: () => underWay }
}

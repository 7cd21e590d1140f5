import type { Inquiry, Principal } from '../../exchange.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import type { Grant, Inspect, Inspection, Terms } from '../../permit.ts'
import type { Upstream, UpstreamAnswer } from '../../ports.ts'
import { Refusal, toRefusal } from '../../refusal.ts'
import { CONFIDENTIALITIES } from './decide.ts'

/**
 * Judges the body of a write and, for update and delete, the version it replaces. Gives the
 * `W/"vid"` that was judged, or undefined when nothing is there yet. Throws Refusal.
 */
export async function judgeWrite(
  principal: Principal,
  inquiry: Inquiry,
  type: string,
  terms: Terms,
  inspect: Inspect,
  upstream: Upstream,
  limit: number,
): Promise<string | undefined> {
  const { interaction, body } = inquiry
  // To judge is not to show: what is withheld by type here would only hide the real reason.
  const judging: Terms = { ...terms, grantFor: (other) => readable(terms.grantFor(other)) }
  const next =
    interaction.code === 'delete' ? undefined : judgeBody(inquiry, type, judging, inspect)
  if (interaction.code === 'delete' && body !== undefined && body.length > 0) {
    throw new Refusal('body-malformed', { detail: 'a delete with a body' })
  }
  if (interaction.code === 'create') return undefined
  const bytes = await fetchCurrent(inquiry, upstream, limit)
  if (bytes === undefined) {
    if (principal.kind === 'system' && next !== undefined) {
      if (inquiry.arrival.headers['if-match'] !== undefined)
        throw new Refusal('precondition-failed')
      return undefined
    }
    throw new Refusal('not-found')
  }
  const current = inspectCurrent(judging, bytes, inspect)
  if (current.type !== type || current.id !== interaction.id) {
    throw new Refusal('upstream-unreadable', { detail: 'the current version is another resource' })
  }
  if (current.withheld !== undefined) throw new Refusal('not-found')
  if (current.versionId === undefined) {
    throw new Refusal('upstream-unreadable', { detail: 'the current version has no versionId' })
  }
  if (next !== undefined && isLowered(current, next)) {
    throw new Refusal('body-rule-broken', { detail: 'a security label would be lowered' })
  }
  if (next !== undefined && current.masked > 0) {
    throw new Refusal('body-rule-broken', { detail: 'the caller has never seen the whole' })
  }
  const judged = `W/"${current.versionId}"`
  const asked = inquiry.arrival.headers['if-match']
  if (asked !== undefined && asked !== judged) throw new Refusal('precondition-failed')
  return judged
}

/** What upstream holds and nobody can read is upstream's fault, not that of the caller's body. */
function inspectCurrent(terms: Terms, bytes: Buffer, inspect: Inspect): Inspection {
  try {
    return inspect(terms, bytes)
  } catch (cause) {
    if (toRefusal(cause).reason !== 'body-malformed') throw cause
    throw new Refusal('upstream-unreadable', { detail: 'the current version', cause })
  }
}

/** INPUT-5: a lower confidentiality, or a sensitivity that is no longer said. */
function isLowered(current: Inspection, next: Inspection): boolean {
  if (rank(next) < rank(current)) return true
  return current.sensitivities.some((code) => !next.sensitivities.includes(code))
}

const rank = ({ confidentiality }: Inspection): number => CONFIDENTIALITIES.indexOf(confidentiality)

function readable(grant: Grant | undefined): Grant | undefined {
  return grant && { ...grant, letters: new Set([...grant.letters, 'r', 's'] as const) }
}

function judgeBody(
  { interaction, body }: Inquiry,
  type: string,
  terms: Terms,
  inspect: Inspect,
): Inspection {
  if (body === undefined || body.length === 0) throw new Refusal('body-malformed')
  const found = inspect(terms, body)
  if (found.type !== type || (interaction.code === 'update' && found.id !== interaction.id)) {
    throw new Refusal('body-mismatch')
  }
  if (found.withheld === 'compartment') throw new Refusal('compartment-denied')
  if (found.withheld !== undefined) throw new Refusal('policy-denied', { detail: found.withheld })
  if (found.marked) throw new Refusal('body-rule-broken', { detail: 'mask marks in the body' })
  return found
}

async function fetchCurrent(
  { interaction, arrival }: Inquiry,
  upstream: Upstream,
  limit: number,
): Promise<Buffer | undefined> {
  const { type = '', id = '' } = interaction
  const target = formatInteraction({ code: 'read', method: 'GET', type, id, parameters: [] })
  const answer = await upstream({
    method: 'GET',
    path: target.path,
    query: target.query,
    headers: { accept: 'application/fhir+json' },
    signal: arrival.signal,
  })
  const bytes = await collect(answer, limit)
  if (answer.status === 404 || answer.status === 410) return undefined
  if (answer.status !== 200) throw new Refusal('upstream-failed', { detail: 'no current version' })
  return bytes
}

async function collect({ body }: UpstreamAnswer, limit: number): Promise<Buffer> {
  if (Buffer.isBuffer(body)) return body
  const pieces: Buffer[] = []
  let length = 0
  for await (const piece of body) {
    length += piece.length
    if (length > limit) throw new Refusal('upstream-unreadable', { detail: 'too large to judge' })
    pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

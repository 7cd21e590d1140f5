import type { Exchange } from '../../exchange.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import { LINES } from '../../fhir/operations.ts'
import { NDJSON } from '../../http/content.ts'
import { parsePreferReturn } from '../../http/headers.ts'
import { Permit } from '../../permit.ts'
import type { Upstream, UpstreamAnswer, UpstreamRequest } from '../../ports.ts'

/** Result parameters that are ours to decide: upstream is always asked for plain JSON (REST-14). */
const OURS = new Set(['_format', '_pretty'])

/**
 * Asks upstream exactly what was permitted: method, path, query, headers and body are all made here,
 * from the permit; nothing the client wrote is copied except what was parsed and judged.
 */
export async function forward(
  permit: Permit,
  upstream: Upstream,
  exchange: Exchange,
): Promise<UpstreamAnswer> {
  if (!Permit.isGenuine(permit)) throw new Error('forward needs a permit that was issued')
  const { interaction } = permit
  const formatted = formatInteraction(withoutOurs(interaction))
  // A further page is read at upstream's own address, however the search was sent.
  const { path, query } = permit.target ?? formatted
  const form = permit.target === undefined ? formatted.form : undefined
  const isRead = interaction.method === 'HEAD' || permit.target !== undefined
  const isBulk = LINES.has(permit.shape ?? '')
  const headers: Record<string, string> = {
    accept: isBulk ? NDJSON : 'application/fhir+json',
    'x-request-id': exchange.id,
  }
  if (permit.shape === 'job') headers['prefer'] = 'respond-async'
  const prefer = formatPrefer(interaction, exchange)
  if (prefer !== undefined) headers['prefer'] = prefer
  if (permit.ifMatch !== undefined) headers['if-match'] = permit.ifMatch
  if (permit.isNew) headers['if-none-match'] = '*'
  if (permit.provenance !== undefined) headers['x-provenance'] = permit.provenance
  const body = form === undefined ? permit.body : Buffer.from(form)
  if (body !== undefined) {
    headers['content-type'] =
      form === undefined
        ? (permit.contentType ?? 'application/fhir+json; charset=utf-8')
        : 'application/x-www-form-urlencoded'
  }
  const request: UpstreamRequest = {
    // HEAD is GET here: what cannot be inspected cannot be judged (REST-4).
    method: isRead && interaction.method !== 'DELETE' ? 'GET' : interaction.method,
    path,
    query,
    headers,
    signal: exchange.arrival.signal,
    ...(body === undefined ? {} : { body }),
    ...(isBulk ? { isBulk } : {}),
  }
  return await upstream(request)
}

function withoutOurs(interaction: Interaction): Interaction {
  if (!interaction.parameters.some((parameter) => OURS.has(parameter.name))) return interaction
  return {
    ...interaction,
    parameters: interaction.parameters.filter((parameter) => !OURS.has(parameter.name)),
  }
}

/** REST-13: a lenient upstream would drop an unknown constraint silently, so searches are strict. */
function formatPrefer(interaction: Interaction, exchange: Exchange): string | undefined {
  if (interaction.code.startsWith('search')) return 'handling=strict'
  if (!['POST', 'PUT', 'PATCH'].includes(interaction.method)) return undefined
  const wanted = parsePreferReturn(exchange.arrival.headers['prefer'])
  return wanted === undefined ? undefined : `return=${wanted}`
}

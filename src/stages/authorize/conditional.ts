import type { Match } from '../../exchange.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import { isGeneral } from '../../fhir/parameter.ts'
import type { Permit } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { checkPreconditions } from './preconditions.ts'
import type { Request } from './request.ts'
import { searchInView } from './view.ts'

/**
 * Conditional interactions are a search and then a plain interaction (REST-6): the criteria are asked
 * within the caller's view, so that what is hidden is no answer to them, and what is left is decided
 * like any other write. One match is that resource; several are 412. Upstream never sees the
 * criteria: it would answer them with what the caller may not see (docs/decisions/0012).
 */
export async function decideConditional(request: Request): Promise<Permit> {
  const { interaction, body } = request.inquiry
  const { type = '' } = interaction
  const parameters = interaction.parameters.filter(({ name }) => isGeneral(name))
  const { id } = await findMatch(request)
  switch (interaction.code) {
    case 'conditional-create':
      // "One Match: The server ignores the post and returns 200 OK" (FHIR R4 http.html#ccreate).
      return id === undefined
        ? request.again({ code: 'create', method: 'POST', type, parameters }, body)
        : request.again({ code: 'read', method: 'GET', type, id, parameters })
    case 'conditional-update':
      if (id === undefined) checkPreconditions(request, type, undefined)
      return id === undefined
        ? request.again({ code: 'create', method: 'POST', type, parameters }, body)
        : request.again({ code: 'update', method: 'PUT', type, id, parameters }, withId(body, id))
    default: {
      if (id === undefined) throw new Refusal('not-found')
      const isPatch = interaction.code === 'conditional-patch'
      const plain = { type, id, parameters } as const
      const next: Interaction = isPatch
        ? { code: 'patch', method: 'PATCH', ...plain }
        : { code: 'delete', method: 'DELETE', ...plain }
      return request.again(next, isPatch ? body : undefined)
    }
  }
}

/** What the criteria come to. Throws Refusal, also for more than one match. */
export async function findMatch(request: Request): Promise<Match> {
  const { interaction, match } = request.inquiry
  if (match !== undefined) return match
  const criteria = interaction.parameters.filter(({ name }) => !isGeneral(name))
  const found = await searchInView(request, interaction.type ?? '', criteria)
  if (found.length > 1) throw new Refusal('multiple-matches')
  return { id: found[0]?.id }
}

/** A body that names no id gets the one that its address will have; any other stays as it is. */
function withId(body: Buffer | undefined, id: string): Buffer | undefined {
  if (body === undefined) return undefined
  let parsed: unknown
  try {
    parsed = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new Refusal('body-malformed', { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Object.hasOwn(parsed, 'id')) return body
  const open = body.indexOf('{')
  const comma = Object.keys(parsed).length === 0 ? '' : ','
  return Buffer.concat([
    body.subarray(0, open + 1),
    Buffer.from(`"id":${JSON.stringify(id)}${comma}`),
    body.subarray(open + 1),
  ])
}

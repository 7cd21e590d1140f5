import type { Arrival } from '../../exchange.ts'
import type { Conditions } from '../../http/validators.ts'
import { isLimited, patientsOf } from '../../permit.ts'
import type { Permit, PermitFields, Terms } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { ASKED } from './asked.ts'
import { brokenBy } from './emergency.ts'
import { capCount, checkParameters, takeShape } from './question.ts'
import { permitPage } from './pages.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'

/** read, vread and the history of one resource. */
export function decideInstance({
  inquiry,
  holdings,
  definitions,
  touches,
  cursors,
  reason,
}: Request): Permit {
  const { interaction } = inquiry
  const { type = '' } = interaction
  const grant = holdings.demand(type, ASKED[interaction.code as 'read'])
  const { parameters, trim } = takeShape(interaction.parameters, definitions)
  checkParameters(type, parameters, grant, { definitions, touches })
  const fields: PermitFields = {
    interaction: { ...interaction, parameters },
    requested: interaction,
    body: undefined,
    terms: { ...only(type, grant), trim },
    rules: grant.rules,
    patients: patientsOf(grant),
    breakGlass: brokenBy(grant, reason),
    ...(interaction.code === 'history-instance' ? {} : { unless: conditionsOf(inquiry.arrival) }),
  }
  return permitPage(fields, cursors, interaction)
}

/**
 * They stay here: upstream would answer 304 of what nobody has judged (REST-16). RFC 9110 §13.1.2: it answers
 * GET and HEAD alone, and not a create that found what it would have made.
 */
function conditionsOf({ method, headers }: Arrival): Conditions | undefined {
  if (method !== 'GET' && method !== 'HEAD') return undefined
  const [none, since] = [headers['if-none-match'], headers['if-modified-since']].map((value) =>
    typeof value === 'string' ? value : undefined,
  )
  return none === undefined && since === undefined ? undefined : { none, since }
}

/**
 * The history of a type or of all: upstream cannot narrow it, so every version is judged alone. Its
 * pages tell how much was withheld from them: it takes a grant without limit (SCOPE-11, REST-11).
 */
export function decideHistory({
  inquiry,
  holdings,
  definitions,
  touches,
  config,
  cursors,
}: Request): Permit {
  const { interaction } = inquiry
  const { type } = interaction
  const asked = ASKED[interaction.code as 'history-type']
  const { parameters, trim } = takeShape(interaction.parameters, definitions)
  if (parameters.some(({ name }) => name === '_list')) {
    throw new Refusal('parameter-forbidden', { parameter: '_list' })
  }
  const grants = type === undefined ? [] : [holdings.demand(type, asked)]
  if (type === undefined) holdings.demandAny(definitions.types, asked)
  let isOpen = false
  for (const one of type === undefined ? definitions.types : [type]) {
    const grant = holdings.look(one, asked)
    if (grant === undefined) continue
    checkParameters(one, parameters, grant, { definitions, touches })
    // Of all types one is enough: one more scope takes nothing away (SCOPE-6).
    if (!isLimited(grant)) isOpen = true
  }
  if (!isOpen) throw new Refusal('cannot-narrow')
  const terms: Terms = {
    grantFor: (other) =>
      type === undefined || other === type ? holdings.look(other, asked) : undefined,
    mayReadBack: true,
    trim,
  }
  const fields: PermitFields = {
    interaction: { ...interaction, parameters: capCount(parameters, config.limits.count) },
    ...{ requested: interaction, body: undefined, terms },
    rules: grants.flatMap(({ rules }) => rules),
  }
  return permitPage(fields, cursors, interaction)
}

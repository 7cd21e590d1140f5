import type { Config } from '../../config/schema.ts'
import type { Inquiry, Principal } from '../../exchange.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import type { InteractionCode } from '../../fhir/interaction.ts'
import { Permit } from '../../permit.ts'
import type { Inspect } from '../../permit.ts'
import type { PolicySet } from '../../policy/evaluate.ts'
import type { Clock, Upstream } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import { decide } from './decide.ts'
import type { Asked } from './decide.ts'
import { checkParameters, narrow } from './question.ts'
import { judgeWrite } from './write.ts'

export type AuthorizeParts = {
  readonly policies: PolicySet
  readonly definitions: Definitions
  readonly inspect: Inspect
  readonly clock: Clock
}

/** SCOPE-3: the letter and policy word of each interaction; what is not here is refused. */
const ASKED: Readonly<Partial<Record<InteractionCode, Asked>>> = {
  read: { letter: 'r', word: 'read' },
  vread: { letter: 'r', word: 'vread' },
  'history-instance': { letter: 'r', word: 'history-instance' },
  'search-type': { letter: 's', word: 'search-type' },
  'search-compartment': { letter: 's', word: 'search-compartment' },
  create: { letter: 'c', word: 'create' },
  update: { letter: 'u', word: 'update' },
  delete: { letter: 'd', word: 'delete' },
}

/** Builds the stage that decides whether a principal may, and on what terms. Throws Refusal. */
export function createAuthorize(
  config: Config,
  { policies, definitions, inspect, clock }: AuthorizeParts,
): (principal: Principal, inquiry: Inquiry, upstream: Upstream) => Permit | Promise<Permit> {
  return (principal, inquiry, upstream) => {
    const { interaction, arrival } = inquiry
    const asked = ASKED[interaction.code]
    const { type, compartment } = interaction
    if (asked === undefined || type === undefined || !definitions.types.has(type)) {
      throw new Refusal(
        interaction.code === 'operation' ? 'operation-refused' : 'interaction-refused',
      )
    }
    if (compartment !== undefined && compartment.type !== 'Patient') {
      throw new Refusal('interaction-refused', { detail: 'not the compartment of a patient' })
    }
    checkHeaders(arrival.headers)
    const { terms, rules } = decide(principal, interaction, type, asked, policies, clock.now())
    const patient = terms.grantFor(type)?.patient
    if (
      patient !== undefined &&
      type !== 'Patient' &&
      definitions.patientPaths(type).length === 0
    ) {
      throw new Refusal('policy-denied', { detail: 'a type that no patient can be told from' })
    }
    checkParameters(interaction.parameters, terms.masking, definitions)
    const fields = { interaction, requested: interaction, body: undefined, terms, rules }
    if (asked.letter === 'r') return Permit.issue(fields)
    if (asked.letter === 's') {
      const limits = patient === undefined ? [] : [patient]
      const narrowed = narrow(interaction, type, limits, config.limits.count, definitions)
      return Permit.issue({ ...fields, interaction: narrowed })
    }
    const limit = config.limits.bodyBytes
    return judgeWrite(principal, inquiry, type, terms, inspect, upstream, limit).then((ifMatch) =>
      Permit.issue({
        ...fields,
        body: inquiry.body,
        ...(ifMatch === undefined ? {} : { ifMatch }),
      }),
    )
  }
}

/** Headers that would turn the interaction into another one upstream. */
function checkHeaders(headers: Inquiry['arrival']['headers']): void {
  if (headers['if-none-exist'] !== undefined || headers['x-provenance'] !== undefined) {
    throw new Refusal('interaction-refused', {
      detail: 'a header that asks for a second interaction',
    })
  }
  if (/respond-async/i.test([headers.prefer ?? ''].flat().join())) {
    throw new Refusal('interaction-refused', {
      detail: 'Prefer: respond-async',
      parameter: 'Prefer',
    })
  }
}

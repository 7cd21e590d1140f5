import { findOperation } from '../../fhir/operations.ts'
import type { Operation } from '../../fhir/operations.ts'
import type { Interaction, Parameter } from '../../fhir/interaction.ts'
import { patientsOf } from '../../permit.ts'
import type { Grant, Permit, PermitFields, Terms } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { decideExport } from './export.ts'
import { permitPage } from './pages.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'
import { capCount } from './question.ts'
import { checkSearches } from './write.ts'

/** Result parameters that every interaction may carry; they are the gateway's own to answer. */
const GENERAL = new Set(['_format', '_pretty'])

/**
 * An operation: offered by its row, permitted by scope and policy for its type, held to the patient
 * of the grant, and released in the shape that its row says.
 */
export function decideOperation(request: Request): Permit | Promise<Permit> {
  const { inquiry, holdings, cursors, config } = request
  const { interaction, body } = inquiry
  const row = findOperation(interaction)
  if (row === undefined) throw new Refusal('operation-refused')
  for (const { name } of interaction.parameters) {
    if (!row.parameters.includes(name) && !GENERAL.has(name)) {
      throw new Refusal('parameter-unknown', { detail: 'not a parameter of this operation' })
    }
  }
  if (row.name.startsWith('export')) return decideExport(request, row)
  const { type = '' } = interaction
  const grant = holdings.demand(type, { letter: row.letter, word: 'operation' })
  checkContent(request, type, grant)
  if (row.takesResource === true) judgeResource(request, type, grant)
  const patients = patientsOf(grant)
  if (row.level === 'instance' && type === 'Patient' && patients !== undefined) {
    // Another patient, and one that there is not, look alike (C1).
    if (!patients.includes(interaction.id ?? '')) {
      throw new Refusal('not-found', { withholds: true })
    }
  }
  const fields: PermitFields = {
    interaction: hold(interaction, row, patients, config.limits.count),
    ...{ requested: interaction, body, rules: grant.rules, shape: row.shape },
    terms: row.shape === 'bundle' ? everyType(request, type, grant) : only(type, grant),
    patients: interaction.type === 'Patient' ? [interaction.id ?? ''] : patients,
  }
  return permitPage(fields, cursors, interaction)
}

/** Parameters that choose by what stands in resources, of whatever type. */
const BY_CONTENT: ReadonlySet<string> = new Set([
  ...['start', 'end', '_since', 'code', 'category', 'type', 'date', 'subject'],
])

/** REST-12: by which element they choose is upstream's to know: whoever is shown less chooses by none. */
function checkContent({ inquiry, holdings }: Request, type: string, grant: Grant): void {
  const asked = inquiry.interaction.parameters.find(({ name }) => BY_CONTENT.has(name))
  if (asked === undefined) return
  const isMasked = ({ reach }: Grant): boolean => reach.some(({ masking }) => masking.size > 1)
  if (isMasked(grant) || isMasked(holdings.find('Observation') ?? grant)) {
    throw new Refusal('parameter-forbidden', { parameter: asked.name, detail: type })
  }
}

function everyType({ holdings }: Request, type: string, grant: Grant): Terms {
  return {
    grantFor: (other) => (other === type ? grant : holdings.find(other)),
    mayReadBack: true,
    hasOthers: true,
  }
}

/** The operation as upstream gets it: held to the patients of the grant, pages capped. */
function hold(
  interaction: Interaction,
  { patient }: Operation,
  patients: readonly string[] | undefined,
  count: number,
): Interaction {
  const parameters = capCount(interaction.parameters, count)
  if (patient === undefined || patients === undefined) return { ...interaction, parameters }
  const own = patients.map((id) => `Patient/${id}`)
  const asked = parameters.filter(({ name }) => name === patient || name === 'subject')
  const isOwn = ({ values }: Parameter): boolean =>
    values.every((value) => own.includes(value) || own.includes(`Patient/${value}`))
  if (own.length !== 1 || !asked.every(isOwn)) {
    throw new Refusal('compartment-denied', { parameter: patient })
  }
  const others = parameters.filter((parameter) => !asked.includes(parameter))
  return { ...interaction, parameters: [...others, { name: patient, values: own }] }
}

function judgeResource({ inquiry, inspect }: Request, type: string, grant: Grant): void {
  const { body } = inquiry
  if (body === undefined || body.length === 0) throw new Refusal('body-malformed')
  const found = inspect(only(type, grant), body)
  if (found.type !== type) throw new Refusal('body-mismatch')
  if (found.withheld === 'compartment') throw new Refusal('compartment-denied')
  if (found.withheld !== undefined) throw new Refusal('policy-denied', { detail: found.withheld })
  checkSearches(inquiry, found, body)
}

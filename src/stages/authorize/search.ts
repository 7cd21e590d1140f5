import type { Definitions } from '../../fhir/definitions.ts'
import { parseFilter } from '../../fhir/filter.ts'
import type { Interaction, Parameter } from '../../fhir/interaction.ts'
import { isLimited, patientsOf } from '../../permit.ts'
import type { Grant, Permit, PermitFields, Terms, Touches } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { ASKED } from './asked.ts'
import { isLinked, resolveChains } from './chain.ts'
import { brokenBy } from './emergency.ts'
import { followedBy } from './follows.ts'
import { capCount, checkIncludes, checkParameters, narrow, takeShape } from './question.ts'
import { permitPage } from './pages.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'
import { shownBy } from './shown.ts'

/** Search of a type, of a type in a patient's compartment, or of several types. */
export function decideSearch(request: Request): Permit | Promise<Permit> {
  const { interaction } = request.inquiry
  const { type, compartment } = interaction
  if (compartment !== undefined && compartment.type !== 'Patient') {
    throw new Refusal('interaction-refused', { detail: 'not the compartment of a patient' })
  }
  if (type === undefined || type === '*') return decideSystemSearch(request)
  // Held before anything is asked upstream on behalf of it.
  const grant = request.holdings.demand(type, ASKED[interaction.code as 'search-type'])
  if (!interaction.parameters.some(isLinked)) return permitSearch(request, type, grant, interaction)
  return resolveChains(request, interaction).then((plain) =>
    permitSearch(request, type, grant, plain),
  )
}

function permitSearch(
  request: Request,
  type: string,
  grant: Grant,
  interaction: Interaction,
): Permit {
  const { inquiry, holdings, definitions, touches, config, cursors, reason } = request
  const shaped = takeShape(interaction.parameters, request.definitions)
  const { trim } = shaped
  const parameters = rewriteFilters(shaped.parameters, type, grant, { definitions, touches })
  const grantOf = (other: string): Grant | undefined =>
    other === type ? grant : holdings.find(other)
  checkIncludes(parameters, definitions, { grantOf, touches })
  const compartment = interaction.compartment?.id
  if (compartment !== undefined && patientsOf(grant)?.includes(compartment) !== true) {
    // The compartment of a patient is a search by the link to it (REST-12).
    const link = definitions.patientParameter(type)?.name ?? '_id'
    checkParameters(type, [{ name: link, values: [`Patient/${compartment}`] }], grant, {
      definitions,
      touches,
    })
  }
  const question = { ...interaction, parameters }
  const follows = followedBy(parameters, [type], request)
  const terms: Terms =
    follows === undefined
      ? { ...only(type, grant), trim }
      : { grantFor: grantOf, mayReadBack: true, hasOthers: true, follows, trim }
  const shown = shownBy(parameters, [type], request)
  const tellsWithheld = holdings.mayBreakGlass(type, ASKED['search-type'])
  const fields: PermitFields = {
    interaction: narrow(question, type, grant, config.limits.count, definitions),
    ...{ requested: inquiry.interaction, body: undefined, rules: grant.rules },
    terms: { ...terms, ...(tellsWithheld ? { tellsWithheld } : {}), ...(shown ? { shown } : {}) },
    patients: compartment === undefined ? patientsOf(grant) : [compartment],
    breakGlass: brokenBy(grant, reason),
  }
  return permitPage(fields, cursors, inquiry.interaction)
}

/**
 * The parameters with each `_filter` written anew, once every comparison in it is permitted as the
 * search parameter that it is.
 */
function rewriteFilters(
  parameters: readonly Parameter[],
  type: string,
  grant: Grant,
  parts: { readonly definitions: Definitions; readonly touches: Touches },
): readonly Parameter[] {
  const asked: Parameter[] = []
  const written = parameters.map((parameter) => {
    if (parameter.name !== '_filter') {
      asked.push(parameter)
      return parameter
    }
    if (grant.forbids?.('_filter') === true) {
      throw new Refusal('parameter-forbidden', { parameter: '_filter' })
    }
    const filter = parseFilter(parameter.values.join(), type, parts.definitions)
    for (const { name, value } of filter.comparisons) asked.push({ name, values: [value] })
    return { name: '_filter', values: [filter.text] }
  })
  checkParameters(type, asked, grant, parts)
  return written
}

/** Search over several types: they must be named, and each must be held, and held without limit. */
function decideSystemSearch(request: Request): Permit {
  const { inquiry, holdings, definitions, config, cursors } = request
  const { interaction } = inquiry
  const types = interaction.parameters
    .filter(({ name }) => name === '_type')
    .flatMap(({ values }) => values)
  if (types.length === 0 || interaction.compartment !== undefined) {
    throw new Refusal('interaction-refused', { detail: 'a search of all types there are' })
  }
  const { parameters, trim } = takeShape(interaction.parameters, request.definitions)
  const grants = types.map((type) => {
    const grant = holdings.demand(type, ASKED['search-system'])
    checkParameters(type, parameters, grant, request)
    return grant
  })
  // No parameter narrows several types, and pages tell how much was withheld from them (REST-11).
  if (grants.some(isLimited)) throw new Refusal('cannot-narrow', { parameter: '_type' })
  if (parameters.some((parameter) => isLinked(parameter))) {
    throw new Refusal('parameter-forbidden', { detail: 'a chain from several types' })
  }
  checkIncludes(parameters, definitions, {
    grantOf: (other) => holdings.find(other),
    touches: request.touches,
  })
  const fields: PermitFields = {
    interaction: { ...interaction, parameters: capCount(parameters, config.limits.count) },
    ...{ requested: interaction, body: undefined },
    terms: {
      grantFor: (other) =>
        types.includes(other) ? holdings.look(other, ASKED['search-system']) : holdings.find(other),
      mayReadBack: true,
      trim,
      shown: shownBy(parameters, types, request),
      follows: followedBy(parameters, types, request),
    },
    rules: [...new Set(grants.flatMap(({ rules }) => rules))],
  }
  return permitPage(fields, cursors, interaction)
}

import { ID } from '../../fhir/datatypes.ts'
import { valuesAt } from '../../fhir/element.ts'
import type { Interaction, Parameter } from '../../fhir/interaction.ts'
import { formatParameters, parseParameters } from '../../fhir/parameter.ts'
import { parseReference } from '../../fhir/reference.ts'
import { Refusal } from '../../refusal.ts'
import type { Request } from './request.ts'
import { ASKED } from './asked.ts'
import { checkParameters } from './question.ts'
import { searchInView } from './view.ts'

/** A chain without a type may point anywhere; beyond this many types it has to say which. */
const MOST_TYPES = 3
const NOT_HELD: ReadonlySet<string> = new Set(['scope-insufficient', 'policy-denied'])
/** An id that no resource has: nothing matches. */
const NOTHING: Parameter = { name: '_id', values: ['fhirewall.matches.nothing'] }

/**
 * The interaction without chains, `_has` and `_list`: each is answered first, as a search of its own that the
 * principal may make and whose matches it may see, and becomes a list of ids. What a chain tells is
 * no more than those searches tell (SCOPE-10).
 */
export async function resolveChains(
  request: Request,
  interaction: Interaction,
): Promise<Interaction> {
  const type = interaction.type ?? '*'
  const parameters: Parameter[] = []
  for (const parameter of interaction.parameters) {
    if (!isLinked(parameter)) parameters.push(parameter)
    else if (parameter.name === '_list') parameters.push(await inList(request, type, parameter))
    else if (parameter.name === '_has') parameters.push(await reverse(request, type, parameter))
    else parameters.push(await forward(request, type, parameter))
  }
  return { ...interaction, parameters }
}

export const isLinked = ({ name, chain }: Parameter): boolean =>
  chain !== undefined || name === '_has' || name === '_list'

/** `subject:Patient.name=x`: the patients of that name, then `subject=Patient/1,Patient/2`. */
async function forward(request: Request, type: string, parameter: Parameter): Promise<Parameter> {
  const { definitions } = request
  const { name, modifier, chain, values } = parameter
  const targets = definitions.searchParameters(type).get(name)?.targets ?? [...definitions.types]
  const asked = modifier === undefined ? targets : [modifier]
  const first = chain?.name ?? ''
  const types = asked.filter(
    (target) => first.startsWith('_') || definitions.searchParameters(target).has(first),
  )
  if (chain === undefined || types.length === 0 || types.length > MOST_TYPES) {
    throw new Refusal('parameter-forbidden', { parameter: name, detail: 'a chain without a type' })
  }
  const found: string[] = []
  const refused: Refusal[] = []
  for (const target of types) {
    try {
      const seen = await searchInView(request, target, [{ ...chain, values }])
      found.push(...seen.map(({ id }) => `${target}/${id}`))
    } catch (error) {
      // Of several types those count that the principal may search; the others hold nothing for it.
      if (!(error instanceof Refusal) || !NOT_HELD.has(error.reason)) throw error
      refused.push(error)
    }
  }
  const [refusal] = refused
  if (refusal !== undefined && refused.length === types.length) throw refusal
  return found.length === 0 ? NOTHING : { name, values: found }
}

/** `_has:Observation:patient:code=x`: those observations, then the ids of what they refer to. */
async function reverse(request: Request, type: string, parameter: Parameter): Promise<Parameter> {
  const { definitions, config } = request
  const [source = '', reference = '', ...rest] = (parameter.modifier ?? '').split(':')
  const text = `${rest.join(':')}=${formatParameters([parameter]).replace(/^[^=]*=/, '')}`
  const criteria = parseParameters(text, 'search', source, definitions, config.limits)
  const paths = definitions.searchParameters(source).get(reference)?.paths ?? []
  // Its links are told by what comes of it: it must be permitted as the parameter that it is.
  const grant = request.holdings.demand(source, ASKED['search-type'])
  checkParameters(source, [{ name: reference, values: [] }], grant, request)
  const seen = await searchInView(request, source, criteria)
  const ids = new Set(
    seen.flatMap(({ resource }) => paths.flatMap((path) => idsAt(resource, path, type, request))),
  )
  return ids.size === 0 ? NOTHING : { name: '_id', values: [...ids] }
}

/** `_list=42`: the resources of the type that a list names, when the principal may see the list. */
async function inList(
  request: Request,
  type: string,
  { values, modifier }: Parameter,
): Promise<Parameter> {
  const [list = '', ...more] = values
  // `$current-allergies` and its like are lists that upstream makes up: nobody can judge them.
  if (more.length > 0 || modifier !== undefined || !ID.test(list)) {
    throw new Refusal('parameter-forbidden', { parameter: '_list' })
  }
  const grant = request.holdings.demand('List', ASKED['search-type'])
  checkParameters('List', [{ name: 'item', values: [] }], grant, request)
  const seen = await searchInView(request, 'List', [{ name: '_id', values: [list] }])
  const ids = seen.flatMap(({ resource }) => idsAt(resource, ['entry', 'item'], type, request))
  if (ids.length > request.config.limits.valuesPerParameter) {
    throw new Refusal('parameter-forbidden', { parameter: '_list', detail: 'a list too long' })
  }
  return ids.length === 0 ? NOTHING : { name: '_id', values: [...new Set(ids)] }
}

/** The ids of resources of a type that the references at a path name. */
function idsAt(
  resource: unknown,
  path: readonly string[],
  type: string,
  { bases }: Request,
): string[] {
  return valuesAt(resource, path).flatMap((value) => {
    const text = (value as { reference?: unknown } | null)?.reference
    const local = typeof text === 'string' ? parseReference(text, bases) : undefined
    return local?.type === type ? [local.id] : []
  })
}

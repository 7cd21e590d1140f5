import { valuesAt } from '../../fhir/element.ts'
import type { ElementPath } from '../../fhir/definitions.ts'
import type { Parameter } from '../../fhir/interaction.ts'
import { parseReference } from '../../fhir/reference.ts'
import type { Follows, Link } from '../../permit.ts'
import type { Request } from './request.ts'

/** One value of `_include` or `_revinclude`: whose links, in which elements, to what. */
type Way = {
  readonly source: string
  readonly parameter: string
  readonly target: string | undefined
  readonly isReverse: boolean
  readonly iterates: boolean
}

/**
 * The links that a search has others come along by, to be found again in what is shown of each resource:
 * what comes along by a link that is masked, or of a match that is withheld, would tell of it (REST-12).
 * undefined = it asks for none.
 */
export function followedBy(
  parameters: readonly Parameter[],
  types: readonly string[],
  { definitions, bases }: Pick<Request, 'definitions' | 'bases'>,
): Follows | undefined {
  const ways = parameters.flatMap(waysOf)
  if (ways.length === 0) return undefined
  const known = new Map<string, readonly ElementPath[]>()
  /** Where the links of one type are that one way follows. */
  function pathsOf({ parameter }: Way, type: string): readonly ElementPath[] {
    const key = `${type} ${parameter}`
    let paths = known.get(key)
    if (paths === undefined) {
      const own = definitions.searchParameters(type)
      const all = parameter === '*' ? [...own.values()] : [own.get(parameter)]
      paths = all.flatMap((one) => (one?.type === 'reference' ? one.paths : []))
      known.set(key, paths)
    }
    return paths
  }
  return {
    types: new Set(types),
    linksOf: (type, shown) =>
      ways.flatMap((way) =>
        way.source !== '*' && way.source !== type
          ? []
          : pathsOf(way, type)
              .flatMap((path) => valuesAt(shown, path))
              .flatMap((value) => linkOf(value, way, bases) ?? []),
      ),
  }
}

function waysOf({ name, modifier, values }: Parameter): readonly Way[] {
  if (name !== '_include' && name !== '_revinclude') return []
  return values.map((value) => {
    const [source = '', parameter = '*', target] = value.split(':')
    return {
      ...{ source, parameter, target },
      isReverse: name === '_revinclude',
      iterates: modifier === 'iterate',
    }
  })
}

/** To a resource of ours by its reference, or to whatever has a canonical address. */
function linkOf(
  value: unknown,
  { target, isReverse, iterates }: Way,
  bases: readonly string[],
): Link | undefined {
  if (typeof value === 'string') return { to: value.replace(/\|.*$/, ''), isReverse, iterates }
  const text = (value as { reference?: unknown } | null)?.reference
  const local = typeof text === 'string' ? parseReference(text, bases) : undefined
  if (local === undefined || (target !== undefined && local.type !== target)) return undefined
  return { to: `${local.type}/${local.id}`, isReverse, iterates }
}

import { isDeepStrictEqual } from 'node:util'
import type { Definitions, ElementPath } from '../../fhir/definitions.ts'
import { valuesAt } from '../../fhir/element.ts'
import { parseFilter } from '../../fhir/filter.ts'
import type { Parameter } from '../../fhir/interaction.ts'
import { compileCriteria } from '../../fhir/match.ts'
import type { Matcher } from '../../fhir/match.ts'
import type { Terms } from '../../permit.ts'
import { pathsOf, selectsNothing, sortKeys } from './question.ts'
import type { Request } from './request.ts'

/** Where a search looks, or what orders it; nowhere = nobody can say where. */
type Look = {
  readonly paths: readonly ElementPath[]
  readonly held?: Matcher | undefined
}

/**
 * What a search has looked at, to be asked again of each match of which something is masked (MASK-9): it
 * is found when all of that shows to the caller as upstream holds it; or, for texts and identifiers, in
 * which numbers are masked by how they look, when what shows of it would have been found as well.
 * undefined = nothing was looked at.
 */
export function shownBy(
  parameters: readonly Parameter[],
  types: readonly string[],
  { definitions, bases }: Pick<Request, 'definitions' | 'bases'>,
): Terms['shown'] {
  const looks = types.map((type): readonly [type: string, looks: readonly Look[]] => [
    type,
    parameters.flatMap((parameter) => looksOf(parameter, type, definitions, bases)),
  ])
  if (looks.every(([, own]) => own.length === 0)) return undefined
  const isShown = (path: ElementPath, masked: unknown, whole: unknown): boolean =>
    isDeepStrictEqual(told(valuesAt(masked, path), bases), told(valuesAt(whole, path), bases))
  return new Map(
    looks.map(([type, own]) => [
      type,
      {
        holds: (masked, whole) =>
          own.every(
            ({ paths, held }) =>
              (paths.length > 0 && paths.every((path) => isShown(path, masked, whole))) ||
              held?.(masked) === true,
          ),
        members: own.some(({ paths }) => paths.length === 0)
          ? undefined
          : new Set(own.flatMap(({ paths }) => paths.map(([first = '']) => first))),
      },
    ]),
  )
}

function looksOf(
  parameter: Parameter,
  type: string,
  definitions: Definitions,
  bases: readonly string[],
): readonly Look[] {
  const { name, modifier } = parameter
  const at = (one: string): Look => ({ paths: pathsOf(one, type, definitions) })
  if (name === '_sort')
    return sortKeys(parameter)
      .filter((by) => by !== SCORE)
      .map(at)
  if (name === '_filter')
    return parseFilter(parameter.values.join(), type, definitions).comparisons.map((one) =>
      at(one.name),
    )
  if (selectsNothing(name) || name === SCORE) return []
  const paths = pathsOf(name, type, definitions, modifier)
  const definition = definitions.searchParameters(type).get(name)
  // What does not hold of what shows may hold of what is hidden: it would tell of it.
  const isExact =
    (definition?.type === 'string' || name === 'identifier') && !NEGATIVE.has(modifier ?? '')
  return [
    {
      paths: definition?.type === 'composite' ? [] : paths,
      held: isExact ? compileCriteria(type, [parameter], definitions, bases) : undefined,
    },
  ]
}

/** How well it fits, by upstream's own judgement of what was asked. */
const SCORE = '_score'
const NEGATIVE: ReadonlySet<string> = new Set(['not', 'missing'])

/** Values as they count for a search: of a reference where it leads, by whichever address. */
function told(values: readonly unknown[], bases: readonly string[]): readonly unknown[] {
  return values.map((value) => {
    if (typeof value === 'string') return withoutBase(value, bases)
    if (typeof value !== 'object' || value === null || !('reference' in value)) return value
    const { reference, identifier } = value as { reference: unknown; identifier?: unknown }
    return [typeof reference === 'string' ? withoutBase(reference, bases) : reference, identifier]
  })
}

function withoutBase(text: string, bases: readonly string[]): string {
  const base = bases.find((one) => text.startsWith(`${one}/`))
  return base === undefined ? text : text.slice(base.length + 1)
}

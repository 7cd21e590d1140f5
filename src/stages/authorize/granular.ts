import type { Definitions } from '../../fhir/definitions.ts'
import { compileCriteria } from '../../fhir/match.ts'
import { parseParameters } from '../../fhir/parameter.ts'
import type { Parameter, TargetLimits } from '../../fhir/parameter.ts'
import type { SmartScope } from '../../oauth/smart-scope.ts'
import type { Criteria } from '../../permit.ts'

/** Result parameters and joins select no resource by what is in it: no criteria of a scope. */
const NO_CRITERION = /^_(?!id$|lastUpdated$|tag$|security$|profile$|source$)/

/**
 * The criteria of a granular scope (`?category=laboratory`), which hold on every interaction; or
 * undefined when one of them cannot be held exactly: such a scope grants nothing (SCOPE-7, SCOPE-8).
 */
export function compileScope(
  { filters }: SmartScope,
  type: string,
  definitions: Definitions,
  limits: TargetLimits,
  bases: readonly string[],
): Criteria | undefined {
  const text = filters
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&')
  let parameters: readonly Parameter[]
  try {
    parameters = parseParameters(text, 'criteria', type, definitions, limits)
  } catch {
    return undefined
  }
  if (parameters.some(({ name }) => NO_CRITERION.test(name))) return undefined
  const hold = compileCriteria(type, parameters, definitions, bases)
  return hold === undefined ? undefined : { parameters, hold }
}

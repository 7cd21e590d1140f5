/** SMART App Launch 2.2 scopes (https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html). */

/** create, read, update, delete, search. */
export type SmartLetter = 'c' | 'r' | 'u' | 'd' | 's'

export type SmartLevel = 'patient' | 'user' | 'system'

/** One scope that grants FHIR access. */
export type SmartScope = {
  readonly level: SmartLevel
  /** Resource type, or '*'. */
  readonly target: string
  readonly letters: ReadonlySet<SmartLetter>
  /** `?param=value` pairs of a granular scope, percent-decoded once; [] for none. */
  readonly filters: readonly (readonly [name: string, value: string])[]
}

/** The grammar of the published railroad diagram; zero letters grant nothing, so one at least. */
const SCOPE =
  /^(?:http:\/\/smarthealthit\.org\/fhir\/scopes\/)?(patient|user|system)\/(\*|[A-Z][A-Za-z]{1,63})\.(read|write|\*|(?=[cruds])c?r?u?d?s?)(?:\?(.+))?$/

/** SMART 2.2 "Scopes for requesting FHIR Resources": what the v1 words mean in v2 letters. */
const V1: Readonly<Record<string, string>> = { read: 'rs', write: 'cud', '*': 'cruds' }

/** The letters of all permissions that can be written, each set once. */
const LETTERS: ReadonlyMap<string, ReadonlySet<SmartLetter>> = new Map(
  Array.from({ length: 32 }, (_, bits) => {
    const letters = Array.from('cruds' as Iterable<SmartLetter>).filter((_, at) => bits & (1 << at))
    return [letters.join(''), new Set(letters)]
  }),
)

/** A claim with more scopes than this is not one an authorization server issues. */
const MOST_SCOPES = 500

/**
 * Reads a `scope` claim: a space-separated string, or an array of strings as some servers send.
 * What is not a SMART scope of exact form grants nothing and is left out (SCOPE-1, SCOPE-16).
 *
 * @param takesV1 - whether the words of SMART v1 have a meaning (SCOPE-2)
 */
export function parseScopes(
  claim: unknown,
  separator = ' ',
  takesV1 = true,
): readonly SmartScope[] {
  const texts =
    typeof claim === 'string'
      ? splitScopes(claim, separator)
      : Array.isArray(claim)
        ? claim.filter((item): item is string => typeof item === 'string')
        : []
  const scopes: SmartScope[] = []
  for (const text of texts.slice(0, MOST_SCOPES)) {
    const scope = parseScope(text, takesV1)
    if (scope !== undefined) scopes.push(scope)
  }
  return scopes
}

function splitScopes(claim: string, separator: string): readonly string[] {
  const parts = claim.split(separator)
  return separator === ' ' ? parts : parts.flatMap((part) => part.split(' '))
}

/** One scope, or undefined: it grants no FHIR access. */
export function parseScope(text: string, takesV1 = true): SmartScope | undefined {
  const found = SCOPE.exec(text)
  if (found === null) return undefined
  const [, level, target = '', permissions = '', query] = found
  const v1 = V1[permissions]
  // "there is no '?' in v1": such a scope has a meaning nobody defined.
  if (v1 !== undefined && (query !== undefined || !takesV1)) return undefined
  const filters = query === undefined ? [] : parseFilters(query)
  const letters = LETTERS.get(v1 ?? permissions)
  if (filters === undefined || letters === undefined) return undefined
  return {
    level: level as SmartLevel,
    target,
    letters,
    filters,
  }
}

function parseFilters(query: string): [name: string, value: string][] | undefined {
  const filters: [string, string][] = []
  for (const pair of query.split('&')) {
    const equals = pair.indexOf('=')
    if (equals < 1 || equals === pair.length - 1) return undefined
    try {
      filters.push([
        decodeURIComponent(pair.slice(0, equals)),
        decodeURIComponent(pair.slice(equals + 1)),
      ])
    } catch {
      return undefined
    }
  }
  return filters
}

import { z } from 'zod'
import { loadDefinitions, VERSIONS } from '../fhir/definitions.ts'
import type { FhirVersion } from '../fhir/definitions.ts'
import { isParameterOfAll } from '../fhir/parameter.ts'
import { PERSONS } from '../oauth/claims.ts'

/** The interactions that policies, and examples of them, speak of. */
export const interactionSchema = z.enum([
  'read',
  'vread',
  'history-instance',
  'search-type',
  'search-compartment',
  'create',
  'update',
  'delete',
  'operation',
])

/** The facts that are one of few texts, and which. */
export const CLOSED: Readonly<Record<string, readonly string[]>> = {
  'principal.kind': ['user', 'system'],
  'principal.fhirUserType': [...PERSONS],
  'request.interaction': interactionSchema.options,
  'request.method': ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
}

/** The names that any version of FHIR has: policies do not say for which they are. */
export type Names = {
  readonly isType: (type: string) => boolean
  /** Whether some type has the search parameter, or all have. */
  readonly isParameter: (name: string) => boolean
  /** Of search parameters: for whoever has misspelt one. */
  readonly parameters: () => readonly string[]
}

export function createNames(): Names {
  const seen: Known[] = []
  function some(holds: (known: Known) => boolean): boolean {
    if (seen.some(holds)) return true
    // A version is read only when those before it do not have the name.
    for (const version of VERSIONS.slice(seen.length)) {
      const known = learn(version)
      seen.push(known)
      if (holds(known)) return true
    }
    return false
  }
  return {
    isType: (type) => some(({ types }) => types.has(type)),
    isParameter: (name) =>
      isParameterOfAll(name) || some(({ parameters }) => parameters().has(name)),
    parameters: () => seen.flatMap(({ parameters }) => [...parameters()]),
  }
}

type Known = {
  readonly types: ReadonlySet<string>
  readonly parameters: () => ReadonlySet<string>
}

function learn(version: FhirVersion): Known {
  const { types, searchParameters } = loadDefinitions(version)
  let parameters: ReadonlySet<string> | undefined
  return {
    types,
    parameters: () =>
      (parameters ??= new Set([...types].flatMap((type) => [...searchParameters(type).keys()]))),
  }
}

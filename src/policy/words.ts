import { z } from 'zod'
import { loadDefinitions } from '../fhir/definitions.ts'

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

/** Tells whether any version of FHIR has a type: policies do not say for which they are. */
export function createTypeCheck(): (type: string) => boolean {
  const versions = ['R4', 'R5', 'R4B', 'STU3', 'DSTU2'] as const
  const seen: ReadonlySet<string>[] = []
  return (type) => {
    if (seen.some((types) => types.has(type))) return true
    // A version is read only when those before it do not have the type.
    for (const version of versions.slice(seen.length)) {
      const { types } = loadDefinitions(version)
      seen.push(types)
      if (types.has(type)) return true
    }
    return false
  }
}

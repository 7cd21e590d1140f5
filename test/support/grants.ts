import type { Grant, Reach } from '../../src/permit.ts'

/** A grant to read and search with the usual clearance; `patient` limits it to one compartment. */
export function grantOf(change: Partial<Reach> = {}): Grant {
  const clearance = { confidentiality: 'N', sensitivities: new Set<string>() } as const
  return {
    letters: new Set(['r', 's']),
    reach: [{ clearance, masking: new Set(['baseline']), ...change }],
    rules: [],
  }
}

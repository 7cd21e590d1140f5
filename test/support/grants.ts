import type { Grant } from '../../src/permit.ts'

/** A grant to read and search with the usual clearance; `patient` limits it to one compartment. */
export function grantOf(change: Partial<Grant> & { readonly patient?: string } = {}): Grant {
  const { patient, ...rest } = change
  return {
    letters: new Set(['r', 's']),
    reach: [patient === undefined ? {} : { patient }],
    clearance: { confidentiality: 'N', sensitivities: new Set() },
    masking: 'baseline',
    rules: [],
    ...rest,
  }
}

import { join } from 'node:path'
import { shippedPolicies } from '../../src/config/shipped.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import { loadMasking } from '../../src/policy/load-masking.ts'
import type { MaskingProfiles } from '../../src/policy/load-masking.ts'
import type { MaskingParts } from '../../src/stages/release/release.ts'

export const BASELINE: ReadonlySet<string> = new Set(['baseline'])
export const SAFE_HARBOR: ReadonlySet<string> = new Set(['baseline', 'safe-harbor'])

/** The shipped profiles, and those of another folder; a known key, and a day that stands still. */
export function shippedMasking(
  folder?: string,
  version: FhirVersion = 'R4',
): MaskingParts & { readonly profiles: () => MaskingProfiles } {
  const problems: { readonly message: string }[] = []
  const folders = [join(shippedPolicies(), 'masking'), ...(folder === undefined ? [] : [folder])]
  const profiles = loadMasking(folders, version, problems as never)
  if (problems.length > 0) throw new Error(problems.map(({ message }) => message).join())
  return {
    profiles: () => profiles,
    key: Buffer.alloc(32, 7),
    now: () => Date.parse('2026-06-01T00:00:00Z'),
  }
}

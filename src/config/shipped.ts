import { fileURLToPath } from 'node:url'

/** The folder of the policies that come with FHIRewall: in a clone and in the package alike. */
export function shippedPolicies(): string {
  return fileURLToPath(new URL('../../policies', import.meta.url))
}

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The folder of the policies that come with FHIRewall: in a clone and in the package alike. */
export function shippedPolicies(): string {
  return fileURLToPath(new URL('../../policies', import.meta.url))
}

/** The version of FHIRewall, as its package says. */
export function shippedVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

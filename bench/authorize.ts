/**
 * What one decision costs: scopes, policies and the permit, without network, for a read and a search,
 * with the shipped policies and with 20 of them. Medians of rounds, microseconds.
 *
 *   npm run bench:authorize
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { configSchema } from '../src/config/schema.ts'
import { shippedPolicies } from '../src/config/shipped.ts'
import type { Arrival, Principal } from '../src/exchange.ts'
import { loadDefinitions } from '../src/fhir/definitions.ts'
import { parseInteraction } from '../src/fhir/interaction.ts'
import { createSeal } from '../src/http/seal.ts'
import { parseScopes } from '../src/oauth/smart-scope.ts'
import { loadPolicies } from '../src/policy/load.ts'
import { createAuthorize } from '../src/stages/authorize/authorize.ts'
import { createRelease } from '../src/stages/release/release.ts'

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})
const definitions = loadDefinitions('R4')
const lent = createRelease(config, definitions)

/** The shipped policies, and copies of them under other names up to `count` files. */
function folderOf(count: number): string {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-bench-'))
  const files = readdirSync(shippedPolicies()).filter((name) => name.endsWith('.yaml'))
  for (let n = 0; n < count; n++) {
    const text = readFileSync(join(shippedPolicies(), files[n % files.length]!), 'utf8')
    writeFileSync(join(folder, `${n}.yaml`), text.replace(/^policy: (.*)$/m, `policy: $1-${n}`))
  }
  return folder
}

const principal = (change: Partial<Principal>): Principal => ({
  ...{ issuer: 'https://issuer.example', subject: 's', clientId: 'app', kind: 'user', key: 'k' },
  ...{ scopes: [], patient: undefined, fhirUser: undefined, roles: [], purposes: [] },
  ...{ organization: undefined, tokenId: undefined, issuedAt: 0, expiresAt: 2_000_000_000 },
  ...change,
})
const people: [name: string, who: Principal][] = [
  ['patient', principal({ patient: 'p1', scopes: parseScopes('patient/*.cruds openid') })],
  [
    'clinician',
    principal({
      fhirUser: { type: 'Practitioner', id: 'd1' },
      roles: ['ward-1', 'nurse'],
      scopes: parseScopes('user/*.cruds patient/Observation.rs user/Condition.rs?category=a'),
    }),
  ],
]
const asks = ['/Observation/o1', '/Observation?code=a&date=ge2026-01-01&_count=50&_sort=-date']
const upstream = () => Promise.reject(new Error('nothing is asked'))

for (const count of [5, 20]) {
  const folder = folderOf(count)
  const policies = loadPolicies(folder)
  rmSync(folder, { recursive: true })
  const { authorize } = createAuthorize(config, {
    ...lent,
    ...{ policies: () => policies, definitions },
    clock: { now: () => Date.now(), monotonic: () => performance.now() },
    seal: createSeal([Buffer.alloc(32)]),
  })
  console.log(`\n${count} policies, ${policies.rules} rules`)
  for (const [name, who] of people) {
    for (const target of asks) {
      const arrival: Arrival = {
        ...{ method: 'GET', target, headers: {}, rawHeaders: [], address: '', body: undefined },
        signal: new AbortController().signal,
      }
      const interaction = parseInteraction(arrival, definitions, config.limits)
      const times: number[] = []
      for (let round = -3; round < 15; round++) {
        const begun = performance.now()
        for (let n = 0; n < 5000; n++) {
          void authorize(who, { arrival, interaction, body: undefined }, upstream)
        }
        if (round >= 0) times.push((performance.now() - begun) / 5)
      }
      const median = times.toSorted((a, b) => a - b)[times.length >> 1]!
      console.log(
        `${name.padEnd(12)}${(target.includes('?') ? 'search' : 'read').padEnd(8)}${median.toFixed(1).padStart(6)} us`,
      )
    }
  }
}

import fc from 'fast-check'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import { Permit } from '../../src/permit.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { grantOf } from '../support/grants.ts'
import { findFaults, generateResource } from '../support/generate-resource.ts'
import { readTree } from '../support/json-tree.ts'
import { isApart, isLost, isMasked } from '../support/plain-masking.ts'
import { shippedMasking } from '../support/masking.ts'

/** `FHIREWALL_CANARIES=20000` for the long run. */
const RUNS = Number(process.env['FHIREWALL_CANARIES'] ?? 300)

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})

for (const version of ['R4', 'STU3', 'R5'] as const satisfies FhirVersion[]) {
  const elements = loadElements(version)
  const definitions = loadDefinitions(version)
  const masking = shippedMasking(undefined, version)
  const { release } = createRelease(config, definitions, masking)
  const apart = new Set(['Bundle', 'Parameters', 'Binary', 'OperationOutcome', 'Media'])
  const types = [...definitions.types].filter((type) => !apart.has(type))

  const send = async (text: string, type: string, names: readonly string[]): Promise<string> => {
    const interaction = { code: 'read', method: 'GET', type, parameters: [] } as const
    const grant = grantOf({ masking: new Set(['baseline', ...names]) })
    const permit = Permit.issue({
      ...{ interaction, requested: interaction, body: undefined, rules: [] },
      terms: { grantFor: () => grant, mayReadBack: true },
    })
    const { answer } = await release(permit, {
      ...{ status: 200, headers: {} },
      body: Buffer.from(text),
    })
    return (answer.body as Buffer).toString()
  }

  t.test(
    `${version}: no canary of a masked element survives, every other one does (MASK-3, MASK-5)`,
    async (t) => {
      const names = ['safe-harbor', 'limited-data-set', 'minimum-necessary', 'payment-card']
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...types),
          fc.integer(),
          fc.integer({ min: 1, max: 150 }),
          fc.constantFrom(...names),
          async (type, seed, size, name) => {
            const { text, seeded } = generateResource(elements, type, seed, size)
            const out = await send(text, type, [name])
            const profile = masking.profiles().get(name)
            if (profile === undefined) throw new Error(name)
            readTree(out)
            const faults = findFaults(elements, JSON.parse(out), type, type)
            if (faults.length > 0) throw new Error(`not valid: ${faults.join()}\n${text}\n${out}`)
            for (const one of seeded) {
              if (isApart(one.way)) continue
              const place = one.way.map((node) => `${node.name}:${node.type}`).join('.')
              const survives = out.includes(one.canary)
              if (isMasked(profile, one.way)) {
                if (survives) throw new Error(`${name} leaks ${place}\n${text}\n${out}`)
              } else if (!survives && !isLost(one.way)) {
                throw new Error(`${name} loses ${place}\n${text}\n${out}`)
              }
            }
            if (name === 'safe-harbor' && /-11-23/.test(out)) throw new Error(`a date: ${out}`)
          },
        ),
        { numRuns: version === 'R4' ? RUNS : Math.ceil(RUNS / 6) },
      )
      t.pass()
    },
  )
}

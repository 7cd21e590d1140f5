import fc from 'fast-check'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import type { ElementSelector } from '../../src/fhir/element-path.ts'
import { Permit } from '../../src/permit.ts'
import type { MaskingProfile } from '../../src/policy/load-masking.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { grantOf } from '../support/grants.ts'
import { findFaults, generateResource } from '../support/generate-resource.ts'
import type { Node, Seeded } from '../support/generate-resource.ts'
import { shippedMasking } from '../support/masking.ts'

/** `FHIREWALL_CANARIES=20000` for the long run. */
const RUNS = Number(process.env['FHIREWALL_CANARIES'] ?? 300)

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})

/** Whether a path without conditions selects the last of the nodes: by trying every beginning. */
function selects({ root, filters, steps }: ElementSelector, way: readonly Node[]): boolean {
  if (filters.length > 0 || steps.some((step) => step.filters.length > 0)) return false
  // `Questionnaire.item.linkId` is about every item, those within items too.
  for (let skipped = 0; skipped <= steps.length; skipped++) {
    const begin = [root, ...steps.slice(0, skipped).map(({ name }) => name)].join('.')
    const rest = steps.slice(skipped)
    const start = way.length - 1 - rest.length
    const isRoot = way[start]?.kinds.includes(begin) === true
    const isLed = rest.every(({ name, as }, n) => {
      const node = way[start + 1 + n]
      return node?.name === name && (as === undefined || node.kinds.includes(as))
    })
    if (isRoot && isLed) return true
  }
  return false
}

/** The plain reading of a profile: whether the value, or one around it, is selected. */
function isMasked({ rules }: MaskingProfile, { way }: Seeded): boolean {
  return way.some((_, at) => {
    const part = way.slice(0, at + 1)
    const met = rules.filter(({ select = [] }) => select.some((one) => selects(one, part)))
    const last = met.at(-1)
    return last !== undefined && last.method.kind !== 'keep'
  })
}

/** What labels, marks, the baseline and attributes do apart from any profile. */
function isApart({ way }: Seeded): boolean {
  const names = way.map(({ name }) => name)
  const isLabel = names.includes('meta') && (names.includes('security') || names.includes('tag'))
  const last = way.at(-1)
  const isAddress = last?.name === 'url' && way.at(-2)?.kinds.includes('Extension') === true
  // What stands beside something opaque goes with it.
  const isOpaque = way.some((node) => node.type === 'base64Binary' || node.name === 'data')
  return isLabel || isAddress || isOpaque
}
/** Replaced or removed whenever anything else is altered. */
const isLost = ({ way }: Seeded): boolean =>
  way.some(({ type, name }) => type === 'Narrative' || name === 'signature')

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
            const faults = findFaults(elements, JSON.parse(out), type, type)
            if (faults.length > 0) throw new Error(`not valid: ${faults.join()}\n${text}\n${out}`)
            for (const one of seeded) {
              if (isApart(one)) continue
              const place = one.way.map((node) => `${node.name}:${node.type}`).join('.')
              const survives = out.includes(one.canary)
              if (isMasked(profile, one)) {
                if (survives) throw new Error(`${name} leaks ${place}\n${text}\n${out}`)
              } else if (!survives && !isLost(one)) {
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

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

/** Cards as numbers of JSON, one for each number in turn that is to be one. */
const CARDS = ['4111111111111111', '-5555555555554444', '378282246310005.0', '6.011000990139424e15']
const DIGITS = /4111111111111111|5555555555554444|378282246310005|6\.?011000990139424/
const NUMBERS = new Set(['integer', 'unsignedInt', 'positiveInt', 'decimal'])

/** The same text with cards for some of its numbers; none stand in its strings by themselves. */
function withCards(text: string, seed: number): string {
  let n = seed >>> 0
  return text.replaceAll(/(?<=[:,[])\d+(?=[,}\]])/g, (number) => {
    n = (Math.imul(n, 1_664_525) + 1_013_904_223) >>> 0
    return n >>> 31 === 0 ? number : (CARDS[(n >>> 20) % CARDS.length] ?? number)
  })
}

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

  t.test(
    `${version}: no card survives as a number, and all that is beside none does (MASK-4, MASK-7)`,
    async (t) => {
      let met = 0
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom(...types),
          fc.integer(),
          fc.integer({ min: 20, max: 150 }),
          fc.constantFrom([], ['payment-card'], ['safe-harbor']),
          async (type, seed, size, names) => {
            const { text: bare, seeded } = generateResource(elements, type, seed, size)
            const text = withCards(bare, seed)
            if (!DIGITS.test(text)) return
            met += 1
            const out = await send(text, type, names)
            readTree(out)
            const faults = findFaults(elements, JSON.parse(out), type, type)
            if (faults.length > 0) throw new Error(`not valid: ${faults.join()}\n${text}\n${out}`)
            if (DIGITS.test(out)) throw new Error(`a card\n${text}\n${out}`)
            if (names.length > 0) return
            for (const one of seeded) {
              const isBeside = one.way.some((node) => NUMBERS.has(node.type))
              if (isBeside || isApart(one.way) || isLost(one.way)) continue
              if (!out.includes(one.canary)) throw new Error(`loses ${one.canary}\n${text}\n${out}`)
            }
          },
        ),
        { numRuns: version === 'R4' ? RUNS : Math.ceil(RUNS / 6) },
      )
      t.ok(met > 10, `${met} with cards`)
    },
  )
}

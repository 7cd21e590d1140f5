/**
 * What was found of one resource is followed for others of its structure. Whatever makes a difference
 * to the rules must make one there: each is released as if it were the first that came.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { generatePopulation } from '../../src/demo/population.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import { Permit } from '../../src/permit.ts'
import type { MaskingProfiles } from '../../src/policy/load-masking.ts'
import { Precedents } from '../../src/stages/release/mask/precedents.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { generateResource } from '../support/generate-resource.ts'
import { grantOf } from '../support/grants.ts'
import { shippedMasking } from '../support/masking.ts'

/** `FHIREWALL_CANARIES=12000` for the long run. */
const RUNS = Number(process.env['FHIREWALL_CANARIES'] ?? 300)

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})
const definitions = loadDefinitions('R4')
const elements = loadElements('R4')
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-precedents-'))
writeFileSync(
  join(folder, 'own.yaml'),
  `masking: own
description: Whatever the shipped ones do not do.
rules:
  - { id: moved, select: [dateTime, date, instant], method: date-shift }
  - { id: ids, select: [Resource.id, Reference.reference, Bundle.entry.fullUrl], method: pseudonym }
  - { id: zip, select: [Address.postalCode], method: { generalise: zip3 } }
  - { id: ages, select: [Age], method: { generalise: age-90 } }
  - { id: spans, select: [Range], method: { generalise: span-90 } }
  - { id: shown, select: [HumanName.family], method: { last: 4 } }
  - { id: said, select: [HumanName.given], method: { replace: Zq } }
  - { id: labelled, labels: [R, PSY], method: remove }
  - { id: found, detect: [phone, email], method: redact }
`,
)
const shipped = shippedMasking(folder)
rmSync(folder, { recursive: true })
/** Profiles that are others each time know no precedents. */
const fresh = { ...shipped, profiles: (): MaskingProfiles => new Map(shipped.profiles()) }
const warm = createRelease(config, definitions, shipped)
const cold = createRelease(config, definitions, fresh)

let followed = 0
const follow = Reflect.get(Precedents.prototype, 'follow')
Precedents.prototype.follow = function (this: Precedents, ...all) {
  const found = follow.apply(this, all)
  if (found !== undefined) followed++
  return found
}

async function send(
  { release }: typeof warm,
  text: string,
  names: readonly string[],
): Promise<string> {
  const { resourceType: type } = JSON.parse(text) as { resourceType: string }
  const interaction = { code: 'read', method: 'GET', type, parameters: [] } as const
  const grant = grantOf({ masking: new Set(['baseline', ...names]) })
  const permit = Permit.issue({
    ...{ interaction, requested: interaction, body: undefined, rules: [] },
    terms: { grantFor: () => grant, mayReadBack: true },
  })
  const fit = { status: 200, headers: {}, body: Buffer.from(text) }
  const { answer, tally } = await release(permit, fit).catch(() => ({
    answer: { body: undefined },
    tally: { masked: new Map<string, number>() },
  }))
  const counts = [...tally.masked].map(([rule, count]) => `${rule} ${count}`).sort()
  return `${counts.join()}\n${answer.body === undefined ? 'refused' : (answer.body as Buffer).toString()}`
}

/** Values that rules ask about, each of which some rule treats as it does no other. */
const TEXTS = [
  ...['final', 'two words', 'x'.repeat(41), 'a@b', 'https://a', '123-45-6789', '1.2', '12', ''],
  ...['2019', '2019-03', '2019-03-04', '1901-05-05', '1901', '2019-03-04T10:11:12.5+01:00'],
  ...['2019-01-01T00:00:00Z', '2019-03-04T10:11', '2019-13-99', '12345', '03601', '12345-6789'],
  ...['#', '#a', 'a', 'Patient/1', 'Patient/1/_history/2', 'urn:oid:1.2.3', 'Zzz/1'],
  ...['urn:uuid:138eac2a-ee98-4fea-8b9c-d6428d4e98f2', 'http://127.0.0.1:9/base/Patient/1'],
  ...['http://elsewhere.example/Patient/1', '30525-0', '63900-5', '424144002', 'US', 'Deutschland'],
  ...['years', 'mo', 'mg', 'Mr Zq (0170) 1234567', '4111 1111 1111 1111', 'ombCategory', '<', '>'],
  ...['R', 'V', 'N', 'HIV', 'PSY', 'SUBSETTED', 'Observation', 'Patient', 'Basic', 'SS', 'SB'],
  'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race',
  'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race|1 of somebody',
  'http://hl7.org/fhir/StructureDefinition/data-absent-reason',
  'http://hl7.org/fhir/sid/us-ssn',
  'http://loinc.org',
  'http://terminology.hl7.org/CodeSystem/v2-0203',
  'http://terminology.hl7.org/CodeSystem/v3-Confidentiality',
  'http://terminology.hl7.org/CodeSystem/v3-ActCode',
]
type Variant = { readonly picks: Iterator<number>; readonly rare: number; readonly space: number }
const NUMBERS = [4111111111111111, 0, 5, 89, 90, 90.5, 95, 1080, 1200, 33_000, 1e6]

/** The same structure with one of `rare` values another. */
function vary(value: unknown, rare: number, pick: (limit: number) => number): unknown {
  const inner = (one: unknown): unknown => vary(one, rare, pick)
  if (Array.isArray(value)) return value.map(inner)
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, inner(one)]))
  }
  if (typeof value === 'string' && value.startsWith('?')) {
    const texts = SLOTS[value.slice(1)] ?? TEXTS
    return texts[pick(texts.length)]
  }
  if (pick(rare) > 0) return value
  if (typeof value === 'string') return TEXTS[pick(TEXTS.length)]
  if (typeof value === 'number') return NUMBERS[pick(NUMBERS.length)]
  return [true, false, null][pick(3)]
}

/** What stands in place of `?date` and the like below, and `?` for any of the texts above. */
const SLOTS: Readonly<Record<string, readonly string[]>> = {
  date: ['2019', '2019-03-04', '1901-05-05', '2019-03-04T10:11:12Z', '2019-01-01T00:00:00Z', 'x'],
  zip: ['12345', '03601', '123', 'x'],
  country: ['US', 'Puerto Rico', 'Deutschland', 'x'],
  canonical: ['#', '#a', 'http://elsewhere.example/a'],
  unit: ['years', 'mo', 'mg', 'x'],
  code: ['final', 'two words', 'Zq@b', '30525-0'],
  name: ['Zq', 'Zq-Zq-Zq-Zq', 'Wx-Wx-Wx-Wx-Wx'],
  label: ['N', 'R', 'PSY', 'SUBSETTED'],
  type: ['Patient', 'Basic', 'Observation', 'Zzz'],
  url: [
    ...['http://hl7.org/fhir/us/core/StructureDefinition/us-core-race', 'ombCategory', 'x'],
    'http://hl7.org/fhir/us/core/StructureDefinition/us-core-race|1 of somebody',
  ],
}
const ASKED = [
  '{"resourceType":"Patient","id":"?","name":[{"family":"?name","given":["?","?"]}],"birthDate":"?date","gender":"?code"}',
  '{"resourceType":"Patient","birthDate":"2019-03-04","address":[{"state":"MA","postalCode":"?zip","country":"?country"}]}',
  '{"resourceType":"Patient","active":true,"deceasedBoolean":true,"multipleBirthInteger":2,"name":[{"given":["?",null]}]}',
  '{"resourceType":"Patient","birthDate":["?date"],"_birthDate":{"id":"?"},"_gender":{"extension":[{"url":"?url","valueCode":"?code"}]}}',
  '{"resourceType":"Patient","id":"a","link":[{"other":{"reference":"?"},"type":"?code"}],"birthDate":"?date","deceasedDateTime":"?date"}',
  '{"resourceType":"Patient","id":"a","extension":[{"url":"?url","extension":[{"url":"?url","valueCoding":{"system":"?","code":"?code","display":"?"}}]}]}',
  '{"resourceType":"Patient","id":"a","identifier":[{"system":"?","type":{"coding":[{"system":"?","code":"?"}]},"value":"?"}],"birthDate":"?date"}',
  '{"resourceType":"Observation","code":{"coding":[{"system":"http://loinc.org","code":"?code","display":"?"}]},"valueQuantity":{"value":95,"unit":"?unit","code":"?unit"}}',
  '{"resourceType":"Observation","status":"?code","code":{"coding":[{"code":"?code"}]},"valueInteger":95,"effectiveDateTime":"?date","issued":"?date"}',
  '{"resourceType":"Observation","subject":{"reference":"Patient/a"},"effectiveDateTime":"?date","effectiveInstant":"?date","performer":[{"reference":"?"}]}',
  '{"resourceType":"Observation","subject":{"reference":"Patient/a"},"code":{"coding":[{"display":"?"}]},"valueQuantity":{"value":5,"unit":"?unit"}}',
  '{"resourceType":"Condition","code":{"text":"?"},"onsetAge":{"value":95,"unit":"?unit","code":"?unit"},"abatementRange":{"low":{"value":95,"unit":"?unit"},"high":{"value":95,"code":"?unit"}}}',
  '{"resourceType":"Basic","id":"b","contained":[{"resourceType":"?type","id":"?","birthDate":"2019-03-04","status":"?code"}],"created":"?date"}',
  '{"resourceType":"CarePlan","id":"c","instantiatesCanonical":["?canonical","?canonical"],"contained":[{"resourceType":"Basic","id":"?"}],"created":"?date"}',
  '{"resourceType":"Basic","id":"b","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"?label","display":"?"}]},"created":"?date"}',
  '{"resourceType":"Basic","id":"b","created":"2019-03-04","code":{"coding":[{"code":"x","extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"code":"?label"}}]}]}}',
  '{"resourceType":"Basic","id":"b","contained":[{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"?","resource":{"resourceType":"Basic","id":"x","subject":{"reference":"?"}}}]}]}',
  '{"resourceType":"Basic","text":{"status":"generated","div":"?"},"identifier":[{"value":"1"}],"created":"?date"}',
]

const PROFILES = [
  ['own'],
  ['own'],
  ...[['safe-harbor'], ['safe-harbor'], ['limited-data-set'], ['minimum-necessary']],
  ...[['payment-card'], ['sensitive-categories'], ['safe-harbor', 'minimum-necessary']],
]
const population = generatePopulation(1, 40)
const types = [...definitions.types].filter((type) => !['Binary', 'Parameters'].includes(type))

t.test(
  'each of one structure is masked as if it were the first that came (MASK-3, MASK-5, MASK-10)',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          { weight: 3, arbitrary: fc.constantFrom(...ASKED) },
          fc.constantFrom(...population),
          fc
            .tuple(fc.constantFrom(...types), fc.integer(), fc.integer({ min: 1, max: 120 }))
            .map(([type, seed, size]) => generateResource(elements, type, seed, size).text),
        ),
        fc.constantFrom(...PROFILES),
        fc.array(
          fc.record({
            picks: fc.infiniteStream(fc.nat(1_000_000)),
            rare: fc.constantFrom(3, 10, 30, 100),
            space: fc.constantFrom(0, 0, 1),
          }),
          { minLength: 8, maxLength: 16 },
        ),
        async (text, names, variants) => {
          const parsed = JSON.parse(text) as unknown
          // Twice as it is: the second is remembered.
          const all = [text, text, ...variants.map(varied)]
          for (const one of all) {
            const [found, known] = [await send(warm, one, names), await send(cold, one, names)]
            if (found !== known) throw new Error(`${names.join()}\n${one}\n${found}\n${known}`)
          }

          function varied({ picks, rare, space }: Variant): string {
            const pick = (limit: number): number => (picks.next().value as number) % limit
            return JSON.stringify(vary(parsed, rare, pick), null, space)
          }
        },
      ),
      { numRuns: Math.ceil(RUNS / 6) },
    )
    t.ok(followed > RUNS / 15, `${followed} precedents were followed`)
  },
)

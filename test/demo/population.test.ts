import t from 'tap'
import {
  DEMO_PATIENT_ID,
  DEMO_RESEARCHER_ID,
  generatePopulation,
} from '../../src/demo/population.ts'

type Resource = { resourceType: string; id: string; meta?: { security?: { code: string }[] } }

t.test('the same seed gives the same texts, another seed others', async (t) => {
  t.strictSame(generatePopulation(1, 20), generatePopulation(1, 20))
  t.notSame(generatePopulation(1, 20), generatePopulation(2, 20))
  t.strictSame(generatePopulation(1, 30).slice(0, 100), generatePopulation(1, 20).slice(0, 100))
})

t.test('a population has what a gateway must cope with', async (t) => {
  const texts = generatePopulation(2026)
  const resources = texts.map((text) => JSON.parse(text) as Resource)
  const keys = resources.map(({ resourceType, id }) => `${resourceType}/${id}`)
  t.equal(new Set(keys).size, keys.length, 'ids are unique')
  const count = (type: string): number =>
    resources.filter(({ resourceType }) => resourceType === type).length
  t.equal(count('Patient'), 200)
  for (const type of [
    'Practitioner',
    'Organization',
    'Location',
    'Encounter',
    'Condition',
    'Observation',
    'AllergyIntolerance',
    'MedicationRequest',
    'Immunization',
    'DocumentReference',
  ])
    t.ok(count(type) > 0, type)
  t.ok(keys.includes(`Patient/${DEMO_PATIENT_ID}`))
  t.ok(keys.includes(`Practitioner/${DEMO_RESEARCHER_ID}`))

  const all = texts.join('\n')
  t.match(all, /"value":\d+\.\d*0[,}]/, 'decimals with trailing zeros')
  t.match(all, '"value":1.10,')
  t.match(all, /\\u003\d/, 'escaped digits')
  t.match(all, 'http:\\/\\/hl7.org', 'escaped slashes')
  t.match(all, /card 4111 1111 1111 1111/)
  t.match(all, /noted SSN \d{3}-\d\d-\d{4}/)
  t.match(all, '"contained":[')
  const labels = new Set(resources.flatMap(({ meta }) => meta?.security?.map((s) => s.code) ?? []))
  for (const label of ['R', 'V', 'ETH', 'PSY', 'HIV', 'OPIOIDUD', 'SDV'])
    t.ok(labels.has(label), label)

  const known = new Set(keys)
  for (const text of texts)
    for (const [, reference = ''] of text.matchAll(/"reference":"([A-Z][^"]*)"/g))
      if (!known.has(reference)) t.fail(`dangling ${reference}`)
  for (const text of texts.filter((one) => one.startsWith('{"resourceType":"Patient"'))) {
    const { identifier } = JSON.parse(text) as { identifier: { value: string }[] }
    t.match(identifier[1]?.value, /^(?!000|666|9)\d{3}-?(?!00)\d\d-?(?!0000)\d{4}$/)
  }
})

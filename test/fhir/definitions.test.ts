import t from 'tap'
import r4 from '../../src/fhir/data/r4.json' with { type: 'json' }
import { loadDefinitions } from '../../src/fhir/definitions.ts'

type Entry = { compartment?: string[] }
const definitions = loadDefinitions('R4')

t.test('R4 4.0.1: types and their search parameters', async (t) => {
  t.equal(definitions.types.size, 146)
  t.notOk(definitions.types.has('DomainResource'))
  const observation = definitions.searchParameters('Observation')
  t.strictSame(observation.get('date')?.paths, [
    ['effectiveDateTime'],
    ['effectivePeriod'],
    ['effectiveTiming'],
    ['effectiveInstant'],
  ])
  t.strictSame(observation.get('value-quantity')?.paths, [['valueQuantity'], ['valueSampledData']])
  t.strictSame(observation.get('patient'), {
    type: 'reference',
    paths: [['subject']],
    targets: ['Patient'],
  })
  t.equal(observation.get('code-value-quantity')?.type, 'composite')
  t.strictSame(definitions.searchParameters('Patient').get('email')?.paths, [['telecom']])
  t.equal(definitions.searchParameters('Passport').size, 0)
})

t.test('every path is made of JSON keys', async (t) => {
  const bad = [...definitions.types].flatMap((type) =>
    [...definitions.searchParameters(type)].flatMap(([name, { paths }]) =>
      paths.flat().every((step) => /^[a-z][A-Za-z0-9]*$/.test(step)) ? [] : [`${type}.${name}`],
    ),
  )
  t.strictSame(bad, [])
})

t.test('§6, §6.1: the patient compartment and its primary subjects', async (t) => {
  const entries = Object.entries(r4.types as Record<string, Entry>)
  const compartment = entries.filter(([, entry]) => entry.compartment !== undefined)
  t.equal(compartment.length, 66)
  const off = compartment
    .filter(([type]) => definitions.patientPaths(type).length === 0)
    .map(([type]) => type)
  t.strictSame(off, ['AuditEvent', 'Group', 'Patient', 'Person', 'Schedule'])
  for (const [type, entry] of entries) {
    const tied = definitions.patientPaths(type).length > 0
    const parameter = definitions.patientParameter(type)
    t.equal(parameter !== undefined, tied || type === 'Patient', `${type} can be narrowed if tied`)
    if (tied) t.ok(entry.compartment, `${type} is in the compartment`)
    if (tied) t.ok(definitions.searchParameters(type).has(parameter?.name ?? ''), type)
  }
  t.strictSame(definitions.patientParameter('Patient'), { name: '_id', form: 'id' })
  t.strictSame(definitions.patientParameter('Observation'), { name: 'patient', form: 'reference' })
  t.equal(definitions.patientParameter('AdverseEvent')?.name, 'subject')
  t.equal(definitions.patientParameter('SupplyRequest')?.name, 'subject')
  t.strictSame(definitions.patientPaths('Coverage'), [['beneficiary']])
  t.strictSame(definitions.patientPaths('Appointment'), [['participant', 'actor']])
  t.strictSame(definitions.patientPaths('Practitioner'), [])
})

t.test('other versions are refused at start', async (t) => {
  t.throws(() => loadDefinitions('R5'), /R4 only/)
})

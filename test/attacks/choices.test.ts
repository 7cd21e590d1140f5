import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { startGateway } from '../support/gateway.ts'

// MASK-10: who writes another form of an element that was hidden from him (`valueQuantity`, where
// `valueString` is) must not leave both there.
const POLICY = `policy: own
description: d
rules:
  - { id: all, effect: permit, levels: [user], interactions: [read, create, update], types: ['*'], obligations: { masking: [hide] } }
`
const MASKING = `masking: hide
description: d
rules:
  - { id: gone, select: [Observation.value.ofType(string), Patient.deceased.ofType(dateTime), "Patient.extension('http://x/gone').value"], method: remove }
  - { id: marked, select: [Observation.component.value.ofType(string), Dosage.asNeeded.ofType(boolean)], method: redact }
`
const HELD = [
  {
    ...{ resourceType: 'Observation', id: 'o1', status: 'final', code: { text: 'x' } },
    valueString: 'secret words',
    component: [{ code: { text: 'y' }, valueString: 'secret words' }],
    contained: [
      { resourceType: 'Observation', id: 'c', status: 'final', valueString: 'secret words' },
    ],
  },
  {
    ...{ resourceType: 'Patient', id: 'p1', deceasedDateTime: '2020-02-02' },
    extension: [{ id: 'e', url: 'http://x/gone', valueString: 'secret words' }],
  },
  {
    ...{ resourceType: 'MedicationRequest', id: 'm1', status: 'active', intent: 'order' },
    ...{ subject: { reference: 'Patient/p1' }, medicationCodeableConcept: { text: 'z' } },
    dosageInstruction: [{ text: 'daily', asNeededBoolean: true }],
  },
  // Upstream has two already: whatever else is written, they are as they were.
  {
    ...{ resourceType: 'Observation', id: 'o2', status: 'final', code: { text: 'x' } },
    ...{ valueString: 'secret words', valueInteger: 1 },
  },
]

async function setUp() {
  const server = await startFhirServer()
  for (const one of HELD) server.put(JSON.stringify(one))
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-choices-'))
  mkdirSync(join(folder, 'masking'))
  writeFileSync(join(folder, 'own.yaml'), POLICY)
  writeFileSync(join(folder, 'masking', 'hide.yaml'), MASKING)
  const gateway = await startGateway({ upstreamUrl: server.url, config: { policies: folder } })
  const authorization = `Bearer ${await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })}`
  const ask = async (
    method: string,
    target: string,
    body?: unknown,
    type = 'application/fhir+json',
  ) => {
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization, ...(body === undefined ? {} : { 'content-type': type }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: answer.status, text: await answer.text() }
  }
  const close = async (): Promise<void> => {
    await gateway.close()
    await server.close()
    rmSync(folder, { recursive: true })
  }
  return { ask, server, close }
}

type Change = (view: Record<string, never>) => unknown
type Inner = Record<string, object[]>
const quantity = { valueQuantity: { value: 1 } }
const inside =
  (list: string, more: object, without?: string): Change =>
  (view) => {
    const [first, ...rest] = (view as Inner)[list] ?? []
    const kept = Object.entries({ ...first, ...more }).filter(([name]) => name !== without)
    return { ...view, [list]: [Object.fromEntries(kept), ...rest] }
  }

t.test('no write leaves two forms of one element', async (t) => {
  const { ask, server, close } = await setUp()
  t.teardown(close)
  const rows: readonly (readonly [
    what: string,
    target: string,
    change: Change,
    element: string,
  ])[] = [
    ['of another type', 'Observation/o1', (view) => ({ ...view, ...quantity }), 'value'],
    [
      'nothing but what belongs to a primitive',
      'Observation/o1',
      (view) => ({ ...view, _valueDateTime: { id: 'x' } }),
      'value',
    ],
    [
      'of a type that it never has',
      'Observation/o1',
      (view) => ({ ...view, valueDecimal: 1 }),
      'value',
    ],
    ['beside the mark', 'Observation/o1', inside('component', quantity), 'component'],
    [
      'in place of the mark',
      'Observation/o1',
      inside('component', quantity, '_valueString'),
      'component',
    ],
    ['in what is contained', 'Observation/o1', inside('contained', quantity), 'contained'],
    ['of a patient', 'Patient/p1', (view) => ({ ...view, deceasedBoolean: false }), 'deceased'],
    ['in an extension', 'Patient/p1', inside('extension', { valueInteger: 1 }), 'extension.value'],
    [
      'in a data type',
      'MedicationRequest/m1',
      inside('dosageInstruction', { asNeededCodeableConcept: { text: 'w' } }),
      'dosageInstruction.asNeeded',
    ],
    ['a third one', 'Observation/o2', (view) => ({ ...view, ...quantity }), 'value'],
  ]
  for (const [what, target, change, element] of rows) {
    const [type = '', id = ''] = target.split('/')
    const held = server.get(type, id)
    const { text } = await ask('GET', `/${target}`)
    t.notMatch(text, /secret|2020-02-02/, what)
    const view = JSON.parse(text) as Record<string, never>
    const written = await ask('PUT', `/${target}`, change(view))
    t.equal(written.status, 422, what)
    t.match(written.text, `"expression":["${element}`, what)
    t.match(written.text, /body-hides/, what)
    t.equal(server.get(type, id), held, 'nothing is written')
  }
})

t.test('nor does a patch', async (t) => {
  const { ask, close } = await setUp()
  t.teardown(close)
  const add = (path: string, value: unknown) => [{ op: 'add', path, value }]
  for (const [target, patch, status] of [
    ['Observation/o1', add('/valueQuantity', { value: 1 }), 422],
    ['Observation/o1', add('/component/0/valueQuantity', { value: 1 }), 422],
    ['Patient/p1', add('/deceasedBoolean', false), 422],
    // The demo server takes no patch itself: this one is passed on to it.
    ['Observation/o1', add('/issued', '2020-02-02T00:00:00Z'), 502],
  ] as const) {
    const answer = await ask('PATCH', `/${target}`, patch, 'application/json-patch+json')
    t.equal(answer.status, status, JSON.stringify(patch))
    if (status === 422) t.match(answer.text, /body-hides/)
  }
})

t.test('what is a form of nothing that was hidden is written', async (t) => {
  const { ask, server, close } = await setUp()
  t.teardown(close)
  for (const [target, change, written] of [
    [
      'Observation/o1',
      (view) => ({ ...view, effectiveDateTime: '2020' }),
      /secret.*effective|effective.*secret/,
    ],
    ['Observation/o2', (view) => ({ ...view, valueInteger: 2 }), /"valueInteger":2.*secret/],
    ['Patient/p1', (view) => ({ ...view, multipleBirthBoolean: true }), /2020-02-02/],
  ] as const satisfies [string, Change, RegExp][]) {
    const [type = '', id = ''] = target.split('/')
    const { text } = await ask('GET', `/${target}`)
    const { status } = await ask('PUT', `/${target}`, change(JSON.parse(text) as never))
    t.equal(status, 200, target)
    t.match(server.get(type, id), written, target)
  }
})

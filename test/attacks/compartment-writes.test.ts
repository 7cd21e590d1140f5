import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// SCOPE-11, REST-20: what an app of one patient writes is that patient's alone. It names no other patient,
// for by HL7's compartments what names p2 is in the record of p2 as well; and it makes no new Patient.
const FHIR = 'application/fhir+json'
const JSON_PATCH = 'application/json-patch+json'
const ref = (id: string) => ({ reference: `Patient/${id}` })
const appointment = (...ids: string[]) => ({
  ...{ resourceType: 'Appointment', id: 'a1', meta: { versionId: '1' }, status: 'booked' },
  participant: ids.map((id) => ({ actor: ref(id), status: 'accepted' })),
})
const observation = (more: object = {}) => ({
  ...{ resourceType: 'Observation', id: 'o1', meta: { versionId: '1' }, status: 'final' },
  ...{ code: { text: 'x' }, subject: ref('p1'), ...more },
})
/** Somebody with the right to it has said that a relative reported it. */
const told = { ...observation({ performer: [ref('p2')] }), id: 'o2' }
const about = (resourceType: string, more: object) => ({
  ...{ resourceType, status: 'active', subject: ref('p1') },
  ...more,
})
const HELD: Record<string, object> = {
  '/base/Appointment/a1': appointment('p1', 'p2'),
  '/base/Observation/o1': observation(),
  '/base/Observation/o2': told,
  '/base/Patient/p1': { resourceType: 'Patient', id: 'p1', meta: { versionId: '1' } },
}
const upstream: Handler = (request, response, raw) => {
  const found = HELD[request.target] ?? { resourceType: 'Bundle', type: 'searchset' }
  json(request.method === 'GET' ? JSON.stringify(found) : request.body)(request, response, raw)
}
const performer = (reference: string) => observation({ performer: [{ reference }] })
const entry = (type: string, method: string, url: string, resource?: object) => ({
  ...{ resourceType: 'Bundle', type },
  entry: [{ request: { method, url }, ...(resource === undefined ? {} : { resource }) }],
})

// prettier-ignore
const REFUSED: [what: string, method: string, target: string, body?: object, type?: string][] = [
  ['a new Patient of the own id', 'POST', '/Patient', { resourceType: 'Patient', id: 'p1' }],
  ['a new Patient, unless there is one', 'PUT', '/Patient?name=a', { resourceType: 'Patient', id: 'p1' }],
  ['a link to another', 'PUT', '/Patient/p1', { resourceType: 'Patient', id: 'p1', link: [{ other: ref('p2'), type: 'seealso' }] }],
  ['an appointment with another', 'POST', '/Appointment', appointment('p1', 'p2')],
  ['an account with another', 'POST', '/Account', about('Account', { subject: [ref('p1'), ref('p2')] })],
  ['a shared appointment deleted', 'DELETE', '/Appointment/a1'],
  ['a shared appointment changed', 'PUT', '/Appointment/a1', { ...appointment('p1', 'p2'), status: 'cancelled' }],
  ['another struck out', 'PUT', '/Appointment/a1', appointment('p1')],
  ['a shared appointment patched', 'PATCH', '/Appointment/a1', [{ op: 'replace', path: '/status', value: 'cancelled' }], JSON_PATCH],
  ['another as performer', 'POST', '/Observation', performer('Patient/p2')],
  ['the same, patched in', 'PATCH', '/Observation/o1', [{ op: 'add', path: '/performer', value: [ref('p2')] }], JSON_PATCH],
  ['the same, in an update', 'PUT', '/Observation/o1', performer('Patient/p2')],
  ['a third one', 'PUT', '/Observation/o2', { ...told, performer: [ref('p2'), ref('p3')] }],
  ['another as recipient', 'POST', '/Communication', about('Communication', { recipient: [ref('p2')] })],
  ['another as author', 'POST', '/QuestionnaireResponse', about('QuestionnaireResponse', { author: ref('p2') })],
  ['another as subscriber', 'POST', '/Coverage', { resourceType: 'Coverage', status: 'active', beneficiary: ref('p1'), subscriber: ref('p2') }],
  ['another in a Composition', 'POST', '/Composition', about('Composition', { section: [{ entry: [ref('p2')] }] })],
  ['another in a List', 'POST', '/List', about('List', { entry: [{ item: ref('p2') }] })],
  ['another in an extension', 'POST', '/Observation', observation({ extension: [{ url: 'urn:x', valueReference: ref('p2') }] })],
  ['another in what is contained', 'POST', '/Observation', observation({ contained: [{ ...observation({ subject: ref('p2') }), id: 'a' }] })],
  ['in a batch', 'POST', '', entry('batch', 'POST', 'Observation', performer('Patient/p2'))],
  ['in a transaction', 'POST', '', entry('transaction', 'POST', 'Observation', performer('Patient/p2'))],
  ['deleted in a transaction', 'POST', '', entry('transaction', 'DELETE', 'Appointment/a1')],
  // Spelled as a server may read it.
  ...[`${PUBLIC_URL}/Patient/p2`, 'http://127.0.0.1:9/base/Patient/p2', 'HTTP://127.0.0.1:9/fhir/Patient/p2', 'http://127.0.0.1:9/fhir//Patient/p2', 'https://another.example/fhir/Patient/p2', '/Patient/p2', './Patient/p2', 'Patient/p2/', 'Patient/p2/_history/1', 'Patient/p2#x', ' Patient/p2', 'Patient/p2 ', 'patient/p2', 'Patient%2Fp2', 'Patient//p2', 'Patient/p1/../p2'].map(
    (text): [string, string, string, object] => [`another as ${text}`, 'POST', '/Observation', performer(text)],
  ),
]
// prettier-ignore
const ALLOWED: [what: string, method: string, target: string, body?: object, type?: string][] = [
  ['an appointment of one’s own', 'POST', '/Appointment', appointment('p1')],
  ['oneself as performer', 'POST', '/Observation', performer('Patient/p1')],
  ['the same, at our base', 'POST', '/Observation', performer(`${PUBLIC_URL}/Patient/p1`)],
  ['a version of oneself', 'POST', '/Observation', performer('Patient/p1/_history/1')],
  ['a practitioner', 'POST', '/Observation', performer('Practitioner/patient')],
  ['what is contained', 'POST', '/Observation', observation({ contained: [{ resourceType: 'Device', id: 'patient' }], device: { reference: '#patient' } })],
  ['a resource of the Bundle', 'POST', '/Observation', performer('urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a')],
  ['oneself updated', 'PUT', '/Patient/p1', { resourceType: 'Patient', id: 'p1' }],
  ['what another reported, as it was', 'PUT', '/Observation/o2', { ...told, status: 'amended' }],
  ['the same, patched', 'PATCH', '/Observation/o2', [{ op: 'replace', path: '/status', value: 'amended' }], JSON_PATCH],
  ['the same, deleted', 'DELETE', '/Observation/o2'],
]

t.test('an app of one patient writes of that patient alone', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const both = { scope: 'patient/*.cruds user/*.cruds', fhirUser: 'Practitioner/d1', patient: 'p1' }
  const tokens = {
    patient: await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' }),
    self: await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Patient/p1' }),
    clinician: await gateway.token(both),
  }
  const send = async (
    who: keyof typeof tokens,
    [, method, target, body, type = FHIR]: (typeof REFUSED)[number],
  ) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method,
      headers: {
        authorization: `Bearer ${tokens[who]}`,
        ...(body === undefined ? {} : { 'content-type': type }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    const writes = gateway.upstream.received.filter(({ method: one }) => one !== 'GET').length
    return { status: answer.status, text, writes }
  }
  for (const row of REFUSED) {
    for (const who of ['patient', 'self'] as const) {
      const { text, writes } = await send(who, row)
      t.match(text, /"code":"compartment-denied"/, `${who}: ${row[0]}`)
      t.equal(writes, 0, `${who}: ${row[0]}: upstream sees no write`)
    }
    // Who may write of others may write of several, whatever patient is in context (SCOPE-6).
    t.notMatch((await send('clinician', row)).text, /compartment-denied/, `clinician: ${row[0]}`)
  }
  for (const row of ALLOWED) {
    const { status, writes } = await send('patient', row)
    t.strictSame([status, writes], [200, 1], row[0])
  }
})

// What is no Patient but stands in the record of another: a server that holds to its references would tell
// by its answer what there is, and another's encounter or document would have an entry by a stranger.
t.test(
  'an app of one patient names nothing of another’s record, and learns nothing of it',
  async (t) => {
    const server = await startFhirServer()
    const of = (resourceType: string, id: string, patient: string, more: object = {}) =>
      server.put(JSON.stringify({ resourceType, id, subject: ref(patient), ...more }))
    server.put('{"resourceType":"Practitioner","id":"d1"}')
    for (const type of ['Observation', 'Encounter', 'DocumentReference']) {
      of(type, 'own', 'p1')
      of(type, 'theirs', 'p2')
    }
    const label = { system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'V' }
    of('Observation', 'restricted', 'p1', { meta: { security: [label] } })
    of('Observation', 'old', 'p1', { derivedFrom: [{ reference: 'Observation/theirs' }] })
    const gateway = await startGateway({ upstreamUrl: server.url })
    t.teardown(async () => {
      await gateway.close()
      await server.close()
    })
    const token = async (claims: object) => `Bearer ${await gateway.token({ ...claims })}`
    const patient = await token({ scope: 'patient/*.cruds', patient: 'p1' })
    const device = await token({ scope: 'patient/Observation.cu', patient: 'p1' })
    const clinician = await token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
    const send = async (
      authorization: string,
      method: string,
      target: string,
      body: object,
      type = FHIR,
    ) => {
      const answer = await fetch(gateway.url + target, {
        ...{ method, headers: { authorization, 'content-type': type }, body: JSON.stringify(body) },
      })
      const text = await answer.text()
      const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(text)?.[1] ?? ''
      return `${answer.status} ${reason}`.trim()
    }
    const link = (text: string) => ({ reference: text })
    const ways: Readonly<Record<string, (text: string) => [string, string, object, string?]>> = {
      List: (to) => ['POST', '/List', about('List', { entry: [{ item: link(to) }] })],
      Composition: (to) => [
        ...(['POST', '/Composition'] as const),
        about('Composition', { section: [{ section: [{ entry: [link(to)] }] }] }),
      ],
      encounter: (to) => ['POST', '/Observation', { ...observation(), encounter: link(to) }],
      derivedFrom: (to) => ['POST', '/Observation', observation({ derivedFrom: [link(to)] })],
      extension: (to) => [
        ...(['POST', '/Observation'] as const),
        observation({ extension: [{ url: 'urn:x', valueReference: link(to) }] }),
      ],
      update: (to) => [
        ...(['PUT', '/Observation/own'] as const),
        { ...observation({ derivedFrom: [link(to)] }), id: 'own' },
      ],
      patch: (to) => [
        ...(['PATCH', '/Observation/own'] as const),
        [{ op: 'add', path: '/derivedFrom', value: [link(to)] }],
        JSON_PATCH,
      ],
      transaction: (to) => [
        ...(['POST', ''] as const),
        entry('transaction', 'POST', 'Observation', observation({ derivedFrom: [link(to)] })),
      ],
    }
    const denied = '403 compartment-denied'
    for (const [what, make] of Object.entries(ways)) {
      for (const type of ['Observation', 'Encounter', 'DocumentReference']) {
        const there = await send(patient, ...make(`${type}/theirs`))
        t.equal(there, denied, `${what}: ${type}`)
        t.equal(
          await send(patient, ...make(`${type}/missing`)),
          there,
          `${what}: and what is not there`,
        )
        t.not(await send(clinician, ...make(`${type}/theirs`)), denied, `${what}: who may, may`)
        t.not(await send(patient, ...make(`${type}/own`)), denied, `${what}: one’s own ${type}`)
      }
      t.equal(await send(patient, ...make('Observation/restricted')), denied, `${what}: restricted`)
      t.not(await send(patient, ...make('Practitioner/d1')), denied, `${what}: what is of nobody`)
    }
    // prettier-ignore
    for (const text of ['/Observation/theirs', 'Observation/theirs/', ' Observation/theirs', 'observation/theirs', 'Observation%2Ftheirs', 'Observation/theirs/_history/1', `${PUBLIC_URL}/Observation/theirs`, `${PUBLIC_URL.toUpperCase()}/Observation/theirs`, `${server.url}/Observation/theirs`]) {
    t.equal(await send(patient, ...(ways['derivedFrom']?.(text) ?? ['', '', {}])), denied, text)
  }
    // What is elsewhere no server here tells of; and no right to read is needed to name one's own.
    const make = ways['derivedFrom'] as (text: string) => [string, string, object]
    t.equal(await send(patient, ...make('https://elsewhere.example/fhir/Observation/1')), '201')
    t.equal(await send(device, ...make('Encounter/own')), '201')
    t.equal(await send(device, ...make('Encounter/theirs')), denied)
    const old = { ...observation({ derivedFrom: [link('Observation/theirs')] }), id: 'old' }
    t.equal(
      await send(patient, 'PUT', '/Observation/old', old),
      '200',
      'what was named before may stay',
    )
  },
)

import t from 'tap'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// REST-6, REST-7, REST-20: a reference that is a search (`Patient?identifier=…`) is answered by many
// servers on every write, in nobody's view: it confirms whom it names, and reading it back tells the id.
// Outside of a transaction none goes up, wherever it stands and however it is written.
const FHIR = 'application/fhir+json'
const JSON_PATCH = 'application/json-patch+json'
const SEARCH = 'Patient?identifier=http://hl7.org/fhir/sid/us-ssn|123-45-6789'
const OWN = {
  ...{ resourceType: 'Observation', id: 'o1', meta: { versionId: '3' } },
  ...{ status: 'final', code: { text: 'x' }, subject: { reference: 'Patient/p1' } },
  specimen: { reference: 'Specimen/s' },
}
const SPECIMEN = { resourceType: 'Specimen', id: 's', subject: { reference: 'Patient/p1' } }
const LINKED = { resourceType: 'Bundle', type: 'searchset', entry: [{ resource: SPECIMEN }] }
const upstream: Handler = (request, response, raw) => {
  const found = request.target.startsWith('/base/Specimen?_id=s') ? LINKED : OWN
  json(request.method === 'GET' ? JSON.stringify(found) : request.body)(request, response, raw)
}

const patched = (path: string, value: object | string) => {
  const member = typeof value === 'string' ? { valueString: value } : { valueReference: value }
  const part = [
    { name: 'type', valueCode: 'replace' },
    { name: 'path', valueString: path },
    { name: 'value', ...member },
  ]
  return { resourceType: 'Parameters', parameter: [{ name: 'operation', part }] }
}
const having = (more: object) => JSON.stringify({ ...OWN, ...more })
const reference = { reference: SEARCH }

type Row = [what: string, method: string, body: string, element: string | undefined, type?: string]
// prettier-ignore
const REFUSED: Row[] = [
  ['in a list', 'POST', having({ performer: [{ reference: 'Practitioner/d' }, reference] }), 'performer.reference'],
  ['alone', 'POST', having({ encounter: { reference: 'Encounter?status=x' } }), 'encounter.reference'],
  ['in a contained resource', 'POST', having({ contained: [{ resourceType: 'Specimen', id: 'a', subject: reference }] }), 'contained.subject.reference'],
  ['in an extension', 'POST', having({ extension: [{ url: 'urn:x', valueReference: reference }] }), 'extension.valueReference.reference'],
  ['in an extension of a primitive', 'POST', having({ _status: { extension: [{ url: 'urn:x', valueReference: reference }] } }), '_status.extension.valueReference.reference'],
  ['in an element nobody knows', 'POST', having({ unknown: { deeper: [[reference]] } }), 'unknown.deeper.reference'],
  ['in a list of references', 'POST', having({ performer: [{ reference: [SEARCH] }] }), 'performer.reference'],
  ['escaped', 'POST', having({ performer: [reference] }).replace('t?i', 't\\u003fi'), 'performer.reference'],
  ['with its name escaped', 'POST', having({ performer: [reference] }).replace('"reference":"Patient?', '"\\u0072eference":"Patient?'), 'performer.reference'],
  ['in one of two elements alike', 'POST', having({ performer: [reference] }).replace(/\}$/, ',"performer":[]}'), 'performer.reference'],
  ['at our base', 'POST', having({ performer: [{ reference: `http://127.0.0.1:9/fhir/${SEARCH}` }] }), 'performer.reference'],
  ['with nothing asked', 'POST', having({ performer: [{ reference: 'Patient?' }] }), 'performer.reference'],
  ['behind an id', 'POST', having({ performer: [{ reference: 'Patient/p1?name=a' }] }), 'performer.reference'],
  ['in an update', 'PUT', having({ performer: [reference] }), 'performer.reference'],
  // What is named of a patched version might be hidden from who patches.
  ['in a patch', 'PATCH', JSON.stringify([{ op: 'add', path: '/performer', value: [reference] }]), undefined, JSON_PATCH],
  ['as a patch', 'PATCH', JSON.stringify([{ op: 'add', path: '/encounter', value: {} }, { op: 'add', path: '/encounter/reference', value: SEARCH }]), undefined, JSON_PATCH],
  ['moved into place', 'PATCH', JSON.stringify([{ op: 'add', path: '/language', value: SEARCH }, { op: 'add', path: '/performer', value: [{}] }, { op: 'move', from: '/language', path: '/performer/0/reference' }]), undefined, JSON_PATCH],
  ['in a FHIRPath patch', 'PATCH', JSON.stringify(patched('Observation.code', '')).replace(/"valueString":""/, `"valueCodeableConcept":{"extension":[{"url":"urn:x","valueReference":${JSON.stringify(reference)}}]}`), undefined],
]

t.test('a search inside a reference goes up with no write', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const patient = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const clinician = await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
  const send = async (
    token: string,
    method: string,
    body: string,
    headers: Record<string, string>,
    target = method === 'POST' ? '/Observation' : '/Observation/o1',
  ) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      ...{ method, body },
      headers: { authorization: `Bearer ${token}`, 'content-type': FHIR, ...headers },
    })
    const text = await answer.text()
    const writes = gateway.upstream.received.filter((request) => request.method !== 'GET')
    const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(text)?.[1] ?? ''
    return { verdict: `${answer.status} ${reason}`, text, writes: writes.length }
  }
  for (const [what, method, body, element, type = FHIR] of REFUSED) {
    for (const token of [clinician, patient]) {
      const { verdict, text, writes } = await send(token, method, body, { 'content-type': type })
      t.equal(verdict, '422 reference-is-search', what)
      t.equal(writes, 0, `${what}: upstream sees no write`)
      t.notMatch(text, /123-45-6789/, what)
      if (element !== undefined) t.match(text, `"expression":["${element}"]`, what)
    }
  }
  t.match(
    await send(clinician, 'POST', having({ performer: [reference] }), {}, '/Observation/$validate'),
    { verdict: '422 reference-is-search', writes: 0 },
    'nor is it validated',
  )
  // A question mark elsewhere is none of it.
  const odd = having({ note: [{ text: 'Patient?' }], performer: [{ display: 'who?' }] })
  t.match(await send(patient, 'POST', odd, {}), { verdict: '200 ', writes: 1 })
})

t.test('one that was there before is no way around it', async (t) => {
  const stored = { ...OWN, performer: [{ reference: 'Practitioner?name=a' }] }
  const gateway = await startGateway({ handler: json(JSON.stringify(stored)) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
  const send = async (method: string, body: unknown, type: string): Promise<number> => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': type }
    const target = `${gateway.url}/Observation/o1`
    return (await fetch(target, { method, headers, body: JSON.stringify(body) })).status
  }
  const status = [{ op: 'replace', path: '/status', value: 'amended' }]
  t.equal(await send('PUT', { ...stored, status: 'amended' }, FHIR), 422, 'sent back')
  t.equal(await send('PATCH', status, JSON_PATCH), 422, 'left as it is')
  t.equal(await send('PUT', OWN, FHIR), 200, 'to take it away is right')
  t.equal(await send('PATCH', [{ op: 'remove', path: '/performer' }], JSON_PATCH), 200)
})

t.test('in a transaction only those that were answered in the caller’s view', async (t) => {
  const found = {
    resourceType: 'Bundle',
    type: 'searchset',
    entry: [{ resource: { resourceType: 'Practitioner', id: 'd' } }],
  }
  const done = {
    resourceType: 'Bundle',
    type: 'transaction-response',
    entry: [{ response: { status: '200' } }],
  }
  const gateway = await startGateway({
    handler: (request, response, raw) => {
      const body = request.method === 'POST' ? done : request.target.includes('?') ? found : OWN
      json(JSON.stringify(body))(request, response, raw)
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
  const send = async (method: string, url: string, resource: object): Promise<number> => {
    const bundle = {
      resourceType: 'Bundle',
      type: 'transaction',
      entry: [{ resource, request: { method, url } }],
    }
    const headers = { authorization: `Bearer ${token}`, 'content-type': FHIR }
    return (await fetch(gateway.url, { method: 'POST', headers, body: JSON.stringify(bundle) }))
      .status
  }
  const performer = [{ reference: 'Practitioner?identifier=a' }]
  t.equal(await send('POST', 'Observation', { ...OWN, performer }), 200)
  const hidden = patched('Observation.subject.reference', SEARCH)
  t.equal(await send('PATCH', 'Observation/o1', hidden), 422, 'a string that becomes one')
})

t.test('an address of ours is upstream’s in a patch as in an update (REST-10)', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const { url } = gateway.upstream
  const token = await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
  const send = async (body: string, type: string) => {
    gateway.upstream.received.length = 0
    const headers = { authorization: `Bearer ${token}`, 'content-type': type }
    const answer = await fetch(`${gateway.url}/Observation/o1`, { method: 'PATCH', headers, body })
    const sent = gateway.upstream.received.find(({ method }) => method === 'PATCH')
    return { status: answer.status, sent: sent?.body.toString() }
  }
  const ours = `${PUBLIC_URL}/Practitioner/d`
  const add = `[ {"op":"add", "path":"/performer", "value":[{"reference":"${ours}","display":"\\u0061"}]} ]`
  t.strictSame(
    await send(add, JSON_PATCH),
    { status: 200, sent: add.replace(PUBLIC_URL, url) },
    'every other byte stays',
  )
  const replace = JSON.stringify(patched('Observation.specimen', { reference: ours }))
  t.strictSame(await send(replace, FHIR), { status: 200, sent: replace.replace(PUBLIC_URL, url) })
  const other = add.replace(PUBLIC_URL, 'http://127.0.0.1:9/fhir-two')
  t.strictSame(await send(other, JSON_PATCH), { status: 200, sent: other })
  // A bare string is an address only by where it is put.
  for (const [body, type] of [
    [JSON.stringify([{ op: 'replace', path: '/specimen/reference', value: ours }]), JSON_PATCH],
    [JSON.stringify(patched('Observation.specimen.reference', ours)), FHIR],
  ] as const) {
    t.strictSame(await send(body, type), { status: 422, sent: undefined })
  }
})

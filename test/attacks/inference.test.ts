import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// MASK-9, MASK-10, REST-12: what is masked is told by no search, and comes to light by no write.

const coding = (code: string, system: string) => ({
  system: `http://terminology.hl7.org/CodeSystem/${system}`,
  code,
})
const SSN = 'http://hl7.org/fhir/sid/us-ssn'
const INLINE =
  'http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label'
const HELD = [
  {
    ...{ resourceType: 'Patient', id: 'p1', meta: { versionId: '1' } },
    name: [{ family: 'Doe' }],
    identifier: [{ system: SSN, value: '123456789' }],
  },
  {
    ...{ resourceType: 'Patient', id: 'p2' },
    meta: { versionId: '1', security: [coding('PROCESSINLINELABEL', 'v3-ActCode')] },
    address: [
      {
        city: 'Secretville',
        extension: [{ url: INLINE, valueCoding: coding('R', 'v3-Confidentiality') }],
      },
    ],
  },
  {
    ...{ resourceType: 'Observation', id: 'o1', meta: { versionId: '1' }, status: 'final' },
    ...{ code: { text: 'x' }, valueString: 'my SSN is 123-45-6789' },
  },
]

type Policy = { readonly rules: string; readonly masking?: string }

/** A folder with a policy, and the masking profile "hide". */
function writePolicy({ rules, masking }: Policy): string {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-inference-'))
  mkdirSync(join(folder, 'masking'))
  writeFileSync(join(folder, 'own.yaml'), `policy: own\ndescription: d\nrules:\n${rules}`)
  if (masking !== undefined) {
    const text = `masking: hide\ndescription: d\nrules:\n${masking}`
    writeFileSync(join(folder, 'masking', 'hide.yaml'), text)
  }
  return folder
}

async function setUp(policy?: Policy, more: readonly object[] = []) {
  const server = await startFhirServer()
  for (const one of [...HELD, ...more]) server.put(JSON.stringify(one))
  const folder = policy === undefined ? undefined : writePolicy(policy)
  const config = folder === undefined ? {} : { policies: folder }
  const gateway = await startGateway({ upstreamUrl: server.url, config })
  const token = await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
  const ask = async (method: string, target: string, body?: string, type?: string) => {
    const headers = {
      authorization: `Bearer ${token}`,
      ...(body === undefined ? {} : { 'content-type': type ?? 'application/fhir+json' }),
    }
    const answer = await fetch(gateway.url + target, {
      ...{ method, headers },
      ...(body === undefined ? {} : { body }),
    })
    return { status: answer.status, text: await answer.text() }
  }
  const close = async (): Promise<void> => {
    await gateway.close()
    await server.close()
    if (folder !== undefined) rmSync(folder, { recursive: true })
  }
  return { ask, close }
}

t.test('no write brings to light what was masked (MASK-10, MASK-4, LABEL-2)', async (t) => {
  const { ask, close } = await setUp()
  t.teardown(close)
  for (const [id, from, to, secret] of [
    ['p1', SSN, 'urn:x', /123456789/],
    ['p2', 'PROCESSINLINELABEL', 'NOAUTH', /Secretville/],
  ] as const) {
    const before = await ask('GET', `/Patient/${id}`)
    t.notMatch(before.text, secret)
    const written = await ask('PUT', `/Patient/${id}`, before.text.replaceAll(from, to))
    t.equal(written.status, 422, `${to} in place of ${from}`)
    t.match(written.text, /body-hides|body-rule-broken/)
    const after = await ask('GET', `/Patient/${id}`)
    t.equal(after.text, before.text, 'nothing is written')
  }
  const patch = JSON.stringify([{ op: 'replace', path: '/identifier/0/system', value: 'urn:x' }])
  const patched = await ask('PATCH', '/Patient/p1', patch, 'application/json-patch+json')
  t.equal(patched.status, 422)
  // What hides nothing is written as before, and what was hidden is still there.
  const seen = await ask('GET', '/Patient/p1')
  t.equal((await ask('PUT', '/Patient/p1', seen.text.replace('Doe', 'Roe'))).status, 200)
  t.match((await ask('GET', '/Patient/p1')).text, /Roe.*6789/)
})

t.test('nor what is masked as it is called, though it is a number (MASK-5, MASK-10)', async (t) => {
  const called = {
    ...{ resourceType: 'Observation', id: 'o1', meta: { versionId: '1' }, status: 'final' },
    ...{ code: { text: 'SSN' }, valueInteger: 123456789 },
  }
  const { ask, close } = await setUp(undefined, [called])
  t.teardown(close)
  const seen = await ask('GET', '/Observation/o1')
  t.match(seen.text, '***-**-6789')
  t.notMatch(seen.text, '12345')
  for (const body of [
    seen.text.replace('"SSN"', '"x"'),
    JSON.stringify({ ...called, code: { text: 'x' }, valueInteger: undefined }),
  ])
    t.equal((await ask('PUT', '/Observation/o1', body)).status, 422)
  t.equal((await ask('PUT', '/Observation/o1', seen.text.replace('final', 'amended'))).status, 200)
  t.match((await ask('GET', '/Observation/o1')).text, /amended.*\*\*\*-\*\*-6789/)
})

t.test('no search finds a number that is masked by how it looks (MASK-9, REST-12)', async (t) => {
  const { ask, close } = await setUp()
  t.teardown(close)
  const finds = async (query: string): Promise<boolean> =>
    (await ask('GET', query)).text.includes('"id":"o1"')
  t.ok(await finds('/Observation?value-string=my%20SSN'), 'what shows is found')
  t.ok(await finds('/Observation?_id=o1'))
  for (const hidden of ['my%20SSN%20is%201', 'my%20SSN%20is%20123-45'])
    t.notOk(await finds(`/Observation?value-string=${hidden}`), hidden)
  t.notOk(await finds('/Observation?value-string:contains=123-4'))
  t.notOk(await finds('/?_type=Observation&value-string=my%20SSN%20is%201'))
  for (const query of ['family=Doe', `identifier=${encodeURIComponent('urn:mrn|1')}`]) {
    const { status, text } = await ask('GET', `/Patient?${query}`)
    t.equal(status, 200)
    t.equal(text.includes('"id":"p1"'), query === 'family=Doe', query)
  }
})

t.test('nor one that is a number of JSON (MASK-4, MASK-9)', async (t) => {
  const card = {
    ...{ resourceType: 'Observation', id: 'o9', meta: { versionId: '1' }, status: 'final' },
    ...{ code: { text: 'x' }, valueQuantity: { value: 4111111111111111, unit: 'mg' } },
  }
  const plain = { ...card, id: 'o8', valueQuantity: { value: 4111111111111112, unit: 'mg' } }
  const { ask, close } = await setUp(undefined, [card, plain])
  t.teardown(close)
  const found = async (query: string): Promise<string[]> =>
    (await ask('GET', `/Observation?${query}`)).text.match(/"id":"o[89]"/g) ?? []
  t.strictSame((await found('status=final')).sort(), ['"id":"o8"', '"id":"o9"'])
  for (const value of ['4111111111111111', 'ge4111111111111111', 'ge4000000000000000', 'ne5'])
    t.notOk((await found(`value-quantity=${value}`)).includes('"id":"o9"'), value)
  t.ok((await found('value-quantity=ge4111111111111112')).includes('"id":"o8"'), 'what shows is')
})

t.test('and no such number is asked for at all (MASK-9, REST-12)', async (t) => {
  const CARD = '4111111111111111'
  const called = {
    ...{ resourceType: 'Observation', id: 'o7', meta: { versionId: '1' }, status: 'final' },
    ...{ code: { text: 'SSN' }, subject: { reference: 'Patient/p1' }, valueString: '123456789' },
  }
  const near = { ...called, id: 'o6', code: { text: 'x' }, valueString: '12345-678' }
  const { ask, close } = await setUp(undefined, [called, near])
  t.teardown(close)
  t.match((await ask('GET', '/Observation/o7')).text, '*****6789')
  await refusesEach(t, ask, [
    '/Observation?value-string=123456789',
    '/Observation?value-string:exact=123456789',
    '/Observation?value-string:contains=123456789',
    '/Observation?value-string=x,123456789',
    '/Observation?value-string=SSN%20123456789',
    '/Observation?value-string=my%20SSN%20is%20123-45-6789.',
    `/Observation?value-string=card%20${CARD}`,
    '/Patient?family=4111%201111-1111%201111x',
    '/Patient?_has:Observation:patient:value-string=123456789',
    `/Observation?value-quantity=${CARD}`,
    `/Observation?value-quantity=${CARD}||mg`,
    `/Observation?value-quantity=ge${CARD}|http://unitsofmeasure.org|mg`,
    '/Observation?value-quantity=4.111111111111111e15',
    `/Observation?value-quantity=-${CARD}.0`,
    '/Observation?value-quantity=4.1111111111111111e15',
    `/Observation?code-value-quantity=x$ge${CARD}`,
    '/Observation?code-value-string=x$123-45-6789',
  ])
  // Codes and counts have nine digits too; and no part of a number is found by what it would tell.
  for (const [query, ids] of [
    ['code=http://snomed.info/sct|271649006', ''],
    ['value-quantity=gt123456789', ''],
    ['value-string=12345', 'o6'],
    ['value-string=12345678', ''],
    ['value-string:contains=6789', 'o1,o7'],
    ['value-string:contains=56789', ''],
    ['value-string:missing=false&_sort=value-string', 'o6'],
    ['value-string:missing=false&_sort=-value-string', 'o6'],
  ] as const) {
    const { status, text } = await ask('GET', `/Observation?${query}`)
    t.equal(status, 200, query)
    t.equal([...text.matchAll(/"id":"(o\d)"/g)].map(([, id]) => id).join(), ids, query)
    t.notMatch(text, /"total"|"relation":"next"/, query)
  }
})

type Ask = Awaited<ReturnType<typeof setUp>>['ask']

async function refusesEach(t: Test, ask: Ask, targets: readonly string[]): Promise<void> {
  for (const target of targets) {
    const { status, text } = await ask('GET', target)
    t.equal(status, 400, target)
    t.match(text, 'parameter-forbidden', target)
  }
}

const all = (obligations: string): string =>
  `  - { id: all, effect: permit, levels: [user], interactions: [read, vread, history-instance, search-type, search-compartment, operation], operations: [$everything, $lastn], types: ['*'], obligations: { ${obligations} } }\n`

/** Hidden from whoever is not cleared for R, element by element (LABEL-2). */
const inline = (code: string) => ({
  extension: [{ url: INLINE, valueCoding: coding(code, 'v3-Confidentiality') }],
})
const LABELLED = {
  ...{ resourceType: 'Patient', id: 'p3', gender: 'male' },
  meta: { versionId: '1', security: [coding('PROCESSINLINELABEL', 'v3-ActCode')] },
  ...{ birthDate: '1970-05-06', _birthDate: inline('R') },
  telecom: [{ system: 'phone', value: '617-555-1234', ...inline('R') }],
  name: [{ family: 'Roe' }],
}
const RESULT = {
  ...{ resourceType: 'Observation', id: 'o3', status: 'final', meta: LABELLED.meta },
  code: { coding: [{ system: 'http://loinc.org', code: '5220-9' }], ...inline('R') },
  subject: { reference: 'Patient/p3' },
  performer: [{ reference: 'Practitioner/d9', ...inline('R') }],
}

t.test('no search finds what is hidden by a label (MASK-9, LABEL-2, REST-12)', async (t) => {
  const { ask, close } = await setUp(undefined, [
    LABELLED,
    RESULT,
    { resourceType: 'Practitioner', id: 'd9', name: [{ family: 'Who' }] },
  ])
  t.teardown(close)
  t.notMatch((await ask('GET', '/Patient/p3')).text, /1970-05-06|617-555/)
  const ways: [right: string, wrong: string][] = [
    ['/Patient?birthdate=1970-05-06', '/Patient?birthdate=1970-05-07'],
    ['/Patient?birthdate=ne1970-05-06', '/Patient?birthdate=ne1970-05-07'],
    ['/Patient?birthdate=gt1970-05-05', '/Patient?birthdate=gt1970-05-07'],
    ['/Patient?phone=617-555-1234', '/Patient?phone=617-555-1235'],
    ['/Observation?code=5220-9', '/Observation?code=1'],
    ['/Observation?code:not=5220-9', '/Observation?code:not=1'],
    [
      '/Patient?_filter=birthdate%20eq%201970-05-06',
      '/Patient?_filter=birthdate%20eq%201970-05-07',
    ],
    [
      '/Observation?subject:Patient.birthdate=1970-05-06',
      '/Observation?subject:Patient.birthdate=1970-05-07',
    ],
    [
      '/Practitioner?_has:Observation:performer:status=final',
      '/Practitioner?_has:Observation:performer:status=amended',
    ],
  ]
  const idsOf = async (query: string) => {
    const { status, text } = await ask('GET', query)
    return `${status} ${[...text.matchAll(/"id":"([pod]\d)"/g)].map(([, id]) => id).join()}`
  }
  for (const [right, wrong] of ways) t.equal(await idsOf(right), await idsOf(wrong), right)
  t.equal(await idsOf('/Patient?family=Roe'), '200 p3', 'what shows is found')
  t.equal(await idsOf('/Patient?gender=male&family=Roe'), '200 p3')
  t.equal(await idsOf('/Observation?subject=Patient/p3'), '200 o3')
})

t.test('no order tells what is hidden (MASK-9, REST-12)', async (t) => {
  const probe = (id: string, valueString: string) => ({
    ...{ resourceType: 'Observation', id, status: 'final', code: { text: 'x' }, valueString },
  })
  const { ask, close } = await setUp(undefined, [
    LABELLED,
    probe('o4', 'my SSN is 2'),
    probe('o5', 'my SSN is 0'),
    { resourceType: 'Patient', id: 'p4', birthDate: '1960-01-01', name: [{ family: 'Poe' }] },
  ])
  t.teardown(close)
  const order = async (query: string) => {
    const { text } = await ask('GET', query)
    return [...text.matchAll(/"id":"([pod]\d)"/g)].map(([, id]) => id).join()
  }
  t.equal(await order('/Observation?_sort=value-string'), 'o5,o4', 'o1 has no place among them')
  t.equal(
    await order('/Patient?_sort=birthdate'),
    'p4,p1,p2',
    'nor has one whose day of birth is hidden',
  )
  t.match(await order('/Patient?_sort=family'), /p1.*p4.*p3/, 'by what shows')
  for (const by of [
    'subject.identifier',
    '-subject:Patient.identifier',
    'patient.name',
    'nonsense',
    '_has:Observation:patient:code',
  ])
    t.match((await ask('GET', `/Observation?_sort=${by}`)).text, /"code":"parameter-/, by)
})

t.test('no summary of upstream’s takes away what is judged by (REST-12, LABEL-2)', async (t) => {
  // As a server makes them: without extensions, and without what is no summary element.
  const summary = JSON.stringify({
    ...LABELLED,
    _birthDate: undefined,
    telecom: [{ value: '617-555-1234' }],
  })
  const gateway = await startGateway({
    handler: (request, response) => {
      const body = request.target.includes('_summary')
        ? summary
        : JSON.stringify({
            ...LABELLED,
            photo: [{ title: 'x' }],
            text: {
              status: 'generated',
              div: '<div xmlns="http://www.w3.org/1999/xhtml">Roe</div>',
            },
          })
      const isSearch = /Patient(\?|$)/.test(request.target)
      response.writeHead(200, { 'content-type': 'application/fhir+json' })
      response.end(
        isSearch
          ? `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${body}}]}`
          : body,
      )
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })
  const ask = async (target: string) =>
    (await fetch(gateway.url + target, { headers: { authorization: `Bearer ${token}` } })).text()
  for (const place of ['/Patient/p3', '/Patient', '/Patient/p3/_history/1']) {
    for (const value of ['true', 'data', 'text', 'false']) {
      const text = await ask(`${place}?_summary=${value}`)
      t.notMatch(text, /1970-05-06|617-555/, `${place} ${value}`)
      t.match(text, '"id":"p3"')
      t.equal(/"photo"/.test(text), value === 'data' || value === 'false', `${place} ${value}`)
      t.equal(/"name"/.test(text), value !== 'text', `${place} ${value}`)
      t.equal(/SUBSETTED/.test(text), value !== 'false', `${place} ${value}`)
    }
  }
  t.match(await ask('/Patient?_summary=maybe'), '"code":"parameter-malformed"')
  t.notOk(gateway.upstream.received.some(({ target }) => target.includes('_summary')))
})

t.test('a link that is masked is followed by nobody (MASK-9, SCOPE-10)', async (t) => {
  const masking =
    '  - { id: a, select: [Observation.performer, Observation.subject, List.entry, Observation.code, Meta.lastUpdated], method: remove }\n'
  const { ask, close } = await setUp({ rules: all('masking: [hide]'), masking })
  t.teardown(close)
  await refusesEach(t, ask, [
    '/Observation?performer=Practitioner/dr1',
    '/Practitioner?_id=dr1&_revinclude=Observation:performer',
    '/Observation?_id=o1&_include=Observation:performer',
    '/Observation?_id=o1&_include=Observation:*',
    '/Practitioner?_has:Observation:performer:status=final',
    '/Patient?_has:Observation:subject:status=final&_id=p1',
    '/Patient?_list=l1',
    '/Patient/p1/Observation',
    '/Observation/o1/_history?_since=2024-05-06T07:08:08Z',
    '/Patient/p1/$everything?start=2024-03-04',
    '/Observation/$lastn?code=5220-9',
  ])
})

t.test('what comes beside a match is masked as in a search (REST-11, MASK-1)', async (t) => {
  const rule = (id: string, interactions: string, types: string, masking: string) =>
    `  - { id: ${id}, effect: permit, levels: [user], interactions: [${interactions}], types: [${types}], obligations: { masking: ${masking} } }\n`
  const folder = writePolicy({
    rules:
      rule('found', 'search-type', 'Patient', 'minimum-necessary') +
      rule('read', 'read', 'Patient', 'baseline') +
      rule('results', 'search-type', 'Observation', 'baseline'),
  })
  const patient = { resourceType: 'Patient', id: 'p5', telecom: [{ value: '617-555-1234' }] }
  const result = { resourceType: 'Observation', id: 'o6', subject: { reference: 'Patient/p5' } }
  const entry = (resource: object, mode: string) => ({ resource, search: { mode } })
  const found = [entry(result, 'match'), entry(patient, 'include')]
  const gateway = await startGateway({
    config: { policies: folder },
    handler: (request, response, raw) => {
      const isRead = request.target.includes('Patient/p5')
      const whole = { resourceType: 'Bundle', type: 'searchset', entry: found }
      json(JSON.stringify(isRead ? patient : whole))(request, response, raw)
    },
  })
  t.teardown(async () => {
    await gateway.close()
    rmSync(folder, { recursive: true })
  })
  const token = await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })
  const ask = async (target: string) =>
    (await fetch(gateway.url + target, { headers: { authorization: `Bearer ${token}` } })).text()
  t.match(await ask('/Patient/p5'), '617-555-1234', 'read alone')
  const text = await ask('/Observation?_include=Observation:subject')
  t.match(text, '"id":"p5"')
  t.notMatch(text, '617-555-1234')
})

t.test('a parameter that a policy forbids is forbidden in every disguise', async (t) => {
  const rules = all('parameters: { forbid: [birthdate, performer] }')
  const { ask, close } = await setUp({ rules })
  t.teardown(close)
  await refusesEach(t, ask, [
    '/Patient?birthdate=1970-05-06',
    '/Patient?_sort=birthdate',
    '/Patient?_sort=-birthdate',
    '/Patient?_filter=birthdate%20eq%201970-05-06',
    '/Observation?performer=Practitioner/d',
    '/Practitioner?_has:Observation:performer:status=final',
    '/Practitioner?_revinclude=Observation:performer',
    '/Observation?_include=Observation:performer',
  ])
})

t.test(
  'a reference that is a search finds nothing that a search does not (REST-6, REST-7)',
  async (t) => {
    const label = coding('R', 'v3-Confidentiality')
    const vip = { resourceType: 'Patient', id: 'vip', meta: { versionId: '1', security: [label] } }
    const gateway = await startGateway({
      handler: (request, response, raw) => {
        const isFound = /M-9|both/.test(request.target)
        const done = { resourceType: 'Bundle', type: 'transaction-response' }
        const body =
          request.method === 'GET' && request.target.startsWith('/base/Patient?')
            ? {
                resourceType: 'Bundle',
                type: 'searchset',
                entry: [
                  ...(isFound ? [{ resource: vip }] : []),
                  ...(request.target.includes('M-7') || request.target.includes('both')
                    ? [{ resource: { resourceType: 'Patient', id: 'p1' } }]
                    : []),
                ],
              }
            : { ...done, entry: [{ response: { status: '201' } }] }
        // As a server does that finds more than one.
        const isTold = /"reference":"[^"]*both/.test(request.body.toString())
        json(JSON.stringify(body), isTold ? 412 : 200)(request, response, raw)
      },
    })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' })
    const answers: string[] = []
    for (const number of ['M-9', 'M-8', 'M-7', 'both']) {
      const reference = `Patient?identifier=urn:mrn|${number}`
      const resource = { resourceType: 'Observation', status: 'final', code: { text: 'x' } }
      const entry = {
        resource: { ...resource, subject: { reference } },
        request: { method: 'POST', url: 'Observation' },
      }
      const answer = await fetch(gateway.url, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
        body: JSON.stringify({ resourceType: 'Bundle', type: 'transaction', entry: [entry] }),
      })
      answers.push(`${answer.status} ${(await answer.text()).replaceAll(/[0-9a-f-]{36}/g, '')}`)
    }
    t.match(answers[0], /^412 /)
    t.equal(answers[0], answers[1], 'one that is withheld, and none, look alike')
    t.match(answers[2], /^200 /, 'one that may be seen')
    t.equal(answers[2], answers[3], 'beside one that is withheld, and alone')
    const written = gateway.upstream.received.filter(({ method }) => method === 'POST')
    t.equal(written.length, 2)
    for (const { body } of written) t.match(body.toString(), '"subject":{"reference":"Patient/p1"}')
  },
)

import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// Batch and transaction (SCOPE-9, REST-7): every entry goes through the same pipeline; a transaction
// reaches upstream as a whole or not at all. Upstream holds p1's o1 and p2's o2.
const HELD: Record<string, string> = {
  '/base/Patient/p1': '{"resourceType":"Patient","id":"p1","meta":{"versionId":"1"}}',
  '/base/Patient/p2':
    '{"resourceType":"Patient","id":"p2","meta":{"versionId":"1"},"name":[{"text":"CANARY"}]}',
  '/base/Practitioner/d1': '{"resourceType":"Practitioner","id":"d1","meta":{"versionId":"1"}}',
  '/base/Observation/o1':
    '{"resourceType":"Observation","id":"o1","meta":{"versionId":"4"},"status":"final","subject":{"reference":"Patient/p1"},"valueQuantity":{"value":1.10}}',
  '/base/Observation/o2':
    '{"resourceType":"Observation","id":"o2","meta":{"versionId":"7"},"status":"final","subject":{"reference":"Patient/p2"},"note":[{"text":"CANARY"}]}',
}
const upstream: Handler = (request, response, raw) => {
  const { method, target, body } = request
  const [path = ''] = target.split('?')
  if (method === 'POST' && path === '/base') {
    const bundle = JSON.parse(body.toString()) as { entry: { request: { method: string } }[] }
    const entry = bundle.entry.map(({ request: { method } }) =>
      method === 'POST'
        ? {
            response: {
              status: '201 Created',
              location: 'Observation/new/_history/1',
              etag: 'W/"1"',
            },
          }
        : {
            resource: JSON.parse(HELD['/base/Observation/o1']!) as object,
            response: { status: '200 OK' },
          },
    )
    return json(
      JSON.stringify({ resourceType: 'Bundle', type: 'transaction-response', entry }).replace(
        '"value":1.1}',
        '"value":1.10}',
      ),
    )(request, response, raw)
  }
  if (method === 'GET' && target.includes('?')) {
    const resources = Object.values(HELD).filter((text) => text.includes(`"${path.slice(6)}"`))
    const entry = resources.map((text) => `{"resource":${text}}`).join()
    return json(`{"resourceType":"Bundle","type":"searchset","entry":[${entry}]}`)(
      request,
      response,
      raw,
    )
  }
  if (method === 'GET')
    return json(HELD[path] ?? '{}', HELD[path] === undefined ? 404 : 200)(request, response, raw)
  return json(
    body.length > 0 && method !== 'PATCH' ? body : (HELD[path] ?? '{}'),
    method === 'POST' ? 201 : 200,
    {
      location: 'http://upstream.secret/base/Observation/new/_history/1',
    },
  )(request, response, raw)
}

type Entry = {
  method: string
  url: string
  resource?: object
  fullUrl?: string
  [more: string]: unknown
}
const bundleOf = (type: string, entries: readonly Entry[]): string =>
  JSON.stringify({
    resourceType: 'Bundle',
    type,
    entry: entries.map(({ resource, fullUrl, ...request }) => ({
      ...(fullUrl === undefined ? {} : { fullUrl }),
      ...(resource === undefined ? {} : { resource }),
      request,
    })),
  })
const observation = (patient: string, more: object = {}): object => ({
  resourceType: 'Observation',
  status: 'final',
  code: { text: 'a' },
  subject: { reference: `Patient/${patient}` },
  ...more,
})
const own: Entry = { method: 'POST', url: 'Observation', resource: observation('p1') }

type Answered = {
  type: string
  entry: {
    resource?: { id: string }
    response: {
      status: string
      location?: string
      outcome?: { issue: { details: { coding: { code: string }[] } }[] }
    }
  }[]
}

t.test('a batch: each entry is asked, answered and recorded alone', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  // prettier-ignore
  const rows: [entry: Entry, status: string, reason: string, upstream: string[]][] = [
    [{ method: 'GET', url: 'Patient/p1' },                      '200', '',                   ['GET /Patient/p1']],
    [{ method: 'GET', url: '/Patient/p2' },                     '404', 'not-found',          ['GET /Patient/p2']],
    [{ method: 'GET', url: 'http://127.0.0.1:9/fhir/Patient/p1' }, '200', '',           ['GET /Patient/p1']],
    [{ method: 'GET', url: 'https://evil.example/fhir/Patient/p1' }, '400', 'target-malformed', []],
    [{ method: 'GET', url: 'Observation?code=a' },              '200', '',                   ['GET /Observation?code=a&patient=Patient%2Fp1']],
    [{ method: 'GET', url: '_history' },                        '403', 'interaction-refused', []],
    [{ method: 'POST', url: '', resource: { resourceType: 'Bundle' } }, '400', 'target-malformed', []],
    [{ method: 'POST', url: 'Observation/_search?code=a' },     '403', 'interaction-refused', []],
    [{ method: 'GET', url: 'Practitioner?name=a' },             '403', 'policy-denied',      []],
    [{ method: 'GET', url: 'Patient/../Observation' },          '400', 'target-malformed',   []],
    [{ method: 'POST', url: 'Observation', resource: observation('p2') }, '403', 'compartment-denied', []],
    [own,                                                       '201', '',                   ['POST /Observation']],
    [{ ...own, ifNoneExist: 'code=a' },                         '200', '',                   ['GET /Observation?code=a&_count=101&patient=Patient%2Fp1', 'GET /Observation/o1']],
    [{ method: 'DELETE', url: 'Observation/o2' },               '404', 'not-found',          ['GET /Observation/o2']],
    [{ method: 'DELETE', url: 'Observation?code=a' },           '200', '',                   ['GET /Observation?code=a&_count=101&patient=Patient%2Fp1', 'GET /Observation/o1', 'DELETE /Observation/o1']],
    [{ method: 'PUT', url: 'Observation/o1', resource: observation('p1', { id: 'o1' }), ifMatch: 'W/"3"' }, '412', 'precondition-failed', ['GET /Observation/o1']],
    [{ method: 'GET', url: 'Observation/o1', resource: observation('p1') }, '400', 'body-malformed', []],
    [{ method: 'POST', url: 'Observation' },                    '400', 'body-malformed',     []],
    [{ method: 'GET', url: 'Patient/p1', fullUrl: 'http://127.0.0.1:9/fhir/Patient/p2' }, '400', 'body-malformed', []],
    [{ ...own, resource: observation('p1', { performer: [{ reference: 'Practitioner?name=a' }] }) }, '400', 'body-malformed', []],
    [{ method: 'HACK', url: 'Patient/p1' },                     '405', 'method-not-allowed', []],
  ]
  for (const [entry, status, reason, asked] of rows) {
    gateway.upstream.received.length = 0
    const before = (await gateway.audit()).length
    const answer = await fetch(gateway.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
      body: bundleOf('batch', [entry]),
    })
    const text = await answer.text()
    const line = `${entry.method} ${entry.url} ${entry.fullUrl ?? ''}`
    t.equal(answer.status, 200, line)
    t.notMatch(text, /CANARY|upstream\.secret/, line)
    const {
      type,
      entry: [found],
    } = JSON.parse(text) as Answered
    t.equal(type, 'batch-response')
    t.equal(found?.response.status, status, line)
    t.equal(found?.response.outcome?.issue[0]?.details.coding[0]?.code ?? '', reason, line)
    const seen = gateway.upstream.received.map(
      ({ method, target }) => `${method} ${target.replace('/base', '')}`,
    )
    t.strictSame(seen, asked, `${line}: upstream`)
    t.ok((await gateway.audit()).length >= before + 2, `${line}: entry and batch are recorded`)
  }
  t.notMatch(await gateway.auditText(), /CANARY/)
})

t.test('a transaction: all or nothing, before upstream sees any of it', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const send = async (claims: Record<string, unknown>, text: string) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await gateway.token(claims)}`,
        'content-type': 'application/fhir+json',
      },
      body: text,
    })
    return { status: answer.status, text: await answer.text() }
  }
  const patient = { scope: 'patient/*.cruds', patient: 'p1' }
  const backend = { scope: 'system/*.cruds', sub: 'app-1' }
  const writes = () => gateway.upstream.received.filter(({ method }) => method !== 'GET')

  const change: Entry = {
    method: 'PUT',
    url: 'Observation/o1',
    resource: observation('p1', { id: 'o1', valueQuantity: { value: 2 } }),
  }
  const good = await send(
    patient,
    bundleOf('transaction', [own, change]).replace('"value":2', '"value":2.10'),
  )
  t.equal(good.status, 200)
  const [sent] = writes()
  t.match(sent?.body.toString(), '"value":2.10', 'resources go up byte for byte')
  t.match(JSON.parse(sent!.body.toString()), {
    type: 'transaction',
    entry: [
      { request: { method: 'POST', url: 'Observation' } },
      { request: { method: 'PUT', url: 'Observation/o1', ifMatch: 'W/"4"' } },
    ],
  })
  const answered = JSON.parse(good.text) as Answered
  t.equal(answered.type, 'transaction-response')
  t.match(answered.entry, [
    { response: { status: '201', location: 'http://127.0.0.1:9/fhir/Observation/new/_history/1' } },
    { resource: { id: 'o1' }, response: { status: '200' } },
  ])
  t.match(good.text, '"value":1.10', 'and come back byte for byte')

  // prettier-ignore
  const refused: [what: string, claims: object, entries: Entry[], status: number][] = [
    ['one entry of another patient', patient, [own, { method: 'DELETE', url: 'Observation/o2' }], 404],
    ['one resource of another patient', patient, [own, { ...own, resource: observation('p2') }], 403],
    ['one entry without the right', patient, [own, { method: 'GET', url: 'Practitioner?name=a' }], 403],
    ['one address that is none', patient, [own, { method: 'GET', url: 'Observation/o1/../o2' }], 400],
    ['an operation', patient, [own, { method: 'POST', url: '$process-message', resource: observation('p1') }], 403],
    ['a subject within the Bundle', patient, [{ ...own, resource: { ...observation('p1'), subject: { reference: 'urn:uuid:1' } } }], 403],
    ['a fullUrl that is somebody', backend, [{ ...own, fullUrl: 'Patient/p2' }], 400],
    ['a fullUrl on our base of another', backend, [{ ...own, fullUrl: 'http://127.0.0.1:9/fhir/Patient/p2' }], 400],
    ['a conditional reference beyond the limit', patient, [{ ...own, resource: observation('p1', { performer: [{ reference: 'Practitioner?name=a' }] }) }], 403],
    ['a conditional reference of several types', backend, [{ ...own, resource: observation('p1', { performer: [{ reference: '?_type=Patient&_id=p1' }] }) }], 400],
    ['a conditional reference behind an id', backend, [{ ...own, resource: observation('p1', { performer: [{ reference: 'Patient/p1?name=a' }] }) }], 400],
    ['a conditional reference, no right', { scope: 'system/Observation.c', sub: 'app-1' }, [{ ...own, resource: observation('p1', { performer: [{ reference: 'Practitioner?name=a' }] }) }], 403],
    ['an unknown entry method', patient, [{ method: 'TRACE', url: 'Patient/p1' }], 405],
  ]
  for (const [what, claims, entries, status] of refused) {
    const before = (await gateway.audit()).length
    const { status: found, text } = await send({ ...claims }, bundleOf('transaction', entries))
    t.equal(found, status, what)
    t.notMatch(text, /CANARY/, what)
    t.strictSame(
      writes().map(({ target }) => target),
      [],
      `${what}: nothing is written`,
    )
    t.ok((await gateway.audit()).length >= before + entries.length + 1, `${what}: all is recorded`)
  }
  const referring = (reference: string) =>
    send(
      backend,
      bundleOf('transaction', [
        {
          ...own,
          fullUrl: 'urn:uuid:5',
          resource: observation('p1', { performer: [{ reference }] }),
        },
      ]),
    )
  const one = await referring('Practitioner?name=a')
  const went = String(writes().at(-1)?.body)
  const [two, none] = [await referring('Patient?name=a'), await referring('Device?identifier=a')]
  t.equal(one.status, 200, 'a conditional reference to the one that may be seen')
  t.match(went, /"reference":"Practitioner\//, 'upstream gets what it leads to')
  t.notMatch(went, /"reference":"[^"]*\?/)
  t.equal(two.status, 412, 'to more than one')
  t.equal(none.status, 412, 'to none')

  // Upstream did it, and answers one entry with what may not be seen: the others are told all the same.
  gateway.upstream.answerWith((request, response, raw) =>
    request.method === 'GET'
      ? upstream(request, response, raw)
      : json(
          `{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"201"}},{"resource":${HELD['/base/Observation/o2']!},"response":{"status":"200"}}]}`,
        )(request, response, raw),
  )
  const partly = await send(
    patient,
    bundleOf('transaction', [own, { method: 'GET', url: 'Observation/o1' }]),
  )
  t.equal(partly.status, 200)
  t.notMatch(partly.text, /CANARY/)
  t.match((JSON.parse(partly.text) as Answered).entry, [
    { response: { status: '201' } },
    { response: { status: '404' } },
  ])
  gateway.upstream.answerWith(upstream)

  for (const [what, text, status] of [
    ['another kind of Bundle', bundleOf('document', [own]), 400],
    ['no Bundle', '{"resourceType":"Patient"}', 400],
    [
      'a type twice',
      '{"resourceType":"Bundle","type":"batch","type":"transaction","entry":[]}',
      400,
    ],
    [
      'a url twice',
      '{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/p1","url":"Patient/p2"}}]}',
      400,
    ],
    [
      'an escaped name twice',
      '{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/p1","\\u0075rl":"Patient/p2"}}]}',
      400,
    ],
    [
      'an entry without request',
      '{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient"}}]}',
      400,
    ],
    [
      'too many entries',
      bundleOf(
        'batch',
        Array.from({ length: 201 }, () => ({ method: 'GET', url: 'Patient/p1' })),
      ),
      400,
    ],
  ] as const) {
    const { status: found } = await send(patient, text)
    t.equal(found, status, what)
    t.strictSame(gateway.upstream.received, [], `${what}: upstream sees nothing`)
  }
})

t.test('upstream’s answer to a transaction is believed only when it fits', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'system/*.cruds', sub: 'app-1' })
  for (const [what, answer] of [
    ['fewer entries', '{"resourceType":"Bundle","type":"transaction-response","entry":[]}'],
    [
      'another Bundle',
      '{"resourceType":"Bundle","type":"searchset","entry":[{"response":{"status":"201"}}]}',
    ],
    [
      'a failure among them',
      '{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"422 CANARY"}}]}',
    ],
    ['no JSON', '{"resourceType":"Bundle"'],
  ] as const) {
    gateway.upstream.answerWith(json(answer))
    const found = await fetch(gateway.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
      body: bundleOf('transaction', [own]),
    })
    t.equal(found.status, 502, what)
    t.notMatch(await found.text(), /CANARY/)
  }
})

const URN = 'urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0'

t.test('a fullUrl that is somebody already: links to it lead there (REST-6, REST-7)', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const send = async (claims: Record<string, unknown>, text: string) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${await gateway.token(claims)}`,
        'content-type': 'application/fhir+json',
      },
      body: text,
    })
    await answer.text()
    const sent = gateway.upstream.received.find(({ method }) => method === 'POST')
    return { status: answer.status, sent: sent?.body.toString() ?? '' }
  }
  const backend = { scope: 'system/*.cruds', sub: 'app-1' }
  const referring = `{"resourceType":"Observation","status":"final","code":{"text":"a"},"text":{"status":"generated","div":"<div><a href=\\"${URN}a\\">${URN}a</a><img src='${URN}ab'/><\\/div>"},"identifier":[{"value":"${URN}a"}],"extension":[{"url":"http://a.example","valueUri":"${URN}a"},{"url":"http://b.example","valueReference":{"reference":"${URN}a"}},{"url":"http://c.example","valueCanonical":"${URN}a"}],"contained":[{"resourceType":"Media","content":{"url":"${URN}a"}}],"subject":{"reference":"Patient/p1"},"performer":[{"reference":"\\u0075${URN.slice(1)}a"},{"reference":"${URN}c"}],"valueQuantity":{"value":1.10}}`
  const practitioner = { resourceType: 'Practitioner' }
  const bundle = bundleOf('transaction', [
    { ...own, fullUrl: `${URN}b`, resource: { hole: 1 } },
    {
      ...{ method: 'POST', url: 'Practitioner' },
      ifNoneExist: 'name=a',
      fullUrl: `${URN}a`,
      resource: practitioner,
    },
    {
      ...{ method: 'POST', url: 'Device' },
      ifNoneExist: 'model=a',
      fullUrl: `${URN}c`,
      resource: { resourceType: 'Device' },
    },
  ]).replace('{"hole":1}', referring)
  const { status, sent } = await send(backend, bundle)
  t.equal(status, 200)
  t.ok(
    sent.includes(
      referring
        .replace(`href=\\"${URN}a`, 'href=\\"Practitioner/d1')
        .replace(`"valueUri":"${URN}a"`, '"valueUri":"Practitioner/d1"')
        .replace(`"url":"${URN}a"`, '"url":"Practitioner/d1"')
        .replace(
          `"valueReference":{"reference":"${URN}a"}`,
          '"valueReference":{"reference":"Practitioner/d1"}',
        )
        .replace(`"\\u0075${URN.slice(1)}a"`, '"Practitioner/d1"'),
    ),
    'every link to it and nothing else, byte for byte',
  )
  t.match(JSON.parse(sent), {
    entry: [
      { fullUrl: `${URN}b` },
      { fullUrl: undefined, request: { method: 'GET', url: 'Practitioner/d1' } },
      { fullUrl: `${URN}c`, request: { method: 'POST', url: 'Device' } },
    ],
  })

  const patient = { scope: 'patient/*.cruds', patient: 'p1' }
  const about = (entry: Entry) =>
    bundleOf('transaction', [
      { ...own, resource: { ...observation('p1'), subject: { reference: `${URN}a` } } },
      { ...entry, fullUrl: `${URN}a` },
    ])
  const name = [{ text: 'a' }]
  const p1 = { resourceType: 'Patient', id: 'p1', name }
  const put = await send(patient, about({ method: 'PUT', url: 'Patient/p1', resource: p1 }))
  t.equal(put.status, 200, 'it is judged as what it leads to')
  t.match(put.sent, '"subject":{"reference":"Patient/p1"}')
  const wide = {
    scope: 'patient/Observation.cruds user/Patient.cruds system/Practitioner.rs',
    patient: 'p1',
  }
  t.equal(
    (await send(wide, about({ method: 'PUT', url: 'Patient/p2', resource: { ...p1, id: 'p2' } })))
      .status,
    403,
  )
  const twice = bundleOf('transaction', [
    { ...own, fullUrl: `${URN}a` },
    { method: 'PUT', url: 'Patient/p1', resource: p1, fullUrl: `${URN}a` },
  ])
  t.equal((await send(patient, twice)).status, 400, 'a fullUrl twice')
})

t.test('one resource is written once in a transaction, by whatever way it is named', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'system/*.cruds', sub: 'app-1' })
  const d1 = { resourceType: 'Practitioner', id: 'd1', active: true }
  const put: Entry = { method: 'PUT', url: 'Practitioner/d1', resource: d1 }
  const value = { name: 'type', valueCode: 'delete' }
  const part = [value, { name: 'path', valueString: 'Practitioner.active' }]
  const patch = { resourceType: 'Parameters', parameter: [{ name: 'operation', part }] }
  for (const [what, entries] of [
    ['PUT and PATCH', [put, { method: 'PATCH', url: 'Practitioner/d1', resource: patch }]],
    ['PUT twice', [put, put]],
    ['by criteria', [put, { ...put, url: 'Practitioner?name=a' }]],
    ['PUT and DELETE', [{ method: 'DELETE', url: 'Practitioner?name=a' }, put]],
    [
      'what is not there yet',
      ['a', 'a'].map((id) => ({ ...put, url: `Practitioner/${id}`, resource: { ...d1, id } })),
    ],
  ] as [string, Entry[]][]) {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
      body: bundleOf('transaction', entries),
    })
    t.equal(answer.status, 400, what)
    t.match(await answer.text(), /"code":"body-malformed"/, what)
    t.notOk(
      gateway.upstream.received.some(({ method }) => method !== 'GET'),
      what,
    )
  }
})

t.test(
  'a Bundle of answers says the highest label of what it shows, and no other (LABEL-3)',
  async (t) => {
    const coding = (code: string, system = 'v3-Confidentiality') => ({
      system: `http://terminology.hl7.org/CodeSystem/${system}`,
      code,
    })
    const held: Record<string, object> = Object.fromEntries(
      (
        [
          ['n', [coding('N')]],
          ['r', [coding('R'), coding('NODSCLCD', 'v3-ActCode'), coding('HIV', 'v3-ActCode')]],
          ['v', [coding('V')]],
        ] as const
      ).map(([id, security]) => [
        `/base/Observation/${id}`,
        { ...observation('p1'), id, meta: { versionId: '1', security } },
      ]),
    )
    const resources = (ids: string): object[] =>
      ids.split('').map((id) => held[`/base/Observation/${id}`] ?? {})
    const gateway = await startGateway({
      handler: (request, response, raw) => {
        const [path = '', query = ''] = request.target.split('?')
        const wanted = /code=(\w+)/.exec(query)?.[1] ?? ''
        const entry = resources(wanted).map((resource) => ({ resource }))
        const found = held[path]
        const said =
          request.method === 'POST'
            ? {
                resourceType: 'Bundle',
                type: 'transaction-response',
                entry: (
                  JSON.parse(request.body.toString()) as { entry: { request: Entry }[] }
                ).entry.map(({ request: { url } }) => ({
                  resource: held[`/base/${url}`] ?? held['/base/Observation/n'],
                  response: { status: '200 OK' },
                })),
              }
            : path === '/base/Observation'
              ? { resourceType: 'Bundle', type: 'searchset', entry }
              : (found ?? {})
        const status =
          request.method === 'GET' && path !== '/base/Observation' && !found ? 404 : 200
        json(JSON.stringify(said), status)(request, response, raw)
      },
    })
    t.teardown(() => gateway.close())
    const clinician = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' }
    const cleared = { ...clinician, roles: ['restricted-records'], purpose_of_use: 'TREAT' }
    const read = (id: string): Entry => ({ method: 'GET', url: `Observation/${id}` })
    const search = (ids: string): Entry => ({ method: 'GET', url: `Observation?code=${ids}` })
    const [n, r, v] = ['n', 'r', 'v'].map(read) as [Entry, Entry, Entry]
    const head: Entry = { ...r, method: 'HEAD' }
    // prettier-ignore
    const rows: [what: string, claims: object, type: string, entries: Entry[], mark: string | undefined][] = [
    ['nothing above N',               cleared,   'batch',       [n, search('nn')],     undefined],
    ['one R',                         cleared,   'batch',       [n, r, n],             'R'],
    ['one R that was searched for',   cleared,   'batch',       [n, search('nr')],     'R'],
    ['what is withheld says nothing', cleared,   'batch',       [n, v],                undefined],
    ['nor does it in a search',       cleared,   'batch',       [n, search('nv')],     undefined],
    ['R is withheld from others',     clinician, 'batch',       [n, r, search('rn')],  undefined],
    ['a body that is not sent',       cleared,   'batch',       [n, head],             undefined],
    ['nothing at all',                cleared,   'batch',       [],                    undefined],
    ['none above N',                  cleared,   'transaction', [n, n],                undefined],
    ['one R',                         cleared,   'transaction', [n, r],                'R'],
  ]
    for (const [what, claims, type, entries, mark] of rows) {
      const answer = await fetch(gateway.url, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${await gateway.token({ ...claims })}`,
          'content-type': 'application/fhir+json',
        },
        body: bundleOf(type, entries),
      })
      const text = await answer.text()
      t.equal(answer.status, 200, `${type}: ${what} ${text}`)
      const { meta, entry = [] } = JSON.parse(text) as { meta?: object; entry?: object[] }
      t.equal(entry.length, entries.length)
      const expected = mark === undefined ? undefined : { security: [coding(mark)] }
      t.strictSame(meta, expected, `${type}: ${what}`)
    }
  },
)

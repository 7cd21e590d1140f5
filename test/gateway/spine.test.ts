import t from 'tap'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// The whole spine over real sockets: a real issuer, a recording upstream, the shipped policies.
const OBSERVATION =
  '{ "resourceType" : "Observation","id":"o1","status":"final","code":{"text":"K\\u00f6rper"},\n "subject":{"reference":"Patient/p1"},"valueQuantity":{"value":1.10,"unit":"mg/dL"},"unknownElement":[1e-7,0.0000001000] }'

const bundle = (...resources: string[]): string =>
  `{"resourceType":"Bundle","type":"searchset","total":${resources.length},"link":[{"relation":"self","url":"http://up/base/Observation?subject=x"},{"relation":"next","url":"http://up/base?_getpages=1"}],"entry":[${resources.map((resource) => `{"fullUrl":"urn:x","resource":${resource},"search":{"mode":"match"}}`).join(',')}]}`

t.test('what is not altered is byte for byte what upstream sent (INPUT-2)', async (t) => {
  const gateway = await startGateway({ handler: json(OBSERVATION, 200, { etag: 'W/"7"' }) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/Observation.r', patient: 'p1' })
  const answer = await fetch(`${gateway.url}/Observation/o1`, {
    headers: { authorization: `Bearer ${token}`, 'x-request-id': 'my-request-1' },
  })
  t.equal(answer.status, 200)
  t.equal(await answer.text(), OBSERVATION)
  t.match(answer.headers.get('content-type'), /^application\/fhir\+json/)
  t.equal(answer.headers.get('etag'), 'W/"7"')
  t.equal(answer.headers.get('x-request-id'), 'my-request-1', 'the request id comes back (HTTP-6)')
  t.equal(gateway.upstream.received[0]?.target, '/base/Observation/o1')
  const [record] = await gateway.audit()
  t.match(record, { resourceType: 'AuditEvent', action: 'R', outcome: '0' }, 'recorded (AUD-2)')
  t.match(JSON.stringify(record), '"Patient/p1"', 'for its patient')
})

t.test(
  'a search is narrowed, judged again, and its counts tell nothing (rows 8, 10, 25)',
  async (t) => {
    const other = OBSERVATION.replace('Patient/p1', 'Patient/p12').replace('"o1"', '"o2"')
    const gateway = await startGateway({ handler: json(bundle(OBSERVATION, other)) })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    const answer = await fetch(`${gateway.url}/Observation?code=1234-5`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const body = await answer.text()
    t.equal(answer.status, 200)
    t.match(
      gateway.upstream.received[0]?.target,
      /^\/base\/Observation\?code=1234-5&(patient|subject)=/,
    )
    t.ok(body.includes(OBSERVATION), 'the own one, byte for byte')
    t.notMatch(body, 'p12', 'not the other one')
    t.notMatch(body, '"total"', 'no total')
    t.notMatch(body, '_getpages', 'no raw paging link')
    t.notMatch(body, 'http://up', 'no upstream address')
    t.match(
      body,
      `"url":"${PUBLIC_URL}/Observation?code=1234-5"`,
      'the self link is the question asked',
    )
    const parsed = JSON.parse(body) as { entry: unknown[] }
    t.equal(parsed.entry.length, 1)
  },
)

t.test('another patient and a missing one look alike (C1, ERR-4)', async (t) => {
  const gateway = await startGateway({
    handler: (request, response, raw) =>
      request.target.endsWith('/o1')
        ? json(OBSERVATION)(request, response, raw)
        : json('{"resourceType":"OperationOutcome"}', 404)(request, response, raw),
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p2' })
  const ask = async (id: string): Promise<string> => {
    const answer = await fetch(`${gateway.url}/Observation/${id}`, {
      headers: { authorization: `Bearer ${token}`, 'x-request-id': 'same-request-id' },
    })
    const headers = [...answer.headers].filter(([name]) => name !== 'date')
    return JSON.stringify([answer.status, headers, await answer.text()])
  }
  t.equal(await ask('o1'), await ask('nothing'), 'byte for byte')
})

t.test(
  'metadata and smart-configuration are public and say nothing of upstream (DISC-1, DISC-4)',
  async (t) => {
    const gateway = await startGateway()
    t.teardown(() => gateway.close())
    const metadata = await fetch(`${gateway.url}/metadata`)
    t.equal(metadata.status, 200)
    const text = await metadata.text()
    t.match(JSON.parse(text), { resourceType: 'CapabilityStatement', fhirVersion: '4.0.1' })
    t.notMatch(text, 'SECRET-UPSTREAM')
    const smart = await fetch(`${gateway.url}/.well-known/smart-configuration`, {
      headers: { accept: 'text/html' },
    })
    t.equal(smart.status, 200)
    t.match(smart.headers.get('content-type'), /^application\/json/)
    t.equal((await fetch(`${gateway.adminUrl}/livez`)).status, 200)
    t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 200)
  },
)

t.test(
  'writes are judged before and forwarded byte for byte (row 7, REST-20, MASK-10)',
  async (t) => {
    const current =
      '{"resourceType":"Observation","id":"o1","meta":{"versionId":"4"},"status":"final","code":{"text":"a"},"subject":{"reference":"Patient/p1"},"valueQuantity":{"value":1.10}}'
    const changed = current.replace('1.10', '1.20')
    const gateway = await startGateway({
      handler: (request, response, raw) =>
        json(request.method === 'GET' ? current : request.body, 200, { etag: 'W/"5"' })(
          request,
          response,
          raw,
        ),
    })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/Observation.cruds', patient: 'p1' })
    const put = async (body: string): Promise<Response> =>
      fetch(`${gateway.url}/Observation/o1`, {
        method: 'PUT',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
        body,
      })
    const writes = () => gateway.upstream.received.filter(({ method }) => method !== 'GET')

    t.equal(
      (await put(changed.replace('Patient/p1', 'Patient/p2'))).status,
      403,
      'not away to another patient',
    )
    t.equal((await put(changed.replace('"o1"', '"o2"'))).status, 400, 'not under another id')
    t.equal((await put(`${changed}x`)).status, 400, 'not malformed')
    t.strictSame(writes(), [], 'upstream saw no write')

    const answer = await put(changed)
    const text = await answer.text()
    if (answer.status === 200) {
      t.equal(text, changed)
      t.equal(writes()[0]?.body.toString(), changed)
      t.equal(writes()[0]?.headers['if-match'], 'W/"4"', 'in the version that was judged')
    } else t.fail(text)
  },
)

t.test(
  'a large answer is streamed resource by resource, and recorded with its last byte',
  async (t) => {
    const many = Array.from({ length: 4000 }, (_, i) =>
      OBSERVATION.replace('"o1"', `"o${i}"`).replace(
        'Patient/p1',
        i % 4 === 0 ? 'Patient/p9' : 'Patient/p1',
      ),
    )
    const gateway = await startGateway({ handler: json(bundle(...many)) })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    const answer = await fetch(`${gateway.url}/Observation`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const body = await answer.text()
    t.equal((JSON.parse(body) as { entry: unknown[] }).entry.length, 3000)
    t.notMatch(body, 'Patient/p9')
    for (let i = 0; i < 50 && (await gateway.audit()).length === 0; i++)
      await new Promise((r) => setTimeout(r, 10))
    t.equal((await gateway.audit()).length, 1)
  },
)

t.test(
  'a stop lets exchanges under way end, and ends in time whatever clients do (fastify#7044)',
  async (t) => {
    const gateway = await startGateway({
      handler: (request, response, raw) =>
        void setTimeout(() => json(OBSERVATION)(request, response, raw), 300),
    })
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    const idle = gateway.raw('GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n\r\n').catch(() => '')
    const pending = fetch(`${gateway.url}/Observation/o1`, {
      headers: { authorization: `Bearer ${token}` },
    })
    while (gateway.upstream.received.length === 0) await new Promise((r) => setTimeout(r, 5))
    const closed = gateway.close()
    t.equal((await pending).status, 200, 'the one under way is answered')
    await closed
    await idle
    t.pass('and the gateway ended although a client kept its connection')
  },
)

t.test('the gauges tell how the gateway is', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const text = await gateway.metrics()
  for (const line of [
    'fhirewall_ready 1',
    'fhirewall_exchanges_under_way 0',
    `fhirewall_issuer_keys_refreshes_total{issuer="${gateway.issuer.url}",result="refreshed"} 1`,
    `fhirewall_issuer_ready{issuer="${gateway.issuer.url}"} 1`,
    `fhirewall_issuer_unknown_keys_total{issuer="${gateway.issuer.url}"} 0`,
  ])
    t.ok(text.split('\n').includes(line), line)
  t.match(text, /fhirewall_build_info\{version="\d+\.\d+\.\d+"\} 1/)
})

t.test('where existence is no secret, what is hidden may say so (C1)', async (t) => {
  const hidden = '{"resourceType":"Patient","id":"p2","meta":{"versionId":"1"},"name":"CANARY"}'
  const gateway = await startGateway({
    handler: (request, response, raw) =>
      json(hidden, request.target.endsWith('p2') ? 200 : 404)(request, response, raw),
    config: { access: { hidden: 'forbidden' } },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  for (const [method, target, status] of [
    ['GET', '/Patient/p2', 403],
    ['DELETE', '/Patient/p2', 403],
    ['GET', '/Patient/p3', 404],
    ['DELETE', '/Patient/p3', 404],
  ] as const) {
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization: `Bearer ${token}` },
    })
    t.equal(answer.status, status, `${method} ${target}`)
    t.notMatch(await answer.text(), /CANARY/)
  }
})

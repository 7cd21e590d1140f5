import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// What a hostile client writes (pitfalls §1 rows 7, 11–15, 23, 28, 35, 39): upstream sees nothing of it.
const OWN =
  '{"resourceType":"Observation","id":"o1","meta":{"versionId":"3"},"subject":{"reference":"Patient/p1"}}'
const upstream: Handler = (request, response, raw) => {
  const isRead = request.method === 'GET'
  const found = request.target.endsWith('/o1') ? OWN : OWN.replace('p1', 'p2').replace('o1', 'o2')
  const status = request.method === 'POST' ? 201 : 200
  return json(isRead ? found : request.body, status, {
    location: 'Observation/o1/_history/4',
    etag: 'W/"4"',
  })(request, response, raw)
}
const FHIR = 'application/fhir+json'
const subject = (patient: string): string => `"subject":{"reference":"Patient/${patient}"}`

type Row = [
  what: string,
  method: string,
  target: string,
  body: string | Buffer,
  headers: Record<string, string>,
  verdict: string,
]
// prettier-ignore
const REFUSED: Row[] = [
  ['a type twice', 'POST', '/Observation', `{"resourceType":"Observation","resourceType":"Patient",${subject('p1')}}`, {}, '400 body-malformed'],
  ['a subject twice', 'POST', '/Observation', `{"resourceType":"Observation",${subject('p1')},${subject('p2')}}`, {}, '400 body-malformed'],
  ['a subject twice, once escaped', 'POST', '/Observation', `{"resourceType":"Observation",${subject('p1')},"\\u0073ubject":{"reference":"Patient/p2"}}`, {}, '400 body-malformed'],
  ['a reference twice', 'POST', '/Observation', '{"resourceType":"Observation","subject":{"reference":"Patient/p1","reference":"Patient/p2"}}', {}, '400 body-malformed'],
  ['an escaped subject of another', 'POST', '/Observation', '{"resourceType":"Observation","\\u0073ubject":{"\\u0072eference":"Patient\\/p2"}}', {}, '403 compartment-denied'],
  ['another patient', 'POST', '/Observation', `{"resourceType":"Observation",${subject('p2')}}`, {}, '403 compartment-denied'],
  ['a longer id (row 6)', 'POST', '/Observation', `{"resourceType":"Observation",${subject('p12')}}`, {}, '403 compartment-denied'],
  ['another server’s patient', 'POST', '/Observation', `{"resourceType":"Observation","subject":{"reference":"https://evil.example/fhir/Patient/p1"}}`, {}, '403 compartment-denied'],
  ['self as performer only (row 11)', 'POST', '/Observation', '{"resourceType":"Observation","subject":{"reference":"Patient/p2"},"performer":[{"reference":"Patient/p1"}]}', {}, '403 compartment-denied'],
  ['self as focus only (row 10)', 'POST', '/Observation', '{"resourceType":"Observation","focus":[{"reference":"Patient/p1"}]}', {}, '403 compartment-denied'],
  ['nobody', 'POST', '/Observation', '{"resourceType":"Observation"}', {}, '403 compartment-denied'],
  ['by identifier', 'POST', '/Observation', '{"resourceType":"Observation","subject":{"identifier":{"value":"p1"}}}', {}, '403 compartment-denied'],
  ['by contained', 'POST', '/Observation', '{"resourceType":"Observation","subject":{"reference":"#a"},"contained":[{"resourceType":"Patient","id":"a"}]}', {}, '403 compartment-denied'],
  ['another type than the address', 'POST', '/Observation', `{"resourceType":"Condition",${subject('p1')}}`, {}, '400 body-mismatch'],
  ['another id than the address', 'PUT', '/Observation/o1', `{"resourceType":"Observation","id":"o9",${subject('p1')}}`, {}, '400 body-mismatch'],
  ['given away (row 13)', 'PUT', '/Observation/o1', `{"resourceType":"Observation","id":"o1",${subject('p2')}}`, {}, '403 compartment-denied'],
  ['taken over (row 13)', 'PUT', '/Observation/o2', `{"resourceType":"Observation","id":"o2",${subject('p1')}}`, {}, '404 not-found'],
  ['another’s deleted', 'DELETE', '/Observation/o2', '', {}, '404 not-found'],
  ['all of a type deleted', 'DELETE', '/Observation', '', {}, '405 method-not-allowed'],
  ['history deleted', 'DELETE', '/Observation/o1/_history', '', {}, '403 interaction-refused'],
  ['no JSON', 'POST', '/Observation', '{"resourceType":"Observation"', {}, '400 body-malformed'],
  ['JSON and more', 'POST', '/Observation', `{"resourceType":"Observation",${subject('p1')}}{}`, {}, '400 body-malformed'],
  ['a byte order mark', 'POST', '/Observation', `\ufeff{"resourceType":"Observation",${subject('p1')}}`, {}, '400 body-malformed'],
  ['no UTF-8', 'POST', '/Observation', Buffer.concat([Buffer.from('{"resourceType":"Observation","x":"'), Buffer.of(0xff), Buffer.from('"}')]), {}, '400 body-malformed'],
  ['too deep', 'POST', '/Observation', `{"resourceType":"Observation","extension":${'['.repeat(100)}${']'.repeat(100)}}`, {}, '400 body-malformed'],
  ['an array', 'POST', '/Observation', '[]', {}, '400 body-mismatch'],
  ['nothing', 'POST', '/Observation', '', {}, '400 body-malformed'],
  ['a form', 'POST', '/Observation', 'resourceType=Observation', { 'content-type': 'application/x-www-form-urlencoded' }, '415 media-type-unsupported'],
  ['compressed', 'POST', '/Observation', OWN, { 'content-encoding': 'gzip' }, '415 media-type-unsupported'],
  ['UTF-16', 'POST', '/Observation', OWN, { 'content-type': `${FHIR}; charset=utf-16` }, '415 media-type-unsupported'],
  ['XML', 'POST', '/Observation', '<Observation/>', { 'content-type': 'application/fhir+xml' }, '415 media-type-unsupported'],
  ['X-Provenance that is none', 'POST', '/Observation', OWN, { 'x-provenance': '{}' }, '403 policy-denied'],
  ['X-Provenance that is no JSON', 'POST', '/Observation', OWN, { 'x-provenance': '{' }, '403 policy-denied'],
  ['X-Provenance of another type', 'POST', '/Observation', OWN, { 'x-provenance': '{"resourceType":"AuditEvent"}' }, '403 policy-denied'],
  ['X-Provenance about another', 'POST', '/Observation', OWN, { 'x-provenance': '{"resourceType":"Provenance","target":[{"reference":"Patient/p2"}]}' }, '403 policy-denied'],
  ['X-Provenance with a type twice', 'POST', '/Observation', OWN, { 'x-provenance': '{"resourceType":"Provenance","resourceType":"Patient"}' }, '403 policy-denied'],
  ['X-Provenance on a patch', 'PATCH', '/Observation/o1', '[]', { 'x-provenance': '{"resourceType":"Provenance"}', 'content-type': 'application/json-patch+json' }, '403 interaction-refused'],
  ['X-Provenance on a delete', 'DELETE', '/Observation/o1', '', { 'x-provenance': '{"resourceType":"Provenance"}' }, '403 interaction-refused'],
  ['X-Provenance on a Provenance', 'POST', '/Provenance', '{"resourceType":"Provenance","target":[{"reference":"Patient/p1"}]}', { 'x-provenance': '{"resourceType":"Provenance"}' }, '403 interaction-refused'],
  ['respond-async', 'POST', '/Observation', OWN, { prefer: 'respond-async' }, '403 interaction-refused'],
  ['If-None-Exist on update', 'PUT', '/Observation/o1', OWN, { 'if-none-exist': 'code=a' }, '400 header-malformed'],
  ['If-Match of before', 'PUT', '/Observation/o1', OWN, { 'if-match': 'W/"2"' }, '412 precondition-failed'],
  ['marks of ours (row 23)', 'PUT', '/Observation/o1', OWN.replace('"subject"', '"_status":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]},"subject"'), {}, '422 body-rule-broken'],
  ['_format of another kind', 'POST', '/Observation?_format=xml', OWN, {}, '406 not-acceptable'],
  ['_format twice', 'POST', '/Observation?_format=json&_format=html/json', OWN, {}, '400 parameter-malformed'],
  ['_format as a list', 'POST', '/Observation?_format=json,xml', OWN, {}, '406 not-acceptable'],
  ['_format after encoding', 'PUT', '/Observation/o1?%5fformat=ttl', OWN, {}, '406 not-acceptable'],
  ['an Accept of HTML', 'POST', '/Observation', OWN, { accept: 'text/html' }, '406 not-acceptable'],
  ['_method in the query (row 28)', 'POST', '/Observation?_method=DELETE', OWN, {}, '400 parameter-unknown'],
  ['criteria on a create', 'POST', '/Observation?subject=Patient/p1', OWN, {}, '400 parameter-unknown'],
  ['If-None-Exist with a cursor', 'POST', '/Observation', OWN, { 'if-none-exist': '_getpages=a' }, '400 parameter-unknown'],
  ['If-None-Exist with an address', 'POST', '/Observation', OWN, { 'if-none-exist': 'https://evil.example/Observation?code=a' }, '400 header-malformed'],
  ['If-None-Exist of nothing', 'POST', '/Observation', OWN, { 'if-none-exist': '' }, '400 header-malformed'],
  ['a charset behind a charset', 'POST', '/Observation', Buffer.from(OWN, 'utf16le'), { 'content-type': `${FHIR}; charset=utf-8; charset=utf-16` }, '400 body-malformed'],
  ['UTF-16 said to be UTF-8', 'POST', '/Observation', Buffer.from(OWN, 'utf16le'), { 'content-type': `${FHIR}; charset=utf-8` }, '400 body-malformed'],
  ['a multipart form', 'POST', '/Observation', OWN, { 'content-type': 'multipart/form-data; boundary=a' }, '415 media-type-unsupported'],
  ['a patch on a create', 'POST', '/Observation', '[]', { 'content-type': 'application/json-patch+json' }, '415 media-type-unsupported'],
  ['a contained Patient as the subject’s twin', 'POST', '/Observation', '{"resourceType":"Observation","contained":[{"resourceType":"Patient","id":"p1"}],"subject":{"reference":"#p1"}}', {}, '403 compartment-denied'],
  ['a subject in a contained resource only', 'POST', '/Observation', `{"resourceType":"Observation","contained":[{"resourceType":"Observation","id":"a",${subject('p1')}}]}`, {}, '403 compartment-denied'],
  ['a subject of a prototype', 'POST', '/Observation', `{"resourceType":"Observation","__proto__":{${subject('p1')}}}`, {}, '403 compartment-denied'],
  ['another’s version as subject', 'POST', '/Observation', `{"resourceType":"Observation","subject":{"reference":"Patient/p2/_history/1"}}`, {}, '403 compartment-denied'],
  ['a subject twice, own and in a list', 'POST', '/Observation', `{"resourceType":"Observation","subject":[{"reference":"Patient/p1"},{"reference":"Patient/p2"}]}`, {}, '403 compartment-denied'],
  ['a Subscription (row 39)', 'POST', '/Subscription', '{"resourceType":"Subscription"}', {}, '403 policy-denied'],
  ['an AuditEvent', 'POST', '/AuditEvent', '{"resourceType":"AuditEvent"}', {}, '403 policy-denied'],
  ['a Binary', 'POST', '/Binary', '{"resourceType":"Binary"}', {}, '403 policy-denied'],
  ['a StructureDefinition', 'POST', '/StructureDefinition', '{"resourceType":"StructureDefinition"}', {}, '403 policy-denied'],
]

t.test('nothing of it is written', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  for (const [what, method, target, body, headers, verdict] of REFUSED) {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': FHIR, ...headers },
      ...(body.length === 0 ? {} : { body }),
    })
    const text = await answer.text()
    const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(text)?.[1] ?? ''
    t.equal(`${answer.status} ${reason}`, verdict, what)
    const writes = gateway.upstream.received.filter((request) => request.method !== 'GET')
    t.strictSame(writes, [], `${what}: upstream sees no write`)
    t.notMatch(text, /internal\.host/, what)
  }
  t.ok((await gateway.audit()).length >= REFUSED.length, 'each is recorded')
})

t.test('what is allowed goes up byte for byte, once, as it was judged', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const odd = `{ "resourceType" : "Observation",\n "id":"o1",  ${subject('p1')} , "valueQuantity":{"value":1.10e+01}, "x_\\u0061":"\\/" }`
  for (const [method, target, body] of [
    ['POST', '/Observation', odd],
    ['PUT', '/Observation/o1', odd],
  ] as const) {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': FHIR,
        'x-http-method-override': 'DELETE',
        'x-http-method': 'DELETE',
        'x-method-override': 'DELETE',
        prefer: 'return=representation',
      },
      body,
    })
    const text = await answer.text()
    const writes = gateway.upstream.received.filter((request) => request.method !== 'GET')
    t.strictSame(
      writes.map((request) => `${request.method} ${request.target}`),
      [`${method} /base${target}`],
    )
    t.equal(writes[0]?.body.toString(), body)
    t.notOk(
      Object.keys(writes[0]!.headers).some((name) => name.includes('method')),
      'row 28',
    )
    t.equal(writes[0]?.headers['if-match'], method === 'PUT' ? 'W/"3"' : undefined)
    t.equal(text, body, 'and its echo comes back byte for byte')
    t.equal(answer.headers.get('location'), 'http://127.0.0.1:9/fhir/Observation/o1/_history/4')
  }
})

t.test('who may write but not read sees no echo (SCOPE-4, row 7)', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/Observation.c', patient: 'p1' })
  const answer = await fetch(`${gateway.url}/Observation`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': FHIR,
      prefer: 'return=representation',
    },
    body: OWN,
  })
  t.equal(answer.status, 201)
  t.equal(await answer.text(), '')
})

t.test('what upstream makes of a write is judged like any answer (rows 7, 14)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const other = OWN.replace('p1', 'p2').replace('}', '},"valueString":"CANARY"')
  const bundle = `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${other}}]}`
  for (const [what, status, body] of [
    ['another’s resource', 201, other],
    ['another’s resource, found', 200, other],
    ['a Bundle of another’s', 201, bundle],
    [
      'an outcome with words',
      201,
      '{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception","diagnostics":"CANARY"}]}',
    ],
    ['another’s resource as a conflict', 409, other],
    ['another’s resource as a refusal', 422, other],
    ['no JSON', 201, 'CANARY'],
  ] as const) {
    gateway.upstream.answerWith(
      json(body, status, { location: 'http://internal.host/CANARY/_history/1' }),
    )
    for (const prefer of ['return=representation', 'return=OperationOutcome', 'return=minimal']) {
      const answer = await fetch(`${gateway.url}/Observation`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': FHIR, prefer },
        body: OWN,
      })
      const text = await answer.text()
      t.notMatch(
        text + JSON.stringify([...answer.headers]),
        /CANARY|internal\.host|"Patient\/p2"/,
        `${what}, ${prefer}: ${answer.status}`,
      )
    }
  }
})

t.test('what is not there is not changed, and what is new replaces nothing (REST-6)', async (t) => {
  const gateway = await startGateway({
    handler: (request, ...to) =>
      request.target.includes('?')
        ? json('{"resourceType":"Bundle","type":"searchset"}')(request, ...to)
        : request.method === 'GET'
          ? json('{}', 404)(request, ...to)
          : json('{"resourceType":"OperationOutcome"}', 412)(request, ...to),
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'system/*.cruds', sub: 'app-1' })
  const resource = { resourceType: 'Observation', id: 'o9', subject: { reference: 'Patient/p1' } }
  const transaction = (request: object) => ({
    ...{ resourceType: 'Bundle', type: 'transaction' },
    entry: [{ resource, request: { method: 'PUT', ...request } }],
  })
  const send = async (method: string, target: string, body: object, headers = {}) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': FHIR, ...headers },
      body: JSON.stringify(body),
    })
    const [sent] = gateway.upstream.received.filter((request) => request.method !== 'GET')
    return { status: answer.status, sent }
  }
  const version = 'W/"3"'
  const criteria = 'Observation?code=a'
  for (const [method, target, body, headers] of [
    ['PUT', `/${criteria}`, resource, { 'if-match': version }],
    ['POST', '', transaction({ url: criteria, ifMatch: version }), {}],
  ] as const) {
    t.match(await send(method, target, body, headers), { status: 412, sent: undefined })
  }

  const put = await send('PUT', '/Observation/o9', resource)
  t.equal(put.status, 412, 'another came first')
  t.equal(put.sent?.headers['if-none-match'], '*')
  const whole = await send('POST', '', transaction({ url: 'Observation/o9' }))
  t.match(JSON.parse(whole.sent?.body.toString() ?? '{}'), {
    entry: [{ request: { method: 'PUT', url: 'Observation/o9', ifNoneMatch: '*' } }],
  })
})

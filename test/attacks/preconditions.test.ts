import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// RFC 9110 §13: "An origin server MUST NOT perform the requested method if the condition evaluates to
// false". Who says "only if it is not there", or "not changed since", loses nothing by a write (REST-16).
const FHIR = 'application/fhir+json'
const LAST = '2026-01-01T10:00:00.900Z'
const [AT, BEFORE, AFTER] = [0, -1000, 1000].map((by) =>
  new Date(Date.parse('2026-01-01T10:00:00Z') + by).toUTCString(),
) as [string, string, string]
const HELD = {
  ...{ resourceType: 'Observation', id: 'o1', meta: { versionId: '3', lastUpdated: LAST } },
  ...{ status: 'final', code: { text: 'x' }, subject: { reference: 'Patient/p1' } },
}
const upstream: Handler = (request, response, raw) => {
  const isHeld = request.target.endsWith('/o1')
  if (request.method !== 'GET') json(request.body, 200)(request, response, raw)
  else if (request.target.includes('?')) {
    json('{"resourceType":"Bundle","type":"searchset"}')(request, response, raw)
  } else json(isHeld ? JSON.stringify(HELD) : '{}', isHeld ? 200 : 404)(request, response, raw)
}

type Row = [method: string, target: string, headers: Record<string, string>, verdict: string]
// prettier-ignore
const ROWS: Row[] = [
  ['PUT', '/Observation/o1', { 'if-none-match': '*' }, '412 precondition-failed'],
  ['PATCH', '/Observation/o1', { 'if-none-match': '*' }, '412 precondition-failed'],
  ['DELETE', '/Observation/o1', { 'if-none-match': '*' }, '412 precondition-failed'],
  ['PUT', '/Observation/o1', { 'if-none-match': 'W/"3"' }, '412 precondition-failed'],
  ['PUT', '/Observation/o1', { 'if-none-match': '"1", "3"' }, '412 precondition-failed'],
  ['PUT', '/Observation/o1', { 'if-none-match': '"3"', 'if-match': 'W/"3"' }, '412 precondition-failed'],
  ['PUT', '/Observation/o1', { 'if-none-match': 'W/"2"' }, '200 '],
  ['PUT', '/Observation/o1', { 'if-none-match': '3' }, '400 header-malformed'],
  ['PUT', '/Observation/o1', { 'if-unmodified-since': BEFORE }, '412 precondition-failed'],
  ['DELETE', '/Observation/o1', { 'if-unmodified-since': BEFORE }, '412 precondition-failed'],
  ['PATCH', '/Observation/o1', { 'if-unmodified-since': BEFORE }, '412 precondition-failed'],
  ['PUT', '/Observation/o1', { 'if-unmodified-since': AT }, '200 '],
  ['DELETE', '/Observation/o1', { 'if-unmodified-since': AFTER }, '200 '],
  ['PUT', '/Observation/o1', { 'if-unmodified-since': 'yesterday' }, '400 header-malformed'],
  // "MUST ignore If-Unmodified-Since if the request contains an If-Match header field"
  ['PUT', '/Observation/o1', { 'if-unmodified-since': BEFORE, 'if-match': 'W/"3"' }, '200 '],
  ['PUT', '/Observation/o9', { 'if-none-match': '*' }, '200 '],
  ['PUT', '/Observation/o9', { 'if-unmodified-since': AFTER }, '412 precondition-failed'],
  ['PUT', '/Observation?code=a', {}, '200 '],
  ['PUT', '/Observation?code=a', { 'if-match': 'W/"3"' }, '412 precondition-failed'],
  ['PUT', '/Observation?code=a', { 'if-unmodified-since': AFTER }, '412 precondition-failed'],
  ['PUT', '/Observation?code=a', { 'if-none-match': '*' }, '200 '],
]

function bodyOf(method: string, target: string): object | undefined {
  if (method === 'DELETE') return undefined
  if (method === 'PATCH') return [{ op: 'replace', path: '/status', value: 'amended' }]
  return { ...HELD, id: target.endsWith('o9') ? 'o9' : 'o1' }
}

async function setUp() {
  const gateway = await startGateway({ handler: upstream })
  const claims = { sub: 'app-1' }
  const send = async (scope: string, [method, target, headers]: Row, body?: object) => {
    gateway.upstream.received.length = 0
    const token = await gateway.token({ ...claims, scope })
    const sent = body ?? bodyOf(method, target)
    const type = method === 'PATCH' ? 'application/json-patch+json' : FHIR
    const answer = await fetch(gateway.url + target, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(sent === undefined ? {} : { 'content-type': type }),
        ...headers,
      },
      ...(sent === undefined ? {} : { body: JSON.stringify(sent) }),
    })
    const text = await answer.text()
    const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(text)?.[1] ?? ''
    const writes = gateway.upstream.received.filter((request) => request.method !== 'GET')
    return { verdict: `${answer.status} ${reason}`, writes: writes.length, text }
  }
  return { gateway, send }
}

t.test('no write is done whose precondition fails', async (t) => {
  const { gateway, send } = await setUp()
  t.teardown(() => gateway.close())
  for (const row of ROWS) {
    const { verdict, writes } = await send('system/*.cruds', row)
    t.equal(
      verdict,
      row[3],
      row
        .slice(0, 3)
        .map((one) => JSON.stringify(one))
        .join(' '),
    )
    t.equal(writes, row[3].startsWith('200') ? 1 : 0)
  }
  for (const type of ['batch', 'transaction']) {
    const request = { method: 'PUT', url: 'Observation/o1', ifNoneMatch: '*' }
    const bundle = { resourceType: 'Bundle', type, entry: [{ resource: HELD, request }] }
    const { text, writes } = await send('system/*.cruds', ['POST', '', {}, ''], bundle)
    t.match(text, /precondition-failed/, type)
    t.equal(writes, 0, type)
  }
})

t.test('when it was changed is told to nobody who may not read it', async (t) => {
  const { gateway, send } = await setUp()
  t.teardown(() => gateway.close())
  for (const since of [BEFORE, AT, AFTER]) {
    const row: Row = ['DELETE', '/Observation/o1', { 'if-unmodified-since': since }, '']
    t.match(await send('system/*.d', row), { verdict: '412 precondition-failed', writes: 0 })
  }
})

// REST-16: "a 304 is itself disclosure": it is told to whom the resource is, of what is shown of it.
t.test('a read shows nothing again that its caller has, and says so to nobody else', async (t) => {
  const ssn = { system: 'http://hl7.org/fhir/sid/us-ssn', value: '123-45-6789' }
  const patient = (id: string, own: object) =>
    JSON.stringify({ resourceType: 'Patient', id, meta: { versionId: '3' }, ...own })
  const held: Readonly<Record<string, string>> = {
    p1: patient('p1', { active: true }),
    p2: patient('p2', { active: true }),
    p3: patient('p3', { identifier: [ssn] }),
    p4: patient('p4', { identifier: [ssn], photo: [{ title: 'x'.repeat(400_000) }] }),
    p5: patient('p5', { identifier: [ssn] }),
  }
  const gateway = await startGateway({
    handler: (request, response, raw) => {
      // As a server that answers conditions itself would.
      const isAsked = /if-(?:none-match|modified)/.test(Object.keys(request.headers).join())
      const id = /Patient\/(p\d)/.exec(request.target)?.[1] ?? ''
      const said = { etag: 'W/"3"', 'last-modified': AT }
      const found = `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${held['p1']!}}]}`
      if (isAsked) response.writeHead(304).end()
      else if (request.method === 'PUT') json(request.body, 200, said)(request, response, raw)
      else if (request.target.includes('?')) json(found, 200, said)(request, response, raw)
      else
        json(held[id] ?? '{}', id in held ? 200 : 404, {
          ...said,
          ...(id === 'p5' ? { etag: 'W/"1b-x9"' } : {}),
        })(request, response, raw)
    },
  })
  t.teardown(() => gateway.close())
  const own = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const all = await gateway.token({ scope: 'system/*.cruds', sub: 'app-1' })
  const send = async (
    token: string,
    target: string,
    headers: Record<string, string>,
    body?: string,
  ) => {
    const answer = await fetch(gateway.url + target, {
      method: body === undefined ? 'GET' : 'if-none-exist' in headers ? 'POST' : 'PUT',
      headers: { authorization: `Bearer ${token}`, 'content-type': FHIR, ...headers },
      ...(body === undefined ? {} : { body }),
    })
    const text = await answer.text()
    return { status: answer.status, etag: answer.headers.get('etag'), text, all: answer.headers }
  }
  const [tag, since] = ['if-none-match', 'if-modified-since']
  const seen = (await send(all, '/Patient/p3', {})).etag ?? ''
  t.match(seen, /^W\/"3~[\da-f]{16}"$/, 'a masked view has a tag of its own')
  t.equal((await send(all, '/Patient/p3', {})).etag, seen, 'the same for the same view')
  t.equal((await send(all, '/Patient/p1', {})).etag, 'W/"3"')
  t.equal((await send(all, '/Patient/p4', {})).etag, null, 'of a stream nobody knows it yet')
  t.equal((await send(all, '/Patient/p5', {})).etag, null, 'a hash is no version')
  for (const [token, target, headers, status] of [
    [own, '/Patient/p1', { [tag]: 'W/"3"' }, 304],
    [own, '/Patient/p1/_history/3', { [tag]: '"3"' }, 304],
    [own, '/Patient/p1', { [tag]: '"1", W/"3"' }, 304],
    [own, '/Patient/p1', { [tag]: '*' }, 304],
    [own, '/Patient/p1', { [since]: AT }, 304],
    [own, '/Patient/p1', { [since]: AFTER }, 304],
    [own, '/Patient/p1', { [since]: BEFORE }, 200],
    [own, '/Patient/p1', { [since]: 'x' }, 200],
    [own, '/Patient/p1', { [tag]: 'W/"2"', [since]: AT }, 200],
    [own, '/Patient/p1', { [tag]: '3' }, 200],
    [own, '/Patient/p2', { [tag]: 'W/"3"' }, 404],
    [own, '/Patient/p2', { [tag]: '*' }, 404],
    [own, '/Patient/p2', { [since]: AT }, 404],
    [own, '/Patient/p9', { [tag]: '*' }, 404],
    [all, '/Patient/p3', { [tag]: seen }, 304],
    [all, '/Patient/p3', { [tag]: 'W/"3"' }, 200],
    [all, '/Patient/p3', { [tag]: 'W/"3~0123456789abcdef"' }, 200],
    [all, '/Patient/p3', { [since]: AFTER }, 200],
    [all, '/Patient/p4', { [tag]: 'W/"3"' }, 200],
    [all, '/Patient/p5', { [tag]: 'W/"1b-x9"' }, 200],
    [all, '/Patient?active=true', { [tag]: '*', [since]: AT }, 200],
  ] as const) {
    const answer = await send(token, target, headers)
    t.equal(answer.status, status, `${target} ${JSON.stringify(headers)}`)
    if (status !== 304) continue
    t.equal(answer.text, '')
    t.equal(answer.all.get('content-type'), null)
    t.equal(answer.all.get('content-length'), null, 'RFC 9110 §8.6')
    t.ok(answer.etag)
    t.match(answer.all.get('vary'), 'Authorization, Accept, Prefer')
    t.equal(answer.all.get('cache-control'), 'no-store')
  }
  const found = await send(all, '/Patient?active=true', {})
  t.strictSame([found.etag, found.all.get('last-modified')], [null, null], 'of all that is found')

  // A tag of a view leads back to its version.
  const { text } = await send(all, '/Patient/p3', {})
  for (const [match, status] of [
    [seen, 200],
    ['W/"3"', 200],
    [seen.replace('3~', '2~'), 412],
    ['W/"3~0"', 412],
  ] as const) {
    gateway.upstream.received.length = 0
    t.equal((await send(all, '/Patient/p3', { 'if-match': match }, text)).status, status, match)
    const [write] = gateway.upstream.received.filter(({ method }) => method === 'PUT')
    t.equal(write?.headers['if-match'], status === 200 ? 'W/"3"' : undefined)
  }
  t.equal((await send(all, '/Patient/p3', { [tag]: seen }, text)).status, 412)

  // Who may see more of it now is not told by its time that it has seen all.
  for (const id of ['p3', 'p5'])
    t.equal((await send(all, `/Patient/${id}`, {})).all.get('last-modified'), null)
  // RFC 9110 §13.1.2: 304 is for GET and HEAD.
  for (const line of [{ [tag]: '*' }, { [tag]: 'W/"3"' }, { [since]: AT }]) {
    const headers = { ...line, 'if-none-exist': 'active=true' }
    const found = await send(all, '/Patient', headers, patient('p1', { active: true }))
    t.match(found, { status: 200, text: /"p1"/ }, JSON.stringify(line))
  }

  const entry = { request: { method: 'GET', url: 'Patient/p1', ifNoneMatch: 'W/"3"' } }
  const batch = await fetch(gateway.url, {
    method: 'POST',
    headers: { authorization: `Bearer ${all}`, 'content-type': FHIR },
    body: JSON.stringify({ resourceType: 'Bundle', type: 'batch', entry: [entry] }),
  })
  t.match(await batch.json(), { entry: [{ response: { status: '304', etag: 'W/"3"' } }] })
  // What is spared is on record as the read that it is.
  const records = await gateway.audit()
  const reads = records
    .map((one) => JSON.stringify(one))
    .filter((one) => /Patient\/p1".*"304"/.test(one))
  t.equal(reads.length, 7)
  for (const one of reads) t.match(one, /"action":"R".*"outcome":"0"/)
})

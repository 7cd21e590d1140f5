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

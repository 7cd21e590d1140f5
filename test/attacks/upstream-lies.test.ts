import { gzipSync } from 'node:zlib'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'
import type { Handler } from '../support/upstream.ts'

// pitfalls §1 rows 19, 36 and §3: whatever upstream does, its words stay behind the gateway.
const CANARY = 'SECRET-CANARY'
const PATIENT = `{"resourceType":"Patient","id":"p1","name":[{"family":"${CANARY}"}]}`

const text =
  (
    status: number,
    type: string,
    body: string | Buffer,
    headers: Record<string, string> = {},
  ): Handler =>
  (_request, response) => {
    response.writeHead(status, {
      'content-type': type,
      'x-powered-by': CANARY,
      server: CANARY,
      ...headers,
    })
    response.end(body)
  }

const outcome = (status: number): Handler =>
  json(
    `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"exception","diagnostics":"ca.uhn.fhir ${CANARY} SELECT * FROM"}]}`,
    status,
  )

const rows: [name: string, handler: Handler, status: number, reason: string][] = [
  ['400 with diagnostics', outcome(400), 422, 'rejected-upstream'],
  ['401 of the gateway credential', outcome(401), 502, 'upstream-failed'],
  ['403', outcome(403), 502, 'upstream-failed'],
  ['404', outcome(404), 404, 'not-found'],
  ['409', outcome(409), 409, 'conflict'],
  ['410 to a confined caller', outcome(410), 404, 'not-found'],
  ['412', outcome(412), 412, 'precondition-failed'],
  ['422', outcome(422), 422, 'rejected-upstream'],
  ['429', outcome(429), 503, 'upstream-busy'],
  [
    '500 with a stack',
    text(500, 'text/plain', `java.lang.Exception ${CANARY}`),
    502,
    'upstream-failed',
  ],
  [
    '503 with Retry-After',
    text(503, 'text/plain', CANARY, { 'retry-after': '2' }),
    503,
    'upstream-busy',
  ],
  ['304 nobody asked for', text(304, 'text/plain', ''), 502, 'upstream-failed'],
  [
    'a redirect',
    text(302, 'text/plain', CANARY, { location: 'http://127.0.0.1:1/' }),
    502,
    'upstream-failed',
  ],
  ['HTML instead of FHIR', text(200, 'text/html', `<html>${CANARY}`), 502, 'upstream-unreadable'],
  ['JSON said to be HTML', text(200, 'text/html', PATIENT), 502, 'upstream-unreadable'],
  [
    'XML said to be JSON',
    text(200, 'application/fhir+json', `<Patient>${CANARY}</Patient>`),
    502,
    'upstream-unreadable',
  ],
  [
    'gzip although identity was asked',
    text(200, 'application/fhir+json', gzipSync(PATIENT), { 'content-encoding': 'gzip' }),
    502,
    'upstream-unreadable',
  ],
  [
    'gzip not declared',
    text(200, 'application/fhir+json', gzipSync(PATIENT)),
    502,
    'upstream-unreadable',
  ],
  [
    'truncated JSON',
    text(200, 'application/fhir+json', PATIENT.slice(0, -4)),
    502,
    'upstream-unreadable',
  ],
  [
    'trailing garbage',
    text(200, 'application/fhir+json', `${PATIENT}{}`),
    502,
    'upstream-unreadable',
  ],
  ['an empty body', text(200, 'application/fhir+json', ''), 502, 'upstream-unreadable'],
  [
    'a duplicate resourceType',
    text(200, 'application/fhir+json', PATIENT.replace('{', '{"resourceType":"Patient",')),
    502,
    'upstream-unreadable',
  ],
  [
    'invalid UTF-8',
    text(
      200,
      'application/fhir+json',
      Buffer.concat([
        Buffer.from('{"resourceType":"Patient","id":"p1","x":"'),
        Buffer.from([0xff, 0xfe]),
        Buffer.from('"}'),
      ]),
    ),
    502,
    'upstream-unreadable',
  ],
  [
    'another type than asked for',
    json(`{"resourceType":"Practitioner","id":"p1","name":"${CANARY}"}`),
    404,
    'not-found',
  ],
  ['no resourceType', json(`{"id":"p1","name":"${CANARY}"}`), 404, 'not-found'],
  ['another patient than asked for', json(PATIENT.replace('p1', 'p2')), 404, 'not-found'],
  [
    'a body cut short',
    (_q, response) => {
      response.writeHead(200, { 'content-type': 'application/fhir+json', 'content-length': '5000' })
      response.write(PATIENT.slice(0, 30))
      setTimeout(() => response.destroy(), 20)
    },
    502,
    'upstream-unreadable',
  ],
  ['a closed connection', (_q, response) => response.destroy(), 502, 'upstream-unreachable'],
  ['a frozen upstream', () => undefined, 504, 'upstream-timeout'],
  [
    'a body that freezes',
    (_q, response) => {
      response.writeHead(200, { 'content-type': 'application/fhir+json' })
      response.write(PATIENT.slice(0, 30))
    },
    504,
    'upstream-timeout',
  ],
]

t.test('whatever upstream says or does, nothing of it leaves (ERR-2, ERR-3)', async (t) => {
  const gateway = await startGateway({
    config: { upstream: { headersTimeoutSeconds: 0.4, bodyTimeoutSeconds: 0.4 } },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  for (const [name, handler, status, reason] of rows) {
    gateway.upstream.received.length = 0
    gateway.upstream.answerWith(handler)
    const answer = await fetch(`${gateway.url}/Patient/p1`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const body = await answer.text()
    t.equal(answer.status, status, `${name}: ${status}`)
    t.match(body, `"code":"${reason}"`, `${name}: ${reason}`)
    t.equal(gateway.upstream.received.length, 1, `${name}: asked once, never again`)
    t.notMatch(body + JSON.stringify([...answer.headers]), CANARY, `${name}: no canary`)
    t.notMatch(JSON.stringify([...answer.headers]), gateway.upstream.host, `${name}: no address`)
  }
  t.equal((await gateway.audit()).length, rows.length, 'one audit record for each attempt (AUD-1)')
  t.notMatch(await gateway.auditText(), CANARY, 'no canary in audit')
  t.notMatch(gateway.log.join('\n'), CANARY, 'no canary in the log')
  t.notMatch(await gateway.metrics(), CANARY, 'no canary in metrics')
})

t.test(
  'an upstream that is not there: 502 without its address, and the process stays',
  async (t) => {
    const gateway = await startGateway({ upstreamUrl: 'http://127.0.0.1:1/base' })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    // http-proxy#460: rapid requests to a refusing upstream once killed the process.
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } }),
      ),
    )
    for (const answer of answers) {
      t.equal(answer.status, 502)
      t.notMatch(await answer.text(), '127.0.0.1:1', 'no address')
    }
  },
)

t.test(
  'headers cross in neither direction unless they are on a list (HTTP-1, HTTP-3, HTTP-5, rows 28-30)',
  async (t) => {
    const gateway = await startGateway({
      handler: text(200, 'application/fhir+json', PATIENT, {
        'set-cookie': `a=${CANARY}`,
        'x-anything': CANARY,
        via: CANARY,
        etag: 'W/"3"',
        connection: 'x-anything',
        'last-modified': 'Mon, 02 Mar 2026 10:00:00 GMT',
      }),
    })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    const answer = await gateway.raw(
      [
        'GET /fhir/Patient/p1 HTTP/1.1',
        'Host: x',
        `Authorization: Bearer ${token}`,
        'Connection: close, x-request-id, authorization',
        'Keep-Alive: timeout=5',
        'Upgrade: h2c',
        'TE: trailers',
        `Cookie: ${CANARY}`,
        `X-Forwarded-Host: ${CANARY}`,
        `X-Forwarded-For: ${CANARY}`,
        'X-HTTP-Method-Override: DELETE',
        `X-Cascade: ${CANARY}`,
        `X-Request-Partition-IDs: ${CANARY}`,
        'Prefer: handling=lenient',
        'If-None-Match: W/"2"',
        `X-Security-Context: ${CANARY}`,
        'Accept-Encoding: gzip',
        '',
        '',
      ].join('\r\n'),
    )
    t.match(answer, /^HTTP\/1\.1 200 /)
    t.match(answer, /\r\netag: W\/"3"\r\n/i)
    t.match(answer, /\r\ncache-control: no-store\r\n/i)
    t.notMatch(answer.split('\r\n\r\n')[0], CANARY, 'no header of upstream')
    const [received] = gateway.upstream.received
    t.strictSame(
      Object.keys(received!.headers).sort(),
      ['accept', 'accept-encoding', 'connection', 'host', 'via', 'x-request-id'],
      'upstream sees our headers only',
    )
    t.equal(received!.headers['accept-encoding'], 'identity')
    t.notMatch(
      JSON.stringify(received!.rawHeaders),
      token,
      'the token never goes upstream (AUTHN-19)',
    )
  },
)

t.test('a client that goes away cancels upstream, and is recorded (RATE-6, AUD-1)', async (t) => {
  let cancelled = 0
  const gateway = await startGateway({
    handler: (_request, _response, raw) => raw.socket.once('close', () => cancelled++),
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  for (let i = 0; i < 5; i++) {
    const leave = new AbortController()
    const pending = fetch(`${gateway.url}/Patient/p1`, {
      headers: { authorization: `Bearer ${token}` },
      signal: leave.signal,
    }).catch(() => undefined)
    while (gateway.upstream.received.length <= i) await new Promise((r) => setTimeout(r, 5))
    leave.abort()
    await pending
  }
  for (let i = 0; i < 100 && (cancelled < 5 || (await gateway.audit()).length < 5); i++) {
    await new Promise((r) => setTimeout(r, 20))
  }
  t.equal(cancelled, 5, 'upstream was let go of each time')
  t.equal((await gateway.audit()).length, 5, 'each attempt is recorded')
  t.match(await gateway.metrics(), /outcome="aborted"[^\n]* 5/, 'as aborted')
})

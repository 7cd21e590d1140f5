import { connect } from 'node:net'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'
import type { Handler } from '../support/upstream.ts'

// AUD-4, AUD-5, AUD-15, ERR-3, HTTP-3, HTTP-6: a canary in every place of a request, of a token and of
// what upstream says; and where each of them may arrive.

const C = 'CaNaRy'
type Gateway = Awaited<ReturnType<typeof startGateway>>
/** Where it may arrive: the raw request of a record (base64), the rest of a record, log and answer. */
type Arrives = '' | 'answer' | 'request' | 'record' | 'everywhere'

const FHIR = 'Content-Type: application/fhir+json\r\n'
const FORM = 'Content-Type: application/x-www-form-urlencoded\r\n'
const PATIENT = 'GET /fhir/Patient/p1'

/** In a request by somebody known: request line, further header lines, body. */
const PLACES: readonly (readonly [
  what: string,
  arrives: Arrives,
  line: string,
  headers?: string,
  body?: string,
])[] = [
  ['user agent', '', PATIENT, `User-Agent: ${C}\r\n`],
  ['host', '', PATIENT, `Host: ${C}\r\n`],
  ['X-Forwarded-For that is no address', '', PATIENT, `X-Forwarded-For: ${C}, 192.0.2.1\r\n`],
  ['X-Forwarded-Proto', '', PATIENT, `X-Forwarded-Proto: ${C}\r\n`],
  [
    'other forwarded headers',
    '',
    PATIENT,
    `Forwarded: for=${C}\r\nX-Real-IP: ${C}\r\nX-Forwarded-Host: ${C}\r\nX-Forwarded-Prefix: /${C}\r\n`,
  ],
  ['a request id', 'everywhere', PATIENT, `X-Request-Id: ${C}-0\r\n`],
  ['a request id that is none', '', PATIENT, `X-Request-Id: ${C} \xe9\r\n`],
  ['a request id with an escape', '', PATIENT, `X-Request-Id: \x1b[31m${C}\r\n`],
  ['traceparent', '', PATIENT, `traceparent: 00-${C}\r\ntracestate: a=${C}\r\nbaggage: a=${C}\r\n`],
  ['X-Correlation-Id', 'answer', PATIENT, `X-Correlation-Id: ${C}\r\n`],
  ['a cookie', '', PATIENT, `Cookie: session=${C}\r\n`],
  ['credentials for a proxy', '', PATIENT, `Proxy-Authorization: Basic ${C}\r\n`],
  ['a proof nobody asked for', '', PATIENT, `DPoP: eyJ${C}.${C}.${C}\r\n`],
  ['the name of a header', '', PATIENT, `X-${C}: 1\r\n`],
  ['Origin and Referer', '', PATIENT, `Origin: http://${C}\r\nReferer: http://${C}\r\n`],
  ['preferences', '', PATIENT, `Prefer: ${C}\r\nIf-None-Match: ${C}\r\nCategory: ${C}\r\n`],
  ['a reason without an emergency', '', PATIENT, `X-Break-Glass-Reason: ${C} ${C}\r\n`],
  ['Accept', 'request', PATIENT, `Accept: text/${C}\r\n`],
  ['Expect', '', PATIENT, `Expect: ${C}\r\n`],
  ['an id', 'record', `GET /fhir/Patient/${C}`],
  ['an id behind an escape', '', `GET /fhir/Patient/%43${C.slice(1)}`],
  ['a type', 'request', `GET /fhir/${C}/1`],
  ['a path outside the base', '', `GET /${C}?${C}`],
  ['the name of an operation', 'request', `GET /fhir/Patient/$${C}`],
  ['the name of a parameter', 'request', `GET /fhir/Patient?${C}=1`],
  ['a value', 'request', `GET /fhir/Patient?name=${C}`],
  ['a modifier', 'request', `GET /fhir/Patient?name:${C}=x`],
  ['a chain', 'request', `GET /fhir/Observation?subject:${C}.${C}=${C}`],
  ['a reverse chain', 'request', `GET /fhir/Patient?_has:${C}:${C}:${C}=${C}`],
  ['an include', 'request', `GET /fhir/Observation?_include=${C}:${C}`],
  ['an order', 'request', `GET /fhir/Observation?_sort=${C}`],
  ['an escape sequence', 'request', `GET /fhir/Patient?name=%1b[31m${C}`],
  ['a line end', 'request', `GET /fhir/Patient?name=a%0d%0a${C}`],
  ['the other direction', 'request', `GET /fhir/Patient?name=%e2%80%ae${C}`],
  ['bytes that are no text', 'request', `GET /fhir/Patient?name=%ff${C}`],
  ['a page link', 'request', `GET /fhir?_cursor=${C}`],
  ['a password', '', `GET /fhir/Patient?_source=https://bob:${C}@host/x`],
  ['a password, encoded', '', `GET /fhir/Patient?_source=https%3A%2F%2Fbob%3A${C}%40host`],
  ['a password, twice', '', `GET /fhir/Patient?_source=https%253A%252F%252Fbob%253A${C}%2540host`],
  ['a password in the request target', '', `GET http://bob:${C}@host/fhir/Patient/p1`],
  ['a token in the query', '', `GET /fhir/Patient?access_token=${C}`],
  ['a method', '', `${C.toUpperCase()} /fhir/Patient`],
  ['a method that node knows', 'request', `PROPFIND /fhir/Patient/${C}`],
  ['bytes no target has', '', `GET /fhir/Patient/\x1b[31m${C}`],
  ['no HTTP/1', 'request', `GET /fhir/${C}\r\n${C}: `],
  ['If-None-Exist', '', 'POST /fhir/Observation', `If-None-Exist: ${C}=${C}\r\n${FHIR}`, '{}'],
  ['a content type', '', 'POST /fhir/Observation', `Content-Type: ${C}\r\n`, '{}'],
  ['no JSON', '', 'POST /fhir/Observation', FHIR, `{"${C}":}`],
  [
    'members',
    '',
    'POST /fhir/Observation',
    FHIR,
    `{"resourceType":"Observation","${C}":1,"${C}":1}`,
  ],
  ['a resource type', '', 'POST /fhir/Observation', FHIR, `{"resourceType":"${C}","id":"${C}"}`],
  [
    'a patch',
    '',
    'PATCH /fhir/Observation/o1',
    'Content-Type: application/json-patch+json\r\n',
    `[{"op":"${C}","path":"/${C}","value":"${C}"}]`,
  ],
  ['a form', 'request', 'POST /fhir/Patient/_search', FORM, `name=${C}`],
  ['a name in a form', '', 'POST /fhir/Patient/_search', FORM, `${C}=1`],
  ['a secret in a form', '', 'POST /fhir/Patient/_search', FORM, `client_secret=${C}`],
  [
    'an entry',
    'request',
    'POST /fhir',
    FHIR,
    `{"resourceType":"Bundle","type":"batch","entry":[{"fullUrl":"urn:${C}","request":{"method":"GET","url":"${C}/1?${C}=${C}"}}]}`,
  ],
]

const bare =
  (head: Record<string, string>, body: string, status = 200): Handler =>
  (_request, response) => {
    response.writeHead(status, head)
    response.end(body)
  }
const issue = `{"resourceType":"OperationOutcome","issue":[{"diagnostics":"${C} \\u001b[31m\\u202e"}]}`
const type = { 'content-type': 'application/fhir+json' }

/** In what upstream says to a read of Patient/p1. */
const SAID: readonly (readonly [what: string, handler: Handler])[] = [
  ['an error', json(issue, 500)],
  ['a refusal', json(issue, 400)],
  ['the reason phrase', (_request, response) => void response.writeHead(500, C).end()],
  ['headers of an error', bare({ ...type, [`x-${C}`]: C, server: C, 'set-cookie': C }, '{}', 503)],
  ['Retry-After', bare({ 'retry-after': C }, '', 503)],
  ['Location', bare({ location: `http://${C}/${C}` }, '', 302)],
  ['a content type', bare({ 'content-type': `text/${C}` }, C)],
  ['a content coding', bare({ ...type, 'content-encoding': C }, C)],
  ['an ETag that is none', bare({ ...type, etag: C }, '{"resourceType":"Patient","id":"p2"}')],
  ['no JSON', bare(type, `{"resourceType":"Patient",${C}}`)],
  ['another type', bare(type, `{"resourceType":"${C}","id":"${C}"}`)],
  ['no HTTP', (_request, response) => void response.socket?.end(`HTTP/1.1 2${C}\r\n\r\n`)],
  ['a broken header', (_request, response) => void response.socket?.end(`${C}: ${C}\r\n\r\n`)],
]

async function say(gateway: Gateway, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(gateway.port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
    let said = ''
    socket.on('data', (piece) => (said += piece.toString('latin1')))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      resolve(said)
    })
  })
}

const holds = (text: string): boolean => text.toLowerCase().includes(C.toLowerCase())
const requestsIn = (records: readonly object[]): string =>
  (records as { entity: { query?: string }[] }[])
    .flatMap(({ entity }) => entity.map(({ query }) => Buffer.from(query ?? '', 'base64')))
    .join('\n')

t.test('a canary in each place of a request arrives where it may, and nowhere else', async (t) => {
  const gateway = await startGateway({
    handler: json('{"resourceType":"Patient","id":"p1"}'),
    config: { trustedProxies: ['127.0.0.1/32'] },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const series: number[] = []
  for (let round = 0; round < 2; round++) {
    for (const [what, arrives, line, headers = '', body] of PLACES) {
      gateway.log.length = gateway.printed.length = 0
      const before = (await gateway.audit().catch(() => [])).length
      const host = /^Host:/m.test(headers) ? '' : 'Host: x\r\n'
      const length = body === undefined ? '' : `Content-Length: ${body.length}\r\n`
      const known = `Authorization: Bearer ${token}\r\nConnection: close\r\n`
      const head = `${line} HTTP/1.1\r\n${host}${headers}${length}${known}\r\n`
      const said = await say(gateway, head + (body ?? ''))
      t.match(said, /^HTTP\/1\.1 [245]/, what)
      const records = (await gateway.audit()).slice(before)
      t.ok(records.length > 0, `${what}: on record`)
      t.equal(holds(requestsIn(records)), arrives === 'request', `${what}: raw request`)
      const isOnRecord = arrives === 'record' || arrives === 'everywhere'
      t.equal(holds(JSON.stringify(records)), isOnRecord, `${what}: record`)
      const log = [...gateway.log, ...gateway.printed].join('')
      t.equal(holds(log), arrives === 'everywhere', `${what}: log`)
      const isTold = arrives === 'answer' || arrives === 'everywhere'
      t.equal(holds(said), isTold, `${what}: answer`)
      const lines = gateway.printed.join('')
      t.notMatch(lines + said, /[\u0000-\u0009\u000b\u000c\u000e-\u001f\u007f-\u009f\u202e]|eyJ/)
      t.equal(lines.split('\n').length - 1, gateway.printed.length, `${what}: whole lines`)
    }
    const metrics = await gateway.metrics()
    t.notOk(holds(metrics), 'metrics')
    series.push(metrics.split('\n').filter((line) => line.startsWith('fhirewall_')).length)
  }
  t.equal(series[0], series[1], 'no series of its own for what a client says')
})

t.test('nothing that upstream says of itself arrives anywhere (ERR-3, AUD-15)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  for (const [what, handler] of SAID) {
    gateway.upstream.answerWith(handler)
    const known = `Host: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n`
    const said = await say(gateway, `${PATIENT} HTTP/1.1\r\n${known}\r\n`)
    t.match(said, /^HTTP\/1\.1 [45]/, what)
    t.notOk(holds(said), `${what}: answer`)
  }
  t.equal((await gateway.audit()).length, SAID.length)
  t.notOk(holds((await gateway.auditText()) + requestsIn(await gateway.audit())), 'audit')
  t.notOk(holds([...gateway.log, ...gateway.printed].join('')), 'log')
  t.notOk(holds(await gateway.metrics()), 'metrics')
})

t.test(
  'of what a token says, the record has who, for whom and why; nothing else has any',
  async (t) => {
    const gateway = await startGateway({ handler: json('{"resourceType":"Patient","id":"p1"}') })
    t.teardown(() => gateway.close())
    const names = {
      recorded: ['sub', 'client_id', 'jti', 'roles', 'purpose_of_use', 'organization'],
      not: ['name', 'email', 'acr', 'amr', 'sid', 'azp', 'preferred_username', 'nonsense', 'scope'],
    }
    const claims = Object.fromEntries(
      [...names.recorded, ...names.not].map((name) => [name, `${name}-${C}`]),
    )
    const token = await gateway.token({ ...claims, scope: `patient/*.rs ${C}`, patient: 'p1' })
    const known = `Host: x\r\nAuthorization: Bearer ${token}\r\nConnection: close\r\n`
    const said = await say(gateway, `${PATIENT} HTTP/1.1\r\n${known}\r\n`)
    t.match(said, /^HTTP\/1\.1 200 /)
    const record = await gateway.auditText()
    for (const name of names.recorded) t.ok(record.includes(`${name}-${C}`), name)
    for (const name of names.not) t.notOk(record.includes(`${name}-${C}`), name)
    t.notOk(holds(said + [...gateway.log, ...gateway.printed].join('') + (await gateway.metrics())))
  },
)

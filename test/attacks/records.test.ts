import { connect } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { loadElements } from '../../src/fhir/elements.ts'
import { findMisformed } from '../support/forms.ts'
import { startGateway } from '../support/gateway.ts'
import { findFaults } from '../support/generate-resource.ts'
import { json } from '../support/upstream.ts'

// What a client writes into the audit log, and at what price (AUD-1, AUD-4, AUD-6).

const NOTHING = '{"resourceType":"Bundle","type":"searchset"}'
type Gateway = Awaited<ReturnType<typeof startGateway>>
type Recorded = {
  readonly outcomeDesc?: string
  readonly agent: readonly unknown[]
  readonly entity: readonly { readonly query?: string }[]
}

const recordsOf = async (gateway: Gateway): Promise<Recorded[]> =>
  (await gateway.audit()) as unknown as Recorded[]
/** The raw request of a record. */
const requestOf = (record: Recorded | undefined): string =>
  Buffer.from(
    record?.entity.find(({ query }) => query !== undefined)?.query ?? '',
    'base64',
  ).toString()

t.test('what looks like tokens without end holds nobody up (AUD-4)', async (t) => {
  const gateway = await startGateway({ handler: json(NOTHING) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const accept = `application/fhir+json,${'eyJ'.repeat(10_000)}`
  const unknown = await fetch(`${gateway.url}/Patient?name=b`, { headers: { accept } })
  // Hours, when each place of it was tried for each other.
  const found = await fetch(`${gateway.url}/Observation/_search`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: `code=${'eyJ'.repeat(1_000_000)}`,
  })
  t.equal(found.status, 200)
  const [first, second] = await recordsOf(gateway)
  t.match(requestOf(second), /code=(?:eyJ)+e?y?\[and 29\d{5} more, sha256 [0-9a-f]{64}\]$/)
  t.equal(unknown.status, 401)
  t.match(requestOf(first), /\nAccept: application\/fhir\+json,[eyJ]{234}\[and 29766 more\]\n/)
  t.ok((await gateway.auditText()).length < 15_000)
})

t.test('an entry of a Bundle writes no more, and pays as much, as a request', async (t) => {
  const gateway = await startGateway({
    handler: json(NOTHING),
    config: { limits: { principal: { burst: 100, perSecond: 0.001 } } },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const ask = async (type: string, ...requests: { method: string; url: string }[]) => {
    const before = (await gateway.audit()).length
    const entry = requests.map((request) => ({ request }))
    const answer = await fetch(gateway.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
      body: JSON.stringify({ resourceType: 'Bundle', type, entry }),
    })
    const text = await answer.text()
    const records = (await recordsOf(gateway)).slice(before)
    return { status: answer.status, text, records }
  }
  const forged = 'GET http://x/fhir/Patient/p9\nX-Request-Id: forged\n\nDELETE'
  for (const [reason, method, url] of [
    ['target-too-long', 'GET', `Patient?name=${'x'.repeat(2_000_000)}`],
    ['target-too-long', 'GET', `http://127.0.0.1:9/fhir/Patient?name=${'x'.repeat(8192)}`],
    ['method-not-allowed', 'x'.repeat(2_000_000), 'Patient/p1'],
    ['method-not-allowed', forged, 'Patient/p1'],
    ['method-not-allowed', 'get', 'Patient/p1'],
    ['target-malformed', 'GET', 'Patient/p1\nX-Request-Id: forged'],
    ['target-malformed', 'GET', 'Patient?name=x\u2028X-Request-Id: forged'],
    ['target-malformed', 'GET', 'Patient?name=\u202e1p'],
  ] as const) {
    const what = `${reason}: ${encodeURI(`${method.slice(0, 9)} ${url.slice(0, 30)}`)}`
    const { records, text } = await ask('batch', { method, url })
    t.match(text, reason, what)
    t.equal(records.length, 2, what)
    t.equal(records[0]?.outcomeDesc, reason, what)
    t.ok(JSON.stringify(records).length < 7000, what)
    const said = requestOf(records[0])
    t.notMatch(said, /forged|xxx|p9|\u202e/, what)
    t.equal(said.split('\n').filter((line) => line.startsWith('X-Request-Id: ')).length, 1, what)
  }
  const { status, records } = await ask('transaction', { method: forged, url: 'Patient/p1' })
  t.equal(status, 405)
  t.notMatch(requestOf(records[0]), /forged/)
  // Nine Bundles for 10 each, and their entries for 1 each: there is 1 left.
  const last = await ask('batch', { method: 'GET', url: 'Patient/../p1' })
  t.equal(last.status, 429, 'what cannot be read was not free')
})

/** Sends pieces, and half closes when there is an end; resolves with all that came. */
async function send(gateway: Gateway, pieces: readonly string[], end = false): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ port: gateway.port, host: '127.0.0.1', allowHalfOpen: true }, () => {
      void (async () => {
        for (const piece of pieces) {
          socket.write(piece)
          await wait(50)
        }
        if (end) socket.end()
      })()
    })
    let said = ''
    socket.on('data', (piece) => (said += piece.toString('latin1')))
    socket.on('error', () => undefined)
    socket.on('end', () => socket.end())
    socket.on('close', () => {
      resolve(said)
    })
  })
}

t.test('a body that breaks off is one record: who, which and why (AUD-1, AUD-7)', async (t) => {
  const gateway = await startGateway({ config: { limits: { requestTimeoutSeconds: 1 } } })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const type = 'Content-Type: application/fhir+json\r\n'
  const head = (id: string, ...more: string[]) =>
    `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\n${type}${more.join('')}`
  const known = `Authorization: Bearer ${token}\r\n`
  const [chunked, short] = ['Transfer-Encoding: chunked\r\n\r\n', 'Content-Length: 500\r\n\r\n{']
  for (const [what, status, reason, agents, pieces, end] of [
    ['bad chunk', 400, 'header-malformed', 4, [head('bad-chunk', known, chunked), 'zz\r\n']],
    ['at once', 400, 'header-malformed', 4, [head('at-once-1', known, `${chunked}zz\r\n`)]],
    ['short', 400, 'header-malformed', 4, [head('too-short', known, short)], true],
    ['slow', 408, 'request-timeout', 4, [head('much-too-slow', known, short)]],
    ['unknown', 401, 'credentials-missing', 2, [head('who-is-it', chunked), 'zz\r\n']],
  ] as const) {
    const before = (await gateway.audit()).length
    const said = await send(gateway, pieces, end)
    t.strictSame(said.match(/HTTP\/1\.1 \d+/g), [`HTTP/1.1 ${status}`], what)
    const id = /X-Request-Id: (.*?)\r/.exec(pieces[0])?.[1] ?? ''
    t.ok(said.includes(`x-request-id: ${id}`), what)
    const records = (await recordsOf(gateway)).slice(before)
    t.strictSame(
      records.map(({ outcomeDesc, agent }) => [outcomeDesc, agent.length]),
      [[reason, agents]],
      what,
    )
    t.ok(JSON.stringify(records).includes(`"${id}"`), what)
  }
})

t.test('who has gone before it was looked at is not told to use TLS (AUD-1)', async (t) => {
  const gateway = await startGateway({ handler: json(NOTHING) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  for (let n = 0; n < 100; n++) {
    await new Promise<void>((done) => {
      const socket = connect(gateway.port, '127.0.0.1', () => {
        socket.write(
          `GET /fhir/Patient HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`,
          () => socket.resetAndDestroy(),
        )
      })
      socket.on('error', () => undefined).on('close', () => done())
    })
  }
  await wait(200)
  const reasons = new Set((await recordsOf(gateway)).map(({ outcomeDesc }) => outcomeDesc))
  t.strictSame(
    [...reasons].filter((reason) => reason !== 'aborted' && reason !== undefined),
    [],
  )
})

t.test('what never comes to the spine is counted for its address, too (RATE-1)', async (t) => {
  const limits = { address: { burst: 5, perSecond: 0.001 } }
  for (const request of [
    'GET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    'garbage\r\n\r\n',
    'QUERY /fhir/Patient HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n',
  ]) {
    const gateway = await startGateway({ config: { limits } })
    const statuses: number[] = []
    for (let n = 0; n < 8; n++) {
      statuses.push(Number(/^HTTP\/1\.1 (\d+)/.exec(await gateway.raw(request))?.[1]))
    }
    t.equal(statuses.indexOf(429), 5, `${request}: ${statuses.join()}`)
    t.strictSame(statuses.slice(5), [429, 429, 429], request)
    t.equal((await gateway.audit()).length, 8)
    await gateway.close()
  }
})

t.test('whatever a token says, its record is an AuditEvent of R4 (AUD-2, AUD-6)', async (t) => {
  const gateway = await startGateway({ handler: json('{"resourceType":"Patient","id":"p1"}') })
  t.teardown(() => gateway.close())
  const elements = loadElements('R4')
  const odd = 'a \u0000\u001b[31m\u202e\n"b'
  for (const [name, value] of [
    ['sub', odd],
    ['sub', ' '],
    ['client_id', odd],
    ['jti', 'an id of words'],
    ['jti', odd],
    ['roles', ['', ' ', odd]],
    ['purpose_of_use', ['', ' ', odd, 'TREAT']],
    ['organization', odd],
    ['extensions', { 'hl7-b2b': { subject_name: odd, purpose_of_use: 'urn:other#TREAT' } }],
    ['extensions', { 'hl7-b2b': { consent_policy: [' ', odd], purpose_of_use: 'a b#TREAT c' } }],
  ] as const) {
    const what = `${name}: ${JSON.stringify(value)}`
    const claims = { scope: 'patient/*.rs', patient: 'p1', [name]: value }
    const authorization = `Bearer ${await gateway.token(claims)}`
    const answer = await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization } })
    t.equal(answer.status, 200, what)
    const record = (await gateway.audit()).at(-1)
    t.strictSame(findFaults(elements, record, 'AuditEvent', 'AuditEvent'), [], what)
    t.strictSame(findMisformed(elements, record, 'AuditEvent', 'AuditEvent'), [], what)
  }
  const purposes = JSON.stringify((await gateway.audit()).map((each) => each['purposeOfEvent']))
  t.match(purposes, '{"system":"urn:other","code":"TREAT"}', 'none of v3-ActReason')
})

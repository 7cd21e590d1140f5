import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// What a client writes into the audit log, and at what price (AUD-1, AUD-4, AUD-6).

const NOTHING = '{"resourceType":"Bundle","type":"searchset"}'
type Gateway = Awaited<ReturnType<typeof startGateway>>
type Recorded = {
  readonly outcomeDesc?: string
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

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

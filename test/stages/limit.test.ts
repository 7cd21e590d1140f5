import t from 'tap'
import { createMemoryStore } from '../../src/adapters/memory-store.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { Arrival, Principal } from '../../src/exchange.ts'
import type { Interaction, InteractionCode } from '../../src/fhir/interaction.ts'
import { Refusal } from '../../src/refusal.ts'
import { addressKey, createLimit } from '../../src/stages/limit/limit.ts'

const rate = (burst: number) => ({ burst, perSecond: 0.5 })
const config = configSchema.parse({
  public: { url: 'https://fhir.example/fhir' },
  upstream: { url: 'http://127.0.0.1:1/fhir' },
  issuers: [{ url: 'https://issuer.example' }],
  limits: { address: rate(6), principal: rate(6), failures: rate(2) },
})

function create() {
  let at = 0
  const clock = { now: () => at, monotonic: () => at }
  const store = createMemoryStore({ trackedKeys: 1000, clock })
  const limit = createLimit(config, {
    rates: () => new Map([['ward/slow', { burst: 2, perSecond: 1 }]]),
    take: async (...counters) => {
      for (const { bucket, key, rate, cost } of counters) {
        const { allowed, retryAfter } = await store.take(`${bucket} ${key}`, rate, cost)
        if (!allowed) return { bucket, retryAfter }
      }
      return undefined
    },
  })
  return { limit, advance: (ms: number) => (at += ms) }
}

const from = (address: string): Arrival => ({
  method: 'GET',
  target: '/Patient/1',
  headers: {},
  rawHeaders: [],
  address,
  body: undefined,
  signal: new AbortController().signal,
})
const principal = (key: string) => ({ key }) as Principal
const asks = (code: InteractionCode, names: string[] = []): Interaction => ({
  code,
  method: 'GET',
  parameters: names.map((name) => ({ name, values: ['x'] })),
})

async function refusalOf(promise: Promise<void>): Promise<Refusal | undefined> {
  try {
    await promise
    return undefined
  } catch (error) {
    if (error instanceof Refusal) return error
    throw error
  }
}

t.test('an address over its limit is refused, and told when to come back (RATE-2)', async (t) => {
  const { limit, advance } = create()
  for (let n = 0; n < 6; n++) await limit.address(from('192.0.2.1'))
  const refusal = await refusalOf(limit.address(from('192.0.2.1')))
  t.match(refusal, { reason: 'rate-exceeded', headers: { 'retry-after': '2' }, detail: 'address' })
  t.equal(refusal?.row.status, 429)
  await limit.address(from('192.0.2.2'))
  advance(2000)
  await limit.address(from('192.0.2.1'))
})

t.test('failed authentications have a stricter limit of their own (RATE-4)', async (t) => {
  const { limit, advance } = create()
  for (let n = 0; n < 2; n++) {
    await limit.address(from('192.0.2.1'))
    await limit.failed(from('192.0.2.1'))
  }
  t.match(await refusalOf(limit.address(from('192.0.2.1'))), { detail: 'failures' })
  // Also of those that were under way together, the ones too many are told no more (429).
  t.match(await refusalOf(limit.failed(from('192.0.2.1'))), { detail: 'failures' })
  advance(2000)
  t.equal(await refusalOf(limit.address(from('192.0.2.1'))), undefined)
  t.equal(await refusalOf(limit.address(from('192.0.2.9'))), undefined)
})

t.test('a search costs more than a read, a joining one more still (RATE-1)', async (t) => {
  const count = async (interaction: Interaction) => {
    const { limit } = create()
    for (let n = 0; ; n++) {
      if ((await refusalOf(limit.principal(principal('p'), interaction))) !== undefined) return n
    }
  }
  t.equal(await count(asks('read')), 6)
  t.equal(await count(asks('search-type', ['code'])), 2)
  t.equal(await count(asks('search-type', ['_include', '_revinclude', '_has'])), 1)
  t.equal(await count(asks('batch')), 1, 'above the burst: once')
  const { limit } = create()
  for (let n = 0; n < 6; n++) await limit.principal(principal('a'), asks('read'))
  t.match(await refusalOf(limit.principal(principal('a'), asks('read'))), { detail: 'principal' })
  t.equal(await refusalOf(limit.principal(principal('b'), asks('read'))), undefined)
})

t.test('what counts as one address', async (t) => {
  const table = [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:c000:0201', '192.0.2.1'],
    ['0:0:0:0:0:ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002:0:0:0:9', '2001:db8:1:2::/64'],
    ['2001:db8:1:3::1', '2001:db8:1:3::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
    ['', ''],
  ] as const
  for (const [address, key] of table) t.equal(addressKey(address), key, address)
})

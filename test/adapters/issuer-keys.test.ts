import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { createIssuerKeys } from '../../src/adapters/issuer-keys.ts'
import { configSchema } from '../../src/config/schema.ts'
import { toRefusal } from '../../src/refusal.ts'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

const SECRET = join(t.testdir({ secret: 's3cret' }), 'secret')
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

const jwk = (kid: string, bits = 2048): Record<string, unknown> => ({
  ...generateKeyPairSync('rsa', { modulusLength: bits }).publicKey.export({ format: 'jwk' }),
  ...{ kid, alg: 'RS256', use: 'sig' },
})
const GOOD = jwk('good')

type Say = (response: ServerResponse) => void
const say =
  (value: unknown, status = 200): Say =>
  (response) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(typeof value === 'string' ? value : JSON.stringify(value))
  }

/** An issuer that says of itself and of its keys whatever it is told to. */
async function startLiar() {
  const says: { metadata: Say | undefined; keys: Say } = {
    metadata: undefined,
    keys: say({ keys: [GOOD] }),
  }
  let asked = 0
  let questions = 0
  const server = createServer((request, response) => {
    if (request.url === '/introspect') {
      questions += 1
      const exp = Math.floor(Date.now() / 1000) + 300
      const person = { sub: 'a', client_id: 'b', token_type: 'Bearer', patient: 'p1' }
      return say({ active: true, scope: 'patient/*.rs', exp, ...person })(response)
    }
    if (request.url === '/jwks') {
      asked += 1
      return says.keys(response)
    }
    return (says.metadata ?? say(metadata))(response)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const metadata = {
    issuer: url,
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    introspection_endpoint: `${url}/introspect`,
    response_types_supported: ['code'],
  }
  const withKeys = { ...metadata, jwks_uri: `${url}/jwks` }
  return {
    ...{ url, says, metadata, withKeys },
    asked: () => asked,
    questions: () => questions,
    close: async () => {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

async function setUp(
  settings: Record<string, unknown>,
  liar?: Awaited<ReturnType<typeof startLiar>>,
) {
  const issuer = liar ?? (await startLiar())
  const config = configSchema.parse({
    public: { url: 'https://public.example/fhir' },
    upstream: { url: 'http://127.0.0.1:9/base' },
    issuers: [{ url: issuer.url, ...settings }],
  })
  const time = { offset: 0 }
  const unknown: string[] = []
  const keys = createIssuerKeys(config, silent, () => Date.now() + time.offset, {
    unknownKey: (url) => unknown.push(url),
  })
  return {
    ...{ issuer, keys, time, unknown },
    find: async (kid: string): Promise<string> => {
      try {
        await keys.find(issuer.url, { alg: 'RS256', kid })
        return 'found'
      } catch (error) {
        return toRefusal(error).reason
      }
    },
    close: async () => {
      await keys.close()
      await issuer.close()
    },
  }
}

const ASKED = { introspection: { clientId: 'g', clientSecretFile: SECRET } }

t.test('an issuer that has no keys is ready without them (AUTHN-8)', async (t) => {
  const url = (liar: { url: string }) => ({
    introspection: { ...ASKED.introspection, url: `${liar.url}/introspect` },
  })
  const liar = await startLiar()
  await liar.close()
  type Row = [what: string, settings: object, metadata: 'none' | 'without' | 'down', ready: boolean]
  const rows: Row[] = [
    ['metadata without jwks_uri, and asked about tokens', ASKED, 'without', true],
    ['metadata without jwks_uri, and nobody is asked', {}, 'without', false],
    [
      'asked about JWTs alone',
      { introspection: { ...ASKED.introspection, opaque: false } },
      'without',
      false,
    ],
    ['no metadata, and its endpoint is configured', url(liar), 'none', true],
    ['no metadata, and no endpoint', ASKED, 'none', false],
    ['away: nobody knows whether it has keys', url(liar), 'down', false],
  ]
  for (const [what, settings, metadata, ready] of rows) {
    const { issuer, keys, find, close } = await setUp(settings as Record<string, unknown>)
    if (metadata === 'none') issuer.says.metadata = say({}, 404)
    if (metadata === 'down') issuer.says.metadata = say({}, 503)
    await keys.start()
    t.equal(keys.isReady(), ready, what)
    t.match(keys.health(), [{ issuer: issuer.url, isReady: ready, keysAgeSeconds: undefined }])
    t.equal(await find('any'), ready ? 'token-invalid' : 'issuer-unavailable', 'no JWT is let in')
    await close()
  }
})

t.test('/readyz of a gateway whose issuer has no keys, and a token of it', async (t) => {
  const liar = await startLiar()
  const jwt = (claims: object, header: object = {}): string =>
    [{ alg: 'HS256', ...header }, { iss: liar.url, ...claims }, 1]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.')
  const gateway = await startGateway({
    handler: json('{"resourceType":"Patient","id":"p1"}'),
    config: { issuers: [{ url: liar.url, ...ASKED }] },
  })
  t.teardown(() => Promise.all([gateway.close(), liar.close()]))
  const ready = await fetch(`${gateway.adminUrl}/readyz`)
  t.equal(ready.status, 200)
  t.match(await ready.json(), { status: 'ready', checks: { issuers: true } })
  const ask = async (token: string): Promise<number> => {
    const headers = { authorization: `Bearer ${token}` }
    return (await fetch(`${gateway.url}/Patient/p1`, { headers })).status
  }
  t.equal(await ask('opaque'), 200)
  t.equal(liar.questions(), 1)
  t.equal(await ask(jwt({})), 200, 'what it looks like is the issuer’s own affair')
  t.equal(liar.questions(), 2)
  t.equal(await ask(jwt({ iss: 'https://other.example' })), 401, 'it is not told of others’ tokens')
  t.equal(await ask(jwt({ nonce: 'n' })), 401, 'an ID token')
  t.equal(await ask(jwt({}, { typ: 'refresh+jwt' })), 401, 'a refresh token')
  t.equal(liar.questions(), 2)
  const metrics = await gateway.metrics()
  t.ok(metrics.includes(`fhirewall_issuer_ready{issuer="${liar.url}"} 1\n`))
  t.notMatch(metrics, /fhirewall_issuer_keys_age_seconds\{/)
})

t.test(
  'whatever an issuer says, its keys stay as long as they are believed (AUTHN-10)',
  async (t) => {
    const many = (count: number) => ({
      keys: Array.from({ length: count }, (_, at) => ({ ...GOOD, kid: `k${at}` })),
    })
    const { issuer, keys, find, time, close } = await setUp(ASKED)
    t.teardown(close)
    const { says, withKeys, metadata, url } = issuer
    says.metadata = say(withKeys)
    says.keys = say(many(100))
    await keys.start()
    t.equal(await find('k99'), 'found', 'a hundred keys')
    const generation = keys.generation(url)
    const pour: Say = (response) => {
      response.writeHead(200, { 'content-type': 'application/json' })
      const more = (): void => {
        while (!response.destroyed && response.write(' '.repeat(65_536))) continue
      }
      response.on('drain', more)
      more()
    }
    const lies: [what: string, metadata: Say, keys?: Say][] = [
      ['101 keys', say(withKeys), say(many(101))],
      ['a quarter of a megabyte', say(withKeys), say({ keys: [GOOD], x: 'x'.repeat(262_144) })],
      ['no keys', say(withKeys), say({ keys: [] })],
      [
        'no key that can verify',
        say(withKeys),
        say({
          keys: [
            { kty: 'oct', k: 'AAAA' },
            { ...GOOD, use: 'enc' },
            { ...GOOD, key_ops: ['encrypt'] },
          ],
        }),
      ],
      ['an RSA key of 1024 bits', say(withKeys), say({ keys: [jwk('short', 1024)] })],
      ['keys are no list', say(withKeys), say({ keys: { 0: GOOD } })],
      ['null', say(withKeys), say('null')],
      ['a page', say(withKeys), say('<html>')],
      ['a fault', say(withKeys), say({ keys: [GOOD] }, 500)],
      [
        'half an answer',
        say(withKeys),
        (response) => {
          response.writeHead(200, { 'content-length': '100' })
          response.write('{"keys":[')
          setTimeout(() => response.destroy(), 20)
        },
      ],
      [
        'a redirect',
        say(withKeys),
        (response) => response.writeHead(302, { location: `${url}/other` }).end(),
      ],
      ['another issuer', say({ ...withKeys, issuer: 'https://evil.example' })],
      ['keys at a place that cannot be', say({ ...withKeys, jwks_uri: 'file:///etc/passwd' })],
      ['suddenly no jwks_uri', say(metadata)],
      ['suddenly no metadata', say({}, 404)],
      ['metadata that fills the memory', say({ ...withKeys, x: 'x'.repeat(262_144) })],
      ['metadata without end', pour],
      ['keys without end', say(withKeys), pour],
      ['metadata that is a page', say('<html>')],
    ]
    for (const [what, saysMetadata, saysKeys = say({ keys: [GOOD] })] of lies) {
      says.metadata = saysMetadata
      says.keys = saysKeys
      await keys.start()
      t.equal(keys.generation(url), generation, what)
      t.equal(await find('k99'), 'found', what)
    }
    t.ok(keys.isReady())
    time.offset = 3_601_000
    t.notOk(keys.isReady(), 'an hour later they are not believed')
    t.match(keys.health(), [{ isReady: false }])
    t.ok((keys.health()[0]?.keysAgeSeconds ?? 0) >= 3600, 'and their age is told')
    t.equal(await find('k99'), 'issuer-unavailable')
  },
)

t.test(
  'an issuer that takes its keys back ends what they vouched for (AUTHN-10, AUTHN-18)',
  async (t) => {
    const { issuer, keys, find, time, close } = await setUp({})
    t.teardown(close)
    issuer.says.metadata = say(issuer.withKeys)
    issuer.says.keys = say({ keys: [{ ...GOOD, kid: 'good' }] })
    await keys.start()
    const generation = keys.generation(issuer.url)
    issuer.says.keys = say({ keys: [] })
    await keys.start()
    t.equal(await find('good'), 'found', 'for a moment it may be half up')
    time.offset = 60_001
    await keys.start()
    t.equal(await find('good'), 'issuer-unavailable')
    t.not(keys.generation(issuer.url), generation, 'and no remembered token is believed')
    t.notOk(keys.isReady())
    issuer.says.keys = say({ keys: [{ ...GOOD, kid: 'new' }] })
    await keys.start()
    t.equal(await find('new'), 'found')
    t.equal(await find('good'), 'token-invalid')
    time.offset = -86_400_000
    issuer.says.keys = say({ keys: [{ ...GOOD, kid: 'newer' }] })
    t.equal(await find('newer'), 'found', 'a clock that was set back keeps no new key away')
  },
)

t.test('unknown kids are counted, and fetch once in ten seconds (AUTHN-10)', async (t) => {
  const { issuer, keys, find, time, unknown, close } = await setUp({})
  t.teardown(close)
  issuer.says.metadata = say(issuer.withKeys)
  await keys.start()
  t.equal(issuer.asked(), 1)
  const flood = async () =>
    Promise.all(Array.from({ length: 300 }, async (_, at) => find(`random-${at}`)))
  t.same(new Set(await flood()), new Set(['token-invalid']))
  t.equal(issuer.asked(), 1, 'just fetched')
  time.offset = 10_001
  await flood()
  await flood()
  t.equal(issuer.asked(), 2)
  issuer.says.keys = say({}, 500)
  time.offset = 20_002
  await flood()
  await flood()
  t.equal(issuer.asked(), 3, 'a fetch that fails is none the less one')
  t.equal(unknown.length, 1500)
  t.same(new Set(unknown), new Set([issuer.url]))
})

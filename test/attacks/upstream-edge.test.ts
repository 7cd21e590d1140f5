import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { ServerOptions } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TLSSocket } from 'node:tls'
import type { PeerCertificate } from 'node:tls'
import fc from 'fast-check'
import { decodeProtectedHeader, jwtVerify } from 'jose'
import Provider from 'oidc-provider'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { createClientCredentials } from '../../src/adapters/client-credentials.ts'
import { configSchema } from '../../src/config/schema.ts'
import { createCertificates } from '../support/certificates.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { until } from '../support/redis.ts'
import { json } from '../support/upstream.ts'

// The way to upstream (AUTHN-19, AUTHN-20, HTTP-1, HTTP-3): who we are there, and what is said of others.
const PATIENT = '{"resourceType":"Patient","id":"p1"}'
const CLAIMS = { scope: 'patient/*.rs', patient: 'p1', roles: ['nurse'], purpose_of_use: 'TREAT' }
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-edge-'))
const certificates = createCertificates(folder)
const OURS = ['accept', 'accept-encoding', 'connection', 'host', 'via', 'x-request-id']

/** Writes a file as a whole, in one step. */
function put(name: string, text: string | Buffer): string {
  const file = join(folder, name)
  writeFileSync(`${file}.new`, text)
  renameSync(`${file}.new`, file)
  return file
}

async function setUp(upstream: Record<string, unknown> = {}, options: object = {}) {
  const gateway = await startGateway({ handler: json(PATIENT), config: { upstream }, ...options })
  const token = await gateway.token(CLAIMS)
  const read = async (headers: Record<string, string> = {}) => {
    const answer = await fetch(`${gateway.url}/Patient/p1`, {
      headers: { authorization: `Bearer ${token}`, ...headers },
    })
    return { status: answer.status, text: await answer.text() }
  }
  const seen = () => gateway.upstream.received.at(-1)?.headers ?? {}
  return { gateway, token, read, seen }
}

t.test('no header and no token of a caller ever goes up (AUTHN-19, HTTP-1, HTTP-3)', async (t) => {
  const { gateway, token, read, seen } = await setUp()
  t.teardown(() => gateway.close())
  const names = fc.oneof(
    fc.constantFrom(
      ...'Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Proto X-Forwarded-Prefix X-Real-IP'.split(
        ' ',
      ),
      ...'Client-Cert X-Client-Cert X-SSL-Client-Cert X-User X-Remote-User X-Consent-Scope'.split(
        ' ',
      ),
      ...'X-FHIRewall-Assertion X-Security-Context X-Cascade X-HTTP-Method-Override Cookie'.split(
        ' ',
      ),
      ...'Proxy-Authorization DPoP Via Traceparent If-None-Match Accept-Language'.split(' '),
    ),
    fc.stringMatching(/^X-[A-Za-z]{1,20}$/),
  )
  const value = fc.stringMatching(/^[a-z0-9=;:.-]{0,20}$/).map((text) => `CANARY${text}`)
  const headers = fc.array(fc.tuple(names, value), { maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(headers, async (pairs) => {
      gateway.upstream.received.length = 0
      await read(Object.fromEntries(pairs))
      for (const { headers, rawHeaders } of gateway.upstream.received) {
        if (JSON.stringify(rawHeaders).includes('CANARY')) return false
        if (Object.keys(headers).some((name) => !OURS.includes(name))) return false
      }
      return true
    }),
    { numRuns: 100 },
  )
  await read()
  t.notMatch(JSON.stringify(seen()), token)
})

t.test('credentials from files, which change (AUTHN-19)', async (t) => {
  const rows = [
    [
      'basic',
      'gateway:päss word\n',
      'gateway:new',
      (text: string) => `Basic ${Buffer.from(text.trim()).toString('base64')}`,
    ],
    ['bearer', 'abc.DEF-1=\n', 'def', (text: string) => `Bearer ${text.trim()}`],
  ] as const
  const change = async ([kind, first, second, wanted]: (typeof rows)[number]) => {
    const secretFile = put(kind, first)
    const { gateway, token, read, seen } = await setUp({ credentials: { kind, secretFile } })
    t.equal((await read()).status, 200)
    t.equal(seen().authorization, wanted(first), kind)
    put(kind, 'two\nlines')
    await until(() => gateway.log.some((line) => line.includes('the old stay')))
    await read()
    t.equal(seen().authorization, wanted(first), 'what is of no use is not used')
    put(kind, second)
    await until(async () => {
      await read()
      return seen().authorization === wanted(second)
    })
    t.notMatch(JSON.stringify(gateway.upstream.received), token)
    t.notMatch(gateway.log.join('\n'), /päss|abc\.DEF|lines/)
    await gateway.close()
  }
  await Promise.all(rows.map(change))
})

/** A token endpoint that does as it is told. */
async function startTokenEndpoint() {
  let count = 0
  const endpoint = {
    lasts: 3600,
    fail: undefined as ((response: ServerResponse) => void) | undefined,
    requests: [] as string[],
  }
  const server = createHttpServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => (body += String(chunk)))
    request.on('end', () => {
      endpoint.requests.push(`${request.headers.authorization ?? ''} ${body}`)
      if (endpoint.fail !== undefined) return endpoint.fail(response)
      response.setHeader('content-type', 'application/json')
      const access_token = `own-${++count}`
      response.end(
        JSON.stringify({ access_token, token_type: 'Bearer', expires_in: endpoint.lasts }),
      )
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  return {
    endpoint,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`,
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

t.test(
  'client credentials: fetched once, kept, renewed ahead, and 503 without (AUTHN-19)',
  async (t) => {
    const { endpoint, url, ...server } = await startTokenEndpoint()
    const secretFile = put('client', 'clientCANARY')
    const credentials = configSchema.shape.upstream.shape.credentials.parse({
      ...{ kind: 'client-credentials', tokenUrl: url, clientId: 'gateway', secretFile },
      ...{ scope: 'system/*.cruds', resource: 'https://fhir.example/base' },
    })
    let now = 1_000_000
    const said: string[] = []
    const write = (fields: object, message: string) => said.push(JSON.stringify(fields) + message)
    const own = createClientCredentials(credentials, {
      log: { debug: write, info: write, warn: write, error: write },
      now: () => now,
    })
    t.teardown(async () => {
      own.close()
      await server.close()
    })
    t.notOk(own.isReady())
    const all = await Promise.all(Array.from({ length: 50 }, async () => own.authorization()))
    t.strictSame([...new Set(all)], ['Bearer own-1'])
    t.equal(endpoint.requests.length, 1, 'one flight for all who wait')
    const basic = Buffer.from('gateway:clientCANARY').toString('base64')
    t.match(endpoint.requests[0], `Basic ${basic} `)
    t.match(endpoint.requests[0], 'grant_type=client_credentials')
    t.match(endpoint.requests[0], 'scope=system%2F*.cruds')
    t.match(endpoint.requests[0], 'resource=https')
    own.rejected()
    t.equal(endpoint.requests.length, 1, 'upstream’s 401 is no lever')

    const failures: Record<string, (response: ServerResponse) => void> = {
      'an error': (response) => response.writeHead(500).end('CANARY'),
      'a redirect': (response) =>
        response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      'no token': (response) => response.setHeader('content-type', 'application/json').end('{}'),
      'a token that would split the header': (response) =>
        response
          .setHeader('content-type', 'application/json')
          .end('{"access_token":"a\\r\\nX-CANARY: 1","token_type":"Bearer"}'),
      'another type of token': (response) =>
        response
          .setHeader('content-type', 'application/json')
          .end('{"access_token":"a","token_type":"DPoP"}'),
      'the end of the connection': (response) => response.destroy(),
    }
    for (const [what, fail] of Object.entries(failures)) {
      endpoint.fail = fail
      await own.start()
      t.equal(await own.authorization(), 'Bearer own-1', `${what}: the last token serves on`)
    }
    now += 3_599_000
    t.notOk(own.isReady())
    const before = endpoint.requests.length
    await t.rejects(Promise.all([own.authorization(), own.authorization()]), /upstream-credentials/)
    t.ok(
      endpoint.requests.length - before <= 1,
      'a provider that is down is not asked by each request',
    )
    endpoint.fail = undefined
    await own.start()
    t.equal(await own.authorization(), 'Bearer own-2')
    now += 60_000
    own.rejected()
    await until(() => own.authorization() === 'Bearer own-3')
    t.notMatch(said.join('\n'), 'CANARY')
    t.match(said.join('\n'), /"attempt":6/)
  },
)

t.test(
  'client credentials, end to end: ahead of the end, 503 without, nothing leaks',
  async (t) => {
    const { endpoint, url, ...server } = await startTokenEndpoint()
    endpoint.lasts = 4
    const secretFile = put('client', 'clientCANARY')
    const credentials = {
      kind: 'client-credentials',
      tokenUrl: url,
      clientId: 'gateway',
      secretFile,
    }
    const { gateway, token, read, seen } = await setUp({ credentials })
    t.teardown(async () => {
      await gateway.close()
      await server.close()
    })
    t.equal((await read()).status, 200)
    t.match(seen().authorization, /^Bearer own-\d+$/)
    await until(() => endpoint.requests.length >= 2)
    t.pass('renewed without a request that needs it')
    endpoint.fail = (response) => response.writeHead(500).end('CANARY')
    await until(async () => (await read()).status === 503)
    gateway.upstream.received.length = 0
    const { status, text } = await read()
    t.equal(status, 503)
    t.match(text, /"code":"upstream-credentials"/)
    t.notMatch(text, /CANARY|127\.0\.0\.1/)
    t.strictSame(gateway.upstream.received, [], 'nothing goes up without credentials')
    t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 503)
    endpoint.fail = undefined
    await until(async () => (await read()).status === 200)
    t.match(
      await gateway.metrics(),
      /fhirewall_upstream_token_fetches_total\{result="failed"\} [1-9]/,
    )
    t.notMatch(gateway.log.join('\n'), 'CANARY')
    t.notMatch(JSON.stringify(gateway.upstream.received), token)
  },
)

t.test(
  'client credentials by a signature, from a real provider (SMART Backend Services)',
  async (t) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const keyFile = put('es384', privateKey.export({ type: 'sec1', format: 'pem' }))
    const server = createHttpServer()
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const resource = 'https://fhir.example/base'
    const provider = new Provider(issuer, {
      scopes: ['system/*.cruds'],
      clients: [
        {
          client_id: 'gateway',
          token_endpoint_auth_method: 'private_key_jwt',
          token_endpoint_auth_signing_alg: 'ES384',
          jwks: { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1' }] },
          grant_types: ['client_credentials'],
          redirect_uris: [],
          response_types: [],
          scope: 'system/*.cruds',
        },
      ],
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: () => ({
            scope: 'system/*.cruds',
            audience: resource,
            accessTokenTTL: 300,
            accessTokenFormat: 'jwt',
          }),
        },
      },
      enabledJWA: { clientAuthSigningAlgValues: ['ES384'] },
    })
    server.on('request', provider.callback())
    const credentials = {
      kind: 'client-credentials',
      issuer,
      clientId: 'gateway',
      keyFile,
      keyId: 'k1',
    }
    const { gateway, read, seen } = await setUp({
      credentials: { ...credentials, algorithm: 'ES384', scope: 'system/*.cruds', resource },
    })
    t.teardown(async () => {
      await gateway.close()
      server.closeAllConnections()
      server.close()
    })
    t.equal((await read()).status, 200)
    const [, body = ''] = String(seen()['authorization']).split('.')
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as Record<string, unknown>
    t.match(claims, { iss: issuer, aud: resource, client_id: 'gateway', scope: 'system/*.cruds' })
  },
)

t.test('an assertion names who asks, for a minute, in our own words', async (t) => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const keyFile = put('es256', privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const assertion = { keyFile, keyId: 'a1', algorithm: 'ES256', header: 'X-Who' }
  const { gateway, token, read, seen } = await setUp({ assertion, forwardedFor: 'forwarded' })
  t.teardown(() => gateway.close())
  const spoofed = { 'x-who': 'CANARY', forwarded: 'for=CANARY', 'x-request-id': 'request-1' }
  t.equal((await read(spoofed)).status, 200)
  const sent = seen()
  t.strictSame(Object.keys(sent).sort(), [...OURS, 'forwarded', 'x-who'].sort())
  t.equal(sent['forwarded'], 'for=127.0.0.1')
  const text = String(sent['x-who'])
  const { payload } = await jwtVerify(text, publicKey, {
    ...{ issuer: PUBLIC_URL, audience: gateway.upstream.url, algorithms: ['ES256'] },
  })
  t.equal(decodeProtectedHeader(text).kid, 'a1')
  t.equal((payload.exp ?? 0) - (payload.iat ?? 0), 60)
  t.match(payload, { sub: 'person-1', sub_iss: gateway.issuer.url, client_id: 'app-1' })
  t.match(payload, { roles: ['nurse'], purpose_of_use: ['TREAT'], exchange_id: 'request-1' })
  t.notMatch(JSON.stringify(sent), token)
  await read({ 'x-request-id': 'request-1' })
  t.not(seen()['x-who'], text, 'each exchange has its own')
})

t.test(
  'the caller’s token goes up only when configured and meant for upstream (AUTHN-19)',
  async (t) => {
    const upstreamAudience = 'https://fhir.example/base'
    const { gateway } = await setUp({ forwardToken: true, audience: upstreamAudience })
    t.teardown(() => gateway.close())
    for (const [what, aud, status] of [
      ['for us alone', PUBLIC_URL, 401],
      ['for us and another', [PUBLIC_URL, 'https://other.example'], 401],
      ['for us and something like it', [PUBLIC_URL, `${upstreamAudience}/`], 401],
      ['for both', [PUBLIC_URL, upstreamAudience], 200],
      ['for upstream alone', upstreamAudience, 401],
    ] as const) {
      gateway.upstream.received.length = 0
      const token = await gateway.token({ ...CLAIMS, aud })
      const authorization = `Bearer ${token}`
      const answer = await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization } })
      t.equal(answer.status, status, what)
      const sent = gateway.upstream.received.map(({ headers }) => headers.authorization)
      t.strictSame(sent, status === 200 ? [authorization] : [], what)
    }
  },
)

/** An upstream over TLS that tells by which certificates it was asked. */
async function startTlsUpstream(options: ServerOptions) {
  const peers: string[] = []
  const received: string[] = []
  const server = createServer(options, (request, response) => {
    received.push(request.url ?? '')
    const { socket } = request
    if (socket instanceof TLSSocket) {
      // Without a certificate there is no subject, whatever the type says.
      const { subject } = socket.getPeerCertificate() as Partial<PeerCertificate>
      peers.push(String(subject?.CN))
    }
    json(PATIENT)(undefined as never, response, request)
  })
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return {
    url: `https://127.0.0.1:${port}/base`,
    peers,
    received,
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

t.test('a bad certificate of upstream is 502, and nothing is said before (AUTHN-20)', async (t) => {
  const strangers = createCertificates(folder, 'strangers')
  // The one variable that opens all of Node.js must not open this.
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
  t.teardown(() => delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'])
  const yesterday = new Date(Date.now() - 60_000)
  const tomorrow = new Date(Date.now() + 3_600_000)
  const old = { ciphers: 'DEFAULT@SECLEVEL=0', minVersion: 'TLSv1', maxVersion: 'TLSv1.1' } as const
  for (const [what, pair, options, status] of [
    ['good', certificates.issue('good'), {}, 200],
    ['expired', certificates.issue('expired', { to: yesterday }), {}, 502],
    ['of tomorrow', certificates.issue('tomorrow', { from: tomorrow }), {}, 502],
    ['self-signed', certificates.issue('self', { isSelfSigned: true }), {}, 502],
    ['another authority', strangers.issue('strange'), {}, 502],
    ['another name', certificates.issue('other', { names: ['DNS:other.example'] }), {}, 502],
    ['TLS 1.1', certificates.issue('eleven'), old, 502],
  ] as const) {
    const upstream = await startTlsUpstream({
      ...{ cert: readFileSync(pair.cert), key: readFileSync(pair.key), ...options },
    })
    const { gateway, read } = await setUp(
      { caFile: certificates.ca },
      { upstreamUrl: upstream.url, config: { upstream: { caFile: certificates.ca } } },
    )
    const answer = await read()
    t.equal(answer.status, status, what)
    t.notMatch(answer.text, /certificate|CERT|ALTNAME|SSL|TLS|127\.0\.0\.1|other\.example/i, what)
    if (status !== 200) t.strictSame(upstream.received, [], `${what}: no request left us`)
    await gateway.close()
    await upstream.close()
  }
})

t.test('our own certificate for upstream changes under load, and no request is lost', async (t) => {
  const own = certificates.issue('gateway-1')
  const server = certificates.issue('upstream')
  const upstream = await startTlsUpstream({
    cert: readFileSync(server.cert),
    key: readFileSync(server.key),
    ca: readFileSync(certificates.ca),
    requestCert: true,
    rejectUnauthorized: true,
  })
  const certificateFile = put('own.pem', readFileSync(own.cert))
  const keyFile = put('own.key', readFileSync(own.key))
  const tls = { caFile: certificates.ca, certificateFile, keyFile }
  const { gateway, read } = await setUp(
    {},
    { upstreamUrl: upstream.url, config: { upstream: tls } },
  )
  t.teardown(async () => {
    await gateway.close()
    await upstream.close()
  })
  let isOver = false
  const statuses = new Set<number>()
  const load = Array.from({ length: 8 }, async () => {
    for (; !isOver; await pause(40)) statuses.add((await read()).status)
  })
  const next = certificates.issue('gateway-2')
  put('own.pem', readFileSync(next.cert))
  await until(() => gateway.log.some((line) => line.includes('the old stay')))
  put('own.key', readFileSync(next.key))
  await until(() => upstream.peers.includes('gateway-2'))
  isOver = true
  await Promise.all(load)
  t.strictSame([...statuses], [200])
  await read()
  t.equal(upstream.peers.at(-1), 'gateway-2')
  t.match(await gateway.metrics(), /fhirewall_upstream_certificate_remaining_seconds [1-9]\d{4}/)
})

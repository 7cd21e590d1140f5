import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// What stands open, and to whom (DISC-1 to 5, AUTHN-15).
const APP = 'https://app.example'
const FOREIGN = 'https://evil.example'
const METADATA = '/metadata'
const SMART = '/.well-known/smart-configuration'
const RESOURCE = '/.well-known/oauth-protected-resource'

async function setUp() {
  const gateway = await startGateway({
    handler: json('{"resourceType":"Patient","id":"p1"}'),
    config: { cors: { origins: [APP] } },
  })
  const host = gateway.url.replace(/\/fhir$/, '')
  return { gateway, host }
}

t.test('preflight: by origin and place; upstream is never asked (DISC-5)', async (t) => {
  const { gateway } = await setUp()
  t.teardown(() => gateway.close())
  // prettier-ignore
  const rows: [origin: string, target: string, allowed: string | null, withToken: boolean][] = [
    [APP,     '/Patient/p1', APP,  true],
    [APP,     METADATA,      APP,  true],
    [FOREIGN, '/Patient/p1', null, false],
    ['null',  '/Patient/p1', null, false],
    [`${APP}.evil.example`, '/Patient/p1', null, false],
    ['https://APP.example', '/Patient/p1', null, false],
    ['http://app.example',  '/Patient/p1', null, false],
    [FOREIGN, METADATA,      '*',  false],
    [FOREIGN, SMART,         '*',  false],
    [FOREIGN, RESOURCE,      '*',  false],
    [FOREIGN, '/Patient?x=/metadata', null, false],
  ]
  for (const [origin, target, allowed, withToken] of rows) {
    const answer = await fetch(gateway.url + target, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'GET',
        'access-control-request-headers': 'authorization',
      },
    })
    const line = `${origin} ${target}`
    t.equal(answer.status, 204, line)
    t.equal(answer.headers.get('access-control-allow-origin'), allowed, line)
    const names = answer.headers.get('access-control-allow-headers') ?? ''
    t.equal(/authorization/i.test(names), withToken, `${line}: token`)
    t.notOk(answer.headers.has('access-control-allow-credentials'), line)
    t.match(answer.headers.get('vary'), /Origin/, line)
  }
  const unregistered = await fetch(gateway.url, {
    method: 'OPTIONS',
    headers: { origin: FOREIGN, 'access-control-request-method': 'GET' },
  })
  t.equal(unregistered.headers.get('access-control-allow-origin'), null)
  const plain = await fetch(`${gateway.url}/Patient/p1`, { method: 'OPTIONS' })
  t.ok(plain.status >= 400, 'OPTIONS that is no preflight is no interaction')
  t.strictSame(gateway.upstream.received, [])
})

t.test(
  'what the server is, and which versions it speaks, anybody may ask (AUTHN-1, §8)',
  async (t) => {
    const { gateway } = await setUp()
    t.teardown(() => gateway.close())
    const ask = async (method: string, target: string) => {
      const answer = await fetch(gateway.url + target, { method })
      return { status: answer.status, text: (await answer.text()).replace(/"date":"[^"]*"/, '') }
    }
    const metadata = await ask('GET', METADATA)
    t.strictSame(await ask('OPTIONS', ''), metadata)
    const versions = await ask('GET', '/$versions')
    t.equal(versions.status, 200)
    t.strictSame(JSON.parse(versions.text), {
      resourceType: 'Parameters',
      parameter: [
        { name: 'version', valueCode: '4.0' },
        { name: 'default', valueCode: '4.0' },
      ],
    })
    t.strictSame(await ask('HEAD', '/$versions'), { status: 200, text: '' })
    for (const [method, target, status] of [
      ['POST', '/$versions', 401],
      ['GET', '/Patient/$versions', 401],
      ['GET', '/$versions?x=1', 400],
      ['OPTIONS', '?_type=Patient', 400],
      ['OPTIONS', '/metadata', 405],
      ['GET', '', 401],
    ] as const)
      t.equal((await ask(method, target)).status, status, `${method} ${target}`)
    t.strictSame(gateway.upstream.received, [])

    const old = await startGateway({ config: { fhir: { version: 'STU3' } }, fhirVersion: '3.0.2' })
    t.teardown(() => old.close())
    t.equal((await fetch(`${old.url}/$versions`)).status, 401, 'which STU3 does not know')
  },
)

t.test(
  'every answer has a request id and safe headers, whoever asks for what (HTTP-5, HTTP-6)',
  async (t) => {
    const { gateway, host } = await setUp()
    t.teardown(() => gateway.close())
    const places: [url: string, init?: RequestInit][] = [
      [`${gateway.url}/Patient/p1`],
      [gateway.url + METADATA],
      [gateway.url + SMART],
      [gateway.url + RESOURCE],
      [`${host}/elsewhere`],
      [gateway.url + SMART, { method: 'POST' }],
    ]
    for (const [url, init] of places) {
      const line = `${init?.method ?? 'GET'} ${url}`
      const mine = await fetch(url, { ...init, headers: { 'x-request-id': 'my-own-id-1' } })
      const id = url.endsWith('/elsewhere') ? /^[\da-f-]{36}$/ : 'my-own-id-1'
      t.match(mine.headers.get('x-request-id'), id, line)
      t.equal(mine.headers.get('x-content-type-options'), 'nosniff', line)
      t.equal(mine.headers.get('cache-control'), 'no-store', line)
      t.notOk(mine.headers.has('strict-transport-security'), `${line}: no TLS here`)
      const hostile = await fetch(url, { ...init, headers: { 'x-request-id': '<script>' } })
      t.match(hostile.headers.get('x-request-id'), /^[\da-f-]{36}$/, line)
    }
    const preflight = await fetch(`${gateway.url}/Patient/p1`, {
      method: 'OPTIONS',
      headers: {
        origin: APP,
        'access-control-request-method': 'GET',
        'x-request-id': 'my-own-id-2',
      },
    })
    t.equal(preflight.headers.get('x-request-id'), 'my-own-id-2')
  },
)

t.test('a registered origin reads answers and refusals; another neither', async (t) => {
  const { gateway } = await setUp()
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  for (const [origin, allowed] of [
    [APP, APP],
    [FOREIGN, null],
  ] as const) {
    for (const headers of [{ authorization: `Bearer ${token}` }, {}]) {
      const answer = await fetch(`${gateway.url}/Patient/p1`, { headers: { origin, ...headers } })
      t.equal(answer.headers.get('access-control-allow-origin'), allowed, origin)
      const exposed = answer.headers.get('access-control-expose-headers') ?? ''
      t.equal(exposed.includes('ETag'), allowed !== null)
      t.match(answer.headers.get('vary'), /Origin/)
      t.notOk(answer.headers.has('access-control-allow-credentials'))
      await answer.text()
    }
  }
})

t.test('protected resource metadata, where a challenge says it is (RFC 9728)', async (t) => {
  const { gateway, host } = await setUp()
  t.teardown(() => gateway.close())
  for (const url of [`${host}${RESOURCE}/fhir`, `${gateway.url}${RESOURCE}`]) {
    const answer = await fetch(url, { headers: { origin: FOREIGN, accept: 'text/html' } })
    t.equal(answer.status, 200, url)
    t.match(answer.headers.get('content-type'), /^application\/json/)
    t.equal(answer.headers.get('access-control-allow-origin'), '*')
    t.match(await answer.json(), {
      resource: 'http://127.0.0.1:9/fhir',
      authorization_servers: [gateway.issuer.url],
      bearer_methods_supported: ['header'],
    })
  }
  const refused = await fetch(`${gateway.url}/Patient/p1`)
  const challenge = refused.headers.get('www-authenticate') ?? ''
  t.match(challenge, `resource_metadata="http://127.0.0.1:9${RESOURCE}/fhir"`)
  t.match(challenge, /^Bearer realm="[^"]+", resource_metadata="[^"]+"$/, 'and no error code')
})

t.test('whatever takes JSON among others is answered (REST-14, RFC 9110 §12.5.1)', async (t) => {
  const { gateway } = await setUp()
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.r', patient: 'p1' })
  const ranges: readonly (readonly [accept: string, status: number])[] = [
    ['*/*', 200],
    ['*/*;q=0.8', 200],
    ['application/*', 200],
    ['text/html, */*', 200],
    ['text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8', 200],
    ['text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2', 200],
    ['APPLICATION/FHIR+JSON; fhirVersion=4.0', 200],
    ['*/*;q=0', 406],
    ['text/*', 406],
    ['application/fhir+xml', 406],
  ]
  for (const [accept, status] of ranges) {
    const headers = { accept, authorization: `Bearer ${token}` }
    const answer = await fetch(`${gateway.url}/Patient/p1`, { headers })
    t.equal(answer.status, status, accept)
    await answer.text()
  }
})

t.test(
  'what scope would do is in the challenge, and nothing else (AUTHN-2, RFC 6750 §3)',
  async (t) => {
    const { gateway } = await setUp()
    t.teardown(() => gateway.close())
    const patient = { patient: 'p1' }
    const staff = { fhirUser: 'Practitioner/d1' }
    // prettier-ignore
    const rows: [claims: object, method: string, target: string, scope: string | undefined][] = [
    [{ ...patient, scope: 'patient/Observation.rs' }, 'GET', '/Patient/p1', 'patient/Patient.r'],
    [{ ...patient, scope: 'patient/Patient.r' }, 'GET', '/Patient', 'patient/Patient.s'],
    [{ ...staff, scope: 'user/Patient.rs' }, 'DELETE', '/Patient/p1', 'user/Patient.d'],
    [{ ...staff, scope: 'user/Observation.rs?code:in=a' }, 'GET', '/Observation/o1', 'user/Observation.r'],
    [{ sub: 'app-1', scope: 'openid' }, 'GET', '/Patient/p1', 'system/Patient.r'],
    // No scope would do for whom no level is meant.
    [{ scope: 'patient/*.rs' }, 'GET', '/Patient/p1', undefined],
  ]
    for (const [claims, method, target, scope] of rows) {
      const answer = await fetch(gateway.url + target, {
        method,
        headers: { authorization: `Bearer ${await gateway.token({ ...claims })}` },
      })
      const challenge = answer.headers.get('www-authenticate') ?? ''
      t.equal(answer.status, 403, target)
      t.match(challenge, /error="insufficient_scope"/, target)
      t.equal(
        /scope="([^"]*)"/.exec(challenge.replace('insufficient_scope', ''))?.[1],
        scope,
        target,
      )
    }
  },
)

t.test('ids of the caller come back as they came, when they are safe (HTTP-6)', async (t) => {
  const { gateway } = await setUp()
  t.teardown(() => gateway.close())
  for (const [sent, isSafe] of [
    ['a', true],
    ['req-1.A_b', true],
    ['x'.repeat(64), true],
    ['x'.repeat(65), false],
    ['a b', false],
    ['${a}', false],
  ] as const) {
    const { headers } = await fetch(`${gateway.url}/Patient/p1`, {
      headers: { 'x-request-id': sent, 'x-correlation-id': sent },
    })
    t.equal(headers.get('x-request-id') === sent, isSafe, sent)
    t.equal(headers.get('x-correlation-id'), isSafe ? sent : null, sent)
  }
})

t.test(
  'who passes on says so: Via upstream, and a stamp on what is masked (REST-23)',
  async (t) => {
    const { gateway } = await setUp()
    t.teardown(() => gateway.close())
    const headers = {
      authorization: `Bearer ${await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })}`,
    }
    const plain = '{"resourceType":"Patient","id":"p1"}'
    const masked =
      '{"resourceType":"Patient","id":"p1","identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"123-45-6789"}]}'
    const bundle = (entry: string): string =>
      `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${entry}}]}`
    for (const [body, target, isStamped] of [
      [plain, '/Patient/p1', false],
      [masked, '/Patient/p1', true],
      [bundle(plain), '/Patient', false],
      [bundle(masked), '/Patient', true],
    ] as const) {
      gateway.upstream.answerWith(json(body))
      for (const method of ['GET', 'HEAD']) {
        const answer = await fetch(gateway.url + target, { method, headers })
        await answer.arrayBuffer()
        const stamp = answer.headers.get('response-modified-fhirewall')
        t.equal(stamp, isStamped ? 'masking' : null, `${method} ${body}`)
        t.equal(gateway.upstream.received.at(-1)?.headers['via'], '1.1 fhirewall')
      }
    }
  },
)

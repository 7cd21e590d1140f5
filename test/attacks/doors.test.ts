import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { HOSTILE_TARGETS } from '../support/hostile-targets.ts'
import { json } from '../support/upstream.ts'

// pitfalls §1 rows 1, 5, 28, 35, 37 and §3 find-my-way, reply-from: what upstream received equals
// what was authorised, and of what does not parse upstream sees nothing.
t.test('hostile targets never reach upstream (REST-1, REST-2)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const token = await gateway.token({
    scope: 'user/*.cruds system/*.cruds patient/*.cruds',
    patient: 'p1',
    fhirUser: 'Practitioner/d1',
  })
  for (const { name, method, target } of HOSTILE_TARGETS) {
    if (/[\s]/.test(target)) continue
    const path = target.startsWith('/') || target.startsWith('?') ? `/fhir${target}` : target
    const answer = await gateway.raw(
      `${method} ${path === '' ? '/fhir' : path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    )
    t.match(answer, /^HTTP\/1\.1 4\d\d /, `${name}: ${method} ${target.slice(0, 60)}`)
    t.match(answer, 'OperationOutcome', `${name}: an OperationOutcome`)
  }
  t.strictSame(
    gateway.upstream.received.map(({ target }) => target),
    [],
    'upstream saw nothing',
  )
})

const INTERACTIONS: [method: string, target: string][] = [
  ['GET', '/Patient/p1'],
  ['HEAD', '/Patient/p1'],
  ['GET', '/Patient/p1/_history/1'],
  ['PUT', '/Patient/p1'],
  ['PUT', '/Patient?identifier=a'],
  ['PATCH', '/Patient/p1'],
  ['PATCH', '/Patient?identifier=a'],
  ['DELETE', '/Patient/p1'],
  ['DELETE', '/Patient?identifier=a'],
  ['POST', '/Patient'],
  ['GET', '/Patient?name=a'],
  ['POST', '/Patient/_search'],
  ['GET', '?_type=Patient'],
  ['GET', '/Patient/p1/Observation'],
  ['GET', '/Patient/p1/_history'],
  ['GET', '/Patient/_history'],
  ['GET', '/_history'],
  ['POST', ''],
  ['GET', '/Patient/p1/$everything'],
  ['POST', '/$graphql'],
  ['GET', '?_getpages=abc'],
]

t.test(
  'every interaction without a token: 401 and upstream sees nothing (AUTHN-1, AUTHN-2)',
  async (t) => {
    const gateway = await startGateway()
    t.teardown(() => gateway.close())
    for (const [method, target] of INTERACTIONS) {
      const answer = await fetch(gateway.url + target, { method })
      t.equal(answer.status, 401, `${method} ${target}`)
      t.match(
        answer.headers.get('www-authenticate'),
        /^Bearer realm="[^"]+", resource_metadata="[^"]+"$/,
        'a bare challenge',
      )
      await answer.arrayBuffer()
    }
    // row 5: exemptions are exact; nothing in a query makes a request public
    for (const target of [
      '/Patient?name=/metadata',
      '/Patient/p1?x=/.well-known/smart-configuration',
      '/Patient/metadata',
    ]) {
      const answer = await fetch(gateway.url + target)
      t.ok(answer.status === 401 || answer.status === 400, `${target}: ${answer.status}`)
    }
    t.equal(gateway.upstream.received.length, 0)
    t.equal((await gateway.audit()).length, INTERACTIONS.length + 3, 'and each is recorded')
  },
)

t.test('no transfer coding but chunked, alone (HTTP-2)', async (t) => {
  const gateway = await startGateway({
    handler: (request, response, raw) => json(request.body, 201)(request, response, raw),
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const body = '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}'
  const send = async (coding: string): Promise<string> =>
    gateway.raw(
      `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/fhir+json\r\nConnection: close\r\nTransfer-Encoding: ${coding}\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`,
    )
  for (const coding of ['gzip, chunked', 'identity, chunked', 'chunked, chunked', 'gzip,chunked']) {
    t.match(await send(coding), /^HTTP\/1\.1 400 .*"header-malformed"/s, coding)
  }
  t.strictSame(gateway.upstream.received, [])
  for (const coding of ['chunked', 'Chunked']) t.match(await send(coding), /^HTTP\/1\.1 201 /)
})

t.test(
  'broken HTTP is refused, recorded, and the process stays up (HTTP-2, HTTP-4, INPUT-1)',
  async (t) => {
    const gateway = await startGateway()
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    const auth = `Authorization: Bearer ${token}\r\n`
    const rows: [string, string][] = [
      [
        'CL and TE',
        `POST /fhir/Patient HTTP/1.1\r\nHost: x\r\n${auth}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      ],
      [
        'two Content-Length',
        `POST /fhir/Patient HTTP/1.1\r\nHost: x\r\n${auth}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc`,
      ],
      [
        'obs-fold',
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${auth}X-A: b\r\n c\r\nConnection: close\r\n\r\n`,
      ],
      [
        'space before colon',
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${auth}X-A : b\r\nConnection: close\r\n\r\n`,
      ],
      [
        'two Host',
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nHost: y\r\n${auth}Connection: close\r\n\r\n`,
      ],
      ['no Host', `GET /fhir/Patient/p1 HTTP/1.0\r\n${auth}Connection: close\r\n\r\n`],
      [
        'two Authorization',
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${auth}${auth}Connection: close\r\n\r\n`,
      ],
      [
        'token in the query',
        `GET /fhir/Patient/p1?access_token=${token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
      ],
      ['TRACE', `TRACE /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${auth}Connection: close\r\n\r\n`],
      [
        'a GET with a body',
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${auth}Content-Length: 3\r\nConnection: close\r\n\r\nabc`,
      ],
      [
        'a large head',
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nX-A: ${'a'.repeat(70_000)}\r\n\r\n`,
      ],
      [
        'a long target',
        `GET /fhir/Patient?name=${'a'.repeat(10_000)} HTTP/1.1\r\nHost: x\r\n${auth}Connection: close\r\n\r\n`,
      ],
      [
        'absolute form',
        `GET http://evil.example/fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${auth}Connection: close\r\n\r\n`,
      ],
      [
        'outside the base path',
        `GET /other HTTP/1.1\r\nHost: x\r\n${auth}Connection: close\r\n\r\n`,
      ],
    ]
    for (const [name, bytes] of rows) {
      const answer = await gateway.raw(bytes)
      t.match(answer, /^HTTP\/1\.1 4\d\d /, name)
      t.match(answer, 'OperationOutcome', `${name}: says what to do`)
      t.notMatch(answer, token, `${name}: no token`)
    }
    t.equal(gateway.upstream.received.length, 0, 'upstream saw nothing')
    t.ok((await gateway.audit()).length >= rows.length, 'each is recorded')
    t.notMatch(
      (await gateway.auditText()) + gateway.log.join(),
      token.slice(-40),
      'no token anywhere',
    )
  },
)

t.test('nothing is read of a body before it is known who sends it (INPUT-1, RATE-1)', async (t) => {
  const gateway = await startGateway({
    config: { limits: { address: { burst: 20, perSecond: 0.001 } } },
  })
  t.teardown(() => gateway.close())
  const smart = '/fhir/.well-known/smart-configuration'
  const resource = '/fhir/.well-known/oauth-protected-resource'
  const json = 'Content-Type: application/json\r\n'
  const rows: [method: string, target: string, type: string, expected: RegExp][] = [
    ['POST', smart, json, / 404 .*"interaction-unknown"/s],
    ['PUT', smart, json, / 404 .*"interaction-unknown"/s],
    ['DELETE', smart, json, / 404 .*"interaction-unknown"/s],
    ['QUERY', smart, json, / 404 .*"interaction-unknown"/s],
    ['POST', resource, json, / 404 .*"interaction-unknown"/s],
    ['POST', '/.well-known/oauth-protected-resource/fhir', json, / 404 .*"interaction-unknown"/s],
    ['QUERY', '/fhir/Patient', '', / 405 .*allow: .*"method-not-allowed"/s],
    ['QUERY', '/fhir/Patient', json, / 405 .*allow: .*"method-not-allowed"/s],
    ['PROPFIND', '/fhir/Patient', json, / 405 .*allow: .*"method-not-allowed"/s],
    ['POST', '/fhir/Patient', json, / 401 .*"credentials-missing"/s],
    ['POST', '/fhir/Patient', 'Content-Type: garbage\r\n', / 401 .*"credentials-missing"/s],
    ['OPTIONS', '/fhir/Patient', 'Content-Type: garbage\r\n', / 405 .*"method-not-allowed"/s],
  ]
  const ask = async (method: string, target: string, type: string): Promise<string> =>
    gateway.raw(
      `${method} ${target} HTTP/1.1\r\nHost: x\r\n${type}Content-Length: 9000000\r\nConnection: close\r\n\r\n{`,
    )
  for (const [method, target, type, expected] of rows) {
    t.match(await ask(method, target, type), expected, `${method} ${target} ${type}`)
  }
  t.equal((await gateway.audit()).length, rows.length, 'each is recorded')
  for (let n = rows.length - 1; n < 20; n++) await ask('POST', smart, json)
  t.match(await ask('POST', smart, json), / 429 .*"rate-exceeded"/s)
  t.match(await ask('QUERY', '/fhir/Patient', json), / 429 .*"rate-exceeded"/s)
  t.notMatch(await gateway.metrics(), /fhirewall_refusals_total\{reason="internal"\} [1-9]/)
})

t.test('a public document is for GET; a preflight may ask for it (DISC-1)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const url = `${gateway.url}/.well-known/smart-configuration`
  t.equal((await fetch(url)).status, 200)
  const preflight = { origin: 'https://app.example', 'access-control-request-method': 'GET' }
  const answer = await fetch(url, { method: 'OPTIONS', headers: preflight })
  t.equal(answer.status, 204)
  t.equal(answer.headers.get('access-control-allow-origin'), '*')
})

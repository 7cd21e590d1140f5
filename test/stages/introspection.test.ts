import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { createIntrospection } from '../../src/adapters/introspection.ts'
import { createIssuerKeys } from '../../src/adapters/issuer-keys.ts'
import { createMemoryReplay } from '../../src/adapters/memory-replay.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { Arrival, Principal } from '../../src/exchange.ts'
import { toRefusal } from '../../src/refusal.ts'
import { createAuthenticate } from '../../src/stages/authenticate/authenticate.ts'
import { startIssuer } from '../support/issuer.ts'

const AUDIENCE = 'https://public.example/fhir'
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-introspection-'))
const SECRET_FILE = join(folder, 'secret')
writeFileSync(SECRET_FILE, 'se:cret &%ü\n')

async function setUp(introspection: Record<string, unknown> = {}, settings = {}) {
  const issuer = await startIssuer()
  const log: string[] = []
  const write = (fields: object, message: string) => {
    log.push(`${JSON.stringify(fields)} ${message}`)
  }
  const config = configSchema.parse({
    public: { url: AUDIENCE },
    upstream: { url: 'http://127.0.0.1:9/base' },
    issuers: [
      {
        url: issuer.url,
        introspection: { clientId: 'gate way', clientSecretFile: SECRET_FILE, ...introspection },
        ...settings,
      },
    ],
  })
  const start = Math.floor(Date.now() / 1000)
  const time = { at: start }
  const clock = { now: () => time.at * 1000, monotonic: () => time.at * 1000 }
  const silent = { debug: write, info: write, warn: write, error: write }
  const keys = createIssuerKeys(config, silent, clock.now)
  await keys.start()
  const asker = createIntrospection(config, { log: silent, keys, now: clock.now })
  const authenticate = createAuthenticate(config, {
    ...{ keys, clock, introspection: asker },
    replays: createMemoryReplay({ most: 10_000, clock }),
    denylist: { isDenied: () => false },
  })
  const ask = async (token: string, scheme = 'Bearer'): Promise<Principal> =>
    authenticate({ rawHeaders: ['Authorization', `${scheme} ${token}`] } as unknown as Arrival)
  return {
    ...{ issuer, time, start, ask, log },
    good: {
      active: true,
      scope: 'patient/*.rs',
      client_id: 'app-1',
      exp: start + 300,
      sub: 'person-1',
      token_type: 'Bearer',
      patient: 'p1',
    },
    verdict: async (token: string, scheme?: string): Promise<string> =>
      ask(token, scheme).then(
        () => 'accepted',
        (error: unknown) => toRefusal(error).reason,
      ),
    close: async () => {
      asker.close()
      await keys.close()
      await issuer.close()
    },
  }
}

t.test('opaque tokens: each answer breaks one clause (AUTHN-8)', async (t) => {
  const { issuer, verdict, good, start, close } = await setUp()
  t.teardown(close)
  const rows: [clause: string, change: Record<string, unknown>, reason: string][] = [
    ['good', {}, 'accepted'],
    ['good, no sub', { sub: undefined }, 'accepted'],
    ['good, scope a list', { scope: ['patient/*.rs'] }, 'accepted'],
    ['good, our aud', { aud: AUDIENCE }, 'accepted'],
    [
      'good, our aud among others, no type',
      { aud: ['x', AUDIENCE], token_type: undefined },
      'accepted',
    ],
    ['good, our iss', { iss: 'ISSUER' }, 'accepted'],
    ['good, token_type in another case', { token_type: 'bearer' }, 'accepted'],
    ['not active', { active: false }, 'token-invalid'],
    ['not active, and no more', { ...undefinedAll(good), active: false }, 'token-invalid'],
    ['active "true"', { active: 'true' }, 'issuer-unavailable'],
    ['active 1', { active: 1 }, 'issuer-unavailable'],
    ['active missing', { active: undefined }, 'issuer-unavailable'],
    ['scope missing', { scope: undefined }, 'token-invalid'],
    ['scope null', { scope: null }, 'token-invalid'],
    ['client_id missing', { client_id: undefined }, 'token-invalid'],
    ['client_id a number', { client_id: 7 }, 'token-invalid'],
    ['exp missing', { exp: undefined }, 'token-invalid'],
    ['exp a string', { exp: String(start + 300) }, 'token-invalid'],
    ['exp past', { exp: start - 31 }, 'token-expired'],
    ['nbf to come', { nbf: start + 60 }, 'token-invalid'],
    ['nbf a string', { nbf: '0' }, 'token-invalid'],
    ['iat to come', { iat: start + 60 }, 'token-invalid'],
    ['iss another', { iss: 'https://evil.example' }, 'token-invalid'],
    ['iss a list', { iss: ['ISSUER'] }, 'token-invalid'],
    ['aud another', { aud: 'https://other.example' }, 'token-invalid'],
    ['aud an empty list', { aud: [] }, 'token-invalid'],
    ['aud a number', { aud: 7 }, 'token-invalid'],
    ['neither type nor aud', { token_type: undefined }, 'token-invalid'],
    ['type of something else', { token_type: 'N_A' }, 'token-invalid'],
    ['type a number', { token_type: 7 }, 'token-invalid'],
    ['a refresh token (Keycloak)', { typ: 'Refresh' }, 'token-invalid'],
    ['an offline token (Keycloak)', { typ: 'Offline' }, 'token-invalid'],
    ['an ID token', { typ: 'ID' }, 'token-invalid'],
    ['a refresh token by use', { token_use: 'refresh_token' }, 'token-invalid'],
    ['sub a number', { sub: 7 }, 'token-invalid'],
    ['DPoP without a key', { token_type: 'DPoP' }, 'token-invalid'],
    ['bound, but plain bearer (AUTHN-12)', { cnf: { jkt: 'a'.repeat(43) } }, 'token-invalid'],
    ['cnf null', { cnf: null }, 'token-invalid'],
    ['cnf unreadable', { cnf: { jkt: 'x' } }, 'token-invalid'],
  ]
  for (const [at, [clause, change, reason]] of rows.entries()) {
    const text = JSON.stringify({ ...good, ...change }).replaceAll('ISSUER', issuer.url)
    issuer.introspectWith(() => JSON.parse(text) as unknown)
    t.equal(await verdict(`opaque-${at}`), reason, clause)
  }
  t.equal(await verdict('opaque-dpop', 'DPoP'), 'token-invalid', 'the DPoP scheme, not bound')
  issuer.introspectWith(() => [good])
  t.equal(await verdict('a-list'), 'issuer-unavailable', 'a list')
})

function undefinedAll(of: object): Record<string, undefined> {
  return Object.fromEntries(Object.keys(of).map((name) => [name, undefined]))
}

t.test('settings: aud may be demanded, the type need not be said (AUTHN-8)', async (t) => {
  const strict = await setUp({ requireAudience: true })
  t.teardown(strict.close)
  strict.issuer.introspectWith(() => strict.good)
  t.equal(await strict.verdict('no-aud'), 'token-invalid')
  strict.issuer.introspectWith(() => ({ ...strict.good, aud: AUDIENCE }))
  t.equal(await strict.verdict('aud'), 'accepted')
  const loose = await setUp({ acceptUntyped: true })
  t.teardown(loose.close)
  loose.issuer.introspectWith(() => ({ ...loose.good, token_type: undefined }))
  t.equal(await loose.verdict('untyped'), 'accepted')
})

t.test('the question is an authenticated form, and the token goes nowhere else', async (t) => {
  const { issuer, ask, verdict, good, log, close } = await setUp()
  t.teardown(close)
  const seen: unknown[] = []
  issuer.introspectWith((form, { method, headers }) => {
    seen.push([method, headers['content-type'], headers.authorization, Object.fromEntries(form)])
    return good
  })
  const principal = await ask('opaque.with.dots~+/-_=')
  t.match(principal, { subject: 'person-1', clientId: 'app-1', kind: 'user', patient: 'p1' })
  const pair = 'gate+way:se%3Acret+%26%25%C3%BC'
  t.same(seen, [
    [
      'POST',
      'application/x-www-form-urlencoded;charset=UTF-8',
      `Basic ${Buffer.from(pair).toString('base64')}`,
      { token: 'opaque.with.dots~+/-_=', token_type_hint: 'access_token' },
    ],
  ])
  issuer.introspectWith((_form, _request, response) => void response.writeHead(500).end('se:cret'))
  await verdict('secret-token')
  t.notMatch(log.join('\n'), /secret|se:cret/, 'neither token nor secret is logged')
})

t.test('no sub: a client of its own, unless the scopes are a person’s (SCOPE-15)', async (t) => {
  const { issuer, ask, good, close } = await setUp()
  t.teardown(close)
  const kinds: [scope: string, kind: string][] = [
    ['system/*.rs', 'system'],
    ['', 'system'],
    ['system/*.rs patient/*.rs', 'user'],
    ['user/*.rs', 'user'],
  ]
  for (const [scope, kind] of kinds) {
    issuer.introspectWith(() => ({ ...good, sub: undefined, scope }))
    t.equal((await ask(`opaque-${scope.replace(/[^a-z]/g, '')}`)).kind, kind, scope)
  }
})

t.test('answers are believed for a while, and never past exp (AUTHN-9)', async (t) => {
  const { issuer, verdict, good, time, start, close } = await setUp()
  t.teardown(close)
  issuer.introspectWith(() => good)
  t.equal(await verdict('a'), 'accepted')
  issuer.introspectWith(() => ({ active: false }))
  time.at = start + 59.9
  t.equal(await verdict('a'), 'accepted', 'the window is bounded …')
  t.equal(issuer.questions(), 1)
  time.at = start + 60
  t.equal(await verdict('a'), 'token-invalid', '… and over after 60 s')
  time.at = start
  issuer.introspectWith(() => ({ ...good, exp: start + 10 }))
  t.equal(await verdict('b'), 'accepted')
  time.at = start + 9
  t.equal(await verdict('b'), 'accepted')
  const before = issuer.questions()
  time.at = start + 10
  await verdict('b')
  t.equal(issuer.questions(), before + 1, 'asked again at exp, whatever the skew allows')
  issuer.introspectWith(() => good)
  time.at = start + 20
  t.equal(await verdict('c'), 'accepted')
  issuer.introspectWith(() => ({ active: false }))
  time.at = start - 3600
  t.equal(await verdict('c'), 'token-invalid', 'a clock set back lets nothing live longer')
})

t.test('not active is believed briefly; nothing else bad is (AUTHN-9)', async (t) => {
  const { issuer, verdict, good, time, start, close } = await setUp()
  t.teardown(close)
  for (let i = 0; i < 5; i++) t.equal(await verdict('a'), 'token-invalid')
  t.equal(issuer.questions(), 1, 'a bad token shown again and again costs one question')
  time.at = start + 5
  issuer.introspectWith(() => good)
  t.equal(await verdict('a'), 'accepted', 'asked again after 5 s')
  issuer.introspectWith(() => ({ ...good, exp: undefined }))
  t.equal(await verdict('b'), 'token-invalid')
  issuer.introspectWith(() => good)
  t.equal(await verdict('b'), 'accepted', 'an incomplete answer is not remembered')
})

t.test('cacheSeconds 0: every request asks', async (t) => {
  const { issuer, verdict, good, close } = await setUp({ cacheSeconds: 0 })
  t.teardown(close)
  issuer.introspectWith(() => good)
  for (let i = 0; i < 3; i++) t.equal(await verdict('a'), 'accepted')
  t.equal(issuer.questions(), 3)
  issuer.introspectWith(() => ({ active: false }))
  t.equal(await verdict('a'), 'token-invalid')
})

t.test('one question at a time for a token, however many show it (AUTHN-9)', async (t) => {
  const { issuer, verdict, good, close } = await setUp()
  t.teardown(close)
  issuer.introspectWith(() => good)
  const verdicts = await Promise.all(Array.from({ length: 200 }, async () => verdict('same')))
  t.same(new Set(verdicts), new Set(['accepted']))
  t.equal(issuer.questions(), 1)
})

t.test('the issuer is away: 503, never in, never out; then all is well (AUTHN-10)', async (t) => {
  const { issuer, verdict, good, time, start, close } = await setUp({ timeoutSeconds: 0.3 })
  t.teardown(close)
  issuer.introspectWith(() => good)
  t.equal(await verdict('known'), 'accepted')
  const faults: [fault: string, how: Parameters<typeof issuer.introspectWith>[0]][] = [
    ['the connection is cut', (_f, _q, response) => void response.destroy()],
    ['silence', () => undefined],
    [
      'headers, and then silence',
      (_f, _q, response) => {
        response.writeHead(200).flushHeaders()
      },
    ],
    ['500', (_f, _q, response) => void response.writeHead(500).end()],
    ['401, we are not known there', (_f, _q, response) => void response.writeHead(401).end()],
    ['a redirect', (_f, _q, r) => void r.writeHead(307, { location: `${issuer.url}/x` }).end()],
    ['no JSON', (_f, _q, response) => void response.end('active')],
    [
      'a page',
      (_f, _q, r) => void r.writeHead(200, { 'content-type': 'text/html' }).end('{"active":true}'),
    ],
    ['cut JSON', (_f, _q, response) => void response.end(JSON.stringify(good).slice(0, -1))],
    [
      'a flood',
      (_f, _q, response) => void response.end(JSON.stringify({ ...good, x: 'x'.repeat(70_000) })),
    ],
    ['null', (_f, _q, response) => void response.end('null')],
  ]
  for (const [fault, how] of faults) {
    issuer.introspectWith(how)
    t.equal(await verdict(`t-${fault.replace(/\W/g, '')}`), 'issuer-unavailable', fault)
    t.equal(await verdict('known'), 'accepted', 'what was known goes on')
  }
  issuer.introspectWith(() => undefined)
  const flood = await Promise.all(Array.from({ length: 300 }, async (_, i) => verdict(`f-${i}`)))
  t.same(new Set(flood), new Set(['issuer-unavailable']))
  t.ok(issuer.questions() < 100, 'a flood of tokens waits nowhere')
  time.at = start + 61
  t.equal(await verdict('known'), 'issuer-unavailable', 'but not beyond its time')
  issuer.introspectWith(() => good)
  t.equal(await verdict('known'), 'accepted')
})

t.test('always: a JWT counts while its issuer says so, and says nothing else', async (t) => {
  const { issuer, verdict, good, time, start, close } = await setUp({ always: true })
  t.teardown(close)
  const claims = { aud: AUDIENCE, sub: 'person-1', client_id: 'app-1', jti: 'j1' }
  const token = async (more = {}) => issuer.token({ ...claims, exp: start + 300, ...more })
  const rows: [answer: unknown, reason: string][] = [
    [{ active: true }, 'accepted'],
    [good, 'accepted'],
    [{ active: false }, 'token-invalid'],
    [{ active: true, sub: 'person-2' }, 'token-invalid'],
    [{ active: true, client_id: 'app-2' }, 'token-invalid'],
    [{ active: true, jti: 'j2' }, 'token-invalid'],
    [{ active: true, iss: 'https://evil.example' }, 'token-invalid'],
    [{ active: true, cnf: { jkt: 'a'.repeat(43) } }, 'token-invalid'],
    [{}, 'issuer-unavailable'],
  ]
  for (const [at, [answer, reason]] of rows.entries()) {
    issuer.introspectWith(() => answer)
    t.equal(await verdict(await token({ n: at })), reason, JSON.stringify(answer))
  }
  issuer.introspectWith(() => good)
  const [head, body] = (await token()).split('.') as [string, string]
  const before = issuer.questions()
  t.equal(await verdict(`${head}.${body}.c2ln`), 'token-invalid', 'the signature comes first')
  t.equal(issuer.questions(), before, 'and nobody is asked about a forgery')
  const one = await token({ n: 'x' })
  t.equal(await verdict(one), 'accepted')
  issuer.introspectWith(() => ({ active: false }))
  t.equal(await verdict(one), 'accepted', 'for a while')
  time.at = start + 61
  t.equal(await verdict(one), 'token-invalid', 'and no longer')
})

t.test('without introspection no opaque token is anybody’s', async (t) => {
  const { issuer, verdict, good, close } = await setUp({ opaque: false })
  t.teardown(close)
  issuer.introspectWith(() => good)
  for (const token of ['opaque', 'a.b.c', 'a.b.c.d.e', 'a.b']) {
    t.equal(await verdict(token), 'token-invalid')
  }
  t.equal(issuer.questions(), 0)
})

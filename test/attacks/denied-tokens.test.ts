import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { createDenylist } from '../../src/adapters/denylist.ts'
import type { DeniableToken } from '../../src/ports.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { b64 } from '../support/prover.ts'
import { json } from '../support/upstream.ts'

const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-denied-'))
t.teardown(() => rmSync(folder, { recursive: true }))
let files = 0
function write(text: string): string {
  const path = join(folder, `denylist-${files++}`)
  writeFileSync(path, text)
  return path
}

/** Tries until it is so: AUTHN-18 allows a second, a machine under load needs more. */
async function soon(what: () => Promise<boolean> | boolean): Promise<boolean> {
  for (const end = performance.now() + 5_000; performance.now() < end; await sleep(20)) {
    if (await what()) return true
  }
  return false
}

const list = (file: string, now = () => Date.now()) =>
  createDenylist(
    { denylist: { file, rememberSeconds: 60, rememberedLogouts: 100 } },
    { log: silent, now },
  )

t.test('which tokens an entry is about: all that it names must match (AUTHN-18)', async (t) => {
  const now = Math.floor(Date.now() / 1000)
  const token: DeniableToken = {
    ...{ issuer: 'https://i', subject: 's', clientId: 'c', tokenId: 'j', sessionId: 'x' },
    issuedAt: now - 10,
  }
  const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
  const rows: [entry: Record<string, unknown>, isDenied: boolean][] = [
    [{ jti: 'j' }, true],
    [{ jti: 'J' }, false],
    [{ issuer: 'https://i' }, true],
    [{ issuer: 'https://i/' }, false],
    [{ issuer: 'https://i', subject: 's' }, true],
    [{ issuer: 'https://other', subject: 's' }, false],
    [{ client: 'c' }, true],
    [{ client: 's' }, false],
    [{ client: 'c', issuer: 'https://other' }, false],
    [{ client: 'c', issuer: 'https://i', subject: 's' }, true],
    [{ client: 'other', issuer: 'https://i', subject: 's' }, false],
    [{ issuer: 'https://i', session: 'x' }, true],
    [{ issuer: 'https://i', session: 's' }, false],
    [{ jti: 'j', because: 'found in a log' }, true],
    [{ jti: 'j', until: iso(now + 60) }, true],
    [{ jti: 'j', until: iso(now - 1) }, false],
    [{ issuer: 'https://i', before: iso(now) }, true],
    [{ issuer: 'https://i', before: iso(now - 60) }, false],
  ]
  for (const [entry, isDenied] of rows) {
    for (const text of [JSON.stringify(entry), `- ${JSON.stringify(entry)}\n`]) {
      const denylist = list(write(text))
      t.equal(denylist.isDenied(token), isDenied, text)
      denylist.close()
    }
  }
  const unsaid = { ...token, tokenId: undefined, sessionId: undefined, issuedAt: 0 }
  const before = list(write(JSON.stringify({ issuer: 'https://i', before: iso(now - 999) })))
  t.equal(before.isDenied(unsaid), true, 'a token that does not tell its age is an old one')
  before.close()
  const other = list(write('{"jti":"undefined"}\n{"issuer":"https://i","session":"undefined"}'))
  t.equal(other.isDenied(unsaid), false)
  other.close()
})

t.test('a file that cannot be used is refused at the start (AUTHN-18)', async (t) => {
  const bad = [
    ...['{"jti":"j"', '- 7', 'jti: j', '- {}', '{"jit":"j"}', '{"subject":"s"}', '{"jti":""}'],
    ...['{"jti":7}', '{"jti":"j","until":"tomorrow"}', '- &a {jti: j}\n- *a', '{"session":"x"}'],
  ]
  for (const text of bad) t.throws(() => list(write(text)), text)
  t.throws(() => list(join(folder, 'nothing-there')))
  for (const text of ['', '# nobody\n', '[]', '\n\n']) list(write(text)).close()
})

t.test(
  'a denied token is out within a second, remembered or not; a bad file keeps the rest',
  async (t) => {
    const file = write('')
    const gateway = await startGateway({ config: { denylist: { file } } })
    const issuers = [{ url: gateway.issuer.url }]
    const replica = await startGateway({ config: { denylist: { file }, issuers } })
    t.teardown(() => Promise.all([gateway.close(), replica.close()]))
    const ask = async (token: string, { url } = gateway): Promise<number> =>
      (await fetch(`${url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } })).status
    const claims = { scope: 'patient/*.rs', patient: 'p1' }
    const one = await gateway.token({ ...claims, jti: 'one' })
    const two = await gateway.token({ ...claims, jti: 'two', sub: 'person-2' })
    const isIn = async (token: string) => (await ask(token)) !== 401
    t.ok(await isIn(one))
    t.ok(await isIn(two))
    t.not(await ask(one, replica), 401)
    writeFileSync(file, '{"jti":"one"}\n')
    t.ok(await soon(async () => !(await isIn(one))), 'denied')
    t.ok(await soon(async () => (await ask(one, replica)) === 401), 'by every gateway of the file')
    t.ok(await isIn(two), 'the other goes on')
    writeFileSync(file, '{"jti":"two"}\n{"jti":')
    t.ok(
      await soon(() =>
        gateway.log.some((line) => line.startsWith('error') && /denylist/.test(line)),
      ),
    )
    t.notOk(await isIn(one), 'the entries of before stay in force')
    t.ok(await isIn(two), 'and nothing of a bad file is taken')
    t.match(
      await gateway.metrics(),
      /fhirewall_file_reloads_total\{setting="denylist.file",result="failed"\} 1/,
    )
    rmSync(file)
    t.notOk(await isIn(one), 'also without the file')
    writeFileSync(file, `- { issuer: '${gateway.issuer.url}', subject: person-2 }\n`)
    t.ok(await soon(async () => !(await isIn(two))))
    t.ok(await isIn(one), 'what left the list is in again')
    const line = gateway.log.find((each) => each.includes('token-revoked'))
    t.match(line, /"event":"authn_token_reuse"/)
  },
)

const EVENT = 'http://schemas.openid.net/event/backchannel-logout'

t.test('logout tokens: each breaks one clause (OIDC Back-Channel Logout 2.6)', async (t) => {
  const gateway = await startGateway({ issuer: { logoutAudiences: ['gateway'] } })
  t.teardown(() => gateway.close())
  const { issuer } = gateway
  const url = `${gateway.url}/backchannel-logout`
  const now = Math.floor(Date.now() / 1000)
  const post = async (body: string | URLSearchParams, type = 'application/x-www-form-urlencoded') =>
    fetch(url, { method: 'POST', headers: { 'content-type': type }, body })
  const good = { aud: 'gateway', events: { [EVENT]: {} }, client_id: undefined, exp: now + 120 }
  type Options = Parameters<typeof issuer.token>[1]
  const logout = async (claims: Record<string, unknown>, options?: Options): Promise<string> =>
    issuer.token({ ...good, ...claims }, { typ: 'logout+jwt', ...options })
  const stranger = await generateKeyPair('RS256')
  const forged = new SignJWT({ iss: issuer.url, sub: 'a', jti: 'j', iat: now, ...good })
    .setProtectedHeader({ alg: 'RS256', kid: issuer.kid('RS256'), typ: 'logout+jwt' })
    .sign(stranger.privateKey)
  const bad: [clause: string, token: Promise<string> | string][] = [
    ['a stranger’s signature', forged],
    ['an access token', gateway.token({})],
    ['typ at+jwt', logout({}, { typ: 'at+jwt' })],
    ['typ of a proof', logout({}, { typ: 'dpop+jwt' })],
    ['aud another', logout({ aud: 'other' })],
    ['aud missing', logout({ aud: undefined })],
    ['aud of access tokens', logout({ aud: PUBLIC_URL })],
    ['iss another', logout({ iss: 'https://evil.example' })],
    ['iss missing', logout({ iss: undefined })],
    ['a nonce', logout({ nonce: 'n' })],
    ['a nonce of null', logout({ nonce: null })],
    ['no events', logout({ events: undefined })],
    ['another event', logout({ events: { 'http://x/event': {} } })],
    ['events a list', logout({ events: [EVENT] })],
    ['the event no object', logout({ events: { [EVENT]: true } })],
    ['nobody', logout({ sub: undefined })],
    ['sub a number', logout({ sub: 7 })],
    ['sid a number', logout({ sid: 7 })],
    ['jti missing', logout({ jti: undefined })],
    ['iat missing', logout({ iat: undefined })],
    ['iat too old', logout({ iat: now - 400 })],
    ['iat to come', logout({ iat: now + 60 })],
    ['exp past', logout({ exp: now - 60 })],
    ['crit', (await logout({})).replace(/^[^.]+/, b64({ alg: 'RS256', crit: ['x'], x: 1 }))],
    ['kid unknown', logout({}, { kid: 'nobody' })],
    ['alg none', 'eyJhbGciOiJub25lIn0.e30.'],
    ['no token', 'x'],
    ['longer than any', `${'a'.repeat(20_000)}.b.c`],
  ]
  for (const [clause, token] of bad) {
    const answer = await post(new URLSearchParams({ logout_token: await token }))
    t.equal(answer.status, 400, clause)
    t.equal(await answer.text(), '{"error":"invalid_request"}', 'and does not say why')
  }
  const token = await logout({})
  t.equal((await post(JSON.stringify({ logout_token: token }), 'application/json')).status, 400)
  t.equal((await post(`logout_token=${token}&logout_token=${token}`)).status, 400, 'two tokens')
  t.equal((await post('x'.repeat(40_000))).status, 400, 'no small form')
  t.equal((await post('')).status, 400, 'nothing')
  const answer = await post(new URLSearchParams({ logout_token: token }))
  t.equal(answer.status, 200)
  t.equal(answer.headers.get('cache-control'), 'no-store')
  const again = await post(new URLSearchParams({ logout_token: token }))
  t.equal(again.status, 400, 'a token is used once')
  for (const typ of ['JWT', 'application/logout+jwt']) {
    const other = await logout({}, { typ })
    t.equal((await post(new URLSearchParams({ logout_token: other }))).status, 200, typ)
  }
  t.equal((await fetch(url)).status, 404, 'GET is no logout')
  t.notMatch(gateway.log.join('\n'), /eyJ/, 'no token is logged')
})

t.test(
  'who is logged out: the person, the session, and not the next login (AUTHN-18)',
  async (t) => {
    const gateway = await startGateway({ issuer: { logoutAudiences: ['gateway'] } })
    t.teardown(() => gateway.close())
    const now = Math.floor(Date.now() / 1000)
    const claims = { scope: 'patient/*.rs', patient: 'p1', iat: now - 20 }
    const isIn = async (token: string): Promise<boolean> =>
      (await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } }))
        .status !== 401
    let people = 0
    const rows: [
      name: string,
      logout: { sub?: boolean; sid?: string },
      verdicts: [token: Record<string, unknown>, isIn: boolean][],
    ][] = [
      [
        'the person',
        { sub: true },
        [
          [{}, false],
          [{ sid: 's1' }, false],
          [{ iat: undefined }, false],
          [{ iat: now - 10 }, false],
          [{ iat: now }, true],
          [{ sub: 'somebody-else' }, true],
        ],
      ],
      [
        'one session',
        { sid: 's1' },
        [
          [{ sid: 's1' }, false],
          [{ sid: 's1', iat: now }, false],
          [{ sid: 's2' }, true],
          [{}, true],
        ],
      ],
      [
        'one session of a person',
        { sub: true, sid: 's1' },
        [
          [{ sid: 's1' }, false],
          [{ sid: 's2' }, true],
          [{}, false],
          [{ iat: now }, true],
        ],
      ],
    ]
    for (const [name, { sub, sid }, verdicts] of rows) {
      const person = `person-${people++}`
      const own = (change: Record<string, unknown>) => ({
        ...claims,
        sub: person,
        ...change,
        ...('sid' in change ? { sid: `${person}-${String(change['sid'])}` } : {}),
      })
      const tokens = await Promise.all(verdicts.map(async ([change]) => gateway.token(own(change))))
      for (const token of tokens) t.ok(await isIn(token), `${name}: in at first`)
      const logout = await gateway.issuer.token(
        {
          ...{ aud: 'gateway', events: { [EVENT]: {} }, iat: now - 10 },
          sub: sub === true ? person : undefined,
          sid: sid === undefined ? undefined : `${person}-${sid}`,
        },
        { typ: 'logout+jwt' },
      )
      const body = new URLSearchParams({ logout_token: logout })
      t.equal(
        (await fetch(`${gateway.url}/backchannel-logout`, { method: 'POST', body })).status,
        200,
      )
      for (const [at, [change, expected]] of verdicts.entries()) {
        t.equal(await isIn(tokens[at]!), expected, `${name}: ${JSON.stringify(change)}`)
      }
    }
  },
)

t.test(
  'what has begun ends with the token: a slow body, a batch, a write (AUTHN-18)',
  async (t) => {
    const time = { ahead: 0 }
    const gateway = await startGateway({
      issuer: { logoutAudiences: ['gateway'] },
      clock: { now: () => Date.now() + time.ahead * 1000, monotonic: () => performance.now() },
    })
    t.teardown(() => gateway.close())
    const observation =
      '{"resourceType":"Observation","id":"o1","meta":{"versionId":"1"},"subject":{"reference":"Patient/p1"}}'
    const entries = Array.from({ length: 5 }, () => ({
      request: { method: 'GET', url: 'Observation/o1' },
    }))
    const batch = { resourceType: 'Bundle', type: 'batch', entry: entries }
    const put = { resource: JSON.parse(observation) as object }
    const write = { ...put, request: { method: 'PUT', url: 'Observation/o1' } }
    const transaction = { resourceType: 'Bundle', type: 'transaction', entry: [write] }
    const post = async (token: string, body: string, [method, path] = ['POST', '']) =>
      fetch(gateway.url + path, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
        body,
      })
    const logOut = async (sub: string) => {
      const claims = { aud: 'gateway', events: { [EVENT]: {} }, sub }
      const token = await gateway.issuer.token(claims, { typ: 'logout+jwt' })
      const body = new URLSearchParams({ logout_token: token })
      await fetch(`${gateway.url}/backchannel-logout`, { method: 'POST', body })
    }
    const expire = async () => {
      time.ahead += 4_000
      return Promise.resolve()
    }
    let people = 0
    for (const [how, end] of [
      ['logged out', logOut],
      ['expired', expire],
    ] as const) {
      const begin = async (at: number) => {
        const sub = `person-${people++}`
        const iat = Math.floor(Date.now() / 1000) + time.ahead - 5
        const claims = { scope: 'patient/*.cruds', patient: 'p1', sub, iat, exp: iat + 3_600 }
        let asked = 0
        gateway.upstream.received.length = 0
        gateway.upstream.answerWith((request, response, raw) => {
          const go = () => json(observation)(request, response, raw)
          if (++asked === at) void end(sub).then(go)
          else go()
        })
        return { sub, token: await gateway.token(claims) }
      }
      const asked = () => gateway.upstream.received.map(({ method }) => method).join(' ')

      const slow = await begin(-1)
      const answered = gateway.raw(
        `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${slow.token}\r\nContent-Type: application/fhir+json\r\nContent-Length: ${observation.length}\r\nConnection: close\r\n\r\n`,
        async () => {
          await sleep(300)
          await end(slow.sub)
          return observation
        },
      )
      t.match(await answered, /^HTTP\/1.1 401 /, `${how}: a body that comes later`)
      t.equal(asked(), '', 'upstream sees nothing of it')

      const many = await post((await begin(2)).token, JSON.stringify(batch))
      const statuses = ((await many.json()) as { entry: { response: { status: string } }[] }).entry
      t.equal(
        statuses.map(({ response }) => response.status).join(),
        '200,200,401,401,401',
        `${how}: entries after that`,
      )
      t.equal(asked(), 'GET GET')

      const one = await post((await begin(1)).token, observation, ['PUT', '/Observation/o1'])
      t.equal(one.status, 401, `${how}: a write whose present version was read before`)
      t.equal(asked(), 'GET')
      const whole = await post((await begin(1)).token, JSON.stringify(transaction))
      t.equal(whole.status, 401, `${how}: a transaction`)
      t.equal(asked(), 'GET')
    }
  },
)

t.test('a logout that failed can be repeated, and holds then (AUTHN-18)', async (t) => {
  const denylist = { rememberSeconds: 2, rememberedLogouts: 2 }
  const gateway = await startGateway({
    issuer: { logoutAudiences: ['gateway'] },
    config: { denylist },
  })
  t.teardown(() => gateway.close())
  const isIn = async (token: string): Promise<boolean> =>
    (await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } }))
      .status !== 401
  const logout = async (sub: string) =>
    gateway.issuer.token({ aud: 'gateway', events: { [EVENT]: {} }, sub }, { typ: 'logout+jwt' })
  const post = async (token: string): Promise<number> => {
    const body = new URLSearchParams({ logout_token: token })
    return (await fetch(`${gateway.url}/backchannel-logout`, { method: 'POST', body })).status
  }
  const victim = await gateway.token({ scope: 'patient/*.rs', patient: 'p1', sub: 'victim' })
  t.equal(await post(await logout('another')), 200)
  const told = await logout('victim')
  t.equal(await post(told), 400, 'there is no room')
  t.ok(await isIn(victim))
  t.ok(await soon(async () => (await post(told)) === 200), 'there is room again')
  t.notOk(await isIn(victim))
})

t.test('tokens that do not say when they were issued: the issuer says (AUTHN-18)', async (t) => {
  const secret = write('secret')
  const introspection = { opaque: true, clientId: 'gateway', clientSecretFile: secret }
  const issuer = { logoutAudiences: ['gateway'], introspection }
  const gateway = await startGateway({ issuer })
  t.teardown(() => gateway.close())
  const active = {
    ...{ active: true, token_type: 'Bearer', sub: 'person', client_id: 'app-1' },
    ...{ scope: 'patient/*.rs', patient: 'p1', exp: Math.floor(Date.now() / 1000) + 300 },
  }
  const hold = Promise.withResolvers<undefined>()
  gateway.issuer.introspectWith((form, _request, response) => {
    if (form.get('token') !== 'asked-before') return active
    void hold.promise.then(() => response.end(JSON.stringify(active)))
    return undefined
  })
  const isIn = async (token: string): Promise<boolean> =>
    (await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } }))
      .status !== 401
  t.ok(await isIn('old'))
  const questions = gateway.issuer.questions()
  const late = isIn('asked-before')
  t.ok(await soon(() => gateway.issuer.questions() > questions))
  const logout = await gateway.issuer.token(
    { aud: 'gateway', events: { [EVENT]: {} }, sub: 'person' },
    { typ: 'logout+jwt' },
  )
  const body = new URLSearchParams({ logout_token: logout })
  t.equal((await fetch(`${gateway.url}/backchannel-logout`, { method: 'POST', body })).status, 200)
  t.notOk(await isIn('old'), 'what was known of it is from before')
  hold.resolve(undefined)
  t.notOk(await late, 'and so is what was asked before')
  t.ok(await isIn('of-the-next-login'))
  t.notOk(await isIn('old'))
})

t.test('logouts are forgotten with the last token they are about, and never before', async (t) => {
  const time = { at: 1_000_000 }
  const denylist = createDenylist(
    { denylist: { rememberSeconds: 60, rememberedLogouts: 10 } },
    { log: silent, now: () => time.at * 1000 },
  )
  const token = (subject: string): DeniableToken => ({
    ...{ issuer: 'i', subject, clientId: 'c', tokenId: undefined, issuedAt: time.at - 5 },
  })
  const logOut = (subject: string): void => {
    denylist.logOut({ issuer: 'i', subject, sessionId: undefined, at: time.at })
  }
  for (let i = 0; i < 100; i++) logOut('again and again')
  t.equal(denylist.entries(), 1, 'the same person takes one place')
  for (let i = 0; i < 8; i++) logOut(`p${i}`)
  t.throws(() => logOut('one too many'), 'nobody is forgotten to make room')
  const [old, late] = [token('p0'), token('late')]
  time.at += 59
  t.ok(denylist.isDenied(old))
  time.at += 1
  t.notOk(denylist.isDenied(old))
  logOut('late')
  t.ok(denylist.isDenied(late), 'and there is room again')
  t.equal(denylist.entries(), 1)
  denylist.close()
})

t.test('nobody logs out where no issuer may', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const body = new URLSearchParams({ logout_token: 'x' })
  const answer = await fetch(`${gateway.url}/backchannel-logout`, { method: 'POST', body })
  t.equal(answer.status, 404)
})

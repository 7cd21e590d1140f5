import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createHash, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { askForToken, REDIRECT, startProvider } from '../support/provider.ts'
import { json } from '../support/upstream.ts'

const folder = mkdtempSync(join(tmpdir(), 'fhirewall-provider-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const signingKey = (): object => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: randomUUID() }
}
const SECRET = { clientId: 'gateway', clientSecretFile: file('secret', 's3cret') }
const patient = json('{"resourceType":"Patient","id":"p1"}')

type Gateway = Awaited<ReturnType<typeof startGateway>>
const ask = async (gateway: Gateway, token: string): Promise<number> => {
  const headers = { authorization: `Bearer ${token}` }
  const answer = await fetch(`${gateway.url}/Patient/p1`, { headers })
  await answer.arrayBuffer()
  return answer.status
}
const post = async (url: string, form: Record<string, string>) =>
  fetch(url, { method: 'POST', body: new URLSearchParams(form) })

/** A person's browser and app: from the gateway's own metadata to tokens, by code and PKCE. */
async function launch(gateway: Gateway): Promise<{ access_token: string; refresh_token: string }> {
  const found = await fetch(`${gateway.url}/.well-known/smart-configuration`)
  const smart = (await found.json()) as Record<string, string>
  const verifier = randomBytes(32).toString('base64url')
  const query = new URLSearchParams({
    ...{ response_type: 'code', client_id: 'app', redirect_uri: REDIRECT, state: 'x1' },
    ...{ scope: 'openid patient/*.rs', resource: PUBLIC_URL },
    code_challenge: createHash('sha256').update(verifier).digest('base64url'),
    code_challenge_method: 'S256',
  })
  let next = `${smart['authorization_endpoint']}?${query.toString()}`
  const cookies = new Map<string, string>()
  for (let step = 0; step < 10 && !next.startsWith(REDIRECT); step++) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const answer = await fetch(next, { redirect: 'manual', headers: { cookie } })
    for (const set of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? []
      cookies.set(name, value)
    }
    next = new URL(answer.headers.get('location') ?? REDIRECT, next).href
  }
  const tokens = await post(smart['token_endpoint'] ?? '', {
    ...{ grant_type: 'authorization_code', client_id: 'app', redirect_uri: REDIRECT },
    ...{ code: new URL(next).searchParams.get('code') ?? '', code_verifier: verifier },
  })
  return (await tokens.json()) as never
}

t.test('from smart-configuration to a resource, by code and PKCE (DISC-1, AUTHN-8)', async (t) => {
  for (const format of ['jwt', 'opaque'] as const) {
    const provider = await startProvider({ audience: PUBLIC_URL, format, keys: [signingKey()] })
    const issuers = [{ url: provider.url, introspection: { ...SECRET, requireAudience: true } }]
    const gateway = await startGateway({ handler: patient, config: { issuers } })
    t.teardown(() => Promise.all([gateway.close(), provider.close()]))
    const { access_token: access, refresh_token: refresh } = await launch(gateway)
    t.equal(access.split('.').length, format === 'jwt' ? 3 : 1)
    t.equal(await ask(gateway, access), 200, `${format}: the launch patient`)
    t.equal(await ask(gateway, refresh), 401, 'a refresh token is no access token')
    t.equal(await ask(gateway, access.slice(0, -1)), 401, 'a piece of a token is none')
  }
})

t.test(
  'opaque tokens end when they are revoked; a refresh token never begins (AUTHN-8, 9)',
  async (t) => {
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'secp384r1' })
    const clientKey = {
      ...publicKey.export({ format: 'jwk' }),
      kid: 'k1',
      alg: 'ES384',
      use: 'sig',
    }
    const pem = file('key.pem', privateKey.export({ type: 'pkcs8', format: 'pem' }).toString())
    const provider = await startProvider({
      ...{ audience: PUBLIC_URL, format: 'opaque', keys: [signingKey()], clientKey },
    })
    t.teardown(() => provider.close())
    const ways = {
      secret: SECRET,
      private_key_jwt: { clientId: 'gateway-key', privateKeyFile: pem, keyId: 'k1' },
    }
    for (const [way, how] of Object.entries(ways)) {
      const issuers = [{ url: provider.url, introspection: { ...how, cacheSeconds: 0 } }]
      const gateway = await startGateway({ handler: patient, config: { issuers } })
      t.teardown(() => gateway.close())
      const { access_token: access, refresh_token: refresh } = await launch(gateway)
      t.equal(await ask(gateway, access), 200, way)
      t.equal(await ask(gateway, refresh), 401, 'the provider calls it active, and it is none')
      await post(`${provider.url}/token/revocation`, { token: access, client_id: 'app' })
      t.equal(await ask(gateway, access), 401, 'revoked')
    }
    const wrong = { clientId: 'gateway', clientSecretFile: file('wrong', 'wrong') }
    const gateway = await startGateway({
      handler: patient,
      config: { issuers: [{ url: provider.url, introspection: wrong }] },
    })
    t.teardown(() => gateway.close())
    const token = await askForToken(provider.url)
    t.equal(await ask(gateway, token), 503, 'we are not known there: the token is not to blame')
  },
)

async function spawn(options: object): Promise<{ child: ChildProcess; url: string }> {
  const child = fork(new URL('../support/provider-process.ts', import.meta.url), { execArgv: [] })
  child.send(options)
  const [url] = (await once(child, 'message')) as [string]
  return { child, url }
}

t.test('outage drills: frozen, killed, back with new keys (AUTHN-10)', async (t) => {
  const time = { offset: 0 }
  const clock = { now: () => Date.now() + time.offset, monotonic: () => performance.now() }
  const settings = { audience: PUBLIC_URL }
  const first = await spawn({ ...settings, keys: [signingKey()] })
  const { url } = first
  let { child } = first
  t.teardown(() => child.kill('SIGKILL'))
  const opaque = await spawn({ ...settings, format: 'opaque', keys: [signingKey()] })
  t.teardown(() => opaque.child.kill('SIGKILL'))
  const gateway = await startGateway({
    handler: patient,
    clock,
    config: {
      issuers: [{ url }, { url: opaque.url, introspection: { ...SECRET, timeoutSeconds: 0.5 } }],
    },
  })
  t.teardown(() => gateway.close())
  const scope = 'system/*.rs'
  const [known, other, opaqueToken, unseen] = await Promise.all([
    askForToken(url, scope),
    askForToken(url, scope),
    askForToken(opaque.url, scope),
    askForToken(opaque.url, scope),
  ])
  const verdict = async (token: string): Promise<string> => {
    const status = await ask(gateway, token)
    return status === 401 ? 'out' : status === 503 ? 'wait' : 'in'
  }
  t.equal(await verdict(known), 'in')
  t.equal(await verdict(opaqueToken), 'in')

  for (const issuer of [child, opaque.child]) issuer.kill('SIGSTOP')
  t.equal(await verdict(known), 'in', 'frozen: a known token')
  t.equal(await verdict(other), 'in', 'frozen: a new token of a known key')
  t.equal(await verdict(opaqueToken), 'in', 'frozen: an opaque token that is known')
  t.equal(await verdict(unseen), 'wait', 'frozen: nobody can say, so neither in nor out')
  t.equal(await verdict(`${other.slice(0, -6)}AAAAAA`), 'out', 'frozen: a forgery stays one')
  for (const issuer of [child, opaque.child]) issuer.kill('SIGCONT')
  t.equal(await verdict(unseen), 'in', 'thawed')

  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
  t.equal(await verdict(known), 'in', 'killed: a known key goes on')
  ;({ child } = await spawn({ ...settings, port: Number(new URL(url).port), keys: [signingKey()] }))
  const fresh = await askForToken(url, scope)
  time.offset += 11_000
  const load = await Promise.all(Array.from({ length: 50 }, async () => verdict(fresh)))
  t.same(new Set(load), new Set(['in']), 'back with new keys, under load: everybody in')
  t.equal(await verdict(known), 'out', 'and what the old keys vouched for is out')
})

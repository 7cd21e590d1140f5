import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { generateKeyPair, SignJWT } from 'jose'
import t from 'tap'
import { createExchangeLog } from '../../src/adapters/logger.ts'
import type { Exchange } from '../../src/exchange.ts'
import { REFUSALS } from '../../src/refusal.ts'
import type { Reason } from '../../src/refusal.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { b64 } from '../support/prover.ts'

const folder = mkdtempSync(join(tmpdir(), 'fhirewall-uniform-'))
t.teardown(() => rmSync(folder, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}

t.test(
  'whatever is wrong with a token, the answer is the same; the log knows (AUTHN-2)',
  async (t) => {
    const gateway = await startGateway({
      config: { denylist: { file: file('denied', '{"jti":"denied"}') } },
      issuer: {
        introspection: { clientId: 'gateway', clientSecretFile: file('secret', 's') },
        maximumAgeSeconds: 600,
      },
    })
    t.teardown(() => gateway.close())
    const { issuer } = gateway
    const now = Math.floor(Date.now() / 1000)
    const stranger = await generateKeyPair('RS256')
    const of = async (claims: Record<string, unknown>) =>
      gateway.token({ scope: 'user/*.rs', ...claims })
    const [head, body, signature] = (await of({})).split('.') as [string, string, string]
    issuer.introspectWith((form) => {
      const token = form.get('token')
      if (token === 'untyped') return { active: true, scope: '', client_id: 'c', exp: now + 60 }
      if (token === 'another')
        return { active: true, scope: '', client_id: 'c', exp: now + 60, aud: 'x' }
      return { active: false }
    })
    const rows: [what: string, token: string, reason: Reason, event?: string][] = [
      ['an unknown issuer', await of({ iss: 'https://evil.example' }), 'token-invalid'],
      ['another audience', await of({ aud: 'https://other.example' }), 'token-invalid'],
      ['expired', await of({ exp: now - 60 }), 'token-expired'],
      ['not valid yet', await of({ nbf: now + 120 }), 'token-invalid'],
      ['too old', await of({ iat: now - 700 }), 'token-expired'],
      [
        'a body of somebody else',
        `${head}.${b64({ iss: issuer.url })}.${signature}`,
        'token-invalid',
      ],
      ['no signature', `${head}.${body}.`, 'token-invalid'],
      ['alg none', `${b64({ alg: 'none' })}.${body}.`, 'token-invalid'],
      [
        'a stranger’s key',
        await new SignJWT({ iss: issuer.url, aud: PUBLIC_URL, exp: now + 60, sub: 'a' })
          .setProtectedHeader({ alg: 'RS256', kid: issuer.kid('RS256') })
          .sign(stranger.privateKey),
        'token-invalid',
      ],
      [
        'an unknown kid',
        await issuer.token({ aud: PUBLIC_URL }, { kid: 'nobody' }),
        'token-invalid',
      ],
      [
        'an ID token',
        await issuer.token({ aud: PUBLIC_URL, nonce: 'n' }, { typ: 'JWT' }),
        'token-invalid',
      ],
      ['bound, shown as bearer', await of({ cnf: { jkt: 'a'.repeat(43) } }), 'token-invalid'],
      ['nobody’s', await of({ sub: undefined, client_id: undefined }), 'token-invalid'],
      ['opaque, not active', 'opaque', 'token-invalid'],
      ['opaque, perhaps a refresh token', 'untyped', 'token-invalid'],
      ['opaque, for somebody else', 'another', 'token-invalid'],
      ['denied', await of({ jti: 'denied' }), 'token-revoked', 'authn_token_reuse'],
    ]
    const seen = new Set<string>()
    for (const [what, token, reason, event = 'authn_login_fail'] of rows) {
      gateway.log.length = 0
      const answer = await fetch(`${gateway.url}/Patient/p1`, {
        headers: { authorization: `Bearer ${token}`, 'x-request-id': 'the-same' },
      })
      const headers = [...answer.headers].filter(([name]) => name !== 'date')
      seen.add(JSON.stringify([answer.status, headers, await answer.text()]))
      t.equal(seen.size, 1, `${what}: the same answer`)
      const line = gateway.log.find((each) => each.includes('"reason"')) ?? ''
      t.match(line, `"reason":"${reason}"`, `${what}: the log knows`)
      t.match(line, `"event":"${event}"`, `${what}: a SIEM too`)
    }
    const [only] = [...seen]
    t.match(only, /invalid_token/)
    t.notMatch(only, /expired|revoked|audience \w+ is/)
  },
)

t.test('when nobody can say, the answer is to come again, whoever asks (AUTHN-10)', async (t) => {
  const time = { offset: 0 }
  const gateway = await startGateway({
    clock: { now: () => Date.now() + time.offset, monotonic: () => performance.now() },
    issuer: { introspection: { clientId: 'gateway', clientSecretFile: file('secret2', 's') } },
  })
  t.teardown(() => gateway.close())
  const claims = { scope: 'user/*.rs', exp: Math.floor(Date.now() / 1000) + 86_400 }
  const token = await gateway.token(claims)
  const show = async (given: string): Promise<Response> =>
    fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${given}` } })
  t.not((await show(token)).status, 503, 'let in while its issuer answers')
  gateway.issuer.failWith((response) => response.writeHead(500).end('CANARY'))
  time.offset = 3_700_000
  gateway.upstream.received.length = 0
  for (const [what, given] of [
    ['a token that was let in, and keys too old to vouch for it', token],
    ['a token of a key nobody knows', await gateway.issuer.token({ ...claims }, { kid: 'x' })],
    ['an opaque token', 'opaque'],
  ] as const) {
    gateway.log.length = 0
    const answer = await show(given)
    t.equal(answer.status, 503, what)
    t.match(answer.headers.get('retry-after'), /^[1-9]\d*$/, what)
    t.notOk(answer.headers.has('www-authenticate'), 'the token is not to blame')
    const text = await answer.text()
    t.match(JSON.parse(text), { resourceType: 'OperationOutcome', issue: [{ code: 'transient' }] })
    t.notMatch(text + gateway.log.join(), /CANARY|eyJ/)
    t.match(gateway.log.join(), '"reason":"issuer-unavailable"')
  }
  t.strictSame(gateway.upstream.received, [], 'and nothing goes up')
})

t.test('every refusal of credentials has an event that a SIEM knows (AUD-16)', async (t) => {
  const reasons = Object.entries(REFUSALS).filter(
    ([reason, { status }]) =>
      (status === 401 && reason !== 'proof-nonce') || reason === 'credentials-malformed',
  )
  for (const [reason] of reasons) {
    const lines: object[] = []
    const take = (fields: object) => void lines.push(fields)
    const log = { debug: take, info: take, warn: take, error: take }
    createExchangeLog(log).exchangeEnded({
      ...{ id: 'x', elapsed: 0, arrival: { method: 'GET', address: '' } },
      facts: { outcome: 'refused', reason, status: 401, detail: '' },
    } as unknown as Exchange)
    t.match(lines, [{ event: /^auth[nz]_/ }], reason)
  }
})

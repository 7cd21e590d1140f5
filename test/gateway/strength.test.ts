import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import { findLack } from '../../src/oauth/strength.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

const POLICIES = `policy: step-up
description: for tests
rules:
  - id: read
    effect: permit
    levels: [user]
    interactions: [read]
    types: [Observation]
  - id: write
    effect: permit
    levels: [user]
    interactions: [read]
    types: [Condition]
    obligations:
      strength: { acr: [gold, platinum], amr: [pwd, otp], within: 900 }
  - id: recent
    effect: permit
    when: principal.authenticatedAgo < 60.0
    levels: [user]
    interactions: [read]
    types: [Encounter]
  - id: golden
    effect: permit
    when: principal.acr == 'gold' && 'otp' in principal.amr
    levels: [user]
    interactions: [read]
    types: [Procedure]
  - id: own
    effect: permit
    levels: [patient]
    interactions: [read]
    types: [Condition]
    obligations: { compartment: patient }
`

function policies(t: Test, text = POLICIES): string {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-strength-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  writeFileSync(join(folder, 'step-up.yaml'), text)
  return folder
}

async function setUp(t: Test, options: Parameters<typeof startGateway>[0] = {}) {
  const time = { now: Date.now() }
  const clock = { now: () => time.now, monotonic: () => performance.now() }
  const gateway = await startGateway({
    handler: (received, ...rest) => {
      const [, type, id] = /([A-Z]\w+)\/(\w+)/.exec(received.target) ?? []
      const resource = { resourceType: type, id, subject: { reference: 'Patient/p1' } }
      json(JSON.stringify(resource))(received, ...rest)
    },
    clock,
    ...options,
  })
  t.teardown(() => gateway.close())
  const person = { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }
  const token = async (claims: Record<string, unknown>) => gateway.token({ ...person, ...claims })
  const ask = async (bearer: string, target = '/Condition/c1'): Promise<string> => {
    const answer = await fetch(`${gateway.url}${target}`, {
      headers: { authorization: `Bearer ${bearer}` },
    })
    await answer.arrayBuffer()
    const challenge = answer.headers.get('www-authenticate') ?? ''
    return `${answer.status} ${challenge.replace(/.*error=/, '').replace(/, resource_metadata.*/, '')}`.trim()
  }
  return { gateway, time, token, ask, seconds: Math.floor(time.now / 1000) }
}

const STEP_UP = '401 "insufficient_user_authentication", acr_values="gold platinum", max_age="900"'

t.test('a rule may ask how and when the person logged in (AUTHN-14, RFC 9470)', async (t) => {
  const { token, ask, seconds } = await setUp(t, { config: { policies: policies(t) } })
  const good = { acr: 'gold', amr: ['otp', 'pwd', 'user'], auth_time: seconds - 800 }
  const rows: [what: string, claims: Record<string, unknown>, answer: string][] = [
    ['as it should be', {}, '200'],
    ['another acr of the list', { acr: 'platinum' }, '200'],
    ['amr in one text', { amr: 'otp pwd' }, '200'],
    ['auth_time a moment ahead', { auth_time: seconds + 5 }, '200'],
    ['another acr', { acr: 'silver' }, STEP_UP],
    ['acr in another case', { acr: 'Gold' }, STEP_UP],
    ['acr a list', { acr: ['gold'] }, STEP_UP],
    ['no acr', { acr: undefined }, STEP_UP],
    ['one method missing', { amr: ['otp'] }, STEP_UP],
    ['no amr', { amr: undefined }, STEP_UP],
    ['too long ago', { auth_time: seconds - 901 }, STEP_UP],
    ['no auth_time', { auth_time: undefined }, STEP_UP],
    ['auth_time far ahead', { auth_time: seconds + 3600 }, STEP_UP],
    ['auth_time a text', { auth_time: String(seconds) }, STEP_UP],
  ]
  for (const [what, claims, answer] of rows) {
    t.equal(await ask(await token({ ...good, ...claims })), answer, what)
  }
  const weak = await token({})
  t.equal(await ask(weak, '/Observation/o1'), '200', 'where no rule asks, nothing is asked')
  t.equal(await ask(weak, '/Device/d1'), '403', 'where no login would help, none is asked for')
  const none = await token({ scope: 'user/Observation.rs' })
  const missing = '403 "insufficient_scope", scope="user/Condition.r"'
  t.equal(await ask(none), missing, 'nor where the scope is missing')
  const own = await token({ scope: 'user/*.rs patient/*.rs', patient: 'p1' })
  t.equal(await ask(own), '200', 'nor where another level permits')
})

t.test('the purpose is the token’s, whatever the request says (AUTHN-17)', async (t) => {
  const rule = 'when: "\'TREAT\' in principal.purposes"'
  const text = POLICIES.replace("when: principal.acr == 'gold' && 'otp' in principal.amr", rule)
  const { gateway, token, ask } = await setUp(t, { config: { policies: policies(t, text) } })
  t.equal(await ask(await token({ purpose_of_use: ['TREAT'] }), '/Procedure/p1'), '200')
  const research = await token({ purpose_of_use: ['HRESCH'] })
  for (const name of ['x-purpose-of-use', 'purpose-of-use', 'x-purposeofuse', 'purpose_of_use']) {
    const headers = { authorization: `Bearer ${research}`, [name]: 'TREAT' }
    const { status } = await fetch(`${gateway.url}/Procedure/p1`, { headers })
    t.equal(status >= 400, true, name)
  }
})

t.test('a login grows old while its token is remembered (AUTHN-14)', async (t) => {
  const { token, ask, time, seconds } = await setUp(t, { config: { policies: policies(t) } })
  const bearer = await token({ acr: 'gold', amr: ['otp', 'pwd'], auth_time: seconds })
  for (const target of ['/Condition/c1', '/Encounter/e1']) t.equal(await ask(bearer, target), '200')
  time.now += 61_000
  t.equal(await ask(bearer, '/Encounter/e1'), '403', 'a condition is asked again')
  t.equal(await ask(bearer), '200')
  t.equal(await ask(bearer, '/Procedure/p1'), '200')
  time.now += 840_000
  const again = await token({
    exp: seconds + 2000,
    acr: 'gold',
    amr: ['otp', 'pwd'],
    auth_time: seconds,
  })
  t.equal(await ask(again), STEP_UP)
})

t.test(
  'an issuer may be asked for it in everything; a client alone never (AUTHN-14)',
  async (t) => {
    const { gateway, token, ask, time, seconds } = await setUp(t, {
      issuer: { strength: { acr: ['gold'], withinSeconds: 100 } },
      config: { policies: policies(t), limits: { failures: { burst: 1, perSecond: 0.001 } } },
    })
    const bearer = await token({ acr: 'gold', auth_time: seconds })
    t.equal(await ask(bearer, '/Observation/o1'), '200')
    time.now += 101_000
    const challenge = '401 "insufficient_user_authentication", acr_values="gold", max_age="100"'
    for (let i = 0; i < 5; i++) t.equal(await ask(bearer, '/Observation/o1'), challenge)
    t.pass('and it counts as no failed authentication')
    const backend = await token({ sub: undefined, scope: 'system/*.rs', fhirUser: undefined })
    t.match(await ask(backend, '/Observation/o1'), /^403/, 'refused by policy, not for its login')
    t.match(gateway.log.join('\n'), /strength-insufficient.*authz_fail|authz_fail.*strength-ins/)
  },
)

t.test('a condition on the login is never remembered, however it asks', (t) => {
  const conditions = [
    'principal.authenticatedAgo < 60.0',
    "principal['authenticatedAgo'] < 60.0",
    'has(principal.authenticatedAgo) && principal.authenticatedAgo < 60.0',
  ]
  for (const when of conditions) {
    const text = POLICIES.replace('principal.authenticatedAgo < 60.0', when)
    const set = loadPolicies(policies(t, text))
    const principal = {
      ...{ issuer: 'i', subject: 's', clientId: 'c', kind: 'user' as const, key: 'k', scopes: [] },
      ...{ patient: undefined, fhirUser: undefined, roles: [], purposes: [] },
      ...{ organization: undefined, tokenId: undefined, issuedAt: 0, expiresAt: 0 },
      authTime: 1000,
    }
    const asked = (now: number) =>
      set.evaluate(principal, {
        ...{ interaction: 'read', type: 'Encounter', level: 'user', id: 'e1', method: 'GET' },
        time: now * 1000,
      }).permitted
    t.ok(asked(1010), when)
    t.notOk(asked(1090), when)
  }
  t.end()
})

t.test('one demand more never lets anybody in (AUTHN-14)', (t) => {
  const strength = fc.record(
    {
      acr: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { minLength: 1 }),
      amr: fc.uniqueArray(fc.constantFrom('x', 'y'), { minLength: 1 }),
      within: fc.integer({ min: 1, max: 100 }),
    },
    { requiredKeys: [] },
  )
  const who = fc.record(
    {
      acr: fc.constantFrom('a', 'b', 'c', 'd'),
      amr: fc.uniqueArray(fc.constantFrom('x', 'y')),
      authTime: fc.integer({ min: 800, max: 1100 }),
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(who, fc.array(strength, { maxLength: 4 }), strength, (person, some, more) => {
      const before = findLack(person, some, 1000) === undefined
      const after = findLack(person, [...some, more], 1000) === undefined
      const alone = findLack(person, [more], 1000) === undefined
      return after === (before && alone)
    }),
  )
  t.end()
})

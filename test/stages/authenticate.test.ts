import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { createIntrospection } from '../../src/adapters/introspection.ts'
import { createIssuerKeys } from '../../src/adapters/issuer-keys.ts'
import { createMemoryReplay } from '../../src/adapters/memory-replay.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { Arrival, Principal } from '../../src/exchange.ts'
import { toRefusal } from '../../src/refusal.ts'
import { createAuthenticate } from '../../src/stages/authenticate/authenticate.ts'
import { startIssuer } from '../support/issuer.ts'
import { createProver, digest } from '../support/prover.ts'

const AUDIENCE = 'https://public.example/fhir'
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }

async function setUp(settings: Record<string, unknown> = {}) {
  const issuer = await startIssuer()
  const config = configSchema.parse({
    public: { url: AUDIENCE },
    upstream: { url: 'http://127.0.0.1:9/base' },
    issuers: [{ url: issuer.url, ...settings }],
  })
  const time: { offset: number; held?: number } = { offset: 0 }
  const clock = { now: () => time.held ?? Date.now() + time.offset, monotonic: () => 0 }
  const keys = createIssuerKeys(config, silent, clock.now)
  await keys.start()
  const authenticate = createAuthenticate(config, {
    ...{ keys, clock },
    replays: createMemoryReplay({ most: 10_000, clock }),
    denylist: { isDenied: () => false },
    introspection: createIntrospection(config, { log: silent, keys, now: clock.now }),
  })
  const ask = async (token: string, scheme = 'Bearer'): Promise<Principal> =>
    authenticate({ rawHeaders: ['Authorization', `${scheme} ${token}`] } as unknown as Arrival)
  return {
    authenticate,
    issuer,
    keys,
    time,
    ask,
    /** The reason of the refusal, or 'accepted'. */
    verdict: async (token: string, scheme?: string): Promise<string> =>
      ask(token, scheme).then(
        () => 'accepted',
        (error: unknown) => toRefusal(error).reason,
      ),
    close: async () => {
      await keys.close()
      await issuer.close()
    },
  }
}

t.test('what a principal is (AUTHN-7, CTX-1, CTX-2, SCOPE-15)', async (t) => {
  const { issuer, ask, close } = await setUp({ claims: { roles: 'realm_access.roles' } })
  t.teardown(close)
  const of = async (claims: Record<string, unknown>): Promise<Principal> =>
    ask(await issuer.token({ aud: AUDIENCE, ...claims }))
  t.match(
    await of({ sub: 'a', client_id: 'b', patient: 'p1', fhirUser: `${AUDIENCE}/Patient/p1` }),
    {
      kind: 'user',
      subject: 'a',
      clientId: 'b',
      patient: 'p1',
      fhirUser: { type: 'Patient', id: 'p1' },
    },
  )
  t.match(await of({ sub: undefined, client_id: 'b' }), { kind: 'system' })
  t.match(await of({ sub: 'b', client_id: 'b' }), { kind: 'system' })
  t.match(await of({ realm_access: { roles: ['nurse'] } }), { roles: ['nurse'] })
  t.match(await of({ purpose_of_use: [{ system: 'x', code: 'TREAT' }] }), { purposes: ['TREAT'] })
  for (const patient of [
    'Patient/p1',
    'https://x/Patient/p1',
    ['p1'],
    { id: 'p1' },
    '',
    '..',
    'p 1',
    'p1?x',
  ]) {
    t.equal((await of({ patient })).patient, undefined, `no patient in ${JSON.stringify(patient)}`)
  }
  for (const fhirUser of [
    'https://evil/Practitioner/1',
    'Practitioner',
    'Device/1',
    'Practitioner/1/x',
    '',
    7,
  ]) {
    t.equal(
      (await of({ fhirUser })).fhirUser,
      undefined,
      `no fhirUser in ${JSON.stringify(fhirUser)}`,
    )
  }
  const [one, two] = [
    await of({ sub: 'x', client_id: 'y' }),
    await of({ sub: undefined, client_id: 'x' }),
  ]
  t.not(one.key, two.key, 'a person and a client of the same name are two')
})

t.test(
  'a token that lives too long is refused, where an issuer should make none (BKS-2)',
  async (t) => {
    const { issuer, verdict, close } = await setUp({ maximumLifetimeSeconds: 300 })
    t.teardown(close)
    const now = Math.floor(Date.now() / 1000)
    const rows: [claims: Record<string, unknown>, reason: string][] = [
      [{ iat: now, exp: now + 300 }, 'accepted'],
      [{ iat: now - 200, exp: now + 100 }, 'accepted'],
      [{ iat: now, exp: now + 301 }, 'token-invalid'],
      [{ iat: now - 300, exp: now + 1 }, 'token-invalid'],
      [{ iat: undefined, exp: now + 60 }, 'token-invalid'],
    ]
    for (const [claims, reason] of rows) {
      const token = await issuer.token({ aud: AUDIENCE, ...claims })
      t.equal(await verdict(token), reason, JSON.stringify(claims))
    }
  },
)

t.test(
  'slow, frozen, and keys that rotate under load: nobody is locked out (AUTHN-10)',
  async (t) => {
    const { issuer, verdict, time, close } = await setUp()
    t.teardown(close)
    const tokens = async (many: number, kid?: string) =>
      Promise.all(
        Array.from({ length: many }, async (_, at) =>
          issuer.token({ aud: AUDIENCE, n: at }, kid === undefined ? {} : { kid: `${kid}-${at}` }),
        ),
      )
    const verdicts = async (all: readonly string[]) =>
      new Set(await Promise.all(all.map(async (token) => verdict(token))))
    let fetches = issuer.jwksFetches()
    for (let round = 0; round < 3; round++) {
      const old = await tokens(10)
      t.same(await verdicts(old), new Set(['accepted']))
      await issuer.rotate()
      time.offset += 11_000
      const [fresh, strange] = [await tokens(30), await tokens(30, 'strange')]
      const mixed = fresh.flatMap((token, at) => [strange[at]!, token])
      const found = await Promise.all(mixed.map(async (token) => verdict(token)))
      t.same(new Set(found.filter((_, at) => at % 2 === 1)), new Set(['accepted']), 'the new key')
      t.same(new Set(found.filter((_, at) => at % 2 === 0)), new Set(['token-invalid']), 'no key')
      t.ok(issuer.jwksFetches() - fetches <= 1, 'one fetch for all of them')
      fetches = issuer.jwksFetches()
      t.same(await verdicts(old), new Set(['token-invalid']), 'the key of before is gone')
    }
    const known = await tokens(5)
    let asked = 0
    issuer.failWith(() => {
      asked += 1
    })
    time.offset += 11_000
    const strange = verdicts(await tokens(50, 'frozen'))
    t.same(await verdicts(known), new Set(['accepted']), 'frozen: who is known waits for nobody')
    t.same(await strange, new Set(['token-invalid']))
    t.equal(asked, 1, 'and one question hangs, not fifty')
  },
)

t.test('a token that was verified is checked again for what passes with time', async (t) => {
  const { issuer, verdict, time, close } = await setUp({
    clockSkewSeconds: 0,
    maximumAgeSeconds: 120,
  })
  t.teardown(close)
  const token = await issuer.token({ aud: AUDIENCE }, { expiresIn: 60 })
  t.equal(await verdict(token), 'accepted')
  t.equal(await verdict(token), 'accepted', 'from memory')
  time.offset = 61_000
  t.equal(await verdict(token), 'token-expired', 'expired meanwhile')
  time.offset = 0
  const old = await issuer.token({ aud: AUDIENCE }, { expiresIn: 600 })
  t.equal(await verdict(old), 'accepted')
  time.offset = 121_000
  t.equal(await verdict(old), 'token-expired', 'too old meanwhile')
})

t.test(
  'the issuer is away: known keys go on, unknown is 503, and it is not flooded (AUTHN-10)',
  async (t) => {
    const { issuer, verdict, time, close } = await setUp()
    t.teardown(close)
    issuer.failWith((response) => response.destroy())
    const token = await issuer.token({ aud: AUDIENCE })
    t.equal(await verdict(token), 'accepted', 'a known key needs no issuer')
    t.equal(
      await verdict(await issuer.token({ aud: AUDIENCE }, { kid: 'unknown' })),
      'token-invalid',
    )
    time.offset = 3_700_000
    const later = await issuer.token({ aud: AUDIENCE }, { expiresIn: 7200 })
    t.equal(await verdict(later), 'issuer-unavailable', 'stale keys are not believed for ever')
    issuer.failWith(undefined)
    time.offset += 11_000
    t.equal(await verdict(later), 'accepted', 'and all is well when it is back')
    const before = issuer.jwksFetches()
    await Promise.all(
      Array.from({ length: 200 }, async (_, i) =>
        verdict(await issuer.token({ aud: AUDIENCE }, { kid: `random-${i}` })),
      ),
    )
    t.ok(issuer.jwksFetches() - before <= 1, 'random kids cost one fetch at most')
    await issuer.rotate()
    time.offset += 11_000
    t.equal(
      await verdict(await issuer.token({ aud: AUDIENCE }, { expiresIn: 7200 })),
      'accepted',
      'a new key is found',
    )
  },
)

t.test('exp, nbf and iat to the second, the clock held still (AUTHN-5)', async (t) => {
  const { issuer, verdict, time, close } = await setUp({ clockSkewSeconds: 30 })
  t.teardown(close)
  const now = Math.floor(Date.now() / 1000)
  time.held = now * 1000
  const rows: [claims: Record<string, unknown>, reason: string][] = [
    [{ exp: now - 29 }, 'accepted'],
    [{ exp: now - 30 }, 'token-expired'],
    [{ nbf: now + 30 }, 'accepted'],
    [{ nbf: now + 31 }, 'token-invalid'],
    [{ iat: now + 30 }, 'accepted'],
    [{ iat: now + 31 }, 'token-invalid'],
  ]
  for (const [claims, reason] of rows) {
    const token = await issuer.token({ aud: AUDIENCE, iat: now, exp: now + 300, ...claims })
    t.equal(await verdict(token), reason, JSON.stringify(claims))
  }
})

t.test('a key that left the set takes what it verified with it (AUTHN-10)', async (t) => {
  const { issuer, keys, verdict, close } = await setUp()
  t.teardown(close)
  const token = await issuer.token({ aud: AUDIENCE })
  t.equal(await verdict(token), 'accepted')
  const before = keys.generation(issuer.url)
  await keys.start()
  t.equal(keys.generation(issuer.url), before, 'the same keys again change nothing')
  t.equal(await verdict(token), 'accepted', 'from memory')
  await issuer.rotate()
  await keys.start()
  t.equal(keys.generation(issuer.url), before! + 1)
  t.equal(await verdict(token), 'token-invalid', 'remembered no longer')
  t.equal(await verdict(await issuer.token({ aud: AUDIENCE })), 'accepted', 'the new key holds')
})

t.test(
  'keys nobody could refresh for an hour vouch for nothing, remembered or not (AUTHN-10)',
  async (t) => {
    const { issuer, keys, verdict, time, close } = await setUp()
    t.teardown(close)
    const now = Math.floor(Date.now() / 1000)
    time.held = now * 1000
    const token = await issuer.token({ aud: AUDIENCE, iat: now, exp: now + 86_400 })
    t.equal(await verdict(token), 'accepted')
    await issuer.close()
    time.held = (now + 3599) * 1000
    t.equal(await verdict(token), 'accepted', 'an outage of the provider is ridden out')
    time.held = (now + 3601) * 1000
    t.equal(keys.generation(issuer.url), undefined)
    t.equal(await verdict(token), 'issuer-unavailable')
  },
)

t.test('in whatever order: let in are those who prove every bond (AUTHN-11, 12, 13)', async (t) => {
  const { authenticate, issuer, close } = await setUp()
  t.teardown(close)
  const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const provers = {
    own: await createProver('ES256', pair()),
    thief: await createProver('ES256', pair()),
  }
  const certificates = { own: Buffer.from('own'), thief: Buffer.from('thief') }
  const jkt = provers.own.thumbprint
  const x5t = { 'x5t#S256': digest(certificates.own) }
  const bonds = { free: undefined, key: { jkt }, certificate: x5t, both: { jkt, ...x5t } }
  const tokens: Record<string, string> = {}
  for (const [name, cnf] of Object.entries(bonds)) {
    tokens[name] = await issuer.token({ aud: AUDIENCE, scope: 'patient/*.rs', cnf })
  }
  const who = fc.constantFrom('own', 'own', 'thief', undefined)
  const shown = fc.record({
    bond: fc.constantFrom('free', 'key', 'certificate', 'both'),
    scheme: fc.constantFrom('Bearer', 'DPoP'),
    prover: who,
    /** Which token the proof is for, and whether it is one that was shown before. */
    proofFor: fc.constantFrom('same', 'same', 'same', 'another'),
    isReplayed: fc.boolean(),
    certificate: who,
  })
  const used = new Map<string, string>()
  let accepted = 0
  await fc.assert(
    fc.asyncProperty(shown, async ({ bond, scheme, prover, proofFor, isReplayed, certificate }) => {
      const token = tokens[bond]!
      const request = { method: 'GET', url: `${AUDIENCE}/Patient/p1` }
      const about = proofFor === 'same' ? token : tokens['free']! + 'x'
      const old = isReplayed ? used.get(bond) : undefined
      const proof =
        old ?? (prover && (await provers[prover as 'own'].prove({ ...request, token: about })))
      const needsKey = bond === 'key' || bond === 'both'
      const needsCertificate = bond === 'certificate' || bond === 'both'
      const expected =
        (scheme === 'DPoP') === needsKey &&
        (!needsCertificate || certificate === 'own') &&
        (!needsKey || (old === undefined && prover === 'own' && proofFor === 'same'))
      const arrival = {
        ...{ method: 'GET', target: '/Patient/p1', headers: {} },
        rawHeaders: [
          ...['Authorization', `${scheme} ${token}`],
          ...(proof === undefined ? [] : ['DPoP', proof]),
        ],
        clientCertificate: certificate && certificates[certificate as 'own'],
      } as unknown as Arrival
      let found: boolean
      try {
        await authenticate(arrival)
        found = true
      } catch {
        found = false
      }
      if (found && needsKey) used.set(bond, proof!)
      if (found) accepted += 1
      return found === expected
    }),
    { numRuns: 600 },
  )
  t.ok(accepted > 20, 'some were let in')
})

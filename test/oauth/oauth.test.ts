import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { formatChallenge } from '../../src/oauth/challenge.ts'
import { checkForm, parseCredentials } from '../../src/oauth/credentials.ts'
import { createProofNonces } from '../../src/oauth/dpop-nonce.ts'
import { checkProof, normalizeUrl, PROOF_ALGORITHMS } from '../../src/oauth/dpop-proof.ts'
import { parseJwtObject } from '../../src/oauth/jwt-object.ts'
import { buildSmartConfiguration } from '../../src/oauth/smart-configuration.ts'
import { parseScopes } from '../../src/oauth/smart-scope.ts'
import { createProver, digest } from '../support/prover.ts'

// requirements §3.4, the scope vector table: scope → letters by level and target, '' = nothing.
const vectors: [scope: unknown, grants: string][] = [
  ['patient/Observation.rs', 'patient/Observation:rs'],
  ['patient/Observation.sr', ''],
  ['patient/Observation.dus', ''],
  ['patient/Observation.rr', ''],
  ['patient/Observation.crudsx', ''],
  ['patient/Observation.', ''],
  ['patient/Observation', ''],
  ['', ''],
  ['user/*.cruds', 'user/*:cruds'],
  ['user/*.*', 'user/*:cruds'],
  ['user/*.read', 'user/*:rs'],
  ['user/*.write', 'user/*:cud'],
  ['patient/observation.rs', ''],
  ['Patient/Observation.rs', ''],
  ['patient/Observation.reads', ''],
  ['patient/Observation.rs?category=a', 'patient/Observation:rs?category=a'],
  ['patient/Observation.rs?category=a&category=b', 'patient/Observation:rs?category=a&category=b'],
  ['patient/Observation.rs?category=a,b', 'patient/Observation:rs?category=a,b'],
  [
    'patient/Observation.rs?category=http://x|laboratory',
    'patient/Observation:rs?category=http://x|laboratory',
  ],
  ['patient/Observation.rs?category=%61', 'patient/Observation:rs?category=a'],
  ['patient/Observation.rs?', ''],
  ['patient/Observation.rs?category', ''],
  ['patient/Observation.rs?category=%zz', ''],
  ['patient/Observation.read?category=a', ''],
  ['http://smarthealthit.org/fhir/scopes/patient/*.r', 'patient/*:r'],
  ['https://smarthealthit.org/fhir/scopes/patient/*.r', ''],
  ['launch/patient openid fhirUser offline_access __x https://x/y', ''],
  ['openid patient/*.r user/Patient.s', 'patient/*:r user/Patient:s'],
  [['patient/*.r', 'user/*.s', 7], 'patient/*:r user/*:s'],
  [{ scope: 'patient/*.r' }, ''],
  [undefined, ''],
]

t.test('scopes grant what their grammar says and nothing else (SCOPE-1, 2, 16)', async (t) => {
  for (const [scope, grants] of vectors) {
    const found = parseScopes(scope).map(({ level, target, letters, filters }) => {
      const query = filters.map(([name, value]) => `${name}=${value}`).join('&')
      return `${level}/${target}:${[...letters].join('')}${query === '' ? '' : `?${query}`}`
    })
    t.equal(found.join(' '), grants, JSON.stringify(scope))
  }
})

const credentials: [headers: string[], expected: string][] = [
  [['Authorization', 'Bearer abc'], 'Bearer abc'],
  [['authorization', 'bearer abc'], 'Bearer abc'],
  [['Authorization', 'DPoP abc'], 'DPoP abc'],
  [[], 'credentials-missing'],
  [['Authorization', ''], 'credentials-missing'],
  [['Authorization', 'Basic abc'], 'credentials-missing'],
  [['Authorization', 'Bearer'], 'credentials-malformed'],
  [['Authorization', 'Bearer '], 'credentials-malformed'],
  [['Authorization', 'Bearer  abc'], 'credentials-malformed'],
  [['Authorization', 'Bearer a,b'], 'credentials-malformed'],
  [['Authorization', 'Bearer a b'], 'credentials-malformed'],
  [['Authorization', 'Bearer a', 'AUTHORIZATION', 'Bearer a'], 'credentials-malformed'],
]

t.test('one token, in one header (AUTHN-2, AUTHN-3)', async (t) => {
  for (const [headers, expected] of credentials) {
    let found: string
    try {
      const { scheme, token } = parseCredentials(headers)
      checkForm(token)
      found = `${scheme} ${token}`
    } catch (error) {
      found = (error as { reason: string }).reason
    }
    t.equal(found, expected, JSON.stringify(headers))
  }
})

t.test('challenges are of RFC 6750 form whatever stands in them', async (t) => {
  t.equal(formatChallenge({ realm: 'https://x/fhir' }), 'Bearer realm="https://x/fhir"')
  t.equal(
    formatChallenge({ realm: 'a"b\\c\r\nX: y', error: 'invalid_token' }),
    'Bearer realm="a\\"b\\\\cX: y", error="invalid_token"',
  )
})

t.test(
  'smart-configuration has what is required and hides what is not enforced (DISC-2)',
  async (t) => {
    const text = buildSmartConfiguration({
      takesV1: true,
      metadata: {
        issuer: 'https://i',
        jwks_uri: 'https://i/jwks',
        token_endpoint: 'https://i/token',
        authorization_endpoint: 'https://i/a',
        grant_types_supported: ['authorization_code'],
      },
    })
    const found = JSON.parse(text) as Record<string, unknown>
    t.match(found, {
      token_endpoint: 'https://i/token',
      grant_types_supported: ['authorization_code'],
      code_challenge_methods_supported: ['S256'],
    })
    t.notOk('issuer' in found, 'no issuer without sso-openid-connect')
    const capabilities = found['capabilities'] as string[]
    t.ok(capabilities.includes('permission-v2') && capabilities.includes('permission-v1'))
    const v2 = buildSmartConfiguration({ takesV1: false, metadata: {} })
    t.notOk(v2.includes('permission-v1'), 'what is switched off is not claimed (DISC-3)')
  },
)

// RFC 9449 §4.3: "servers SHOULD employ syntax-based normalization (Section 6.2.2 of [RFC3986]) and
// scheme-based normalization (Section 6.2.3 of [RFC3986])".
const urls: [one: string, other: string | undefined, same: boolean][] = [
  ['https://a.example/fhir/Patient/1', 'https://a.example/fhir/Patient/1', true],
  ['https://a.example/fhir', 'HTTPS://A.EXAMPLE/fhir', true],
  ['https://a.example/fhir', 'https://a.example:443/fhir', true],
  ['http://a.example/fhir', 'http://a.example:80/fhir', true],
  ['https://a.example', 'https://a.example/', true],
  ['https://a.example/fhir', 'https://a.example/fhir?x=1#y', true],
  ['https://a.example/fhir/Patient', 'https://a.example/fhir/%50atient', true],
  ['https://a.example/a%2fb', 'https://a.example/a%2Fb', true],
  ['https://a.example/fhir/p', 'https://a.example/x/../fhir/./p', true],
  ['https://[::1]:8443/fhir', 'https://[0:0:0:0:0:0:0:1]:8443/fhir', true],
  ['https://a.example/fhir', 'https://a.example/FHIR', false],
  ['https://a.example/fhir', 'https://a.example/fhir/', false],
  ['https://a.example/fhir', 'http://a.example/fhir', false],
  ['https://a.example/fhir', 'https://a.example:8443/fhir', false],
  ['https://a.example/fhir', 'http://a.example:443/fhir', false],
  ['https://a.example/fhir', 'https://b.example/fhir', false],
  ['https://a.example/a/b', 'https://a.example/a%2Fb', false],
  ['https://a.example/a', 'https://a.example/%61%00', false],
  ['https://a.example/a', 'https://a.example/%2561', false],
  ...[
    'https://x@a.example/fhir',
    'https:///fhir',
    'https:/a.example/fhir',
    'https://a.example\\fhir',
    'https://a.example/f\thir',
    ' https://a.example/fhir',
    'https://a.example/%',
    'https://a.example/%g0',
    'https://a.example:99999/',
    'ftp://a.example/',
    'data:,x',
    '//a.example/fhir',
    '',
  ].map((text): [string, undefined, false] => [text, undefined, false]),
]

t.test('htu: one form for what RFC 3986 calls one address (AUTHN-11)', async (t) => {
  for (const [one, other, same] of urls) {
    if (other === undefined) t.equal(normalizeUrl(one), undefined, JSON.stringify(one))
    else t.equal(normalizeUrl(one) === normalizeUrl(other), same, `${one} ${other}`)
  }
  const part = fc.string({ unit: fc.constantFrom(...Array.from('aZ0-._~%/4:?#[]@!$&;=')) })
  fc.assert(
    fc.property(part, (path) => {
      const once = normalizeUrl(`https://a.example/${path}`)
      return once === undefined || normalizeUrl(once) === once
    }),
  )
})

t.test('a proof of every algorithm, and its time to the second (AUTHN-11)', async (t) => {
  const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve })
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pairOf = (alg: string) => {
    if (alg.startsWith('ES')) return ec(alg.replace('ES', 'P-').replace('512', '521'))
    return alg.startsWith('Ed') ? generateKeyPairSync('ed25519') : rsa
  }
  const [now, url, token] = [1_800_000_000, 'https://a.example/fhir', 'token']
  const check = (proof: string, thumbprint: string, changes: object = {}): string => {
    try {
      const { id } = checkProof(proof, {
        ...{ method: 'GET', url, thumbprint, tokenHash: digest(token), now },
        ...{ maximumAge: 60, clockSkew: 10, algorithms: new Set(PROOF_ALGORITHMS), ...changes },
      })
      return id
    } catch (error) {
      return (error as { reason: string }).reason
    }
  }
  for (const alg of PROOF_ALGORITHMS) {
    const { prove, thumbprint } = await createProver(alg, pairOf(alg))
    const proof = await prove({ method: 'GET', url, token }, { claims: { iat: now, jti: alg } })
    t.equal(check(proof, thumbprint), alg)
    t.equal(check(proof, thumbprint, { algorithms: new Set() }), 'proof-invalid', 'not listed')
  }
  const { prove, thumbprint, jwk } = await createProver('ES256', ec('P-256'))
  const said = { ...jwk, use: 'sig', key_ops: ['verify'], alg: 'ES256', kid: 'k' }
  const changes = { header: { jwk: said }, claims: { iat: now, jti: 'said' } }
  t.equal(check(await prove({ method: 'GET', url, token }, changes), thumbprint), 'said')
  const nowhere = await prove({ method: 'GET', url: 'x', token }, { claims: { iat: now } })
  t.equal(check(nowhere, thumbprint, { url: 'x' }), 'proof-invalid', 'no URL is like no other')
  // prettier-ignore
  const rows: [claims: Record<string, unknown>, held: boolean][] = [
    [{ iat: now - 70 }, true],   [{ iat: now - 70.5 }, false],
    [{ iat: now + 10 }, true],   [{ iat: now + 10.5 }, false],
    [{ exp: now - 9 }, true],    [{ exp: now - 10 }, false],   [{ exp: String(now + 60) }, false],
    [{ nbf: now + 10 }, true],   [{ nbf: now + 11 }, false],   [{ nbf: null }, false],
    [{ jti: 'j'.repeat(256) }, true],
  ]
  for (const [claims, held] of rows) {
    const proof = await prove({ method: 'GET', url, token }, { claims: { iat: now, ...claims } })
    t.equal(check(proof, thumbprint) !== 'proof-invalid', held, JSON.stringify(claims))
  }
})

t.test('no byte of a proof can be changed (AUTHN-11)', async () => {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { prove, thumbprint } = await createProver('ES256', pair)
  const [url, token] = ['https://a.example/fhir', 'token']
  const proof = await prove({ method: 'GET', url, token })
  const now = Date.now() / 1000
  const expected = { method: 'GET', url, thumbprint, tokenHash: digest(token), now }
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.'
  const bits = { maximumAge: 600, clockSkew: 600, algorithms: new Set(PROOF_ALGORITHMS) }
  fc.assert(
    fc.property(fc.nat(proof.length - 1), fc.constantFrom(...Array.from(letters)), (at, letter) => {
      // The last letter of a signature has bits that belong to no byte.
      if (proof[at] === letter || at === proof.length - 1) return true
      try {
        checkProof(`${proof.slice(0, at)}${letter}${proof.slice(at + 1)}`, { ...expected, ...bits })
        return false
      } catch (error) {
        return (error as { reason: string }).reason === 'proof-invalid'
      }
    }),
    { numRuns: 300 },
  )
})

t.test('nonces hold for one to two windows, by the key that made them (AUTHN-11)', async (t) => {
  const [ours, same, theirs] = [1, 1, 2].map((n) => createProofNonces(Buffer.alloc(32, n), 300))
  const nonce = ours!.current(1000)
  t.match(nonce, /^[\w-]{43}$/)
  for (const [now, held] of [
    ...[
      [900, true],
      [1000, true],
      [1199, true],
      [1200, true],
      [1499, true],
    ],
    ...[
      [1500, false],
      [899, false],
      [99_999, false],
    ],
  ] as [number, boolean][]) {
    t.equal(ours!.holds(nonce, now), held, `at ${now}`)
    t.equal(same!.holds(nonce, now), held, 'every replica')
    t.notOk(theirs!.holds(nonce, now), 'another key')
  }
  for (const wrong of [undefined, null, '', 7, [nonce], `${nonce}x`, nonce.slice(1)])
    t.notOk(ours!.holds(wrong, 1000), JSON.stringify(wrong))
})

t.test('parts of a JWT: one JSON object, no member twice at any depth (RFC 7519 §4)', async (t) => {
  const rows: [text: string, held: boolean][] = [
    ['{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}', true],
    ['{"a":{},"b":[],"c":["a","a"],"d":"\\"a\\":"}', true],
    ['{}', true],
    ['{"a":1,"a":1}', false],
    ['{"a":1,"\\u0061":1}', false],
    ['{"x":{"a":1,"a":1}}', false],
    ['{"x":[[{"a":{"b":1},"a":1}]]}', false],
    ['{"x":{},"y":[1,2],"x":1}', false],
    ['[]', false],
    ['"a"', false],
    ['null', false],
    ['{', false],
    ['', false],
  ]
  for (const [text, held] of rows) {
    const part = Buffer.from(text).toString('base64url')
    if (held) t.strictSame(parseJwtObject(part), JSON.parse(text), text)
    else t.throws(() => parseJwtObject(part), SyntaxError, text)
  }
  for (const part of ['e30=', 'e3 0', 'e30\n', '{}']) t.throws(() => parseJwtObject(part), part)
  const deep = `{"x":${'['.repeat(8000)}${']'.repeat(8000)}}`
  t.ok(parseJwtObject(Buffer.from(deep).toString('base64url')), 'as deep as it likes')
})

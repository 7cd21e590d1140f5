import t from 'tap'
import { formatChallenge } from '../../src/oauth/challenge.ts'
import { parseCredentials } from '../../src/oauth/credentials.ts'
import { buildSmartConfiguration } from '../../src/oauth/smart-configuration.ts'
import { parseScopes } from '../../src/oauth/smart-scope.ts'

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
    t.ok((found['capabilities'] as string[]).includes('permission-v2'))
  },
)

import { readFileSync } from 'node:fs'
import t from 'tap'
import { parse } from 'yaml'
import { issuerSchema } from '../../src/config/schema.ts'
import { PRESET_NAMES } from '../../src/config/presets.ts'
import type { Config } from '../../src/config/schema.ts'
import type { Principal } from '../../src/exchange.ts'
import { claimAt } from '../../src/oauth/claims.ts'
import { parseScopes } from '../../src/oauth/smart-scope.ts'
import { toRefusal } from '../../src/refusal.ts'
import { createReadPrincipal } from '../../src/stages/authenticate/principal.ts'

const SETTINGS = { public: { url: 'https://public.example/fhir' }, access: access() }
const page = readFileSync(new URL('../../docs/issuers.md', import.meta.url), 'utf8')

function access(smartV1 = true): Config['access'] {
  return { hidden: 'not-found', smartV1 }
}

const of = (claims: object, settings: object = {}, all = SETTINGS): Principal =>
  createReadPrincipal(
    issuerSchema.parse({ url: 'https://issuer.example', ...settings }),
    all,
  )({ sub: 's', client_id: 'c', ...claims })

t.test('every example of the page is what becomes of its token', async (t) => {
  const presets = new Set<unknown>()
  for (const section of page.split('\n## ').slice(1)) {
    const [title = ''] = section.split('\n')
    const blocks = [...section.matchAll(/```(yaml|json)\n(.*?)```/gs)].map(
      ([, , text]) => text ?? '',
    )
    const [settings, claims, principal] = blocks.map((text) => parse(text) as object)
    t.equal(blocks.length, 3, `${title}: a setting, a token, a principal`)
    const issuer = issuerSchema.parse(settings)
    presets.add((settings as { preset?: string }).preset)
    t.match(createReadPrincipal(issuer, SETTINGS)(claims as never), principal, title)
  }
  for (const name of PRESET_NAMES) t.ok(presets.has(name), `${name} has an example`)
})

t.test('what is given goes before the preset, and no preset accepts a symmetric key', async (t) => {
  const given = { preset: 'okta', claims: { scope: 'granted' }, algorithms: ['ES256'] }
  const issuer = issuerSchema.parse({ url: 'https://issuer.example', ...given })
  t.match(issuer, { claims: { scope: 'granted', client: 'cid' }, algorithms: ['ES256'] })
  for (const preset of [undefined, ...PRESET_NAMES]) {
    const { algorithms } = issuerSchema.parse({ url: 'https://issuer.example', preset })
    t.notOk(algorithms.some((name) => name.startsWith('HS')))
  }
})

t.test('a path goes into objects, lists and names with dots, and never beyond', async (t) => {
  const claims = {
    'a.b': { c: 1 },
    a: { b: { c: 2, d: 3 } },
    list: [{ role: 'x' }, { role: ['y', 'z'] }, 7, null, { other: 1 }],
    'https://x.example/roles': ['r'],
  }
  const rows: [path: string, value: unknown][] = [
    ['a.b.c', 1],
    ['a.b.d', undefined],
    ['a.b', { c: 1 }],
    ['list.role', ['x', 'y', 'z']],
    ['https://x.example/roles', ['r']],
    ['constructor', undefined],
    ['a.constructor.name', undefined],
    ['list.length', []],
    ['__proto__', undefined],
    ['', undefined],
  ]
  for (const [path, value] of rows) t.same(claimAt(claims, path), value, path)
})

t.test('clients are told from persons by the mark of their issuer alone (SCOPE-15)', async (t) => {
  const keycloak = (claims: object): string =>
    of({ azp: 'app', client_id: undefined, ...claims }, { preset: 'keycloak' }).kind
  t.equal(keycloak({ preferred_username: 'service-account-app' }), 'system')
  for (const name of [
    'service-account-other',
    'service-account-',
    'Service-Account-app',
    7,
    ['app'],
  ]) {
    t.equal(keycloak({ preferred_username: name }), 'user', JSON.stringify(name))
  }
  t.equal(of({ preferred_username: 'service-account-c' }).kind, 'user', 'no preset, no mark')
  const auth0 = { preset: 'auth0' }
  t.equal(of({ sub: 'x@clients', azp: 'x', client_id: undefined }, auth0).kind, 'system')
  t.equal(of({ sub: 'y@clients', azp: 'x', client_id: undefined }, auth0).kind, 'user')
  t.equal(
    of({ azp: '$&', preferred_username: 'service-account-{client}' }, { preset: 'keycloak' }).kind,
    'user',
  )
  t.equal(of({ sub: 'me@x', uid: undefined, cid: 'c2' }, { preset: 'okta' }).subject, 'me@x')
})

t.test('who it is, is issuer and subject together (AUTHN-7)', async (t) => {
  const people: [claims: object, url: string][] = [
    [{ sub: 'x' }, 'https://a.example'],
    [{ sub: 'x' }, 'https://b.example'],
    [{ sub: 'x","' }, 'https://a.example'],
    [{ sub: undefined, client_id: 'x' }, 'https://a.example'],
  ]
  t.equal(new Set(people.map(([claims, url]) => of(claims, { url }).key)).size, people.length)
  const renamed = { email: 'new@x', preferred_username: 'new' }
  t.equal(of({ sub: 'x', ...renamed }).key, of({ sub: 'x', email: 'old@x' }).key)
})

t.test(
  'the words of SMART v1 can be switched off: then they grant nothing (SCOPE-2, DISC-3)',
  async (t) => {
    const scope = 'patient/Observation.read user/*.* patient/Patient.rs system/Patient.write'
    const lettersOf = (principal: Principal): string[] =>
      principal.scopes.map(({ letters }) => [...letters].join(''))
    t.same(lettersOf(of({ scope })), ['rs', 'cruds', 'rs', 'cud'])
    const v2 = { ...SETTINGS, access: access(false) }
    t.same(lettersOf(of({ scope }, {}, v2)), ['rs'])
    t.same(lettersOf(of({ scope: scope.split(' ') }, {}, v2)), ['rs'])
  },
)

t.test('extensions: what has not its form says nothing (UDAP-1, IUA-1)', async (t) => {
  const rows: [extensions: unknown, purposes: string[]][] = [
    [{ 'hl7-b2b': { purpose_of_use: ['TREAT'] } }, ['TREAT']],
    [{ 'hl7-b2b': { purpose_of_use: 'TREAT' } }, ['TREAT']],
    [{ 'hl7-b2b': { purpose_of_use: ['x#'] } }, []],
    [{ 'hl7-b2b': { purpose_of_use: ['http://evil#v#BTG'] } }, ['http://evil#v|BTG']],
    [{ ihe_iua: { purpose_of_use: [{ code: 7 }, null, 5, {}, []] } }, []],
    [
      { ihe_iua: { purpose_of_use: [{ system: 'http://evil', code: 'BTG' }] } },
      ['http://evil|BTG'],
    ],
    [{ 'hl7-b2b': [{ purpose_of_use: ['TREAT'] }] }, []],
    ['hl7-b2b', []],
    [null, []],
    [[], []],
  ]
  for (const [extensions, purposes] of rows) {
    t.same(of({ extensions }).purposes, purposes, JSON.stringify(extensions))
  }
  const organization = { extensions: { 'hl7-b2b': { organization_id: 'theirs' } } }
  t.equal(of({ ...organization, organization: 'ours' }).organization, 'ours')
  const odd = {
    ihe_iua: { person_id: 7, home_community_id: ['x'], national_provider_identifier: '' },
    ihe_bppc: { patient_id: {}, doc_id: [null, 'urn:uuid:1', 5], acp: '' },
  }
  t.same(of({ extensions: odd }).identity, {
    ...{ subjectName: undefined, homeCommunity: undefined, nationalProvider: undefined },
    ...{ person: undefined, consentPolicies: [], consentReferences: ['urn:uuid:1'] },
    consentPatient: undefined,
  })
  t.equal(of({}).identity, undefined)
})

t.test(
  'more than can be weighed is refused, not cut: what is left out could be a ban',
  async (t) => {
    const many = Array.from({ length: 1001 }, (_, at) => `r${at}`)
    const excessive: object[] = [
      { roles: many },
      { purpose_of_use: many },
      { extensions: { 'hl7-b2b': { consent_policy: many } } },
      { extensions: { ihe_bppc: { acp: many } } },
      { roles: ['x'.repeat(513)] },
    ]
    for (const claims of excessive) {
      try {
        of(claims)
        t.fail('accepted')
      } catch (error) {
        t.equal(toRefusal(error).reason, 'token-invalid')
      }
    }
    t.equal(of({ roles: many.slice(1) }).roles.length, 1000)
  },
)

t.test('scopes between commas, only where an issuer is said to write them so', async (t) => {
  const text = 'patient/*.rs,user/Patient.r, system/*.s'
  t.same(
    of({ scope: text }).scopes.map(({ level }) => level),
    ['system'],
  )
  const split = of({ scope: text }, { scopeSeparator: 'comma' })
  t.same(
    split.scopes.map(({ level }) => level),
    ['patient', 'user', 'system'],
  )
  // A comma in a filter means "or"; taken for the end of a scope it may narrow, and never widen.
  const [granular, ...others] = parseScopes('patient/Observation.rs?category=a,b', ',')
  t.same([granular?.filters, others], [[['category', 'a']], []])
})

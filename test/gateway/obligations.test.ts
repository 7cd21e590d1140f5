import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// What a policy demands on top of a permit, seen from outside: compartments other than the patient's,
// rates of a rule, the context of the launch; and parameters and headers that ask a second question.
const CANARY = 'CANARY'

const rule = (id: string, when: string, obligations: string, types = "['*']") => `
  - id: ${id}
    effect: permit
    when: >-
      ${when}
    levels: [user, system]
    interactions: [read, search-type, search-compartment, create, update]
    types: ${types}
    obligations: ${obligations}
`
const POLICIES = `policy: wards
description: for tests
rules:${rule('encounter', "'visit' in principal.roles", '{ compartment: encounter }')}${rule(
  'practitioner',
  "'own-cases' in principal.roles",
  '{ compartment: practitioner }',
)}${rule('slow', "'slow' in principal.roles", '{ rate: { burst: 2, perSecond: 0.01 } }')}${rule('author', "'author' in principal.roles", '{}', '[Provenance]')}${rule(
  'image',
  "'radiology' in principal.roles && 'ImagingStudy/i1' in principal.context",
  '{}',
  '[ImagingStudy]',
)}${rule('all', "'all' in principal.roles", '{}')}`

const observation = (id: string, more: object = {}) => ({
  resourceType: 'Observation',
  id,
  meta: { versionId: '1' },
  ...more,
})
const bundle = (...resources: object[]) =>
  json(
    JSON.stringify({
      resourceType: 'Bundle',
      type: 'searchset',
      entry: resources.map((resource) => ({ resource })),
    }),
  )

async function setUp(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'fhirewall-policies-'))
  await writeFile(join(folder, 'wards.yaml'), POLICIES)
  const gateway = await startGateway({ config: { policies: folder } })
  t.teardown(async () => {
    await gateway.close()
    await rm(folder, { recursive: true })
  })
  const ask = async (
    roles: string[],
    target: string,
    more: { claims?: object; method?: string; body?: string; headers?: object } = {},
  ) => {
    gateway.upstream.received.length = 0
    const claims = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1', roles, ...more.claims }
    const answer = await fetch(gateway.url + target, {
      method: more.method ?? 'GET',
      headers: {
        authorization: `Bearer ${await gateway.token(claims)}`,
        ...(more.body === undefined ? {} : { 'content-type': 'application/fhir+json' }),
        ...more.headers,
      },
      ...(more.body === undefined ? {} : { body: more.body }),
    })
    const text = await answer.text()
    t.notMatch(text, CANARY, target)
    return {
      status: answer.status,
      text,
      saw: gateway.upstream.received.map(
        ({ method, target }) => `${method} ${target.replace('/base', '')}`,
      ),
      received: [...gateway.upstream.received],
      retryAfter: answer.headers.get('retry-after'),
    }
  }
  return { ask, upstream: gateway.upstream }
}

const idsOf = (text: string): string[] =>
  ((JSON.parse(text) as { entry?: { resource: { id: string } }[] }).entry ?? []).map(
    ({ resource }) => resource.id,
  )

t.test('the compartment of an encounter, and of a practitioner', async (t) => {
  const { ask, upstream } = await setUp(t)
  const of = (id: string) => ({ encounter: { reference: `Encounter/${id}` } })
  const by = (id: string) => ({ performer: [{ reference: `Practitioner/${id}` }] })
  const visit = { claims: { encounter: 'e1' } }

  upstream.answerWith(
    bundle(
      observation('own', of('e1')),
      observation('other', { ...of('e12'), note: CANARY }),
      observation('none', { note: CANARY }),
      observation('elsewhere', {
        encounter: { reference: 'https://evil.example/Encounter/e1' },
        note: CANARY,
      }),
    ),
  )
  const found = await ask(['visit'], '/Observation?code=a', visit)
  t.strictSame(found.saw, ['GET /Observation?code=a&encounter=Encounter%2Fe1'])
  t.strictSame(idsOf(found.text), ['own'])

  upstream.answerWith(
    bundle(observation('own', by('d1')), observation('other', { ...by('d12'), note: CANARY })),
  )
  const cases = await ask(['own-cases'], '/Observation')
  t.strictSame(cases.saw, ['GET /Observation?performer=Practitioner%2Fd1'])
  t.strictSame(idsOf(cases.text), ['own'])

  upstream.answerWith(json(JSON.stringify(observation('o1', { ...of('e2'), note: CANARY }))))
  t.equal((await ask(['visit'], '/Observation/o1', visit)).status, 404)
  t.equal((await ask(['own-cases'], '/Observation/o1')).status, 404)
  const taken = JSON.stringify(observation('o1', of('e1')))
  const put = { ...visit, method: 'PUT', body: taken }
  const moved = await ask(['visit'], '/Observation/o1', put)
  t.equal(moved.status, 404, 'nothing is taken over')
  t.strictSame(moved.saw, ['GET /Observation/o1'])
  const given = { ...visit, method: 'POST', body: JSON.stringify(observation('o1', of('e2'))) }
  const away = await ask(['visit'], '/Observation', given)
  t.equal(away.status, 403, 'nothing is put into another')
  t.strictSame(away.saw, [])

  // Whose token names no owner, and types that are in no such compartment: nothing.
  for (const [roles, target, claims] of [
    [['visit'], '/Observation', {}],
    [['visit'], '/Observation', { encounter: 'Encounter/e1' }],
    [['visit'], '/Observation', { encounter: ['e1'] }],
    [['visit'], '/Organization', visit.claims],
    [['own-cases'], '/Observation', { fhirUser: 'PractitionerRole/d1' }],
    [['own-cases', 'visit'], '/Observation', {}],
  ] as const) {
    const { status, saw } = await ask([...roles], target, { claims })
    t.equal(status, 403, `${roles.join()} ${target} ${JSON.stringify(claims)}`)
    t.strictSame(saw, [])
  }
  // Both at once: what is in both.
  upstream.answerWith(
    bundle(
      observation('both', { ...of('e1'), ...by('d1') }),
      observation('visit', { ...of('e1'), note: CANARY }),
      observation('case', { ...by('d1'), note: CANARY }),
    ),
  )
  t.strictSame(idsOf((await ask(['visit', 'own-cases'], '/Observation', visit)).text), ['both'])
})

t.test('a rule with a rate of its own, for each principal', async (t) => {
  const { ask, upstream } = await setUp(t)
  upstream.answerWith(json(JSON.stringify(observation('o1'))))
  const statuses: number[] = []
  for (let n = 0; n < 3; n++) statuses.push((await ask(['slow'], '/Observation/o1')).status)
  t.strictSame(statuses, [200, 200, 429])
  const over = await ask(['slow'], '/Observation/o1')
  t.strictSame(over.saw, [], 'upstream is not asked')
  t.ok(Number(over.retryAfter) > 0)
  t.equal((await ask(['slow'], '/Observation/o1', { claims: { sub: 'other' } })).status, 200)
  t.equal((await ask(['all'], '/Observation/o1')).status, 200, 'other rules are not slowed')
})

t.test('fhirContext of the launch is a fact for policies (CTX-1)', async (t) => {
  const { ask, upstream } = await setUp(t)
  upstream.answerWith(json('{"resourceType":"ImagingStudy","id":"i1"}'))
  for (const [fhirContext, status] of [
    [[{ reference: 'ImagingStudy/i1' }], 200],
    [[{ reference: 'http://127.0.0.1:9/fhir/ImagingStudy/i1', role: 'x' }], 200],
    [[{ reference: 'https://evil.example/fhir/ImagingStudy/i1' }], 403],
    [[{ reference: 'ImagingStudy/i1', role: '' }], 403],
    [[{ reference: 'ImagingStudy/i1/_history/1' }], 403],
    [[{ canonical: 'ImagingStudy/i1' }], 403],
    [['ImagingStudy/i1'], 403],
    [{ reference: 'ImagingStudy/i1' }, 403],
    [Array.from({ length: 51 }, () => ({ reference: 'ImagingStudy/i1' })), 403],
    [undefined, 403],
  ] as const) {
    const found = await ask(['radiology'], '/ImagingStudy/i1', { claims: { fhirContext } })
    t.equal(
      found.status,
      status,
      (JSON.stringify(fhirContext) as string | undefined)?.slice(0, 80) ?? 'none',
    )
  }
})

t.test('_list is a search of the list, in the caller’s view', async (t) => {
  const { ask, upstream } = await setUp(t)
  const list = {
    resourceType: 'List',
    id: 'l1',
    entry: [
      { item: { reference: 'Observation/o1' } },
      { item: { reference: 'Observation/o2' } },
      { item: { reference: 'Condition/c1' } },
      { item: { reference: 'https://evil.example/Observation/o3' } },
    ],
  }
  upstream.answerWith((request, response, raw) =>
    bundle(...(request.target.startsWith('/base/List') ? [list] : [observation('o1')]))(
      request,
      response,
      raw,
    ),
  )
  const { saw } = await ask(['all'], '/Observation?_list=l1&code=a')
  t.strictSame(saw, ['GET /List?_id=l1&_count=101', 'GET /Observation?_id=o1,o2&code=a'])
  Object.assign(list, {
    meta: {
      security: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'R' }],
    },
  })
  const unseen = await ask(['all'], '/Observation?_list=l1')
  t.match(unseen.saw.at(-1), /_id=fhirewall\.matches\.nothing/, 'an unseen list is an empty one')
  for (const value of ['$current-allergies', 'a,b', 'List/l1', 'a%7Cb']) {
    const { status, saw } = await ask(['all'], `/Observation?_list=${value}`)
    t.equal(status, 400, value)
    t.strictSame(saw, [])
  }
})

t.test('_filter asks by parameters, each permitted as the parameter it is', async (t) => {
  const { ask, upstream } = await setUp(t)
  upstream.answerWith(bundle(observation('o1')))
  const filter = async (text: string, type = 'Observation') =>
    ask(['all'], `/${type}?_filter=${encodeURIComponent(text)}`)
  for (const [text, sent] of [
    ['code eq http://loinc.org|1234-5', undefined],
    [
      '  code   eq "a, b"  and (date ge 2014-10-10 or not(status eq final))',
      'code eq "a, b" and (date ge 2014-10-10 or not (status eq final))',
    ],
    ['_lastUpdated gt 2020-01-01 and value-quantity lt 5', undefined],
    ['code pr true', undefined],
    ['code co "and ) (or"', undefined],
  ] as const) {
    const { status, saw } = await filter(text)
    t.equal(status, 200, text)
    t.equal(decodeURIComponent(saw[0] ?? ''), `GET /Observation?_filter=${sent ?? text}`)
  }
  for (const text of [
    'subject.name eq a',
    'subject[type eq Patient].name eq a',
    'subject:Patient.name eq a',
    'nonsense eq a',
    'code in http://example.org/vs',
    'code ss a',
    'code re "(a+)+"',
    'code eq',
    'code eq a and',
    'code eq a b',
    '(code eq a',
    'code eq a)',
    'not code eq a',
    'code eq "a',
    'code eq "\\u0041"',
    '_has:Observation:patient:code eq a',
    '_text eq a',
    '_filter eq a',
    `${'('.repeat(20)}code eq a${')'.repeat(20)}`,
    `${'code eq a and '.repeat(99)}code eq a`,
    // REST-12: by what is masked for everybody.
    'identifier eq http://hl7.org/fhir/sid/us-ssn|123-45-6789',
  ]) {
    const { status, saw } = await filter(
      text,
      text.startsWith('identifier') ? 'Patient' : undefined,
    )
    t.equal(status, 400, text)
    t.strictSame(saw, [], text)
  }
})

t.test('X-Provenance is a create of its own', async (t) => {
  const { ask, upstream } = await setUp(t)
  upstream.answerWith(json('{"resourceType":"Observation","id":"o1"}', 201))
  const provenance =
    '{"resourceType":"Provenance","recorded":"2026-01-01T00:00:00Z","agent":[{"who":{"display":"M\\u00fcller"}}]}'
  const post = {
    method: 'POST',
    body: '{"resourceType":"Observation"}',
    headers: { 'x-provenance': provenance },
  }
  const named = { ...post, claims: { scope: 'user/Observation.cruds user/Provenance.c' } }
  const { status, received } = await ask(['all', 'author'], '/Observation', named)
  t.equal(status, 201)
  t.equal(received[0]?.headers['x-provenance'], provenance, 'byte for byte')
  for (const [roles, scope] of [
    [['all', 'author'], 'user/Observation.cruds'],
    [['all', 'author'], 'user/*.cruds'],
    [['all'], 'user/Observation.cruds user/Provenance.c'],
  ] as const) {
    const refused = await ask([...roles], '/Observation', { ...post, claims: { scope } })
    t.equal(refused.status, 403, `${roles.join()} ${scope}`)
    t.strictSame(refused.saw, [])
  }
  for (const [header, status] of [
    ['{}', 400],
    ['{', 400],
    ['', 400],
    ['{"resourceType":"AuditEvent"}', 400],
    ['{"resourceType":"Provenance","resourceType":"Patient"}', 400],
    ['{"resourceType":"Provenance","agent":[{"who":{"reference":"Patient?name=a"}}]}', 422],
    [`{"resourceType":"Provenance","x":${'['.repeat(99)}${']'.repeat(99)}}`, 400],
    [
      '{"resourceType":"Provenance","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}}',
      403,
    ],
  ] as const) {
    const headers = { 'x-provenance': header }
    const refused = await ask(['all', 'author'], '/Observation', { ...named, headers })
    t.equal(refused.status, status, header.slice(0, 60))
    t.strictSame(refused.saw, [])
  }
})

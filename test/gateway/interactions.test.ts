import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// Interactions that are more than one question: conditional writes, PATCH, includes, chains, shaped
// answers. Upstream holds two patients; p2 and everything of p2 carries a canary.
const record = (type: string, id: string, patient: string, more: object = {}): object => ({
  resourceType: type,
  id,
  meta: { versionId: '3' },
  ...(type === 'Patient' ? {} : { subject: { reference: `Patient/${patient}` } }),
  ...(patient === 'p2' ? { note: [{ text: 'CANARY' }] } : {}),
  ...more,
})
const confidential = {
  meta: {
    versionId: '3',
    security: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'V' }],
  },
}
const HELD = [
  record('Patient', 'p1', 'p1', { name: [{ family: 'Own' }] }),
  record('Patient', 'p2', 'p2', { name: [{ family: 'Other' }] }),
  record('Observation', 'o1', 'p1', {
    ...{ status: 'final', code: { text: 'a' } },
    performer: [{ reference: 'Practitioner/d1' }],
  }),
  record('Observation', 'o2', 'p2', { status: 'final', code: { text: 'a' } }),
  record('Observation', 'o3', 'p1', { ...confidential, valueString: 'CANARY' }),
  { resourceType: 'Practitioner', id: 'd1', name: [{ family: 'Doctor' }] },
  { resourceType: 'Device', id: 'x1', note: [{ text: 'CANARY' }] },
] as { resourceType: string; id: string }[]

/** Answers any search with everything of the type, whatever it asks: the gateway must judge. */
const careless: Handler = (request, response, raw) => {
  const { method, target, body } = request
  const [path = '', query] = target.replace('/base/', '').split('?')
  const [type = '', id] = path.split('/')
  const found = HELD.find((one) => one.resourceType === type && one.id === id)
  if (method === 'GET' && id === undefined) {
    const of = (types: string[]) => HELD.filter((one) => types.includes(one.resourceType))
    const types = [
      type,
      ...(/include/.test(query ?? '') ? ['Practitioner', 'Device', 'Patient'] : []),
    ]
    const entry = of(types).map((resource) => ({
      resource,
      search: { mode: resource.resourceType === type ? 'match' : 'include' },
    }))
    const answer = { resourceType: 'Bundle', type: 'searchset', total: 7, entry }
    return json(JSON.stringify(answer))(request, response, raw)
  }
  if (method === 'GET')
    return json(JSON.stringify(found ?? {}), found === undefined ? 404 : 200)(
      request,
      response,
      raw,
    )
  if (method === 'DELETE') return response.writeHead(204).end()
  return json(method === 'PATCH' ? JSON.stringify(found) : body, method === 'POST' ? 201 : 200)(
    request,
    response,
    raw,
  )
}

async function setUp() {
  const gateway = await startGateway({ handler: careless })
  const ask = async (
    claims: Record<string, unknown>,
    method: string,
    target: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method,
      headers: {
        authorization: `Bearer ${await gateway.token(claims)}`,
        ...(body === undefined ? {} : { 'content-type': 'application/fhir+json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await answer.text()
    const asked = gateway.upstream.received.map(
      (request) => `${request.method} ${request.target.replace('/base', '')}`,
    )
    return { status: answer.status, text, asked, sent: gateway.upstream.received.at(-1) }
  }
  return { gateway, ask }
}
const PATIENT = { scope: 'patient/*.cruds', patient: 'p1' }
const CLINICIAN = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' }
const observation = (more: object = {}): object => ({
  resourceType: 'Observation',
  status: 'final',
  code: { text: 'a' },
  subject: { reference: 'Patient/p1' },
  ...more,
})
const IN_VIEW = 'GET /Observation?code=a&_count=101&patient=Patient%2Fp1'

t.test('conditional writes: a search within the view, then a plain write (REST-6)', async (t) => {
  const { gateway, ask } = await setUp()
  t.teardown(() => gateway.close())
  // Of three that upstream shows, p1's token may see one: o1.
  const rows: [
    method: string,
    target: string,
    body: unknown,
    headers: Record<string, string>,
    status: number,
    asked: string[],
  ][] = [
    [
      'POST',
      '/Observation',
      observation(),
      { 'if-none-exist': 'code=a' },
      200,
      [IN_VIEW, 'GET /Observation/o1'],
    ],
    [
      'PUT',
      '/Observation?code=a',
      observation(),
      {},
      200,
      [IN_VIEW, 'GET /Observation/o1', 'PUT /Observation/o1'],
    ],
    [
      'PUT',
      '/Observation?code=a',
      observation({ id: 'o1' }),
      {},
      200,
      [IN_VIEW, 'GET /Observation/o1', 'PUT /Observation/o1'],
    ],
    ['PUT', '/Observation?code=a', observation({ id: 'o2' }), {}, 400, [IN_VIEW]],
    [
      'PUT',
      '/Observation?code=a',
      observation({ subject: { reference: 'Patient/p2' } }),
      {},
      403,
      [IN_VIEW],
    ],
    [
      'DELETE',
      '/Observation?code=a',
      undefined,
      {},
      204,
      [IN_VIEW, 'GET /Observation/o1', 'DELETE /Observation/o1'],
    ],
    [
      'DELETE',
      '/Condition?code=a',
      undefined,
      {},
      404,
      ['GET /Condition?code=a&_count=101&patient=Patient%2Fp1'],
    ],
    [
      'PUT',
      '/Condition?code=a',
      { ...observation(), resourceType: 'Condition' },
      {},
      201,
      ['GET /Condition?code=a&_count=101&patient=Patient%2Fp1', 'POST /Condition'],
    ],
    [
      'POST',
      '/Condition',
      { ...observation(), resourceType: 'Condition' },
      { 'if-none-exist': 'code=a' },
      201,
      ['GET /Condition?code=a&_count=101&patient=Patient%2Fp1', 'POST /Condition'],
    ],
    ['DELETE', '/Observation?identifier=123-45-6789', undefined, {}, 400, []],
    ['POST', '/Observation', observation(), { 'if-none-exist': '_id=o2&_count=1' }, 400, []],
  ]
  for (const [method, target, body, headers, status, expected] of rows) {
    const { status: found, text, asked, sent } = await ask(PATIENT, method, target, body, headers)
    const line = `${method} ${target} ${JSON.stringify(headers)}`
    t.equal(found, status, `${line}: ${text.slice(0, 300)}`)
    t.strictSame(asked, expected, line)
    t.notMatch(text, /CANARY|"o2"|"o3"/, line)
    t.notOk('if-none-exist' in (sent?.headers ?? {}), 'upstream never answers criteria itself')
  }
  const { sent } = await ask(PATIENT, 'PUT', '/Observation?code=a', observation())
  t.equal(sent?.headers['if-match'], 'W/"3"', 'over the version that was judged')
  t.match(sent?.body.toString(), /^\{"id":"o1","resourceType"/, 'the id of the address is put in')
  const several = await ask(CLINICIAN, 'DELETE', '/Observation?code=a')
  t.equal(several.status, 412)
  t.match(several.text, /multiple-matches/)
  const create = await ask(
    { scope: 'patient/Observation.c', patient: 'p1' },
    'POST',
    '/Observation',
    observation(),
    { 'if-none-exist': 'code=a' },
  )
  t.equal(create.status, 403, 'criteria are a search: they need s')
  t.strictSame(create.asked, [])
})

t.test(
  'PATCH: what it would make is judged, and goes up as it came (MASK-9, REST-20)',
  async (t) => {
    const { gateway, ask } = await setUp()
    t.teardown(() => gateway.close())
    const [json_, fhir] = ['application/json-patch+json', 'application/fhir+json']
    const replace = (path: string, value: unknown) => [{ op: 'replace', path, value }]
    const rows: [
      what: string,
      target: string,
      type: string,
      patch: unknown,
      status: number,
      forwarded: boolean,
    ][] = [
      ['own', '/Observation/o1', json_, replace('/status', 'amended'), 200, true],
      [
        'a FHIRPath Patch',
        '/Observation/o1',
        fhir,
        {
          resourceType: 'Parameters',
          parameter: [
            {
              name: 'operation',
              part: [
                { name: 'type', valueCode: 'replace' },
                { name: 'path', valueString: 'Observation.status' },
                { name: 'value', valueCode: 'amended' },
              ],
            },
          ],
        },
        200,
        true,
      ],
      ['by criteria', '/Observation?code=a', json_, replace('/status', 'amended'), 200, true],
      ['another patient’s', '/Observation/o2', json_, replace('/status', 'amended'), 404, false],
      [
        'one with a hidden label',
        '/Observation/o3',
        json_,
        replace('/status', 'amended'),
        404,
        false,
      ],
      [
        'given away',
        '/Observation/o1',
        json_,
        replace('/subject/reference', 'Patient/p2'),
        403,
        false,
      ],
      [
        'given away by move',
        '/Observation/o1',
        json_,
        [{ op: 'move', from: '/subject', path: '/focus' }],
        403,
        false,
      ],
      ['another type', '/Observation/o1', json_, replace('/resourceType', 'Condition'), 400, false],
      ['another id', '/Observation/o1', json_, replace('/id', 'o2'), 400, false],
      [
        'the whole',
        '/Observation/o1',
        json_,
        replace('', { resourceType: 'Patient', id: 'o1' }),
        400,
        false,
      ],
      [
        'a test that fails',
        '/Observation/o1',
        json_,
        [{ op: 'test', path: '/status', value: 'x' }],
        422,
        false,
      ],
      [
        'a prototype',
        '/Observation/o1',
        json_,
        [{ op: 'add', path: '/__proto__/x', value: 1 }],
        400,
        false,
      ],
      ['no patch', '/Observation/o1', json_, { op: 'add' }, 400, false],
      ['a resource', '/Observation/o1', fhir, observation(), 400, false],
      ['XML', '/Observation/o1', 'application/xml-patch+xml', '', 415, false],
    ]
    for (const [what, target, type, patch, status, forwarded] of rows) {
      const found = await ask(PATIENT, 'PATCH', target, patch, { 'content-type': type })
      t.equal(found.status, status, `${what}: ${found.text.slice(0, 200)}`)
      t.notMatch(found.text, /CANARY/, what)
      t.equal(
        found.sent?.method === 'PATCH',
        forwarded,
        `${what}: ${forwarded ? '' : 'not '}forwarded`,
      )
      if (!forwarded) continue
      t.equal(found.sent?.target, '/base/Observation/o1')
      t.equal(String(found.sent?.headers['content-type']).split(';')[0], type)
      t.equal(found.sent?.headers['if-match'], 'W/"3"')
      t.equal(found.sent?.body.toString(), JSON.stringify(patch), 'byte for byte')
    }
    const { status } = await ask(
      CLINICIAN,
      'PATCH',
      '/Observation/o1',
      replace('/subject/reference', 'Patient/p2'),
      { 'content-type': json_ },
    )
    t.equal(status, 422, 'not even a clinician moves a record to another patient (REST-20)')
  },
)

t.test(
  'includes: each resource beside the matches has a grant of its own (SCOPE-10)',
  async (t) => {
    const { gateway, ask } = await setUp()
    t.teardown(() => gateway.close())
    const typesOf = (text: string): string[] =>
      (
        (JSON.parse(text) as { entry?: { resource: { resourceType: string; id: string } }[] })
          .entry ?? []
      ).map(({ resource: { resourceType, id } }) => `${resourceType}/${id}`)
    const shown = await ask(
      PATIENT,
      'GET',
      '/Observation?_include=Observation:performer&_include=Observation:subject',
    )
    t.strictSame(typesOf(shown.text), ['Observation/o1', 'Patient/p1', 'Practitioner/d1'])
    t.notMatch(shown.text, /CANARY|total/)
    const narrow = await ask(
      { scope: 'patient/Observation.rs', patient: 'p1' },
      'GET',
      '/Observation?_include=*',
    )
    t.strictSame(typesOf(narrow.text), ['Observation/o1'], 'no scope, nothing beside')
    const without = await ask(PATIENT, 'GET', '/Observation')
    t.strictSame(
      typesOf(without.text),
      ['Observation/o1'],
      'and what nobody asked for does not come',
    )
  },
)

t.test('chains are searches of their own, within the view (SCOPE-10, row 14)', async (t) => {
  const { gateway, ask } = await setUp()
  t.teardown(() => gateway.close())
  const forward = await ask(PATIENT, 'GET', '/Observation?subject:Patient.name=Other')
  t.strictSame(forward.asked, [
    'GET /Patient?name=Other&_count=101&_id=p1',
    'GET /Observation?subject=Patient%2Fp1&patient=Patient%2Fp1',
  ])
  t.notMatch(forward.text, /CANARY/)
  const nested = await ask(
    CLINICIAN,
    'GET',
    '/Observation?performer:Practitioner._has:Observation:performer:code=a',
  )
  t.equal(nested.status, 200, nested.text)
  const reverse = await ask(PATIENT, 'GET', '/Patient?_has:Observation:patient:code=a')
  t.strictSame(reverse.asked, [IN_VIEW, 'GET /Patient?_id=p1&_id=p1'])
  const many = `/Observation?${Array.from({ length: 9 }, () => 'subject:Patient.name=a').join('&')}`
  const refused = await ask(PATIENT, 'GET', many)
  t.equal(refused.status, 400, 'no more than eight')
  const deep = `/Observation?${'has-member:Observation.'.repeat(9)}code=a`
  const nestedDeep = await ask(CLINICIAN, 'GET', deep)
  t.ok(nestedDeep.status === 400 && nestedDeep.asked.length <= 8, 'however deep they nest')
})

t.test('shaped answers are judged whole and cut afterwards (REST-22)', async (t) => {
  const { gateway, ask } = await setUp()
  t.teardown(() => gateway.close())
  const read = await ask(PATIENT, 'GET', '/Observation/o1?_elements=status')
  t.strictSame(read.asked, ['GET /Observation/o1'])
  t.strictSame(JSON.parse(read.text), {
    resourceType: 'Observation',
    id: 'o1',
    meta: {
      tag: [
        { system: 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue', code: 'SUBSETTED' },
      ],
      versionId: '3',
    },
    status: 'final',
    // What its type cannot do without comes along.
    code: { text: 'a' },
  })
  const search = await ask(PATIENT, 'GET', '/Observation?_elements=code&_total=accurate')
  t.strictSame(search.asked, ['GET /Observation?patient=Patient%2Fp1'])
  t.notMatch(search.text, /"subject"|CANARY|"total/)
  t.match(search.text, /"code":\{"text":"a"\}/)
  const text = await ask(PATIENT, 'GET', '/Observation/o1?_summary=text')
  t.notMatch(text.text, /"subject"/)
  t.equal((await ask(PATIENT, 'GET', '/Observation?_elements=a.b.c')).status, 400)
})

t.test('what was cut down is never written back (C11)', async (t) => {
  const { gateway, ask } = await setUp()
  t.teardown(() => gateway.close())
  const { text } = await ask(PATIENT, 'GET', '/Observation/o1?_elements=subject,code')
  const back = await ask(PATIENT, 'PUT', '/Observation/o1', JSON.parse(text))
  t.equal(back.status, 422, back.text)
  t.match(back.text, /body-rule-broken/)
  t.notOk(back.asked.some((line) => line.startsWith('PUT')))
})

t.test('the shared entries of a record, and its provenance (SCOPE-12, Inferno)', async (t) => {
  const { gateway, ask } = await setUp()
  t.teardown(() => gateway.close())
  const reading = { scope: 'patient/*.rs', patient: 'p1' }
  for (const type of [
    'Practitioner',
    'PractitionerRole',
    'Organization',
    'Location',
    'Medication',
  ]) {
    const entry = JSON.stringify({ resourceType: type, id: 'x' })
    gateway.upstream.answerWith(json(entry))
    const { status, text } = await ask(reading, 'GET', `/${type}/x`)
    t.equal(status, 200, type)
    t.equal(text, entry)
    t.equal(
      (await ask(reading, 'GET', `/${type}?name=a`)).status >= 400,
      true,
      `${type}: no directory`,
    )
  }
  const about = (id: string, ...targets: string[]) => ({
    resource: {
      resourceType: 'Provenance',
      id,
      target: targets.map((reference) => ({ reference })),
      note: id,
    },
  })
  const own = { resource: HELD.find(({ id }) => id === 'o1') }
  const other = { resource: HELD.find(({ id }) => id === 'o2') }
  const entry = [
    about('CANARY-too-early', 'Observation/o1'),
    ...[own, other, about('of-o1', 'Observation/o1'), about('CANARY-of-p1', 'Patient/p1')],
    about('of-both-own', 'Observation/o1', 'Patient/p1'),
    ...[
      about('CANARY-of-o2', 'Observation/o2'),
      about('CANARY-mixed', 'Observation/o1', 'Patient/p2'),
    ],
    ...[
      about('CANARY-elsewhere', 'https://evil.example/fhir/Observation/o1'),
      about('CANARY-none'),
    ],
  ]
  gateway.upstream.answerWith(
    json(JSON.stringify({ resourceType: 'Bundle', type: 'searchset', entry })),
  )
  const { text } = await ask(reading, 'GET', '/Observation?_revinclude=Provenance:target')
  t.notMatch(text, /CANARY/)
  const ids = (JSON.parse(text) as { entry: { resource: { id: string } }[] }).entry
  t.strictSame(
    ids.map(({ resource: { id } }) => id),
    ['o1', 'of-both-own', 'of-o1'],
  )
})

import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// REST-11, REST-12, REST-16, C1: what is withheld and what is not there look alike, whichever way one asks;
// and so do two values of what is masked.

type Resource = { readonly resourceType: string; readonly id: string; readonly meta?: object }
const LABEL = { system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'R' }
const INLINE =
  'http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label'
const at = (second: number) => ({ versionId: '2', lastUpdated: `2026-01-01T00:00:0${second}Z` })

const shown: readonly Resource[] = [
  { ...{ resourceType: 'Patient', id: 'p1', meta: at(1) }, ...{ name: [{ family: 'Own' }] } },
  {
    ...{ resourceType: 'Observation', id: 'o1', meta: at(2), status: 'final' },
    ...{ code: { text: 'x' }, subject: { reference: 'Patient/p1' } },
  },
  {
    ...{ resourceType: 'List', id: 'l1', meta: at(3), status: 'current', mode: 'working' },
    ...{ subject: { reference: 'Patient/p1' }, entry: [{ item: { reference: 'Observation/h' } }] },
  },
]
const hidden = (subject: string, meta: object): Resource => ({
  ...{ resourceType: 'Observation', id: 'h', meta: { ...at(4), ...meta }, status: 'final' },
  ...{ code: { text: 'HIV' }, subject: { reference: subject } },
  ...{
    hasMember: [{ reference: 'Observation/o1' }],
    performer: [{ reference: 'Practitioner/d1' }],
  },
})
const patient = (id: string, meta: object): Resource => ({
  ...{ resourceType: 'Patient', id, meta: { ...at(5), ...meta } },
  ...{
    name: [{ family: 'Other' }],
    link: [{ other: { reference: 'Patient/p1' }, type: 'seealso' }],
  },
})
const doctor: Resource = { resourceType: 'Practitioner', id: 'd1', meta: at(6) }

/** A server as FHIR has it, as far as it goes; whatever it searches for, it finds by `_id` and `code` alone. */
const serving = (held: readonly Resource[], gone: readonly string[] = []): Handler =>
  function serve(request, response, raw) {
    const answer = (body: object, status = 200, headers = {}) => {
      json(JSON.stringify(body), status, headers)(request, response, raw)
    }
    const url = new URL(request.target, `http://${String(request.headers.host)}`)
    const [type = '', id, part, version] = url.pathname.slice('/base/'.length).split('/')
    const asked = new URLSearchParams([
      ...url.searchParams,
      ...new URLSearchParams(request.body.toString()),
    ])
    const found = held.find((one) => one.resourceType === type && one.id === id)
    if (id !== undefined && id !== '_search' && part !== '$everything') {
      if (gone.includes(id)) return answer({ resourceType: 'OperationOutcome' }, 410)
      if (found === undefined || (version !== undefined && version !== '2'))
        return answer({ resourceType: 'OperationOutcome' }, 404)
      const headers = { etag: 'W/"2"', 'last-modified': 'Thu, 01 Jan 2026 00:00:04 GMT' }
      const isSame = ['if-none-match', 'if-modified-since'].some((name) => request.headers[name])
      if (isSame) return void response.writeHead(304, headers).end()
      if (part === undefined || version !== undefined) return answer(found, 200, headers)
      return answer({
        resourceType: 'Bundle',
        type: 'history',
        total: 1,
        entry: [{ resource: found }],
      })
    }
    const among = (name: string, value: string) =>
      asked.getAll(name).every((all) => all.split(',').some((one) => one.endsWith(value)))
    const matches = held.filter(
      (one) =>
        (part === '$everything' || one.resourceType === type) &&
        (part === '$everything' || among('_id', one.id)) &&
        among('code', (one as { code?: { text: string } }).code?.text ?? '') &&
        (type === 'List' || among('subject', JSON.stringify(one).includes('p1') ? 'p1' : 'p2')),
    )
    const count = Number(asked.get('_count') ?? 10)
    const next = `${url.origin}/base?_getpages=1`
    const brought = asked.has('_include') || asked.has('_revinclude') ? held : []
    const entry = [
      ...matches.slice(0, count).map((resource) => ({ resource, search: { mode: 'match' } })),
      ...brought.map((resource) => ({ resource, search: { mode: 'include' } })),
    ]
    const link = matches.length > count ? [{ relation: 'next', url: next }] : []
    answer({ ...{ resourceType: 'Bundle', type: 'searchset', total: matches.length, link }, entry })
  }

const SINCE = 'Thu, 01 Jan 2026 00:00:04 GMT'
const ASKED: readonly (readonly [target: string, init?: RequestInit])[] = [
  ...['', '?_elements=status', '?_summary=true', '?_summary=text', '?_pretty=true'].flatMap(
    (more) =>
      ['/Observation/h', '/Observation/h/_history/2', '/Observation/h/_history/1'].flatMap(
        (place) => [[place + more] as const, [place + more, { method: 'HEAD' }] as const],
      ),
  ),
  ...['if-none-match: W/"2"', 'if-none-match: *', `if-modified-since: ${SINCE}`].map((line) => {
    const [name = '', ...value] = line.split(': ')
    return ['/Observation/h', { headers: { [name]: value.join(': ') } }] as const
  }),
  ['/Observation/h/_history'],
  ['/Observation/h/_history?_count=1'],
  ['/Observation/h/_history?_since=2025-01-01T00:00:00Z'],
  ...[
    ...['_id=h', '_id=h,o1&_count=1', '_id=h&_count=0', '_id=h&_total=accurate'],
    ...['_id=h&_summary=count', '_id=h&_summary=true', '_id=h&_elements=id', 'code=HIV'],
    ...['code=HIV&_count=1', 'code=HIV,x&_count=1', 'code=HIV&_include=Observation:performer'],
    ...['_list=l1', '_lastUpdated=2026', '_sort=-_lastUpdated&_count=1', 'code:not=x'],
    ...['has-member:Observation._id=o1', '_has:Observation:has-member:code=HIV'],
    ...['_id=o1&_revinclude=Observation:has-member', '_id=o1&_contained=both', '_text=HIV'],
    ...['_content=HIV', '_filter=code%20eq%20HIV', '_source=x', '_security=R', '_tag=x'],
  ].flatMap((query) => [
    [`/Observation?${query}`] as const,
    [`/Observation?${query}`, { method: 'HEAD' }] as const,
    ['/Observation/_search', { method: 'POST', body: new URLSearchParams(query) }] as const,
  ]),
  ['/Patient?_has:Observation:subject:code=HIV'],
  ['/Patient?_has:Observation:subject:_id=h'],
  ['/Practitioner?_has:Observation:performer:code=HIV'],
  ['/Practitioner?_id=d1&_revinclude=Observation:performer'],
  ['/Patient/p1/Observation?code=HIV'],
  ['/Patient/p1/$everything'],
  ['/Patient/p1/$everything?_count=1'],
  ['/Patient/p2/$everything'],
  ['/Patient/p2'],
  ['/Patient/p2/_history'],
  ['/Patient/p2/Observation'],
  ['/Patient?_id=p2'],
  ['/Patient?link=Patient/p1'],
  ['?_type=Observation,Patient&_id=h'],
  ['?_type=Observation&_count=1'],
  ['/Observation/_history?_count=1'],
  ['/_history?_count=1'],
]

/** `FHIREWALL_TEST_EVERY=1` for the long run. */
const EVERY = Number(process.env['FHIREWALL_TEST_EVERY'] ?? 6)

const PATIENT = { scope: 'patient/*.rs', patient: 'p1' }
const CLINICIAN = { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }
const GRANULAR = { ...CLINICIAN, scope: 'user/Patient.rs user/List.rs user/Observation.rs?code=x' }
const UNION = { ...PATIENT, scope: 'patient/*.rs?_id=o1 patient/*.rs?_tag=x patient/Patient.rs' }

type Row = readonly [
  what: string,
  who: Record<string, unknown>,
  there: Handler,
  absent: Handler,
  but?: RegExp,
]
const rows: readonly Row[] = [
  [
    'a label',
    CLINICIAN,
    serving([
      ...shown,
      doctor,
      hidden('Patient/p1', { security: [LABEL] }),
      patient('p2', { security: [LABEL] }),
    ]),
    serving([...shown, doctor]),
  ],
  [
    'another’s',
    PATIENT,
    serving([...shown, doctor, hidden('Patient/p2', {}), patient('p2', {})]),
    serving([...shown, doctor]),
  ],
  [
    'another’s, deleted',
    PATIENT,
    serving([...shown, doctor], ['h', 'p2']),
    serving([...shown, doctor]),
  ],
  [
    'a granular scope',
    GRANULAR,
    serving([...shown, doctor, hidden('Patient/p1', {})]),
    serving([...shown, doctor]),
  ],
  [
    'a union of such scopes (docs/decisions/0013)',
    UNION,
    serving([...shown, doctor, hidden('Patient/p1', {})]),
    serving([...shown, doctor]),
  ],
  [
    'a masked value',
    CLINICIAN,
    ...((['1970-05-06', '1971'] as const).map((birthDate) =>
      serving([
        ...shown,
        {
          ...{ resourceType: 'Patient', id: 'p2', birthDate },
          meta: {
            ...at(1),
            security: [
              {
                system: 'http://terminology.hl7.org/CodeSystem/v3-ActCode',
                code: 'PROCESSINLINELABEL',
              },
            ],
          },
          _birthDate: { extension: [{ url: INLINE, valueCoding: LABEL }] },
        } as Resource,
      ]),
    ) as [Handler, Handler]),
  ],
]

for (const [place, [what, who, there, absent]] of rows.entries()) {
  t.test(`what is hidden by ${what} looks as if it were not there`, async (t) => {
    const gateway = await startGateway()
    t.teardown(() => gateway.close())
    const authorization = `Bearer ${await gateway.token(who)}`
    const tell = async (target: string, init: RequestInit = {}): Promise<string> => {
      const headers = { ...(init.headers as object), authorization, 'x-request-id': 'the-same' }
      const answer = await fetch(gateway.url + target, { ...init, headers })
      const said = [...answer.headers].filter(([name]) => name !== 'date')
      const text = `${answer.status} ${JSON.stringify(said)} ${await answer.text()}`
      return text.replaceAll(/_cursor=[^"]*/g, ({ length }) => String(length))
    }
    for (const [target, init] of ASKED.filter((_, n) => n % EVERY === place % EVERY)) {
      gateway.upstream.answerWith(there)
      const one = await tell(target, init)
      gateway.upstream.answerWith(absent)
      t.equal(
        one,
        await tell(target, init),
        `${init?.method ?? 'GET'} ${target} ${JSON.stringify(init?.headers ?? '')}`,
      )
    }
  })
}

t.test('what is not for the patient is seen by staff alone (LABEL-5, NOPAT)', async (t) => {
  const label = '{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NOPAT"}'
  const note = `{"resourceType":"Observation","id":"o1","meta":{"versionId":"1","security":[${label}]},"status":"final","code":{"text":"CANARY"},"subject":{"reference":"Patient/p1"}}`
  const gateway = await startGateway({
    handler: (request, response, raw) =>
      json(
        request.target.includes('/Observation/')
          ? note
          : `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${note}}]}`,
      )(request, response, raw),
  })
  t.teardown(() => gateway.close())
  // prettier-ignore
  const rows: [who: string, claims: object, isShown: boolean][] = [
    ['a patient’s app',            { scope: 'patient/*.rs', patient: 'p1', fhirUser: 'Patient/p1' }, false],
    ['nobody says for whom',       { scope: 'patient/*.rs', patient: 'p1' }, false],
    ['a patient as a user',        { scope: 'user/*.rs', patient: 'p1', fhirUser: 'Patient/p1' }, false],
    ['family',                     { scope: 'patient/*.rs', patient: 'p1', fhirUser: 'RelatedPerson/r1' }, false],
    ['staff, launched for one',    { scope: 'patient/*.rs', patient: 'p1', fhirUser: 'Practitioner/d1' }, true],
    ['staff',                      { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }, true],
    ['a program',                  { scope: 'system/*.rs', sub: 'app-1' }, true],
  ]
  for (const [who, claims, isShown] of rows) {
    const authorization = `Bearer ${await gateway.token({ ...claims })}`
    for (const target of [
      '/Observation/o1',
      '/Observation?patient=p1',
      '/Observation/o1/_history/1',
    ]) {
      const answer = await fetch(gateway.url + target, { headers: { authorization } })
      t.equal((await answer.text()).includes('CANARY'), isShown, `${who} ${target}`)
    }
  }
})

t.test(
  'on record a miss that hides something is a denial, a true one is none (AUD-1)',
  async (t) => {
    const label = { security: [LABEL] }
    const there = [...shown, hidden('Patient/p1', label), patient('p2', {})]
    const gateway = await startGateway({ handler: serving(there, ['gone']) })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.cruds patient/*.rs', patient: 'p1' })
    const observation = { ...there[1], id: 'h' }
    const rows: readonly (readonly [
      outcome: '4' | '8',
      method: string,
      target: string,
      body?: object,
    ])[] = [
      ['8', 'GET', '/Observation/h'],
      ['8', 'HEAD', '/Observation/h'],
      ['8', 'GET', '/Observation/h/_history/2'],
      ['8', 'GET', '/Observation/h/_history'],
      ['8', 'GET', '/Patient/p2'],
      ['8', 'GET', '/Patient/p2/$everything'],
      ['8', 'DELETE', '/Observation/h'],
      ['8', 'PUT', '/Observation/h', observation],
      ['4', 'GET', '/Observation/none'],
      ['4', 'GET', '/Observation/none/_history'],
      ['4', 'GET', '/Observation/gone'],
      ['4', 'GET', '/Patient/none'],
      ['4', 'DELETE', '/Observation/none'],
      ['4', 'PUT', '/Observation/none', { ...observation, id: 'none' }],
    ]
    const answers = new Map<string, string>()
    for (const [outcome, method, target, body] of rows) {
      const id = `${outcome}-${answers.size}`
      const answer = await fetch(gateway.url + target, {
        method,
        headers: {
          ...{ authorization: `Bearer ${token}`, 'x-request-id': id },
          'content-type': 'application/fhir+json',
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      t.equal(answer.status, 404, `${method} ${target}`)
      const seen = (await answer.text()).replaceAll(id, '')
      const same = answers.get(`${method} 404`) ?? seen
      t.equal(seen, same, 'its caller sees the same')
      answers.set(`${method} 404`, same)
      answers.set(id, seen)
      const records = (await gateway.audit()).map((one) => JSON.stringify(one))
      const [record, ...more] = records.filter((one) => one.includes(`"${id}"`))
      t.equal(more.length, 0)
      t.match(record, `"outcome":"${outcome}","outcomeDesc":"not-found"`, `${method} ${target}`)
    }
  },
)

t.test('who is said to be the same person widens nothing (SCOPE-13)', async (t) => {
  const link = (id: string) => [{ other: { reference: `Patient/${id}` }, type: 'replaces' }]
  const own = { resourceType: 'Patient', id: 'p1', meta: at(1), link: link('p2') }
  const other = { resourceType: 'Patient', id: 'p2', meta: at(5), link: link('p1') }
  const theirs = { ...hidden('Patient/p2', {}), performer: [] }
  const gateway = await startGateway({ handler: serving([own, other, theirs]) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const ask = async (target: string) => {
    const headers = { authorization: `Bearer ${token}` }
    return (await fetch(gateway.url + target, { headers })).text()
  }
  t.match(await ask('/Patient/p1'), 'Patient/p2', 'the link itself shows')
  for (const target of [
    '/Patient/p2',
    '/Observation/h',
    '/Observation',
    '/Patient?_id=p1&_include=Patient:link',
    '/Patient?_id=p1&_revinclude=Patient:link',
    '/Patient?link=Patient/p1',
    '/Patient/p1/$everything',
    '/Patient/p2/Observation',
  ])
    t.notMatch(await ask(target), /"id":"(?:p2|h)"/, target)
})

// REST-7: a server fails all of a transaction that reads what is not there; were what is hidden found, it
// would be done, and say so.
t.test('nor does a transaction tell what is hidden from what is not there', async (t) => {
  const server = await startFhirServer({
    load: [
      ...shown,
      hidden('Patient/p1', { security: [LABEL] }),
      { ...hidden('Patient/p2', {}), id: 'other' },
    ].map((one) => JSON.stringify(one)),
  })
  const gateway = await startGateway({ upstreamUrl: server.url })
  t.teardown(async () => {
    await gateway.close()
    await server.close()
  })
  const observation = {
    ...{ resourceType: 'Observation', status: 'final', code: { text: 'new' } },
    subject: { reference: 'Patient/p1' },
  }
  const post = async (who: object, requests: readonly object[]) => {
    const entry = requests.map((request) =>
      'method' in request && request.method !== 'POST'
        ? { request }
        : { resource: observation, request },
    )
    const headers = {
      authorization: `Bearer ${await gateway.token({ ...who })}`,
      'content-type': 'application/fhir+json',
      'x-request-id': 'the-same',
    }
    const body = JSON.stringify({ resourceType: 'Bundle', type: 'transaction', entry })
    const answer = await fetch(gateway.url, { method: 'POST', headers, body })
    return `${answer.status} ${await answer.text()}`
  }
  const create = { method: 'POST', url: 'Observation' }
  const count = server.count()
  for (const who of [
    { scope: 'patient/*.crs', patient: 'p1' },
    { scope: 'user/*.crs', fhirUser: 'Practitioner/d1' },
    { scope: 'system/*.crs', sub: 'app-1' },
  ]) {
    for (const part of ['', '/_history/1', '/_history', '?_elements=status']) {
      for (const method of ['GET', 'HEAD']) {
        const tell = async (id: string) =>
          post(who, [create, { method, url: `Observation/${id}${part}` }])
        const missed = await tell('nobody')
        t.match(missed, /^404 .*"not-found"/, `${who.scope} ${method} ${part}`)
        t.equal(await tell('h'), missed, 'hidden by a label')
        if ('patient' in who) t.equal(await tell('other'), missed, 'another’s')
      }
    }
    t.equal(server.count(), count, 'nothing of it is done')
  }
  // What shows is read, and after the rest.
  const own = { scope: 'patient/*.cruds', patient: 'p1' }
  const read = { method: 'GET', url: 'Observation/o1', ifNoneMatch: '*' }
  t.match(await post(own, [create, read]), /^200 .*"201".*"304"/)
})

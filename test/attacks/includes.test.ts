import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// REST-12, MASK-9, SCOPE-10: what comes along tells what brought it. So it comes along only when a link
// that shows, of something that shows, leads to it.

const RESTRICTED = {
  security: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'R' }],
}
const PROCESS = {
  security: [
    { system: 'http://terminology.hl7.org/CodeSystem/v3-ActCode', code: 'PROCESSINLINELABEL' },
  ],
}
const HIDDEN = {
  extension: [
    {
      url: 'http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label',
      valueCoding: RESTRICTED.security[0],
    },
  ],
}
type Resource = Readonly<Record<string, unknown>>
type Mode = 'match' | 'include' | undefined

const result = (id: string, more: object = {}): Resource => ({
  ...{ resourceType: 'Observation', id, status: 'final', code: { text: 'x' } },
  ...more,
})
const to = (reference: string, more: object = {}) => ({ reference, ...more })
const person = (id: string, more: object = {}): Resource => ({
  ...{ resourceType: 'Practitioner', id },
  ...more,
})
const role = (id: string, of: string): Resource => ({
  ...{ resourceType: 'PractitionerRole', id, practitioner: to(of) },
})
const library = { resourceType: 'Library', id: 'l1', url: 'http://x/Library/l1', status: 'active' }
const measure = {
  ...{ resourceType: 'Measure', id: 'm1', status: 'active' },
  library: ['http://x/Library/l1|2'],
}

type Row = [
  what: string,
  query: string,
  held: readonly (readonly [Resource, Mode])[],
  shown: string,
]
const rows: Row[] = [
  [
    'what a withheld match brought',
    'Observation?code=x&_include=Observation:performer',
    [
      [result('o1', { meta: RESTRICTED, performer: [to('Practitioner/d1')] }), 'match'],
      [person('d1'), 'include'],
    ],
    '',
  ],
  [
    'beside a match that shows',
    'Observation?code=x&_include=Observation:performer',
    [
      [result('o1', { meta: RESTRICTED, performer: [to('Practitioner/d1')] }), 'match'],
      [result('o2', { performer: [to('Practitioner/d2')] }), 'match'],
      [person('d1'), 'include'],
      [person('d2'), 'include'],
    ],
    'o2,d2',
  ],
  [
    'what brought a withheld match',
    'Practitioner?_revinclude=Observation:performer',
    [
      [person('d1', { meta: RESTRICTED }), 'match'],
      [result('o1', { performer: [to('Practitioner/d1')] }), 'include'],
    ],
    '',
  ],
  [
    'a link that is hidden by a label (LABEL-2)',
    'Observation?_include=Observation:performer',
    [
      [
        result('o1', {
          meta: PROCESS,
          performer: [to('Practitioner/d1', HIDDEN), to('Practitioner/d2')],
        }),
        'match',
      ],
      [person('d1'), 'include'],
      [person('d2'), 'include'],
    ],
    'o1,d2',
  ],
  [
    'the same, in return',
    'Practitioner?_revinclude=Observation:performer',
    [
      [person('d1'), 'match'],
      [result('o1', { meta: PROCESS, performer: [to('Practitioner/d1', HIDDEN)] }), 'include'],
      [result('o2', { performer: [to('Practitioner/d1')] }), 'include'],
    ],
    'd1,o2',
  ],
  [
    'another link to it that shows was not to be followed',
    'Observation?_include=Observation:performer',
    [
      [
        result('o1', {
          ...{ meta: PROCESS, performer: [to('Practitioner/d1', HIDDEN)] },
          note: [{ text: 'y', authorReference: to('Practitioner/d1') }],
        }),
        'match',
      ],
      [person('d1'), 'include'],
    ],
    'o1',
  ],
  [
    'nor from what came along, but where it is iterated',
    'Observation?_include=Observation:performer&_include=PractitionerRole:practitioner',
    [
      [result('o1', { performer: [to('PractitionerRole/r1')] }), 'match'],
      [role('r1', 'Practitioner/d1'), 'include'],
      [person('d1'), 'include'],
    ],
    'o1,r1',
  ],
  [
    'iterated, in whatever order, and by whatever address',
    'Observation?_include=Observation:performer&_include:iterate=PractitionerRole:practitioner',
    [
      [person('d1'), 'include'],
      [role('r1', 'Practitioner/d1/_history/3'), 'include'],
      [result('o1', { performer: [to('http://127.0.0.1:9/fhir/PractitionerRole/r1')] }), 'match'],
    ],
    'o1,d1,r1',
  ],
  [
    'iterated in return',
    'Practitioner?_revinclude=PractitionerRole:practitioner&_revinclude:iterate=Observation:performer',
    [
      [person('d1'), 'match'],
      [role('r1', 'Practitioner/d1'), 'include'],
      [result('o1', { performer: [to('PractitionerRole/r1')] }), 'include'],
      [result('o2', { performer: [to('PractitionerRole/r2')] }), 'include'],
    ],
    'd1,o1,r1',
  ],
  [
    'all links, and a canonical one',
    'Measure?_include=*',
    [
      [measure, 'match'],
      [library, 'include'],
      [{ ...library, id: 'l2', url: 'http://x/Library/l2' }, 'include'],
    ],
    'm1,l1',
  ],
  [
    'of another type than asked',
    'Observation?_include=Observation:performer:PractitionerRole',
    [
      [result('o1', { performer: [to('Practitioner/d1'), to('PractitionerRole/r1')] }), 'match'],
      [person('d1'), 'include'],
      [role('r1', 'Practitioner/d1'), 'include'],
    ],
    'o1,r1',
  ],
  [
    'where upstream does not say what is a match',
    'Observation?_include=Observation:performer',
    [
      [result('o1', { performer: [to('Practitioner/d2')] }), undefined],
      [person('d1'), undefined],
      [person('d2'), undefined],
    ],
    'o1,d2',
  ],
  [
    'a match that upstream says to be one, of a type not asked for',
    'Observation?_include=Observation:performer',
    [[person('d1'), 'match']],
    '',
  ],
  [
    'where links are cut away (REST-18)',
    'Observation?_include=Observation:performer&_elements=status',
    [
      [result('o1', { performer: [to('Practitioner/d1')] }), 'match'],
      [person('d1'), 'include'],
    ],
    'o1,d1',
  ],
  [
    'of several types',
    '?_type=Observation,Practitioner&_include=Observation:performer',
    [
      [result('o1', { meta: RESTRICTED, performer: [to('PractitionerRole/r1')] }), 'match'],
      [role('r1', 'Practitioner/d1'), 'include'],
      [person('d1'), 'match'],
    ],
    'd1',
  ],
]

t.test('what comes along is led to by what shows', async (t) => {
  const settings = [{}, { upstream: { bufferBytes: 10 } }]
  for (const config of settings) {
    const gateway = await startGateway({ config })
    t.teardown(() => gateway.close())
    const authorization = `Bearer ${await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })}`
    for (const [what, query, held, shown] of rows) {
      const entry = held.map(([resource, mode]) => ({
        ...{ fullUrl: `${gateway.upstream.url}/${String(resource['resourceType'])}/x`, resource },
        ...(mode === undefined ? {} : { search: { mode } }),
      }))
      gateway.upstream.answerWith(
        json(JSON.stringify({ resourceType: 'Bundle', type: 'searchset', entry })),
      )
      const target = `${gateway.url}${query.startsWith('?') ? '' : '/'}${query}`
      const answer = await fetch(target, { headers: { authorization } })
      const { entry: left = [] } = (await answer.json()) as { entry?: typeof entry }
      const ids = left.map(({ resource }) => resource['id']).join()
      t.equal(`${answer.status} ${ids}`, `200 ${shown}`, what)
    }
  }
})

t.test(
  'what does not come along is counted as withheld, and no patient of it is told',
  async (t) => {
    const gateway = await startGateway()
    t.teardown(() => gateway.close())
    const authorization = `Bearer ${await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })}`
    const entry = [
      [result('o1', { meta: RESTRICTED, subject: to('Patient/p1') }), 'match'],
      [{ resourceType: 'Patient', id: 'p1' }, 'include'],
    ].map(([resource, mode]) => ({ resource, search: { mode } }))
    gateway.upstream.answerWith(
      json(JSON.stringify({ resourceType: 'Bundle', type: 'searchset', entry })),
    )
    const target = `${gateway.url}/Observation?code=x&_include=Observation:subject`
    await (await fetch(target, { headers: { authorization } })).text()
    t.notMatch(JSON.stringify((await gateway.audit()).at(-1)), 'Patient/p1')
    t.match(await gateway.metrics(), /verdict="withheld"\} 2/)
  },
)

import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// Pitfalls §1 rows 25 and 27, REST-11, SCOPE-7, SCOPE-11: a page link, or a page that is short, tells of
// what was withheld. So upstream is never asked for what no grant of the caller reaches.
const HELD = [
  { id: 'own', code: 'OWN', category: 'a', patient: 'Patient/p1' },
  { id: 'side', code: 'SIDE', category: 'c', patient: 'Patient/p1' },
  { id: 'hiv', code: 'HIV', category: 'a', patient: 'Patient/p2' },
].map(({ id, code, category, patient }) => ({
  own: new Map(Object.entries({ code, category, patient, subject: patient })),
  resource: {
    ...{ resourceType: 'Condition', id, code: { coding: [{ code }] } },
    ...{ category: [{ coding: [{ code: category }] }], subject: { reference: patient } },
  },
}))

/** A little server that searches as FHIR says, and pages. */
const searching: Handler = (request, response, raw) => {
  const asked = new URLSearchParams(request.target.split('?')[1])
  const found = HELD.filter(({ own }) =>
    [...asked].every(([name, text]) => text.split(',').includes(own.get(name) ?? text)),
  )
  const count = Number(asked.get('_count') ?? 10)
  const offset = Number(asked.get('_offset') ?? 0)
  asked.set('_offset', String(offset + count))
  const url = `http://${String(request.headers.host)}/base/Condition?${asked.toString()}`
  const bundle = {
    ...{ resourceType: 'Bundle', type: 'searchset' },
    link: found.length > offset + count ? [{ relation: 'next', url }] : [],
    entry: found
      .slice(offset, offset + count)
      .map(({ resource }) => ({ resource, search: { mode: 'match' } })),
  }
  json(JSON.stringify(bundle))(request, response, raw)
}

const PATIENT = { scope: 'patient/*.rs', patient: 'p1' }
const TWOFOLD = {
  scope: 'patient/Condition.rs?category=a patient/Condition.rs?category=b',
  patient: 'p1',
}
/** What upstream cannot be asked for in one question. */
const DISJOINT = {
  scope: 'patient/Condition.rs?category=a patient/Condition.rs?code=NONE',
  patient: 'p1',
}
const CLINICIAN = { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }
const GRANULAR = { ...CLINICIAN, scope: 'user/Condition.rs?category=b' }

/** What a client is told, but for what differs each time. */
const toldOf = (status: number, text: string): string =>
  `${status} ${text.replaceAll(/_cursor=[^"]*/g, '_cursor').replaceAll(/code=[A-Z,]*/g, 'code')}`

t.test('no search tells whether there is something that no grant reaches', async (t) => {
  const gateway = await startGateway({ handler: searching })
  t.teardown(() => gateway.close())
  const ask = async (who: object, target: string): Promise<string> => {
    const authorization = `Bearer ${await gateway.token(who as Record<string, unknown>)}`
    const answer = await fetch(gateway.url + target, { headers: { authorization } })
    const text = (await answer.text()).replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '')
    return toldOf(answer.status, text)
  }
  const both = 'subject=Patient/p1,Patient/p2&_count=1'
  for (const [what, who, query, hidden] of [
    ['of several types', PATIENT, `?_type=Condition&${both}`, 'HIV'],
    ['of one type', PATIENT, `/Condition?${both}`, 'HIV'],
    ['beyond a granular scope', GRANULAR, '?_type=Condition&_count=1', 'HIV'],
    ['beyond a union of granular scopes', TWOFOLD, '/Condition?_count=1', 'SIDE'],
    ['beyond a union that shares no parameter', DISJOINT, '/Condition?_count=1', 'SIDE'],
    ['the same, in pages that are larger', DISJOINT, '/Condition?_count=2', 'SIDE'],
    ['the same, of several types', TWOFOLD, '?_type=Condition&_count=1', 'SIDE'],
  ] as const) {
    const [there, absent] = await Promise.all(
      [hidden, 'FLU'].map((code) => ask(who, `${query}&code=OWN,${code}`)),
    )
    t.equal(there, absent, what)
  }
  t.match(await ask(CLINICIAN, '?_type=Condition&_count=1&code=OWN,HIV'), /^200 .*"next"/)
  t.match(await ask(TWOFOLD, '/Condition?code=OWN,SIDE'), /^200 .*"id":"own"/)
})

t.test('what cannot be narrowed is not asked for', async (t) => {
  const gateway = await startGateway({ handler: searching })
  t.teardown(() => gateway.close())
  const both = {
    ...{ patient: 'p1', fhirUser: 'Practitioner/d1' },
    scope: 'patient/*.rs user/Observation.rs',
  }
  const rows: [who: Record<string, unknown>, target: string, verdict: string][] = [
    [PATIENT, '?_type=Condition', '403 cannot-narrow'],
    [PATIENT, '?_type=Patient,Condition', '403 cannot-narrow'],
    [PATIENT, '/Condition/_history', '403 cannot-narrow'],
    [PATIENT, '/Patient/_history?_count=1', '403 cannot-narrow'],
    [PATIENT, '/_history?_since=2026-01-01T00:00:00Z', '403 cannot-narrow'],
    [GRANULAR, '?_type=Condition', '403 cannot-narrow'],
    [GRANULAR, '/Condition/_history', '403 cannot-narrow'],
    [GRANULAR, '/_history', '403 cannot-narrow'],
    [both, '?_type=Observation,Condition', '403 cannot-narrow'],
    [both, '/Condition/_history', '403 cannot-narrow'],
    // One more scope takes nothing away (SCOPE-6): what it shows are its own versions.
    [both, '/Observation/_history', '200 '],
    [both, '/_history', '200 '],
    [both, '?_type=Observation', '200 '],
    [CLINICIAN, '/Condition/_history', '200 '],
  ]
  for (const [who, target, verdict] of rows) {
    gateway.upstream.received.length = 0
    const authorization = `Bearer ${await gateway.token(who)}`
    const answer = await fetch(gateway.url + target, { headers: { authorization } })
    const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(await answer.text())?.[1] ?? ''
    const what = `${String(who['scope'])} ${target}`
    t.equal(`${answer.status} ${reason}`, verdict, what)
    t.equal(gateway.upstream.received.length, answer.status === 200 ? 1 : 0, what)
  }
  // The history of one resource stays: whose it is, is known.
  const own = '{"resourceType":"Condition","id":"c","subject":{"reference":"Patient/p1"}}'
  const history = `{"resourceType":"Bundle","type":"history","entry":[{"resource":${own}}]}`
  gateway.upstream.answerWith(json(history))
  const authorization = `Bearer ${await gateway.token(PATIENT)}`
  const answer = await fetch(`${gateway.url}/Condition/c/_history`, { headers: { authorization } })
  t.match(await answer.text(), /"id":"c"/)
})

import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// How other gateways failed, row by row: one attack for each row, against a real upstream that records
// what it received and answers with canaries. The files beside this one go deeper where a row is wide.
const CANARY = 'CANARY'
const PATIENT = { scope: 'patient/*.cruds', patient: 'p1' }
const CLINICIAN = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' }
const RESEARCHER = {
  ...CLINICIAN,
  fhirUser: 'Practitioner/d2',
  roles: ['researcher'],
  purpose_of_use: ['HRESCH'],
}

const other = (type: string, more: object = {}) => ({
  resourceType: type,
  id: 'x',
  meta: { versionId: '1' },
  subject: { reference: 'Patient/p2' },
  note: CANARY,
  ...more,
})
const own = (type: string, more: object = {}) =>
  other(type, { id: 'o1', subject: { reference: 'Patient/p1' }, note: undefined, ...more })
const bundle = (resources: readonly object[], more: object = {}): Handler =>
  json(
    JSON.stringify({
      resourceType: 'Bundle',
      type: 'searchset',
      entry: resources.map((resource) => ({ resource })),
      ...more,
    }),
  )
const one = (resource: object, headers = {}): Handler =>
  json(JSON.stringify(resource), 200, headers)
const patch = JSON.stringify([{ op: 'replace', path: '/subject/reference', value: 'Patient/p2' }])

type Attack = {
  readonly rows: readonly number[]
  readonly what: string
  readonly who: object
  /** `GET /Observation?…` */
  readonly asks: string
  readonly headers?: Record<string, string>
  readonly body?: string
  readonly upstream: Handler
  /** Status of the answer. */
  readonly status: number
  /** What upstream saw, exactly; [] = nothing. */
  readonly saw: readonly string[]
  /** What must be in the answer. */
  readonly says?: RegExp
}

const JSON_PATCH = { 'content-type': 'application/json-patch+json' }
const NARROWED = 'patient=Patient%2Fp1'
const SSN = { system: 'http://hl7.org/fhir/sid/us-ssn', value: '078-05-1120' }

// prettier-ignore
const ATTACKS: readonly Attack[] = [
  { rows: [1], what: '_has by its real key', who: { ...PATIENT, scope: 'patient/Patient.rs' }, asks: 'GET /Patient?_has:Observation:patient:code=a', upstream: bundle([other('Patient')]), status: 403, saw: [] },
  { rows: [1, 10], what: '_revinclude:iterate brings another’s', who: PATIENT, asks: 'GET /Patient?_revinclude:iterate=Observation:subject', upstream: bundle([other('Patient', { id: 'p1', note: undefined }), other('Observation')]), status: 200, saw: ['GET /Patient?_revinclude:iterate=Observation%3Asubject&_id=p1'] },
  { rows: [2, 3], what: 'a cursor of upstream', who: PATIENT, asks: 'GET ?_getpages=c0ffee&_getpagesoffset=20', upstream: bundle([other('Observation')]), status: 403, saw: [] },
  { rows: [3, 44], what: 'a further page keeps its type and its terms', who: PATIENT, asks: 'GET /Observation', upstream: (request, response, raw) => { bundle([own('Observation')], { total: 7, link: [{ relation: 'next', url: `http://${String(request.headers["host"])}/base?_getpages=1` }] })(request, response, raw) }, status: 200, saw: [`GET /Observation?${NARROWED}`, 'GET ?_getpages=1'], says: /"relation":"next","url":"http:\/\/127\.0\.0\.1:9\/fhir\?_cursor=/ },
  { rows: [4], what: 'an upstream address wrapped in a parameter', who: PATIENT, asks: 'GET /Observation?internal=http://169.254.169.254/', upstream: bundle([]), status: 400, saw: [] },
  { rows: [5], what: 'a public address as a query', who: {}, asks: 'GET /Patient/p2?x=/metadata', upstream: one(other('Patient')), status: 400, saw: [] },
  { rows: [6], what: 'an id that holds another', who: { ...PATIENT, patient: 'p' }, asks: 'GET /Observation/o1', upstream: one(own('Observation', { note: CANARY })), status: 404, saw: ['GET /Observation/o1'] },
  { rows: [7], what: 'a write is judged before it is made', who: PATIENT, asks: 'POST /Observation', body: JSON.stringify(other('Observation')), upstream: one({}), status: 403, saw: [] },
  { rows: [8], what: 'a count of what may not be seen', who: PATIENT, asks: 'GET /Observation?_summary=count', upstream: bundle([], { total: 41 }), status: 400, saw: [] },
  { rows: [9], what: 'a search by an SSN', who: CLINICIAN, asks: 'GET /Patient?identifier=http://hl7.org/fhir/sid/us-ssn|078-05-1120', upstream: bundle([other('Patient')]), status: 400, saw: [] },
  { rows: [9], what: 'an order by what is masked', who: RESEARCHER, asks: 'GET /Patient?_sort=family', upstream: bundle([other('Patient')]), status: 400, saw: [] },
  { rows: [10], what: 'focus is me, subject is another', who: PATIENT, asks: 'GET /Observation', upstream: bundle([other('Observation', { focus: [{ reference: 'Patient/p1' }] })]), status: 200, saw: [`GET /Observation?${NARROWED}`] },
  { rows: [11], what: 'self as performer makes it nobody’s own', who: PATIENT, asks: 'POST /Observation', body: JSON.stringify(other('Observation', { performer: [{ reference: 'Patient/p1' }] })), upstream: one({}), status: 403, saw: [] },
  { rows: [12], what: 'a patch without the right to update', who: { ...PATIENT, scope: 'patient/*.rsc' }, asks: 'PATCH /Observation/o1', headers: JSON_PATCH, body: '[{"op":"remove","path":"/note"}]', upstream: one(own('Observation')), status: 403, saw: [] },
  { rows: [12, 13], what: 'a patch that moves it to another', who: CLINICIAN, asks: 'PATCH /Observation/o1', headers: JSON_PATCH, body: patch, upstream: one(own('Observation')), status: 422, saw: ['GET /Observation/o1'] },
  { rows: [13], what: 'an update that takes it over', who: PATIENT, asks: 'PUT /Observation/x', body: JSON.stringify(own('Observation', { id: 'x' })), upstream: one(other('Observation')), status: 404, saw: ['GET /Observation/x'] },
  { rows: [14], what: 'If-None-Exist does not read another’s', who: PATIENT, asks: 'POST /Observation', headers: { 'if-none-exist': 'identifier=a' }, body: JSON.stringify(own('Observation')), upstream: (request, response, raw) => { (request.method === 'POST' ? json('', 201) : bundle([other('Observation')]))(request, response, raw) }, status: 201, saw: [`GET /Observation?identifier=a&_count=101&${NARROWED}`, 'POST /Observation'] },
  { rows: [15], what: 'a conditional delete reaches one, its own, by id', who: PATIENT, asks: 'DELETE /Observation?code=a', upstream: bundle([other('Observation')]), status: 404, saw: [`GET /Observation?code=a&_count=101&${NARROWED}`] },
  { rows: [16], what: 'a transaction with one forbidden entry', who: PATIENT, asks: 'POST ', body: JSON.stringify({ resourceType: 'Bundle', type: 'transaction', entry: [{ resource: own('Observation', { id: undefined }), request: { method: 'POST', url: 'Observation' } }, { resource: other('Observation'), request: { method: 'POST', url: 'Observation' } }] }), upstream: one({}), status: 403, saw: [] },
  { rows: [17], what: '$graphql', who: CLINICIAN, asks: 'GET /$graphql?query=%7BPatient%7Bid%7D%7D', upstream: one({ data: CANARY }), status: 403, saw: [] },
  { rows: [17], what: '$everything is judged entry by entry', who: PATIENT, asks: 'GET /Patient/p1/$everything', upstream: bundle([other('Observation'), other('Group', { subject: undefined }), { resourceType: 'List', id: 'l', note: CANARY }]), status: 200, saw: ['GET /Patient/p1/$everything'] },
  { rows: [18], what: 'upstream’s own address of a job', who: { sub: 'app-1', scope: 'system/*.rs', roles: ['bulk-export'] }, asks: 'GET /$export-poll-status?_jobId=1', upstream: one({ output: [CANARY] }), status: 403, saw: [] },
  { rows: [19], what: '_format=html/json', who: PATIENT, asks: 'GET /Patient/p1?_format=html/json', upstream: one(other('Patient')), status: 406, saw: [] },
  { rows: [19], what: 'HTML from upstream all the same', who: PATIENT, asks: 'GET /Patient/p1', upstream: json(`<p>${CANARY}</p>`, 200, { 'content-type': 'text/html' }), status: 502, saw: ['GET /Patient/p1'] },
  { rows: [20], what: '_fhirpath', who: PATIENT, asks: 'GET /Patient/p1?_fhirpath=Patient.identifier', upstream: one({ resourceType: 'Parameters', parameter: [{ valueString: CANARY }] }), status: 400, saw: [] },
  { rows: [21], what: '_elements cuts what it is judged by', who: PATIENT, asks: 'GET /Observation?_elements=note', upstream: bundle([other('Observation')]), status: 200, saw: [`GET /Observation?${NARROWED}`] },
  { rows: [21], what: '_elements:exclude', who: PATIENT, asks: 'GET /Observation?_elements:exclude=subject', upstream: bundle([other('Observation')]), status: 400, saw: [] },
  { rows: [22], what: 'a contained SSN', who: PATIENT, asks: 'GET /Observation/o1', upstream: one(own('Observation', { contained: [{ resourceType: 'Patient', id: 'a', identifier: [SSN] }] })), status: 200, saw: ['GET /Observation/o1'], says: /"masked"/ },
  { rows: [23], what: 'a masked resource is not written back', who: CLINICIAN, asks: 'PUT /Patient/p1', body: JSON.stringify({ resourceType: 'Patient', id: 'p1', birthDate: '1970-01-01' }), upstream: one({ resourceType: 'Patient', id: 'p1', meta: { versionId: '3' }, identifier: [SSN] }), status: 422, saw: ['GET /Patient/p1'] },
  { rows: [24], what: 'what is masked says so', who: CLINICIAN, asks: 'GET /Patient/p1', upstream: one({ resourceType: 'Patient', id: 'p1', identifier: [SSN] }), status: 200, saw: ['GET /Patient/p1'], says: /"valueCode":"masked".*"MASKED"|"MASKED".*"valueCode":"masked"/ },
  { rows: [25], what: 'a total tells what was withheld', who: PATIENT, asks: 'GET /Observation?_total=accurate', upstream: bundle([other('Observation')], { total: 41 }), status: 200, saw: [`GET /Observation?${NARROWED}`] },
  { rows: [26], what: 'If-None-Match on another’s: no 304', who: PATIENT, asks: 'GET /Observation/x', headers: { 'if-none-match': 'W/"1"' }, upstream: (request, response, raw) => { if (request.headers['if-none-match'] === undefined) one(other('Observation'))(request, response, raw); else { response.writeHead(304); response.end() } }, status: 404, saw: ['GET /Observation/x'] },
  { rows: [27], what: 'a version that was another’s', who: PATIENT, asks: 'GET /Observation/o1/_history/1', upstream: one(other('Observation', { id: 'o1' })), status: 404, saw: ['GET /Observation/o1/_history/1'] },
  { rows: [28], what: 'a method in a header', who: { ...PATIENT, scope: 'patient/*.c' }, asks: 'POST /Observation', headers: { 'x-http-method-override': 'DELETE', 'x-method-override': 'DELETE' }, body: JSON.stringify(own('Observation')), upstream: json('{}', 201), status: 201, saw: ['POST /Observation'] },
  { rows: [29], what: 'private headers of the server', who: PATIENT, asks: 'GET /Patient/p1', headers: { 'x-cascade': 'delete', 'x-rewrite-history': 'true', 'x-request-partition-ids': '_ALL', 'x-security-context': 'Patient/p2', 'x-consent-scope': 'a' }, upstream: one({ resourceType: 'Patient', id: 'p1' }), status: 200, saw: ['GET /Patient/p1'] },
  { rows: [30], what: 'forwarded headers make no address', who: PATIENT, asks: 'GET /Observation', headers: { 'x-forwarded-host': 'evil.example', forwarded: 'host=evil.example' }, upstream: bundle([], { link: [{ relation: 'self', url: 'http://evil.example/' }] }), status: 200, saw: [`GET /Observation?${NARROWED}`], says: /"url":"http:\/\/127\.0\.0\.1:9\/fhir\/Observation"/ },
  { rows: [32], what: 'two rules, the stricter mask', who: { ...RESEARCHER, roles: ['researcher'] }, asks: 'GET /Patient/p1', upstream: one({ resourceType: 'Patient', id: 'p1', name: [{ family: CANARY }] }), status: 200, saw: ['GET /Patient/p1'] },
  { rows: [33, 34], what: 'the limit is one more AND, strict', who: PATIENT, asks: 'GET /Observation?patient=p2&subject=Patient/p2', headers: { prefer: 'handling=lenient' }, upstream: bundle([other('Observation')]), status: 200, saw: [`GET /Observation?patient=p2&subject=Patient%2Fp2&${NARROWED}`] },
  { rows: [34], what: 'a parameter that nobody knows', who: PATIENT, asks: 'GET /Observation?pateint=p1', upstream: bundle([other('Observation')]), status: 400, saw: [] },
  { rows: [35], what: 'a path that reads two ways', who: PATIENT, asks: 'GET /Patient/p1%2f..%2fp2', upstream: one(other('Patient')), status: 400, saw: [] },
  { rows: [35], what: 'a subject that stands twice', who: PATIENT, asks: 'GET /Observation/o1', upstream: json('{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},"subject":{"reference":"Patient/p2"},"note":"CANARY"}'), status: 502, saw: ['GET /Observation/o1'] },
  { rows: [36], what: 'an error of upstream', who: PATIENT, asks: 'GET /Patient/p1', upstream: json(JSON.stringify({ resourceType: 'OperationOutcome', issue: [{ diagnostics: `${CANARY} at java.lang` }] }), 500), status: 502, saw: ['GET /Patient/p1'] },
  { rows: [37], what: 'other doors of the server', who: CLINICIAN, asks: 'GET /swagger-ui/', upstream: one({ note: CANARY }), status: 400, saw: [] },
  { rows: [37], what: 'what the server calls its own', who: CLINICIAN, asks: 'POST /Patient/p1/$expunge', upstream: one({ note: CANARY }), status: 403, saw: [] },
  { rows: [38], what: 'a Binary', who: CLINICIAN, asks: 'GET /Binary/b1', upstream: json(CANARY, 200, { 'content-type': 'text/html' }), status: 403, saw: [] },
  { rows: [39], what: 'a Subscription as a channel', who: { ...CLINICIAN, scope: 'user/Subscription.cruds' }, asks: 'POST /Subscription', body: '{"resourceType":"Subscription","channel":{"endpoint":"http://169.254.169.254/"}}', upstream: json('{}', 201), status: 403, saw: [] },
  { rows: [40], what: 'AuditEvents of the server are not for deleting', who: { sub: 'app-1', scope: 'system/AuditEvent.cruds' }, asks: 'DELETE /AuditEvent/a1', upstream: one(other('AuditEvent')), status: 403, saw: [] },
  { rows: [42], what: 'a token without the audience', who: { ...PATIENT, aud: 'http://127.0.0.1:9/fhir2' }, asks: 'GET /Patient/p1', upstream: one(other('Patient')), status: 401, saw: [] },
  { rows: [45], what: 'a resource of no known type is no success', who: CLINICIAN, asks: 'GET /Observation', upstream: bundle([{ resourceType: 'Nonsense', id: 'x', note: CANARY }, { note: CANARY }]), status: 200, saw: ['GET /Observation'] },
]

t.test('row by row: nothing leaks, and upstream saw what was permitted alone', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  for (const { rows, what, who, asks, headers, body, upstream, status, saw, says } of ATTACKS) {
    const name = `row ${rows.join(', ')}: ${what}`
    gateway.upstream.answerWith(upstream)
    gateway.upstream.received.length = 0
    const [method = '', target = ''] = asks.split(/ (.*)/)
    const answer = await fetch(gateway.url + target, {
      method,
      headers: {
        ...(Object.keys(who).length === 0
          ? {}
          : { authorization: `Bearer ${await gateway.token(who as Record<string, unknown>)}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/fhir+json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
    })
    const text = await answer.text()
    t.equal(answer.status, status, name)
    t.notMatch(text + JSON.stringify([...answer.headers]), /CANARY|078-05|"total"/, name)
    const came = gateway.upstream.received
    t.strictSame(
      came.map((request) => `${request.method} ${request.target.replace('/base', '')}`),
      saw,
      `${name}: what upstream saw`,
    )
    const sent = JSON.stringify(came.map((request) => request.headers))
    t.notMatch(sent, /override|cascade|rewrite|partition|forwarded|evil|lenient|bearer/i, name)
    if (says !== undefined) t.match(text, says, name)
  }
  // Rows 40, 41 and 45: what is on record, and what is not.
  const audit = await gateway.auditText()
  t.ok((await gateway.audit()).length >= ATTACKS.length, 'row 40: every attempt is on record')
  t.notMatch(
    audit + gateway.log.join('\n') + (await gateway.metrics()),
    /CANARY|078-05-1120"/,
    'row 41',
  )
  t.notMatch(
    gateway.log.join('\n'),
    /p1|p2|identifier=/,
    'row 41: the log names no patient, no value',
  )
  t.match(audit, /"inspected"/, 'row 45: what was looked at is counted')
})

t.test('every row has its attack', (t) => {
  const folder = new URL('.', import.meta.url)
  const texts = readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8'))
  const cited = new Set(
    texts.flatMap((text) =>
      [...text.matchAll(/\brows? ([\d, –-]+)/gi)].flatMap(([, list = '']) =>
        list.split(',').flatMap((part) => {
          const [from = 0, to = from] = part.split(/[–-]/).map(Number)
          return Array.from({ length: to - from + 1 }, (_, n) => from + n)
        }),
      ),
    ),
  )
  for (const { rows } of ATTACKS) for (const row of rows) cited.add(row)
  // Row 31 is about consent as a filter, which this gateway does not have.
  for (let row = 1; row <= 45; row++) t.ok(row === 31 || cited.has(row), `row ${row}`)
  t.end()
})

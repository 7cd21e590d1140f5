import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// The permission table, to be read line by line: who asks what → status and reason, and what
// upstream was asked. '-' = upstream saw nothing (design rule 1; pitfalls §1 rows 1, 5–17, 34).
const PRINCIPALS: Record<string, Record<string, unknown>> = {
  patient: { scope: 'patient/*.cruds', patient: 'p1', fhirUser: 'Patient/p1' },
  reader: { scope: 'patient/Observation.r', patient: 'p1' },
  contextless: { scope: 'patient/*.cruds' },
  clinician: { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1', purpose_of_use: ['TREAT'] },
  nobody: { scope: 'user/*.cruds' },
  device: { scope: 'user/*.cruds', fhirUser: 'Device/x' },
  usurper: { scope: 'system/*.cruds', fhirUser: 'Practitioner/d1' },
  backend: { scope: 'system/*.rs', sub: 'app-1' },
  granular: { scope: 'user/Observation.rs?category=laboratory', fhirUser: 'Practitioner/d1' },
  inexact: { scope: 'user/Observation.rs?code:in=http://vs', fhirUser: 'Practitioner/d1' },
  twofold: {
    scope: 'user/Observation.rs?category=laboratory user/Observation.rs?category=imaging',
    fhirUser: 'Practitioner/d1',
  },
  v1: { scope: 'user/*.read', fhirUser: 'Practitioner/d1' },
  researcher: { scope: 'user/*.rs', fhirUser: 'Practitioner/d2', roles: ['researcher'] },
  scopeless: { scope: 'openid fhirUser launch/patient', patient: 'p1' },
}

const rows: [who: string, method: string, target: string, verdict: string, upstream: string][] = [
  ['patient', 'GET', '/Patient/p1', '200', '/Patient/p1'],
  ['patient', 'GET', '/Patient/p2', '404 not-found', '/Patient/p2'],
  ['patient', 'HEAD', '/Patient/p1', '200', '/Patient/p1'],
  ['patient', 'GET', '/Patient', '200', '/Patient?_id=p1'],
  ['patient', 'GET', '/Patient?_id=p2', '200', '/Patient?_id=p2&_id=p1'],
  ['patient', 'GET', '/Observation', '200', '/Observation?patient=Patient%2Fp1'],
  [
    'patient',
    'GET',
    '/Observation?patient=p2',
    '200',
    '/Observation?patient=p2&patient=Patient%2Fp1',
  ],
  [
    'patient',
    'GET',
    '/Observation?patient=p2,p1',
    '200',
    '/Observation?patient=p2,p1&patient=Patient%2Fp1',
  ],
  ['patient', 'GET', '/Patient/p1/Observation', '200', '/Observation?patient=Patient%2Fp1'],
  [
    'patient',
    'GET',
    '/Patient/p2/Observation',
    '200',
    '/Observation?patient=Patient%2Fp2&patient=Patient%2Fp1',
  ],
  [
    'patient',
    'GET',
    '/Observation?_count=99999',
    '200',
    '/Observation?_count=1000&patient=Patient%2Fp1',
  ],
  ['patient', 'GET', '/Practitioner/d1', '200', '/Practitioner/d1'],
  ['patient', 'GET', '/Organization/o1', '200', '/Organization/o1'],
  ['patient', 'GET', '/Practitioner?name=a', '403 policy-denied', '-'],
  ['patient', 'GET', '/Group/g1', '403 policy-denied', '-'],
  ['patient', 'GET', '/AuditEvent/a1', '403', '-'],
  ['patient', 'GET', '/Binary/b1', '403', '-'],
  ['patient', 'GET', '/Patient/p1/_history/1', '200', '/Patient/p1/_history/1'],
  ['patient', 'GET', '/Patient/p1/_history', '200', '/Patient/p1/_history'],
  // Without a version that shows it is not there.
  ['patient', 'GET', '/Patient/p2/_history', '404 not-found', '/Patient/p2/_history'],
  ['patient', 'GET', '/Patient/_history', '403 cannot-narrow', '-'],
  ['clinician', 'GET', '/Patient/_history', '200', '/Patient/_history'],
  ['patient', 'GET', '/Practitioner/_history', '403 policy-denied', '-'],
  ['reader', 'GET', '/Observation/_history', '403 scope-insufficient', '-'],
  ['researcher', 'GET', '/Observation/_history', '403 policy-denied', '-'],
  ['patient', 'GET', '/_history?_count=9999', '403 cannot-narrow', '-'],
  ['clinician', 'GET', '/_history?_count=9999', '200', '/_history?_count=1000'],
  ['patient', 'GET', '/_history?_list=1', '400 parameter-forbidden', '-'],
  ['reader', 'GET', '/_history', '403 scope-insufficient', '-'],
  ['patient', 'GET', '?_type=Patient,Observation', '403 cannot-narrow', '-'],
  ['clinician', 'GET', '?_type=Patient,Observation', '200', '?_type=Patient,Observation'],
  ['patient', 'GET', '?_type=Patient,Practitioner', '403 policy-denied', '-'],
  ['patient', 'GET', '?_lastUpdated=gt2020', '403 interaction-refused', '-'],
  ['patient', 'GET', '?_getpages=abc', '403 interaction-refused', '-'],
  ['patient', 'POST', '', '415 media-type-unsupported', '-'],
  ['patient', 'GET', '/Patient/p1/$everything', '200', '/Patient/p1/$everything'],
  ['patient', 'GET', '/Patient/p2/$everything', '404 not-found', '-'],
  [
    'patient',
    'GET',
    '/Patient/p1/$everything?_count=5000',
    '200',
    '/Patient/p1/$everything?_count=1000',
  ],
  ['patient', 'GET', '/Patient/p1/$everything?_mdm=true', '400 parameter-unknown', '-'],
  ['patient', 'GET', '/Patient/$everything', '403 operation-refused', '-'],
  ['patient', 'GET', '/Patient/p1/$summary', '200', '/Patient/p1/$summary'],
  ['patient', 'POST', '/Patient/p1/$everything', '403 operation-refused', '-'],
  ['patient', 'GET', '/Observation/$lastn', '200', '/Observation/$lastn?patient=Patient%2Fp1'],
  [
    'patient',
    'GET',
    '/Observation/$lastn?patient=p1&max=2',
    '200',
    '/Observation/$lastn?max=2&patient=Patient%2Fp1',
  ],
  ['patient', 'GET', '/Observation/$lastn?patient=p2', '403 compartment-denied', '-'],
  ['patient', 'GET', '/Observation/$lastn?subject=Patient/p2', '403 compartment-denied', '-'],
  [
    'patient',
    'GET',
    '/DocumentReference/$docref',
    '200',
    '/DocumentReference/$docref?patient=Patient%2Fp1',
  ],
  ['patient', 'GET', '/ValueSet/$expand?url=a', '403 policy-denied', '-'],
  ['patient', 'GET', '/Patient/$export', '403 operation-refused', '-'],
  ['patient', 'GET', '/$export', '403 operation-refused', '-'],
  ['patient', 'POST', '/Patient/$merge', '403 operation-refused', '-'],
  ['patient', 'POST', '/Patient/p1/$meta-delete', '403 operation-refused', '-'],
  ['reader', 'GET', '/Patient/p1/$everything', '403 scope-insufficient', '-'],
  ['researcher', 'GET', '/Patient/p1/$everything', '403 policy-denied', '-'],
  ['clinician', 'GET', '/Observation/$lastn?patient=p2', '200', '/Observation/$lastn?patient=p2'],
  ['clinician', 'GET', '/CodeSystem/$lookup?code=a', '200', '/CodeSystem/$lookup?code=a'],
  ['clinician', 'POST', '/Observation/$validate', '415 media-type-unsupported', '-'],
  ['patient', 'POST', '/$graphql', '403 operation-refused', '-'],
  ['patient', 'PATCH', '/Patient/p1', '415 media-type-unsupported', '-'],
  ['patient', 'PUT', '/Patient?identifier=a', '415 media-type-unsupported', '-'],
  [
    'patient',
    'DELETE',
    '/Observation?code=a',
    '404 not-found',
    '/Observation?code=a&_count=101&patient=Patient%2Fp1',
  ],
  ['reader', 'DELETE', '/Observation?code=a', '403 scope-insufficient', '-'],
  [
    'patient',
    'GET',
    '/Observation?_include=Observation:performer',
    '200',
    '/Observation?_include=Observation%3Aperformer&patient=Patient%2Fp1',
  ],
  [
    'patient',
    'GET',
    '/Observation?_include:iterate=Observation:performer',
    '200',
    '/Observation?_include:iterate=Observation%3Aperformer&patient=Patient%2Fp1',
  ],
  [
    'patient',
    'GET',
    '/Patient?_revinclude=Observation:subject',
    '200',
    '/Patient?_revinclude=Observation%3Asubject&_id=p1',
  ],
  ['patient', 'GET', '/Patient?_revinclude=AuditEvent:patient', '403 scope-insufficient', '-'],
  ['patient', 'GET', '/Patient?_revinclude=Observation:nonsense', '400 parameter-malformed', '-'],
  [
    'patient',
    'GET',
    '/Patient?_has:Observation:patient:code=1',
    '200',
    '/Observation?code=1&_count=101&patient=Patient%2Fp1; /Patient?_id=fhirewall.matches.nothing&_id=p1',
  ],
  [
    'patient',
    'GET',
    '/Observation?patient.name=a',
    '200',
    '/Patient?name=a&_count=101&_id=p1; /Observation?_id=fhirewall.matches.nothing&patient=Patient%2Fp1',
  ],
  ['reader', 'GET', '/Observation?patient.name=a', '403 scope-insufficient', '-'],
  ['patient', 'GET', '/Observation?performer:Practitioner.name=a', '403 policy-denied', '-'],
  [
    'patient',
    'GET',
    '/Observation?subject.name=a&_elements=code&_total=accurate',
    '200',
    '/Patient?name=a&_count=101&_id=p1; /Observation?_id=fhirewall.matches.nothing&patient=Patient%2Fp1',
  ],
  ['researcher', 'GET', '/Observation?patient.name=a', '400 parameter-forbidden', '-'],
  ['patient', 'GET', '/Observation?_filter=a%20eq%20b', '400 parameter-malformed', '-'],
  ['patient', 'GET', '/Observation?_content=a', '400 parameter-forbidden', '-'],
  ['patient', 'GET', '/Observation?_summary=count', '400 parameter-forbidden', '-'],
  ['patient', 'GET', '/Observation?nonsense=a', '400 parameter-unknown', '-'],
  ['patient', 'GET', '/Observation?_fhirpath=a', '400', '-'],
  ['patient', 'GET', '/Patient/p1?_format=html', '406 not-acceptable', '-'],
  ['patient', 'GET', '/Patient/p1?_format=xml', '406 not-acceptable', '-'],
  ['reader', 'GET', '/Observation/o1', '200', '/Observation/o1'],
  ['reader', 'GET', '/Observation', '403 scope-insufficient', '-'],
  ['reader', 'GET', '/Condition/c1', '403 scope-insufficient', '-'],
  ['reader', 'DELETE', '/Observation/o1', '403 scope-insufficient', '-'],
  ['contextless', 'GET', '/Observation/o1', '403 scope-insufficient', '-'],
  ['clinician', 'GET', '/Patient/p2', '200', '/Patient/p2'],
  ['clinician', 'GET', '/Observation?patient=p2', '200', '/Observation?patient=p2'],
  [
    'clinician',
    'GET',
    '/Patient?identifier=http://hl7.org/fhir/sid/us-ssn|123-45-6789',
    '400 parameter-forbidden',
    '-',
  ],
  ['clinician', 'GET', '/Patient?identifier=123-45-6789', '400 parameter-forbidden', '-'],
  ['clinician', 'GET', '/AuditEvent/a1', '403', '-'],
  ['nobody', 'GET', '/Patient/p1', '403 scope-insufficient', '-'],
  ['device', 'GET', '/Patient/p1', '403 scope-insufficient', '-'],
  ['usurper', 'GET', '/Patient/p1', '403 scope-insufficient', '-'],
  ['backend', 'GET', '/Patient/p2', '200', '/Patient/p2'],
  ['backend', 'DELETE', '/Patient/p2', '403 scope-insufficient', '-'],
  // A granular scope holds on a read as on a search; o1 is no laboratory result.
  ['granular', 'GET', '/Observation/o1', '404 not-found', '/Observation/o1'],
  ['granular', 'GET', '/Observation', '200', '/Observation?category=laboratory'],
  ['granular', 'GET', '/Observation?code=a', '200', '/Observation?code=a&category=laboratory'],
  ['granular', 'GET', '/Condition', '403 scope-insufficient', '-'],
  ['inexact', 'GET', '/Observation', '403 scope-insufficient', '-'],
  ['twofold', 'GET', '/Observation', '200', '/Observation?category=laboratory,imaging'],
  ['v1', 'GET', '/Patient/p1', '200', '/Patient/p1'],
  ['v1', 'DELETE', '/Patient/p1', '403 scope-insufficient', '-'],
  ['researcher', 'GET', '/Patient/p1', '200', '/Patient/p1'],
  ['researcher', 'GET', '/Patient?name=a', '400 parameter-forbidden', '-'],
  ['researcher', 'GET', '/Patient?birthdate=1970', '400 parameter-forbidden', '-'],
  ['scopeless', 'GET', '/Patient/p1', '403 scope-insufficient', '-'],
]

t.test(
  'the permission table (SCOPE-1, 3, 5, 8, 11, 14, 15; REST-1, 6, 7, 8, 9, 11, 12, 14)',
  async (t) => {
    const gateway = await startGateway({
      handler: (request, response, raw) => {
        const [, , type, id] = request.target.split(/[/?]/)
        const isSearch = /[?$]|_history$/.test(request.target) || id === undefined
        const text = request.target.includes('$lookup')
          ? '{"resourceType":"Parameters","parameter":[]}'
          : isSearch
            ? `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Patient","id":"${id}"}}]}`
            : `{"resourceType":"${type ?? ''}","id":"${id}","subject":{"reference":"Patient/p1"}}`
        json(text)(request, response, raw)
      },
    })
    t.teardown(() => gateway.close())
    for (const [who, method, target, verdict, expected] of rows) {
      const token = await gateway.token(PRINCIPALS[who] ?? {})
      gateway.upstream.received.length = 0
      const answer = await fetch(gateway.url + target, {
        method,
        headers: { authorization: `Bearer ${token}` },
      })
      const body = await answer.text()
      const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(body)?.[1] ?? ''
      const line = `${who} ${method} ${target}`
      t.match(`${answer.status} ${reason}`, verdict, `${line} → ${verdict}`)
      const asked = gateway.upstream.received.map((request) => request.target.replace('/base', ''))
      t.strictSame(asked, expected === '-' ? [] : expected.split('; '), `${line}: upstream`)
    }
    t.equal((await gateway.audit()).length >= rows.length, true, 'each line is recorded')
  },
)

// pitfalls §2: what Inferno's single-patient and US Core tests read must not be denied by mistake.
const ABOUT = (name: string, id: string) => ({ [name]: { reference: `Patient/${id}` } })
const READS: readonly (readonly [target: string, resource: object, status: number])[] = [
  ['Practitioner/x', {}, 200],
  ['PractitionerRole/x', {}, 200],
  ['Organization/x', {}, 200],
  ['Location/x', {}, 200],
  ['Medication/x', {}, 200],
  ['HealthcareService/x', {}, 200],
  ['Provenance/x', { target: [{ reference: 'Patient/p1' }] }, 200],
  ['Provenance/x', { target: [{ reference: 'Patient/p12' }] }, 404],
  ['Provenance/x', { target: [] }, 404],
  ...['p1', 'p2'].flatMap((id): [string, object, number][] => {
    const status = id === 'p1' ? 200 : 404
    return [
      ['Device/x', ABOUT('patient', id), status],
      ['List/x', ABOUT('subject', id), status],
      ['RelatedPerson/x', ABOUT('patient', id), status],
      ['CareTeam/x', ABOUT('subject', id), status],
      ['CarePlan/x', ABOUT('subject', id), status],
      ['Goal/x', ABOUT('subject', id), status],
      ['Coverage/x', ABOUT('beneficiary', id), status],
      ['Specimen/x', ABOUT('subject', id), status],
      ['DocumentReference/x', ABOUT('subject', id), status],
      ['DiagnosticReport/x', ABOUT('subject', id), status],
      ['Immunization/x', ABOUT('patient', id), status],
      ['AllergyIntolerance/x', ABOUT('patient', id), status],
      ['QuestionnaireResponse/x', ABOUT('subject', id), status],
      ['ServiceRequest/x', ABOUT('subject', id), status],
      ['MedicationDispense/x', ABOUT('subject', id), status],
    ]
  }),
  // Nobody's device or list is not this patient's.
  ['Device/x', {}, 404],
  ['List/x', {}, 404],
  ['Group/x', { member: [{ entity: { reference: 'Patient/p1' } }] }, 403],
]

t.test('the reads of Inferno pass under the shipped patient policy (§2)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  for (const [target, resource, status] of READS) {
    const [resourceType, id] = target.split('/')
    gateway.upstream.answerWith(json(JSON.stringify({ resourceType, id, ...resource })))
    const answer = await fetch(`${gateway.url}/${target}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    t.equal(answer.status, status, `${target} ${JSON.stringify(resource)}`)
  }
})

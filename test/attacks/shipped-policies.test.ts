import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// The shipped policies over HTTP: what their descriptions say holds by whatever scope one comes.
const PATIENT =
  '{"resourceType":"Patient","id":"p1","meta":{"versionId":"1"},"name":[{"family":"CANARY"}],"gender":"female"}'
const RESEARCH = { roles: ['researcher'] }
const STUDY = { purpose_of_use: ['HRESCH'] }
const OTHER = { fhirUser: 'Practitioner/d2' }

t.test('researchers see nobody by name and write nothing, by no scope (MASK-13)', async (t) => {
  const gateway = await startGateway({
    handler: (request, response, raw) =>
      json(
        request.target.includes('?')
          ? `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${PATIENT}}]}`
          : PATIENT,
      )(request, response, raw),
  })
  t.teardown(() => gateway.close())
  // prettier-ignore
  const rows: [what: string, claims: object, isNamed: boolean, mayWrite: boolean][] = [
    ['a person',                     { scope: 'user/*.cruds', ...OTHER, ...RESEARCH }, false, false],
    ['in a launch for one patient',  { scope: 'patient/*.cruds', patient: 'p1', ...OTHER, ...RESEARCH }, false, false],
    ['in a launch, person unknown',  { scope: 'patient/*.cruds', patient: 'p1', ...RESEARCH }, false, false],
    ['in a launch, of a relation',   { scope: 'patient/*.cruds', patient: 'p1', fhirUser: 'RelatedPerson/r1', ...RESEARCH }, false, false],
    ['in a launch, of another',      { scope: 'patient/*.cruds', patient: 'p1', fhirUser: 'Patient/p2', ...RESEARCH }, false, false],
    ['for a study, in a launch',     { scope: 'patient/*.cruds', patient: 'p1', ...OTHER, ...STUDY }, false, false],
    ['by both levels',               { scope: 'patient/*.cruds user/*.cruds', patient: 'p1', ...OTHER, ...RESEARCH }, false, false],
    ['a program',                    { scope: 'system/*.cruds', sub: 'app', client_id: 'app', ...RESEARCH }, false, false],
    ['a program, for a study',       { scope: 'system/*.cruds', sub: 'app', client_id: 'app', ...STUDY }, false, false],
    ['with every other role',        { scope: 'patient/*.cruds user/*.cruds', patient: 'p1', ...OTHER, roles: ['researcher', 'restricted-records'], purpose_of_use: ['TREAT'] }, false, false],
    // Whoever does research has a record too: read as it is, written by a token that is not for research.
    ['her own record',               { scope: 'patient/*.cruds', patient: 'p1', fhirUser: 'Patient/p1', ...RESEARCH }, true, false],
    ['a clinician in a launch',      { scope: 'patient/*.cruds', patient: 'p1', ...OTHER }, true, true],
    ['a program that treats',        { scope: 'system/*.cruds', sub: 'app', client_id: 'app' }, true, true],
  ]
  for (const [what, claims, isNamed, mayWrite] of rows) {
    const headers = { authorization: `Bearer ${await gateway.token({ ...claims })}` }
    for (const target of ['/Patient/p1', '/Patient?gender=female']) {
      const answer = await fetch(gateway.url + target, { headers })
      const text = await answer.text()
      t.equal(answer.status, 200, `${what}: ${target}: ${text}`)
      t.equal(text.includes('CANARY'), isNamed, `${what}: ${target}: ${text}`)
    }
    const body = PATIENT.replace('female', 'male')
    const written = await fetch(`${gateway.url}/Patient/p1`, {
      ...{ method: 'PUT', body },
      headers: { ...headers, 'content-type': 'application/fhir+json' },
    })
    t.equal(written.status, mayWrite ? 200 : 403, `${what}: ${await written.text()}`)
    // Past versions, and what is put together of many, are shown to nobody masked.
    for (const target of ['/Patient/p1/_history', '/Patient/p1/$everything']) {
      const answer = await fetch(gateway.url + target, { headers })
      const text = await answer.text()
      if (!isNamed) t.equal(answer.status, 403, `${what}: ${target}: ${text}`)
    }
  }
})

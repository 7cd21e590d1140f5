import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// Operations are released in the shape of their row (REST-8): whatever else upstream sends is refused.
const CANARY = 'CANARY'
const bundle = (type: string): string =>
  JSON.stringify({
    resourceType: 'Bundle',
    type,
    total: 9,
    entry: [
      { resource: { resourceType: 'Patient', id: 'p1' } },
      { resource: { resourceType: 'Observation', id: 'o1', subject: { reference: 'Patient/p1' } } },
      {
        resource: {
          resourceType: 'Observation',
          id: 'o2',
          subject: { reference: 'Patient/p2' },
          note: CANARY,
        },
      },
      { resource: { resourceType: 'Practitioner', id: 'd1' } },
      { resource: { resourceType: 'Device', id: 'x1', note: CANARY } },
      { resource: { resourceType: 'OperationOutcome', issue: [{ diagnostics: CANARY }] } },
    ],
  })
const patient = { scope: 'patient/*.cruds', patient: 'p1' }
const clinician = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' }

t.test('what an operation answers is judged by its shape', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const ask = async (claims: object, target: string, handler: Handler, body?: string) => {
    gateway.upstream.answerWith(handler)
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        authorization: `Bearer ${await gateway.token({ ...claims })}`,
        ...(body === undefined ? {} : { 'content-type': 'application/fhir+json' }),
      },
      ...(body === undefined ? {} : { body }),
    })
    const text = await answer.text()
    t.notMatch(text, /CANARY|total/, target)
    return { status: answer.status, text, upstream: gateway.upstream.received }
  }
  const idsOf = (text: string): string[] =>
    (JSON.parse(text) as { entry: { resource: { id: string } }[] }).entry.map(
      ({ resource }) => resource.id,
    )

  for (const target of ['/Patient/p1/$everything', '/Patient/p1/$summary']) {
    const { text } = await ask(patient, target, json(bundle('searchset')))
    t.strictSame(idsOf(text), ['p1', 'o1', 'd1'], target)
  }
  for (const [what, answer] of [
    ['a resource', '{"resourceType":"Patient","id":"p1"}'],
    [
      'Parameters with resources',
      `{"resourceType":"Parameters","parameter":[{"resource":{"resourceType":"Patient","id":"${CANARY}"}}]}`,
    ],
    ['nothing that is FHIR', '[]'],
  ] as const) {
    t.equal((await ask(patient, '/Patient/p1/$everything', json(answer))).status, 502, what)
    t.equal((await ask(clinician, '/CodeSystem/$lookup?code=a', json(answer))).status, 502, what)
  }
  const lookup =
    '{"resourceType":"Parameters","parameter":[{"name":"display","valueString":"A \\u0062 1.10"}]}'
  t.equal(
    (await ask(clinician, '/CodeSystem/$lookup?code=a', json(lookup))).text,
    lookup,
    'byte for byte',
  )
  const expanded =
    '{"resourceType":"ValueSet","status":"active","expansion":{"timestamp":"2026-01-01"}}'
  t.equal((await ask(clinician, '/ValueSet/$expand?url=a', json(expanded))).text, expanded)

  const observation =
    '{"resourceType":"Observation","status":"final","subject":{"reference":"Patient/p1"}}'
  const outcome = `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"invalid","diagnostics":"${CANARY}","details":{"text":"${CANARY}"},"expression":["Observation.code","<${CANARY}>"]}]}`
  const validated = await ask(clinician, '/Observation/$validate', json(outcome), observation)
  t.strictSame(JSON.parse(validated.text), {
    resourceType: 'OperationOutcome',
    issue: [{ severity: 'error', code: 'invalid', expression: ['Observation.code'] }],
  })
  t.equal(validated.upstream[0]?.body.toString(), observation)
  for (const [what, body, status] of [
    ['another type', '{"resourceType":"Condition"}', 400],
    ['broken', '{"resourceType":"Observation",}', 400],
  ] as const) {
    const refused = await ask(clinician, '/Observation/$validate', json(outcome), body)
    t.equal(refused.status, status, what)
    t.strictSame(refused.upstream, [], `${what}: upstream sees nothing`)
  }
})

import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// Break-glass (BTG-1 to 5): declared by the token, said why, for one patient, for a while, loudly.
const SECRET =
  '{"resourceType":"Observation","id":"o1","meta":{"versionId":"1","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"},{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"HIV"}]},"subject":{"reference":"Patient/p1"},"note":[{"text":"SSN 123-45-6789"}]}'
const upstream: Handler = (request, response, raw) =>
  json(
    request.target.includes('?')
      ? `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${SECRET}}]}`
      : SECRET,
  )(request, response, raw)
const REASON = { 'x-break-glass-reason': 'unconscious in the emergency room' }
const doctor = {
  ...{ scope: 'user/*.cruds', fhirUser: 'Practitioner/d1', sub: 'd1' },
  ...{ purpose_of_use: ['BTG'], roles: ['break-glass'] },
}

t.test('glass breaks for whom, with which words, for what (BTG-1, 3, 4, 5)', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const now = Math.floor(Date.now() / 1000)
  // prettier-ignore
  const rows: [what: string, claims: object, headers: Record<string, string>, target: string, shown: boolean | number][] = [
    ['as it should be',              doctor, REASON, '/Observation/o1', true],
    ['a search for one patient',     doctor, REASON, '/Observation?patient=p1', true],
    ['in a compartment',             doctor, REASON, '/Patient/p1/Observation', true],
    ['a search for nobody',          doctor, REASON, '/Observation', false],
    ['a search for two',             doctor, REASON, '/Observation?patient=p1,p2', false],
    ['with others beside',           doctor, REASON, '/Observation?patient=p1&_include=Observation:subject', false],
    ['by a chain',                   doctor, REASON, '/Observation?patient:Patient._id=p1', false],
    ['no reason',                    doctor, {}, '/Observation/o1', false],
    ['no words',                     doctor, { 'x-break-glass-reason': 'x' }, '/Observation/o1', 400],
    ['words with more in them',      doctor, { 'x-break-glass-reason': 'caf\u00e9 in the emergency' }, '/Observation/o1', 400],
    ['no entitlement',               { ...doctor, roles: [] }, REASON, '/Observation/o1', false],
    ['no purpose in the token',      { ...doctor, purpose_of_use: ['TREAT'] }, REASON, '/Observation/o1', false],
    ['another emergency (BTG-4)',    { ...doctor, purpose_of_use: ['ETREAT'] }, REASON, '/Observation/o1', false],
    ['the purpose in a header alone', { ...doctor, purpose_of_use: [] },
      { ...REASON, category: 'http://terminology.hl7.org/CodeSystem/v3-ActReason#BTG' }, '/Observation/o1', false],
    ['a token of long ago',          { ...doctor, iat: now - 3700 }, REASON, '/Observation/o1', false],
    ['a patient',                    { ...doctor, fhirUser: 'Patient/p1' }, REASON, '/Observation/o1', false],
    ['no scope',                     { ...doctor, scope: 'user/Condition.rs' }, REASON, '/Observation/o1', 403],
  ]
  for (const [what, claims, headers, target, shown] of rows) {
    const answer = await fetch(gateway.url + target, {
      headers: { authorization: `Bearer ${await gateway.token({ ...claims })}`, ...headers },
    })
    const text = await answer.text()
    if (typeof shown === 'number') t.equal(answer.status, shown, what)
    else t.equal(text.includes('"o1"'), shown, `${what}: ${text.slice(0, 200)}`)
    t.notMatch(text, /123-45-6789/, `${what}: a secret stays masked (BTG-5)`)
  }
  const token = await gateway.token(doctor)
  const write = await fetch(`${gateway.url}/Observation/o1`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${token}`, ...REASON },
  })
  t.equal(write.status, 404, 'nothing is written that could not be read before (BTG-5)')
})

t.test('every use is on record, twice, and counted (BTG-3)', async (t) => {
  const gateway = await startGateway({ handler: upstream })
  t.teardown(() => gateway.close())
  const token = await gateway.token(doctor)
  const read = (headers: Record<string, string>) =>
    fetch(`${gateway.url}/Observation/o1`, {
      headers: { authorization: `Bearer ${token}`, ...headers },
    })
  await (await read({})).text()
  t.equal((await gateway.audit()).length, 1, 'an ordinary refusal')
  await (await read(REASON)).text()
  const [, record, alert] = (await gateway.audit()) as unknown as Record<string, unknown>[]
  t.match(record, {
    purposeOfEvent: [{ coding: [{ code: 'BTG' }] }],
    type: { code: 'rest' },
  })
  t.match(JSON.stringify(record), REASON['x-break-glass-reason'])
  t.match(alert, {
    type: { system: 'http://dicom.nema.org/resources/ontology/DCM', code: '110113' },
    subtype: [{ code: '110127' }],
    purposeOfEvent: [{ coding: [{ code: 'BTG' }] }],
  })
  t.match(await gateway.metrics(), /fhirewall_break_glass_total\{interaction="read"\} 1/)
  t.notMatch(gateway.log.join(), /emergency room/, 'the words are in the audit alone')
})

t.test(
  'who says so without being entitled is answered as ever, and on record as an alert (BTG-1)',
  async (t) => {
    const gateway = await startGateway({ handler: upstream })
    t.teardown(() => gateway.close())
    const CATEGORY = {
      category:
        'http://terminology.hl7.org/CodeSystem/v3-ActReason#BTG; scheme="http://hl7.org/fhir/tag/security"; label="break the glass"',
    }
    const treats = { ...doctor, purpose_of_use: ['TREAT'], roles: [] }
    let refused = 0
    // prettier-ignore
    const rows: [what: string, claims: object, headers: Record<string, string>, isAlert: boolean][] = [
    ['a reason, no purpose in the token', treats, REASON, true],
    ['a category',                        treats, CATEGORY, true],
    ['an entitlement, no purpose',        { ...treats, roles: ['break-glass'] }, CATEGORY, true],
    ['the purpose, no entitlement',       { ...doctor, roles: [] }, REASON, true],
    ['a token of long ago',               { ...doctor, iat: Math.floor(Date.now() / 1000) - 3700 }, REASON, true],
    ['nothing is said',                   treats, {}, false],
    ['another category',                  treats, { category: 'http://terminology.hl7.org/CodeSystem/v3-ActReason#BTGX' }, false],
    ['glass is broken',                   doctor, REASON, false],
  ]
    for (const [what, claims, headers, isAlert] of rows) {
      const before = (await gateway.audit()).length
      const answer = await fetch(`${gateway.url}/Observation/o1`, {
        headers: { authorization: `Bearer ${await gateway.token({ ...claims })}`, ...headers },
      })
      await answer.text()
      const records = (await gateway.audit()).slice(before) as unknown as Record<string, unknown>[]
      const alerts = records.filter(({ outcomeDesc }) => outcomeDesc === 'emergency-refused')
      t.equal(alerts.length, isAlert ? 1 : 0, what)
      if (!isAlert) continue
      refused++
      t.equal(answer.status, 404, what)
      t.match(alerts[0], {
        type: { system: 'http://dicom.nema.org/resources/ontology/DCM', code: '110113' },
        subtype: [{ code: 'read' }],
        outcome: '8',
      })
      t.notOk('meta' in (alerts[0] ?? {}), 'and meets no profile of success')
      t.match(gateway.log.at(-1), /^warn /, what)
    }
    const counted = new RegExp(
      `fhirewall_break_glass_refused_total\\{interaction="read"\\} ${refused}`,
    )
    t.match(await gateway.metrics(), counted)
    const nobody = await fetch(`${gateway.url}/Observation/o1`, { headers: CATEGORY })
    t.equal(nobody.status, 401)
    t.equal(
      JSON.stringify((await gateway.audit()).at(-1)).includes('110113'),
      false,
      'nobody known',
    )
  },
)

t.test('who could break glass is told that there is more, nobody else (BTG-2)', async (t) => {
  const open = SECRET.replace('"o1"', '"o2"').replace(/"security":\[.*?\]\]?/, '"tag":[]')
  for (const bufferBytes of [262_144, 1_000]) {
    const gateway = await startGateway({ config: { upstream: { bufferBytes } } })
    t.teardown(() => gateway.close())
    for (const [resources, left] of [
      [[SECRET], []],
      [[SECRET, open], ['o2']],
      [
        [open, SECRET, open],
        ['o2', 'o2'],
      ],
      [[open], ['o2']],
    ] as const) {
      const entries = resources.map((resource) => `{"resource":${resource}}`).join()
      const padding = ' '.repeat(2_000)
      gateway.upstream.answerWith(
        json(`{"resourceType":"Bundle","type":"searchset","entry":[${entries}]${padding}}`),
      )
      for (const [who, claims, isTold] of [
        ['entitled', doctor, resources.includes(SECRET)],
        ['not entitled', { ...doctor, roles: [] }, false],
        ['not in an emergency', { ...doctor, purpose_of_use: ['TREAT'] }, false],
        ['too late', { ...doctor, iat: Math.floor(Date.now() / 1000) - 3700 }, false],
      ] as const) {
        const answer = await fetch(`${gateway.url}/Observation?patient=p1`, {
          headers: { authorization: `Bearer ${await gateway.token({ ...claims })}` },
        })
        const text = await answer.text()
        const { entry = [] } = JSON.parse(text) as {
          entry?: { resource: { id?: string }; search?: { mode: string } }[]
        }
        const what = `${who}, ${resources.length} of which ${left.length} may be seen, ${bufferBytes}`
        t.strictSame(
          entry
            .filter(({ search }) => search?.mode !== 'outcome')
            .map(({ resource }) => resource.id),
          left,
          what,
        )
        t.equal(text.includes('"suppressed"'), isTold, what)
        t.notMatch(text, /"o1"|"entry":\[\]/, what)
      }
    }
  }
})

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import type { Test } from 'tap'
import { explain } from '../../src/cli/explain.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

/** Rules as somebody may have written them. */
const rule = fc.record({
  effect: fc.constantFrom('permit', 'permit', 'permit', 'permit', 'deny'),
  when: fc.constantFrom(
    'true',
    `'a' in principal.roles`,
    `principal.patient == 'p1'`,
    `principal.fhirUserType == 'Practitioner'`,
    `request.method == 'GET'`,
    `request.id != 'o2'`,
  ),
  interactions: fc.subarray(
    ['read', 'vread', 'history-instance', 'search-type', 'search-compartment', 'delete'],
    { minLength: 2 },
  ),
  types: fc.oneof(
    fc.constant(['*']),
    fc.subarray(['Observation', 'Patient', 'AuditEvent', 'Binary'], { minLength: 1 }),
  ),
  levels: fc.subarray(['patient', 'user', 'system'], { minLength: 1 }),
  obligations: fc.record(
    {
      compartment: fc.constantFrom('patient', 'practitioner', 'encounter'),
      masking: fc.constantFrom('house', 'baseline', 'labels'),
      results: fc.constantFrom(5, 10),
      parameters: fc.constantFrom({ forbid: ['code'] }, { only: ['code', 'date'] }, { only: [] }),
      strength: fc.constantFrom({ acr: ['gold'] }, { within: 60 }),
    },
    { requiredKeys: [] },
  ),
})
const emergency = {
  ...{ effect: 'permit', when: `'bg' in principal.roles`, interactions: ['read', 'search-type'] },
  ...{ types: ['*'], levels: ['user'] },
  obligations: { breakGlass: { minutes: 10 }, masking: 'baseline' },
}
const policies = fc
  .tuple(fc.array(rule, { minLength: 1, maxLength: 4 }), fc.boolean())
  .map(([rules, hasEmergency]) =>
    [...rules, ...(hasEmergency ? [emergency] : [])].map((one, n) => ({
      id: `r${n}`,
      ...one,
      ...(one.effect === 'deny' ? { obligations: undefined } : {}),
    })),
  )
/** Much is permitted, so that what is refused hangs on what is asked. */
const OPEN = [
  {
    ...{ id: 'open', effect: 'permit', levels: ['patient', 'user', 'system'], types: ['*'] },
    interactions: ['read', 'vread', 'history-instance', 'search-type', 'search-compartment'],
    obligations: { masking: 'house', parameters: { forbid: ['date'] } },
  },
  {
    ...{ id: 'not-for-programs', effect: 'deny', levels: ['user'], types: ['Patient'] },
    ...{ interactions: ['read'], when: `'a' in principal.roles` },
  },
]
const HOUSE = `masking: house
description: d
rules:
  - { id: n, select: [Patient.name, Observation.value.ofType(string)], method: remove }
`

const now = Math.floor(Date.now() / 1000)
const base = { sub: 's1', client_id: 'app', iat: now, exp: now + 900 }
const CLAIMS: Record<string, unknown>[] = [
  { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' },
  {
    scope: 'user/*.rs user/AuditEvent.rs',
    fhirUser: 'Practitioner/d1',
    patient: 'p1',
    acr: 'gold',
  },
  { scope: 'patient/*.rs', patient: 'p1', roles: ['a'], auth_time: now },
  { scope: 'patient/*.rs user/*.rs', patient: 'p1', fhirUser: 'Practitioner/d1' },
  { scope: 'user/Observation.rs?code=a', fhirUser: 'Practitioner/d1', roles: ['a'] },
  { scope: 'user/Observation.rs?_has=a patient/Patient.r', fhirUser: 'Patient/p1', patient: 'p1' },
  { scope: 'patient/Observation.rs', fhirUser: 'Practitioner/d1', patient: 'p1', encounter: 'e1' },
  { scope: 'system/*.cruds', sub: 'app', roles: ['a'] },
  { scope: 'user/*.rs', fhirUser: 'Practitioner/d1', purpose_of_use: ['BTG'], roles: ['bg'] },
  {
    ...{ scope: 'user/*.rs', fhirUser: 'Practitioner/d1', purpose_of_use: ['BTG'] },
    ...{ roles: ['bg'], iat: now - 1200 },
  },
]
const REQUESTS = [
  ...['GET /Observation/o1', 'GET /Observation/o2', 'HEAD /Observation/o1', 'GET /Patient/p1'],
  ...[
    'GET /Observation/o1/_history',
    'GET /Observation/o1/_history/1',
    'GET /Observation/_history',
  ],
  ...['GET /Observation?code=a', 'GET /Observation?date=2026', 'GET /Observation?_sort=-code'],
  ...[
    'GET /Patient?name=a',
    'GET /Patient?birthdate=2000-01-01',
    'GET /Observation?value-string=x',
  ],
  ...['GET /Observation?patient=p1', 'GET /Patient/p1/Observation', 'GET /Observation?_content=x'],
  ...['GET /Observation?_include=Observation:subject', 'GET /Observation?_summary=count'],
  ...['GET /AuditEvent?date=2026', 'GET /AuditEvent/a1', 'GET /Binary/b1', 'GET /Subscription/s1'],
  ...['GET /Patient/p1/$everything', 'GET /?_type=Observation,Patient', 'GET /_history'],
  ...['GET /Observation?subject:Patient.name=a', 'GET /Nonsense/1', 'GET /Observation?nonsense=1'],
]
const REASON = 'unconscious in the emergency room'

const OBSERVATION =
  '{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},"code":{"coding":[{"code":"a"}]}}'
const upstream: Handler = (request, response, raw) =>
  json(
    /\?|_history|everything|\/Observation$/.test(request.target)
      ? '{"resourceType":"Bundle","type":"searchset"}'
      : OBSERVATION,
  )(request, response, raw)

/** `FHIREWALL_TEST_EVERY=1` for the long run. */
const EVERY = Number(process.env['FHIREWALL_TEST_EVERY'] ?? 13)
t.setTimeout(600_000)

/** Runs the command within this process. */
async function run(
  t: Test,
  claims: object,
  request: string,
  env: Record<string, string>,
  more: string[] = [],
): Promise<{ code: number; said: string }> {
  const file = join(t.testdir(), 'claims.json')
  writeFileSync(file, JSON.stringify(claims))
  const before = { ...process.env }
  const restore = t.capture(process.stdout, 'write', () => true)
  try {
    delete process.env['FHIREWALL_TEST_EVERY']
    Object.assign(process.env, env)
    const code = await explain(['--claims', file, '--request', request, ...more])
    return {
      code,
      said: restore()
        .map(({ args }) => String(args[0]))
        .join(''),
    }
  } finally {
    process.env = before
    restore.restore()
  }
}

t.test('explain says what the gateway does, and why (GOV-6)', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-explain-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  let verdicts = 0
  let pick = 0
  const seen = new Set<string>()
  const sets = [OPEN, ...fc.sample(policies, { numRuns: 3, seed: Number(process.env.SEED ?? 7) })]
  for (const [n, rules] of sets.entries()) {
    const own = join(folder, String(n))
    mkdirSync(join(own, 'masking'), { recursive: true })
    writeFileSync(join(own, 'a.yaml'), JSON.stringify({ policy: 'p', description: 'd', rules }))
    writeFileSync(join(own, 'masking/a.yaml'), HOUSE)
    writeFileSync(join(own, 'masking/b.yaml'), 'masking: labels\ndescription: d\n')
    loadPolicies(own)
    const gateway = await startGateway({ handler: upstream, config: { policies: own } })
    t.teardown(() => gateway.close())
    const env = {
      FHIREWALL_UPSTREAM_URL: gateway.upstream.url,
      FHIREWALL_PUBLIC_URL: PUBLIC_URL,
      FHIREWALL_ISSUER: gateway.issuer.url,
      FHIREWALL_POLICIES: own,
    }
    for (const claims of CLAIMS) {
      const all = { ...base, ...claims }
      const token = await gateway.token(all)
      for (const request of REQUESTS) {
        // Not all, and others each time: reading everything anew is what takes time.
        if (pick++ % EVERY !== 0) continue
        for (const isEmergency of 'purpose_of_use' in claims ? [true, false] : [false]) {
          const [method = '', target = ''] = request.split(' ')
          gateway.upstream.received.length = 0
          const answer = await fetch(gateway.url + target, {
            method,
            headers: {
              authorization: `Bearer ${token}`,
              ...(isEmergency ? { 'x-break-glass-reason': REASON } : {}),
            },
          })
          const text = await answer.text()
          const isAsked = gateway.upstream.received.length > 0
          const reason = /"code":"([a-z-]+)"\}\],"text"/.exec(text)?.[1] ?? `${answer.status}`
          const more = isEmergency ? ['--break-glass', REASON] : []
          const { code, said } = await run(
            t,
            { ...all, iss: gateway.issuer.url },
            request,
            env,
            more,
          )
          const what = `${request} ${JSON.stringify(claims)} ${JSON.stringify(rules)}\n${said}`
          verdicts++
          seen.add(isAsked ? 'asked' : reason)
          if (isAsked) {
            const isHidden = /only patient p1 can be reached/.test(said)
            if (code !== 0 && !isHidden) t.fail(`asked upstream, and explained as refused: ${what}`)
          } else if (code === 0 || (method !== 'HEAD' && !said.includes(`refused: ${reason} `))) {
            t.fail(`refused as ${reason}, and explained otherwise: ${what}`)
          }
        }
      }
    }
  }
  t.comment(`${verdicts} verdicts: ${[...seen].join(', ')}`)
  for (const reason of ['asked', 'scope-insufficient', 'policy-denied', 'parameter-forbidden']) {
    t.ok(seen.has(reason), reason)
  }
})

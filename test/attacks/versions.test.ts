import { once } from 'node:events'
import { createServer } from 'node:http'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { watchStatement } from '../../src/adapters/upstream-statement.ts'
import { createUpstreamPool } from '../../src/adapters/upstream-pool.ts'
import { configSchema } from '../../src/config/schema.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import { startGateway } from '../support/gateway.ts'
import { maskWith } from '../support/mask.ts'
import { json, NUMBERS, startUpstream } from '../support/upstream.ts'

// What differs between the versions of FHIR: their tables are good for that version alone (REST-1,
// MASK-5, C11), and what one of them calls otherwise must not pass for something else.
const CANARY = 'CANARY'
const VERSIONS = Object.keys(NUMBERS) as FhirVersion[]

/** A gateway for an upstream of that version, and who asks it. */
async function setUp(version: FhirVersion) {
  const gateway = await startGateway({
    fhirVersion: NUMBERS[version],
    config: { fhir: { version } },
  })
  const ask = async (
    claims: object,
    target: string,
    init: { method?: string; body?: string; headers?: Record<string, string> } = {},
  ) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      ...init,
      headers: { authorization: `Bearer ${await gateway.token({ ...claims })}`, ...init.headers },
    })
    const text = await answer.text()
    return { status: answer.status, headers: answer.headers, text, saw: gateway.upstream.received }
  }
  return { gateway, ask }
}
const patient = { scope: 'patient/*.cruds', patient: 'p1' }
const clinician = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1' }

t.test(
  'where none is configured the tables are those of the version that upstream speaks',
  async (t) => {
    for (const version of VERSIONS) {
      const gateway = await startGateway({
        fhirVersion: NUMBERS[version],
        config: { fhir: {} },
        handler: json('{"resourceType":"Patient","id":"p1"}'),
      })
      t.teardown(() => gateway.close())
      const authorization = `Bearer ${await gateway.token(patient)}`
      const read = await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization } })
      t.equal(read.status, 200, version)
      const statement = await fetch(`${gateway.url}/metadata`)
      t.match(await statement.text(), `"fhirVersion":"${NUMBERS[version]}"`)
      const only = { DSTU2: 'DiagnosticOrder', STU3: 'Sequence', R5: 'Transport' } as const
      for (const [one, type] of Object.entries(only)) {
        const answer = await fetch(`${gateway.url}/${type}/1`, { headers: { authorization } })
        const isKnown = !(await answer.text()).includes('"code":"interaction-unknown"')
        t.equal(isKnown, one === version, `${version}: ${type}`)
      }
    }
    const silent = await startGateway({
      upstreamUrl: 'http://127.0.0.1:1/base',
      config: { fhir: {} },
    })
    t.teardown(() => silent.close())
    t.match(silent.log.join(), 'does not say its version')
  },
)

t.test('nothing is served while upstream speaks another version', async (t) => {
  const rows: [spoken: string, served: FhirVersion][] = [
    ['5.0.0', 'R4'],
    ['1.0.2', 'R4'],
    ['4.0.1', 'R4B'],
    ['4.6.0', 'R5'],
    ['', 'R4'],
  ]
  for (const [fhirVersion, version] of rows) {
    const gateway = await startGateway({
      ...{ fhirVersion, config: { fhir: { version } } },
      handler: json(`{"resourceType":"Patient","id":"p1","name":[{"text":"${CANARY}"}]}`),
    })
    t.teardown(() => gateway.close())
    for (const target of ['/metadata', '/Patient/p1', '/Observation', '']) {
      const answer = await fetch(gateway.url + target, {
        method: target === '' ? 'POST' : 'GET',
        headers: { authorization: `Bearer ${await gateway.token({ ...patient })}` },
      })
      const text = await answer.text()
      t.equal(answer.status, 503, `${fhirVersion}, not ${version}: ${target}`)
      t.match(text, '"not-ready"')
      t.notMatch(text, CANARY)
    }
    t.strictSame(gateway.upstream.received, [], 'upstream sees nothing')
    t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 503)
  }
})

/** Looks again and again at what an upstream says it is. */
async function startWatch(t: Test, upstream: { url: string; connections?: number }) {
  const config = configSchema.parse({
    public: { url: 'https://public.example/fhir' },
    upstream,
    issuers: [{ url: 'https://issuer.example' }],
  })
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const credentials = { authorization: () => undefined, rejected: () => undefined }
  const pool = createUpstreamPool(config, { log, credentials })
  t.teardown(() => pool.close())
  const pauses = { unknown: 5, known: 5 }
  const watch = watchStatement(config, { pool, log, expected: 'R4', pauses })
  t.teardown(watch.stop)
  await watch.start()
  return watch
}

t.test('an upstream that comes to speak another version, and one that comes back', async (t) => {
  const upstream = await startUpstream()
  t.teardown(() => upstream.close())
  const watch = await startWatch(t, { url: upstream.url })
  for (const [spoken, isOther] of [
    ['4.0.1', false],
    ['5.0.0', true],
    ['4.0.0', false],
  ] as const) {
    upstream.speak(spoken)
    for (let n = 0; n < 500 && watch.isOther() !== isOther; n++) await wait(10)
    t.equal(watch.isOther(), isOther, spoken)
    t.equal(watch.statement() === undefined, isOther, spoken)
  }
  await upstream.close()
  await wait(50)
  t.equal(watch.isOther(), false, 'one that cannot be reached speaks what it spoke')
  t.not(watch.statement(), undefined)
})

// RATE-6: a page of errors may be larger than what is read ahead, and comes again with each look.
t.test('a long page in the place of a statement holds no connection', async (t) => {
  let asked = 0
  const server = createServer((_, response) => {
    asked++
    response.writeHead(500).end('x'.repeat(3_000_000))
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.closeAllConnections())
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await startWatch(t, { url: `http://127.0.0.1:${port}`, connections: 2 })
  for (let n = 0; n < 200 && asked < 6; n++) await wait(25)
  t.ok(asked >= 6, `asked ${asked} times over two connections`)
})

t.test('no wildcard writes what changes a server, whatever it is called (SCOPE-14)', async (t) => {
  const types =
    'CapabilityStatement Conformance StructureDefinition StructureMap DataElement SearchParameter ' +
    'ImplementationGuide OperationDefinition SubscriptionTopic Requirements ActorDefinition ' +
    'TestScript TestPlan CodeSystem ValueSet ConceptMap NamingSystem ExpansionProfile Subscription'
  for (const version of VERSIONS) {
    const { gateway, ask } = await setUp(version)
    t.teardown(() => gateway.close())
    const known = loadDefinitions(version).types
    const backend = { sub: 'app-1', scope: 'system/*.cruds' }
    for (const type of types.split(' ').filter((one) => known.has(one))) {
      for (const [claims, method] of [
        [clinician, 'POST'],
        [clinician, 'DELETE'],
        [backend, 'PUT'],
      ] as const) {
        const { status, saw } = await ask(claims, `/${type}${method === 'POST' ? '' : '/x'}`, {
          method,
          ...(method === 'DELETE' ? {} : { body: `{"resourceType":"${type}","id":"x"}` }),
          headers: { 'content-type': 'application/fhir+json' },
        })
        t.equal(status, 403, `${version} ${method} ${type}`)
        t.strictSame(saw, [], 'upstream sees nothing')
      }
    }
  }
})

t.test(
  'what says to be of another version is not taken for one of this (REST-14, C11)',
  async (t) => {
    const observation =
      '{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"}}'
    const numbers = Object.values(NUMBERS).map((number) => number.replace(/\.\d$/, ''))
    for (const version of VERSIONS) {
      const { gateway, ask } = await setUp(version)
      t.teardown(() => gateway.close())
      for (const number of numbers) {
        const isOwn = NUMBERS[version].startsWith(number)
        const type = `application/fhir+json; charset=utf-8; fhirVersion=${number}`
        const line = `${version}, ${type}`

        gateway.upstream.answerWith(json(observation, 201))
        const written = await ask(patient, '/Observation', {
          ...{ method: 'POST', body: observation, headers: { 'content-type': type } },
        })
        t.equal(written.status, isOwn ? 201 : 415, `a body: ${line}`)
        t.equal(written.saw.length, isOwn ? 1 : 0)
        t.equal(written.saw[0]?.body.toString() ?? observation, observation, 'as it came')

        gateway.upstream.answerWith(json('{"resourceType":"Patient","id":"p1"}'))
        const format = encodeURIComponent(type)
        const asked = [
          await ask(patient, '/Patient/p1', { headers: { accept: type } }),
          await ask(patient, `/Patient/p1?_format=${format}`),
          await ask(patient, `/Patient/p1?_format=${format.replaceAll('%20', '+')}`),
          await ask(patient, `/metadata`, { headers: { accept: type } }),
        ]
        t.strictSame(
          asked.map(({ status }) => status),
          asked.map(() => (isOwn ? 200 : 406)),
          `a wish: ${line}`,
        )
        const both = `${type}, application/fhir+json;fhirVersion=${NUMBERS[version]};q=0.5`
        const either = await ask(patient, '/Patient/p1', { headers: { accept: both } })
        t.equal(either.status, 200, 'one of the wishes is enough')

        const named = `{"resourceType":"Patient","id":"p1","name":[{"text":"${CANARY}"}]}`
        gateway.upstream.answerWith(json(named, 200, { 'content-type': type }))
        const came = await ask(patient, '/Patient/p1')
        t.equal(came.status, isOwn ? 200 : 502, `an answer: ${line}`)
        t.equal(came.text.includes(CANARY), isOwn)
      }
    }
  },
)

t.test(
  'a text is one wherever it stands, in a date or a number of R5 as well (MASK-5)',
  async (t) => {
    const rows: [version: FhirVersion, type: string, member: string, kept?: string][] = [
      ['DSTU2', 'Patient', `"birthDate":"${CANARY}"`, '"birthDate":"1980-01-02"'],
      ['R4', 'Patient', `"birthDate":"${CANARY}"`, '"birthDate":"1980-01-02"'],
      ['R4', 'Patient', '"birthDate":"19\\u0043ANARY"', '"birthDate":"19\\u00380-01-02"'],
      ['R4', 'Patient', `"deceasedDateTime":"1980-01-02T${CANARY}"`, '"deceasedDateTime":"1980"'],
      ['R4', 'Patient', `"meta":{"lastUpdated":"${CANARY}"}`],
      ['R4', 'Timing', `"event":["1980","${CANARY}"]`],
      ['R4', 'Observation', `"valueTime":"${CANARY}"`, '"valueTime":"10:11:12.5"'],
      ['R5', 'Observation', `"issued":"${CANARY}"`, '"issued":"1980-01-02T03:04:05.678+01:00"'],
      ['R5', 'Task', `"input":[{"valueInteger64":"${CANARY}"}]`],
      ['R5', 'Task', `"output":[{"valueInteger64":"${CANARY}"}]`],
      ['R5', 'Patient', `"extension":[{"url":"ombCategory","valueInteger64":"${CANARY}"}]`],
    ]
    for (const [version, type, member, kept] of rows) {
      const { send } = maskWith([], version)
      const resource = (text: string): string =>
        type === 'Timing'
          ? `{"resourceType":"Observation","id":"a","effectiveTiming":{${text}}}`
          : `{"resourceType":"${type}","id":"a",${text}}`
      for (const profile of ['safe-harbor', 'limited-data-set']) {
        const { text } = await send(resource(member), [[profile]])
        t.notMatch(JSON.stringify(JSON.parse(text)), CANARY, `${profile}, ${version}: ${member}`)
      }
      if (kept === undefined) continue
      const { text } = await send(resource(kept), [['limited-data-set']])
      t.ok(text.includes(kept), `what is one stays: ${text}`)
    }
    const number = '"valueInteger64":"98765432101"'
    const { send } = maskWith([], 'R5')
    for (const place of ['"input":[{', '"output":[{', '"extension":[{"url":"ombCategory",']) {
      const { text } = await send(`{"resourceType":"Task",${place}${number}}]}`, [['safe-harbor']])
      t.notMatch(text, '98765432101', `a number of R5: ${place}`)
    }
  },
)

t.test('an upstream that knows FHIR JSON by the name of its version alone (REST-14)', async (t) => {
  for (const version of VERSIONS) {
    const { gateway, ask } = await setUp(version)
    t.teardown(() => gateway.close())
    const name = version === 'DSTU2' ? 'application/json+fhir' : 'application/fhir+json'
    const observation =
      '{"resourceType":"Observation","id":"o1","meta":{"versionId":"1"},"status":"final","subject":{"reference":"Patient/p1"}}'
    gateway.upstream.answerWith((request, response, raw) => {
      const { accept, 'content-type': type = name } = request.headers
      const isKnown = [accept, type].every((one) => String(one).startsWith(name))
      json(observation, isKnown ? (request.method === 'POST' ? 201 : 200) : 415, {
        'content-type': `${name};charset=UTF-8`,
      })(request, response, raw)
    })
    const headers = { accept: name, 'content-type': name }
    const read = await ask(patient, '/Observation/o1', { headers: { accept: name } })
    t.equal(read.status, 200, version)
    t.equal(read.text, observation)
    for (const [method, target] of [
      ['POST', '/Observation'],
      ['PUT', '/Observation/o1'],
    ] as const) {
      const { status, saw } = await ask(patient, target, { method, body: observation, headers })
      t.ok(status === 201 || status === 200, `${version} ${method} is ${status}`)
      t.equal(saw.at(-1)?.body.toString(), observation)
    }
  }
})

t.test('a part says that it is one as its version has it (LABEL-6, LABEL-7)', async (t) => {
  const resource =
    '{"resourceType":"Patient","id":"p1","meta":{"versionId":"1"},"gender":"male","identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"123-45-6789"}]}'
  for (const version of VERSIONS) {
    const { gateway, ask } = await setUp(version)
    t.teardown(() => gateway.close())
    gateway.upstream.answerWith(json(resource))
    const system =
      version === 'DSTU2' || version === 'STU3'
        ? 'http://hl7.org/fhir/v3/ObservationValue'
        : 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue'
    const { text } = await ask(patient, '/Patient/p1?_elements=identifier')
    const { meta } = JSON.parse(text) as { meta: unknown }
    t.strictSame(
      meta,
      {
        versionId: '1',
        tag: [{ system, code: 'SUBSETTED' }],
        security: ['MASKED', 'ABSTRED'].map((code) => ({ system, code })),
      },
      version,
    )
    const { status, saw } = await ask(patient, '/Patient/p1', {
      ...{ method: 'PUT', body: text, headers: { 'content-type': 'application/fhir+json' } },
    })
    t.equal(status, 422, `${version}: it takes the place of no whole`)
    t.strictSame(
      saw.filter(({ method }) => method !== 'GET'),
      [],
    )
  }
})

import { generateKeyPairSync } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { formatOperationOutcome } from '../../src/fhir/operation-outcome.ts'
import { REFUSALS } from '../../src/refusal.ts'
import type { Reason } from '../../src/refusal.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { createProver } from '../support/prover.ts'
import { json } from '../support/upstream.ts'
import type { Handler } from '../support/upstream.ts'

// Every reason of the table, driven over HTTP: what the caller is told is the row and nothing else, one
// record says who asked for what and why not, one counter and one line say the reason (ERR-1, ERR-2,
// ERR-6, AUD-1, C4).

const CANARY = 'CANARY'
const PATIENT = { scope: 'patient/*.cruds', patient: 'p1', purpose_of_use: ['TREAT'] }
const CLINICIAN = { scope: 'user/*.cruds', fhirUser: 'Practitioner/d1', sub: 'doctor-1' }
const BACKEND = { scope: 'system/*.cruds', sub: 'app-1' }
const FHIR = { 'content-type': 'application/fhir+json' }

const observation = (more: object = {}) =>
  JSON.stringify({
    ...{ resourceType: 'Observation', id: 'o1', meta: { versionId: '3' } },
    ...{ subject: { reference: 'Patient/p1' }, status: 'final', ...more },
  })
const failing = (status: number): Handler =>
  json(`{"resourceType":"OperationOutcome","issue":[{"diagnostics":"${CANARY}"}]}`, status, {
    'x-powered-by': CANARY,
  })
const found = (...ids: string[]): Handler =>
  json(
    JSON.stringify({
      ...{ resourceType: 'Bundle', type: 'searchset' },
      entry: ids.map((id) => ({ resource: JSON.parse(observation({ id })) as object })),
    }),
  )

const folder = mkdtempSync(join(tmpdir(), 'fhirewall-refusals-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const own = await createProver('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }))

type Gateway = Awaited<ReturnType<typeof startGateway>>
type Asked = {
  readonly who?: Record<string, unknown>
  readonly headers?: Record<string, string>
  readonly body?: string
  readonly upstream?: Handler
  /** In front of the head, as it is, instead of one that is made. */
  readonly raw?: string
}
type Told = {
  readonly status: number
  /** Names and values in their order; dates left out. */
  readonly headers: readonly (readonly [string, string])[]
  readonly body: string
}

/** Sends bytes and reads one answer, headers in their order. */
async function exchange(port: number, bytes: string): Promise<Told> {
  const isHead = bytes.startsWith('HEAD ')
  return new Promise((resolve, reject) => {
    let came = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
    const read = (isEnd: boolean): void => {
      const [head = '', body] = came.split(/\r\n\r\n(.*)/s)
      const length = isHead ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? NaN)
      if (body === undefined || (!isEnd && !(Buffer.byteLength(body, 'latin1') >= length))) return
      const [start = '', ...lines] = head.split('\r\n')
      const headers = lines.map((line): [string, string] => {
        const [name = '', value = ''] = line.split(/: (.*)/)
        return [name.toLowerCase(), value]
      })
      const told = headers.filter(([name]) => !['date', 'keep-alive'].includes(name))
      const text = Buffer.from(body, 'latin1').toString()
      resolve({ status: Number(start.split(' ')[1]), headers: told, body: text })
      socket.destroy()
    }
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer')))
    socket.on('data', (piece) => {
      came += piece.toString('latin1')
      read(false)
    })
    socket.on('error', reject)
    socket.on('close', () => read(true))
  })
}

let asked = 0
async function ask(gateway: Gateway, what: string, options: Asked = {}): Promise<Told> {
  const { who, headers, body, upstream, raw } = options
  if (upstream !== undefined) gateway.upstream.answerWith(upstream)
  const [method = '', target = ''] = what.split(/ (.*)/)
  const authorization =
    who === undefined ? {} : { authorization: `Bearer ${await gateway.token(who)}` }
  const all = {
    ...{ host: 'x', 'x-request-id': `request-${++asked}`, ...authorization, ...headers },
    ...(body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  const head = raw ?? `${method} /fhir${target} HTTP/1.1\r\n${lines.join('')}\r\n`
  return exchange(gateway.port, head + (body ?? ''))
}

type Options = NonNullable<Parameters<typeof startGateway>[0]>
type Row = {
  /** How the gateway is set up, if not as most. */
  readonly world?: Options
  readonly drive: (gateway: Gateway) => Promise<Told>
  /** Whom the record must name; nobody by default. */
  readonly who?: 'person-1' | 'doctor-1' | 'app-1' | undefined
  /** What was asked for, as the record must name it. */
  readonly resource?: string
  readonly patient?: string
  /** How many records, if more than one: entries of a Bundle have their own. */
  readonly records?: number
  /** Of the refusal beyond its row. */
  readonly expression?: string
  readonly headers?: Readonly<Record<string, RegExp>>
}

const reads = (upstream: Handler, who: Record<string, unknown> = PATIENT): Row => ({
  drive: (gateway) => ask(gateway, 'GET /Observation/o1', { who, upstream }),
  who: who === PATIENT ? 'person-1' : 'doctor-1',
  resource: 'Observation/o1',
})
const writes = (body: string, who = PATIENT as Record<string, unknown>, method = 'PUT'): Row => ({
  drive: (gateway) =>
    ask(gateway, `${method} /Observation${method === 'PUT' ? '/o1' : ''}`, {
      ...{ who, body, headers: FHIR, upstream: json(observation()) },
    }),
  who: who === PATIENT ? 'person-1' : 'doctor-1',
})
const asks = (what: string, options: Asked = {}, more: Partial<Row> = {}): Row => ({
  drive: (gateway) => ask(gateway, what, { upstream: found(), ...options }),
  ...(options.who === PATIENT ? { who: 'person-1' } : {}),
  ...(options.who === CLINICIAN ? { who: 'doctor-1' } : {}),
  ...(options.who === BACKEND ? { who: 'app-1' } : {}),
  ...more,
})
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })
const SSN = [{ system: 'http://hl7.org/fhir/sid/us-ssn', value: '078-05-1120' }]
const search = 'Practitioner?identifier=x'
const STEP_UP = `policy: step-up
description: d
rules:
  - { id: read, effect: permit, levels: [user], interactions: [read], types: ['*'], obligations: { strength: { acr: [gold], within: 900 } } }
`
const WAYS = `policy: ways
description: d
rules:
  - { id: read, effect: permit, levels: [user], types: ['*'], interactions: [read, create, update, vread], obligations: { masking: baseline } }
  - { id: found, effect: permit, levels: [user], types: ['*'], interactions: [search-type], obligations: { masking: minimum-necessary } }
`
const policies = (name: string, text: string): Options => {
  const path = mkdtempSync(join(folder, name))
  writeFileSync(join(path, `${name}.yaml`), text)
  return { config: { policies: path } }
}
const faults = { clock: 0 }

const ROWS: Readonly<Record<Reason, Row>> = {
  'tls-required': asks('GET /Observation/o1', {
    headers: { 'x-forwarded-proto': 'http', 'x-forwarded-for': '203.0.113.7' },
  }),
  'credentials-missing': asks('GET /Patient/p1', {}, { resource: 'Patient/p1', patient: 'p1' }),
  'credentials-malformed': asks('GET /Patient/p1', bearer(`a ${CANARY}`), { patient: 'p1' }),
  'token-invalid': asks('GET /Patient/p1', bearer(CANARY), { patient: 'p1' }),
  'token-expired': asks('GET /Patient/p1', { who: { ...PATIENT, exp: 1_700_000_000 } }),
  'token-revoked': asks('GET /Patient/p1', { who: { ...PATIENT, jti: 'denied' } }),
  'strength-insufficient': {
    world: policies('step-up', STEP_UP),
    ...reads(json(observation()), CLINICIAN),
    headers: { 'www-authenticate': /acr_values="gold", max_age="?900/ },
  },
  'issuer-unavailable': {
    world: {
      issuer: { introspection: { clientId: 'gateway', clientSecretFile: file('secret', CANARY) } },
    },
    drive: async (gateway) => {
      gateway.issuer.failWith((response) => response.writeHead(500).end(CANARY))
      return ask(gateway, 'GET /Patient/p1', bearer('opaque'))
    },
  },
  'proof-invalid': {
    drive: async (gateway) => {
      const token = await gateway.token({ ...PATIENT, cnf: { jkt: own.thumbprint } })
      return ask(gateway, 'GET /Patient/p1', {
        headers: { authorization: `DPoP ${token}`, dpop: CANARY },
      })
    },
  },
  'proof-nonce': {
    world: { config: { dpop: { requireNonce: true } } },
    drive: async (gateway) => {
      const token = await gateway.token({ ...PATIENT, cnf: { jkt: own.thumbprint } })
      const dpop = await own.prove({ method: 'GET', url: `${PUBLIC_URL}/Patient/p1`, token })
      return ask(gateway, 'GET /Patient/p1', {
        headers: { authorization: `DPoP ${token}`, dpop },
      })
    },
    headers: { 'dpop-nonce': /^[\w-]{20,}$/ },
  },
  'replay-unavailable': {
    world: { config: { dpop: { rememberedProofs: 1 } } },
    drive: async (gateway) => {
      const token = await gateway.token({ ...PATIENT, cnf: { jkt: own.thumbprint } })
      const once = async () => {
        const dpop = await own.prove({ method: 'GET', url: `${PUBLIC_URL}/Patient/p1`, token })
        return ask(gateway, 'GET /Patient/p1', {
          headers: { authorization: `DPoP ${token}`, dpop },
        })
      }
      await once()
      return once()
    },
  },
  'scope-insufficient': asks(
    'GET /Condition/c1',
    {
      who: { ...PATIENT, scope: 'patient/Observation.rs' },
    },
    { who: 'person-1', resource: 'Condition/c1' },
  ),
  'policy-denied': asks('GET /Group/g1', { who: PATIENT }, { resource: 'Group/g1' }),
  'compartment-denied': writes(
    observation({ id: undefined, subject: { reference: 'Patient/p2' } }),
    PATIENT,
    'POST',
  ),
  'parameter-forbidden': asks(
    'GET /Patient?identifier=078-05-1120',
    { who: CLINICIAN },
    {
      expression: 'http.identifier',
    },
  ),
  'cannot-narrow': asks('GET /Patient/_history', { who: PATIENT }),
  'interaction-refused': asks('GET ?_getpages=c0ffee', { who: CLINICIAN }),
  'operation-refused': asks('POST /Patient/p1/$expunge', { who: CLINICIAN }, { patient: 'p1' }),
  'not-found': reads(failing(404)),
  'target-malformed': asks('GET /Patient/p1%2f..%2fp2', { who: PATIENT }, { who: undefined }),
  'interaction-unknown': asks('GET /swagger', { who: PATIENT }, { who: undefined }),
  'method-not-allowed': asks('DELETE /metadata', {}, { headers: { allow: /^GET, HEAD$/ } }),
  'parameter-unknown': asks('GET /Observation?pateint=p1', { who: PATIENT }, { who: undefined }),
  'parameter-malformed': asks(
    'GET /Observation?_count=CANARY',
    { who: PATIENT },
    { who: undefined },
  ),
  'header-malformed': asks('GET /Observation', { headers: { Prefer: CANARY, prefer: CANARY } }),
  'not-acceptable': asks('GET /Observation', { headers: { accept: 'text/CANARY' } }),
  'media-type-unsupported': asks('POST /Observation', {
    ...{ who: PATIENT, body: CANARY, headers: { 'content-type': 'text/plain' } },
  }),
  'body-malformed': writes(`{${CANARY}`),
  'body-mismatch': writes(observation({ id: 'o2' })),
  'body-rule-broken': writes(
    observation({
      meta: {
        security: [
          {
            system: 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue',
            code: 'MASKED',
          },
        ],
      },
    }),
    CLINICIAN,
  ),
  'reference-is-search': writes(observation({ performer: [{ reference: search }] })),
  'body-hides': {
    who: 'doctor-1',
    drive: (gateway) =>
      ask(gateway, 'PUT /Patient/p1', {
        ...{ who: CLINICIAN, headers: FHIR },
        body: '{"resourceType":"Patient","id":"p1"}',
        upstream: json(
          JSON.stringify({
            ...{ resourceType: 'Patient', id: 'p1', meta: { versionId: '1' }, identifier: SSN },
          }),
        ),
      }),
  },
  'body-unseen': {
    world: policies('ways', WAYS),
    who: 'doctor-1',
    drive: (gateway) =>
      ask(gateway, 'PUT /Patient/p1', {
        ...{ who: CLINICIAN, headers: FHIR },
        body: '{"resourceType":"Patient","id":"p1"}',
        upstream: json(
          JSON.stringify({
            ...{ resourceType: 'Patient', id: 'p1', meta: { versionId: '1' } },
            ...{ photo: [{ url: 'http://x.example/1' }], telecom: [{ value: CANARY }] },
          }),
        ),
      }),
  },
  'body-too-large': asks('POST /Observation', {
    ...{ who: PATIENT, headers: FHIR, body: 'x'.repeat(30_000) },
  }),
  'target-too-long': asks(
    `GET /Patient?name=${'x'.repeat(9000)}`,
    { who: PATIENT },
    {
      who: undefined,
    },
  ),
  'headers-too-large': asks('GET /Patient', { headers: { x: CANARY.repeat(9000) } }),
  'precondition-failed': reads(failing(412)),
  hidden: {
    world: { config: { access: { hidden: 'forbidden' } } },
    ...reads(json(observation({ subject: { reference: 'Patient/p2' }, note: CANARY }))),
  },
  'page-gone': asks(`GET ?_cursor=${CANARY}`, { who: PATIENT }),
  'export-gone': asks(`GET /$export-status?_job=${CANARY}`, {
    who: { ...BACKEND, roles: ['bulk-export'] },
  }),
  'multiple-matches': {
    who: 'doctor-1',
    drive: (gateway) =>
      ask(gateway, 'DELETE /Observation?code=a', { who: CLINICIAN, upstream: found('o1', 'o2') }),
  },
  conflict: reads(failing(409)),
  gone: reads(failing(410), CLINICIAN),
  'rejected-upstream': reads(failing(422)),
  'rate-exceeded': {
    world: { config: { limits: { principal: { burst: 1, perSecond: 0.001 } } } },
    who: 'person-1',
    drive: async (gateway) => {
      await ask(gateway, 'GET /Observation/o1', { who: PATIENT })
      return ask(gateway, 'GET /Observation/o1', { who: PATIENT })
    },
  },
  'searches-too-many': {
    world: { config: { limits: { principal: { burst: 20, perSecond: 1 } } } },
    who: 'app-1',
    records: 2,
    drive: (gateway) =>
      ask(gateway, 'POST ', {
        ...{ who: BACKEND, headers: FHIR },
        body: JSON.stringify({
          ...{ resourceType: 'Bundle', type: 'transaction' },
          entry: [
            {
              resource: JSON.parse(
                observation({
                  ...{ id: undefined, code: { text: 'a' } },
                  performer: Array.from({ length: 40 }, (_, n) => ({ reference: `${search}${n}` })),
                }),
              ) as object,
              request: { method: 'POST', url: 'Observation' },
            },
          ],
        }),
      }),
  },
  overloaded: {
    world: { config: { limits: { concurrent: 1 } } },
    drive: async (gateway) => {
      const held = Promise.withResolvers<undefined>()
      gateway.upstream.answerWith((request, response, raw) => {
        void held.promise.then(() => json(observation())(request, response, raw))
      })
      const first = ask(gateway, 'GET /Observation/o1', { who: PATIENT })
      while (gateway.upstream.received.length === 0) await wait(10)
      const told = await ask(gateway, 'GET /Observation/o1', { who: PATIENT })
      held.resolve(undefined)
      await first
      return told
    },
  },
  'request-timeout': {
    drive: (gateway) =>
      ask(gateway, '', { raw: `GET /fhir/Patient HTTP/1.1\r\nHost: ${CANARY}\r\n` }),
  },
  'upstream-unreachable': reads((_request, response) => void response.destroy()),
  'upstream-timeout': reads(() => undefined),
  'upstream-failed': reads(failing(500)),
  'upstream-busy': reads(failing(503)),
  'upstream-unreadable': reads(json(`<html>${CANARY}`, 200, { 'content-type': 'text/html' })),
  'upstream-credentials': {
    world: {
      config: {
        upstream: {
          credentials: {
            ...{ kind: 'client-credentials', clientId: 'gateway' },
            ...{ tokenUrl: 'http://127.0.0.1:1/token', secretFile: file('own-secret', CANARY) },
          },
        },
      },
    },
    ...reads(json(observation())),
  },
  'audit-unavailable': {
    world: { config: { audit: { file: join(folder, 'gone.jsonl') } } },
    drive: async (gateway) => {
      rmSync(join(folder, 'gone.jsonl.lock'))
      let told = await ask(gateway, 'GET /Observation/o1', { who: PATIENT })
      while (told.status !== 503) {
        await wait(25)
        told = await ask(gateway, 'GET /Observation/o1', { who: PATIENT })
      }
      return told
    },
  },
  'not-ready': {
    world: { upstreamUrl: 'http://127.0.0.1:1/base' },
    ...asks('GET /metadata'),
  },
  internal: {
    world: {
      clock: {
        now() {
          if (faults.clock > 0 && --faults.clock === 0) throw new Error(CANARY)
          return Date.now()
        },
        monotonic: () => performance.now(),
      },
    },
    drive: (gateway) => {
      const told = ask(gateway, 'GET /Observation/o1', { who: PATIENT })
      faults.clock = 2
      return told
    },
  },
}

const MOST: Options = {
  config: {
    trustedProxies: ['127.0.0.1/32'],
    denylist: { file: file('denied', '{"jti":"denied"}') },
    limits: { requestTimeoutSeconds: 1, bodyBytes: 20_000, headerBytes: 32_768 },
    upstream: { headersTimeoutSeconds: 0.4, bodyTimeoutSeconds: 0.4 },
  },
}
const LIMITS = { burst: 100_000 }

/** Limits that are not what a world is about are out of the way. */
function optionsOf(world: Options): Options {
  const { limits, ...config } = world.config ?? {}
  const all = { address: LIMITS, principal: LIMITS, failures: LIMITS, ...(limits as object) }
  return { ...world, config: { ...config, limits: all } }
}

type Event = {
  readonly outcome: string
  readonly outcomeDesc?: string
  readonly meta?: object
  readonly agent: readonly {
    readonly requestor: boolean
    readonly who?: { readonly identifier: { readonly value: string } }
    readonly network?: { readonly address: string }
  }[]
  readonly entity: readonly {
    readonly what?: { readonly reference?: string; readonly identifier?: { value: string } }
    readonly query?: string
  }[]
}

/** Names of headers that a refusal may have, whatever it is. */
const HEADERS = [
  ...['cache-control', 'x-content-type-options', 'referrer-policy', 'content-security-policy'],
  ...['vary', 'content-type', 'x-request-id', 'content-length', 'connection', 'www-authenticate'],
  ...['retry-after', 'allow', 'dpop-nonce'],
]
const counted = async (gateway: Gateway, reason: string): Promise<number> =>
  Number(
    new RegExp(`^fhirewall_refusals_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(
      await gateway.metrics(),
    )?.[1],
  )

t.test('every reason, over HTTP: the row and no more, on record, counted once', async (t) => {
  const most = await startGateway(optionsOf(MOST))
  t.teardown(() => most.close())
  for (const [reason, row] of Object.entries(ROWS) as [Reason, Row][]) {
    await t.test(reason, async (t) => {
      const gateway = row.world === undefined ? most : await startGateway(optionsOf(row.world))
      if (row.world !== undefined) t.teardown(() => gateway.close())
      const table: (typeof REFUSALS)[Reason] & {
        challenge?: string
        shownAs?: string
        retryAfter?: number
        close?: true
      } = REFUSALS[reason]
      const before = await counted(gateway, reason)
      gateway.log.length = 0
      const { status, headers, body } = await row.drive(gateway)

      t.equal(status, table.status)
      const said = Object.fromEntries(headers)
      const shownId = said['x-request-id'] ?? ''
      const expected = formatOperationOutcome({
        severity: table.status === 500 ? 'fatal' : 'error',
        ...{ code: table.issue, reason: table.shownAs ?? reason, text: table.text, id: shownId },
      })
      const outcome = JSON.parse(body) as { issue: [{ expression?: string[] }] }
      const { expression } = outcome.issue[0]
      delete outcome.issue[0].expression
      t.equal(JSON.stringify(outcome), expected, 'the row and nothing else')
      if (row.expression !== undefined) t.strictSame(expression, [row.expression])
      t.equal(said['content-length'], String(Buffer.byteLength(body)))
      t.equal(said['content-type'], 'application/fhir+json; charset=utf-8')
      t.equal(said['cache-control'], 'no-store')
      t.strictSame(
        headers.map(([name]) => name).filter((name) => !HEADERS.includes(name)),
        [],
        'no other header',
      )
      t.equal(new Set(headers.map(([name]) => name)).size, headers.length, 'each once')
      t.equal('www-authenticate' in said, table.challenge !== undefined, 'a challenge, or none')
      if (table.challenge) t.match(said['www-authenticate'], `error="${table.challenge}"`)
      if (table.status === 401) t.ok(said['www-authenticate'])
      if (table.status === 405) t.ok(said['allow'])
      if (table.status === 429 || table.status === 503) {
        t.match(said['retry-after'], /^[1-9]\d*$/, 'when to come back (ERR-6)')
      }
      if (table.close === true) t.equal(said['connection'], 'close')
      for (const [name, value] of Object.entries(row.headers ?? {})) t.match(said[name], value)

      const times = row.records ?? 1
      // Where nothing can be recorded nobody waits for the rest to be written.
      for (let n = 0; n < 100 && (await counted(gateway, reason)) < before + times; n++)
        await wait(20)
      const log = gateway.log.filter((line) => line.includes(`"reason":"${reason}"`))
      t.equal(log.length, times, 'one line')
      t.equal(await counted(gateway, reason), before + times, 'counted once')
      const text = gateway.log.join('\n') + (await gateway.metrics()) + body
      t.notMatch(text + JSON.stringify(headers), /CANARY|eyJ|078-05|p2\b/, 'nothing private')
      if (reason === 'audit-unavailable') return

      const records = ((await gateway.audit()) as unknown as Event[]).filter(({ entity }) =>
        entity.some(({ what }) => what?.identifier?.value === shownId),
      )
      t.equal(records.length, times, 'one record')
      const [record] = records
      t.equal(record?.outcomeDesc, reason)
      t.equal(record?.meta, undefined, 'no profile of a success')
      const grave = table.status === 401 || table.status === 403 || table.status >= 500
      t.equal(record?.outcome, reason === 'internal' ? '12' : grave ? '8' : '4')
      const requestors = record?.agent.filter(({ requestor }) => requestor) ?? []
      t.equal(requestors.length, 1)
      if (row.who !== undefined) t.equal(requestors[0]?.who?.identifier.value, row.who)
      if (row.who === 'person-1') {
        t.match(record, { purposeOfEvent: [{ coding: [{ code: 'TREAT' }] }] }, 'what for')
      }
      if (row.who === undefined && table.status === 401) {
        t.match(requestors[0]?.who?.identifier.value, /^127\.|^::/, 'nobody is named')
      }
      const references = record?.entity.map(({ what }) => what?.reference)
      if (row.resource !== undefined) t.ok(references?.includes(row.resource), row.resource)
      if (row.patient !== undefined) t.ok(references?.includes(`Patient/${row.patient}`))
    })
  }
})

t.test('what must look alike does, to the order of headers (C1, ERR-4, AUTHN-2)', async (t) => {
  const gateway = await startGateway(optionsOf(MOST))
  t.teardown(() => gateway.close())
  const others = json(observation({ subject: { reference: 'Patient/p2' } }))
  const headers = { 'x-request-id': 'the-same' }
  const write = { ...headers, ...FHIR }
  const patch = { ...headers, 'content-type': 'application/json-patch+json' }
  const none = failing(404)
  const body = observation()
  const pairs: readonly [what: string, one: Asked, other: Asked][] = [
    ['GET /Observation/o1', { upstream: others }, { upstream: none }],
    ['GET /Observation/o1', { upstream: failing(410) }, { upstream: none }],
    ['HEAD /Observation/o1', { upstream: others }, { upstream: none }],
    ['GET /Observation/o1/_history/3', { upstream: others }, { upstream: none }],
    ['PUT /Observation/o1', { upstream: others, body }, { upstream: none, body }],
    ['DELETE /Observation/o1', { upstream: others }, { upstream: none }],
    ['PATCH /Observation/o1', { upstream: others, body: '[]' }, { upstream: none, body: '[]' }],
    ['DELETE /Observation?code=a', { upstream: found() }, { upstream: found() }],
  ]
  for (const [what, first, second] of pairs) {
    const all = { who: PATIENT, headers: headersOf(what) }
    const one = await ask(gateway, what, { ...all, ...first })
    t.strictSame(one, await ask(gateway, what, { ...all, ...second }), what)
    t.equal(one.status, 404, what)
  }
  function headersOf(what: string): Record<string, string> {
    return what.startsWith('PUT') ? write : what.startsWith('PATCH') ? patch : headers
  }
})

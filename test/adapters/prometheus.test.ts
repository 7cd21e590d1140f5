import { readdirSync, readFileSync } from 'node:fs'
import Fastify from 'fastify'
import t from 'tap'
import { createExchangeLog, createLogger } from '../../src/adapters/logger.ts'
import { createPrometheus } from '../../src/adapters/prometheus.ts'
import type { Arrival, Facts } from '../../src/exchange.ts'
import { Exchange } from '../../src/exchange.ts'
import { registerHealth } from '../../src/routes/health.ts'
import { registerMetrics } from '../../src/routes/metrics.ts'

const SECRET = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl'
const arrival: Arrival = {
  method: 'GET',
  target: '/Observation?patient=canary-patient&code=canary-code',
  headers: { authorization: `Bearer ${SECRET}` },
  rawHeaders: [],
  address: '203.0.113.7',
  body: undefined,
  signal: new AbortController().signal,
}
const clock = { now: () => 0, monotonic: () => 0 }

function ended(facts: Partial<Facts>): Exchange {
  const exchange = new Exchange('canary-request', arrival, clock)
  exchange.timings.push(['authenticate', 0.002], ['canary 123', 1])
  for (const [name, value] of Object.entries(facts)) {
    exchange.record(name as keyof Facts, value)
  }
  return exchange
}

const released = () =>
  ended({
    interaction: {
      code: 'search-type',
      method: 'GET',
      type: 'Observation',
      parameters: [{ name: 'patient', values: ['canary-patient'] }],
    },
    upstreamStatus: 200,
    tally: {
      inspected: 5,
      released: 3,
      withheld: 2,
      masked: new Map([
        ['ssn', 4],
        ['canary-123', 1],
      ]),
      patients: new Set(['canary-patient']),
      resource: 'Patient/canary-patient',
    },
    status: 200,
    outcome: 'released',
  })
const limited = () =>
  ended({ reason: 'rate-exceeded', detail: 'address', status: 429, outcome: 'refused' })

const watched = {
  version: '1.2.3',
  isReady: () => true,
  exchangesUnderWay: () => 7,
  policyHash: () => 'a'.repeat(64),
}

t.test('metrics: counted once each, and no ids in labels', async (t) => {
  const { observer, registry, keysRefreshed, keyUnknown, introspected, watchIssuers } =
    createPrometheus(watched)
  watchIssuers(() => [
    { issuer: 'https://one.example', isReady: true, keysAgeSeconds: 12 },
    { issuer: 'https://two.example', isReady: false, keysAgeSeconds: undefined },
  ])
  keyUnknown('https://one.example')
  introspected('https://two.example', 'failed')
  observer.exchangeEnded(released())
  observer.exchangeEnded(limited())
  keysRefreshed('https://one.example', 'failed')
  for (let look = 0; look < 2; look++) {
    const text = await registry.metrics()
    for (const line of [
      'fhirewall_requests_total{interaction="search-type",outcome="released",status="200"} 1',
      'fhirewall_requests_total{interaction="unknown",outcome="refused",status="429"} 1',
      'fhirewall_request_duration_seconds_count{interaction="search-type"} 1',
      'fhirewall_stage_duration_seconds_bucket{stage="authenticate",le="0.001"} 0',
      'fhirewall_stage_duration_seconds_bucket{stage="authenticate",le="0.005"} 2',
      'fhirewall_stage_duration_seconds_bucket{stage="authenticate",le="+Inf"} 2',
      'fhirewall_stage_duration_seconds_sum{stage="authenticate"} 0.004',
      'fhirewall_stage_duration_seconds_count{stage="other"} 2',
      'fhirewall_refusals_total{reason="rate-exceeded"} 1',
      'fhirewall_refusals_total{reason="policy-denied"} 0',
      'fhirewall_resources_total{verdict="inspected"} 5',
      'fhirewall_resources_total{verdict="released"} 3',
      'fhirewall_resources_total{verdict="withheld"} 2',
      'fhirewall_masked_values_total{rule="ssn"} 4',
      'fhirewall_masked_values_total{rule="other"} 1',
      'fhirewall_upstream_answers_total{class="2xx"} 1',
      'fhirewall_limited_total{bucket="address"} 1',
      'fhirewall_issuer_keys_refreshes_total{issuer="https://one.example",result="failed"} 1',
      'fhirewall_issuer_keys_refreshes_total{issuer="https://two.example",result="failed"} 0',
      'fhirewall_issuer_keys_age_seconds{issuer="https://one.example"} 12',
      'fhirewall_issuer_ready{issuer="https://one.example"} 1',
      'fhirewall_issuer_ready{issuer="https://two.example"} 0',
      'fhirewall_issuer_unknown_keys_total{issuer="https://one.example"} 1',
      'fhirewall_introspections_total{issuer="https://two.example",result="failed"} 1',
      'fhirewall_build_info{version="1.2.3"} 1',
      'fhirewall_ready 1',
      'fhirewall_exchanges_under_way 7',
    ]) {
      t.ok(text.split('\n').includes(line), line)
    }
    t.match(text, /# TYPE fhirewall_stage_duration_seconds histogram/)
    t.match(text, /process_cpu_seconds_total/)
    t.notMatch(text, /keys_age_seconds\{issuer="https:\/\/two/)
    t.notMatch(text, /canary|203\.0\.113|eyJ/)
  }
  const other = createPrometheus(watched)
  t.notMatch(await other.registry.metrics(), /search-type/, 'a registry of its own')
})

t.test('log: one line, SIEM names, nothing private (AUD-15, AUD-16)', async (t) => {
  const lines: string[] = []
  const log = createLogger('info', { write: (line) => void lines.push(line) })
  const observer = createExchangeLog(log)
  observer.exchangeEnded(released())
  observer.exchangeEnded(limited())
  observer.exchangeEnded(ended({ reason: 'internal', status: 500, outcome: 'failed' }))
  const said = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  t.match(said[0], {
    level: 'info',
    requestId: 'canary-request',
    interaction: 'search-type',
    type: 'Observation',
    status: 200,
    outcome: 'released',
    inspected: 5,
    withheld: 2,
    masked: 5,
  })
  t.match(said[1], {
    level: 'warn',
    event: 'excess_rate_limit_exceeded',
    reason: 'rate-exceeded',
    address: '203.0.113.7',
  })
  t.match(said[2], { level: 'warn', reason: 'internal' })
  t.equal(lines.length, 3)
  t.notMatch(lines.join(''), /canary-patient|canary-code|eyJ|Bearer/)

  lines.length = 0
  log.warn({ token: 'canary', error: new Error(`no: Bearer abc.def ${SECRET}`) }, 'x\ny')
  log.warn({ error: parseError('{"canary": nope'), url: 'redis://me:canary@host/' }, 'z')
  log.debug({ url: 'canary' }, 'not at this level')
  t.equal(lines.length, 2)
  t.match(JSON.parse(lines[0]!), { dropped: ['token'], error: { type: 'Error' } })
  t.notMatch(lines.join(''), /canary|eyJ|abc\.def/)
  t.ok(lines.every((line) => line.indexOf('\n') === line.length - 1))
})

function parseError(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    return error
  }
}

t.test('no field that the code logs is left out of the line (AUD-15)', async (t) => {
  const src = new URL('../../src/', import.meta.url)
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' })
  const named = files
    .filter((file) => file.endsWith('.ts') && !file.startsWith('demo'))
    .flatMap((file) => [
      ...readFileSync(new URL(file, src), 'utf8').matchAll(
        /\b(?:log\.(?:debug|info|warn|error)|warn)\(\s*\{([^{}]*)\}/g,
      ),
    ])
    .flatMap(([, fields = '']) => fields.split(','))
    .map((field) => /^\s*(\w+)/.exec(field)?.[1] ?? '')
    .filter((name) => name !== '')
  t.ok(named.length > 20)
  const lines: string[] = []
  const log = createLogger('info', { write: (line) => void lines.push(line) })
  log.info(Object.fromEntries(named.map((name) => [name, 1])), 'all of them')
  t.notMatch(lines[0], 'dropped')
})

t.test('health and metrics routes', async (t) => {
  const checks = { audit: true, issuers: true, upstream: true, serving: true }
  const admin = Fastify()
  registerHealth(admin, {
    checks: {
      audit: () => checks.audit,
      issuers: () => checks.issuers,
      upstream: () => checks.upstream,
      serving: () => checks.serving,
    },
  })
  registerMetrics(admin, createPrometheus(watched).registry)
  const get = (url: string) => admin.inject(url)
  t.equal((await get('/livez')).statusCode, 200)
  const ready = await get('/readyz')
  t.equal(ready.statusCode, 200)
  t.strictSame(ready.json(), { status: 'ready', checks })
  for (const name of Object.keys(checks) as (keyof typeof checks)[]) {
    checks[name] = false
    const answer = await get('/readyz')
    t.equal(answer.statusCode, 503, name)
    t.strictSame(answer.json(), { status: 'not ready', checks })
    checks[name] = true
  }
  const metrics = await get('/metrics')
  t.match(metrics.headers['content-type'], /^text\/plain; version=0\.0\.4/)
  t.match(metrics.body, /fhirewall_refusals_total/)
  await admin.close()
})

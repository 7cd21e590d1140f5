import { collectDefaultMetrics, Registry } from 'prom-client'
import type { Exchange, Observer } from '../exchange.ts'
import { REFUSALS } from '../refusal.ts'
import type { IssuerHealth } from './issuer-keys.ts'
import { createCounter, createGauge, createGauges, createHistogram } from './prometheus-metrics.ts'
import type { RedisResult } from './redis-connection.ts'

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const STAGE_SECONDS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 30]
/** A label made of a name that the code gives (stage, masking rule) never grows beyond this. */
const NAMES = 64
const BUCKETS = new Set(['address', 'principal', 'failures', 'share'])

export type Prometheus = {
  readonly observer: Observer
  /** Of this gateway alone; `/metrics` is formatted from it. */
  readonly registry: Registry
  /** Counts a connection that was closed because there were too many: in all, or of its address. */
  readonly connectionClosed: (reason: 'all' | 'address') => void
  readonly keysRefreshed: (issuer: string, result: 'refreshed' | 'failed') => void
  /** Counts a token that named a key its issuer does not have. */
  readonly keyUnknown: (issuer: string) => void
  /** Makes the gauges of the configured issuers known. */
  readonly watchIssuers: (health: () => readonly IssuerHealth[]) => void
  readonly filesReloaded: (setting: string, result: 'reloaded' | 'failed') => void
  /** Makes the metrics of Redis known; the answer counts commands. */
  readonly watchRedis: (isReady: () => boolean) => (result: RedisResult) => void
  readonly tokenFetched: (result: 'fetched' | 'failed') => void
  /** Makes the gauge of a certificate known; it reads when the certificate expires. */
  readonly watchCertificate: (which: 'listener' | 'upstream', expiresAt: () => number) => void
  readonly introspected: (issuer: string, result: 'answered' | 'failed') => void
}

/** What the gauges read whenever they are asked. */
export type Watched = {
  readonly version: string
  readonly isReady: () => boolean
  readonly exchangesUnderWay: () => number
  /** Which policies are in force (GOV-2). */
  readonly policyHash: () => string
}

/**
 * The metrics of one gateway, in base units. Labels are closed sets: interaction codes, outcomes,
 * statuses, reasons, stages, masking rules, configured issuers; never an id, an address or a value of a request.
 */
export function createPrometheus(watched: Watched): Prometheus {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })

  const requests = createCounter(registry, {
    name: 'fhirewall_requests_total',
    help: 'Exchanges ended, by interaction, outcome and status.',
    labels: ['interaction', 'outcome', 'status'],
  })
  const duration = createHistogram(registry, {
    name: 'fhirewall_request_duration_seconds',
    help: 'Time from arrival to the end of the exchange.',
    labels: ['interaction'],
    buckets: SECONDS,
  })
  const stages = createHistogram(registry, {
    name: 'fhirewall_stage_duration_seconds',
    help: 'Time spent in each stage.',
    labels: ['stage'],
    buckets: STAGE_SECONDS,
  })
  const refusals = createCounter(registry, {
    name: 'fhirewall_refusals_total',
    help: 'Exchanges refused or failed, by reason.',
    labels: ['reason'],
  })
  const resources = createCounter(registry, {
    name: 'fhirewall_resources_total',
    help: 'Resources judged in answers, by verdict.',
    labels: ['verdict'],
  })
  const emergencies = createCounter(registry, {
    name: 'fhirewall_break_glass_total',
    help: 'Accesses that were permitted only because glass was broken.',
    labels: ['interaction'],
  })
  const refusedEmergencies = createCounter(registry, {
    name: 'fhirewall_break_glass_refused_total',
    help: 'Requests that declared an emergency, and for which no glass broke.',
    labels: ['interaction'],
  })
  const masked = createCounter(registry, {
    name: 'fhirewall_masked_values_total',
    help: 'Values masked in answers, by rule.',
    labels: ['rule'],
  })
  const answers = createCounter(registry, {
    name: 'fhirewall_upstream_answers_total',
    help: 'Answers of the FHIR server, by class of status.',
    labels: ['class'],
  })
  const limited = createCounter(registry, {
    name: 'fhirewall_limited_total',
    help: 'Requests over a limit, by what was limited.',
    labels: ['bucket'],
  })
  const closed = createCounter(registry, {
    name: 'fhirewall_connections_closed_total',
    help: 'Connections closed at once because there were too many, in all or of their address.',
    labels: ['reason'],
  })
  const keys = createCounter(registry, {
    name: 'fhirewall_issuer_keys_refreshes_total',
    help: 'Attempts to refresh the keys of an issuer, by result.',
    labels: ['issuer', 'result'],
  })
  const unknownKeys = createCounter(registry, {
    name: 'fhirewall_issuer_unknown_keys_total',
    help: 'Tokens that named a key their issuer does not have.',
    labels: ['issuer'],
  })
  const tokens = createCounter(registry, {
    name: 'fhirewall_upstream_token_fetches_total',
    help: 'Attempts to get an access token of the gateway’s own for upstream, by result.',
    labels: ['result'],
  })
  const reloads = createCounter(registry, {
    name: 'fhirewall_file_reloads_total',
    help: 'Changed certificate, key and secret files, by setting: taken over, or of no use.',
    labels: ['setting', 'result'],
  })
  const introspections = createCounter(registry, {
    name: 'fhirewall_introspections_total',
    help: 'Questions to issuers about a token, by issuer and result.',
    labels: ['issuer', 'result'],
  })
  createGauge(registry, 'fhirewall_ready', 'Whether the gateway is ready: 1 or 0.', () =>
    watched.isReady() ? 1 : 0,
  )
  createGauge(
    registry,
    'fhirewall_exchanges_under_way',
    'Exchanges that have begun and not ended.',
    watched.exchangesUnderWay,
  )
  createGauge(
    registry,
    'fhirewall_policy_info',
    'Always 1; the begin of the hash of the policies in force is the label.',
    () => 1,
    () => ({ hash: watched.policyHash().slice(0, 16) }),
  )
  createGauge(
    registry,
    'fhirewall_build_info',
    'Always 1; the version is the label.',
    () => 1,
    () => ({
      version: watched.version,
    }),
  )

  // From the start at 0, so that the first increase shows in a rate.
  for (const reason of Object.keys(REFUSALS)) refusals.add(0, reason)
  for (const verdict of ['inspected', 'released', 'withheld']) resources.add(0, verdict)
  for (const bucket of BUCKETS) limited.add(0, bucket)
  for (const reason of ['all', 'address']) closed.add(0, reason)

  const isRule = createNameCheck()
  const isStage = createNameCheck()

  function exchangeEnded(exchange: Exchange): void {
    const { interaction, outcome, status, reason, detail, tally, upstreamStatus } = exchange.facts
    const code = interaction?.code ?? 'unknown'
    requests.add(1, code, outcome ?? 'failed', statusLabel(status))
    duration.observe(exchange.elapsed, code)
    for (const [stage, seconds] of exchange.timings) {
      stages.observe(seconds, isStage(stage) ? stage : 'other')
    }
    if (reason !== undefined) refusals.add(1, reason)
    if (exchange.facts.permit?.breakGlass !== undefined) emergencies.add(1, code)
    if (exchange.isEmergencyRefused) refusedEmergencies.add(1, code)
    if (reason === 'rate-exceeded' && detail !== undefined && BUCKETS.has(detail)) {
      limited.add(1, detail)
    }
    if (upstreamStatus !== undefined) answers.add(1, classOf(upstreamStatus))
    if (tally === undefined) return
    resources.add(tally.inspected, 'inspected')
    resources.add(tally.released, 'released')
    resources.add(tally.withheld, 'withheld')
    for (const [rule, count] of tally.masked) masked.add(count, isRule(rule) ? rule : 'other')
  }

  return {
    observer: { exchangeEnded },
    registry,
    connectionClosed: (reason) => {
      closed.add(1, reason)
    },
    keysRefreshed: (issuer, result) => {
      keys.add(1, issuer, result)
    },
    keyUnknown: (issuer) => {
      unknownKeys.add(1, issuer)
    },
    watchIssuers(health) {
      for (const { issuer } of health()) {
        for (const result of ['refreshed', 'failed']) keys.add(0, issuer, result)
        for (const result of ['answered', 'failed']) introspections.add(0, issuer, result)
        unknownKeys.add(0, issuer)
      }
      createGauges(registry, {
        name: 'fhirewall_issuer_ready',
        help: 'Whether tokens of an issuer can be verified: 1 or 0.',
        label: 'issuer',
        read: () => health().map(({ issuer, isReady }) => [issuer, isReady ? 1 : 0]),
      })
      createGauges(registry, {
        name: 'fhirewall_issuer_keys_age_seconds',
        help: 'Since the keys of an issuer were fetched; absent when it has none.',
        label: 'issuer',
        read: () =>
          health().flatMap(({ issuer, keysAgeSeconds: age }) =>
            age === undefined ? [] : [[issuer, age] as const],
          ),
      })
    },
    filesReloaded(setting, result) {
      reloads.add(result === 'reloaded' ? 1 : 0, setting, 'reloaded')
      reloads.add(result === 'failed' ? 1 : 0, setting, 'failed')
    },
    tokenFetched(result) {
      tokens.add(1, result)
    },
    watchRedis(isReady) {
      const name = 'fhirewall_redis_ready'
      createGauge(registry, name, 'Whether Redis can be asked: 1 or 0.', () => (isReady() ? 1 : 0))
      const commands = createCounter(registry, {
        name: 'fhirewall_redis_commands_total',
        help: 'Commands to Redis, by result; skipped: not sent, because Redis was known to be away.',
        labels: ['result'],
      })
      for (const result of ['answered', 'failed', 'skipped']) commands.add(0, result)
      return (result) => {
        commands.add(1, result)
      }
    },
    watchCertificate(which, expiresAt) {
      const name = `fhirewall_${which}_certificate_remaining_seconds`
      const help = 'Until the certificate in use expires; negative when it has.'
      createGauge(registry, name, help, () => (expiresAt() - Date.now()) / 1000)
    },
    introspected: (issuer, result) => {
      introspections.add(1, issuer, result)
    },
  }
}

function statusLabel(status: number | undefined): string {
  if (status === undefined) return 'none'
  return Number.isInteger(status) && status >= 100 && status < 600 ? String(status) : 'other'
}

function classOf(status: number): string {
  return status >= 100 && status < 600 ? `${Math.trunc(status / 100)}xx` : 'other'
}

/** Names come from our own code; the check holds should one ever carry what a request said. */
function createNameCheck(): (name: string) => boolean {
  const known = new Set<string>()
  return (name) => {
    if (known.has(name)) return true
    if (known.size >= NAMES || !/^[a-z][a-z-]{0,39}$/.test(name)) return false
    known.add(name)
    return true
  }
}

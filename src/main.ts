import { randomBytes } from 'node:crypto'
import { isIPv6 } from 'node:net'
import { isAbsolute, resolve } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { createDenylist } from './adapters/denylist.ts'
import { createFileAuditSink } from './adapters/file-audit-sink.ts'
import { createIntrospection } from './adapters/introspection.ts'
import { createIssuerKeys } from './adapters/issuer-keys.ts'
import { watchListenerCertificate } from './adapters/listener-certificate.ts'
import { openLogOutput } from './adapters/log-output.ts'
import { createExchangeLog, createLogger, formatMissing } from './adapters/logger.ts'
import { shareLogouts } from './adapters/redis-logouts.ts'
import { createRedisReplay } from './adapters/redis-replay.ts'
import { createMemoryReplay } from './adapters/memory-replay.ts'
import { createMemoryStore } from './adapters/memory-store.ts'
import { watchPolicies } from './adapters/policy-files.ts'
import { createPrometheus } from './adapters/prometheus.ts'
import { registerRateLimiter } from './adapters/rate-limiter.ts'
import { connectRedis } from './adapters/redis-connection.ts'
import type { RedisConnection } from './adapters/redis-connection.ts'
import { createRedisStore } from './adapters/redis-store.ts'
import { watchAssertionKey } from './adapters/signing-key.ts'
import { createUpstreamCredentials } from './adapters/upstream-credentials.ts'
import { createUpstreamPool } from './adapters/upstream-pool.ts'
import { askVersion, watchStatement } from './adapters/upstream-statement.ts'
import type { Config } from './config/schema.ts'
import { shippedPolicies, shippedVersion } from './config/shipped.ts'
import { buildCapabilityStatement } from './fhir/capability-statement.ts'
import { loadDefinitions } from './fhir/definitions.ts'
import type { FhirVersion } from './fhir/definitions.ts'
import type { InteractionCode } from './fhir/interaction.ts'
import { createGateway } from './gateway.ts'
import { createSeal } from './http/seal.ts'
import { profilesOf } from './policy/load-masking.ts'
import type { Clock, Log } from './ports.ts'
import { createAdminServer, createServerFor, drain } from './server.ts'
import { createAudit } from './stages/audit/audit.ts'
import { createAuthenticate } from './stages/authenticate/authenticate.ts'
import { createRecheck } from './stages/authenticate/recheck.ts'
import { createLogOut } from './stages/authenticate/log-out.ts'
import { createAuthorize } from './stages/authorize/authorize.ts'
import { permitTransaction } from './stages/authorize/transaction.ts'
import { forward } from './stages/forward/forward.ts'
import { createVouch } from './stages/forward/vouch.ts'
import { createLimit } from './stages/limit/limit.ts'
import { createRelease } from './stages/release/release.ts'
import { createRenderRefusal } from './stages/sanitize/render-refusal.ts'
import { createSanitize } from './stages/sanitize/sanitize.ts'

/** A gateway that listens. */
export type RunningGateway = {
  /** The FHIR base as it can be reached here (the public URL may be another). */
  readonly url: string
  readonly adminUrl: string
  /** Drains for `shutdownSeconds` at most, flushes the audit log, and ends. */
  readonly close: () => Promise<void>
}

/** What a caller of {@link start} may bring instead of what configuration says. */
export type StartOptions = {
  /** Folder of policies when none is configured (default: the shipped ones). */
  readonly policies?: string
  readonly log?: Log
  readonly clock?: Clock
}

/** What this version lets through; the capability statement says no more than this. */
const ALLOWED: readonly InteractionCode[] = [
  'read',
  'vread',
  'search-type',
  'search-compartment',
  'history-instance',
  'history-type',
  'history-system',
  'search-system',
  'create',
  'update',
  'patch',
  'delete',
  'conditional-create',
  'conditional-update',
  'conditional-patch',
  'conditional-delete',
  'batch',
  'operation',
]

/** Starts a gateway; throws before it listens when policies, audit file or CA cannot be used. */
export async function start(config: Config, options: StartOptions = {}): Promise<RunningGateway> {
  const log = options.log ?? openLog(config.log.level)
  const clock = options.clock ?? { now: () => Date.now(), monotonic: () => performance.now() }
  const version = config.fhir.version ?? (await askVersion(config, { log, now: clock.now }))
  if (version === undefined) {
    log.warn({}, 'the FHIR server does not say its version and is taken for R4: set fhir.version')
  }
  return startFor({ ...config, fhir: { version: version ?? 'R4' } }, { ...options, log, clock })
}

async function startFor(
  config: Config & { readonly fhir: { readonly version: FhirVersion } },
  { log, clock, ...options }: StartOptions & { readonly log: Log; readonly clock: Clock },
): Promise<RunningGateway> {
  const { version } = config.fhir
  const folder = config.policies ?? options.policies ?? shippedPolicies()
  const policies = watchPolicies(folder, log, {
    version,
    reloaded: (result) => {
      prometheus.filesReloaded('policies', result)
    },
  })
  const definitions = loadDefinitions(version)
  const sink = await createFileAuditSink(
    isAbsolute(config.audit.file) ? config.audit.file : resolve(config.audit.file),
    {
      warn: (fields: object, message: string) => {
        log.warn(fields, message)
      },
    },
  )
  const prometheus = createPrometheus({
    version: shippedVersion(),
    isReady: () => Object.values(checks).every((check) => check()),
    exchangesUnderWay: () => gateway.underWay(),
    policyHash: () => policies.current().hash,
  })
  const keys = createIssuerKeys(config, log, clock.now, {
    refreshed: prometheus.keysRefreshed,
    unknownKey: prometheus.keyUnknown,
  })
  prometheus.watchIssuers(keys.health)
  const { filesReloaded: reloaded } = prometheus
  const credentials = createUpstreamCredentials(config, {
    ...{ log, now: clock.now, reloaded, fetched: prometheus.tokenFetched },
  })
  const pool = createUpstreamPool(config, { log, reloaded, credentials })
  if (pool.expiresAt !== undefined) prometheus.watchCertificate('upstream', pool.expiresAt)
  const assertion = watchAssertionKey(config, { log, reloaded })
  const certificate = watchListenerCertificate(config.tls, { log, reloaded })
  if (certificate !== undefined) prometheus.watchCertificate('listener', certificate.expiresAt)
  const redis: RedisConnection | undefined =
    config.redis.url === undefined
      ? undefined
      : connectRedis(config.redis, {
          log,
          asked: prometheus.watchRedis(() => redis?.isWell() ?? false),
          reloaded,
        })
  const local = createMemoryStore({ trackedKeys: config.limits.trackedKeys, clock })
  const { localShare } = config.redis
  const store =
    redis === undefined ? local : createRedisStore({ connection: redis, local, localShare })
  const replays =
    redis === undefined
      ? createMemoryReplay({ most: config.dpop.rememberedProofs, clock })
      : createRedisReplay(redis)
  const introspection = createIntrospection(config, {
    ...{ log, keys, now: clock.now, reloaded, asked: prometheus.introspected },
  })
  const denylist = createDenylist(config, { log, now: clock.now, reloaded })
  const { rememberSeconds } = config.denylist
  const logouts =
    redis === undefined
      ? undefined
      : shareLogouts(redis, { rememberSeconds, learn: denylist.learn, log })
  const upstream = watchStatement(config, { ...{ pool, log }, expected: version })
  const audit = createAudit(config, { sink, policyHash: () => policies.current().hash })
  const { release, splitTransaction, ...lent } = createRelease(config, definitions, {
    profiles: profilesOf,
    key: maskingKey(config),
    now: clock.now,
  })
  const seal = createSeal(sealingKeys(config))
  let serving = false
  let stopping = false

  const checks = {
    audit: () => audit.isReady(),
    issuers: () => keys.isReady(),
    credentials: () => credentials.isReady(),
    upstream: () => upstream.statement() !== undefined,
    serving: () => serving,
  }

  const { fastify, gateway } = await createServerFor({
    config,
    pool,
    keys,
    certificate,
    log,
    connectionClosed: prometheus.connectionClosed,
    logOut: createLogOut(config, {
      ...{ keys, clock, replays },
      deny: async (who) => {
        // Here first: whatever becomes of the others.
        const logout = denylist.logOut(who)
        await logouts?.publish(logout)
      },
    }),
    createGateway: async (fhir, undelivered) => {
      const take = await registerRateLimiter(fhir, store)
      return createGateway({
        config,
        definitions,
        clock,
        undelivered,
        isOther: upstream.isOther,
        observers: [prometheus.observer, createExchangeLog(log)],
        capabilities: () => {
          const statement = upstream.statement()
          if (statement === undefined) return undefined
          return buildCapabilityStatement({
            definitions,
            publicUrl: config.public.url,
            upstream: statement,
            allowed: ALLOWED,
            now: new Date(clock.now()).toISOString(),
          })
        },
        stages: {
          limit: createLimit(config, { take, rates: () => policies.current().rates }),
          authenticate: createAuthenticate(config, {
            ...{ keys, clock, replays, introspection, denylist },
          }),
          recheck: createRecheck(config, { clock, denylist }),
          ...createAuthorize(config, {
            policies: policies.current,
            definitions,
            ...lent,
            clock,
            seal,
          }),
          vouch: createVouch(config, { clock, signer: assertion?.signer }),
          forward,
          sanitize: createSanitize(definitions),
          release,
          permitTransaction,
          splitTransaction,
          renderRefusal: createRenderRefusal(config),
          audit,
        },
      })
    },
  })

  const admin = createAdminServer({
    checks,
    watched: redis === undefined ? {} : { redis: redis.isWell },
    registry: prometheus.registry,
  })

  try {
    // First: whoever waits for others, as long as they may take, must be seen to live.
    await admin.listen({ host: config.admin.host, port: config.admin.port })
    await Promise.all([keys.start(), credentials.start().then(upstream.start)])
    await fastify.listen({ host: config.host, port: config.port })
    serving = true
  } catch (error) {
    await Promise.allSettled([
      fastify.close(),
      admin.close(),
      keys.close(),
      pool.close(),
      redis?.close(),
      sink.close(),
    ])
    stopWatching()
    throw error
  }

  function stopWatching(): void {
    upstream.stop()
    const all = [policies, certificate, credentials, assertion, introspection, denylist, logouts]
    for (const watched of all) watched?.close()
  }

  const basePath = new URL(config.public.url).pathname.replace(/\/$/, '')
  return {
    url: `http${certificate === undefined ? '' : 's'}://${inUrl(config.host)}:${portOf(fastify)}${basePath}`,
    adminUrl: `http://${inUrl(config.admin.host)}:${portOf(admin)}`,
    async close() {
      if (stopping) return
      stopping = true
      serving = false
      stopWatching()
      // A fifth of the time is left for the last audit records to reach the disk.
      const until = performance.now() + config.shutdownSeconds * 900
      await drain(fastify, config.shutdownSeconds * 800)
      // Some wait for what no client's leaving ends (an issuer, a store); they too want their record.
      while (gateway.underWay() > 0 && performance.now() < until) await wait(20)
      await Promise.allSettled([
        ...[
          admin.close(),
          keys.close(),
          store.close(),
          replays.close(),
          pool.close(),
          redis?.close(),
        ],
      ])
      await sink.close()
    },
  }
}

const STANDARD_OUTPUT = 1

function openLog(level: Config['log']['level']): Log {
  const output = openLogOutput(STANDARD_OUTPUT, formatMissing)
  process.once('exit', output.end)
  return createLogger(level, output)
}

/** The configured keys; without any, one that lasts as long as this process. */
function sealingKeys({ paging: { keys } }: Config): Buffer[] {
  if (keys === undefined) return [randomBytes(32)]
  return keys
    .trim()
    .split(/[\s,]+/)
    .map((key) => Buffer.from(key, 'base64'))
}

/** The configured key; without one, pseudonyms last as long as this process. */
function maskingKey({ masking: { key } }: Config): Buffer {
  return key === undefined ? randomBytes(32) : Buffer.from(key, 'base64')
}

/** An IPv6 address stands in brackets (RFC 3986 §3.2.2). */
function inUrl(host: string): string {
  return isIPv6(host) ? `[${host}]` : host
}

function portOf(fastify: { readonly server: { address(): unknown } }): number {
  return (fastify.server.address() as { port: number }).port
}

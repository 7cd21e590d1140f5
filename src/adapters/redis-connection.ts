import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Redis, ReplyError } from 'ioredis'
import type { Config } from '../config/schema.ts'
import type { Log } from '../ports.ts'
import { checkAuthorities } from './authorities.ts'
import { parseSecret, watchFiles } from './watched-files.ts'

/** So many answers in a row that did not come in time: the connection is given up for a new one. */
const GIVE_UP_AFTER = 3
const LONGEST_PAUSE_MS = 5000
/** So long after a command that it refused Redis counts as unwell: others it may answer meanwhile. */
const UNWELL_MS = 10_000
/** What a new connection may mend: its name leads to another server by now, or the password is new. */
const RECONNECT_FOR = new Set(['READONLY', 'NOAUTH'])

/** How a command ended; `skipped`: it was not sent, because the connection is not there. */
export type RedisResult = 'answered' | 'failed' | 'skipped'

/** One connection to Redis that never makes anybody wait longer than the configured time. */
export type RedisConnection = {
  /** Whether commands are sent at all; false until the first connection stands. */
  readonly isReady: () => boolean
  /** Whether it also does what it is asked: it may be out of memory, or a copy that nobody writes to. */
  readonly isWell: () => boolean
  /** Runs one command. Rejects at once while there is no connection, and after the time is over. */
  readonly ask: <Answer>(command: (redis: Redis) => Promise<Answer>) => Promise<Answer>
  /** The name of a key: prefix, kind and a hash, so that no address, person or token is in Redis. */
  readonly keyOf: (kind: string, text: string) => string
  readonly close: () => Promise<void>
}

/** A command of ours: a script in Lua, which Redis runs in one step. */
export type RedisScript = {
  readonly name: string
  readonly numberOfKeys: number
  readonly lua: string
}

/** Runs a script by {@link RedisConnection.ask}: keys first, then arguments. Answers what it returns. */
export async function runScript(
  connection: Pick<RedisConnection, 'ask'>,
  { name, ...script }: RedisScript,
  ...args: readonly (string | number)[]
): Promise<number> {
  return connection.ask(async (redis) => {
    if (!(name in redis)) redis.defineCommand(name, script)
    const commands = redis as unknown as Record<
      string,
      (...args: readonly (string | number)[]) => Promise<number>
    >
    return commands[name]?.(...args) ?? Promise.reject(new Error('no such command'))
  })
}

/** What {@link connectRedis} needs from outside. */
export type RedisPorts = {
  readonly log: Log
  readonly asked?: (result: RedisResult) => void
  readonly reloaded?: (setting: string, result: 'reloaded' | 'failed') => void
}

/**
 * Connects in the background and stays at it. ioredis as it comes queues commands without bound while
 * Redis is away, sends them again later and waits for ever on a server that is frozen; here a command
 * is sent now and answered soon, or it failed. Throws when a file of the settings cannot be read.
 */
export function connectRedis(config: Config['redis'], ports: RedisPorts): RedisConnection {
  const { log, asked, reloaded } = ports
  if (config.url === undefined) throw new Error('redis.url is not set')
  const redis = new Redis(optionsOf(new URL(config.url), config))
  const password =
    config.passwordFile === undefined
      ? undefined
      : watchFiles([config.passwordFile], ([content]) => parseSecret(content), {
          ...{ setting: 'redis.passwordFile', log },
          ...(reloaded === undefined ? {} : { reloaded }),
          // For the next connection; one that stands is not asked again by Redis.
          changed: (next) => (redis.options.password = next),
        })
  if (password !== undefined) redis.options.password = password.current()

  let late = 0
  let isUp = false
  let upSince = 0
  let unwellUntil = 0
  redis.on('ready', () => {
    late = 0
    isUp = true
    upSince = performance.now()
    log.info({ setting: 'redis' }, 'Redis is connected')
  })
  const lose = (problem: string): void => {
    if (!isUp) return
    isUp = false
    log.error({ setting: 'redis', problem }, 'Redis is gone; limits are kept by each gateway alone')
  }
  redis.on('close', () => {
    lose('closed')
  })
  // Until a frozen server closes, ioredis would go on calling the connection ready.
  const giveUp = (problem: string): void => {
    if (isUp) redis.disconnect(true)
    lose(problem)
  }
  // It came in time: nobody waited, so the connection stays.
  const refused = (problem: string): void => {
    const now = performance.now()
    late = 0
    if (now >= unwellUntil) {
      const message = 'Redis refuses commands; limits are kept by each gateway alone'
      log.error({ setting: 'redis', problem }, message)
    }
    unwellUntil = now + UNWELL_MS
    if (RECONNECT_FOR.has(problem) && now - upSince > LONGEST_PAUSE_MS) giveUp(problem)
  }
  let told = ''
  // Without a listener ioredis prints the error; its fields hold the command, with the password.
  redis.on('error', (error: Error) => {
    const problem = describe(error)
    if (problem !== told) log.warn({ setting: 'redis', problem }, 'Redis cannot be used')
    told = problem
  })
  void redis.connect().catch(() => undefined)

  return {
    isReady: () => isUp,
    isWell: () => isUp && performance.now() >= unwellUntil,
    async ask(command) {
      if (!isUp) {
        asked?.('skipped')
        throw new Error('Redis is not connected')
      }
      try {
        const answer = await command(redis)
        late = 0
        told = ''
        asked?.('answered')
        return answer
      } catch (error) {
        asked?.('failed')
        const problem = describe(error)
        if (error instanceof ReplyError) refused(problem)
        else if (++late >= GIVE_UP_AFTER) giveUp(problem)
        throw new Error(`Redis failed: ${problem}`)
      }
    },
    keyOf: (kind, text) => `${config.keyPrefix}${kind}:${hash('sha256', text, 'base64url')}`,
    async close() {
      password?.close()
      isUp = false
      redis.disconnect()
    },
  }
}

function optionsOf(url: URL, config: Config['redis']) {
  const isTls = url.protocol === 'rediss:'
  const db = Number(url.pathname.slice(1))
  return {
    // Options and not the URL: ioredis would put its own `tls: true` before our authorities.
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 6379 : Number(url.port),
    ...(Number.isInteger(db) ? { db } : {}),
    ...(url.username === '' ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === '' ? {} : { password: decodeURIComponent(url.password) }),
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    commandTimeout: config.timeoutSeconds * 1000,
    connectTimeout: 2000,
    disconnectTimeout: 100,
    disableClientInfo: true,
    retryStrategy: (attempt: number) =>
      Math.min(LONGEST_PAUSE_MS, 50 * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2),
    ...(isTls
      ? {
          tls: {
            rejectUnauthorized: true,
            minVersion: 'TLSv1.2' as const,
            ...(config.caFile === undefined ? {} : { ca: readAuthorities(config.caFile) }),
          },
        }
      : {}),
  }
}

/** Throws when it is of no use. */
export function readAuthorities(caFile: string): Buffer {
  const ca = readFileSync(caFile)
  try {
    checkAuthorities(ca)
  } catch (error) {
    throw new Error(`redis.caFile: ${(error as Error).message}`, { cause: error })
  }
  return ca
}

/** The code or first word of an error (`ECONNREFUSED`, `WRONGPASS`); the rest may quote a command. */
function describe(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException
  if (code !== undefined) return code
  return message === 'Command timed out'
    ? 'timeout'
    : (/^[A-Z]{2,20}\b/.exec(message)?.[0] ?? 'lost')
}

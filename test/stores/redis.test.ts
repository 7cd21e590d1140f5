import { mkdtempSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t from 'tap'
import type { Test } from 'tap'
import { createMemoryStore } from '../../src/adapters/memory-store.ts'
import { connectRedis } from '../../src/adapters/redis-connection.ts'
import type { RedisResult } from '../../src/adapters/redis-connection.ts'
import { createDenylist } from '../../src/adapters/denylist.ts'
import { shareLogouts } from '../../src/adapters/redis-logouts.ts'
import { createRedisReplay } from '../../src/adapters/redis-replay.ts'
import { createRedisStore } from '../../src/adapters/redis-store.ts'
import type { Rate } from '../../src/ports.ts'
import { createCertificates } from '../support/certificates.ts'
import { startGateway } from '../support/gateway.ts'
import { redisSettings, startRedis, startSlowWire, until, withoutRedis } from '../support/redis.ts'
import { json } from '../support/upstream.ts'

const SKIP = withoutRedis === undefined ? {} : { skip: withoutRedis }
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-redis-'))
// So slow that within a test no cell comes back.
const rate: Rate = { burst: 4, perSecond: 0.001 }

// However busy the machine is; where a timeout is the point, it is shorter.
const PATIENT_TIMEOUT = { timeoutSeconds: 5 }

/** One gateway's stores over Redis, with all that it logged and counted. */
function open(settings: Record<string, unknown>) {
  const said: string[] = []
  const results: RedisResult[] = []
  const write = (fields: object, message: string) => {
    said.push(`${JSON.stringify(fields)} ${message}`)
  }
  const connection = connectRedis(redisSettings({ ...PATIENT_TIMEOUT, ...settings }), {
    log: { debug: write, info: write, warn: write, error: write },
    asked: (result) => results.push(result),
  })
  const clock = { now: Date.now, monotonic: () => 1 }
  const local = createMemoryStore({ trackedKeys: 100, clock })
  return {
    connection,
    said,
    results,
    counters: createRedisStore({ connection, local, localShare: 0.5 }),
    replay: createRedisReplay(connection),
  }
}
type Opened = ReturnType<typeof open>

/** How many cells of `rate` are given before the first refusal. */
async function given({ counters }: Opened, key: string): Promise<number> {
  for (let n = 0; n < 10; n++) if (!(await counters.take(key, rate, 1)).allowed) return n
  return Infinity
}

t.test('gateways share counters and what was used once (RATE-5)', SKIP, async (t) => {
  const redis = await startRedis()
  const [one, two] = [open({ url: redis.url }), open({ url: redis.url })]
  await until(() => one.connection.isReady() && two.connection.isReady())
  t.teardown(async () => {
    await one.connection.close()
    await two.connection.close()
    await redis.close()
  })
  for (let n = 0; n < 2; n++) {
    t.ok((await one.counters.take('a', rate, 1)).allowed)
    t.ok((await two.counters.take('a', rate, 1)).allowed)
  }
  const refused = await one.counters.take('a', rate, 1)
  t.notOk(refused.allowed)
  t.ok(refused.retryAfter > 900 && refused.retryAfter <= 1000, 'the wait comes from Redis’ clock')

  const look = new Redis(redis.port)
  const since = one.connection.keyOf('replay-since', '')
  await t.rejects(one.replay.remember('a', 60), /replay-unavailable/, 'an empty Redis cannot tell')
  t.equal(await two.replay.remember('a', 60), false, 'but it remembers')
  await look.set(since, Math.floor(Date.now() / 1000) - 61)
  await look.del(one.connection.keyOf('replay', 'a'))
  const jti = 'eyJhbGciOi-proof-of-anna'
  const answers = await Promise.all(
    Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? one : two).replay.remember(jti, 60)),
  )
  t.equal(answers.filter(Boolean).length, 1, 'a proof is new exactly once, whoever is asked')

  const keys = (await look.keys('*')).filter((key) => key !== since)
  t.equal(keys.length, 2)
  for (const key of keys) {
    t.match(key, /^fhirewall:(?:counter|replay):[\w-]{43}$/, 'no address, person or token')
    t.ok((await look.pttl(key)) > 0, 'every key goes by itself')
  }
  t.notMatch(JSON.stringify(await look.mget(keys)), /anna/)
  look.disconnect()
})

/** A connection that stands, to a Redis of its own. */
async function connected(t: Test) {
  const redis = await startRedis()
  const { connection } = open({ url: redis.url })
  t.teardown(async () => {
    await connection.close()
    await redis.close()
  })
  await until(connection.isReady)
  return connection
}

t.test(
  'what was used is known until its time is over, and seen again no longer (AUTHN-11)',
  SKIP,
  async (t) => {
    const connection = await connected(t)
    let now = 1_000_000
    const store = createRedisReplay(connection, { now: () => now })
    await connection.ask((client) => client.set(connection.keyOf('replay-since', ''), 0))
    t.equal(await store.remember('a', 60), true)
    t.equal(await store.remember('a', 60), false)
    t.equal(await store.remember('b', 60), true, 'keys do not touch each other')
    now += 59_000
    t.equal(await store.remember('a', 600), false)
    now += 2_000
    t.equal(await store.remember('a', 60), true, 'being seen again prolonged nothing')
  },
)

t.test(
  'what the documents let the user of Redis do is enough, and no more than it needs',
  SKIP,
  async (t) => {
    const edges = readFileSync(new URL('../../docs/edges.md', import.meta.url), 'utf8')
    const granted = /`((?:\+[a-z]+ ?)+)`/.exec(edges)?.[1]?.split(' ') ?? []
    t.ok(granted.length > 8, granted.join(' '))
    const redis = await startRedis({
      args: ['--user', 'gateway', 'on', '>secret', '~fhirewall:*', ...granted],
    })
    const url = redis.url.replace('//', '//gateway:secret@')
    const gateway = open({ url })
    const log = { debug() {}, info() {}, warn() {}, error() {} }
    const heard: unknown[] = []
    const shared = shareLogouts(gateway.connection, {
      ...{ rememberSeconds: 60, log },
      learn: (logout) => heard.push(logout),
    })
    t.teardown(async () => {
      shared.close()
      await gateway.connection.close()
      await redis.close()
    })
    await until(gateway.connection.isReady)
    t.equal(await given(gateway, 'a'), 4)
    // Empty as it is it cannot tell what was used (503), but it is asked.
    await t.rejects(gateway.replay.remember('a', 60))
    await shared.publish({ issuer: 'https://i', subject: 'p', at: 1 } as never)
    await until(() => heard.length > 0)
    t.notOk(gateway.results.includes('failed'), gateway.results.join())
    t.notMatch(gateway.said.join('\n'), 'gone')

    // Without one of them it is said which kind of trouble it is.
    const asker = new Redis({ port: redis.port, username: 'default' })
    await asker.call('ACL', 'SETUSER', 'gateway', '-evalsha', '-eval')
    await asker.quit()
    for (let n = 0; n < 3; n++) await gateway.counters.take('a', rate, 1)
    t.match(gateway.said.join('\n'), /"problem":"NOPERM"\} Redis refuses/)
  },
)

t.test('drill: Redis is killed, and comes back empty (RATE-5)', SKIP, async (t) => {
  const redis = await startRedis()
  const gateway = open({ url: redis.url })
  t.teardown(async () => {
    await gateway.connection.close()
    await redis.close()
  })
  await until(gateway.connection.isReady)
  t.equal(await given(gateway, 'a'), 4)

  await redis.kill()
  await until(() => !gateway.connection.isReady())
  t.equal(await given(gateway, 'a'), 2, 'half of the limit, not none and not all')
  await t.rejects(gateway.replay.remember('x', 60), /replay-unavailable/)
  t.ok(gateway.results.includes('skipped'), 'nobody waited for it')

  await redis.restart()
  await until(gateway.connection.isReady)
  t.equal(await given(gateway, 'a'), 4, 'the script is there again without a restart of ours')
  await t.rejects(
    gateway.replay.remember('x', 60),
    /replay-unavailable/,
    'what it lost, nobody knows',
  )
  t.match(gateway.said.join('\n'), /Redis is gone[^]*Redis is connected/)
})

t.test('drill: Redis is frozen while many ask (RATE-5)', SKIP, async (t) => {
  const redis = await startRedis()
  const gateway = open({ url: redis.url, timeoutSeconds: 0.5 })
  t.teardown(async () => {
    redis.thaw()
    await gateway.connection.close()
    await redis.close()
  })
  await until(gateway.connection.isReady)
  redis.freeze()
  const taken = await Promise.all(
    Array.from({ length: 500 }, async () => gateway.counters.take('a', rate, 1)),
  )
  t.equal(taken.filter(({ allowed }) => allowed).length, 2, 'the share of this gateway alone')
  await until(() => !gateway.connection.isReady())
  const before = gateway.results.length
  await gateway.counters.take('b', rate, 1)
  t.equal(gateway.results[before], 'skipped', 'the connection is given up: nobody waits any more')
  await t.rejects(gateway.replay.remember('x', 60), /replay-unavailable/)
  redis.thaw()
  await until(gateway.connection.isReady)
  t.equal(await given(gateway, 'c'), 4)
})

t.test('drill: Redis is slow', SKIP, async (t) => {
  const redis = await startRedis()
  const slow = await startSlowWire(redis.port)
  const gateway = open({ url: `redis://127.0.0.1:${slow.port}`, timeoutSeconds: 0.5 })
  t.teardown(async () => {
    await gateway.connection.close()
    slow.close()
    await redis.close()
  })
  await until(gateway.connection.isReady)
  slow.wire.delay = 2000
  t.equal(await given(gateway, 'a'), 2)
  await t.rejects(gateway.replay.remember('x', 60), /replay-unavailable/)
  slow.wire.delay = 0
  await until(gateway.connection.isReady)
  t.equal(await given(gateway, 'b'), 4)
})

t.test(
  'drill: Redis answers, and refuses: limits of our own, one line, no new connections',
  SKIP,
  async (t) => {
    const redis = await startRedis()
    const gateway = open({ url: redis.url })
    const admin = new Redis(redis.port)
    t.teardown(async () => {
      admin.disconnect()
      await gateway.connection.close()
      await redis.close()
    })
    await until(gateway.connection.isWell)
    const connections = async () =>
      Number(/total_connections_received:(\d+)/.exec(await admin.info('stats'))?.[1])
    const before = await connections()
    // What is read is still answered, as every look for logouts is.
    await admin.config('SET', 'maxmemory', '1')
    for (let n = 0; n < 20; n++) {
      t.equal(await given(gateway, `oom-${n}`), 2, 'the share of this gateway alone')
      await t.rejects(gateway.replay.remember(`oom-${n}`, 60), /replay-unavailable/)
      await gateway.connection.ask((client) => client.time())
      t.notOk(gateway.connection.isWell(), 'and it does not say that all is well')
    }
    t.equal(await connections(), before)
    t.equal(gateway.said.filter((line) => line.includes('OOM')).length, 1)

    await admin.config('SET', 'maxmemory', '0')
    const poisoned = gateway.connection.keyOf('counter', 'a')
    await admin.lpush(poisoned, 'no counter')
    t.equal(await given(gateway, 'a'), 2, 'a key of another type')
    t.equal(await given(gateway, 'b'), 4, 'is of no matter to others')
  },
)

t.test(
  'Redis whose clock was set back can tell again when that time is over (AUTHN-11)',
  SKIP,
  async (t) => {
    const connection = await connected(t)
    let now = 1_000_000_000
    const store = createRedisReplay(connection, { now: () => now })
    await t.rejects(store.remember('a', 60), /replay-unavailable/)
    now -= 500_000_000
    await t.rejects(store.remember('b', 60), /replay-unavailable/)
    t.equal(await store.remember('a', 60), false, 'what it knew it knows')
    now += 61_000
    t.equal(await store.remember('c', 60), true)
  },
)

t.test('a gateway whose Redis goes serves on, limits and tells (RATE-5)', SKIP, async (t) => {
  const redis = await startRedis()
  const gateway = await startGateway({
    handler: json('{"resourceType":"Patient","id":"p1"}'),
    config: {
      redis: { url: redis.url, timeoutSeconds: 2 },
      limits: { address: { burst: 1000 }, principal: { burst: 4, perSecond: 0.001 } },
    },
  })
  t.teardown(async () => {
    await gateway.close()
    await redis.close()
  })
  const read = async (sub: string) => {
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1', sub })
    const headers = { authorization: `Bearer ${token}` }
    return (await fetch(`${gateway.url}/Patient/p1`, { headers })).status
  }
  const readiness = async () => {
    const answer = await fetch(`${gateway.adminUrl}/readyz`)
    return { status: answer.status, ...((await answer.json()) as { degraded?: string[] }) }
  }
  const statuses = async (sub: string) => {
    const found: number[] = []
    for (let n = 0; n < 5; n++) found.push(await read(sub))
    return found
  }
  await until(async () => (await gateway.metrics()).includes('fhirewall_redis_ready 1'))
  t.strictSame(await statuses('anna'), [200, 200, 200, 200, 429])
  t.notOk((await readiness()).degraded)

  await redis.kill()
  await until(async () => (await gateway.metrics()).includes('fhirewall_redis_ready 0'))
  t.strictSame(await statuses('berta'), [200, 200, 429, 429, 429])
  t.match(await readiness(), { status: 'ready', degraded: ['redis'] })
  t.match(await gateway.metrics(), /fhirewall_redis_commands_total\{result="skipped"\} [1-9]/)

  await redis.restart()
  await until(async () => (await gateway.metrics()).includes('fhirewall_redis_ready 1'))
  t.strictSame(await statuses('clara'), [200, 200, 200, 200, 429])
})

t.test('a password from a file, which changes; TLS to Redis is verified', SKIP, async (t) => {
  const file = join(folder, 'password')
  writeFileSync(file, 'wrong-CANARY\n')
  const certificates = createCertificates(folder)
  const pair = certificates.issue('redis', { names: ['IP:127.0.0.1'] })
  const tls = ['--tls-cert-file', pair.cert, '--tls-key-file', pair.key]
  const redis = await startRedis({
    args: ['--requirepass', 'right-CANARY'],
    tls: [...tls, '--tls-ca-cert-file', certificates.ca],
  })
  const url = redis.url.replace('127.0.0.1', 'localhost')
  const cases = {
    'wrong password': open({ url: redis.url, passwordFile: file, caFile: certificates.ca }),
    'unknown authority': open({ url: redis.url, passwordFile: file }),
    'another name': open({ url, passwordFile: file, caFile: certificates.ca }),
  }
  t.teardown(async () => {
    for (const { connection } of Object.values(cases)) await connection.close()
    await redis.close()
  })
  const problems = {
    'wrong password': /WRONGPASS/,
    'unknown authority': /UNABLE_TO_VERIFY|SELF_SIGNED|UNABLE_TO_GET_ISSUER/,
    'another name': /ERR_TLS_CERT_ALTNAME_INVALID/,
  }
  for (const [what, gateway] of Object.entries(cases)) {
    await until(() => gateway.said.some((line) => problems[what as keyof typeof cases].test(line)))
    t.notOk(gateway.connection.isReady(), what)
    t.equal(await given(gateway, 'a'), 2, `${what}: limits hold meanwhile`)
  }
  writeFileSync(`${file}.new`, 'right-CANARY')
  renameSync(`${file}.new`, file)
  const gateway = cases['wrong password']
  await until(gateway.connection.isReady)
  t.equal(await given(gateway, 'a'), 4)
  for (const { said } of Object.values(cases)) t.notMatch(said.join('\n'), 'CANARY')
})

t.test(
  'a logout told to one gateway holds at all, also at one that starts later (AUTHN-18)',
  SKIP,
  async (t) => {
    const redis = await startRedis()
    const open = () => {
      const log = { debug() {}, info() {}, warn() {}, error() {} }
      const connection = connectRedis(redisSettings({ url: redis.url, ...PATIENT_TIMEOUT }), {
        log,
      })
      const denylist = createDenylist(
        { denylist: { rememberSeconds: 60, rememberedLogouts: 100 } },
        { log, now: Date.now },
      )
      const shared = shareLogouts(connection, { rememberSeconds: 60, learn: denylist.learn, log })
      t.teardown(async () => {
        shared.close()
        await connection.close()
      })
      return { connection, denylist, shared }
    }
    const [one, other] = [open(), open()]
    await until(() => one.connection.isReady() && other.connection.isReady())
    const now = Math.floor(Date.now() / 1000)
    const token = (subject: string, issuedAt = now - 10, sessionId?: string) => ({
      ...{ issuer: 'https://i', subject, clientId: 'c', tokenId: undefined, issuedAt },
      ...(sessionId === undefined ? {} : { sessionId }),
    })
    const tell = async (subject: string | undefined, sessionId?: string) =>
      one.shared.publish(one.denylist.logOut({ issuer: 'https://i', subject, sessionId, at: now }))
    await tell('CANARY-p1')
    await tell(undefined, 'CANARY-s2')
    t.ok(one.denylist.isDenied(token('CANARY-p1')), 'where it was told, at once')
    await until(() => other.denylist.isDenied(token('CANARY-p1')))
    await until(() => other.denylist.isDenied(token('p2', now - 10, 'CANARY-s2')))
    t.notOk(other.denylist.isDenied(token('CANARY-p1', now + 10)), 'a new login is a new token')
    t.notOk(other.denylist.isDenied(token('p2', now - 10, 's3')))
    t.equal(other.denylist.entries(), 2, 'heard again and again, it takes one place')
    const late = open()
    await until(() => late.denylist.isDenied(token('CANARY-p1')))
    const keys = await one.connection.ask(async (redis) => redis.keys('*'))
    const held = await one.connection.ask(async (redis) => redis.zrange(keys[0] ?? '', '0', '-1'))
    t.notMatch(JSON.stringify([keys, held]), /CANARY|https:/, 'nobody is named in Redis')
    await redis.close()
    await t.rejects(tell('p9'), 'its sender hears that it does not hold everywhere')
    t.ok(one.denylist.isDenied(token('p9')), 'here it does')
  },
)

t.test(
  'no logout of another gateway is lost: behind one without room, or by an earlier clock (AUTHN-18)',
  SKIP,
  async (t) => {
    const redis = await startRedis()
    const said: string[] = []
    const write = (fields: object, message: string) => {
      said.push(`${JSON.stringify(fields)} ${message}`)
    }
    const log = { debug() {}, info() {}, warn: write, error() {} }
    const connection = connectRedis(redisSettings({ url: redis.url, ...PATIENT_TIMEOUT }), { log })
    let ahead = 0
    // As a Redis whose clock is ahead would answer.
    const shifted = {
      ...connection,
      ask: async <Answer>(command: (client: Redis) => Promise<Answer>) =>
        connection.ask(async (client) => {
          const [seconds, more] = await client.time()
          const time = async () => Promise.resolve([Number(seconds) + ahead, more])
          return command({ time, zrange: client.zrange.bind(client) } as never)
        }),
    }
    const heard = new Set<string>()
    let isFull = true
    const shared = shareLogouts(shifted, {
      ...{ rememberSeconds: 600, log },
      learn: ({ subject = '' }) => {
        if (isFull && subject === 'no-room') throw new Error('CANARY')
        heard.add(subject)
      },
    })
    const sender = shareLogouts(connection, { rememberSeconds: 600, log, learn: () => {} })
    t.teardown(async () => {
      shared.close()
      sender.close()
      await connection.close()
      await redis.close()
    })
    await until(connection.isReady)
    const key = connection.keyOf('logouts', '')
    await connection.ask(async (client) => client.zadd(key, Date.now() - 60_000, '{"CANARY'))
    await sender.publish({ subject: 'no-room', at: 1 })
    await sender.publish({ subject: 'behind', at: 1 })
    await until(() => heard.has('behind'))
    t.notOk(heard.has('no-room'))
    t.match(said.join('\n'), /"problem":"no room"\} logouts that other gateways were told/)
    const count = said.length
    await until(async () => {
      isFull = false
      return Promise.resolve(heard.has('no-room'))
    })
    t.ok(said.length <= count + 1, 'it is told once')
    t.notMatch(said.join('\n'), 'CANARY')

    ahead = 60
    await connection.ask(async (client) =>
      client.zadd(key, Date.now() + 60_000, '{"subject":"before","at":1}'),
    )
    await until(() => heard.has('before'))
    ahead = 0
    await sender.publish({ subject: 'after', at: 1 })
    await until(() => heard.has('after'))
    t.ok(heard.has('after'), 'also by a clock that is a minute behind')
  },
)

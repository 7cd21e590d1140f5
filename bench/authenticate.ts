/**
 * Authentication beside node:crypto's verification of the same tokens: a token that is known, one that
 * is not, and how long the event loop is held by many at once.
 *
 * Both sides take the same tokens in turns of the event loop of their own, in short stretches one after
 * the other, so that whatever else the machine does meets both. node:crypto is called as one would: a
 * key made once, no options where it needs none. Medians of rounds, CPU time of all threads.
 *
 *   npm run bench:authenticate
 */
import { constants, generateKeyPairSync, randomUUID, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { SignJWT } from 'jose'
import { configSchema } from '../src/config/schema.ts'
import type { Arrival } from '../src/exchange.ts'
import { createAuthenticate } from '../src/stages/authenticate/authenticate.ts'

const ISSUER = 'https://issuer.example'
const AUDIENCE = 'https://fhir.example/fhir'
const ALGORITHMS = ['RS256', 'PS256', 'ES256'] as const
type Algorithm = (typeof ALGORITHMS)[number]
const EACH = 2000
const STRETCH = 100
const ROUNDS = 9

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const pairOf = (alg: Algorithm) => (alg === 'ES256' ? ec : rsa)

const config = configSchema.parse({
  public: { url: AUDIENCE },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: ISSUER, algorithms: [...ALGORITHMS] }],
})
const create = () =>
  createAuthenticate(config, {
    keys: {
      find: (_issuer, { alg }): KeyObject => pairOf(alg as Algorithm).publicKey,
      metadata: () => undefined,
      generation: () => 1,
      isKeyless: () => false,
      isReady: () => true,
      close: async () => {},
    },
    clock: { now: () => Date.now(), monotonic: () => performance.now() },
    replays: { remember: async () => true, close: async () => {} },
    introspection: { ask: () => Promise.reject(new Error('nobody is asked')) },
    denylist: { isDenied: () => false },
  })

const { signal } = new AbortController()
/** In one piece, as a string is that came from a socket. */
const flat = (text: string): string => Buffer.from(text).toString('latin1')
const arrivalOf = (token: string): Arrival => ({
  ...{ method: 'GET', target: '/Patient/1', headers: {}, address: '127.0.0.1', body: undefined },
  rawHeaders: ['Authorization', flat(`Bearer ${token}`)],
  signal,
})

async function mint(alg: Algorithm): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub: randomUUID(), client_id: 'app', scope: 'user/*.rs openid fhirUser' }
  const token = await new SignJWT({ ...claims, fhirUser: 'Practitioner/d1', jti: randomUUID() })
    .setProtectedHeader({ alg, typ: 'at+jwt', kid: 'one' })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setIssuedAt(now)
    .setExpirationTime(now + 600)
    .sign(pairOf(alg).privateKey)
  return flat(token)
}

const mintMany = async (many: number, alg: Algorithm): Promise<string[]> => {
  const tokens: string[] = []
  while (tokens.length < many) tokens.push(await mint(alg))
  return tokens
}

const KEYS = {
  RS256: rsa.publicKey,
  PS256: {
    key: rsa.publicKey,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
  },
  ES256: { key: ec.publicKey, dsaEncoding: 'ieee-p1363' as const },
}

/** `key`: as Node takes it at the least; else with options, as any algorithm may have. */
function bare(token: string, key: object): boolean {
  const cut = token.lastIndexOf('.')
  const signature = Buffer.from(token.slice(cut + 1), 'base64url')
  return verify('sha256', Buffer.from(token.slice(0, cut)), key as KeyObject, signature)
}

const median = (list: readonly number[]): number =>
  list.toSorted((a, b) => a - b)[list.length >> 1] ?? NaN

/** Microseconds of CPU, of all threads, for each of some tokens, every one in a turn of its own. */
async function cost<T>(all: readonly T[], check: (one: T) => unknown): Promise<number> {
  const before = process.cpuUsage()
  for (const one of all) {
    await setImmediate()
    const found = check(one)
    if (found instanceof Promise) await found
  }
  const { user, system } = process.cpuUsage(before)
  return user + system
}

for (const alg of ALGORITHMS) {
  const tokens = await mintMany(EACH, alg)
  const arrivals = tokens.map(arrivalOf)
  const [ours, theirs, optioned]: [number[], number[], number[]] = [[], [], []]
  const withOptions = alg === 'RS256' ? { key: rsa.publicKey } : KEYS[alg]
  for (let round = -3; round < ROUNDS; round++) {
    const authenticate = create()
    let [whole, plain, options] = [0, 0, 0]
    for (let from = 0; from < EACH; from += STRETCH) {
      plain += await cost(tokens.slice(from, from + STRETCH), (token) => {
        if (!bare(token, KEYS[alg])) throw new Error('not verified')
      })
      options += await cost(tokens.slice(from, from + STRETCH), (token) => {
        if (!bare(token, withOptions)) throw new Error('not verified')
      })
      whole += await cost(arrivals.slice(from, from + STRETCH), authenticate)
    }
    if (round < 0) continue
    ours.push(whole / EACH)
    theirs.push(plain / EACH)
    optioned.push(options / EACH)
  }
  const beside = (name: string, list: readonly number[]): string => {
    const ratio = median(ours.map((each, at) => each / (list[at] ?? NaN)))
    return `${name} ${median(list).toFixed(1)} us: ${ratio.toFixed(2)} times`
  }
  console.log(
    `${alg} not known ${median(ours).toFixed(1).padStart(6)} us   node:crypto ${beside('as little as it takes', theirs)}, ${beside('with options', optioned)}`,
  )
}

const authenticate = create()
const known = arrivalOf(await mint('ES256'))
await authenticate(known)
const speeds: number[] = []
for (let round = 0; round < ROUNDS; round++) {
  const before = process.threadCpuUsage()
  for (let n = 0; n < 100_000; n++) void authenticate(known)
  const { user, system } = process.threadCpuUsage(before)
  speeds.push((user + system) / 100_000)
}
console.log(`known            ${median(speeds).toFixed(2).padStart(6)} us`)

// 32 at once, again and again: by the clock, in which other programs have their share, and by the CPU
// time of the thread that has the event loop.
const many = (await mintMany(3200, 'ES256')).map(arrivalOf)
const turns: [clock: number, thread: number][] = []
const crowd = create()
for (let from = 0; from < many.length; from += 32) {
  const all = Promise.all(many.slice(from, from + 32).map(async (arrival) => crowd(arrival)))
  let isDone = false
  do {
    const [begun, before] = [performance.now(), process.threadCpuUsage()]
    isDone = await Promise.race([all.then(() => true), setImmediate(false)])
    const { user, system } = process.threadCpuUsage(before)
    turns.push([performance.now() - begun, (user + system) / 1000])
  } while (!isDone)
}
const worst = (which: 0 | 1): string => {
  const sorted = turns.map((turn) => turn[which]).toSorted((a, b) => a - b)
  return `${sorted[Math.floor(sorted.length * 0.999)]?.toFixed(2)} ms in 999 turns of 1000, ${sorted.at(-1)?.toFixed(1)} ms at most`
}
console.log(`32 at once: a turn takes ${worst(0)}; of CPU time ${worst(1)}`)

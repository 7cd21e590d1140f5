/**
 * Authentication beside node:crypto's verification of the same tokens, alternating rounds, medians of
 * CPU time: a token that is known, one that is not, and how long the event loop is held by many at
 * once.
 *
 *   npm run bench:authenticate
 */
import { constants, generateKeyPairSync, verify } from 'node:crypto'
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
const EACH = 300
const ROUNDS = 9

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const pairOf = (alg: Algorithm) => (alg === 'ES256' ? ec : rsa)

const config = configSchema.parse({
  public: { url: AUDIENCE },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: ISSUER, algorithms: [...ALGORITHMS] }],
})
const authenticate = createAuthenticate(config, {
  keys: {
    find: (_issuer, { alg }): KeyObject => pairOf(alg as Algorithm).publicKey,
    metadata: () => undefined,
    generation: () => 1,
    isReady: () => true,
    close: async () => {},
  },
  clock: { now: () => Date.now(), monotonic: () => performance.now() },
  replays: { remember: async () => true, close: async () => {} },
  introspection: { ask: () => Promise.reject(new Error('nobody is asked')) },
  denylist: { isDenied: () => false },
})

const arrivalOf = (token: string): Arrival => ({
  ...{ method: 'GET', target: '/Patient/1', headers: {}, address: '127.0.0.1', body: undefined },
  rawHeaders: ['Authorization', `Bearer ${token}`],
  signal: new AbortController().signal,
})

let serial = 0
async function mint(alg: Algorithm): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const claims = { sub: `user-${serial++}`, client_id: 'app', scope: 'user/*.rs openid fhirUser' }
  return new SignJWT({ ...claims, fhirUser: 'Practitioner/d1', jti: `id-${serial}` })
    .setProtectedHeader({ alg, typ: 'at+jwt', kid: 'one' })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setIssuedAt(now)
    .setExpirationTime(now + 600)
    .sign(pairOf(alg).privateKey)
}

function bare(alg: Algorithm, token: string): boolean {
  const cut = token.lastIndexOf('.')
  const options = {
    key: pairOf(alg).publicKey,
    ...(alg === 'ES256' ? { dsaEncoding: 'ieee-p1363' as const } : {}),
    ...(alg === 'PS256'
      ? {
          padding: constants.RSA_PKCS1_PSS_PADDING,
          saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
        }
      : {}),
  }
  const signature = Buffer.from(token.slice(cut + 1), 'base64url')
  return verify('sha256', Buffer.from(token.slice(0, cut)), options, signature)
}

const median = (list: readonly number[]): number =>
  list.toSorted((a, b) => a - b)[list.length >> 1] ?? NaN

/** Microseconds of CPU, of all threads, for each of `count`. */
async function cost(count: number, run: () => unknown): Promise<number> {
  const before = process.cpuUsage()
  await run()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}

for (const alg of ALGORITHMS) {
  const [ours, theirs]: [number[], number[]] = [[], []]
  for (let round = -2; round < ROUNDS; round++) {
    const tokens = await Promise.all(Array.from({ length: EACH }, () => mint(alg)))
    const arrivals = tokens.map(arrivalOf)
    const plain = await cost(EACH, async () => {
      for (const token of tokens) {
        await setImmediate()
        if (!bare(alg, token)) throw new Error('not verified')
      }
    })
    const whole = await cost(EACH, async () => {
      // As requests come: each in its own turn of the event loop.
      for (const arrival of arrivals) {
        await setImmediate()
        await authenticate(arrival)
      }
    })
    if (round < 0) continue
    ours.push(whole)
    theirs.push(plain)
  }
  const ratio = median(ours) / median(theirs)
  console.log(
    `${alg} not known   ${median(ours).toFixed(0).padStart(5)} us   node:crypto ${median(theirs).toFixed(0).padStart(5)} us   ${ratio.toFixed(2)} times`,
  )
}

const known = arrivalOf(await mint('ES256'))
await authenticate(known)
const speeds: number[] = []
for (let round = 0; round < ROUNDS; round++) {
  const begun = performance.now()
  for (let n = 0; n < 100_000; n++) void authenticate(known)
  speeds.push((performance.now() - begun) / 100)
}
console.log(`known            ${median(speeds).toFixed(2).padStart(5)} us`)

const many = (await Promise.all(Array.from({ length: 1000 }, () => mint('ES256')))).map(arrivalOf)
let longest = 0
let last = performance.now()
const beat = setInterval(() => {
  longest = Math.max(longest, performance.now() - last)
  last = performance.now()
}, 1)
await new Promise((done) => setTimeout(done, 20))
longest = 0
for (let from = 0; from < many.length; from += 32) {
  await Promise.all(many.slice(from, from + 32).map(async (arrival) => authenticate(arrival)))
}
clearInterval(beat)
console.log(`32 at once: the event loop is held ${longest.toFixed(1)} ms at most`)

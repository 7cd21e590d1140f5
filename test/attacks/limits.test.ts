import { chmodSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// How much can be asked (RATE-1 to 6, INPUT-1; pitfalls §1 row 43, §3 @fastify/rate-limit).
const PATIENT = '{"resourceType":"Patient","id":"p1"}'
const CLAIMS = { scope: 'patient/*.rs', patient: 'p1' }
const slow = (burst: number) => ({ burst, perSecond: 0.001 })

t.test('over the limit: 429, when to come back, and upstream sees nothing (RATE-2)', async (t) => {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: { limits: { address: slow(1000), principal: slow(5), failures: slow(1000) } },
  })
  t.teardown(() => gateway.close())
  const read = async (sub: string) => {
    const token = await gateway.token({ ...CLAIMS, sub })
    return fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } })
  }
  for (let n = 0; n < 5; n++) t.equal((await read('anna')).status, 200)
  const refused = await read('anna')
  t.equal(refused.status, 429)
  t.match(refused.headers.get('retry-after'), /^[1-9]\d*$/)
  t.equal(refused.headers.get('cache-control'), 'no-store')
  t.match(await refused.text(), /"code":"throttled"/)
  t.equal(gateway.upstream.received.length, 5)
  t.equal((await read('berta')).status, 200, 'another principal has its own')
  t.match(await gateway.metrics(), /fhirewall_limited_total\{bucket="principal"\} 1/)
})

t.test('guessing tokens empties a bucket of its own, for the address alone (RATE-4)', async (t) => {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: {
      trustedProxies: ['127.0.0.1/32'],
      limits: { address: slow(1000), principal: slow(1000), failures: slow(3) },
    },
  })
  t.teardown(() => gateway.close())
  const guess = async (token: string, from: string) =>
    (
      await fetch(`${gateway.url}/Patient/p1`, {
        headers: { authorization: `Bearer ${token}`, 'x-forwarded-for': from },
      })
    ).status
  const statuses: number[] = []
  for (let n = 0; n < 6; n++) statuses.push(await guess(`guess-${n}`, '203.0.113.7'))
  t.strictSame(statuses, [401, 401, 401, 429, 429, 429])
  const good = await gateway.token(CLAIMS)
  t.equal(await guess(good, '203.0.113.7'), 429, 'not even a good token from there')
  t.equal(await guess(good, '203.0.113.8'), 200, 'but from elsewhere')
  t.equal(gateway.upstream.received.length, 1)
})

t.test('X-Forwarded-For is believed from configured hops only (HTTP-3, row 43)', async (t) => {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: { limits: { address: slow(3), principal: slow(1000), failures: slow(1000) } },
  })
  t.teardown(() => gateway.close())
  const statuses: number[] = []
  for (let n = 0; n < 5; n++) {
    const answer = await fetch(`${gateway.url}/Patient/p1`, {
      headers: { 'x-forwarded-for': `198.51.100.${n}`, forwarded: `for=198.51.100.${n}` },
    })
    statuses.push(answer.status)
  }
  t.strictSame(statuses, [401, 401, 401, 429, 429], 'a new address each time is no new address')
})

t.test('key spraying: memory is bounded, and a counter in use is not pushed out', async (t) => {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: {
      trustedProxies: ['127.0.0.1/32'],
      limits: {
        address: slow(2),
        principal: slow(1000),
        failures: slow(1_000_000),
        trackedKeys: 50,
      },
    },
  })
  t.teardown(() => gateway.close())
  const ask = async (from: string) =>
    (await fetch(`${gateway.url}/Patient/p1`, { headers: { 'x-forwarded-for': from } })).status
  for (let n = 0; n < 2; n++) t.equal(await ask('203.0.113.1'), 401)
  t.equal(await ask('203.0.113.1'), 429)
  const seen = new Map<number, number>()
  for (let n = 0; n < 150; n++) {
    const status = await ask(`198.51.${n >> 8}.${n & 255}`)
    seen.set(status, (seen.get(status) ?? 0) + 1)
    if (n % 10 === 0) t.equal(await ask('203.0.113.1'), 429, `after ${n} other addresses`)
  }
  t.notOk(seen.has(200), 'never an open door')
})

t.test('no more exchanges at once than allowed: 503, and the others end well', async (t) => {
  const held: (() => void)[] = []
  const gateway = await startGateway({
    handler: (request, response, raw) => held.push(() => json(PATIENT)(request, response, raw)),
    config: {
      limits: { address: slow(1000), principal: slow(1000), failures: slow(1000), concurrent: 3 },
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token(CLAIMS)
  const read = () =>
    fetch(`${gateway.url}/Patient/p1`, { headers: { authorization: `Bearer ${token}` } })
  const under = [read(), read(), read()]
  while (held.length < 3) await new Promise((done) => setTimeout(done, 5))
  const refused = await read()
  t.equal(refused.status, 503)
  t.match(refused.headers.get('retry-after'), /^\d+$/)
  for (const answer of held) answer()
  t.strictSame(
    (await Promise.all(under)).map(({ status }) => status),
    [200, 200, 200],
  )
  held.length = 0
  const again = read()
  while (held.length < 1) await new Promise((done) => setTimeout(done, 5))
  held[0]!()
  t.equal((await again).status, 200, 'and there is room again')
})

t.test('a head or body that never ends is cut off (RATE-6)', async (t) => {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: { limits: { requestTimeoutSeconds: 0.5 } },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const drip = (head: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(head))
      const timer = setInterval(() => socket.write('x'), 50)
      let said = ''
      socket.on('data', (chunk) => (said += String(chunk)))
      socket.on('error', () => undefined)
      socket.on('close', () => {
        clearInterval(timer)
        resolve(said)
      })
    })
  const said = await Promise.all([
    drip('GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nX-A: '),
    drip(
      `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/fhir+json\r\nContent-Length: 100000\r\n\r\n{`,
    ),
  ])
  for (const answer of said) t.match(answer, /^(?:HTTP\/1\.1 408 |$)/)
  t.strictSame(gateway.upstream.received, [])
  t.equal((await fetch(`${gateway.adminUrl}/livez`)).status, 200)
})

t.test('a body larger than allowed is refused before it is read whole', async (t) => {
  const gateway = await startGateway({ config: { limits: { bodyBytes: 1000 } } })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cruds', patient: 'p1' })
  const head = `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/fhir+json\r\n`
  for (const bytes of [
    `${head}Content-Length: 1001\r\nConnection: close\r\n\r\n${'x'.repeat(1001)}`,
    `${head}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n${`fa\r\n${'x'.repeat(250)}\r\n`.repeat(5)}0\r\n\r\n`,
  ]) {
    t.match(await gateway.raw(bytes), /^HTTP\/1\.1 413 /)
  }
  t.strictSame(gateway.upstream.received, [])
})

t.test('what cannot be recorded is not answered: audit down is 503 (ERR-5, AUD-10)', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-audit-'))
  const gateway = await startGateway({
    handler: json(PATIENT.replace('}', ',"name":[{"text":"CANARY"}]}')),
    config: { audit: { file: join(folder, 'audit.jsonl') } },
  })
  t.teardown(async () => {
    await gateway.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const token = await gateway.token(CLAIMS)
  const read = async () => {
    const answer = await fetch(`${gateway.url}/Patient/p1`, {
      headers: { authorization: `Bearer ${token}` },
    })
    return { status: answer.status, text: await answer.text() }
  }
  t.equal((await read()).status, 200)
  // Another process takes the log over: its lock is not ours any more.
  const lock = readdirSync(folder).find((name) => name.includes('lock'))
  t.ok(lock, 'the log is locked')
  rmSync(join(folder, lock!), { recursive: true, force: true })
  writeFileSync(join(folder, lock!), JSON.stringify({ pid: 1, host: 'elsewhere', token: 'other' }))
  chmodSync(join(folder, lock!), 0o600)
  let last = { status: 200, text: '' }
  for (let n = 0; n < 200 && last.status === 200; n++) {
    await new Promise((done) => setTimeout(done, 25))
    last = await read()
  }
  t.equal(last.status, 503)
  t.notMatch(last.text, /CANARY/)
  const ready = await fetch(`${gateway.adminUrl}/readyz`)
  t.equal(ready.status, 503)
  t.match(await ready.text(), /"audit":false/)
})

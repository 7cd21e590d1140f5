import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import t from 'tap'
import type { Test } from 'tap'
import { verifyAuditFile } from '../../src/adapters/verify-audit-file.ts'
import { recall } from '../../src/recall.ts'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'
import type { Received } from '../support/upstream.ts'

// How much can be asked (RATE-1 to 6, INPUT-1; pitfalls §1 row 43, §3 @fastify/rate-limit).
const PATIENT = '{"resourceType":"Patient","id":"p1"}'
const CLAIMS = { scope: 'patient/*.rs', patient: 'p1' }
const slow = (burst: number) => ({ burst, perSecond: 0.001 })
const WIDE = { address: slow(100_000), principal: slow(100_000), failures: slow(100_000) }

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
  for (const [name] of refused.headers) t.notMatch(name, /^x-ratelimit/, 'no header of the plugin')
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

/** A gateway where each may hold eight of many places, and what takes them and gives them back. */
async function withShare(options: Parameters<typeof startGateway>[0] = {}) {
  const gateway = await startGateway({
    ...options,
    config: { limits: { ...WIDE, concurrent: 64, share: 0.125 }, ...options.config },
  })
  const entry = '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}'
  const tokenOf = async (sub: string) =>
    gateway.token({ scope: 'patient/*.cruds', patient: 'p1', sub })
  const headersOf = async (sub: string) => ({
    authorization: `Bearer ${await tokenOf(sub)}`,
    'content-type': 'application/fhir+json',
  })
  const underWay = async (): Promise<number> =>
    Number(/^fhirewall_exchanges_under_way (\d+)$/m.exec(await gateway.metrics())?.[1])
  const settle = async (wanted: number): Promise<void> => {
    while ((await underWay()) !== wanted) await new Promise((done) => setTimeout(done, 5))
  }
  /** A body that does not come to its end. */
  const dribble = async (sub: string) => {
    const token = await tokenOf(sub)
    const socket = connect(gateway.port, '127.0.0.1')
    const wire = Object.assign(socket, { said: '' })
    socket.on('error', () => undefined).on('data', (piece) => (wire.said += String(piece)))
    socket.write(
      `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/fhir+json\r\nContent-Length: ${entry.length}\r\n\r\n{`,
    )
    return wire
  }
  const read = async (sub: string, path = '/Patient/p1') =>
    fetch(gateway.url + path, { headers: await headersOf(sub) })
  const send = async (sub: string, body: string, path = '') =>
    fetch(gateway.url + path, { method: 'POST', headers: await headersOf(sub), body })
  /** That somebody holds nothing now: eight places are there, and no more. */
  const holdsNothing = async (t: Test, sub: string, what: string) => {
    await settle(0)
    const wires: Awaited<ReturnType<typeof dribble>>[] = []
    for (let n = 1; n <= 8; n++) {
      wires.push(await dribble(sub))
      await settle(n)
    }
    t.equal((await read(sub)).status, 429, `${what}: eight are held`)
    t.strictSame(new Set(wires.map(({ said }) => said)), new Set(['']), `${what}: none too many`)
    for (const wire of wires) wire.destroy()
    await settle(0)
    t.equal((await read(sub)).status, 200, `${what}: and given back`)
  }
  return { gateway, tokenOf, underWay, settle, dribble, read, send, holdsNothing, entry }
}

t.test('one principal holds no more than its share of the places (RATE-6)', async (t) => {
  const { gateway, settle, dribble, read } = await withShare({ handler: json(PATIENT) })
  t.teardown(() => gateway.close())
  const wires = []
  for (let n = 0; n < 8; n++) wires.push(await dribble('anna'))
  await settle(8)
  for (let n = 0; n < 3; n++) {
    const refused = await read('anna')
    t.equal(refused.status, 429)
    t.match(refused.headers.get('retry-after'), /^[1-9]\d*$/)
    t.match(await refused.text(), /"code":"rate-exceeded"/)
  }
  t.equal((await read('berta')).status, 200, 'another has its own, from the same address')
  t.match(await gateway.metrics(), /fhirewall_limited_total\{bucket="share"\} 3/)
  wires.pop()!.destroy()
  await settle(7)
  t.equal((await read('anna')).status, 200, 'one was given back')
  for (const wire of wires) wire.destroy()
  await settle(0)
  t.equal((await gateway.audit()).length, 13, 'all of them recorded')
})

t.test('who is not authenticated yet holds its share by its address (RATE-6)', async (t) => {
  const secret = join(mkdtempSync(join(tmpdir(), 'fhirewall-limits-')), 'secret')
  writeFileSync(secret, 'of the gateway', { mode: 0o600 })
  const { gateway, settle } = await withShare({
    handler: json(PATIENT),
    config: { trustedProxies: ['127.0.0.1/32'] },
    issuer: { introspection: { clientId: 'gateway', clientSecretFile: secret, timeoutSeconds: 5 } },
  })
  t.teardown(() => gateway.close())
  const release: (() => void)[] = []
  gateway.issuer.introspectWith((_form, _request, response) => {
    release.push(() => response.end('{"active":false}'))
  })
  const ask = async (token: string, from: string): Promise<number> =>
    (
      await fetch(`${gateway.url}/Patient/p1`, {
        headers: { authorization: `Bearer ${token}`, 'x-forwarded-for': from },
      })
    ).status
  const held = Array.from({ length: 8 }, async (_, n) => ask(`opaque-${n}`, '203.0.113.7'))
  await settle(8)
  const good = await gateway.token(CLAIMS)
  t.equal(await ask(good, '203.0.113.7'), 429)
  t.equal(await ask(good, '203.0.113.8'), 200, 'another client of the same proxy')
  while (release.length < 8) await new Promise((done) => setTimeout(done, 5))
  for (const answer of release) answer()
  t.strictSame(new Set(await Promise.all(held)), new Set([401]))
  t.equal(await ask(good, '203.0.113.7'), 200, 'and there is room again')
})

t.test(
  'connections: as many as there is room for, and of one address its share (RATE-6)',
  async (t) => {
    const withPlaces = (config: Record<string, unknown>) =>
      startGateway({ config: { limits: { ...WIDE, connections: 12, share: 0.1 }, ...config } })
    /** Connections that say nothing, from an address of this machine; those that were not cut off. */
    const hold = async (port: number, from: string, count: number, left: number) => {
      const sockets = Array.from({ length: count }, () =>
        connect({ port, host: '127.0.0.1', localAddress: from }).on('error', () => undefined),
      )
      t.teardown(() => sockets.forEach((socket) => socket.destroy()))
      for (const socket of sockets) socket.resume()
      const open = () => sockets.filter(({ closed }) => !closed)
      for (let n = 0; n < 100 && open().length > left; n++)
        await new Promise((done) => setTimeout(done, 50))
      // Nor are there fewer in the end.
      await new Promise((done) => setTimeout(done, 100))
      return open()
    }
    const gateway = await withPlaces({})
    t.teardown(() => gateway.close())
    const held = await hold(gateway.port, '127.0.0.2', 11, 8)
    t.equal(held.length, 8, 'its share')
    const ask = async () =>
      (
        await gateway.raw('GET /fhir/Patient/p1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      ).slice(9, 12)
    t.equal(await ask(), '401', 'there is room for another')
    t.equal((await hold(gateway.port, '127.0.0.3', 6, 4)).length, 4, 'as many as there are')
    t.match(
      await fetch(`${gateway.adminUrl}/readyz`),
      { status: 200 },
      'whoever watches it is served',
    )
    const closed = async () => {
      const text = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
      return [...text.matchAll(/^fhirewall_connections_closed_total\{reason="(\w+)"\} (\d+)$/gm)]
        .map(([, reason, count]) => `${reason} ${count}`)
        .sort()
    }
    t.strictSame(await closed(), ['address 3', 'all 2'], 'and it shows')
    for (const socket of held) socket.destroy()
    await new Promise((done) => setTimeout(done, 100))
    t.equal((await hold(gateway.port, '127.0.0.2', 6, 6)).length, 6, 'and they are given back')

    const behind = await withPlaces({ trustedProxies: ['127.0.0.2/32'] })
    t.teardown(() => behind.close())
    t.equal(
      (await hold(behind.port, '127.0.0.2', 14, 12)).length,
      12,
      'a trusted proxy speaks for many',
    )
  },
)

t.test('no more connections than this process may open files (RATE-6)', async (t) => {
  const module = new URL('../../src/adapters/connections.ts', import.meta.url).href
  const script = `import(${JSON.stringify(module)}).then((m) => console.log(m.roomForConnections(64)))`
  const room = (files: number) =>
    Number(
      execFileSync('bash', [
        '-c',
        `ulimit -n ${files}; exec "$0" -e "$1"`,
        process.execPath,
        script,
      ]),
    )
  t.equal(room(1024), 832)
  t.equal(room(100), 16)
})

t.test('however an exchange ends, its place is given back, once (RATE-6)', async (t) => {
  const observation = `{"resource":{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},"note":[{"text":"${'x'.repeat(1000)}"}]}}`
  const large = `{"resourceType":"Bundle","type":"searchset","entry":[${Array(3000).fill(observation).join()}]}`
  const answers: Record<string, (text: string) => Parameters<typeof json>> = {
    '/Patient/gone': () => ['{"resourceType":"OperationOutcome"}', 404],
    '/Patient/broken': () => ['nothing', 500],
    '/Observation': () => [large],
  }
  const share = await withShare({
    handler: (request, response, raw) => {
      const path = request.target.replace(/^\/fhir|\?.*$/g, '')
      const [text, status] = answers[path]?.(path) ?? [PATIENT]
      json(text, status)(request, response, raw)
    },
  })
  const { gateway, read, send, tokenOf, holdsNothing, settle } = share
  t.teardown(() => gateway.close())
  const times = async (act: () => Promise<unknown>): Promise<void> => {
    for (let n = 0; n < 10; n++) await act()
  }
  for (const [what, path] of [
    ['an answer', '/Patient/p1'],
    ['not found', '/Patient/gone'],
    ['a failure', '/Patient/broken'],
    ['forbidden', '/Patient/p2'],
    ['a stream', '/Observation'],
    ['unknown', '/Nothing/1'],
  ] as const) {
    await times(async () => (await read('anna', path)).text())
    await holdsNothing(t, 'anna', what)
  }
  await times(async () => (await send('anna', '{', '/Observation')).text())
  await holdsNothing(t, 'anna', 'a broken body')
  const entries = Array(20).fill('{"request":{"method":"GET","url":"Patient/p1"}}').join()
  const batch = `{"resourceType":"Bundle","type":"batch","entry":[${entries}]}`
  await times(async () => t.equal((await send('anna', batch)).status, 200))
  await holdsNothing(t, 'anna', 'entries')
  const token = await tokenOf('anna')
  await times(async () => {
    const wire = connect(gateway.port, '127.0.0.1')
    wire.write(
      `GET /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    )
    await new Promise((resolve) => wire.once('data', resolve))
    wire.resetAndDestroy()
    await settle(0)
  })
  await holdsNothing(t, 'anna', 'a stream left in its middle')
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

t.test('a head or target larger than allowed: 431 and 414, connection closed', async (t) => {
  const gateway = await startGateway({
    config: { limits: { headerBytes: 4096, targetBytes: 512 } },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token(CLAIMS)
  const head = `Host: x\r\nAuthorization: Bearer ${token}\r\n`
  for (const [status, bytes] of [
    [431, `GET /fhir/Patient/p1 HTTP/1.1\r\n${head}X-A: ${'a'.repeat(5000)}\r\n\r\n`],
    [431, `GET /fhir/Patient/p1 HTTP/1.1\r\n${head}${'X-Aaaaaaaa: a\r\n'.repeat(700)}\r\n`],
    [414, `GET /fhir/Patient?name=${'a'.repeat(1000)} HTTP/1.1\r\n${head}\r\n`],
  ] as const) {
    const answer = await gateway.raw(bytes)
    t.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `))
    t.match(answer, /\r\nconnection: close\r\n/i)
    t.match(answer, 'OperationOutcome')
  }
  t.strictSame(gateway.upstream.received, [])
  t.equal((await gateway.audit()).length, 3)
})

const NAMED_PATIENT = PATIENT.replace('}', ',"name":[{"text":"CANARY"}]}')

/** A gateway whose audit file lies in a folder the test may work on. */
async function withAuditFile(
  bodyOf: (request: Received) => string = () => NAMED_PATIENT,
  settings: object = {},
  claims: object = { scope: 'patient/*.cruds', patient: 'p1' },
) {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-audit-'))
  const file = join(folder, 'audit.jsonl')
  const gateway = await startGateway({
    handler: (request, ...to) => {
      const isMade = request.target.endsWith('/Observation') && request.method === 'POST'
      json(bodyOf(request), isMade ? 201 : 200)(request, ...to)
    },
    config: { audit: { file }, ...settings },
  })
  const token = await gateway.token({ ...claims })
  const ask = async (method: string, target: string, body?: string) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
      ...(body === undefined ? {} : { body }),
    })
    // What breaks off has a status all the same.
    const text = await answer.text().catch(() => undefined)
    return {
      status: answer.status,
      text: text ?? '',
      isWhole: text !== undefined,
      upstream: gateway.upstream.received.length,
    }
  }
  const close = async () => {
    await gateway.close()
    rmSync(folder, { recursive: true, force: true })
  }
  return {
    ...{ gateway, file, close, ask },
    read: () => ask('GET', '/Patient/p1'),
    write: () =>
      ask(
        'POST',
        '/Observation',
        '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}',
      ),
  }
}

const canLimit = (() => {
  try {
    execFileSync('prlimit', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
})()

/** The kernel itself refuses: the record that crosses it ends half way (EFBIG), as on a full disk. */
function filling(t: Test): (bytes: number | 'unlimited') => void {
  // Unheard, this signal ends the process instead; a full disk sends none.
  const heard = () => undefined
  process.on('SIGXFSZ', heard)
  t.teardown(() => process.off('SIGXFSZ', heard))
  return (bytes) => {
    execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:unlimited`])
  }
}

async function untilReady({ adminUrl }: { readonly adminUrl: string }): Promise<number> {
  for (let n = 0; ; n++) {
    const { status } = await fetch(`${adminUrl}/readyz`)
    if (n === 200 || status === 200) return status
    await new Promise((done) => setTimeout(done, 25))
  }
}

t.test(
  'an audit file that takes no more: withheld, then refused, then whole again (AUD-10)',
  { skip: canLimit ? false : 'needs prlimit to fill the disk' },
  async (t) => {
    const { gateway, file, close, read, write } = await withAuditFile()
    t.teardown(close)
    const fill = filling(t)
    t.equal((await read()).status, 200)
    fill(statSync(file).size + 100)
    try {
      const withheld = await read()
      t.equal(withheld.status, 503)
      t.match(withheld.text, /"code":"audit-unavailable"/)
      t.notMatch(withheld.text, /CANARY|EFBIG/)
      for (const again of [await read(), await write()]) {
        t.equal(again.status, 503)
        t.equal(again.upstream, 0, 'from now on upstream is not even asked')
        t.notMatch(again.text, 'CANARY')
      }
      t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 503)
    } finally {
      fill('unlimited')
    }
    // Behind a balancer none comes while the gateway is not ready.
    t.equal(await untilReady(gateway), 200, 'there is room again, no request was needed to see it')
    t.equal((await read()).status, 200)
    const { firstBad } = await verifyAuditFile(file)
    t.equal(firstBad, undefined, 'no half line is left in the chain')
    const lost = readFileSync(file, 'utf8').match(/"audit-records-lost".*?"valueString":"[1-9]/g)
    t.equal(lost?.length, 1, 'how many records are missing is on record')
  },
)

t.test(
  'what could not be recorded is counted as what the caller got, not as released (ERR-2, AUD-10)',
  { skip: canLimit ? false : 'needs prlimit to fill the disk' },
  async (t) => {
    const patients = (count: number, wrap: (resource: string) => string): string =>
      Array.from({ length: count }, () => wrap(PATIENT)).join()
    const page = `{"resourceType":"Bundle","type":"searchset","entry":[${patients(20, (resource) => `{"resource":${resource},"search":{"mode":"match"}}`)}]}`
    const answers = `{"resourceType":"Bundle","type":"transaction-response","entry":[${patients(2, (resource) => `{"response":{"status":"200"},"resource":${resource}}`)}]}`
    const { gateway, file, close, ask, read } = await withAuditFile(
      ({ method, target }) => (method === 'POST' ? answers : target.includes('?') ? page : PATIENT),
      { upstream: { bufferBytes: 1000 } },
      { scope: 'system/*.cruds', sub: 'app', client_id: 'app' },
    )
    t.teardown(close)
    const one = '{"request":{"method":"GET","url":"Patient/p1"}}'
    const bundle = (type: string): string =>
      `{"resourceType":"Bundle","type":"${type}","entry":[${one},${one}]}`
    const counted = async () =>
      Number(
        /refusals_total\{reason="audit-unavailable"\} (\d+)/.exec(await gateway.metrics())?.[1],
      )
    const fill = filling(t)
    const ways: readonly [
      what: string,
      how: () => ReturnType<typeof ask>,
      status: number,
      ends: number[],
    ][] = [
      ['a whole answer', read, 503, [503]],
      ['a streamed one: all but its end has left', () => ask('GET', '/Patient?name=a'), 200, [200]],
      [
        'a batch: the entry at which it stops, then itself',
        () => ask('POST', '', bundle('batch')),
        503,
        [503, 503],
      ],
      [
        'a transaction: its entries, then itself',
        () => ask('POST', '', bundle('transaction')),
        503,
        [503, 503, 503],
      ],
    ]
    for (const [what, how, status, ends] of ways) {
      t.equal((await how()).status, 200, what)
      const before = await counted()
      gateway.log.length = 0
      fill(statSync(file).size + 100)
      try {
        const told = await how()
        t.equal(told.status, status, what)
        t.equal(told.isWhole, status === 503, what)
      } finally {
        fill('unlimited')
      }
      t.equal(await counted(), before + ends.length, what)
      const lines = gateway.log.filter((line) => line.endsWith(' exchange'))
      t.equal(lines.length, ends.length, what)
      for (const [n, line] of lines.entries()) {
        t.match(line, /^error .*"outcome":"failed".*"reason":"audit-unavailable"/, what)
        t.match(line, `"status":${ends[n]}`, what)
      }
      t.equal(await untilReady(gateway), 200)
    }
  },
)

t.test('an audit file moved away or replaced records nothing: 503 (AUD-9, AUD-10)', async (t) => {
  const { gateway, file, close, read } = await withAuditFile()
  t.teardown(close)
  t.equal((await read()).status, 200)
  const until = async (wanted: number) => {
    let last = await read()
    for (let n = 0; n < 200 && last.status !== wanted; n++) {
      await new Promise((done) => setTimeout(done, 25))
      last = await read()
    }
    return last
  }
  renameSync(file, `${file}.away`)
  const gone = await until(503)
  t.equal(gone.status, 503, 'moved away')
  t.notMatch(gone.text, 'CANARY')
  // The first of them may have been on its way already when that came out; it is withheld.
  t.equal((await read()).upstream, 0)
  t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 503)
  writeFileSync(file, '')
  t.equal((await read()).status, 503, 'an empty one in its place is not it')
  renameSync(`${file}.away`, file)
  t.equal(await untilReady(gateway), 200, 'it is back, and no request was needed to see it')
  t.equal((await read()).status, 200)
  const { firstBad } = await verifyAuditFile(file)
  t.equal(firstBad, undefined)
})

t.test(
  'references that are searches: few, each once, each paid for (RATE-1, REST-7)',
  async (t) => {
    const found =
      '{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"resourceType":"Practitioner","id":"d1"},"search":{"mode":"match"}}]}'
    const created =
      '{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"201"}},{"response":{"status":"201"}}]}'
    const gateway = await startGateway({
      handler: (request, ...to) => json(request.method === 'GET' ? found : created)(request, ...to),
      config: { limits: { address: slow(1000), principal: slow(50), failures: slow(1000) } },
    })
    t.teardown(() => gateway.close())
    let apps = 0
    const send = async (...entries: readonly (readonly string[])[]) => {
      gateway.upstream.received.length = 0
      const app = `app-${apps++}`
      const token = await gateway.token({ scope: 'system/*.cruds', sub: app, client_id: app })
      const entry = entries.map((references) => ({
        resource: {
          ...{ resourceType: 'Observation', status: 'final', code: { text: 'a' } },
          subject: { reference: 'Patient/p1' },
          performer: references.map((reference) => ({ reference })),
        },
        request: { method: 'POST', url: 'Observation' },
      }))
      const answer = await fetch(gateway.url, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/fhir+json' },
        body: JSON.stringify({ resourceType: 'Bundle', type: 'transaction', entry }),
      })
      const asked = gateway.upstream.received.length
      return { status: answer.status, asked, text: await answer.text() }
    }
    const some = (length: number, from = 0) =>
      Array.from({ length }, (_, n) => `Practitioner?identifier=x${n + from}`)

    for (const entries of [[some(1500)], [some(12), some(12, 12)]]) {
      const { status, asked, text } = await send(...entries)
      t.strictSame([status, asked], [422, 0])
      t.match(text, /"code":"too-costly".*"code":"searches-too-many"/)
    }
    const equal = [...some(1), ...some(1), ...some(1)]
    t.match(await send(equal, equal), { status: 200, asked: 2 }, 'an equal one is asked once')
    // Of 50 cells the Bundle takes 10 and each entry 2; a search takes 3.
    t.match(await send(some(12), []), { status: 200, asked: 13 })
    t.match(await send(some(13), []), { status: 429, asked: 12 }, 'as a search of its own would')
    const chains = some(20).map((one) => one.replace('identifier', 'organization.name'))
    const chained = await send(chains.map((one) => one.replace('Practitioner', 'PractitionerRole')))
    t.match(chained, { status: 400, asked: 0 }, 'and none brings others along')
  },
)
t.test('an audit file that others shorten or write to records nothing: 503 (AUD-9)', async (t) => {
  for (const change of [
    (file: string) => truncateSync(file, 0),
    (file: string) => truncateSync(file, statSync(file).size - 40),
    (file: string) => appendFileSync(file, 'garbage'),
  ]) {
    const { gateway, file, close, read } = await withAuditFile()
    t.equal((await read()).status, 200)
    change(file)
    const withheld = await read()
    t.equal(withheld.status, 503, 'the very next one')
    t.notMatch(withheld.text, 'CANARY')
    t.equal((await read()).upstream, 0)
    t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 503)
    t.match(gateway.log.join('\n'), /warn .*shortened or written to by others/)
    await close()
  }
})

// RATE-6: texts that others make up are recalled, and must not fill the memory.
t.test('what is recalled of texts is no more than was said', (t) => {
  const made: string[] = []
  const read = recall((text) => made.push(text) && { text }, { most: 3, longest: 4 })
  const [one] = ['one', 'two', 'three'].map(read)
  t.equal(read('one'), one, 'the same for those that come again')
  for (const text of ['three', 'six', 'ten', 'one']) read(text)
  t.strictSame(made, ['one', 'two', 'three', 'three', 'six', 'ten', 'one'])
  t.not(read('one'), one, 'when it is full it begins anew')
  t.end()
})

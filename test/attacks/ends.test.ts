import { mkdtempSync, renameSync } from 'node:fs'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { createCertificates } from '../support/certificates.ts'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'
import type { Handler } from '../support/upstream.ts'

// RATE-6, AUD-1, HTTP-4: whoever leaves, holds on or breaks off in the middle, holds nothing of ours.

const PATIENT = '{"resourceType":"Patient","id":"p1"}'
type Gateway = Awaited<ReturnType<typeof startGateway>>

/** A connection with all that came on it. */
type Wire = Socket & { said: string }

async function open({ port }: Gateway, isTls = false): Promise<Wire> {
  return new Promise((resolve) => {
    const options = { port, host: '127.0.0.1', allowHalfOpen: true }
    const socket = isTls
      ? connectTls({ ...options, rejectUnauthorized: false }, () => resolve(wire))
      : connect(options, () => resolve(wire))
    const wire = Object.assign(socket, { said: '' })
    socket.on('data', (piece: Buffer) => (wire.said += piece.toString('latin1')))
    socket.on('error', () => undefined)
  })
}

const get = (token: string, path: string): string =>
  `GET /fhir${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`
const underWay = async (gateway: Gateway): Promise<number> =>
  Number(/^fhirewall_exchanges_under_way(?:\{.*\})? (\d+)$/m.exec(await gateway.metrics())?.[1])
/** However busy the machine is; whoever never does is ended by the limit of the test. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await wait(10)
}

const entry = `{"resource":{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"},"note":[{"text":"${'x'.repeat(1000)}"}]}}`
const bundle = (count: number): string =>
  `{"resourceType":"Bundle","type":"searchset","entry":[${Array(count).fill(entry).join()}]}`

const CHUNKED = 'Content-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n'
/** A create, and what comes behind its token. */
const post = (token: string, rest = CHUNKED): string =>
  get(token, '/Observation').replace('GET', 'POST').slice(0, -2) + rest

t.test('CONNECT, and gone at once or never: the process stays, and can be stopped', async (t) => {
  const gateway = await startGateway({ handler: json(PATIENT) })
  for (let n = 0; n < 40; n++) {
    const socket = await open(gateway)
    socket.write('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
    if (n % 2 === 0) setImmediate(() => socket.resetAndDestroy())
    else setTimeout(() => socket.resetAndDestroy(), n % 10)
  }
  const held = await open(gateway)
  held.write('CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n')
  await until(() => held.said !== '')
  t.match(held.said, /^HTTP\/1\.1 405 /)
  const token = await gateway.token({ scope: 'patient/*.r', patient: 'p1' })
  const headers = { authorization: `Bearer ${token}` }
  t.equal((await fetch(`${gateway.url}/Patient/p1`, { headers })).status, 200)
  await gateway.close()
  t.pass('with one of them held open')
  held.destroy()
})

t.test('an answer that is let go of gives its connection back', async (t) => {
  const large = `{"resourceType":"Patient","id":"p1","note":"${'x'.repeat(4_000_000)}"}`
  const created = large.replace('"Patient"', '"Observation"')
  const ways: readonly [
    what: string,
    status: number,
    type: string,
    method: string,
    body: string,
  ][] = [
    ['of another type', 200, 'text/html', 'GET', large],
    ['a failure', 500, 'application/fhir+json', 'GET', large],
    ['not found', 404, 'application/fhir+json', 'GET', large],
    ['of a create that may not be read', 201, 'application/fhir+json', 'POST', created],
  ]
  for (const [what, status, type, method, body] of ways) {
    const gateway = await startGateway({
      config: { upstream: { connections: 1 } },
      handler: (_request, response) =>
        response.writeHead(status, { 'content-type': type }).end(body),
    })
    const token = await gateway.token({ scope: 'patient/*.c patient/Patient.r', patient: 'p1' })
    const statuses: number[] = []
    for (let n = 0; n < 3; n++) {
      const sent = '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}'
      const headers = {
        authorization: `Bearer ${token}`,
        ...(method === 'POST' ? { 'content-type': 'application/fhir+json' } : {}),
      }
      const answer = await fetch(
        `${gateway.url}/${method === 'POST' ? 'Observation' : 'Patient/p1'}`,
        method === 'POST' ? { method, headers, body: sent } : { headers },
      )
      statuses.push(answer.status)
      await answer.text()
    }
    t.equal(new Set(statuses).size, 1, `${what}: ${statuses.join()}`)
    t.equal(gateway.upstream.received.length, 3, what)
    await gateway.close()
  }
})

t.test('who takes nothing of its answer gives the connection to upstream back', async (t) => {
  const gateway = await startGateway({
    config: { upstream: { connections: 1 }, limits: { stalledSeconds: 0.3 } },
    handler: (request, response, raw) => {
      json(request.target.includes('Patient/') ? PATIENT : bundle(15_000))(request, response, raw)
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const stalled = await open(gateway)
  stalled.write(get(token, '/Observation'))
  stalled.once('data', () => stalled.pause())
  await until(() => stalled.said !== '')
  const headers = { authorization: `Bearer ${token}` }
  t.equal((await fetch(`${gateway.url}/Patient/p1`, { headers })).status, 200)
  await until(async () => (await underWay(gateway)) === 0)
  t.match(await gateway.auditText(), '"aborted"')
  stalled.destroy()
})

const LARGE = `{"resourceType":"Patient","id":"p1","name":[{"text":"${'x'.repeat(8_000_000)}"}]}`
const SMALL = '{"resourceType":"Observation","id":"o1","subject":{"reference":"Patient/p1"}}'
const handler: Handler = (request, response, raw) => {
  json(request.target.endsWith('p1') ? LARGE : SMALL)(request, response, raw)
}
const lengths = (said: string): number[] =>
  [...said.matchAll(/content-length: (\d+)/gi)].map(([, length]) => Number(length))

t.test('who takes nothing of whole answers is cut off, and counts until then', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-ends-'))
  const { cert, key } = createCertificates(folder).issue('server')
  for (const tls of [{}, { certificateFile: cert, keyFile: key }]) {
    const gateway = await startGateway({
      config: {
        tls,
        upstream: { bufferBytes: 16_000_000 },
        limits: { stalledSeconds: 1, undeliveredBytes: 10_000_000 },
      },
      handler,
    })
    const token = await gateway.token({ scope: 'patient/*.r', patient: 'p1' })
    const stalled: Wire[] = []
    for (let n = 0; n < 2; n++) {
      const wire = await open(gateway, 'keyFile' in tls)
      // Of the second nothing goes out while the first is not taken.
      wire.pause().write(get(token, '/Patient/p1').repeat(2))
      stalled.push(wire)
    }
    const other = await open(gateway, 'keyFile' in tls)
    const ask = async (): Promise<string> => {
      other.said = ''
      other.write(get(token, '/Observation/o1'))
      await until(() => other.said.endsWith('}'))
      return other.said
    }
    await until(async () => /^HTTP\/1\.1 503 .*retry-after: .*"overloaded"/is.test(await ask()))
    // As soon as they are cut off, nothing of them counts any more.
    await until(async () => (await ask()).startsWith('HTTP/1.1 200 '))
    for (const wire of stalled) {
      wire.resume()
      await until(() => wire.readableEnded || wire.destroyed)
      t.ok(wire.said.length < LARGE.length, 'cut')
    }
    other.destroy()
    await gateway.close()
  }
})

t.test(
  'who takes nothing of whole answers is refused alone, beyond a share (RATE-6)',
  async (t) => {
    const gateway = await startGateway({
      config: {
        upstream: { bufferBytes: 9_000_000 },
        limits: { stalledSeconds: 60, undeliveredBytes: 100_000_000, share: 0.1 },
      },
      handler,
    })
    t.teardown(() => gateway.close())
    const [anna, berta] = await Promise.all(
      ['anna', 'berta'].map(async (sub) =>
        gateway.token({ scope: 'patient/*.r', patient: 'p1', sub }),
      ),
    )
    const stalled = await Promise.all([open(gateway), open(gateway)])
    for (const wire of stalled) wire.pause().write(get(anna!, '/Patient/p1'))
    const ask = async (token: string): Promise<Response> =>
      fetch(`${gateway.url}/Observation/o1`, { headers: { authorization: `Bearer ${token}` } })
    await until(async () => (await ask(anna!)).status === 429)
    t.match((await ask(anna!)).headers.get('retry-after'), /^[1-9]\d*$/)
    t.equal((await ask(berta!)).status, 200)
    for (const wire of stalled) wire.destroy()
    await until(async () => (await ask(anna!)).status === 200)
  },
)

t.test('who takes its answers slowly gets all of them', async (t) => {
  const gateway = await startGateway({
    config: { upstream: { bufferBytes: 16_000_000 }, limits: { stalledSeconds: 2 } },
    handler,
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.r', patient: 'p1' })
  const slow = await open(gateway)
  slow.write(get(token, '/Patient/p1') + get(token, '/Observation/o1'))
  // Four seconds for the first, behind which the second waits: longer than anybody may stall.
  slow.on('data', () => {
    slow.pause()
    setTimeout(() => slow.resume(), 30)
  })
  await until(() => slow.said.endsWith(SMALL) || slow.readableEnded || slow.destroyed)
  t.strictSame(lengths(slow.said), [LARGE.length, SMALL.length])
  slow.destroy()
})

t.test('who leaves while it waits for a connection to upstream is let go of at once', async (t) => {
  const held: (() => void)[] = []
  const gateway = await startGateway({
    config: { upstream: { connections: 1 } },
    handler: (request, response, raw) => {
      held.push(() => {
        json(PATIENT)(request, response, raw)
      })
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.r', patient: 'p1' })
  const first = await open(gateway)
  first.write(get(token, '/Patient/p1'))
  await until(() => held.length > 0)
  const others = await Promise.all(Array.from({ length: 5 }, async () => open(gateway)))
  for (const one of others) one.write(get(token, '/Patient/p1'))
  await until(async () => (await underWay(gateway)) === 6)
  for (const one of others) one.resetAndDestroy()
  await until(async () => (await underWay(gateway)) === 1)
  t.equal((await gateway.audit()).length, 5)
  for (const answer of held) answer()
  await until(() => first.said !== '')
  t.equal(gateway.upstream.received.length, 1)
  first.destroy()
})

t.test('an answer that could not be recorded does not look whole (AUD-1)', async (t) => {
  const file = join(mkdtempSync(join(tmpdir(), 'fhirewall-ends-')), 'audit.jsonl')
  const text = bundle(3000)
  const ends: (() => void)[] = []
  const gateway = await startGateway({
    config: { audit: { file } },
    handler: (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/fhir+json' })
      response.write(text.slice(0, 2_000_000))
      ends.push(() => response.end(text.slice(2_000_000)))
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const wire = await open(gateway)
  wire.write(get(token, '/Observation'))
  await until(() => wire.said.length > 100_000)
  renameSync(file, `${file}.away`)
  await until(async () => (await fetch(`${gateway.adminUrl}/readyz`)).status !== 200)
  for (const end of ends) end()
  await new Promise((resolve) => wire.once('close', resolve).once('end', () => wire.end()))
  t.match(wire.said, /^HTTP\/1\.1 200 /)
  t.notOk(wire.said.endsWith('0\r\n\r\n'), 'cut, not ended')
})

t.test('a stop lets answers on their way arrive, and records who waits (AUD-1)', async (t) => {
  const whole = `{"resourceType":"Patient","id":"p1","name":[{"text":"${'x'.repeat(8_000_000)}"}]}`
  const gateway = await startGateway({
    config: { upstream: { bufferBytes: 16_000_000 }, shutdownSeconds: 20 },
    handler: json(whole),
  })
  const token = await gateway.token({ scope: 'patient/*.r', patient: 'p1' })
  const slow = await open(gateway)
  slow.once('data', () => slow.pause())
  slow.write(get(token, '/Patient/p1'))
  await until(() => slow.said !== '')
  setTimeout(() => slow.resume(), 300)
  await gateway.close()
  await until(() => slow.readableEnded)
  const length = Number(/content-length: (\d+)/i.exec(slow.said)?.[1])
  t.equal(slow.said.length - slow.said.indexOf('\r\n\r\n') - 4, length)
})

t.test('after the last words nobody holds a connection, or a place', async (t) => {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: { limits: { requestTimeoutSeconds: 0.5, concurrent: 3 } },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cru', patient: 'p1' })
  const wires = await Promise.all(Array.from({ length: 6 }, async () => open(gateway)))
  const begun = 'Content-Type: application/fhir+json\r\nContent-Length: 1000\r\n\r\n{'
  for (const [n, wire] of wires.entries()) {
    wire.write(n < 3 ? post(token, begun) : 'GARBAGE\r\n\r\n')
  }
  // Each keeps its own half open, for as long as it likes.
  await until(() => wires.every((wire) => wire.readableEnded))
  await until(async () => (await underWay(gateway)) === 0)
  // What is sent to a connection that nobody holds any more ends it.
  await until(() => {
    for (const wire of wires) if (!wire.destroyed) wire.write('x')
    return wires.every((wire) => wire.destroyed)
  })
  const headers = { authorization: `Bearer ${token}` }
  t.equal((await fetch(`${gateway.url}/Patient/p1`, { headers })).status, 200)
})

const piece = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`

t.test('a body in pieces of a byte takes as much memory as another (RATE-6)', async (t) => {
  const gateway = await startGateway({ handler: json('', 201) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.cru', patient: 'p1' })
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc') as () => void
  const held = (): number => {
    collectGarbage()
    return process.memoryUsage().heapUsed
  }
  const wires = await Promise.all(Array.from({ length: 4 }, async () => open(gateway)))
  const before = held()
  for (const wire of wires) wire.write(post(token) + piece(' ').repeat(60_000))
  await until(() => wires.every((wire) => wire.writableLength === 0))
  // Read by the gateway as well: it reads some of each between two others.
  for (let n = 0; n < 100; n++) await (await fetch(`${gateway.adminUrl}/livez`)).text()
  t.ok(held() - before < 24_000_000, `${held() - before} bytes for 240 000`)
  const text =
    '{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"}}'
  for (const wire of wires) wire.write(`${piece(text)}0\r\n\r\n`)
  await until(() => wires.every((wire) => wire.said.startsWith('HTTP/1.1 201 ')))
  t.ok(gateway.upstream.received.every(({ body }) => body.toString().trim() === text))

  // A piece of a byte costs as much time as one of a thousand.
  const endless = await open(gateway)
  endless.write(post(token) + piece(' ').repeat(200_000))
  await until(() => endless.said.startsWith('HTTP/1.1 413 '))
  for (const wire of [...wires, endless]) wire.destroy()
})

t.test('who is answered before its body has come keeps nobody busy with it (RATE-6)', async (t) => {
  const gateway = await startGateway({ handler: json(PATIENT) })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const other = await gateway.token({ scope: 'patient/*.cru', patient: 'p1' })
  const part = piece('x'.repeat(65_536))
  for (const [what, head, status] of [
    ['no token', `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\n${CHUNKED}`, 401],
    ['an interaction that is none', `POST /fhir/a/b/c HTTP/1.1\r\nHost: x\r\n${CHUNKED}`, 404],
    ['nothing of ours', `POST /other HTTP/1.1\r\nHost: x\r\n${CHUNKED}`, 404],
    ['what anybody may ask', `GET /fhir/metadata HTTP/1.1\r\nHost: x\r\n${CHUNKED}`, 200],
    ['a body where none belongs', get(token, '/Patient/p1').slice(0, -2) + CHUNKED, 400],
    ['more than is taken', post(other) + part.repeat(200), 413],
  ] as const) {
    const wire = await open(gateway)
    wire.write(head + part)
    await until(() => wire.said !== '' || wire.destroyed)
    t.match(wire.said, new RegExp(`^HTTP/1.1 ${status} `), what)
    // For as long as the gateway takes it.
    while (!wire.destroyed && wire.bytesWritten < 200_000_000) {
      wire.write(part)
      await until(() => wire.writableLength === 0 || wire.destroyed)
    }
    t.ok(wire.destroyed, `${what}: ${wire.bytesWritten} bytes`)
  }

  // Who sends no more than a little gets its next answer on the same connection.
  const wire = await open(gateway)
  wire.write(`POST /fhir/Observation HTTP/1.1\r\nHost: x\r\n${CHUNKED}`)
  await until(() => wire.said.startsWith('HTTP/1.1 401 '))
  wire.write(`${piece('x'.repeat(60_000))}0\r\n\r\n${get(token, '/Patient/p1')}`)
  await until(() => /HTTP\/1\.1 200 [^]*"p1"/.test(wire.said) || wire.destroyed)
  t.notOk(wire.destroyed)
  wire.write(get(token, '/Patient/p1'))
  await until(() => wire.said.split('HTTP/1.1 200 ').length === 3)
  wire.destroy()
})

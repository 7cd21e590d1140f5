import {
  readFileSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { Agent, request } from 'node:https'
import { connect as connectPlain } from 'node:net'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, TLSSocket } from 'node:tls'
import type { ConnectionOptions } from 'node:tls'
import fc from 'fast-check'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { watchListenerCertificate } from '../../src/adapters/listener-certificate.ts'
import { configSchema } from '../../src/config/schema.ts'
import { createWayReader } from '../../src/http/forwarded.ts'
import { createCertificates } from '../support/certificates.ts'
import { startGateway } from '../support/gateway.ts'
import { until } from '../support/redis.ts'
import { json } from '../support/upstream.ts'

// The listener (AUTHN-20, HTTP-3, HTTP-5): TLS of our own, and what is answered without.
const PATIENT = '{"resourceType":"Patient","id":"p1"}'
const CLAIMS = { scope: 'patient/*.rs', patient: 'p1' }
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-listener-'))
const certificates = createCertificates(folder)
const strangers = createCertificates(folder, 'strangers')
const ca = readFileSync(certificates.ca)
const first = certificates.issue('first')

async function setUp(tls: Record<string, unknown> = {}, more: Record<string, unknown> = {}) {
  const gateway = await startGateway({
    handler: json(PATIENT),
    config: { tls: { certificateFile: first.cert, keyFile: first.key, ...tls }, ...more },
  })
  const authorization = `Bearer ${await gateway.token(CLAIMS)}`
  const read = async (
    agent: Agent,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; hsts: unknown; serial: string | undefined }> =>
    new Promise((resolve, reject) => {
      const asked = request(`${gateway.url}/Patient/p1`, {
        agent,
        headers: { authorization, ...headers },
      })
      asked.on('error', reject)
      asked.on('response', (answer) => {
        const { socket } = answer
        const serial = socket instanceof TLSSocket ? socket.getPeerCertificate().serialNumber : ''
        answer.resume()
        answer.on('error', reject)
        answer.on('end', () => {
          const hsts = answer.headers['strict-transport-security']
          resolve({ status: answer.statusCode ?? 0, hsts, serial })
        })
      })
      asked.end()
    })
  return { gateway, read, authorization }
}

/** What becomes of a handshake: the protocol, or the error. */
async function shake(port: number, options: ConnectionOptions): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, ca, ...options })
    socket.on('secureConnect', () => {
      // With TLS 1.3 the server may still refuse the client's certificate; only an answer is proof.
      socket.write('GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    })
    socket.on('data', () => {
      resolve(socket.getProtocol() ?? '')
      socket.destroy()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.on('close', () => resolve('closed'))
  })
}

t.test('versions and ciphers: nothing older than TLS 1.2 (AUTHN-20)', async (t) => {
  const { gateway, read } = await setUp()
  const newer = await setUp({ minimumVersion: 1.3 })
  t.teardown(async () => {
    await gateway.close()
    await newer.gateway.close()
  })
  const old = { ciphers: 'DEFAULT@SECLEVEL=0', minVersion: 'TLSv1' } as const
  const two = { maxVersion: 'TLSv1.2' } as const
  for (const [what, port, options, expected] of [
    ['1.0', gateway.port, { ...old, maxVersion: 'TLSv1' }, /ERR_SSL|ECONNRESET|closed/],
    ['1.1', gateway.port, { ...old, maxVersion: 'TLSv1.1' }, /ERR_SSL|ECONNRESET|closed/],
    ['1.2', gateway.port, two, /^TLSv1\.2$/],
    ['1.3', gateway.port, {}, /^TLSv1\.3$/],
    ['1.2 where 1.3 is least', newer.gateway.port, two, /ERR_SSL|ECONNRESET|closed/],
    ['no forward secrecy', gateway.port, { ...two, ciphers: 'AES128-GCM-SHA256' }, /ERR_SSL|ECONN/],
    ['no AEAD', gateway.port, { ...two, ciphers: 'ECDHE-ECDSA-AES128-SHA' }, /ERR_SSL|ECONN/],
  ] as const) {
    t.match(await shake(port, options), expected, what)
  }
  const { status, hsts } = await read(new Agent({ ca }))
  t.equal(status, 200)
  t.equal(hsts, 'max-age=31536000', 'HTTP-5')
  t.match(await gateway.metrics(), /fhirewall_listener_certificate_remaining_seconds [1-9]\d{4}/)
  const plain = await gateway.raw('GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n\r\n')
  t.notMatch(plain, /HTTP\/1\.1 [23]/, 'plain HTTP is neither answered nor redirected')
})

t.test('client certificates: none, request, require (AUTHN-13)', async (t) => {
  const mine = certificates.issue('client')
  const theirs = strangers.issue('stranger')
  const pair = ({ cert, key }: typeof mine) => ({
    cert: readFileSync(cert),
    key: readFileSync(key),
  })
  const rows = [
    ['none', 'TLSv1.3', 'TLSv1.3', 'TLSv1.3'],
    ['request', 'TLSv1.3', 'TLSv1.3', 'TLSv1.3'],
    ['require', /ERR_SSL|ECONN|closed/, 'TLSv1.3', /ERR_SSL|ECONN|closed/],
  ] as const
  for (const [clientCertificates, without, own, foreign] of rows) {
    const { gateway } = await setUp({ clientCertificates, clientCaFile: certificates.ca })
    t.match(await shake(gateway.port, {}), without, `${clientCertificates}: without`)
    t.match(await shake(gateway.port, pair(mine)), own, `${clientCertificates}: of our authority`)
    t.match(await shake(gateway.port, pair(theirs)), foreign, `${clientCertificates}: of another`)
    await gateway.close()
  }
})

t.test(
  'a proxy that was reached in plain is refused over TLS, too; garbage ends nothing',
  async (t) => {
    const { gateway, read } = await setUp({}, { trustedProxies: ['127.0.0.1/32'] })
    t.teardown(() => gateway.close())
    t.equal((await read(new Agent({ ca }), { 'x-forwarded-proto': 'https' })).status, 200)
    t.equal((await read(new Agent({ ca }), { 'x-forwarded-proto': 'http' })).status, 403)
    const records = (await gateway.audit()).length
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), fc.boolean(), async (bytes, isHello) => {
        await new Promise<void>((done) => {
          const socket = connectPlain(gateway.port, '127.0.0.1', () => {
            // The begin of a real handshake takes the rest further in.
            if (isHello) socket.write(Buffer.from('160301020001', 'hex'))
            socket.end(bytes)
          })
          socket.on('error', () => undefined)
          socket.on('close', () => done())
          socket.resume()
        })
      }),
      { numRuns: 200 },
    )
    t.equal((await read(new Agent({ ca }))).status, 200)
    t.equal((await gateway.audit()).length, records + 1, 'and fills no audit log')
  },
)

t.test('authorities of no use are not taken, nor started with (AUTHN-13)', async (t) => {
  const good = readFileSync(certificates.ca, 'utf8')
  const clientCaFile = join(folder, 'client-authorities.pem')
  const load = () =>
    watchListenerCertificate(
      configSchema.shape.tls.parse({
        ...{ certificateFile: first.cert, keyFile: first.key },
        ...{ clientCertificates: 'require', clientCaFile },
      }),
      { log: { debug() {}, info() {}, warn() {}, error() {} } },
    )
  for (const [what, content] of Object.entries({
    nothing: '',
    garbage: 'garbage',
    'half of one': good.slice(0, 300),
    'one and half of another': good + good.slice(0, 300),
    'a certificate that is none': good.replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA'),
    'a key': readFileSync(first.key, 'utf8'),
  })) {
    writeFileSync(clientCaFile, content)
    t.throws(load, /^tls: /, what)
  }
  writeFileSync(clientCaFile, `# ours\n${good}${readFileSync(strangers.ca, 'utf8')}`)
  load()?.close()
})

t.test('a connection that never shakes hands does not keep a stop from ending', async (t) => {
  const { gateway, read } = await setUp()
  const idle = connectPlain(gateway.port, '127.0.0.1')
  const ended = new Promise((done) => idle.on('close', done))
  idle.on('error', () => undefined)
  await read(new Agent({ ca }))
  await gateway.close()
  await ended
  t.pass('the stop ended, and the connection with it')
  const { tls } = configSchema.pick({ tls: true }).parse({
    tls: { certificateFile: certificates.ca, keyFile: first.key },
  })
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  t.throws(
    () => watchListenerCertificate(tls, { log }),
    /^tls: /,
    'no start with a pair that does not fit',
  )
})

t.test('a new certificate under load: no request is lost, a bad one is not taken', async (t) => {
  // As kubelet mounts a Secret: files are links through ..data, which is swapped in one step.
  const mount = join(folder, 'mount')
  mkdirSync(mount)
  let version = 0
  const swap = (cert: string, key: string): void => {
    const next = join(mount, `..${++version}`)
    mkdirSync(next)
    copyFileSync(cert, join(next, 'tls.crt'))
    copyFileSync(key, join(next, 'tls.key'))
    symlinkSync(next, join(mount, '..new'))
    renameSync(join(mount, '..new'), join(mount, '..data'))
  }
  swap(first.cert, first.key)
  const [certificateFile, keyFile] = [join(mount, 'tls.crt'), join(mount, 'tls.key')]
  symlinkSync(join(mount, '..data', 'tls.crt'), certificateFile)
  symlinkSync(join(mount, '..data', 'tls.key'), keyFile)
  const { gateway, read } = await setUp({ certificateFile, keyFile })
  t.teardown(() => gateway.close())

  const kept = new Agent({ ca, keepAlive: true, maxSockets: 1 })
  const begun = await read(kept)
  let isOver = false
  let answered = 0
  const serials = new Set<string>()
  const failures: unknown[] = []
  const load = Array.from({ length: 8 }, async (_, n) => {
    while (!isOver) {
      // Half of them on a new connection each time, in the very moment of the change, too.
      const agent = new Agent({ ca, keepAlive: n % 2 === 0 })
      for (let m = 0; m < 5; m++) {
        const done = await read(agent).catch((error: unknown) => failures.push(error))
        if (typeof done === 'number') continue
        if (done.status !== 200) failures.push(done.status)
        // A resumed session has no certificate to show.
        if (done.serial !== undefined) serials.add(done.serial)
        answered += 1
        await pause(40)
      }
      agent.destroy()
    }
  })
  const metric = async (result: string) =>
    new RegExp(
      `fhirewall_file_reloads_total\\{setting="tls",result="${result}"\\} ([1-9]\\d*)`,
    ).exec(await gateway.metrics())?.[1]

  const second = certificates.issue('second')
  swap(second.cert, first.key)
  await until(async () => (await metric('failed')) === '1')
  t.equal(serials.size, 1, 'a certificate without its key stays out')
  t.match(gateway.log.join('\n'), /^error .*"setting":"tls".*the old stay/m, 'and alarms')

  const past = certificates.issue('past', { to: new Date(Date.now() - 60_000) })
  swap(past.cert, past.key)
  await until(async () => (await metric('failed')) === '2')
  writeFileSync(join(mount, '..data', 'tls.crt'), 'no certificate')
  await until(async () => (await metric('failed')) === '3')
  t.equal(serials.size, 1)

  swap(second.cert, second.key)
  await until(async () => (await metric('reloaded')) === '1')
  const before = answered
  await until(() => serials.size === 2 && answered > before + 50)
  isOver = true
  await Promise.all(load)
  t.strictSame(failures, [], `of ${answered} requests`)
  t.equal((await read(kept)).serial, begun.serial, 'a connection under way goes on as it began')
  t.not((await read(new Agent({ ca }))).serial, begun.serial)
})

t.test('the way of a request: who is believed, and about what (HTTP-3)', async (t) => {
  const read = createWayReader(['10.0.0.0/8', 'fd00::/8'])
  for (const [peer, headers, address, isTrusted, isLocal, cameInPlain] of [
    ['127.0.0.1', {}, '127.0.0.1', false, true, false],
    ['::1', {}, '::1', false, true, false],
    ['::ffff:127.0.0.1', {}, '127.0.0.1', false, true, false],
    ['203.0.113.9', {}, '203.0.113.9', false, false, false],
    ['203.0.113.9', { 'x-forwarded-for': '127.0.0.1' }, '203.0.113.9', false, false, false],
    ['203.0.113.9', { 'x-forwarded-proto': 'https' }, '203.0.113.9', false, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '1.2.3.4' }, '1.2.3.4', true, false, false],
    ['::ffff:10.1.1.1', { 'x-forwarded-for': '1.2.3.4' }, '1.2.3.4', true, false, false],
    ['fd00::1', { 'x-forwarded-for': '6.6.6.6, 1.2.3.4,10.9.9.9' }, '1.2.3.4', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '1.2.3.4, ' }, '10.1.1.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '1.2.3.4:1234' }, '1.2.3.4', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '1.2.3.4:1, 10.9.9.9:2' }, '1.2.3.4', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '[2001:db8::1]:443' }, '2001:db8::1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '[2001:db8::1]' }, '2001:db8::1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '2001:db8::1' }, '2001:db8::1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '[::ffff:1.2.3.4]:443' }, '1.2.3.4', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '1.2.3.4:' }, '10.1.1.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '1.2.3.4:1:2' }, '10.1.1.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '[1.2.3.4]:1' }, '10.1.1.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '[2001:db8::1' }, '10.1.1.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-for': '127.0.0.1' }, '127.0.0.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-proto': 'http' }, '10.1.1.1', true, false, true],
    ['10.1.1.1', { 'x-forwarded-proto': 'https' }, '10.1.1.1', true, false, false],
    ['10.1.1.1', { 'x-forwarded-proto': 'https, http' }, '10.1.1.1', true, false, true],
    ['10.1.1.1', { 'x-forwarded-proto': ['https', 'HTTPS'] }, '10.1.1.1', true, false, false],
    ['', {}, '', false, false, false],
  ] as const) {
    const way = { address, isTrusted, isLocal, cameInPlain }
    t.strictSame(read(peer, headers as never), way, JSON.stringify([peer, headers]))
  }
})

const hasIpv6 = Object.values(networkInterfaces())
  .flat()
  .some((each) => each?.address === '::1')

t.test(
  'where it listens is a URL, with IPv6 too',
  { skip: hasIpv6 ? false : 'needs IPv6' },
  async (t) => {
    const gateway = await startGateway({
      handler: json(PATIENT),
      config: { host: '::1', admin: { host: '::1', port: 0 } },
    })
    t.teardown(() => gateway.close())
    t.match(gateway.url, /^http:\/\/\[::1\]:\d+\/fhir$/)
    const authorization = `Bearer ${await gateway.token(CLAIMS)}`
    t.equal((await fetch(`${gateway.url}/Patient/p1`, { headers: { authorization } })).status, 200)
    t.equal((await fetch(`${gateway.adminUrl}/livez`)).status, 200)
  },
)

t.test('plain HTTP is refused, not redirected, and nothing of it goes up (AUTHN-20)', async (t) => {
  const outer = Object.values(networkInterfaces())
    .flat()
    .find((each) => each?.family === 'IPv4' && !each.internal)?.address
  const near = { trustedProxies: ['127.0.0.1/32'] }
  const open = { host: '0.0.0.0' }
  const plain = { 'x-forwarded-proto': 'http' }
  for (const [what, config, from, headers, status] of [
    ['from this machine', {}, '127.0.0.1', {}, 200],
    ['from this machine, whatever it says', {}, '127.0.0.1', plain, 200],
    ['by a proxy', near, '127.0.0.1', { 'x-forwarded-proto': 'https' }, 200],
    ['by a proxy that was reached in plain', near, '127.0.0.1', plain, 403],
    ['from elsewhere', open, outer, {}, 403],
    ['from elsewhere, spoofed', open, outer, { 'x-forwarded-proto': 'https' }, 403],
    ['from elsewhere, spoofed', open, outer, { forwarded: 'proto=https;for=127.0.0.1' }, 403],
    ['a proxy nobody gets past', { ...open, tls: { terminatedBy: 'proxy' } }, outer, {}, 200],
    ['declared as open', { ...open, tls: { terminatedBy: 'none' } }, outer, {}, 200],
  ] as const) {
    if (from === undefined) {
      t.comment(`${what}: this machine has no other address to come from`)
      continue
    }
    const gateway = await startGateway({ handler: json(PATIENT), config })
    const authorization = `Bearer ${await gateway.token(CLAIMS)}`
    for (const target of ['/Patient/p1', '/Patient/p1?_pretty=true', '/metadata']) {
      const url = `http://${from}:${gateway.port}/fhir${target}`
      const answer = await fetch(url, {
        headers: { authorization, ...headers },
        redirect: 'manual',
      })
      const text = await answer.text()
      t.equal(answer.status, status, `${what}: ${target}`)
      t.notOk(answer.headers.has('location'))
      t.notOk(answer.headers.has('strict-transport-security'), 'RFC 6797 §7.2')
      if (status !== 403) continue
      t.match(text, /"code":"tls-required"/)
      t.equal(answer.headers.get('connection'), 'close')
    }
    if (status === 403) {
      t.strictSame(gateway.upstream.received, [], what)
      t.match(await gateway.auditText(), /tls-required/, 'and is recorded')
    }
    await gateway.close()
  }
})

import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// One case for each known trouble of the packages under the transport (pitfalls §3, by package).
const PATIENT = '{"resourceType":"Patient","id":"p1"}'
const CLAIMS = { scope: 'patient/*.cruds', patient: 'p1' }
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms))

async function setUp(options: Parameters<typeof startGateway>[0] = {}) {
  const gateway = await startGateway({ handler: json(PATIENT), ...options })
  const auth = { authorization: `Bearer ${await gateway.token(CLAIMS)}` }
  const read = async (headers: Record<string, string> = {}) => {
    const answer = await fetch(`${gateway.url}/Patient/p1`, { headers: { ...auth, ...headers } })
    return { status: answer.status, headers: answer.headers, text: await answer.text() }
  }
  return { gateway, auth, read }
}

t.test('reply-from: a 503 is asked once, and Retry-After is no order', async (t) => {
  const { gateway, read } = await setUp({
    handler: json('{"resourceType":"OperationOutcome"}', 503, { 'retry-after': '2' }),
  })
  t.teardown(() => gateway.close())
  const { status, headers } = await read()
  t.equal(status, 503)
  t.match(headers.get('retry-after'), /^\d+$/)
  t.equal(gateway.upstream.received.length, 1, 'never eleven times')
})

t.test('reply-from: the query of the client is not appended to a target without one', async (t) => {
  const { gateway, auth } = await setUp({
    handler: json('{"resourceType":"Bundle","type":"searchset"}'),
  })
  t.teardown(() => gateway.close())
  for (const target of ['/Patient/p1?_format=json&_pretty=true', '/Patient/_search?name=a']) {
    gateway.upstream.received.length = 0
    const isForm = target.includes('_search')
    const headers = isForm ? { ...auth, 'content-type': 'application/x-www-form-urlencoded' } : auth
    await (await fetch(gateway.url + target, { method: isForm ? 'POST' : 'GET', headers })).text()
    t.notMatch(gateway.upstream.received[0]?.target, /\?/, target)
  }
})

t.test(
  'reply-from: Keep-Alive, Upgrade, Expect and Connection-listed names change nothing',
  async (t) => {
    const { gateway, auth } = await setUp()
    t.teardown(() => gateway.close())
    for (const line of [
      'Keep-Alive: timeout=5, max=1000',
      'Upgrade: websocket\r\nConnection: upgrade',
      'Connection: x-request-id, host, accept, authorization',
      'Proxy-Connection: keep-alive',
      'TE: trailers, deflate',
    ]) {
      gateway.upstream.received.length = 0
      const answer = await gateway.raw(
        `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth.authorization}\r\n${line}\r\nConnection: close\r\n\r\n`,
      )
      t.match(answer, /^HTTP\/1\.1 (?:200|4\d\d) /, line)
      t.notMatch(answer, /undici|FST_|UND_ERR/, line)
      for (const { headers } of gateway.upstream.received) {
        t.strictSame(
          Object.keys(headers).sort(),
          ['accept', 'accept-encoding', 'connection', 'host', 'via', 'x-request-id'],
          line,
        )
      }
    }
  },
)

t.test('http-proxy #314: a websocket is not opened to upstream', async (t) => {
  const { gateway, auth } = await setUp()
  t.teardown(() => gateway.close())
  const answer = await gateway.raw(
    `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth.authorization}\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n`,
  )
  t.notMatch(answer, / 101 /)
  for (const { headers } of gateway.upstream.received) t.notOk('upgrade' in headers)
})

t.test(
  'http-proxy #460: refused connections in quick succession do not end the process',
  async (t) => {
    const { gateway, read } = await setUp({ upstreamUrl: 'http://127.0.0.1:1/base' })
    t.teardown(() => gateway.close())
    const answers = await Promise.all(Array.from({ length: 50 }, () => read()))
    for (const { status, text } of answers) {
      t.equal(status, 502)
      t.notMatch(text, /ECONNREFUSED|127\.0\.0\.1:1\b/)
    }
    t.equal((await fetch(`${gateway.adminUrl}/livez`)).status, 200)
  },
)

t.test('http-proxy #474: after a large body the connection still serves', async (t) => {
  const { gateway, auth } = await setUp()
  t.teardown(() => gateway.close())
  const body = `{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"note":[{"text":"${'x'.repeat(3_000_000)}"}]}`
  const head = (method: string, target: string, more = '') =>
    `${method} ${target} HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth.authorization}\r\n${more}\r\n`
  const answer = await gateway.raw(
    head(
      'POST',
      '/fhir/Observation',
      `Content-Type: application/fhir+json\r\nContent-Length: ${body.length}\r\n`,
    ) +
      body +
      head('GET', '/fhir/Patient/p1', 'Connection: close\r\n'),
  )
  t.equal(answer.match(/HTTP\/1\.1 \d\d\d/g)?.length, 2)
  const written = gateway.upstream.received.find(({ method }) => method === 'POST')
  t.equal(written?.body.toString(), body)
})

t.test('undici: redirects of upstream are not followed, its cookies not kept', async (t) => {
  const { gateway, read } = await setUp({
    handler: (_request, response) => {
      response.writeHead(302, { location: 'http://169.254.169.254/', 'set-cookie': 'a=b' }).end()
    },
  })
  t.teardown(() => gateway.close())
  const { status, text, headers } = await read()
  t.equal(status, 502)
  t.notMatch(text + JSON.stringify([...headers]), /169\.254|a=b/)
  gateway.upstream.answerWith(json(PATIENT))
  await read()
  t.notOk('cookie' in gateway.upstream.received[1]!.headers)
  t.equal(gateway.upstream.received.length, 2)
})

t.test('undici: a connection that upstream closes while idle costs no write twice', async (t) => {
  const { gateway, auth } = await setUp({
    handler: (request, response) => {
      response.writeHead(201, { 'content-type': 'application/fhir+json', connection: 'close' })
      response.end(request.body)
    },
  })
  t.teardown(() => gateway.close())
  const body = '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}'
  for (let n = 0; n < 10; n++) {
    const answer = await fetch(`${gateway.url}/Observation`, {
      method: 'POST',
      headers: { ...auth, 'content-type': 'application/fhir+json' },
      body,
    })
    await answer.text()
    t.equal(answer.status, 201)
    await pause(5)
  }
  t.equal(gateway.upstream.received.length, 10, 'each exactly once')
})

t.test(
  'undici CVE-2026-1525: an upstream with two lengths, or more than it said, is refused',
  async (t) => {
    const said = (head: string, body: string) =>
      `HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\n${head}\r\n\r\n${body}`
    const answers = [
      said(`content-length: ${PATIENT.length}\r\ncontent-length: 5`, PATIENT),
      said('content-length: 5\r\ntransfer-encoding: chunked', `24\r\n${PATIENT}\r\n0\r\n\r\n`),
      said('transfer-encoding: chunked', `zz\r\n${PATIENT}\r\n0\r\n\r\n`),
      'SSH-2.0-OpenSSH_9.9\r\n',
      `HTTP/1.1 200 OK\r\n${'x-a: CANARY\r\n'.repeat(20_000)}\r\n`,
    ]
    let next = ''
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('data', (chunk) => {
        socket.end(String(chunk).includes('/metadata') ? said('content-length: 2', '{}') : next)
      })
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    const { port } = server.address() as AddressInfo
    const { gateway, read } = await setUp({ upstreamUrl: `http://127.0.0.1:${port}/base` })
    t.teardown(async () => {
      await gateway.close()
      for (const socket of sockets) socket.destroy()
      server.close()
    })
    for (const answer of answers) {
      next = answer
      const { status, text } = await read()
      t.equal(status, 502, answer.slice(0, 60))
      t.notMatch(text, /CANARY|OpenSSH|HPE_/)
    }
  },
)

t.test('reply-from: the certificate of upstream is verified', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-tls-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      key,
      '-out',
      cert,
      '-days',
      '1',
      '-subj',
      '/CN=localhost',
      '-addext',
      'subjectAltName=DNS:localhost',
    ],
    { stdio: 'ignore' },
  )
  const received: string[] = []
  const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      received.push(String(chunk))
      socket.end(
        `HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ncontent-length: ${PATIENT.length}\r\nconnection: close\r\n\r\n${PATIENT}`,
      )
    })
  })
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  const cases = [
    ['unknown authority', `https://localhost:${port}/base`, {}, 502],
    ['another name', `https://127.0.0.1:${port}/base`, { upstream: { caFile: cert } }, 502],
    ['as it should be', `https://localhost:${port}/base`, { upstream: { caFile: cert } }, 200],
  ] as const
  for (const [what, upstreamUrl, config, status] of cases) {
    received.length = 0
    const { gateway, read } = await setUp({ upstreamUrl, config })
    received.length = 0
    const { status: found, text } = await read()
    t.equal(found, status, `${what}: ${text}`)
    t.notMatch(text, /certificate|self.signed|ALTNAME/i, what)
    t.equal(received.length, status === 200 ? 1 : 0, `${what}: no byte before the handshake`)
    await gateway.close()
  }
  server.close()
})

t.test('fastify: content types by their letter (CVE-2026-25223, -33806, -3419)', async (t) => {
  const { gateway, auth } = await setUp()
  t.teardown(() => gateway.close())
  for (const type of [
    'application/fhir+json\ta',
    'application/fhir+json; charset=utf-16',
    'application/fhir+json, text/plain',
    'text/plain',
    'application/fhir+xml',
    'application/fhir+json garbage',
    '',
  ]) {
    const answer = await gateway.raw(
      `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth.authorization}\r\nContent-Type: ${type}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}`,
    )
    t.match(answer, /^HTTP\/1\.1 415 /, JSON.stringify(type))
  }
  t.strictSame(gateway.upstream.received, [])
})

/** An upstream of bare bytes: `answerTo` says what is written for each request that arrives. */
async function startBytes(answerTo: (request: string, socket: Socket) => string | undefined) {
  const sockets = new Set<Socket>()
  const requests: string[] = []
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      const request = String(chunk)
      if (!request.includes('/metadata')) requests.push(request)
      const answer = request.includes('/metadata') ? bytesOf('{}') : answerTo(request, socket)
      if (answer !== undefined) socket.write(answer)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/base`,
    requests,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

function bytesOf(body: string, length = body.length): string {
  return `HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ncontent-length: ${length}\r\n\r\n${body}`
}

t.test('undici: bytes behind an answer are never the next caller’s answer', async (t) => {
  const canary = '{"resourceType":"Patient","id":"p1","name":[{"text":"CANARY"}]}'
  for (const [what, poisoned] of [
    ['a second answer', bytesOf(PATIENT) + bytesOf(canary)],
    ['more than its length', bytesOf(PATIENT + bytesOf(canary), PATIENT.length)],
  ] as const) {
    let answers = 0
    const upstream = await startBytes(() => (answers++ === 0 ? poisoned : bytesOf(PATIENT)))
    const { gateway, read } = await setUp({
      upstreamUrl: upstream.url,
      config: { upstream: { connections: 1 } },
    })
    for (let n = 0; n < 5; n++) {
      const { status, text } = await read()
      t.ok(status === 200 || status === 502, `${what}: ${status}`)
      t.notMatch(text, 'CANARY', what)
      if (status === 200) t.equal(text, PATIENT, what)
    }
    t.equal(upstream.requests.length, 5, `${what}: each asked once`)
    await gateway.close()
    upstream.close()
  }
})

t.test('undici #4332: a write on a connection that dies is not written again', async (t) => {
  const upstream = await startBytes((request, socket) => {
    if (request.startsWith('GET ')) return bytesOf(PATIENT)
    // What the keep-alive race looks like from outside: the request arrives, then the end.
    socket.destroy()
    return undefined
  })
  const { gateway, auth, read } = await setUp({
    upstreamUrl: upstream.url,
    config: { upstream: { connections: 1 } },
  })
  t.teardown(async () => {
    await gateway.close()
    upstream.close()
  })
  const body = '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}'
  t.equal((await read()).status, 200, 'the connection is in use')
  const answer = await fetch(`${gateway.url}/Observation`, {
    method: 'POST',
    headers: { ...auth, 'content-type': 'application/fhir+json' },
    body,
  })
  t.equal(answer.status, 502)
  t.notMatch(await answer.text(), /UND_ERR|socket|ECONN/)
  t.equal((await read()).status, 200, 'the next one gets a connection of its own')
  t.equal(upstream.requests.filter((request) => request.startsWith('POST ')).length, 1)
})

t.test('reply-from: a POST that meets 503 or 429 goes up once', async (t) => {
  const { gateway, auth } = await setUp()
  t.teardown(() => gateway.close())
  for (const status of [503, 429, 500, 502, 504, 408]) {
    gateway.upstream.received.length = 0
    gateway.upstream.answerWith(json('{"CANARY":1}', status, { 'retry-after': '0' }))
    const answer = await fetch(`${gateway.url}/Observation`, {
      method: 'POST',
      headers: { ...auth, 'content-type': 'application/fhir+json' },
      body: '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}',
    })
    t.ok(answer.status >= 500, `${status} becomes ${answer.status}`)
    t.notMatch(await answer.text(), 'CANARY')
    t.equal(gateway.upstream.received.length, 1, String(status))
  }
})

t.test('fastify: requests in one piece are judged one by one, trailers by nobody', async (t) => {
  const { gateway, auth } = await setUp()
  t.teardown(() => gateway.close())
  const good = `Host: x\r\nAuthorization: ${auth.authorization}\r\n`
  const smuggled = `GET /fhir/Patient/p1 HTTP/1.1\r\n${good}\r\nGET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`
  const answers = await gateway.raw(smuggled)
  t.strictSame(answers.match(/HTTP\/1\.1 \d\d\d/g), ['HTTP/1.1 200', 'HTTP/1.1 401'])
  t.equal(gateway.upstream.received.length, 1)

  gateway.upstream.received.length = 0
  const body = '{"resourceType":"Observation","subject":{"reference":"Patient/p1"}}'
  const chunk = `${body.length.toString(16)};ext=CANARY\r\n${body}\r\n`
  const head = 'Content-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n'
  await gateway.raw(
    `POST /fhir/Observation HTTP/1.1\r\n${good}${head}Trailer: X-CANARY\r\nConnection: close\r\n\r\n${chunk}0\r\nX-CANARY: 1\r\nIf-None-Exist: code=a\r\n\r\n`,
  )
  const [received] = gateway.upstream.received
  t.equal(received?.body.toString(), body)
  t.notMatch(JSON.stringify(received?.rawHeaders), /CANARY|if-none-exist|trailer/i)
  t.equal(received?.headers['content-length'], String(body.length), 'framed anew')

  gateway.upstream.received.length = 0
  const reframed = await gateway.raw(
    `POST /fhir/Observation HTTP/1.1\r\n${good}${head}Connection: close\r\n\r\n${chunk}0\r\nContent-Length: 5\r\n\r\n`,
  )
  t.match(reframed, /^HTTP\/1\.1 400 /, 'no length after the fact')
  const unauthorised = await gateway.raw(
    `POST /fhir/Observation HTTP/1.1\r\nHost: x\r\n${head}Connection: close\r\n\r\n${chunk}0\r\nAuthorization: ${auth.authorization}\r\n\r\n`,
  )
  t.match(unauthorised, /^HTTP\/1\.1 401 /, 'a token in a trailer is no token')
  t.strictSame(gateway.upstream.received, [])
})

t.test('node: an Expect that nobody knows is ignored, not answered past the spine', async (t) => {
  const { gateway, auth } = await setUp()
  t.teardown(() => gateway.close())
  const ask = (authorization: string) =>
    gateway.raw(
      `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\n${authorization}Expect: CANARY\r\nConnection: close\r\n\r\n`,
    )
  t.match(await ask(''), /^HTTP\/1\.1 401 [^]*OperationOutcome/)
  t.match(await ask(`Authorization: ${auth.authorization}\r\n`), /^HTTP\/1\.1 200 /)
  t.equal((await gateway.audit()).length, 2, 'each is recorded (AUD-1)')
  t.notMatch(JSON.stringify(gateway.upstream.received), 'CANARY')
})

t.test('fastify #7044: open connections do not keep a stop from ending', async (t) => {
  let release = (): void => undefined
  const { gateway, auth } = await setUp({
    handler: (request, response, raw) => {
      // The first is answered during the stop, the second never.
      if (gateway.upstream.received.length === 1)
        release = () => json(PATIENT)(request, response, raw)
    },
    config: { shutdownSeconds: 2 },
  })
  const open = (bytes: string): Promise<string> =>
    new Promise((resolve) => {
      let said = ''
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(bytes))
      socket.on('data', (chunk) => (said += String(chunk)))
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(said))
    })
  const request = `GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nAuthorization: ${auth.authorization}\r\n\r\n`
  const arrived = async (count: number) => {
    while (gateway.upstream.received.length < count) await pause(5)
  }
  const answered = open(request)
  await arrived(1)
  const stuck = open(request)
  await arrived(2)
  const others = [
    open(''),
    open('GET /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nX-A: '),
    open('GET /fhir/none HTTP/1.1\r\nHost: x\r\n\r\n'),
  ]
  while ((await gateway.audit()).length < 1) await pause(5)
  const closed = gateway.close().then(() => 'closed')
  release()
  t.match(await answered, /^HTTP\/1\.1 200 [^]*"id":"p1"\}$/, 'what is under way ends well')
  t.equal(await closed, 'closed', 'and the stop ends, with connections that never would')
  t.equal(await stuck, '', 'which are cut off, with no half answer')
  await Promise.all(others)
})

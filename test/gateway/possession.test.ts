import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, randomUUID, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createTlsServer, request as tlsRequest } from 'node:https'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as openid from 'openid-client'
import t from 'tap'
import { createCertificateReader } from '../../src/adapters/client-certificate.ts'
import { startIdentityProvider } from '../../src/demo/identity-provider.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { createProver } from '../support/prover.ts'
import { json } from '../support/upstream.ts'

// Who holds the key or certificate of a token is let in, and told what is missing (AUTHN-11, 12, 13).

const own = await createProver('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }))
const patient = json('{"resourceType":"Patient","id":"p1"}')
const empty = json('{"resourceType":"Bundle","type":"searchset","entry":[]}')

/** Asks with a proof for what is asked, or as `changes` say. */
async function ask(
  gateway: Awaited<ReturnType<typeof startGateway>>,
  token: string,
  changes: Partial<{
    method: string
    target: string
    url: string
    proof: string
    claims: object
  }> & {
    body?: URLSearchParams
  } = {},
) {
  const { method = 'GET', target = '/Patient/p1', body, claims = {} } = changes
  const { url = PUBLIC_URL + target } = changes
  const proof =
    changes.proof ?? (await own.prove({ method, url, token }, { claims: { ...claims } }))
  const answer = await fetch(gateway.url + target, {
    method,
    headers: { authorization: `DPoP ${token}`, dpop: proof },
    ...(body === undefined ? {} : { body }),
  })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

const scope = { scope: 'patient/*.cruds', patient: 'p1' }
const bound = { ...scope, cnf: { jkt: own.thumbprint } }

t.test('proofs for what is asked, however it is written (AUTHN-11)', async (t) => {
  const gateway = await startGateway({ handler: patient })
  t.teardown(() => gateway.close())
  const token = await gateway.token(bound)
  const search = '/Observation?code=8480-6'
  // prettier-ignore
  const rows: [what: string, request: Parameters<typeof ask>[2]][] = [
    ['a read', {}],
    ['once more', {}],
    ['HEAD', { method: 'HEAD' }],
    ['a query in target and htu', { target: search }],
    ['a query that htu leaves out', { target: search, url: `${PUBLIC_URL}/Observation` }],
    ['another query in htu, and a fragment', { target: search, url: `${PUBLIC_URL}/Observation?x#y` }],
    ['an escape that says the same', { url: `${PUBLIC_URL}/%50atient/p1` }],
    ['scheme in capitals', { url: `${PUBLIC_URL}/Patient/p1`.replace('http', 'HTTP') }],
    ['dot segments to the same', { url: `${PUBLIC_URL}/Patient/x/../p1` }],
    ['a search by POST', { method: 'POST', target: '/Observation/_search', body: new URLSearchParams({ code: 'x' }) }],
    ['iat with a fraction', { claims: { iat: Date.now() / 1000 } }],
    ['claims that nobody asked for', { claims: { x: { y: 1 }, nonce: 'n' } }],
  ]
  for (const [what, request] of rows) {
    gateway.upstream.answerWith(/Patient/.test(request?.target ?? 'Patient') ? patient : empty)
    t.equal((await ask(gateway, token, request)).status, 200, what)
  }
  t.equal(gateway.upstream.received.length, rows.length)
  t.notMatch(JSON.stringify(gateway.upstream.received), /dpop|authorization/i, 'no proof goes on')
  t.notMatch(gateway.log.join('\n'), /eyJ/, 'nor to the log')
})

t.test('a proof goes once, and as often as nobody can tell not at all (AUTHN-11)', async (t) => {
  const time = { now: Date.now() }
  const clock = { now: () => time.now, monotonic: () => performance.now() }
  const config = { dpop: { rememberedProofs: 3, maximumAgeSeconds: 60, clockSkewSeconds: 10 } }
  const gateway = await startGateway({ handler: patient, config, clock })
  t.teardown(() => gateway.close())
  const token = await gateway.token(bound)
  const claims = (): object => ({ iat: Math.floor(time.now / 1000), jti: randomUUID() })
  const proof = await own.prove(
    { method: 'GET', url: `${PUBLIC_URL}/Patient/p1`, token },
    { claims: { ...claims(), iat: Math.floor(time.now / 1000) + 10 } },
  )
  const together = await Promise.all(
    Array.from({ length: 10 }, () => ask(gateway, token, { proof })),
  )
  t.equal(together.filter(({ status }) => status === 200).length, 1, 'one of ten at once')
  t.equal(together.filter(({ status }) => status === 401).length, 9)
  for (const n of [2, 3])
    t.equal((await ask(gateway, token, { claims: claims() })).status, 200, `${n}`)
  const full = await ask(gateway, token, { claims: claims() })
  t.equal(full.status, 503, 'full: refused, nothing forgotten')
  t.match(full.text, 'replay-unavailable')
  t.match(full.headers.get('retry-after'), /^\d+$/)
  t.equal((await ask(gateway, token, { proof })).status, 401)
  time.now += 80_000
  t.equal((await ask(gateway, token, { proof })).status, 401, 'too old before it is forgotten')
  time.now += 2_000
  t.equal((await ask(gateway, token, { claims: claims() })).status, 200, 'room again')
  t.equal(gateway.upstream.received.length, 4)
})

t.test('challenges: what is offered, in the scheme that was used (RFC 9449 §7.1)', async (t) => {
  const common = `realm="${PUBLIC_URL}"`
  const metadata =
    'resource_metadata="http://127.0.0.1:9/.well-known/oauth-protected-resource/fhir"'
  const algs = 'algs="ES256 EdDSA"'
  const bearer = (error = '') => `Bearer ${common}, ${error}${metadata}`
  const dpop = (error = '') => `DPoP ${common}, ${error}${algs}, ${metadata}`
  const [token, proof] = ['error="invalid_token", ', 'error="invalid_dpop_proof", ']
  for (const [requireBound, none, underBearer, required] of [
    ['none', bearer(), bearer(token), false],
    ['mtls', bearer(), bearer(token), false],
    ['any', `${bearer()}, ${dpop()}`, `${bearer(token)}, ${dpop()}`, false],
    ['dpop', dpop(), `${bearer(token)}, ${dpop()}`, true],
  ] as const) {
    const gateway = await startGateway({ config: { dpop: { algorithms: ['ES256', 'EdDSA'] } } })
    const strict = await startGateway({
      config: {
        issuers: [{ url: gateway.issuer.url, requireBound }],
        dpop: { algorithms: ['ES256', 'EdDSA'] },
      },
    })
    t.teardown(() => Promise.all([gateway.close(), strict.close()]))
    const challenge = async (authorization?: string, headers = {}) =>
      (
        await fetch(`${strict.url}/Patient/p1`, {
          headers: { ...(authorization === undefined ? {} : { authorization }), ...headers },
        })
      ).headers.get('www-authenticate')
    t.equal(await challenge(), none, `${requireBound}: no credentials`)
    t.equal(await challenge('Bearer x'), underBearer, `${requireBound}: Bearer`)
    t.equal(await challenge('DPoP x'), dpop(token), `${requireBound}: DPoP`)
    const shown = await gateway.token(requireBound === 'mtls' ? scope : bound)
    const expected = requireBound === 'mtls' ? dpop(token) : dpop(proof)
    t.equal(await challenge(`dpop ${shown}`, { dpop: 'x' }), expected, `${requireBound}: proof`)
    const answer = await fetch(`${strict.url}/.well-known/oauth-protected-resource`)
    t.match(await answer.json(), {
      dpop_signing_alg_values_supported: ['ES256', 'EdDSA'],
      dpop_bound_access_tokens_required: required,
      tls_client_certificate_bound_access_tokens: false,
    })
  }
})

t.test('requireBound: what an issuer must bind its tokens to (AUTHN-12)', async (t) => {
  const header = { trustedProxies: ['127.0.0.1/32'], clientCertificates: { header: 'client-cert' } }
  const certificate = Buffer.from('any bytes are as good as DER here')
  const hashed = (await import('../support/prover.ts')).digest(certificate)
  const bonds: Record<string, object | undefined> = {
    free: undefined,
    key: { jkt: own.thumbprint },
    certificate: { 'x5t#S256': hashed },
    both: { jkt: own.thumbprint, 'x5t#S256': hashed },
  }
  for (const [requireBound, accepted] of [
    ['none', ['free', 'key', 'certificate', 'both']],
    ['dpop', ['key', 'both']],
    ['mtls', ['certificate', 'both']],
    ['any', ['key', 'certificate', 'both']],
  ] as const) {
    const source = await startGateway()
    const config = { issuers: [{ url: source.issuer.url, requireBound }], ...header }
    const gateway = await startGateway({ handler: patient, config })
    t.teardown(() => Promise.all([gateway.close(), source.close()]))
    for (const [name, cnf] of Object.entries(bonds)) {
      const token = await source.token({ ...scope, cnf })
      const scheme = name === 'key' || name === 'both' ? 'DPoP' : 'Bearer'
      const url = `${PUBLIC_URL}/Patient/p1`
      // Twice: what was accepted or refused once is not remembered as such.
      for (const time of ['first', 'second']) {
        const answer = await fetch(`${gateway.url}/Patient/p1`, {
          headers: {
            authorization: `${scheme} ${token}`,
            dpop: await own.prove({ method: 'GET', url, token }),
            'client-cert': `:${certificate.toString('base64')}:`,
          },
        })
        const held = (accepted as readonly string[]).includes(name)
        t.equal(answer.status, held ? 200 : 401, `${requireBound}: ${name}, ${time}`)
        await answer.text()
      }
    }
  }
})

t.test('nonces: given with the refusal, in no one’s way (AUTHN-11, RFC 9449 §9)', async (t) => {
  const config = {
    dpop: { requireNonce: true, nonceKey: Buffer.alloc(32, 7).toString('base64') },
    limits: { failures: { burst: 1, perSecond: 0.001 } },
  }
  const gateway = await startGateway({ handler: patient, config })
  t.teardown(() => gateway.close())
  const token = await gateway.token(bound)
  let nonce = ''
  for (const claims of [{}, { nonce: 'x' }, { nonce: 7 }, { nonce: '' }]) {
    const answer = await ask(gateway, token, { claims })
    t.equal(answer.status, 401)
    t.match(answer.headers.get('www-authenticate'), /^DPoP .*error="use_dpop_nonce"/)
    t.match(answer.text, 'proof-nonce')
    nonce = answer.headers.get('dpop-nonce') ?? ''
    t.match(nonce, /^[\w-]{43}$/)
  }
  t.equal(
    (await ask(gateway, token, { claims: { nonce } })).status,
    200,
    'and no failure was counted',
  )
  t.equal((await ask(gateway, token, { claims: { nonce } })).status, 200, 'a nonce is for many')
  const wrong = await ask(gateway, token, { claims: { nonce, htm: 'POST' } })
  t.match(wrong.headers.get('www-authenticate'), /error="invalid_dpop_proof"/)
  t.notOk(wrong.headers.has('dpop-nonce'), 'no nonce for a proof that is wrong otherwise')
})

t.test('a real provider and a real client: token and nonce as they do it (AUTHN-11)', async (t) => {
  // The client must reach the public URL, which must be known before the gateway listens.
  const target = { port: 0 }
  const edge = createServer((socket) => {
    const behind = connect(target.port, '127.0.0.1')
    socket.pipe(behind).pipe(socket)
    for (const end of [socket, behind]) end.on('error', () => end.destroy())
  })
  await new Promise<void>((done) => edge.listen(0, '127.0.0.1', done))
  const audience = `http://127.0.0.1:${(edge.address() as AddressInfo).port}/fhir`
  const provider = await startIdentityProvider({
    ...{ audience, patientId: 'p1', practitionerId: 'd1', researcherId: 'r1' },
  })
  const gateway = await startGateway({
    handler: patient,
    config: {
      public: { url: audience },
      issuers: [{ url: provider.issuer, requireBound: 'dpop' }],
      dpop: { requireNonce: true },
    },
  })
  target.port = gateway.port
  t.teardown(async () => {
    await gateway.close()
    await provider.close()
    edge.close()
  })
  const client = await openid.discovery(
    new URL(provider.issuer),
    'backend',
    'demo-secret',
    undefined,
    {
      // eslint-disable-next-line @typescript-eslint/no-deprecated -- marked so only to stand out
      execute: [openid.allowInsecureRequests],
    },
  )
  const DPoP = openid.getDPoPHandle(client, await openid.randomDPoPKeyPair('ES256'))
  const grant = await openid.clientCredentialsGrant(client, { scope: 'system/*.rs' }, { DPoP })
  t.equal(grant.token_type, 'dpop')
  const url = new URL(`${audience}/Patient/p1?_format=json`)
  const get = (token: string, headers?: Headers) =>
    openid.fetchProtectedResource(client, token, url, 'GET', undefined, headers, { DPoP })
  for (const time of ['first', 'second']) {
    const answer = await get(grant.access_token)
    t.equal(answer.status, 200, time)
    t.match(await answer.json(), { resourceType: 'Patient', id: 'p1' })
  }
  t.equal(gateway.upstream.received.length, 2)
  const stolen = await fetch(url, { headers: { authorization: `Bearer ${grant.access_token}` } })
  t.equal(stolen.status, 401)
  const free = await fetch(url, {
    headers: { authorization: `Bearer ${await provider.token('backend')}` },
  })
  t.equal(free.status, 401, 'an unbound token of the same provider')
})

t.test('the certificate of a TLS connection: verified or none (AUTHN-13)', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const certify = (name: string) => {
    const [key, cert] = [join(folder, `${name}.key`), join(folder, `${name}.pem`)]
    const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
    const names = ['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1']
    execFileSync('openssl', ['req', '-x509', ...ec, '-keyout', key, '-out', cert, ...names], {
      stdio: 'ignore',
    })
    return { key: readFileSync(key), cert: readFileSync(cert) }
  }
  const [listener, known, stranger] = [certify('listener'), certify('known'), certify('stranger')]
  const read = createCertificateReader('client-cert')
  const seen: { direct: Buffer | undefined; proxied: Buffer | undefined }[] = []
  const options = { ...listener, ca: known.cert, requestCert: true, rejectUnauthorized: false }
  const server = createTlsServer(options, (request, response) => {
    seen.push({ direct: read(request, false), proxied: read(request, true) })
    response.end()
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const der = new X509Certificate(known.cert).raw
  const forged = { 'client-cert': ':AAAA:' }
  for (const [who, pair, headers, direct, proxied] of [
    ['known', known, {}, der, undefined],
    ['known, with a header', known, forged, der, Buffer.alloc(3)],
    ['a stranger', stranger, forged, undefined, Buffer.alloc(3)],
    ['nobody', {}, forged, undefined, Buffer.alloc(3)],
  ] as const) {
    await new Promise((done, failed) => {
      tlsRequest(
        { port, host: '127.0.0.1', ca: listener.cert, agent: false, ...pair, headers },
        (r) => r.resume().on('end', done),
      )
        .on('error', failed)
        .end()
    })
    t.strictSame(seen.at(-1), { direct, proxied }, who)
  }
})

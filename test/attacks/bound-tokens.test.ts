import { execFileSync } from 'node:child_process'
import { createHmac, generateKeyPairSync, X509Certificate } from 'node:crypto'
import t from 'tap'
import type { Test } from 'tap'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { b64, createProver, digest, signRaw } from '../support/prover.ts'
import { json } from '../support/upstream.ts'

// Tokens bound to a key or a certificate: whoever has stolen one alone has nothing. Each row breaks one
// clause of RFC 9449, RFC 8705, RFC 9440 or RFC 7800; all are refused, and upstream sees nothing.

type Headers = [name: string, value: string][]
type Row = [clause: string, headers: Headers | Promise<Headers>, reason?: string]

const TARGET = '/Patient/p1'
const URL_OF = `${PUBLIC_URL}${TARGET}`
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const own = await createProver('ES256', p256)
const thief = await createProver('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' }))
const rsa = await createProver('RS256', generateKeyPairSync('rsa', { modulusLength: 2048 }))

async function setUp(config: Record<string, unknown> = {}) {
  const gateway = await startGateway({
    handler: json('{"resourceType":"Patient","id":"p1"}'),
    config,
  })
  const claims = { scope: 'patient/*.rs', patient: 'p1' }
  return {
    gateway,
    tokenFor: async (cnf: unknown) => gateway.token({ ...claims, cnf }),
    /** Sends these headers as they are. */
    ask: async (headers: Headers, method = 'GET', target = TARGET) => {
      const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
      const text = await gateway.raw(
        `${method} /fhir${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${lines}\r\n`,
      )
      const [head = '', body = ''] = text.split('\r\n\r\n', 2)
      const outcome = /^\{/.test(body) ? (JSON.parse(body) as Outcome) : {}
      const reason = outcome.issue?.[0]?.details.coding[0]?.code ?? 'accepted'
      return { status: Number(text.slice(9, 12)), head, body, reason }
    },
  }
}
type Outcome = { issue?: { details: { coding: { code: string }[] } }[] }

/** Runs rows against a gateway that must refuse every one, in the very same words. */
async function refuseAll(t: Test, { gateway, ask }: Gateway, rows: Row[]): Promise<void> {
  const said = new Map<string, Set<string>>()
  for (const [clause, headers, reason = 'proof-invalid'] of rows) {
    const answer = await ask(await headers)
    t.equal(answer.reason, reason, clause)
    t.equal(answer.status, 401, clause)
    const id = /^x-request-id: (.*)$/im.exec(answer.head)?.[1] ?? ''
    const [challenge = '', scheme = ''] = /^www-authenticate: (\w+) .*$/im.exec(answer.head) ?? []
    const words = `${challenge} ${answer.body.replaceAll(id, '')}`
    said.set(scheme + reason, (said.get(scheme + reason) ?? new Set()).add(words))
  }
  t.strictSame(gateway.upstream.received, [], 'upstream saw nothing')
  for (const [what, texts] of said) t.equal(texts.size, 1, `${what} tells nothing more`)
}
type Gateway = Awaited<ReturnType<typeof setUp>>

t.test('DPoP: each row breaks one clause of a proof (AUTHN-11, RFC 9449 §4.3)', async (t) => {
  const set = await setUp()
  const { gateway, ask, tokenFor } = set
  t.teardown(() => gateway.close())
  const token = await tokenFor({ jkt: own.thumbprint })
  const request = { method: 'GET', url: URL_OF, token }
  const now = Math.floor(Date.now() / 1000)
  const prove = async (changes: Parameters<typeof own.prove>[1] = {}) => own.prove(request, changes)
  const shown = (...proofs: string[]): Headers => [
    ['Authorization', `DPoP ${token}`],
    ...proofs.map((proof): [string, string] => ['DPoP', proof]),
  ]
  const claim = async (claims: Record<string, unknown>) => shown(await prove({ claims }))
  const header = async (members: Record<string, unknown>) => shown(await prove({ header: members }))
  const good = await prove()
  const [head, body, signature] = good.split('.') as [string, string, string]
  const head0 = { typ: 'dpop+jwt', alg: 'ES256', jwk: own.jwk }
  const raw = (members: unknown, payload: unknown = JSON.parse(text(body))): Headers =>
    shown(signRaw(b64(members), b64(payload), own.privateKey))
  const hmac = (secret: string, jwk: unknown): Headers => {
    const input = `${b64({ ...head0, alg: 'HS256', jwk })}.${body}`
    return shown(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`)
  }
  const hex = Buffer.from(digest(token), 'base64url').toString('hex')
  const at = (url: string) => claim({ htu: url })

  await refuseAll(t, set, [
    // "not more than one DPoP HTTP request header field", "a single and well-formed JWT"
    ['no proof', shown()],
    ['the same proof twice', shown(good, good)],
    ['a good proof and another', shown(good, await prove())],
    ['two, one in another case', [...shown(good), ['dpop', await prove()]]],
    ['two in one header', shown(`${good}, ${await prove()}`)],
    ['empty', shown('')],
    ['not a JWT', shown('proof')],
    ['without signature', shown(`${head}.${body}`)],
    ['with an empty signature', shown(`${head}.${body}.`)],
    ['five parts (JWE)', shown(`${good}.x.y`)],
    ['JSON serialization', shown(JSON.stringify({ protected: head, payload: body, signature }))],
    ['base64 with padding', shown(`${head}=.${body}.${signature}`)],
    ['the token instead of a proof', shown(token)],
    ['longer than any proof', claim({ x: 'x'.repeat(9000) })],
    // typ
    ['typ missing', header({ typ: undefined })],
    ['typ JWT', header({ typ: 'JWT' })],
    ['typ at+jwt', header({ typ: 'at+jwt' })],
    ['typ a number', raw({ ...head0, typ: 7 })],
    // alg
    ['alg none', shown(`${b64({ ...head0, alg: 'none' })}.${body}.`)],
    ['alg none, signed', raw({ ...head0, alg: 'none' })],
    ['alg missing', raw({ typ: 'dpop+jwt', jwk: own.jwk })],
    ['alg __proto__', raw({ ...head0, alg: '__proto__' })],
    ['HS256 by the public key', hmac(JSON.stringify(own.jwk), own.jwk)],
    ['HS256 by a key sent along', hmac('k', { kty: 'oct', k: b64('k') })],
    ['ES512, not on the list', raw({ ...head0, alg: 'ES512' })],
    ['ES384 with a P-256 key', raw({ ...head0, alg: 'ES384' })],
    ['RS256 with an EC key', raw({ ...head0, alg: 'RS256' })],
    ['crit', raw({ ...head0, crit: ['x'], x: 1 })],
    ['b64 false', raw({ ...head0, crit: ['b64'], b64: false })],
    ['header an array', raw([])],
    ['header null', raw(null)],
    ['header no JSON', shown(signRaw(b64('x'), body, own.privateKey))],
    [
      'typ twice',
      shown(signRaw(b64(`{"typ":"x",${JSON.stringify(head0).slice(1)}`), body, own.privateKey)),
    ],
    // jwk
    ['jwk missing', raw({ ...head0, jwk: undefined })],
    ['jwk null', raw({ ...head0, jwk: null })],
    ['jwk a text', raw({ ...head0, jwk: JSON.stringify(own.jwk) })],
    ['jwk in an array', raw({ ...head0, jwk: [own.jwk] })],
    ['kid instead of jwk', raw({ typ: 'dpop+jwt', alg: 'ES256', kid: own.thumbprint })],
    ['jku instead of jwk', raw({ typ: 'dpop+jwt', alg: 'ES256', jku: gateway.upstream.url })],
    ['jwk private', header({ jwk: own.privateJwk() })],
    ['jwk with a member of a private key', header({ jwk: { ...own.jwk, dp: 'AQAB' } })],
    ['jwk symmetric as well', header({ jwk: { ...own.jwk, k: 'AQAB' } })],
    ['jwk for encryption', header({ jwk: { ...own.jwk, use: 'enc' } })],
    ['jwk to sign only', header({ jwk: { ...own.jwk, key_ops: ['sign'] } })],
    ['jwk for another algorithm', header({ jwk: { ...own.jwk, alg: 'ES384' } })],
    ['jwk without y', header({ jwk: { ...own.jwk, y: undefined } })],
    ['jwk with y of another', header({ jwk: { ...own.jwk, y: thief.jwk.y } })],
    ['jwk of another curve', header({ jwk: { ...own.jwk, crv: 'P-384' } })],
    [
      'jwk with a member twice',
      shown(
        signRaw(b64(JSON.stringify(head0).replace('"kty"', '"x":"x","kty"')), body, own.privateKey),
      ),
    ],
    // "the public key to which the access token is bound matches"
    ['by a thief, with his own key', thief.prove(request).then(shown)],
    ['by a thief, showing the owner’s key', prove({ signer: thief.privateKey }).then(shown)],
    ['by a thief, with an RSA key', rsa.prove(request).then(shown)],
    // signature
    ['signature cut', shown(good.slice(0, -4))],
    ['signature with more behind it', shown(`${good}!`)],
    ['signature with padding', shown(`${good}==`)],
    ['signature of another proof', shown(`${head}.${body}.${(await prove()).split('.')[2]}`)],
    ['signature in DER', shown(signRaw(head, body, own.privateKey, true))],
    ['signature of zeros', shown(`${head}.${body}.${Buffer.alloc(64).toString('base64url')}`)],
    [
      'claims changed',
      shown(`${head}.${b64({ ...JSON.parse(text(body)), jti: 'x' })}.${signature}`),
    ],
    // jti
    ['jti missing', claim({ jti: undefined })],
    ['jti empty', claim({ jti: '' })],
    ['jti a number', claim({ jti: 7 })],
    ['jti too long', claim({ jti: 'j'.repeat(257) })],
    ['jti twice', shown(signRaw(head, b64(`{"jti":"a",${text(body).slice(1)}`), own.privateKey))],
    // "The htm claim matches the HTTP method of the current request."
    ['htm missing', claim({ htm: undefined })],
    ['htm POST', claim({ htm: 'POST' })],
    ['htm in small letters', claim({ htm: 'get' })],
    ['htm a list', claim({ htm: ['GET'] })],
    // "The htu claim matches the HTTP URI value … ignoring any query and fragment parts."
    ['htu missing', at(undefined as never)],
    ['htu a list', at([URL_OF] as never)],
    ['htu relative', at(`/fhir${TARGET}`)],
    ['htu of another patient', at(`${PUBLIC_URL}/Patient/p2`)],
    ['htu the base', at(PUBLIC_URL)],
    ['htu longer', at(`${URL_OF}/_history`)],
    ['htu with a slash more', at(`${URL_OF}/`)],
    ['htu in another case', at(URL_OF.replace('Patient', 'patient'))],
    ['htu on https', at(URL_OF.replace('http:', 'https:'))],
    ['htu on another host', at(URL_OF.replace('127.0.0.1', 'evil.example'))],
    ['htu on another port', at(URL_OF.replace(':9', ''))],
    ['htu of the listener behind the proxy', at(`${gateway.url}${TARGET}`)],
    ['htu of the FHIR server', at(`${gateway.upstream.url}${TARGET}`)],
    ['htu with a user name', at(URL_OF.replace('//', '//x@'))],
    [
      'htu with the host as user name',
      at(URL_OF.replace('//127.0.0.1:9', '//127.0.0.1:9@evil.example')),
    ],
    ['htu with an escaped slash', at(URL_OF.replace('/p1', '%2Fp1'))],
    ['htu with a backslash', at(URL_OF.replace('/p1', '\\p1'))],
    ['htu with a broken escape', at(`${URL_OF}%`)],
    ['htu with a tab', at(URL_OF.replace('/p1', '/\tp1'))],
    ['htu with dot segments to elsewhere', at(`${URL_OF}/../p2`)],
    ['htu the address as its query', at(`http://evil.example/?${URL_OF}`)],
    // "created within an acceptable timeframe"
    ['iat missing', claim({ iat: undefined })],
    ['iat a text', claim({ iat: String(now) })],
    ['iat null', claim({ iat: null })],
    ['iat in milliseconds', claim({ iat: Date.now() })],
    ['iat long ago', claim({ iat: now - 300 })],
    ['iat to come', claim({ iat: now + 300 })],
    ['iat of no size', raw(head0, text(body).replace(/"iat":\d+/, '"iat":1e999'))],
    ['exp over', claim({ exp: now - 300 })],
    ['nbf to come', claim({ nbf: now + 300 })],
    // "the value of the ath claim equals the hash of that access token"
    ['ath missing', claim({ ath: undefined })],
    ['ath of another token', claim({ ath: digest(await tokenFor({ jkt: own.thumbprint })) })],
    ['ath in hexadecimal', claim({ ath: hex })],
    ['ath with padding', claim({ ath: `${digest(token)}=` })],
    ['ath the token itself', claim({ ath: token })],
  ])
  t.equal((await ask(shown(good))).reason, 'accepted', 'the good one, which all of them vary')

  gateway.upstream.received.length = 0
  await refuseAll(t, set, [
    ['the same proof again (§11.1)', shown(good)],
    [
      'another proof with the jti of the first',
      claim({ jti: (JSON.parse(text(body)) as { jti: string }).jti }),
    ],
    [
      'the cached token under Bearer (§7.2)',
      [['Authorization', `Bearer ${token}`]],
      'token-invalid',
    ],
    [
      'under Bearer, with a proof',
      [
        ['Authorization', `Bearer ${token}`],
        ['DPoP', await prove()],
      ],
      'token-invalid',
    ],
    ['the cached token with a thief’s proof', thief.prove(request).then(shown)],
    ['the cached token without proof', shown()],
  ])
})

const text = (part: string): string => Buffer.from(part, 'base64url').toString()

t.test('keys that prove nothing, though a token is bound to them (RFC 7518 §3.3)', async (t) => {
  const set = await setUp()
  t.teardown(() => set.gateway.close())
  const short = await createProver('RS256', generateKeyPairSync('rsa', { modulusLength: 1024 }))
  // jose refuses to sign with it, so the signature is put together by hand.
  const headers = async (
    jwk: Record<string, unknown>,
    alg: string,
    forge?: (input: string) => Buffer,
  ): Promise<Headers> => {
    const { calculateJwkThumbprint } = await import('jose')
    const token = await set.tokenFor({ jkt: await calculateJwkThumbprint(jwk) })
    const payload = {
      jti: 'x',
      htm: 'GET',
      htu: URL_OF,
      iat: Math.floor(Date.now() / 1000),
      ath: digest(token),
    }
    const proof = signRaw(
      b64({ typ: 'dpop+jwt', alg, jwk }),
      b64(payload),
      alg === 'RS256' ? short.privateKey : own.privateKey,
    )
    const input = proof.slice(0, proof.lastIndexOf('.'))
    return [
      ['Authorization', `DPoP ${token}`],
      ['DPoP', forge === undefined ? proof : `${input}.${forge(input).toString('base64url')}`],
    ]
  }
  // RFC 8017 §9.2: with exponent 1 this is its own signature.
  const encode = (input: string): Buffer => {
    const info = Buffer.from('003031300d060960864801650304020105000420', 'hex')
    const hashed = Buffer.from(digest(input), 'base64url')
    const start = Buffer.concat([Buffer.from([0, 1]), Buffer.alloc(202, 0xff)])
    return Buffer.concat([start, info, hashed])
  }
  await refuseAll(t, set, [
    ['RSA with exponent 1, signed by nobody', headers({ ...rsa.jwk, e: 'AQ' }, 'RS256', encode)],
    ['RSA of 1024 bits', headers({ ...short.jwk }, 'RS256')],
    ['RSA with a huge exponent', headers({ ...rsa.jwk, e: rsa.jwk.n }, 'RS256')],
    ['RSA of 16384 bits', headers({ ...rsa.jwk, n: 'v'.repeat(2731) }, 'RS256')],
    ['a point that is not on the curve', headers({ ...own.jwk, y: own.jwk.x }, 'ES256')],
    [
      'the point at zero',
      headers({ ...own.jwk, x: b64('\0'.repeat(32)), y: b64('\0'.repeat(32)) }, 'ES256'),
    ],
  ])
})

t.test(
  'cnf: a bond that cannot be checked is none to do without (AUTHN-12, RFC 7800)',
  async (t) => {
    const set = await setUp()
    const { gateway, tokenFor } = set
    t.teardown(() => gateway.close())
    const jkt = own.thumbprint
    const certificate = digest('certificate')
    const bonds: [clause: string, cnf: unknown][] = [
      ['a key, as plain bearer', { jkt }],
      ['a certificate, and none came', { 'x5t#S256': certificate }],
      ['a key and a certificate that did not come', { jkt, 'x5t#S256': certificate }],
      ['null', null],
      ['empty', {}],
      ['a text', jkt],
      ['a list', [{ jkt }]],
      ['true', true],
      ['a number as jkt', { jkt: 7 }],
      ['null as jkt', { jkt: null }],
      ['a list as jkt', { jkt: [jkt] }],
      ['jkt cut', { jkt: jkt.slice(1) }],
      ['jkt with padding', { jkt: `${jkt}=` }],
      ['an empty jkt', { jkt: '' }],
      ['an unknown member', { x: 1 }],
      ['an unknown member beside jkt', { jkt, x: 1 }],
      ['jwk', { jwk: own.jwk }],
      ['jwk beside jkt', { jkt, jwk: own.jwk }],
      ['kid', { kid: 'k' }],
      ['jku', { jku: 'https://evil.example' }],
      ['x5t of SHA-1', { x5t: 'x' }],
      ['__proto__', JSON.parse(`{"__proto__":{"jkt":"${jkt}"}}`)],
    ]
    const rows: Row[] = []
    for (const [clause, cnf] of bonds) {
      const token = await tokenFor(cnf)
      const proof = await own.prove({ method: 'GET', url: URL_OF, token })
      rows.push([`Bearer: ${clause}`, [['Authorization', `Bearer ${token}`]], 'token-invalid'])
      if (clause.startsWith('a key, as')) continue
      rows.push([
        `DPoP: ${clause}`,
        [
          ['Authorization', `DPoP ${token}`],
          ['DPoP', proof],
        ],
        'token-invalid',
      ])
    }
    const free = await tokenFor(undefined)
    const proof = await own.prove({ method: 'GET', url: URL_OF, token: free })
    rows.push([
      'DPoP: not bound at all (§7.1)',
      [
        ['Authorization', `DPoP ${free}`],
        ['DPoP', proof],
      ],
      'token-invalid',
    ])
    await refuseAll(t, set, rows)
  },
)

/** A self-signed certificate, PEM. */
const certify = (name: string): string =>
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
      '-days',
      '2',
      '-keyout',
      '/dev/null',
      '-subj',
      `/CN=${name}`,
    ],
    { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] },
  )
const mine = certify('mine')
const other = certify('other')
const der = new X509Certificate(mine).raw
const bytes = (value: Buffer | string): string => `:${Buffer.from(value).toString('base64')}:`
const escaped = encodeURIComponent
const LOCAL = ['127.0.0.0/8']

t.test(
  'a certificate in a header is believed from its proxy alone (AUTHN-13, RFC 9440)',
  async (t) => {
    const forms: [header: string, good: string, bad: [clause: string, ...values: string[]][]][] = [
      [
        'Client-Cert',
        bytes(der),
        [
          ['another certificate', bytes(new X509Certificate(other).raw)],
          ['twice', bytes(der), bytes(der)],
          ['two in one', `${bytes(der)}, ${bytes(der)}`],
          ['without colons', der.toString('base64')],
          ['not base64', ':?:'],
          ['base64url', bytes(der).replaceAll('+', '-').replaceAll('/', '_').replace('=', '')],
          ['bytes appended', bytes(Buffer.concat([der, Buffer.alloc(1)]))],
          ['bytes cut', bytes(der.subarray(0, -1))],
          ['its hash', bytes(digest(der))],
          ['PEM', escaped(mine)],
          ['with a parameter', `${bytes(der)};x=1`],
          ['empty', ''],
        ],
      ],
      [
        'X-SSL-Client-Cert',
        escaped(mine),
        [
          ['another certificate', escaped(other)],
          ['twice', escaped(mine), escaped(mine)],
          ['a chain', escaped(mine + mine)],
          ['another before it', escaped(other + mine)],
          ['a broken escape', `${escaped(mine)}%`],
          ['of another kind', escaped(mine.replaceAll('CERTIFICATE', 'PUBLIC KEY'))],
          ['RFC 9440 form', bytes(der)],
        ],
      ],
      [
        'X-Forwarded-Client-Cert',
        `Hash=${der.toString('hex').slice(0, 64)};Cert="${escaped(mine)}";Subject="CN=a,b;\\"Cert=x";URI=`,
        [
          ['another certificate', `Cert="${escaped(other)}"`],
          ['twice', `Cert="${escaped(mine)}"`, `Cert="${escaped(mine)}"`],
          ['two elements, the first forged', `Cert="${escaped(mine)}",Cert="${escaped(other)}"`],
          ['two elements, the last good', `Cert="${escaped(other)}",Cert="${escaped(mine)}"`],
          ['two certificates', `Cert="${escaped(other)}";Cert="${escaped(mine)}"`],
          [
            'two certificates, the good one first',
            `Cert="${escaped(mine)}";cert="${escaped(other)}"`,
          ],
          ['a certificate in a subject', `Subject="x;Cert=${escaped(mine)}"`],
          ['a hash alone', `Hash=${digest(der)}`],
          ['as a chain', `Chain="${escaped(mine)}"`],
          ['a quote not closed', `Cert="${escaped(mine)}`],
        ],
      ],
    ]
    for (const [header, good, bad] of forms) {
      const set = await setUp({
        trustedProxies: LOCAL,
        clientCertificates: { header: header.toLowerCase() },
      })
      t.teardown(() => set.gateway.close())
      const token = await set.tokenFor({ 'x5t#S256': digest(der) })
      const bearer: [string, string] = ['Authorization', `Bearer ${token}`]
      const other = forms
        .filter(([name]) => name !== header)
        .map(([name, value]): [string, string] => [name, value])
      await refuseAll(t, set, [
        ...bad.map(([clause, ...values]): Row => [
          `${header}: ${clause}`,
          [bearer, ...values.map((value): [string, string] => [header, value])],
          'token-invalid',
        ]),
        [`${header}: in every header but this`, [bearer, ...other], 'token-invalid'],
        [
          `${header}: under DPoP`,
          [
            ['Authorization', `DPoP ${token}`],
            [header, good],
          ],
          'token-invalid',
        ],
      ])
      t.equal((await set.ask([bearer, [header, good]])).reason, 'accepted', header)
      t.equal(
        (await set.ask([bearer])).reason,
        'token-invalid',
        `${header}: proved anew every time`,
      )
      t.notMatch(
        JSON.stringify(set.gateway.upstream.received),
        /client-cert|CERTIFICATE|dpop|bearer/i,
      )
    }

    const spoofed = forms.map(([name, value]): [string, string] => [name, value])
    for (const [clause, config] of [
      [
        'from a stranger',
        { trustedProxies: ['10.0.0.0/8'], clientCertificates: { header: 'client-cert' } },
      ],
      ['from a proxy that was not set to', { trustedProxies: LOCAL }],
      ['with no proxy at all', {}],
      ['with a header set, and no proxy', { clientCertificates: { header: 'client-cert' } }],
    ] as const) {
      const set = await setUp(config)
      t.teardown(() => set.gateway.close())
      const token = await set.tokenFor({ 'x5t#S256': digest(der) })
      await refuseAll(t, set, [
        [clause, [['Authorization', `Bearer ${token}`], ...spoofed], 'token-invalid'],
        [
          `${clause}, which names a proxy`,
          [['Authorization', `Bearer ${token}`], ...spoofed, ['X-Forwarded-For', '10.0.0.1']],
          'token-invalid',
        ],
      ])
    }
  },
)

t.test('bound to both: both are proved (AUTHN-12)', async (t) => {
  const set = await setUp({ trustedProxies: LOCAL, clientCertificates: { header: 'client-cert' } })
  t.teardown(() => set.gateway.close())
  const token = await set.tokenFor({ jkt: own.thumbprint, 'x5t#S256': digest(der) })
  const proof = async (): Promise<[string, string]> => [
    'DPoP',
    await own.prove({ method: 'GET', url: URL_OF, token }),
  ]
  const dpop: [string, string] = ['Authorization', `DPoP ${token}`]
  const certificate: [string, string] = ['Client-Cert', bytes(der)]
  await refuseAll(t, set, [
    ['the proof alone', [dpop, await proof()], 'token-invalid'],
    ['the certificate alone', [dpop, certificate]],
    [
      'the certificate, as bearer',
      [['Authorization', `Bearer ${token}`], certificate],
      'token-invalid',
    ],
  ])
  t.equal((await set.ask([dpop, await proof(), certificate])).reason, 'accepted')
})

import { createHmac, createPublicKey } from 'node:crypto'
import { CompactEncrypt, CompactSign, exportJWK, generateKeyPair } from 'jose'
import type { CompactJWSHeaderParameters } from 'jose'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { createIntrospection } from '../../src/adapters/introspection.ts'
import { createIssuerKeys } from '../../src/adapters/issuer-keys.ts'
import { createMemoryReplay } from '../../src/adapters/memory-replay.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { Arrival } from '../../src/exchange.ts'
import { toRefusal } from '../../src/refusal.ts'
import { createAuthenticate } from '../../src/stages/authenticate/authenticate.ts'
import { startIssuer } from '../support/issuer.ts'

/**
 * The token corpus (AUTHN-4, 5, 6, 12): what a token, its header and its claims can be made to say.
 * Unless a row says otherwise the signature is the issuer's own, so that only the clause named is broken.
 */

const AUDIENCE = 'https://public.example/fhir'
const silent = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
const clock = { now: () => Date.now(), monotonic: () => performance.now() }

const one = await startIssuer()
const two = await startIssuer()
const config = configSchema.parse({
  public: { url: AUDIENCE },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: one.url }, { url: two.url, audiences: ['for-two'], requireType: true }],
})
const keys = createIssuerKeys(config, silent)
await keys.start()
const authenticate = createAuthenticate(config, {
  ...{ keys, clock },
  replays: createMemoryReplay({ most: 10_000, clock }),
  denylist: { isDenied: () => false },
  introspection: createIntrospection(config, { log: silent, keys, now: clock.now }),
})
t.teardown(async () => {
  await keys.close()
  await Promise.all([one.close(), two.close()])
})

const show = async (rawHeaders: readonly string[]): Promise<string> => {
  try {
    await authenticate({ rawHeaders } as unknown as Arrival)
    return 'accepted'
  } catch (error) {
    return toRefusal(error).reason
  }
}
const verdict = async (token: string): Promise<string> => show(['Authorization', `Bearer ${token}`])

type Header = Record<string, unknown>
const now = Math.floor(Date.now() / 1000)
const good = { aud: AUDIENCE, scope: 'patient/*.rs', patient: 'p1' }
const claims = {
  ...{ iss: one.url, sub: 'a', client_id: 'b', exp: now + 300, iat: now },
  ...good,
}
const b64 = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const kid = one.kid('RS256')

/** Signed by the issuer, whatever it is: a text goes in as it stands. */
async function sign(payload: unknown, header: Header = {}): Promise<string> {
  const bytes =
    payload instanceof Uint8Array
      ? payload
      : new TextEncoder().encode(typeof payload === 'string' ? payload : JSON.stringify(payload))
  const alg = header['alg'] === 'ES256' ? 'ES256' : 'RS256'
  const all = { alg, typ: 'at+jwt', kid: one.kid(alg), ...header } as CompactJWSHeaderParameters
  return new CompactSign(bytes).setProtectedHeader(all).sign(one.privateKey(alg))
}
const withClaims = async (change: Record<string, unknown>, header?: Header) =>
  sign({ ...claims, ...change }, header)
/** The same with a header as it stands; signed as RS256, though it may say something else. */
async function signUnder(header: string, payload: string = JSON.stringify(claims)) {
  const input = `${b64(header)}.${b64(payload)}`
  const signature = await crypto.subtle.sign(
    'RSASSA-PKCS1-v1_5',
    one.privateKey('RS256'),
    Buffer.from(input),
  )
  return `${input}.${Buffer.from(signature).toString('base64url')}`
}
const underHeader = async (change: Header) =>
  signUnder(JSON.stringify({ alg: 'RS256', typ: 'at+jwt', kid, ...change }))

const stranger = await generateKeyPair('RS256', { extractable: true })
const strange = async (header: Header): Promise<string> =>
  new CompactSign(Buffer.from(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', ...header })
    .sign(stranger.privateKey)
const hmac = (alg: string, secret: string | Buffer): string => {
  const input = `${b64({ alg, typ: 'at+jwt', kid })}.${b64(claims)}`
  const hash = `sha${alg.slice(2)}`
  return `${input}.${createHmac(hash, secret).update(input).digest('base64url')}`
}
const publicKey = createPublicKey({ key: one.publicJwk('RS256'), format: 'jwk' })
const pem = publicKey.export({ type: 'spki', format: 'pem' })
const der = publicKey.export({ type: 'spki', format: 'der' })
const pkcs1 = publicKey.export({ type: 'pkcs1', format: 'pem' })
const strangeJwk = await exportJWK(stranger.publicKey)
const [head, body, signature] = (await sign(claims)).split('.') as [string, string, string]
const es = (await sign(claims, { alg: 'ES256' })).split('.') as [string, string, string]
const esBytes = Buffer.from(es[2], 'base64url')
const esSigned = (octets: Uint8Array): string =>
  `${es[0]}.${es[1]}.${Buffer.from(octets).toString('base64url')}`
const swapped = (change: Record<string, unknown>): string =>
  `${head}.${b64({ ...claims, ...change })}.${signature}`
const jwe = await new CompactEncrypt(Buffer.from(await sign(claims)))
  .setProtectedHeader({ alg: 'RSA-OAEP-256', enc: 'A128GCM', cty: 'JWT' })
  .encrypt((await generateKeyPair('RSA-OAEP-256')).publicKey)
const raw = (text: string): string => JSON.stringify(claims).replace(/^\{/, `{${text},`)
const notUtf8 = Buffer.concat([
  Buffer.from(`{"sub":"a`),
  Buffer.of(0xff),
  Buffer.from(`",${JSON.stringify({ ...claims, sub: undefined }).slice(1)}`),
])

type Row = [clause: string, token: string | Promise<string>, reason?: string]

const ACCEPTED: readonly Row[] = [
  ['RS256', sign(claims)],
  ['ES256', sign(claims, { alg: 'ES256' })],
  ['one audience of several', withClaims({ aud: ['x', AUDIENCE] })],
  ['typ JWT', sign(claims, { typ: 'JWT' })],
  ['typ application/at+jwt', sign(claims, { typ: 'application/at+jwt' })],
  ['typ in capitals', sign(claims, { typ: 'AT+JWT' })],
  ['no typ', sign(claims, { typ: undefined })],
  ['no kid, and one key of the kind', sign(claims, { kid: undefined })],
  ['expired within the skew', withClaims({ exp: now - 10 })],
  ['an exp with a fraction', withClaims({ exp: now + 0.5 })],
  ['a header nobody knows', sign(claims, { x: 1, zip: 'DEF' })],
  ['an access token by its type may have a nonce', withClaims({ nonce: 'n' })],
  ['other letters than ASCII', withClaims({ sub: 'Zoë 🙂' })],
  ['spaces in the JSON', sign(JSON.stringify(claims, null, 2))],
  ['of the other issuer', two.token({ aud: 'for-two' })],
]

const ALGORITHMS: readonly Row[] = [
  ['none, and no signature', `${b64({ alg: 'none', typ: 'at+jwt' })}.${body}.`],
  ['none, with a signature', `${b64({ alg: 'none', typ: 'at+jwt', kid })}.${body}.${signature}`],
  ...['nOnE', 'NONE', 'None', '', ' none'].map((alg): Row => [
    `alg “${alg}”`,
    `${b64({ alg, typ: 'at+jwt', kid })}.${body}.${signature}`,
  ]),
  ['alg missing', underHeader({ alg: undefined })],
  ['alg null', underHeader({ alg: null })],
  ['alg a list', underHeader({ alg: ['RS256'] })],
  ['alg an object', underHeader({ alg: { toString: 'RS256' } })],
  ['alg a number', underHeader({ alg: 256 })],
  ['alg in small letters', underHeader({ alg: 'rs256' })],
  ['alg with a space', underHeader({ alg: 'RS256 ' })],
  ['alg with a NUL', underHeader({ alg: 'RS256\u0000' })],
  ['alg of a prototype', underHeader({ alg: '__proto__' })],
  ['alg of a prototype, another', underHeader({ alg: 'constructor' })],
  ['alg nobody knows', underHeader({ alg: 'RS1' })],
  ['alg for encryption', underHeader({ alg: 'RSA-OAEP' })],
  ['ES256K', underHeader({ alg: 'ES256K' })],
  ['RS512, which is not on the list', underHeader({ alg: 'RS512' })],
  ['RS384, for which the key is not', underHeader({ alg: 'RS384' })],
  ['PS256 claimed for RS256', underHeader({ alg: 'PS256' })],
  ['ES256 claimed for RS256', underHeader({ alg: 'ES256' })],
  ['EdDSA claimed for RS256', underHeader({ alg: 'EdDSA' })],
  [
    'ES256 with the kid of an RSA key',
    `${b64({ alg: 'ES256', typ: 'at+jwt', kid })}.${es[1]}.${es[2]}`,
  ],
  ['HS256, the secret is the public key as PEM', hmac('HS256', pem)],
  ['HS256, the secret is the PEM without its last line end', hmac('HS256', String(pem).trim())],
  ['HS256, the secret is the public key as DER', hmac('HS256', der)],
  ['HS256, the secret is the public key as PKCS #1', hmac('HS256', pkcs1)],
  ['HS256, the secret is the JWK', hmac('HS256', JSON.stringify(one.publicJwk('RS256')))],
  ['HS384, the secret is the public key as PEM', hmac('HS384', pem)],
  ['HS512, the secret is the public key as PEM', hmac('HS512', pem)],
  ['HS256, the secret is empty', hmac('HS256', '')],
]

const SIGNATURES: readonly Row[] = [
  ['a stranger’s', strange({ kid })],
  ['a stranger’s, without kid', strange({})],
  ['of another token', swapped({ patient: 'p2' })],
  ['of another token, its scope', swapped({ scope: 'system/*.cruds' })],
  ['of another token, its end', swapped({ exp: now + 9999 })],
  ['cut', `${head}.${body}.${signature.slice(0, -8)}`],
  ['cut by a letter', `${head}.${body}.${signature.slice(0, -1)}`],
  ['a letter more', `${head}.${body}.${signature}A`],
  ['four letters more', `${head}.${body}.${signature}AAAA`],
  ['missing', `${head}.${body}.`],
  ['of zeros', `${head}.${body}.${Buffer.alloc(256).toString('base64url')}`],
  ['of ones', `${head}.${body}.${Buffer.alloc(256, 255).toString('base64url')}`],
  [
    'one',
    `${head}.${body}.${Buffer.concat([Buffer.alloc(255), Buffer.of(1)]).toString('base64url')}`,
  ],
  ['with padding', `${head}.${body}.${signature}==`],
  ['in base64', `${head}.${body}.${signature.replace(/^../, '+/')}`],
  ['with a letter that is none', `${head}.${body}.~${signature}`],
  ['ECDSA, R and S zero', esSigned(Buffer.alloc(64))],
  ['ECDSA, R zero', esSigned(Buffer.concat([Buffer.alloc(32), esBytes.subarray(32)]))],
  ['ECDSA, S zero', esSigned(Buffer.concat([esBytes.subarray(0, 32), Buffer.alloc(32)]))],
  [
    'ECDSA, R and S changed places',
    esSigned(Buffer.concat([esBytes.subarray(32), esBytes.subarray(0, 32)])),
  ],
  ['ECDSA, with zeros before', esSigned(Buffer.concat([Buffer.alloc(1), esBytes]))],
  ['ECDSA, nothing', esSigned(Buffer.of(0))],
  [
    'ECDSA as ASN.1',
    esSigned(
      Buffer.concat([
        Buffer.from([0x30, 0x44, 2, 0x20]),
        esBytes.subarray(0, 32),
        Buffer.from([2, 0x20]),
        esBytes.subarray(32),
      ]),
    ),
  ],
]

const HEADERS: readonly Row[] = [
  ['jwk of a stranger', strange({ kid, jwk: strangeJwk })],
  ['jwk of a stranger, no kid', strange({ jwk: strangeJwk })],
  ['jku', strange({ kid, jku: 'https://evil.example/jwks' })],
  ['jku of the issuer itself', strange({ jku: `${one.url}/jwks` })],
  ['x5u', strange({ kid, x5u: 'https://evil.example/x' })],
  ['x5c', strange({ kid, x5c: [der.toString('base64')] })],
  ['kid traversal', strange({ kid: '../../../../dev/null' })],
  ['kid with a query', strange({ kid: "' or 1=1 --" })],
  ['kid a URL', strange({ kid: 'https://evil.example/key' })],
  ['kid too long', strange({ kid: 'k'.repeat(300) })],
  ['kid unknown', strange({ kid: 'nobody' })],
  ['kid empty', underHeader({ kid: '' })],
  ['kid null', underHeader({ kid: null })],
  ['kid a number', underHeader({ kid: 1 })],
  ['kid a list', underHeader({ kid: [kid] })],
  ['kid an object', underHeader({ kid: { kid } })],
  ['kid of a prototype', underHeader({ kid: '__proto__' })],
  ['kid with a line end', underHeader({ kid: `${kid}\n` })],
  ['kid of the other issuer', underHeader({ kid: two.kid('RS256') })],
  ['crit unknown', underHeader({ crit: ['x'], x: 1 })],
  ['crit b64', underHeader({ crit: ['b64'], b64: false })],
  ['crit exp', underHeader({ crit: ['exp'], exp: now + 300 })],
  ['crit empty', underHeader({ crit: [] })],
  ['crit null', underHeader({ crit: null })],
  ['typ empty', underHeader({ typ: '' })],
  ['typ null', underHeader({ typ: null })],
  ['typ a number', underHeader({ typ: 42 })],
  ['typ a list', underHeader({ typ: ['at+jwt'] })],
  ['typ with a space', underHeader({ typ: ' at+jwt' })],
  ['typ with a parameter', underHeader({ typ: 'at+jwt;x=1' })],
  ['typ twice application/', underHeader({ typ: 'application/application/at+jwt' })],
  ...[
    'id',
    'logout',
    'dpop',
    'refresh',
    'secevent',
    'client-authentication',
    'oauth-authz-req',
  ].map((kind): Row => [`typ ${kind}+jwt`, underHeader({ typ: `${kind}+jwt` })]),
  [
    'typ missing, which the issuer must set',
    two.token({ aud: 'for-two' }, { header: { typ: undefined } }),
  ],
  ['typ JWT, where the issuer must say at+jwt', two.token({ aud: 'for-two' }, { typ: 'JWT' })],
]

const FORMS: readonly Row[] = [
  ['two parts', `${head}.${body}`],
  ['four parts', `${head}.${body}.${signature}.x`],
  ['five parts, none of them a JWE', `${head}.${body}.${signature}.x.y`],
  ['JWE', jwe],
  ['nested: the payload is a JWT', (async () => sign(await sign(claims), { cty: 'JWT' }))()],
  ['no parts', '..', 'token-invalid'],
  ['a header alone', `${head}..`],
  ['no header', `.${body}.${signature}`],
  ['no payload', `${head}..${signature}`],
  ['header no JSON', signUnder('nonsense')],
  ['header null', signUnder('null')],
  ['header a list', signUnder('[]')],
  ['header with padding', `${head}=.${body}.${signature}`, 'credentials-malformed'],
  ['header in base64', `${head.replace(/^../, '+/')}.${body}.${signature}`],
  ['alg twice', signUnder(`{"alg":"none","alg":"RS256","typ":"at+jwt","kid":"${kid}"}`)],
  ['kid twice', signUnder(`{"alg":"RS256","typ":"at+jwt","kid":"x","kid":"${kid}"}`)],
  ['typ twice', signUnder(`{"alg":"RS256","typ":"id+jwt","typ":"at+jwt","kid":"${kid}"}`)],
  ['payload no JSON', sign('nonsense')],
  ['payload null', sign('null')],
  ['payload a list', sign('[]')],
  ['payload a list of one', sign([claims])],
  ['payload a string', sign('"x"')],
  ['payload a number', sign('1')],
  ['payload and something more', sign(`${JSON.stringify(claims)}x`)],
  ['two payloads', sign(`${JSON.stringify(claims)}${JSON.stringify(claims)}`)],
  ['payload and NUL', sign(`${JSON.stringify(claims)}\u0000`)],
  ['payload with a comment', sign(`/**/${JSON.stringify(claims)}`)],
  ['payload with a BOM', sign(`\ufeff${JSON.stringify(claims)}`)],
  ['payload that is not UTF-8', sign(notUtf8)],
  ['payload with padding', `${head}.${body}=.${signature}`, 'credentials-malformed'],
  ['a claim twice', sign(raw('"patient":"p2"'))],
  ['a claim twice, once with an escape', sign(raw('"p\\u0061tient":"p2"'))],
  ['aud twice', sign(raw('"aud":"https://evil.example"'))],
  ['exp twice', sign(raw(`"exp":${now - 999}`))],
  ['a claim twice, within another', sign(raw('"cnf2":{"jkt":"x","jkt":"y"}'))],
  ['longer than any token', `${head}.${'a'.repeat(17_000)}.${signature}`, 'credentials-malformed'],
  ['nothing', '', 'credentials-malformed'],
  ['not a token', 'Zm9v!', 'credentials-malformed'],
  ['two tokens', `${head}.${body}.${signature} ${es.join('.')}`, 'credentials-malformed'],
  [
    'two tokens, as a list',
    `${head}.${body}.${signature},${es.join('.')}`,
    'credentials-malformed',
  ],
  ['a line end', `${head}.${body}.${signature}\n`, 'credentials-malformed'],
]

const url = new URL(one.url)
const CLAIMS: readonly Row[] = [
  ...(
    [
      ['missing', undefined],
      ['another', 'https://evil.example'],
      ['with a slash more', `${one.url}/`],
      ['in capitals', one.url.toUpperCase()],
      ['with a space', `${one.url} `],
      ['with a fragment', `${one.url}#`],
      ['with a query', `${one.url}?`],
      ['with a user', `http://x@${url.host}`],
      ['by another name', one.url.replace('127.0.0.1', 'localhost')],
      ['as a prefix', one.url.slice(0, -1)],
      ['a list', [one.url]],
      ['a number', 1],
      ['null', null],
      ['empty', ''],
      ['the other issuer, by the key of this', two.url],
      ['of a prototype', '__proto__'],
    ] as const
  ).map(([what, iss]): Row => [`iss ${what}`, withClaims({ iss })]),
  ...(
    [
      ['missing', undefined],
      ['another', 'https://other.example'],
      ['a prefix', AUDIENCE.slice(0, -1)],
      ['longer', `${AUDIENCE}/Patient`],
      ['with a slash more', `${AUDIENCE}/`],
      ['in capitals', AUDIENCE.toUpperCase()],
      ['with a fragment', `${AUDIENCE}#x`],
      ['one of several in one text', `x ${AUDIENCE}`],
      ['of the other issuer', 'for-two'],
      ['an empty list', []],
      ['a list in a list', [[AUDIENCE]]],
      ['an object', { 0: AUDIENCE }],
      ['null', null],
      ['a number', 1],
      ['true', true],
    ] as const
  ).map(([what, aud]): Row => [`aud ${what}`, withClaims({ aud })]),
  ['exp missing', withClaims({ exp: undefined })],
  ['exp past', withClaims({ exp: now - 31 }), 'token-expired'],
  ['exp zero', withClaims({ exp: 0 }), 'token-expired'],
  ['exp negative', withClaims({ exp: -1e15 }), 'token-expired'],
  ['exp a string', withClaims({ exp: String(now + 300) })],
  ['exp null', withClaims({ exp: null })],
  ['exp a list', withClaims({ exp: [now + 300] })],
  ['exp true', withClaims({ exp: true })],
  ['exp endless', sign(JSON.stringify(claims).replace(/"exp":\d+/, '"exp":1e999'))],
  ['nbf to come', withClaims({ nbf: now + 60 })],
  ['nbf a string', withClaims({ nbf: String(now) })],
  ['nbf null', withClaims({ nbf: null })],
  ['nbf endless', sign(raw('"nbf":-1e999'))],
  ['iat to come', withClaims({ iat: now + 60 })],
  ['iat a string', withClaims({ iat: String(now) })],
  ['iat null', withClaims({ iat: null })],
  ['an ID token by nonce', withClaims({ nonce: 'n' }, { typ: 'JWT' })],
  ['an ID token by at_hash', withClaims({ at_hash: 'n' }, { typ: 'JWT' })],
  ['an ID token by c_hash, without typ', withClaims({ c_hash: 'n' }, { typ: undefined })],
  ['an ID token by s_hash', withClaims({ s_hash: 'n' }, { typ: 'JWT' })],
  ['an ID token by nonce null', withClaims({ nonce: null }, { typ: 'JWT' })],
  ['an ID token as Cognito marks it', withClaims({ token_use: 'id' }, { typ: 'JWT' })],
  ...['ID', 'Refresh', 'Offline', 'Logout'].map((typ): Row => [
    `typ ${typ} as Keycloak marks it`,
    withClaims({ typ }, { typ: 'JWT' }),
  ]),
  ['a logout token', withClaims({ events: {} }, { typ: 'JWT' })],
  ['neither sub nor client', withClaims({ sub: undefined, client_id: undefined })],
  ['sub a number', withClaims({ sub: 42 })],
  ['sub null', withClaims({ sub: null })],
  ['sub empty', withClaims({ sub: '' })],
  ['sub a list', withClaims({ sub: ['a'] })],
  ['cnf.jkt as plain bearer', withClaims({ cnf: { jkt: 'A'.repeat(43) } })],
  ['cnf.jkt that is none', withClaims({ cnf: { jkt: 'x' } })],
  ['cnf.x5t#S256 without a certificate', withClaims({ cnf: { 'x5t#S256': 'A'.repeat(43) } })],
  ['cnf of a kind nobody can prove', withClaims({ cnf: { jwk: strangeJwk } })],
  ['cnf empty', withClaims({ cnf: {} })],
  ['cnf null', withClaims({ cnf: null })],
  ['cnf a string', withClaims({ cnf: 'x' })],
  [
    'more roles than can be weighed',
    withClaims({ roles: Array.from({ length: 1001 }, (_, at) => `r${at}`) }),
  ],
]

const CORPUS = { ACCEPTED, ALGORITHMS, SIGNATURES, HEADERS, FORMS, CLAIMS }

t.test('the token corpus: each row breaks one clause', async (t) => {
  const before = one.jwksFetches() + two.jwksFetches()
  for (const [group, rows] of Object.entries(CORPUS)) {
    for (const [clause, token, reason] of rows) {
      const expected = reason ?? (group === 'ACCEPTED' ? 'accepted' : 'token-invalid')
      const shown = await token
      t.equal(await verdict(shown), expected, `${group}: ${clause}`)
      // The second time by what is remembered of the first.
      if (expected === 'accepted') t.equal(await verdict(shown), expected, `${clause}, again`)
      else t.not(await verdict(shown), 'accepted', `${clause}, again`)
    }
  }
  t.ok(Object.values(CORPUS).flat().length >= 200, 'as many rows as there were')
  t.equal(one.jwksFetches() + two.jwksFetches(), before, 'and none of them fetched a key')
})

t.test('the same many at once, when signatures go to other threads', async (t) => {
  const rows = Object.values(CORPUS).flat()
  const tokens = await Promise.all(rows.map(async ([, token]) => token))
  const fresh = await Promise.all(
    Array.from({ length: 20 }, async (_, at) => withClaims({ jti: `fresh-${at}` })),
  )
  const found = await Promise.all([...fresh, ...tokens].map(verdict))
  t.same(new Set(found.splice(0, 20)), new Set(['accepted']))
  found.forEach((reason, at) => {
    const isGood = at < ACCEPTED.length
    t.equal(reason === 'accepted', isGood, rows[at]?.[0] ?? '')
  })
})

t.test('how a token is carried (AUTHN-2, AUTHN-3)', async (t) => {
  const token = await sign(claims)
  const rows: [what: string, rawHeaders: string[], reason: string][] = [
    ['as it should', ['Authorization', `Bearer ${token}`], 'accepted'],
    ['the scheme in small letters', ['authorization', `bearer ${token}`], 'accepted'],
    ['nothing', [], 'credentials-missing'],
    ['an empty header', ['Authorization', ''], 'credentials-missing'],
    ['another scheme', ['Authorization', `Basic ${token}`], 'credentials-missing'],
    ['a scheme that begins alike', ['Authorization', `BearerX ${token}`], 'credentials-missing'],
    ['no scheme', ['Authorization', token], 'credentials-missing'],
    ['a scheme alone', ['Authorization', 'Bearer'], 'credentials-malformed'],
    ['two spaces', ['Authorization', `Bearer  ${token}`], 'credentials-malformed'],
    ['a tab', ['Authorization', `Bearer\t${token}`], 'credentials-missing'],
    ['a space after it', ['Authorization', `Bearer ${token} `], 'credentials-malformed'],
    ['a parameter', ['Authorization', `Bearer token="${token}"`], 'credentials-malformed'],
    [
      'twice',
      ['Authorization', `Bearer ${token}`, 'authorization', `Bearer ${token}`],
      'credentials-malformed',
    ],
    [
      'twice, one empty',
      ['Authorization', '', 'Authorization', `Bearer ${token}`],
      'credentials-malformed',
    ],
    ['Proxy-Authorization', ['Proxy-Authorization', `Bearer ${token}`], 'credentials-missing'],
    ['X-Authorization', ['X-Authorization', `Bearer ${token}`], 'credentials-missing'],
    ['a cookie', ['Cookie', `access_token=${token}`], 'credentials-missing'],
    ['DPoP, and not bound', ['Authorization', `DPoP ${token}`], 'token-invalid'],
  ]
  for (const [what, rawHeaders, reason] of rows) t.equal(await show(rawHeaders), reason, what)
})

t.test('a token in a form is refused as such, and goes nowhere (AUTHN-3)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const secret = await gateway.token({ scope: 'system/*.rs', sub: 'app-1' })
  const form = 'application/x-www-form-urlencoded'
  const rows: readonly (readonly [body: string, type: string, status: number, target?: string])[] =
    [
      [`code=a&access_token=${secret}`, form, 400],
      [`access%5Ftoken=${secret}&code=a`, `${form}; charset=utf-8`, 400],
      [`access_token=${secret}`, form, 400, '/Patient'],
      [`access_token=${secret}`, form, 400, ''],
      ['code=a', form, 401],
      [`x_access_token=${secret}`, form, 401],
      [`access_token=${secret}`, 'text/plain', 401],
      [`access_token=${secret}&x=${'x'.repeat(40_000)}`, form, 401],
    ]
  for (const [body, type, status, target = '/Observation/_search'] of rows) {
    const answer = await fetch(gateway.url + target, {
      method: 'POST',
      headers: { 'content-type': type },
      body,
    })
    const text = await answer.text()
    t.equal(answer.status, status, `${body.slice(0, 20)} ${type} ${target}`)
    t.match(text, status === 400 ? '"credentials-malformed"' : '"credentials-missing"')
    const challenge = answer.headers.get('www-authenticate') ?? ''
    t.equal(challenge.includes('error="invalid_request"'), status === 400)
    t.notOk(text.includes(secret))
  }
  const withHeader = await fetch(`${gateway.url}/Observation/_search`, {
    method: 'POST',
    headers: { authorization: `Bearer ${secret}`, 'content-type': form },
    body: `access_token=${secret}`,
  })
  t.equal(withHeader.status, 400)
  t.strictSame(gateway.upstream.received, [])
  const told = [...gateway.log, ...gateway.printed, await gateway.auditText()].join()
  t.notOk(told.includes(secret), 'nor is it written down')
  // Who sends no more of its form than its length holds nobody up.
  const slow = await gateway.raw(
    `POST /fhir/Observation/_search HTTP/1.1\r\nHost: x\r\nContent-Type: ${form}\r\nContent-Length: 90000\r\nConnection: close\r\n\r\na`,
  )
  t.match(slow, / 401 /)
})

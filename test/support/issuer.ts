import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import type { AddressInfo } from 'node:net'
import { randomUUID } from 'node:crypto'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'

type TokenOptions = {
  readonly alg?: 'RS256' | 'ES256'
  /** Protected header members on top of alg, kid and typ; undefined takes one away. */
  readonly header?: Record<string, unknown>
  readonly typ?: string
  readonly kid?: string
  readonly expiresIn?: number
}

/** A question at the introspection endpoint, and what to say to it. */
type Introspect = (
  form: URLSearchParams,
  request: IncomingMessage,
  response: ServerResponse,
) => unknown

type Keys = Record<
  'RS256' | 'ES256',
  {
    kid: string
    privateKey: Awaited<ReturnType<typeof generateKeyPair>>['privateKey']
    jwk: Record<string, unknown>
  }
>

async function generate(): Promise<Keys> {
  const make = async (alg: 'RS256' | 'ES256') => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true })
    const kid = randomUUID()
    return { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } }
  }
  return { RS256: await make('RS256'), ES256: await make('ES256') }
}

/** A real OpenID issuer over HTTP: discovery, JWKS, and tokens signed on request. */
export async function startIssuer() {
  let keys = await generate()
  let fetches = 0
  let failure: ((response: ServerResponse) => void) | undefined
  let introspect: Introspect = () => ({ active: false })
  let questions = 0
  const server = createServer((request, response) => {
    if (failure !== undefined) return failure(response)
    response.setHeader('content-type', 'application/json')
    if (request.url === '/jwks') {
      fetches += 1
      return response.end(JSON.stringify({ keys: [keys.RS256.jwk, keys.ES256.jwk] }))
    }
    if (request.url === '/introspect') {
      questions += 1
      void text(request).then((body) => {
        const answer = introspect(new URLSearchParams(body), request, response)
        if (answer !== undefined) response.end(JSON.stringify(answer))
      })
      return
    }
    if (request.url === '/.well-known/openid-configuration') {
      return response.end(
        JSON.stringify({
          issuer: url,
          jwks_uri: `${url}/jwks`,
          authorization_endpoint: `${url}/authorize`,
          token_endpoint: `${url}/token`,
          introspection_endpoint: `${url}/introspect`,
          response_types_supported: ['code'],
          subject_types_supported: ['public'],
          id_token_signing_alg_values_supported: ['RS256', 'ES256'],
          grant_types_supported: ['authorization_code', 'client_credentials'],
          code_challenge_methods_supported: ['S256'],
        }),
      )
    }
    response.statusCode = 404
    return response.end('{}')
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    url,
    jwksFetches: () => fetches,
    /** Times somebody asked about a token. */
    questions: () => questions,
    /** What to say of tokens; undefined: the answer was sent by hand, or never will be. */
    introspectWith: (how: Introspect) => {
      introspect = how
    },
    /** New keys; the old ones are gone from the JWKS. */
    rotate: async () => {
      keys = await generate()
    },
    /** Fail like this on every request, or (undefined) answer again. */
    failWith: (how: ((response: ServerResponse) => void) | undefined) => {
      failure = how
    },
    privateKey: (alg: 'RS256' | 'ES256') => keys[alg].privateKey,
    publicJwk: (alg: 'RS256' | 'ES256') => keys[alg].jwk,
    kid: (alg: 'RS256' | 'ES256') => keys[alg].kid,
    /** A signed access token; a claim of undefined is left out. */
    token: async (claims: Record<string, unknown> = {}, options: TokenOptions = {}) => {
      const alg = options.alg ?? 'RS256'
      const now = Math.floor(Date.now() / 1000)
      const body = {
        iss: url,
        sub: 'person-1',
        client_id: 'app-1',
        jti: randomUUID(),
        iat: now,
        exp: now + (options.expiresIn ?? 300),
        ...claims,
      }
      const header = {
        alg,
        kid: options.kid ?? keys[alg].kid,
        typ: options.typ ?? 'at+jwt',
        ...options.header,
      }
      return new SignJWT(body).setProtectedHeader(header).sign(keys[alg].privateKey)
    },
    close: async () => {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

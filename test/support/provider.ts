import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { randomUUID } from 'node:crypto'
import Provider, { errors } from 'oidc-provider'
import type { JWK, KoaContextWithOIDC } from 'oidc-provider'

const SCOPES = 'patient/*.rs user/*.rs system/*.rs'

/** The client ids of {@link startProvider}. All secrets are `s3cret`. */
export const REDIRECT = 'https://app.example/callback'

type Options = {
  readonly audience: string
  readonly port?: number
  readonly format?: 'jwt' | 'opaque'
  /** Signing keys of the provider, private. */
  readonly keys: readonly object[]
  /** Public key of the client `gateway-key` (private_key_jwt). */
  readonly clientKey?: object
}

/**
 * A real OpenID provider: `app` logs person-1 in by itself (code and PKCE), `backend` asks for itself,
 * `gateway` and `gateway-key` may introspect.
 */
export async function startProvider({ audience, port = 0, format, keys, clientKey }: Options) {
  const server = createServer()
  await new Promise<void>((done) => server.listen(port, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const plain = { redirect_uris: [], response_types: [], grant_types: [] }
  const provider = new Provider(url, {
    jwks: { keys: [...keys] as JWK[] },
    cookies: { keys: [randomUUID()] },
    scopes: ['openid', 'offline_access', ...SCOPES.split(' ')],
    clients: [
      {
        client_id: 'app',
        token_endpoint_auth_method: 'none',
        grant_types: ['authorization_code', 'refresh_token'],
        redirect_uris: [REDIRECT],
        response_types: ['code'],
        scope: `openid offline_access ${SCOPES}`,
      },
      {
        ...plain,
        client_id: 'backend',
        client_secret: 's3cret',
        grant_types: ['client_credentials'],
      },
      { ...plain, client_id: 'gateway', client_secret: 's3cret' },
      ...(clientKey === undefined
        ? []
        : [
            {
              ...plain,
              client_id: 'gateway-key',
              token_endpoint_auth_method: 'private_key_jwt' as const,
              token_endpoint_auth_signing_alg: 'ES384' as const,
              jwks: { keys: [clientKey as JWK] },
            },
          ]),
    ],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      revocation: { enabled: true },
      introspection: {
        enabled: true,
        allowedPolicy: (_context, client) => client.clientId.startsWith('gateway'),
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, resource) => {
          if (resource !== audience) throw new errors.InvalidTarget()
          const sign = { alg: 'RS256' as const }
          return { scope: SCOPES, audience, accessTokenFormat: format ?? 'jwt', jwt: { sign } }
        },
      },
    },
    interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
    issueRefreshToken: () => true,
    loadExistingGrant: grantAll(audience),
    extraTokenClaims: () => ({ patient: 'p1' }),
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    enabledJWA: { clientAuthSigningAlgValues: ['RS256', 'ES256', 'ES384'] },
    ttl: {
      AccessToken: 3600,
      ClientCredentials: 3600,
      RefreshToken: 3600,
      Interaction: 60,
      Grant: 3600,
      Session: 3600,
      IdToken: 60,
    },
  })
  const callback = provider.callback()
  server.on('request', (request, response) => {
    if (request.url?.startsWith('/interaction/') !== true) return void callback(request, response)
    const login = { login: { accountId: 'person-1' } }
    void provider.interactionFinished(request, response, login)
  })
  return {
    url,
    close: async () => {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

/** Who logs in consents to all. */
function grantAll(audience: string) {
  return async ({ oidc }: KoaContextWithOIDC) => {
    const { client, session, provider } = oidc
    const known = client === undefined ? undefined : session?.grantIdFor(client.clientId)
    if (known !== undefined) return provider.Grant.find(known)
    const grant = new provider.Grant({
      clientId: client?.clientId ?? '',
      accountId: session?.accountId ?? '',
    })
    grant.addOIDCScope(`openid offline_access ${SCOPES}`)
    grant.addResourceScope(audience, SCOPES)
    await grant.save()
    return grant
  }
}

/** An access token of the client `backend`. */
export async function askForToken(url: string, scope = 'system/*.rs'): Promise<string> {
  const answer = await fetch(`${url}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('backend:s3cret')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope }),
  })
  return ((await answer.json()) as { access_token: string }).access_token
}

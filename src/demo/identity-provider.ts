import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import Provider, { errors } from 'oidc-provider'
import type { AdapterFactory, AdapterPayload, JWK, ResourceServer } from 'oidc-provider'
import { close, listen } from './listen.ts'

/** The people and programs of the demo (docs: the demo prints what each may do). */
export const PERSONAS = ['patient', 'clinician', 'researcher', 'backend'] as const
export type Persona = (typeof PERSONAS)[number]

export const isPersona = (name: string): name is Persona =>
  (PERSONAS as readonly string[]).includes(name)

export type IdentityProviderOptions = {
  /** 0 or absent: any free port. */
  readonly port?: number
  readonly host?: string
  /** `aud` of the access tokens: the public FHIR base. */
  readonly audience: string
  /** Ids of the resources that stand for the personas. */
  readonly patientId: string
  readonly practitionerId: string
  readonly researcherId: string
}

/** What a test may want different in one token. */
export type TokenChanges = {
  readonly scope?: string
  readonly subject?: string
  /** Added to the persona's claims; `undefined` takes one away. */
  readonly claims?: Readonly<Record<string, unknown>>
}

export type IdentityProvider = {
  readonly issuer: string
  /** An access token as the provider itself signs it. */
  readonly token: (persona: Persona, changes?: TokenChanges) => Promise<string>
  readonly close: () => Promise<void>
}

const TOKEN_SECONDS = 3600

const SCOPES: Readonly<Record<Persona, string>> = {
  patient: 'patient/*.rs',
  clinician: 'user/*.cruds',
  researcher: 'user/*.rs',
  backend: 'system/*.rs',
}

const claimsOf = (
  options: IdentityProviderOptions,
): Readonly<Record<Persona, Readonly<Record<string, unknown>>>> => {
  const { audience, patientId, practitionerId, researcherId } = options
  return {
    patient: {
      patient: patientId,
      fhirUser: `${audience}/Patient/${patientId}`,
      purpose_of_use: ['PATRQT'],
    },
    clinician: {
      fhirUser: `${audience}/Practitioner/${practitionerId}`,
      roles: ['clinician'],
      purpose_of_use: ['TREAT'],
    },
    researcher: {
      fhirUser: `${audience}/Practitioner/${researcherId}`,
      roles: ['researcher'],
      purpose_of_use: ['HRESCH'],
    },
    backend: { purpose_of_use: ['HOPERAT'] },
  }
}

/** Nothing here outlives the demo, so a map is all the storage its provider needs. */
const mapAdapter = (): AdapterFactory => {
  const store = new Map<string, AdapterPayload>()
  return (model) => {
    const key = (id: string): string => `${model}:${id}`
    const first = (name: 'uid' | 'userCode', value: string): AdapterPayload | undefined =>
      [...store.values()].find((payload) => payload[name] === value)
    return {
      upsert: async (id, payload) => void store.set(key(id), payload),
      find: async (id) => store.get(key(id)),
      findByUid: async (uid) => first('uid', uid),
      findByUserCode: async (userCode) => first('userCode', userCode),
      consume: async (id) => {
        const payload = store.get(key(id))
        if (payload) payload.consumed = Math.floor(Date.now() / 1000)
      },
      destroy: async (id) => void store.delete(key(id)),
      revokeByGrantId: async (grantId) => {
        for (const [id, payload] of store) if (payload.grantId === grantId) store.delete(id)
      },
    }
  }
}

const newKey = (): JWK => {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }
}

/**
 * A real OpenID provider (discovery, JWKS, token endpoint, JWT access tokens after RFC 9068) with
 * the demo's personas. `GET /demo/token/<persona>` stands for the login a person would go through.
 */
export const startIdentityProvider = async (
  options: IdentityProviderOptions,
): Promise<IdentityProvider> => {
  const { audience } = options
  const server = createServer()
  const issuer = await listen(server, options.port ?? 0, options.host ?? '127.0.0.1')
  const claims = claimsOf(options)
  const claimsOfToken = new WeakMap<object, Readonly<Record<string, unknown>>>()
  const scopes = [...new Set(Object.values(SCOPES))]
  const resourceServer: ResourceServer = {
    scope: scopes.join(' '),
    audience,
    accessTokenTTL: TOKEN_SECONDS,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg: 'RS256' } },
  }

  const provider = new Provider(issuer, {
    adapter: mapAdapter(),
    jwks: { keys: [newKey()] },
    cookies: { keys: [randomBytes(32).toString('base64url')] },
    scopes: ['openid', 'offline_access', ...scopes],
    clients: [
      {
        client_id: 'backend',
        client_secret: 'demo-secret',
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        scope: SCOPES.backend,
      },
      ...PERSONAS.filter((persona) => persona !== 'backend').map((persona) => ({
        client_id: `demo-${persona}-app`,
        client_secret: randomBytes(32).toString('base64url'),
        grant_types: [],
        redirect_uris: [],
        response_types: [],
        scope: `openid ${SCOPES[persona]}`,
      })),
    ],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      dPoP: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => audience,
        useGrantedResource: () => true,
        getResourceServerInfo: (_context, resource) => {
          if (resource !== audience) throw new errors.InvalidTarget()
          return resourceServer
        },
      },
    },
    extraTokenClaims: (_context, token) => claimsOfToken.get(token) ?? { ...claims.backend },
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    ttl: { ClientCredentials: TOKEN_SECONDS, AccessToken: TOKEN_SECONDS },
  })

  const token: IdentityProvider['token'] = async (persona, changes = {}) => {
    const clientId = persona === 'backend' ? 'backend' : `demo-${persona}-app`
    const client = await provider.Client.find(clientId)
    if (!client) throw new Error(`no client ${clientId}`)
    const common = {
      client,
      scope: changes.scope ?? SCOPES[persona],
      resourceServer: new provider.ResourceServer(audience, resourceServer),
    }
    const issued =
      persona === 'backend' && changes.subject === undefined
        ? new provider.ClientCredentials(common)
        : new provider.AccessToken({
            ...common,
            accountId: changes.subject ?? `person-${persona}`,
            grantId: randomBytes(16).toString('base64url'),
            gty: 'authorization_code',
          })
    claimsOfToken.set(issued, { ...claims[persona], ...changes.claims })
    return issued.save()
  }

  const callback = provider.callback()
  const answerToken = async (name: string, response: ServerResponse): Promise<void> => {
    const known = isPersona(name)
    const text = known ? await token(name) : `No such persona; there are ${PERSONAS.join(', ')}.\n`
    response
      .writeHead(known ? 200 : 404, { 'content-type': 'text/plain', 'cache-control': 'no-store' })
      .end(text)
  }
  server.on('request', (request, response) => {
    const persona = /^\/demo\/token\/([^/?]*)$/.exec(request.url ?? '')?.[1]
    if (persona === undefined || request.method !== 'GET') void callback(request, response)
    else
      answerToken(persona, response).catch((error: unknown) => {
        response.writeHead(500, { 'content-type': 'text/plain' }).end(String(error))
      })
  })
  return { issuer, token, close: () => close(server) }
}

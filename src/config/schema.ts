import { z } from 'zod'
import { CERTIFICATE_HEADERS } from '../http/client-certificate.ts'
import { PROOF_ALGORITHMS } from '../oauth/dpop-proof.ts'
import {
  claimsSchema,
  denylistSchema,
  introspectionSchema,
  logoutSchema,
  strengthSchema,
} from './issuer-settings.ts'
import { ALGORITHMS, fillPreset, PRESET_NAMES, USUAL_ALGORITHMS } from './presets.ts'

/**
 * The only list of settings. Every key is also an environment variable: `upstream.url` is
 * `FHIREWALL_UPSTREAM_URL`, `limits.address.perSecond` is `FHIREWALL_LIMITS_ADDRESS_PER_SECOND`.
 * Units are in the names. A secret is marked `writeOnly` and never printed. The published JSON Schema (`config.schema.json`) and the table in
 * `docs/configuration.md` are generated from here.
 */

const port = z.int().min(0).max(65535)
const seconds = z.number().positive()
const bytes = z.int().positive()
/** An empty address is one of all machines' own, and an empty name one of nothing. */
const text = z.string().min(1, 'is empty; give it a value or leave it out')

const rate = (burst: number, perSecond: number, what: string) =>
  z
    .strictObject({
      burst: z.int().positive().default(burst).describe('requests at once'),
      perSecond: z.number().positive().default(perSecond).describe('requests per second, lasting'),
    })
    .prefault({})
    .describe(what)

/** A private key that signs JWTs. */
const signingKey = {
  keyId: z.string().min(1).optional().describe('`kid` of that key'),
  algorithm: z
    .enum(['ES256', 'ES384', 'RS256', 'RS384', 'PS256', 'PS384', 'EdDSA'])
    .default('ES384')
    .describe('its signature algorithm'),
}

const issuerInput = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).describe('issuer URL, exactly as in the `iss` claim'),
  audiences: z
    .array(z.string().min(1))
    .optional()
    .describe('accepted `aud` values (default: the public URL)'),
  preset: z
    .enum(PRESET_NAMES)
    .optional()
    .describe(
      'fills algorithms, claims and clientMark with what this product does (docs/issuers.md)',
    ),
  algorithms: z
    .array(z.enum(ALGORITHMS))
    .min(1)
    .optional()
    .meta({ default: USUAL_ALGORITHMS })
    .describe('accepted signature algorithms'),
  requireType: z
    .boolean()
    .default(false)
    .describe('whether tokens must say `typ: at+jwt` (RFC 9068); ID tokens are refused either way'),
  clockSkewSeconds: z
    .number()
    .min(0)
    .max(60)
    .default(30)
    .describe('tolerance for exp, nbf and iat'),
  maximumAgeSeconds: seconds.optional().describe('refuse tokens issued longer ago than this'),
  maximumLifetimeSeconds: seconds
    .optional()
    .describe(
      'refuse tokens that live longer, from iat to exp (SMART recommends 300 for backends)',
    ),
  requireBound: z
    .enum(['none', 'dpop', 'mtls', 'any'])
    .default('none')
    .describe(
      'what tokens must be bound to: a key (DPoP), a certificate (mutual TLS) or either; a bound token is accepted with its proof only, whatever stands here',
    ),
  introspection: introspectionSchema
    .optional()
    .describe('asking the issuer about a token (RFC 7662)'),
  strength: strengthSchema,
  logoutAudiences: z
    .array(z.string().min(1))
    .default([])
    .describe('client ids that may stand in `aud` of this issuer’s logout tokens'),
  clientMark: z
    .strictObject({ claim: z.string().min(1), value: z.string().min(1) })
    .optional()
    .describe(
      'a claim that tells tokens of a client itself, beside a `sub` that is absent or the client id; `{client}` in its value is the client id',
    ),
  scopeSeparator: z
    .enum(['space', 'comma'])
    .default('space')
    .describe('what stands between scopes in one text'),
  claims: claimsSchema,
})

export const issuerSchema = issuerInput.transform((issuer) => ({
  ...issuer,
  ...fillPreset(issuer),
}))

export const configSchema = z.strictObject({
  host: text.default('127.0.0.1').describe('address of the FHIR listener'),
  port: port.default(8080).describe('port of the FHIR listener'),
  admin: z
    .strictObject({
      host: text.default('127.0.0.1').describe('address of the admin listener'),
      port: port.default(8081).describe('port of the admin listener'),
    })
    .prefault({}),
  tls: z
    .strictObject({
      certificateFile: z
        .string()
        .optional()
        .describe(
          'certificate chain of the FHIR listener, PEM; with it the listener is HTTPS only',
        ),
      keyFile: z
        .string()
        .optional()
        .describe('private key of it, PEM; both are read again when they change'),
      minimumVersion: z.literal([1.2, 1.3]).default(1.2).describe('least TLS version'),
      clientCertificates: z
        .enum(['none', 'request', 'require'])
        .default('none')
        .describe(
          'whether clients are asked for a certificate; require: no connection without one',
        ),
      clientCaFile: z
        .string()
        .optional()
        .describe('certificate authorities of client certificates, PEM'),
      terminatedBy: z
        .enum(['proxy', 'none'])
        .optional()
        .describe(
          'who ends TLS where there is no certificateFile: proxy, one that nobody gets past; none, nobody, which warns at every start; default: plain HTTP is answered to this very machine and trustedProxies alone',
        ),
    })
    .prefault({}),
  public: z.strictObject({
    url: z
      .url({ protocol: /^https?$/ })
      .describe('the FHIR base clients see; its path is the base path served'),
  }),
  upstream: z.strictObject({
    url: z.url({ protocol: /^https?$/ }).describe('the FHIR base to protect'),
    allowInsecure: z
      .boolean()
      .default(false)
      .describe('accept plain http: beyond loopback; warns at every start'),
    caFile: z.string().optional().describe('certificate authorities to trust, PEM'),
    certificateFile: z
      .string()
      .optional()
      .describe('the gateway’s own client certificate for upstream, PEM'),
    keyFile: z.string().optional().describe('private key of it, PEM'),
    authorization: z
      .string()
      .optional()
      .describe('Authorization header for upstream, the gateway’s own credential; secret')
      .meta({ writeOnly: true }),
    credentials: z
      .strictObject({
        kind: z
          .enum(['none', 'basic', 'bearer', 'client-credentials'])
          .default('none')
          .describe('what the gateway shows upstream as its own; goes beside a certificate'),
        secretFile: z
          .string()
          .optional()
          .describe(
            'file with user:password, the token, or the client secret; read again when it changes',
          ),
        issuer: z
          .url({ protocol: /^https?$/ })
          .optional()
          .describe('client-credentials: the OpenID provider, found by discovery'),
        tokenUrl: z
          .url({ protocol: /^https?$/ })
          .optional()
          .describe('client-credentials: the token endpoint, where there is no discovery'),
        clientId: z.string().min(1).optional().describe('client-credentials: the client'),
        scope: z.string().min(1).optional().describe('client-credentials: the scopes asked for'),
        resource: z
          .url()
          .optional()
          .describe('client-credentials: what the token is for (RFC 8707)'),
        keyFile: z
          .string()
          .optional()
          .describe('client-credentials: key that signs for the client, instead of a secret, PEM'),
        ...signingKey,
      })
      .prefault({}),
    assertion: z
      .strictObject({
        keyFile: z
          .string()
          .optional()
          .describe('key that signs a short JWT naming the principal for upstream’s log, PEM'),
        ...signingKey,
        header: z
          .string()
          .regex(/^[Xx]-[A-Za-z0-9-]{1,60}$/, 'a header name that begins with X-')
          .default('X-FHIRewall-Assertion')
          .describe('header it is sent in'),
        issuer: z.string().min(1).optional().describe('its `iss` (default: the public URL)'),
        audience: z.string().min(1).optional().describe('its `aud` (default: the upstream URL)'),
      })
      .prefault({}),
    forwardToken: z
      .boolean()
      .default(false)
      .describe('send the caller’s own token on, if its audience is upstream as well'),
    audience: z
      .string()
      .min(1)
      .optional()
      .describe('the audience a token that is sent on must have (default: the upstream URL)'),
    forwardedFor: z
      .enum(['none', 'forwarded', 'x-forwarded-for'])
      .default('none')
      .describe('header in which upstream is told the address of the client'),
    connections: z.int().positive().default(64).describe('sockets to upstream at most'),
    connectTimeoutSeconds: seconds.default(3).describe('until upstream accepts a connection'),
    headersTimeoutSeconds: seconds.default(30).describe('until upstream begins to answer'),
    bodyTimeoutSeconds: seconds.default(30).describe('silence between two pieces of an answer'),
    maximumAnswerBytes: bytes
      .default(268_435_456)
      .describe('larger answers are cut off and refused'),
    bufferBytes: bytes
      .default(262_144)
      .describe('answers up to this size are judged as a whole, larger ones resource by resource'),
  }),
  issuers: z.array(issuerSchema).min(1).describe('the OpenID providers whose tokens are accepted'),
  denylist: denylistSchema,
  backchannelLogout: logoutSchema,
  dpop: z
    .strictObject({
      algorithms: z
        .array(z.enum(PROOF_ALGORITHMS))
        .min(1)
        .default(['ES256', 'ES384', 'PS256', 'PS384', 'RS256', 'RS384', 'EdDSA', 'Ed25519'])
        .describe('accepted signature algorithms of DPoP proofs'),
      maximumAgeSeconds: seconds
        .max(600)
        .default(60)
        .describe('refuse DPoP proofs made longer ago than this'),
      clockSkewSeconds: z.number().min(0).max(60).default(10).describe('tolerance for their iat'),
      requireNonce: z
        .boolean()
        .default(false)
        .describe('whether DPoP proofs must hold a nonce that the gateway gave'),
      nonceSeconds: seconds
        .max(86_400)
        .default(300)
        .describe('a nonce holds this long at least and twice as long at most'),
      nonceKey: z
        .string()
        .regex(/^[A-Za-z0-9+/]{43}=$/, 'a key of 32 bytes, base64')
        .optional()
        .describe(
          'key that makes the nonces, the same for every replica (default: one made at each start); secret',
        )
        .meta({ writeOnly: true }),
      rememberedProofs: z
        .int()
        .positive()
        .default(500_000)
        .describe('proofs kept in memory until their time is over; more are answered 503'),
    })
    .prefault({})
    .describe('proofs of possession (RFC 9449)'),
  clientCertificates: z
    .strictObject({
      header: z
        .enum(['none', ...CERTIFICATE_HEADERS])
        .default('none')
        .describe(
          'where trustedProxies put the certificate of the client (RFC 9440, nginx, Envoy); they must take this header away from every request that comes to them with it',
        ),
    })
    .prefault({}),
  allowInsecureIssuers: z
    .boolean()
    .default(false)
    .describe('accept plain http: issuers beyond loopback; warns at every start'),
  fhir: z
    .strictObject({
      version: z
        .enum(['DSTU2', 'STU3', 'R4', 'R4B', 'R5'])
        .optional()
        .describe(
          'FHIR version of upstream; nothing is served while it speaks another (default: what it says at the start; R4 if nothing)',
        ),
    })
    .prefault({}),
  cors: z
    .strictObject({
      origins: z
        .array(z.string().regex(/^https?:\/\/[^/\s*]+$/, 'an origin such as https://app.example'))
        .default([])
        .describe('origins whose browser apps may use the FHIR API; metadata is open to any'),
    })
    .prefault({}),
  access: z
    .strictObject({
      hidden: z
        .enum(['not-found', 'forbidden'])
        .default('not-found')
        .describe(
          'what a resource is that the caller may not see: 404, as if it were not there, or 403, which tells that it is',
        ),
      smartV1: z
        .boolean()
        .default(true)
        .describe(
          'whether scopes as SMART v1 writes them (`patient/Observation.read`) grant what their letters of v2 do, or nothing',
        ),
    })
    .prefault({}),
  paging: z
    .strictObject({
      keys: z
        .string()
        .regex(/^[A-Za-z0-9+/=]{44}(?:[\s,]+[A-Za-z0-9+/=]{44})*\s*$/, 'keys of 32 bytes, base64')
        .optional()
        .describe(
          'keys that seal page links, 32 bytes each in base64: the first seals, all open; the same for every replica (default: one made at each start); secret',
        )
        .meta({ writeOnly: true }),
      lifetimeSeconds: seconds.default(900).describe('how long a page link can be followed'),
    })
    .prefault({}),
  bulk: z
    .strictObject({
      lifetimeSeconds: seconds
        .default(86_400)
        .describe('how long the addresses of a bulk export ($export) and its files hold'),
    })
    .prefault({}),
  policies: text.optional().describe('folder of policies (default: the shipped ones)'),
  masking: z
    .strictObject({
      key: z
        .string()
        .regex(/^[A-Za-z0-9+/]{43}=$/, 'a key of 32 bytes, base64')
        .optional()
        .describe(
          'key that pseudonyms and shifts of dates hang on, 32 bytes in base64; the same for every replica, and for as long as pseudonyms shall last (default: one made at each start); secret',
        )
        .meta({ writeOnly: true }),
    })
    .prefault({}),
  redis: z
    .strictObject({
      url: z
        .url({ protocol: /^rediss?$/ })
        .optional()
        .describe('shared counters (default: in memory); rediss: is TLS; secret')
        .meta({ writeOnly: true }),
      passwordFile: z
        .string()
        .optional()
        .describe('file with the password, read again when it changes; goes before one in the URL'),
      caFile: z.string().optional().describe('certificate authorities to trust for rediss:, PEM'),
      keyPrefix: z
        .string()
        .regex(/^[\x21-\x7e]{0,64}$/, 'at most 64 plain characters')
        .default('fhirewall:')
        .describe('begin of every key; the same for all gateways that share their counters'),
      timeoutSeconds: seconds.max(5).default(0.1).describe('until an answer counts as missing'),
      localShare: z
        .number()
        .positive()
        .max(1)
        .default(0.5)
        .describe(
          'while Redis cannot be asked: the part of every limit that each gateway allows alone (exact is 1 / gateways)',
        ),
    })
    .prefault({}),
  audit: z
    .strictObject({
      file: text.default('audit.jsonl').describe('audit log, one AuditEvent a line'),
      site: text.default('fhirewall').describe('AuditEvent.source.site'),
      observer: text
        .default('urn:fhirewall:gateway')
        .describe('identifier of this gateway in AuditEvent.source.observer'),
      patientsPerSearch: z
        .int()
        .positive()
        .default(500)
        .describe('a search records one AuditEvent per patient, at most this many'),
    })
    .prefault({}),
  log: z
    .strictObject({
      level: z
        .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
        .default('info')
        .describe('least severity logged'),
    })
    .prefault({}),
  limits: z
    .strictObject({
      address: rate(200, 100, 'per client address, before authentication'),
      principal: rate(200, 50, 'per principal, after authentication'),
      failures: rate(20, 0.2, 'failed authentications per client address'),
      trackedKeys: z.int().positive().default(100_000).describe('counters kept in memory at most'),
      targetBytes: bytes.default(8192).describe('longest request target'),
      headerBytes: bytes.default(32_768).describe('largest request head'),
      bodyBytes: bytes.default(10_485_760).describe('largest request body'),
      parameters: z.int().positive().default(64).describe('search parameters at most'),
      valuesPerParameter: z.int().positive().default(200).describe('longest OR list'),
      count: z.int().positive().default(1000).describe('largest _count; more is lowered to this'),
      furtherPages: z
        .int()
        .nonnegative()
        .default(30)
        .describe(
          'pages of upstream read to fill one from which something is withheld, at most; each is paid for like one that is asked for, as far as the principal can',
        ),
      bundleEntries: z
        .int()
        .positive()
        .default(200)
        .describe('entries of a batch or transaction at most'),
      jsonDepth: z.int().positive().default(64).describe('deepest JSON'),
      requestTimeoutSeconds: seconds.default(60).describe('until a request has wholly arrived'),
      stalledSeconds: seconds
        .default(30)
        .describe('a client that takes nothing of its answer for so long is cut off'),
      undeliveredBytes: bytes
        .default(134_217_728)
        .describe('answers waiting to be taken by their clients; beyond it requests are refused'),
      connections: z
        .int()
        .positive()
        .default(4096)
        .describe('connections of clients at once; fewer where there are not the files for them'),
      concurrent: z.int().positive().default(1024).describe('exchanges under way at once'),
      share: z
        .number()
        .min(0)
        .max(1)
        .default(0.125)
        .describe(
          'the part of `concurrent` and `undeliveredBytes` that one principal, or one address before authentication, may hold (but 8 exchanges and one answer always); and of `connections` one address, but no trusted proxy',
        ),
    })
    .prefault({}),
  trustedProxies: z
    .array(z.string())
    .default([])
    .describe('CIDR ranges whose X-Forwarded-For is believed'),
  shutdownSeconds: seconds.default(25).describe('a stop drains exchanges for this long at most'),
})

/** The effective configuration, complete and valid. */
export type Config = z.output<typeof configSchema>
export type IssuerConfig = z.output<typeof issuerSchema>

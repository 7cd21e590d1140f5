import { z } from 'zod'

/**
 * The only list of settings. Every key is also an environment variable: `upstream.url` is
 * `FHIREWALL_UPSTREAM_URL`, `limits.address.perSecond` is `FHIREWALL_LIMITS_ADDRESS_PER_SECOND`.
 * Units are in the names. A secret is marked `writeOnly` and never printed. The published JSON Schema (`config.schema.json`) and the table in
 * `docs/configuration.md` are generated from here.
 */

const port = z.int().min(0).max(65535)
const seconds = z.number().positive()
const bytes = z.int().positive()

const rate = (burst: number, perSecond: number, what: string) =>
  z
    .strictObject({
      burst: z.int().positive().default(burst).describe('requests at once'),
      perSecond: z.number().positive().default(perSecond).describe('requests per second, lasting'),
    })
    .prefault({})
    .describe(what)

export const issuerSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).describe('issuer URL, exactly as in the `iss` claim'),
  audiences: z
    .array(z.string().min(1))
    .optional()
    .describe('accepted `aud` values (default: the public URL)'),
  algorithms: z
    .array(
      z.enum([
        'RS256',
        'RS384',
        'RS512',
        'PS256',
        'PS384',
        'PS512',
        'ES256',
        'ES384',
        'ES512',
        'EdDSA',
      ]),
    )
    .min(1)
    .default(['RS256', 'RS384', 'PS256', 'PS384', 'ES256', 'ES384', 'EdDSA'])
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
  claims: z
    .strictObject({
      scope: z.string().default('scope').describe('granted scopes, a string or an array'),
      patient: z.string().default('patient').describe('the launch patient, a bare id'),
      fhirUser: z.string().default('fhirUser').describe('the person, a reference or URL'),
      roles: z.string().default('roles').describe('roles, for policies'),
      purposes: z
        .string()
        .default('purpose_of_use')
        .describe('purposes of use (v3-ActReason codes)'),
      organization: z.string().default('organization').describe('the organization, for policies'),
    })
    .prefault({})
    .describe('where this issuer puts each claim; dots go into nested objects'),
})

export const configSchema = z.strictObject({
  host: z.string().default('127.0.0.1').describe('address of the FHIR listener'),
  port: port.default(8080).describe('port of the FHIR listener'),
  admin: z
    .strictObject({
      host: z.string().default('127.0.0.1').describe('address of the admin listener'),
      port: port.default(8081).describe('port of the admin listener'),
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
    authorization: z
      .string()
      .optional()
      .describe('Authorization header for upstream, the gateway’s own credential; secret')
      .meta({ writeOnly: true }),
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
          'FHIR version of upstream; nothing is served while it speaks another (default: R4)',
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
  policies: z.string().optional().describe('folder of policies (default: the shipped ones)'),
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
        .describe('shared counters (default: in memory); secret')
        .meta({ writeOnly: true }),
    })
    .prefault({}),
  audit: z
    .strictObject({
      file: z.string().default('audit.jsonl').describe('audit log, one AuditEvent a line'),
      site: z.string().default('fhirewall').describe('AuditEvent.source.site'),
      observer: z
        .string()
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
      bundleEntries: z
        .int()
        .positive()
        .default(200)
        .describe('entries of a batch or transaction at most'),
      jsonDepth: z.int().positive().default(64).describe('deepest JSON'),
      requestTimeoutSeconds: seconds.default(60).describe('until a request has wholly arrived'),
      concurrent: z.int().positive().default(1024).describe('exchanges under way at once'),
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

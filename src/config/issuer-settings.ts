import { z } from 'zod'
import { standardPath } from './presets.ts'
import type { ClaimName } from './presets.ts'

/** Settings of one issuer beyond its address: how its tokens are read and checked. */

const seconds = z.number().positive()

const path = (name: ClaimName, what: string) =>
  z
    .string()
    .min(1)
    .optional()
    .meta({ default: standardPath(name) })
    .describe(what)

/** Where an issuer puts each claim. */
export const claimsSchema = z
  .strictObject({
    subject: path('subject', 'who it is, for good'),
    client: path('client', 'the app (else `client_id`, `azp`)'),
    token: path('token', 'the id of the token'),
    scope: path('scope', 'granted scopes, a text or a list'),
    patient: path('patient', 'the launch patient, a bare id'),
    encounter: path('encounter', 'the launch encounter, a bare id'),
    fhirContext: path('fhirContext', 'other resources of the launch'),
    fhirUser: path('fhirUser', 'the person, a reference or URL'),
    roles: path('roles', 'roles, for policies'),
    purposes: path('purposes', 'purposes of use (v3-ActReason codes)'),
    organization: path('organization', 'the organization, for policies'),
    acr: path('acr', 'how the person authenticated'),
    amr: path('amr', 'by which methods'),
    authTime: path('authTime', 'when, seconds since the epoch'),
    session: path('session', 'the session at the issuer, for logouts'),
  })
  .prefault({})
  .describe(
    'where this issuer puts each claim; dots go into nested objects and into each of a list',
  )

/** RFC 7662: how an issuer is asked about a token. */
export const introspectionSchema = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe('introspection endpoint (default: from discovery)'),
    clientId: z.string().min(1).describe('the gateway’s own client id at this issuer'),
    clientSecretFile: z
      .string()
      .optional()
      .describe('file of the client secret, sent as client_secret_basic'),
    privateKeyFile: z
      .string()
      .optional()
      .describe('private key, PEM, for private_key_jwt instead of a secret'),
    keyId: z.string().optional().describe('`kid` of that key as the issuer knows it'),
    algorithm: z
      .enum(['RS256', 'RS384', 'PS256', 'PS384', 'ES256', 'ES384', 'EdDSA'])
      .default('ES384')
      .describe('what privateKeyFile signs with'),
    opaque: z
      .boolean()
      .default(true)
      .describe('whether tokens that are no JWT are this issuer’s; one issuer’s at most'),
    always: z
      .boolean()
      .default(false)
      .describe('ask about JWTs too, after their signature: a revocation then counts soon'),
    requireAudience: z
      .boolean()
      .default(false)
      .describe('refuse tokens for which the answer names no `aud`'),
    acceptUntyped: z
      .boolean()
      .default(false)
      .describe(
        'accept answers with neither `token_type` nor `aud`, which SMART permits; only for issuers that never call a refresh token active',
      ),
    cacheSeconds: z
      .number()
      .min(0)
      .max(3600)
      .default(60)
      .describe('an answer is believed so long at most, and never past its `exp`'),
    negativeCacheSeconds: z
      .number()
      .min(0)
      .max(60)
      .default(5)
      .describe('`active: false` is believed so long'),
    timeoutSeconds: seconds.max(30).default(2).describe('until the issuer has wholly answered'),
  })
  .refine(
    ({ clientSecretFile, privateKeyFile }) =>
      (clientSecretFile === undefined) !== (privateKeyFile === undefined),
    { message: 'needs clientSecretFile or privateKeyFile, one of them' },
  )

/** RFC 9470: how persons must have authenticated, whatever they ask for. */
export const strengthSchema = z
  .strictObject({
    acr: z.array(z.string().min(1)).min(1).optional().describe('`acr`, one of these'),
    amr: z.array(z.string().min(1)).min(1).optional().describe('`amr`, all of these'),
    withinSeconds: seconds.optional().describe('`auth_time` no longer ago than this'),
  })
  .prefault({})
  .describe('how persons must have authenticated (RFC 9470); a policy rule may ask for more')

/** Tokens that are not accepted any more (AUTHN-18). */
export const denylistSchema = z
  .strictObject({
    file: z
      .string()
      .optional()
      .describe(
        'file of denied tokens, JSON lines or a YAML list; each entry names jti, issuer, subject (with its issuer), client or session, and all that it names must match; it may end (until), spare newer tokens (before), and say why (because)',
      ),
    rememberSeconds: seconds
      .default(86_400)
      .describe('a logout counts so long: as long as the longest access token lives'),
    rememberedLogouts: z
      .int()
      .positive()
      .default(100_000)
      .describe('logouts kept at most; one more is answered 400'),
  })
  .prefault({})

/** OpenID Connect Back-Channel Logout 1.0. */
export const logoutSchema = z
  .strictObject({
    path: z
      .string()
      .regex(/^(?:\/[a-z0-9][a-z0-9-]*)+$/, 'a path such as /backchannel-logout')
      .default('/backchannel-logout')
      .describe(
        'where issuers post logout tokens, below the public URL; open only if an issuer has logoutAudiences',
      ),
  })
  .prefault({})

export type IntrospectionSettings = z.output<typeof introspectionSchema>

/** What the common issuers put where. docs/issuers.md shows a token of each, and a test reads them. */

/** Where a token says what; dots go into nested objects. */
export type ClaimPaths = Readonly<Record<ClaimName, string>>

const STANDARD = {
  subject: 'sub',
  client: 'client_id',
  token: 'jti',
  scope: 'scope',
  patient: 'patient',
  encounter: 'encounter',
  fhirContext: 'fhirContext',
  fhirUser: 'fhirUser',
  roles: 'roles',
  purposes: 'purpose_of_use',
  organization: 'organization',
  acr: 'acr',
  amr: 'amr',
  authTime: 'auth_time',
  session: 'sid',
} as const

export type ClaimName = keyof typeof STANDARD

/** A claim that only tokens of a client itself have; `{client}` stands for its id. */
export type ClientMark = { readonly claim: string; readonly value: string }

type Preset = {
  readonly claims: Partial<ClaimPaths>
  readonly algorithms: readonly Algorithm[]
  readonly clientMark?: ClientMark
}

export const ALGORITHMS = [
  ...(['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const),
  ...(['ES256', 'ES384', 'ES512', 'EdDSA'] as const),
] as const
export type Algorithm = (typeof ALGORITHMS)[number]

/** RFC 7518 §3.1 without the symmetric ones; RS512 and its kin are rarer, and must be asked for. */
export const USUAL_ALGORITHMS = [
  ...(['RS256', 'RS384', 'PS256', 'PS384', 'ES256', 'ES384', 'EdDSA'] as const),
] as const satisfies readonly Algorithm[]

export const PRESETS = {
  keycloak: {
    claims: { client: 'azp', roles: 'realm_access.roles' },
    algorithms: ['RS256', 'PS256', 'ES256', 'EdDSA'],
    // The subject of a service account is a user that Keycloak keeps for it.
    clientMark: { claim: 'preferred_username', value: 'service-account-{client}' },
  },
  entra: {
    claims: { client: 'azp', scope: 'scp', token: 'uti' },
    algorithms: ['RS256'],
    // An optional claim: without it, tokens of clients are taken for those of persons, and fail.
    clientMark: { claim: 'idtyp', value: 'app' },
  },
  okta: {
    // `sub` is a login name, which may pass to somebody else; `uid` does not (AUTHN-7).
    claims: { subject: 'uid', client: 'cid', scope: 'scp', roles: 'groups' },
    algorithms: ['RS256'],
  },
  auth0: {
    claims: { client: 'azp', roles: 'permissions' },
    algorithms: ['RS256', 'PS256'],
    clientMark: { claim: 'sub', value: '{client}@clients' },
  },
  epic: {
    claims: {},
    algorithms: ['RS256', 'RS384', 'ES384'],
  },
} as const satisfies Record<string, Preset>

export type PresetName = keyof typeof PRESETS
export const PRESET_NAMES = Object.keys(PRESETS) as [PresetName, ...PresetName[]]

/** The default of a claim path, for the documentation. */
export const standardPath = (name: ClaimName): string => STANDARD[name]

type Given = {
  readonly preset?: PresetName | undefined
  readonly algorithms?: Algorithm[] | undefined
  readonly clientMark?: ClientMark | undefined
  readonly claims: { readonly [Name in ClaimName]?: string | undefined }
}

/** What is given goes before the preset, the preset before the standard. */
export function fillPreset({ preset, algorithms, claims, clientMark }: Given): {
  readonly claims: ClaimPaths
  readonly algorithms: Algorithm[]
  readonly clientMark: ClientMark | undefined
} {
  const chosen: Preset | undefined = preset === undefined ? undefined : PRESETS[preset]
  const given = Object.entries(claims).filter(([, path]) => path !== undefined)
  return {
    algorithms: algorithms ?? [...(chosen?.algorithms ?? USUAL_ALGORITHMS)],
    claims: {
      ...STANDARD,
      ...chosen?.claims,
      ...(Object.fromEntries(given) as Partial<ClaimPaths>),
    },
    clientMark: clientMark ?? chosen?.clientMark,
  }
}

/** `.well-known/smart-configuration` (SMART App Launch 2.2, Conformance). */

export type SmartConfigurationParts = {
  /** The issuer's discovery document (RFC 8414, OpenID Connect Discovery). */
  readonly metadata: Readonly<Record<string, unknown>>
  /** Whether scopes as SMART v1 writes them grant anything. */
  readonly takesV1: boolean
}

/** Members taken over from discovery, as they stand there, when they are there. */
const TAKEN = [
  'authorization_endpoint',
  'token_endpoint',
  'introspection_endpoint',
  'revocation_endpoint',
  'registration_endpoint',
  'response_types_supported',
  'token_endpoint_auth_methods_supported',
  'token_endpoint_auth_signing_alg_values_supported',
] as const

/**
 * Builds the document (JSON text). `capabilities` name only what this gateway enforces (DISC-3);
 * `issuer` and `jwks_uri` are left out, since `sso-openid-connect` is not claimed (DISC-2).
 */
export function buildSmartConfiguration({ metadata, takesV1 }: SmartConfigurationParts): string {
  const document: Record<string, unknown> = {}
  for (const name of TAKEN) {
    if (metadata[name] !== undefined) document[name] = metadata[name]
  }
  const grants = metadata['grant_types_supported']
  document['grant_types_supported'] = Array.isArray(grants)
    ? grants
    : ['authorization_code', 'client_credentials']
  // "SHALL include S256 and SHALL NOT include plain"
  document['code_challenge_methods_supported'] = ['S256']
  document['capabilities'] = [
    ...(takesV1 ? ['permission-v1'] : []),
    'permission-v2',
    'permission-patient',
    'permission-user',
    'context-standalone-patient',
  ]
  return JSON.stringify(document)
}

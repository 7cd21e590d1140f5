/** OAuth 2.0 Protected Resource Metadata (RFC 9728): which authorization servers this API believes. */

export type ProtectedResourceParts = {
  /** The public FHIR base: the resource identifier. */
  readonly resource: string
  readonly issuers: readonly string[]
  /** RFC 9449: signature algorithms of proofs. */
  readonly proofAlgorithms: readonly string[]
  /** Whether every token must be bound to a key (RFC 9449). */
  readonly requiresProof: boolean
  /** Whether tokens bound to a client certificate can be used (RFC 8705). */
  readonly takesCertificates: boolean
}

/** Builds the document (JSON text), RFC 9728 §2. */
export function buildProtectedResource(parts: ProtectedResourceParts): string {
  return JSON.stringify({
    resource: parts.resource,
    authorization_servers: parts.issuers,
    scopes_supported: ['patient/*.cruds', 'user/*.cruds', 'system/*.cruds'],
    // AUTHN-3: a token is taken from the Authorization header and from nowhere else.
    bearer_methods_supported: ['header'],
    dpop_signing_alg_values_supported: parts.proofAlgorithms,
    dpop_bound_access_tokens_required: parts.requiresProof,
    tls_client_certificate_bound_access_tokens: parts.takesCertificates,
    resource_name: 'FHIR API',
  })
}

/**
 * RFC 9728 §3.1: "inserting a well-known URI string into the protected resource's resource identifier
 * between the host component and the path and/or query components".
 */
export function protectedResourceUrl(resource: string): string {
  const { origin, pathname } = new URL(resource)
  return `${origin}/.well-known/oauth-protected-resource${pathname.replace(/\/$/, '')}`
}

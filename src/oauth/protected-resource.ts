/** OAuth 2.0 Protected Resource Metadata (RFC 9728): which authorization servers this API believes. */

export type ProtectedResourceParts = {
  /** The public FHIR base: the resource identifier. */
  readonly resource: string
  readonly issuers: readonly string[]
}

/** Builds the document (JSON text), RFC 9728 §2. */
export function buildProtectedResource({ resource, issuers }: ProtectedResourceParts): string {
  return JSON.stringify({
    resource,
    authorization_servers: issuers,
    scopes_supported: ['patient/*.cruds', 'user/*.cruds', 'system/*.cruds'],
    // AUTHN-3: a token is taken from the Authorization header and from nowhere else.
    bearer_methods_supported: ['header'],
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

/** The WWW-Authenticate challenge of RFC 6750 §3. */
export type Challenge = {
  readonly realm: string
  readonly error?: 'invalid_request' | 'invalid_token' | 'insufficient_scope'
  readonly scope?: string
  /** RFC 9728 §5.1: where a client finds which authorization server to ask. */
  readonly resourceMetadata?: string
}

/**
 * Formats a challenge. RFC 6750 §3.1: "If the request lacks any authentication information … the
 * resource server SHOULD NOT include an error code": leave `error` out then.
 */
export function formatChallenge({ realm, error, scope, resourceMetadata }: Challenge): string {
  const parts = [`Bearer realm=${quote(realm)}`]
  if (error !== undefined) parts.push(`error=${quote(error)}`)
  if (scope !== undefined) parts.push(`scope=${quote(scope)}`)
  if (resourceMetadata !== undefined) parts.push(`resource_metadata=${quote(resourceMetadata)}`)
  return parts.join(', ')
}

/** quoted-string of RFC 9110 §5.6.4; what may not stand in one is left out. */
function quote(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, '').replace(/[\\"]/g, '\\$&')}"`
}

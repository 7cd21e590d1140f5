/** Access token credentials (RFC 6750 §2.1, RFC 9449 §7.1). */

export class CredentialsError extends Error {
  override readonly name = 'CredentialsError'
  readonly reason: 'credentials-missing' | 'credentials-malformed' | 'token-invalid'

  constructor(reason: CredentialsError['reason'], message: string) {
    super(message)
    this.reason = reason
  }
}

export type Credentials = { readonly scheme: 'Bearer' | 'DPoP'; readonly token: string }

/** RFC 6750 §2.1: b64token. Longer than any token a gateway should read is malformed. */
const B64TOKEN = /^[A-Za-z0-9\-._~+/]+=*$/
const LONGEST = 16_384

/**
 * Reads the one Authorization header of a request. RFC 6750 §2: "Clients MUST NOT use more than one
 * method to transmit the token in each request", so a second header is malformed, not ignored. What the
 * token is made of is not looked at: {@link checkForm}.
 *
 * @param rawHeaders - names and values alternating, as received
 */
export function parseCredentials(rawHeaders: readonly string[]): Credentials {
  let found: string | undefined
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] ?? ''
    if (name.length !== 13 || name.toLowerCase() !== 'authorization') continue
    if (found !== undefined) {
      throw new CredentialsError('credentials-malformed', 'two Authorization headers')
    }
    found = rawHeaders[i + 1] ?? ''
  }
  if (found === undefined || found === '') {
    throw new CredentialsError('credentials-missing', 'no Authorization header')
  }
  const space = found.indexOf(' ')
  const scheme = (space === -1 ? found : found.slice(0, space)).toLowerCase()
  if (scheme !== 'bearer' && scheme !== 'dpop') {
    // RFC 9110 §11.6.1: a scheme that is not ours is no credential of ours.
    throw new CredentialsError('credentials-missing', 'another authentication scheme')
  }
  const token = space === -1 ? '' : found.slice(space + 1)
  if (token.length > LONGEST) throw malformed()
  return { scheme: scheme === 'dpop' ? 'DPoP' : 'Bearer', token }
}

/** Throws when a token is not of RFC 6750's form. One that was verified before need not be asked again. */
export function checkForm(token: string): void {
  if (!B64TOKEN.test(token)) throw malformed()
}

const malformed = (): CredentialsError =>
  new CredentialsError('credentials-malformed', 'not a token of RFC 6750 form')

/** The scheme a challenge should answer in; Bearer when there are no credentials that can be read. */
export function schemeOf(authorization: string | string[] | undefined): Credentials['scheme'] {
  return /^dpop /i.test(String(authorization)) ? 'DPoP' : 'Bearer'
}

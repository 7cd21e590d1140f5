import { randomUUID } from 'node:crypto'
import type { Config } from '../../config/schema.ts'
import type { Exchange, Principal } from '../../exchange.ts'
import { parseCredentials } from '../../oauth/credentials.ts'
import type { Clock, Signer, Upstream } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'

const LASTS_SECONDS = 60
/** An assertion is signed anew when it has less than this left, so that it does not end on its way. */
const LEAST_SECONDS = 20

/**
 * Tells upstream on whose behalf it is asked, as far as configured: by a short assertion of our own,
 * by the address of the client, or by the caller's token. Nothing is configured by default, and then
 * upstream learns nothing.
 *
 * @throws {Refusal} `token-invalid`: the caller's token is to be sent on, but is not for upstream
 */
export function createVouch(
  config: Config,
  ports: { readonly clock: Clock; readonly signer: Signer | undefined },
): (exchange: Exchange, principal: Principal, upstream: Upstream) => Upstream {
  const { assertion, forwardToken, forwardedFor, url, audience } = config.upstream
  const { clock, signer } = ports
  if (signer === undefined && !forwardToken && forwardedFor === 'none')
    return (_, __, upstream) => upstream
  const header = assertion.header.toLowerCase()

  function formatClaims(exchange: Exchange, principal: Principal, now: number) {
    return {
      iss: assertion.issuer ?? config.public.url,
      aud: assertion.audience ?? url,
      // AUTHN-7: a subject is one only together with who named it.
      sub: principal.subject ?? principal.clientId,
      sub_iss: principal.issuer,
      ...(principal.clientId === undefined ? {} : { client_id: principal.clientId }),
      roles: principal.roles,
      purpose_of_use: principal.purposes,
      exchange_id: exchange.id,
      jti: randomUUID(),
      iat: now,
      exp: now + LASTS_SECONDS,
    }
  }

  return function vouch(exchange, principal, upstream) {
    const told: Record<string, string> = {}
    if (forwardToken) {
      // AUTHN-19: "never to a different audience".
      if (principal.audiences?.includes(audience ?? url) !== true) {
        throw new Refusal('token-invalid', { detail: 'the audience is not upstream as well' })
      }
      const { scheme, token } = parseCredentials(exchange.arrival.rawHeaders)
      if (scheme !== 'Bearer') {
        throw new Refusal('token-invalid', { detail: 'a bound token cannot be sent on' })
      }
      told['authorization'] = `Bearer ${token}`
    }
    const { address } = exchange.arrival
    if (forwardedFor === 'x-forwarded-for') told['x-forwarded-for'] = address
    else if (forwardedFor === 'forwarded') told['forwarded'] = `for=${formatNode(address)}`

    let signed: { readonly text: string; readonly at: number } | undefined
    return async (request) => {
      if (signer !== undefined) {
        const now = Math.floor(clock.now() / 1000)
        if (signed === undefined || now - signed.at > LASTS_SECONDS - LEAST_SECONDS) {
          signed = { text: await signer.sign(formatClaims(exchange, principal, now)), at: now }
        }
        told[header] = signed.text
      }
      return upstream({ ...request, headers: { ...request.headers, ...told } })
    }
  }
}

/** RFC 7239 §6: an IPv6 address stands in brackets and quotes. */
function formatNode(address: string): string {
  return address.includes(':') ? `"[${address}]"` : address
}

import type { Config } from '../../config/schema.ts'
import type { Principal } from '../../exchange.ts'
import type { Clock, Denylist } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import { checkTime } from './validity.ts'

/**
 * Asks once more, at once, what may have ended since a token was shown (AUTHN-18): a body can be long on
 * its way, and a batch has many entries. Throws Refusal when it is denied, or its time is over.
 */
export function createRecheck(
  config: Config,
  { clock, denylist }: { readonly clock: Clock; readonly denylist: Denylist },
): (principal: Principal) => void {
  const issuers = new Map(config.issuers.map((issuer) => [issuer.url, issuer]))
  return (principal) => {
    if (denylist.isDenied(principal)) throw new Refusal('token-revoked')
    const { issuer, expiresAt } = principal
    checkTime({ principal, expiresAt, notBefore: 0 }, issuers.get(issuer), clock.now() / 1000)
  }
}

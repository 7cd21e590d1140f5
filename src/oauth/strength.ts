/** How strongly and how recently a person must have authenticated (RFC 9470). */

export type Strength = {
  /** One of these Authentication Context Class References. */
  readonly acr?: readonly string[] | undefined
  /** All of these methods (RFC 8176). */
  readonly amr?: readonly string[] | undefined
  /** No longer ago than this, seconds. */
  readonly within?: number | undefined
}

/** What a token says of how its person authenticated. */
export type Authentication = {
  readonly acr?: string | undefined
  readonly amr?: readonly string[]
  /** `auth_time`: seconds since the epoch. */
  readonly authTime?: number | undefined
}

/** What a client is told to ask its authorization server for (RFC 9470 §3). */
export type StepUp = { readonly acrValues?: readonly string[]; readonly maxAge?: number }

/** A time of the issuer's clock may be so far ahead of ours, seconds; beyond, it tells nothing. */
const AHEAD = 60

/** Seconds since a person authenticated; undefined when the token does not tell. */
export function authenticatedAgo({ authTime }: Authentication, now: number): number | undefined {
  if (authTime === undefined || authTime > now + AHEAD) return undefined
  return Math.max(0, now - authTime)
}

/** What an authentication lacks of all that is required, or undefined: nothing. */
export function findLack(
  who: Authentication,
  required: readonly Strength[],
  now: number,
): StepUp | undefined {
  if (required.every((strength) => isEnough(who, strength, now))) return undefined
  const lists = required.flatMap(({ acr }) => (acr === undefined ? [] : [acr]))
  const ages = required.flatMap(({ within }) => within ?? [])
  const [first, ...others] = lists
  const common = first?.filter((value) => others.every((list) => list.includes(value)))
  return {
    ...(common === undefined || common.length === 0 ? {} : { acrValues: common }),
    ...(ages.length === 0 ? {} : { maxAge: Math.min(...ages) }),
  }
}

function isEnough(who: Authentication, { acr, amr = [], within }: Strength, now: number): boolean {
  if (acr !== undefined && (who.acr === undefined || !acr.includes(who.acr))) return false
  if (!amr.every((method) => who.amr?.includes(method) === true)) return false
  return within === undefined || (authenticatedAgo(who, now) ?? Infinity) <= within
}

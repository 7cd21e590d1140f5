import { isIPv6 } from 'node:net'
import type { Config } from '../../config/schema.ts'
import type { Arrival, Principal } from '../../exchange.ts'
import type { InteractionCode, Interaction } from '../../fhir/interaction.ts'
import type { Permit } from '../../permit.ts'
import type { Asked, Rate, Shortage, Take } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'

/**
 * What an interaction costs, in cells (RATE-1: search and everything above a read weigh more, by what
 * they make upstream do).
 */
const COSTS: Readonly<Record<InteractionCode, number>> = {
  capabilities: 1,
  versions: 1,
  read: 1,
  vread: 1,
  update: 2,
  'conditional-update': 4,
  patch: 2,
  'conditional-patch': 4,
  delete: 2,
  'conditional-delete': 4,
  'delete-history': 4,
  create: 2,
  'conditional-create': 4,
  'search-type': 3,
  'search-system': 5,
  'search-compartment': 5,
  'history-instance': 3,
  'history-type': 5,
  'history-system': 5,
  batch: 10,
  operation: 5,
  paging: 3,
}
/** Criteria that make upstream join: each costs as much as a read more. */
const JOINING = new Set(['_include', '_revinclude', '_has'])

export type Limit = {
  /**
   * Before anything else: takes one cell from the counter of the address.
   * @throws {Refusal} `rate-exceeded`: too many requests, or too many failed authentications (RATE-4)
   */
  readonly address: (arrival: Arrival) => Promise<void>
  /**
   * After authentication: takes what the interaction costs from the counter of the principal.
   * @throws {Refusal} `rate-exceeded`
   */
  readonly principal: (principal: Principal, interaction: Interaction) => Promise<void>
  /**
   * After authorization: takes one cell for each rule that permitted and has a rate of its own.
   * @throws {Refusal} `rate-exceeded`
   */
  readonly permit: (principal: Principal, permit: Permit) => Promise<void> | undefined
  /** After a failed authentication: counts it against the address. */
  readonly failed: (arrival: Arrival) => Promise<void>
}

/**
 * How much may be asked (RATE-1, RATE-2, RATE-4). The `detail` of a refusal is the name of the bucket
 * that was empty, which metrics count by.
 */
export function createLimit(
  config: Config,
  ports: { readonly take: Take; readonly rates: () => ReadonlyMap<string, Rate> },
): Limit {
  const { address, principal, failures } = config.limits
  const { take, rates } = ports

  return {
    address: (arrival) => {
      const key = addressKey(arrival.address)
      return check(
        take(
          { bucket: 'failures', key, rate: failures, cost: 0 },
          { bucket: 'address', key, rate: address, cost: 1 },
        ),
      )
    },
    principal: ({ key }, interaction) =>
      check(take({ bucket: 'principal', key, rate: principal, cost: costOf(interaction) })),
    permit: ({ key }, { rules }) => {
      const limited = rates()
      // Mostly no rule has one, and then nothing is waited for.
      if (!rules.some((rule) => limited.has(rule))) return undefined
      const asked = rules.flatMap((rule): Asked[] => {
        const rate = limited.get(rule)
        return rate === undefined ? [] : [{ bucket: 'rule', key: `${rule} ${key}`, rate, cost: 1 }]
      })
      return check(take(...asked))
    },
    async failed(arrival) {
      const key = addressKey(arrival.address)
      await check(take({ bucket: 'failures', key, rate: failures, cost: 1 }))
    },
  }
}

async function check(asked: Promise<Shortage | undefined>): Promise<void> {
  const shortage = await asked
  if (shortage === undefined) return
  const retryAfter = String(Math.max(1, shortage.retryAfter))
  throw new Refusal('rate-exceeded', {
    detail: shortage.bucket,
    headers: { 'retry-after': retryAfter },
  })
}

function costOf(interaction: Interaction): number {
  let cost = COSTS[interaction.code]
  for (const { name, chain } of interaction.parameters) {
    if (chain !== undefined || JOINING.has(name)) cost++
  }
  return cost
}

/**
 * The counter an address belongs to. A single IPv6 client has a whole /64 to choose from (RFC 6177),
 * so the /64 is what is counted; an IPv4-mapped address (RFC 4291 §2.5.5.2) is its IPv4 address.
 */
export function addressKey(address: string): string {
  if (!address.includes(':')) return address
  const bare = address.replace(/%.*$/, '').toLowerCase()
  if (!isIPv6(bare)) return bare
  const groups = expand(bare)
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high = 0, low = 0] = groups.slice(6)
    return `${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`
  }
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`
}

/** The eight groups of a valid IPv6 address. */
function expand(address: string): number[] {
  const [before = '', after] = address.split('::')
  const head = groupsOf(before)
  if (after === undefined) return head
  const tail = groupsOf(after)
  return [...head, ...Array<number>(8 - head.length - tail.length).fill(0), ...tail]
}

function groupsOf(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [parseInt(group, 16)]
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
    return [(a << 8) | b, (c << 8) | d]
  })
}

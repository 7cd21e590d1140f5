import { BlockList, isIP } from 'node:net'
import { recall } from '../recall.ts'

/** What is known of the way a request came, from its connection and from hops that are believed. */
export type Way = {
  /** The client: the peer, or who a believed hop says it answers for. */
  readonly address: string
  /** Whether the peer is a hop that is believed. */
  readonly isTrusted: boolean
  /** Whether the peer is this very machine. */
  readonly isLocal: boolean
  /** Whether a believed hop says that the client came by plain HTTP. */
  readonly cameInPlain: boolean
}

const MOST_PEERS = 1000

type Headers = Readonly<Record<string, string | string[] | undefined>>

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/**
 * Reads the way of requests (HTTP-3): X-Forwarded-For is believed from configured hops only, and only
 * its last foreign entry; X-Forwarded-Proto from them, too. Whatever else was forwarded says nothing.
 *
 * @param trusted CIDR ranges of the hops that are believed
 */
export function createWayReader(
  trusted: readonly string[],
): (peer: string | undefined, headers: Headers) => Way {
  const hops = buildList(trusted)

  /** A peer is judged once, for all the requests of its connections. */
  const wayFrom = recall(
    (peer): Way => {
      const near = plainAddress(peer)
      const isTrusted = hops !== undefined && isIn(hops, near)
      return { address: near, isTrusted, isLocal: isIn(LOOPBACK, near), cameInPlain: false }
    },
    { most: MOST_PEERS },
  )

  return (peer, headers) => {
    const way = wayFrom(peer ?? '')
    if (!way.isTrusted || hops === undefined) return way
    const near = way.address
    const protocol = listOf(headers['x-forwarded-proto']).at(-1)
    const cameInPlain = protocol !== undefined && protocol.toLowerCase() !== 'https'
    let address = near
    for (const hop of listOf(headers['x-forwarded-for']).reverse()) {
      if (!isIn(hops, address)) break
      const candidate = plainAddress(withoutPort(hop))
      if (isIP(candidate) === 0) break
      address = candidate
    }
    return { ...way, address, cameInPlain }
  }
}

function buildList(ranges: readonly string[]): BlockList | undefined {
  if (ranges.length === 0) return undefined
  const list = new BlockList()
  for (const range of ranges) {
    const [address = '', prefix] = range.split('/')
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4'
    list.addSubnet(address, Number(prefix ?? (family === 'ipv6' ? 128 : 32)), family)
  }
  return list
}

function listOf(value: string | string[] | undefined): string[] {
  if (value === undefined) return []
  return (typeof value === 'string' ? value : value.join()).split(',').map((part) => part.trim())
}

function isIn(list: BlockList, address: string): boolean {
  const family = isIP(address)
  return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4')
}

/** Some proxies name the port too: `192.0.2.1:5678`, `[2001:db8::1]:5678`, `[2001:db8::1]`. */
const WITH_PORT = /^(?:\[([0-9a-f]*:[0-9a-f:.]*)\](?::\d{1,5})?|([0-9.]+):\d{1,5})$/i

function withoutPort(hop: string): string {
  const found = WITH_PORT.exec(hop)
  return found?.[1] ?? found?.[2] ?? hop
}

function plainAddress(address: string): string {
  return address.startsWith('::ffff:') && isIP(address.slice(7)) === 4 ? address.slice(7) : address
}

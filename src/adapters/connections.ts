import { readFileSync } from 'node:fs'
import type { Server, Socket } from 'node:net'

/** What is open besides connections of clients: listeners, files, Redis, issuers, those who look at us. */
const OTHERS = 128

/**
 * Connections of clients that there are file descriptors for, beside `upstream` to the FHIR server: at
 * the last one taken nothing could be asked, recorded or told any more. Infinity where nobody says.
 */
export function roomForConnections(upstream: number): number {
  try {
    const limits = readFileSync('/proc/self/limits', 'latin1')
    const files = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Infinity)
    return Math.max(16, files - upstream - OTHERS)
  } catch {
    return Infinity
  }
}

/** Closes what comes beyond `most`, and what one client holds beyond `ofOne` (RATE-6). */
export function boundConnections(
  server: Server,
  bounds: {
    readonly most: number
    readonly ofOne: number
    /** Who is at the other end; undefined: one who speaks for many. */
    readonly holderOf: (address: string) => string | undefined
  },
  closed?: (reason: 'all' | 'address') => void,
): void {
  const held = new Map<string, number>()
  if (bounds.most < Infinity) server.maxConnections = bounds.most
  server.on('drop', () => closed?.('all'))
  server.on('connection', (socket: Socket) => {
    const holder = bounds.holderOf(socket.remoteAddress ?? '')
    if (holder === undefined) return
    const count = held.get(holder) ?? 0
    if (count >= bounds.ofOne) {
      socket.destroy()
      closed?.('address')
      return
    }
    held.set(holder, count + 1)
    socket.once('close', () => {
      const left = (held.get(holder) ?? 1) - 1
      if (left === 0) held.delete(holder)
      else held.set(holder, left)
    })
  })
}

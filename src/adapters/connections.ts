import { readFileSync } from 'node:fs'
import type { IncomingMessage, Server as HttpServer } from 'node:http'
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

/** Bytes that may still come of a request that is answered, and milliseconds in which it must end. */
const MOST_REST = 65_536
const REST_MS = 1_000

/**
 * Ends connections on which a request goes on after its answer. What is refused is answered before its body
 * has come, and node reads that to its end and forgets it: who never ends it would keep the process busy for
 * nothing that counts against anybody (RATE-6). The answer has left, and there is time to read it.
 */
export function boundRests(server: HttpServer): void {
  server.on('request', (request, response) => {
    // Whoever has read a part of the body takes the socket from the request.
    const { headers, socket } = request
    if ((headers['transfer-encoding'] ?? headers['content-length']) === undefined) return
    response.once('finish', () => {
      if (!request.complete) boundRest(request, socket)
    })
  })
}

function boundRest(request: IncomingMessage, socket: Socket): void {
  let rest = 0
  const timer = setTimeout(() => socket.destroy(), REST_MS).unref()
  const count = ({ length }: Buffer): void => {
    rest += length
    if (request.complete) stop()
    else if (rest > MOST_REST) socket.pause()
  }
  const stop = (): void => {
    clearTimeout(timer)
    socket.off('data', count).off('close', stop)
  }
  socket.on('data', count).on('close', stop)
}

import type { ServerResponse } from 'node:http'
import type { Answer } from '../exchange.ts'
import { createTurnEnd } from './turn.ts'

export type Delivery = {
  /** Writes an answer as it stands; it arrives, or its connection ends. */
  readonly send: (raw: ServerResponse, answer: Answer) => void
  /** Bytes of whole answers that their clients have not taken yet, of one holder or of all. */
  readonly undelivered: (holder?: string) => number
}

/** Statuses without a body; of any length that one would have nothing is said. */
const BARE: ReadonlySet<number> = new Set([204, 304])
const ONE_WRITE = 8192
/** A larger body goes in slices: each has to be taken, and no more than one is encrypted at a time. */
const SLICE = 65_536

/**
 * Brings answers to their clients. Past Fastify's own way out: hooks, serializers and headers that its
 * plugins have set have no say in what leaves, and it is faster.
 *
 * @param patienceMs whoever takes nothing for so long gets no more: memory, and mostly a connection to
 *   upstream, is held for it
 */
export function createDelivery(patienceMs: number): Delivery {
  const turnEnd = createTurnEnd()
  let owed = 0
  /** The same by whom it counts against. */
  const owedBy = new Map<string, number>()

  function owe(bytes: number, holder: string | undefined): void {
    owed += bytes
    if (holder === undefined || bytes === 0) return
    const sum = (owedBy.get(holder) ?? 0) + bytes
    if (sum > 0) owedBy.set(holder, sum)
    else owedBy.delete(holder)
  }

  function send(raw: ServerResponse, { status, headers, body, holder }: Answer): void {
    if (body !== undefined && !Buffer.isBuffer(body)) {
      raw.writeHead(status, headers)
      void writePieces(raw, body, 0, holder)
      return
    }
    const bytes = body?.length ?? 0
    // RFC 9110 §8.6: a length there would be that of the answer to a GET.
    const isBare = body === undefined && (BARE.has(status) || raw.req.method === 'HEAD')
    raw.writeHead(status, isBare ? headers : { ...headers, 'content-length': bytes })
    if (body !== undefined && bytes > SLICE) {
      void writePieces(raw, slicesOf(body), bytes, holder)
      return
    }
    if (body === undefined) raw.end()
    // As text a small body goes out in one piece with the head, byte for byte (latin1 is the identity).
    else if (bytes <= ONE_WRITE) raw.end(body.toString('latin1'), 'latin1')
    else raw.end(body)
    // Mostly it has gone out already.
    if (raw.writableLength > 0) void settleWhole(raw, bytes, holder)
  }

  /**
   * Each piece when there is room for it. By hand: a Readable and a pipeline between would take a tenth
   * of all that a large answer costs.
   */
  async function writePieces(
    raw: ServerResponse,
    pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
    bytes: number,
    holder: string | undefined,
  ): Promise<void> {
    owe(bytes, holder)
    try {
      for await (const piece of pieces) {
        if (!raw.destroyed && !raw.write(piece)) await settle(raw, 'drain')
        // To leave the loop ends the body as well.
        if (raw.destroyed) throw new Error('the client has gone')
      }
      raw.end()
      await settle(raw, 'finish')
    } catch {
      // A body that fails ends the connection: half an answer must not look like a whole one.
      raw.destroy()
    } finally {
      owe(-bytes, holder)
    }
  }

  async function settleWhole(
    raw: ServerResponse,
    bytes: number,
    holder: string | undefined,
  ): Promise<void> {
    owe(bytes, holder)
    await settle(raw, 'finish')
    owe(-bytes, holder)
  }

  /** Resolves when what was written has gone out: mostly by the end of the turn, and without a timer. */
  async function settle(raw: ServerResponse, event: 'drain' | 'finish'): Promise<void> {
    await turnEnd()
    if (raw.writableLength > 0 && !raw.destroyed) await waitFor(event, raw)
  }

  /** Resolves at the event, or when there is nobody any more to wait for. */
  async function waitFor(event: 'drain' | 'finish', raw: ServerResponse): Promise<void> {
    await new Promise<void>((resolve) => {
      const { socket } = raw.req
      // An answer behind another on its connection waits for as long as that is taken.
      let written = socket.bytesWritten
      const go = (): void => {
        clearTimeout(timer)
        raw.off(event, go).off('close', go)
        resolve()
      }
      const timer = setTimeout(() => {
        if (socket.bytesWritten === written) {
          raw.destroy()
          socket.destroy()
          go()
        } else {
          written = socket.bytesWritten
          timer.refresh()
        }
      }, patienceMs)
      raw.on(event, go).on('close', go)
    })
  }

  return {
    send,
    undelivered: (holder) => (holder === undefined ? owed : (owedBy.get(holder) ?? 0)),
  }
}

function* slicesOf(body: Buffer): Generator<Buffer> {
  for (let at = 0; at < body.length; at += SLICE) yield body.subarray(at, at + SLICE)
}

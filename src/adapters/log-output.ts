import { write, writeSync } from 'node:fs'
import type { DestinationStream } from 'pino'

/** What may wait for whoever reads: a log that nobody takes must not fill the memory. */
const MOST_WAITING = 4_194_304
const AGAIN_MS = 100

/**
 * Log lines to a file descriptor, never waited for. A reader that has gone or stands still, a full disk:
 * what is logged is lost then, beyond what may wait, and what is served is not. When lines are taken again,
 * `missing` makes one that says how many were not. `end` is for the moment the process ends, and does not
 * wait for a reader either.
 */
export function openLogOutput(
  fd: number,
  missing: (count: number) => string,
): DestinationStream & { readonly end: () => void } {
  let lines: string[] = []
  let length = 0
  let dropped = 0
  let left: Buffer = Buffer.alloc(0)
  let state: 'idle' | 'writing' | 'failed' = 'idle'

  function takeLines(): Buffer {
    if (dropped > 0) lines.push(missing(dropped))
    const taken = Buffer.from(lines.join(''))
    lines = []
    length = dropped = 0
    return taken
  }

  function writeNext(): void {
    if (left.length === 0) left = takeLines()
    state = left.length === 0 ? 'idle' : 'writing'
    if (state === 'idle') return
    write(fd, left, (error, written) => {
      if (error === null) {
        left = left.subarray(written)
        writeNext()
        return
      }
      state = 'failed'
      setTimeout(writeNext, AGAIN_MS).unref()
    })
  }

  return {
    write(line) {
      if (length + line.length > MOST_WAITING) {
        dropped += 1
        return
      }
      lines.push(line)
      length += line.length
      if (state === 'idle') writeNext()
    },
    end() {
      try {
        // What is being written is still written, before the process ends.
        let rest = Buffer.concat([state === 'failed' ? left : Buffer.alloc(0), takeLines()])
        while (rest.length > 0) rest = rest.subarray(writeSync(fd, rest))
      } catch {
        // Nobody takes it.
      }
    },
  }
}

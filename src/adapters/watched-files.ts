import { readFileSync } from 'node:fs'
import type { Log } from '../ports.ts'

/** How long changed files must stand still before they are read, milliseconds. */
const STILL_MS = 200

/** What a few files hold, which follows them. */
export type WatchedFiles<Value> = {
  readonly current: () => Value
  /** Looks now, without waiting for the files to stand still. */
  readonly look: () => void
  readonly close: () => void
}

/** What {@link watchFiles} needs besides the files. */
export type WatchOptions<Value> = {
  /** The setting that names them, for log and metrics. */
  readonly setting: string
  readonly log: Log
  /** Called once for each new content: taken over, or refused. */
  readonly reloaded?: (setting: string, result: 'reloaded' | 'failed') => void
  /** Called with each value that takes the place of another. */
  readonly changed?: (value: Value) => void
  readonly intervalMs?: number
}

/**
 * Reads files, goes on watching them, and takes over what they hold when it can be used; what cannot
 * leaves the old value in force and alarms. Contents are compared, so that a Secret swapped by
 * symbolic links counts and a touched file does not; they must stand still for a moment, because half
 * a file can look like a whole one. Throws when the first content cannot be used.
 */
export function watchFiles<Value>(
  files: readonly string[],
  load: (contents: readonly Buffer[]) => Value,
  options: WatchOptions<Value>,
): WatchedFiles<Value> {
  const { setting, log, reloaded, changed, intervalMs = 2000 } = options
  let [seen, current] = begin(files, load, setting)
  let moving = seen
  let soon: NodeJS.Timeout | undefined

  function take(found: readonly Buffer[] | undefined): void {
    seen = found
    try {
      if (found === undefined) throw new Error('a file cannot be read')
      current = load(found)
    } catch (error) {
      // The message of a parser may quote what it read, which is a secret here: its code alone.
      const { code, message } = error as NodeJS.ErrnoException
      log.error({ setting, problem: code ?? message }, 'new files cannot be used; the old stay')
      reloaded?.(setting, 'failed')
      return
    }
    log.info({ setting }, 'new files are in force')
    reloaded?.(setting, 'reloaded')
    changed?.(current)
  }

  function lookWhenStill(): void {
    const found = readAll(files)
    if (isSame(found, seen)) {
      moving = found
    } else if (isSame(found, moving)) {
      take(found)
    } else {
      moving = found
      clearTimeout(soon)
      soon = setTimeout(lookWhenStill, Math.min(STILL_MS, intervalMs))
      soon.unref()
    }
  }

  const timer = setInterval(lookWhenStill, intervalMs)
  timer.unref()
  return {
    current: () => current,
    look() {
      const found = readAll(files)
      if (!isSame(found, seen)) take(found)
    },
    close() {
      clearInterval(timer)
      clearTimeout(soon)
    },
  }
}

/** The first content; whoever starts the gateway is told which setting is at fault. */
function begin<Value>(
  files: readonly string[],
  load: (contents: readonly Buffer[]) => Value,
  setting: string,
): [seen: readonly Buffer[] | undefined, current: Value] {
  try {
    const found = files.map((file) => readFileSync(file))
    return [found, load(found)]
  } catch (error) {
    throw new Error(`${setting}: ${(error as Error).message}`, { cause: error })
  }
}

function readAll(files: readonly string[]): readonly Buffer[] | undefined {
  try {
    return files.map((file) => readFileSync(file))
  } catch {
    return undefined
  }
}

function isSame(a: readonly Buffer[] | undefined, b: readonly Buffer[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return a.length === b.length && a.every((content, at) => content.equals(b[at] ?? Buffer.of()))
}

/** The text of a file that holds one secret: one line, as Docker and Kubernetes hand it over. */
export function parseSecret(content: Buffer | undefined): string {
  const text = (content ?? Buffer.of()).toString('utf8').replace(/\r?\n$/, '')
  // What goes into a header or a command must not begin a second one.
  if (!/^[^\p{Cc}]+$/u.test(text)) throw new Error('a secret file must hold one line')
  return text
}

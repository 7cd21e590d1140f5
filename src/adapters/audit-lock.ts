import { randomUUID } from 'node:crypto'
import { open, readFile, rename, stat, unlink, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { kill, pid } from 'node:process'

/** A lock of another machine that nobody has touched for so long is a dead writer's. */
const DEAD_AFTER_MS = 30_000

/** Who holds the lock. `started` tells two processes with one pid apart (a container's is always 1). */
type Holder = {
  readonly pid: number
  readonly host: string
  readonly started: string
  readonly token: string
}

export type AuditLock = {
  /** Touches the lock, and looks whether it is still ours. */
  readonly refresh: () => Promise<void>
  readonly isLost: () => boolean
  readonly release: () => Promise<void>
}

/**
 * Takes the lock file that keeps a second writer away. A lock whose process is gone is taken over.
 *
 * @throws when a live process holds it
 */
export async function takeAuditLock(
  path: string,
  warn: (fields: object, message: string) => void,
): Promise<AuditLock> {
  const self: Holder = {
    pid,
    host: hostname(),
    started: (await startOf(pid)) ?? '',
    token: randomUUID(),
  }
  const written = `${JSON.stringify(self)}\n`
  for (let attempt = 0; !(await isCreated(path, written)); attempt++) {
    const holder = await read(path)
    if (holder === undefined) continue
    if (attempt > 4 || (await isAlive(path, holder))) {
      throw new Error(`another process writes this audit log: see ${path}`)
    }
    await removeStale(path, holder)
    warn({ file: path }, 'audit: the lock of a process that is gone was taken over')
  }

  let lost = false
  const isOurs = async () => (await read(path)) === written
  return {
    isLost: () => lost,
    async refresh() {
      if (lost || !(await isOurs())) {
        lost = true
        return
      }
      const now = new Date()
      await utimes(path, now, now)
    },
    async release() {
      if (!lost && (await isOurs())) await unlink(path)
    },
  }
}

async function isCreated(path: string, written: string): Promise<boolean> {
  try {
    const handle = await open(path, 'wx', 0o600)
    try {
      await handle.writeFile(written)
    } finally {
      await handle.close()
    }
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

async function isAlive(path: string, written: string): Promise<boolean> {
  const holder = parse(written)
  const untouched = Date.now() - ((await stat(path).catch(() => undefined))?.mtimeMs ?? 0)
  // A holder that is just writing its name, or one on another machine: only time can tell.
  if (holder?.host !== hostname()) return untouched < DEAD_AFTER_MS
  const started = await startOf(holder.pid)
  if (started !== undefined) return started === holder.started
  // The process list says no such process; where there is no such list, ask the system.
  if ((await startOf(pid)) !== undefined) return false
  try {
    kill(holder.pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

function parse(written: string): Holder | undefined {
  try {
    const holder = JSON.parse(written) as Partial<Holder> | null
    if (typeof holder?.pid !== 'number' || typeof holder.host !== 'string') return undefined
    return { pid: holder.pid, host: holder.host, started: holder.started ?? '', token: '' }
  } catch {
    return undefined
  }
}

/** When a process was started, as Linux tells it: field 22 of `/proc/<pid>/stat`. */
async function startOf(process: number): Promise<string | undefined> {
  try {
    const line = await readFile(`/proc/${process}/stat`, 'latin1')
    // The name in field 2 may hold anything; the last ')' ends it.
    return line.slice(line.lastIndexOf(')') + 2).split(' ')[19]
  } catch {
    return undefined
  }
}

/** Renamed first: of two that find the same dead holder, one moves its lock, the other a live one. */
async function removeStale(path: string, holder: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`
  try {
    await rename(path, aside)
  } catch {
    return
  }
  if ((await read(aside)) === holder) await unlink(aside)
  else await rename(aside, path)
}

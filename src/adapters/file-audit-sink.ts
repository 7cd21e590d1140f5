import { hash } from 'node:crypto'
import { fstatSync, writeSync } from 'node:fs'
import type { Stats } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { open, stat } from 'node:fs/promises'
import { setImmediate as immediate } from 'node:timers/promises'
import type { AuditSink } from '../ports.ts'
import {
  chainOf,
  formatChain,
  LINE_END,
  NOTHING_BEFORE,
  readHead,
  writeHead,
} from './audit-chain.ts'
import type { Head } from './audit-chain.ts'
import type { AuditLock } from './audit-lock.ts'
import { takeAuditLock } from './audit-lock.ts'

const CHUNK_BYTES = 65_536
/** Room for the lines of most writes. */
const LINES_BYTES = 262_144

export type FileAuditSinkOptions = {
  /** Between two flushes to disk, milliseconds. */
  readonly syncMs?: number
  /** Told of what an operator must know: a torn line set aside, a lock taken over, a lost disk. */
  readonly warn?: (fields: object, message: string) => void
}

/** What goes with one write; whoever gave a record waits for the same promise. */
type Group = { readonly records: string[] } & PromiseWithResolvers<undefined>

/**
 * Audit records in a file, one AuditEvent a line, each chained to the line before it by an extension
 * (audit-chain.ts: `sequence`, and `previous` = sha256 of the bytes of the previous line, without
 * its line end). AUD-9: a changed, added or removed line breaks the chain; the last line is held by
 * `<file>.head`, written with every flush.
 *
 * Records that come while a write is under way are written together by the next one. `append`
 * resolves when the operating system has them; the disk has them a second later (`fsync`).
 *
 * Opening an existing file continues its chain. A last line without its end, left by a crash, is
 * moved to `<file>.torn-<sequence>`, and a record in the chain says so.
 *
 * @throws when another live process writes the file, when its last line is not one of this chain, or
 *   when lines that had reached the disk are missing at its end
 */
export async function createFileAuditSink(
  file: string,
  options: FileAuditSinkOptions = {},
): Promise<AuditSink> {
  const warn = options.warn ?? (() => undefined)
  const lock = await takeAuditLock(`${file}.lock`, warn)
  let handle: FileHandle | undefined
  try {
    handle = await open(file, 'a+', 0o600)
    if (!(await handle.stat()).isFile()) throw new Error(`${file} is not a file`)
    // Records are as sensitive as the data (AUD-8), whoever made the file.
    await handle.chmod(0o600)
    const found = await findEnd(file, handle)
    const hasHead = await checkHead(file, found.head)
    const sink = new FileAuditSink(
      file,
      handle,
      lock,
      found.head,
      found.size,
      options.syncMs ?? 1000,
      warn,
    )
    if (found.torn !== undefined) {
      warn({ file, bytes: found.torn.bytes }, 'audit: a torn last line was set aside')
      await sink.append([tornRecord(found.torn)])
    }
    if (!hasHead) {
      warn({ file }, 'audit: the file was found without its head: its end may have been cut off')
      await sink.append([headlessRecord(found.head)])
    }
    return sink
  } catch (error) {
    await handle?.close()
    await lock.release()
    throw error
  }
}

/** A write that took longer is felt by everyone: for a while the thread pool does it. */
const SLOW_MS = 10
/** The first time for a second; each time twice as long as before, until a minute was without one. */
const SLOW_FOR_MS = { first: 1000, most: 60_000 }

const DISPLACEMENTS = {
  moved: 'is gone from its place; put it back',
  changed:
    'was shortened or written to by others; see who did that, stop the gateway, ' +
    'move the file and its .head away together, and start again',
} as const
type Displacement = keyof typeof DISPLACEMENTS

class FileAuditSink implements AuditSink {
  readonly #file: string
  readonly #handle: FileHandle
  readonly #lock: AuditLock
  readonly #warn: NonNullable<FileAuditSinkOptions['warn']>
  readonly #timer: NodeJS.Timeout
  #head: Head
  /** Bytes of the file that are whole lines. */
  #size: number
  #ready = true
  /** Records that were refused since the last one that was written. */
  #lost = 0
  /** A write failed half way: bytes behind `#size` must go before the next one. */
  #torn = false
  #dirty = true
  /** Why nothing is written: nobody would find it, or no chain would hold it. */
  #displaced: Displacement | undefined
  /** Until then (performance.now) the disk is not trusted to answer at once. */
  #slowUntil = -Infinity
  #slowFor = SLOW_FOR_MS.first
  #closed = false
  #waiting: Group | undefined
  #writing: Promise<void> | undefined
  /** Where lines are put together; only the write under way uses it. */
  #lines = Buffer.allocUnsafeSlow(LINES_BYTES)
  #syncing: Promise<void> | undefined

  constructor(
    file: string,
    handle: FileHandle,
    lock: AuditLock,
    head: Head,
    size: number,
    syncMs: number,
    warn: NonNullable<FileAuditSinkOptions['warn']>,
  ) {
    this.#file = file
    this.#handle = handle
    this.#lock = lock
    this.#head = head
    this.#size = size
    this.#warn = warn
    this.#timer = setInterval(() => void this.#sync(), syncMs)
    this.#timer.unref()
  }

  isReady(): boolean {
    return this.#ready && !this.#closed
  }

  append(records: readonly string[]): Promise<void> {
    if (this.#closed) return Promise.reject(new Error('audit file is closed'))
    for (const record of records) {
      // Anything else would break the line or the place where the chain is put.
      if (!record.startsWith('{"') || !record.endsWith('}') || record.includes('\n')) {
        return Promise.reject(new Error('an audit record must be one line of JSON'))
      }
    }
    this.#waiting ??= { records: [], ...Promise.withResolvers<undefined>() }
    this.#waiting.records.push(...records)
    this.#writing ??= this.#writeAll()
    return this.#waiting.promise
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#timer)
    await this.#writing
    await this.#syncing
    this.#dirty = true
    await this.#sync()
    await this.#handle.close()
    await this.#lock.release()
  }

  async #writeAll(): Promise<void> {
    while (this.#waiting !== undefined) {
      // Whatever else this turn of the event loop concludes goes with the same write.
      await immediate()
      const { records, resolve, reject } = this.#waiting
      this.#waiting = undefined
      try {
        await this.#write(records)
        this.#ready = true
        resolve(undefined)
      } catch (error) {
        this.#ready = false
        this.#lost += records.length
        this.#warn({ file: this.#file, error }, 'audit: records could not be written')
        reject(error)
      }
    }
    this.#writing = undefined
  }

  async #write(records: readonly string[]): Promise<void> {
    if (this.#lock.isLost()) throw new Error('another process has taken over the audit file')
    if (this.#displaced === undefined) {
      // 2 to 3 microseconds, a fifth of the write that follows and of all its records together.
      const { size } = this.#isSlow() ? await this.#handle.stat() : fstatSync(this.#handle.fd)
      if (!this.#isWhole(size)) this.#judge('changed')
    }
    if (this.#displaced !== undefined) throw new Error(`the audit file was ${this.#displaced}`)
    if (this.#torn) {
      await this.#handle.truncate(this.#size)
      this.#torn = false
    }
    let { sequence, digest } = this.#head
    let length = 0
    for (const record of records) {
      const chain = `${formatChain(++sequence, digest)}}`
      // Three bytes of UTF-8 for a UTF-16 unit at most.
      const lines = this.#linesFor(length, 3 * record.length + chain.length + 1)
      const start = length
      // The chain stands at the end of a record, as its only extension.
      length += lines.write(record, start) - 1
      length += lines.write(chain, length)
      digest = hash('sha256', lines.subarray(start, length))
      lines[length++] = LINE_END
    }
    const bytes = this.#lines.subarray(0, length)
    this.#torn = true
    for (let at = 0; at < length;) {
      at += this.#isSlow() ? await this.#writeLater(bytes, at) : this.#writeNow(bytes, at)
    }
    this.#torn = false
    this.#size += length
    this.#head = { sequence, digest }
    this.#dirty = true
    if (this.#lines.length > LINES_BYTES) this.#lines = Buffer.allocUnsafeSlow(LINES_BYTES)
  }

  /** The lines so far, with room for more. */
  #linesFor(length: number, more: number): Buffer {
    if (length + more > this.#lines.length) {
      const larger = Buffer.allocUnsafeSlow(2 * (length + more))
      this.#lines.copy(larger, 0, 0, length)
      this.#lines = larger
    }
    return this.#lines
  }

  #isSlow(): boolean {
    // While the disk is at a flush a write may have to wait until it has done.
    return this.#syncing !== undefined || performance.now() < this.#slowUntil
  }

  /**
   * Handing a few kilobytes to the page cache takes 4 microseconds here; the way over the thread
   * pool and back takes five times as much of the same processor (docs/decisions/0009).
   */
  #writeNow(bytes: Buffer, at: number): number {
    const begun = performance.now()
    const written = writeSync(this.#handle.fd, bytes, at)
    if (performance.now() - begun > SLOW_MS) this.#distrust(begun)
    return written
  }

  #distrust(now: number): void {
    const { first, most } = SLOW_FOR_MS
    this.#slowFor = now - this.#slowUntil > most ? first : Math.min(2 * this.#slowFor, most)
    this.#slowUntil = now + this.#slowFor
  }

  async #writeLater(bytes: Buffer, at: number): Promise<number> {
    return (await this.#handle.write(bytes, at)).bytesWritten
  }

  /** Whether so many bytes are what was written: a half line of ours may stand behind it, no other. */
  #isWhole(size: number): boolean {
    return this.#torn ? size >= this.#size : size === this.#size
  }

  /** Ready again without waiting for a request: behind a balancer none comes until then. */
  #judge(displaced: Displacement | undefined): void {
    if (this.#displaced === displaced) return
    this.#displaced = displaced
    this.#ready = displaced === undefined
    const now = displaced === undefined ? 'is as it was' : DISPLACEMENTS[displaced]
    this.#warn({ file: this.#file }, `audit: the file ${now}`)
  }

  /** Only a record that is written shows that records can be; behind a balancer no request brings one. */
  async #tellLost(): Promise<void> {
    const lost = this.#lost
    this.#lost = 0
    await this.append([lostRecord(lost)]).catch(() => {
      // Said by the write itself; and the record of them is none that is missing.
      this.#lost += lost - 1
    })
  }

  #sync(): Promise<void> {
    this.#syncing ??= this.#flush().finally(() => {
      this.#syncing = undefined
    })
    return this.#syncing
  }

  async #flush(): Promise<void> {
    try {
      await this.#lock.refresh()
      if (this.#lock.isLost()) {
        this.#ready = false
        return
      }
      const written = this.#size
      const held = await this.#handle.stat()
      // What was written in the meantime was looked at then.
      const isWhole = written !== this.#size || this.#isWhole(held.size)
      if (!(await isAt(this.#file, held))) this.#judge('moved')
      else this.#judge(isWhole ? undefined : 'changed')
      if (this.#displaced !== undefined) return
      if (this.#dirty) {
        this.#dirty = false
        const head = this.#head
        await this.#handle.datasync()
        await writeHead(this.#file, head)
      }
      if (this.#closed) return
      if (this.#lost > 0) await this.#tellLost()
      else this.#ready = true
    } catch (error) {
      this.#dirty = true
      this.#ready = false
      this.#warn({ file: this.#file, error }, 'audit: records could not be flushed to disk')
    }
  }
}

/** Whether the path still leads to the file that is open. */
async function isAt(file: string, held: Stats): Promise<boolean> {
  const here = await stat(file).catch(() => undefined)
  return here?.ino === held.ino && here.dev === held.dev
}

/**
 * To go on from a shortened file would write a new head, and hide that lines are missing. False: there
 * is a file and no head, so nobody can tell.
 */
async function checkHead(file: string, found: Head): Promise<boolean> {
  const known = await readHead(file)
  if (known === undefined) return found.sequence === 0
  const isWhole =
    known !== 'unreadable' &&
    known.sequence <= found.sequence &&
    (known.sequence < found.sequence || known.digest === found.digest)
  if (isWhole) return true
  throw new Error(
    `${file}: its end is not the one that ${file}.head was written for; ` +
      'see what happened to it, then move both files away together',
  )
}

type Torn = { readonly bytes: number; readonly digest: string; readonly file: string }

/** Finds the last whole line, and sets aside what stands behind it. */
async function findEnd(
  file: string,
  handle: FileHandle,
): Promise<{ head: Head; size: number; torn: Torn | undefined }> {
  const whole = (await handle.stat()).size
  const size = await lastLineEnd(handle, whole)
  let head: Head = { sequence: 0, digest: NOTHING_BEFORE }
  if (size > 0) {
    const start = await lastLineEnd(handle, size - 1)
    const line = await readBytes(handle, start, size - 1 - start)
    const chain = chainOf(line)
    if (chain === undefined) {
      throw new Error(`${file}: its last line is no record of this chain; move the file away`)
    }
    head = { sequence: chain.sequence, digest: hash('sha256', line) }
  }
  if (whole === size) return { head, size, torn: undefined }

  const rest = await readBytes(handle, size, whole - size)
  const aside = `${file}.torn-${head.sequence + 1}`
  await setAside(aside, rest)
  await handle.truncate(size)
  const digest = hash('sha256', rest)
  return { head, size, torn: { bytes: rest.length, digest, file: aside } }
}

/** Never over something set aside before. On disk before the original goes. */
async function setAside(path: string, bytes: Buffer): Promise<void> {
  const aside = await open(path, 'ax', 0o600).catch(() => open(path, 'a', 0o600))
  try {
    await aside.writeFile(bytes)
    await aside.sync()
  } finally {
    await aside.close()
  }
}

/** Position behind the last line end before `end`, 0 when there is none. */
async function lastLineEnd(handle: FileHandle, end: number): Promise<number> {
  for (let to = end; to > 0; to -= CHUNK_BYTES) {
    const from = Math.max(0, to - CHUNK_BYTES)
    const at = (await readBytes(handle, from, to - from)).lastIndexOf(LINE_END)
    if (at >= 0) return from + at + 1
  }
  return 0
}

async function readBytes(handle: FileHandle, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  let at = 0
  while (at < length) {
    const { bytesRead } = await handle.read(bytes, at, length - at, from + at)
    if (bytesRead === 0) throw new Error('the audit file became shorter while it was read')
    at += bytesRead
  }
  return bytes
}

function tornRecord({ bytes, digest, file }: Torn): string {
  const detail = [
    { type: 'bytes', valueString: String(bytes) },
    { type: 'sha256', valueString: digest },
  ]
  const entity = { what: { identifier: { value: file } }, name: 'torn audit line', detail }
  return recordOfOwn({ outcome: '4', outcomeDesc: 'audit-line-torn', entity: [entity] })
}

/** The head that is written next would hide that there was none. */
function headlessRecord({ sequence }: Head): string {
  const detail = [{ type: 'records', valueString: String(sequence) }]
  const entity = { name: 'audit log whose head is missing', detail }
  return recordOfOwn({ outcome: '4', outcomeDesc: 'audit-head-missing', entity: [entity] })
}

/** Whoever asked was refused meanwhile; that they asked is missing, and how often shall not be. */
function lostRecord(count: number): string {
  const detail = [{ type: 'records', valueString: String(count) }]
  const entity = { name: 'audit records that could not be written', detail }
  return recordOfOwn({ outcome: '8', outcomeDesc: 'audit-records-lost', entity: [entity] })
}

/** A record of the gateway about its own log: audit log used, DICOM 110101. */
function recordOfOwn(what: { outcome: string; outcomeDesc: string; entity: object[] }): string {
  const code = { system: 'http://dicom.nema.org/resources/ontology/DCM' }
  const { entity, ...outcome } = what
  return JSON.stringify({
    resourceType: 'AuditEvent',
    type: { ...code, code: '110101', display: 'Audit Log Used' },
    action: 'U',
    recorded: new Date().toISOString(),
    ...outcome,
    agent: [
      {
        type: { coding: [{ ...code, code: '110150', display: 'Application' }] },
        who: { identifier: { value: 'urn:fhirewall:gateway' } },
        requestor: true,
      },
    ],
    source: { observer: { identifier: { value: 'urn:fhirewall:gateway' } } },
    entity,
  })
}

import { setImmediate } from 'node:timers/promises'
import type { Tally } from '../../exchange.ts'
import { splice } from '../../json/edit.ts'
import { EntrySplitter } from '../../json/entries.ts'
import type { Piece } from '../../json/entries.ts'
import { isContainer, nameOf, textOf } from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import { formatLinks, readPages, releaseEntry, SUPPRESSED, unreadable } from './bundle.ts'
import type { Context } from './context.ts'
import { formatMark, hiddenOf } from './frame.ts'

/** One resource in a large Bundle, or a large single resource, at most. */
export const LARGEST_RESOURCE = 33_554_432
/** Output is gathered to about this size: a chunk per resource would cost more than judging it. */
export const CHUNK = 65_536

/** Milliseconds at a stretch, after which others have their turn. */
export const STRETCH = 4

/** A single resource above the buffer threshold: gathered, then judged as any other. */
export async function* releaseGathered(
  body: AsyncIterable<Buffer>,
  whole: (bytes: Buffer) => Buffer | undefined,
): AsyncGenerator<Buffer> {
  const raw: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    raw.push(chunk)
    length += chunk.length
    if (length > LARGEST_RESOURCE) throw unreadable('a resource too large to judge')
  }
  const bytes = whole(Buffer.concat(raw))
  if (bytes !== undefined) yield bytes
}

/**
 * A Bundle too large to hold leaves entry by entry, each judged before it leaves. Throws when a
 * piece cannot be read: what was released before stays released, the rest never leaves, and the
 * connection is cut. A Bundle in which no entries show comes back as `whole`.
 */
export async function* releaseStream(
  body: AsyncIterable<Buffer>,
  permit: Permit,
  context: Context,
  tally: Tally,
  whole: (bytes: Buffer) => Buffer | undefined,
): AsyncGenerator<Buffer> {
  const splitter = new EntrySplitter('entry', LARGEST_RESOURCE)
  const bundle = new BundleWriter(permit, context, tally)
  let raw: Buffer[] = []
  let rawLength = 0
  let since = performance.now()
  for await (const chunk of body) {
    // A chunk may hold many entries: no more than a slice of it is taken at once.
    for (let at = 0; at < chunk.length; at += CHUNK) {
      const slice = chunk.subarray(at, at + CHUNK)
      try {
        for (const piece of splitter.push(slice)) bundle.take(piece)
      } catch (error) {
        throw unreadable('a streamed answer that cannot be judged', error)
      }
      if (splitter.met) raw = []
      else {
        raw.push(slice)
        rawLength += slice.length
        if (rawLength > LARGEST_RESOURCE) throw unreadable('a resource too large to judge')
      }
      const ready = bundle.ready(CHUNK)
      if (ready !== undefined) yield ready
      if (performance.now() - since > STRETCH) {
        await setImmediate()
        since = performance.now()
      }
    }
  }
  try {
    splitter.end()
  } catch (error) {
    throw unreadable('a truncated answer', error)
  }
  if (!splitter.met) {
    const bytes = whole(Buffer.concat(raw))
    if (bytes !== undefined) yield bytes
    return
  }
  yield bundle.finish()
}

type Pages = ReturnType<typeof readPages>

/** Writes a Bundle again from its pieces: known members, our own link, the entries that may leave. */
class BundleWriter {
  readonly #permit: Permit
  readonly #context: Context
  readonly #tally: Tally
  readonly #members = new Map<number, Buffer>()
  readonly #tail: Buffer[] = []
  #out: Buffer[] = []
  #length = 0
  #begun = false
  #pages: Pages | undefined
  #isLinked = false
  #entries = 0

  constructor(permit: Permit, context: Context, tally: Tally) {
    this.#permit = permit
    this.#context = context
    this.#tally = tally
  }

  take(piece: Piece): void {
    const { words, scan } = this.#context
    const { at } = words
    if (piece.kind === 'member') {
      const bytes = Buffer.concat([Buffer.from('{'), piece.bytes, Buffer.from('}')])
      const tape = scan(bytes)
      const name = nameOf(tape, 1)
      if (this.#members.has(name) && name >= 0) throw unreadable('a member is there twice')
      if (this.#head().includes(name) && isContainer(tape, 2)) throw unreadable('no simple value')
      if (name === at.resourceType && textOf(tape, 2) !== 'Bundle') throw unreadable('no Bundle')
      this.#members.set(name, piece.bytes)
      if (name === at.link) this.#pages = readPages(tape, 2, this.#context)
      // After the entries only what is kept matters, and it goes behind the array.
      if (this.#begun && this.#head().includes(name)) this.#tail.push(piece.bytes)
      return
    }
    const tape = scan(piece.bytes)
    const edits = releaseEntry(tape, 0, this.#permit, this.#context, this.#tally)
    if (!this.#begun) this.#begin()
    if (edits === undefined) return
    const bytes = splice(piece.bytes, edits)
    this.#push(Buffer.from(this.#entries++ > 0 ? ',' : ',"entry":['), bytes)
  }

  #head(): number[] {
    const { at } = this.#context.words
    const head = [at.resourceType, at.id, at.type]
    return hiddenOf(this.#permit, this.#context).time ? head : [...head, at.timestamp]
  }

  #begin(): void {
    const { at } = this.#context.words
    // A Bundle that says so only after its entries is none that we can stream.
    const type = this.#members.get(at.resourceType)
    if (type === undefined) throw unreadable('entries before resourceType')
    this.#begun = true
    const head = this.#head()
      .map((name) => this.#members.get(name))
      .filter((bytes) => bytes !== undefined)
    head.forEach((member, n) => {
      this.#push(Buffer.from(n === 0 ? '{' : ','), member)
    })
    // Links that follow the entries are written when all is known.
    if (this.#pages !== undefined) this.#pushLinks(this.#pages)
  }

  #pushLinks(pages: Pages): void {
    this.#push(Buffer.from(`,"link":${formatLinks(this.#permit, pages, this.#context)}`))
    this.#isLinked = true
  }

  #push(...pieces: Buffer[]): void {
    for (const piece of pieces) {
      this.#out.push(piece)
      this.#length += piece.length
    }
  }

  /** What has gathered, once it is worth a chunk. */
  ready(least: number): Buffer | undefined {
    if (this.#length < least) return undefined
    const chunk = Buffer.concat(this.#out, this.#length)
    this.#out = []
    this.#length = 0
    return chunk
  }

  finish(): Buffer {
    if (!this.#begun) this.#begin()
    if (this.#permit.terms.tellsWithheld === true && this.#tally.withheld > 0) {
      this.#push(Buffer.from(this.#entries++ > 0 ? ',' : ',"entry":['), Buffer.from(SUPPRESSED))
    }
    if (this.#entries > 0) this.#push(Buffer.from(']'))
    if (!this.#isLinked) this.#pushLinks(this.#pages ?? [])
    const mark = formatMark(this.#tally)
    if (mark !== undefined) this.#push(Buffer.from(`,${mark}`))
    for (const member of this.#tail) this.#push(Buffer.from(','), member)
    this.#push(Buffer.from('}'))
    return this.ready(0) ?? Buffer.alloc(0)
  }
}

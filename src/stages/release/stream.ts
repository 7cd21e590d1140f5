import { setImmediate } from 'node:timers/promises'
import type { Tally } from '../../exchange.ts'
import { LARGEST_SLICE } from '../../json/cuts.ts'
import { createSplitter } from '../../json/entries.ts'
import type { Piece } from '../../json/entries.ts'
import { after, endOf, isContainer, nameOf, startOf, textOf } from '../../json/tape.ts'
import type { Edit, Tape } from '../../json/tape.ts'
import type { Permit } from '../../permit.ts'
import { formatLinks, readPages, SUPPRESSED, unreadable } from './bundle.ts'
import type { Context } from './context.ts'
import { releaseEntries } from './entry.ts'
import { formatMark, hiddenOf } from './frame.ts'
import { createTrail } from './trail.ts'

/** One resource in a large Bundle, or a large single resource, at most. */
export const LARGEST_RESOURCE = 33_554_432
/** Bytes to gather before entries are judged: of those that are alike one is judged by itself in each piece. */
const PIECE = 131_072
/** What leaves is gathered to about this size: a write for each piece costs more than judging it. */
export const CHUNK = 196_608

/** Milliseconds at a stretch, after which others have their turn. */
export const STRETCH = 2

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
 * A Bundle too large to hold leaves some entries at a time, each judged before it leaves. Throws when
 * a piece cannot be read: what was released before stays released, the rest never leaves, and the
 * connection is cut. A Bundle in which no entries show comes back as `whole`.
 */
export async function* releaseStream(
  body: AsyncIterable<Buffer>,
  permit: Permit,
  context: Context,
  tally: Tally,
  whole: (bytes: Buffer) => Buffer | undefined,
): AsyncGenerator<Buffer> {
  const options = { name: 'entry', largest: LARGEST_RESOURCE, least: PIECE }
  const splitter = createSplitter(context.cuts, options)
  const writer = createWriter(permit, context, tally)
  let since = performance.now()
  for await (const chunk of body) {
    // A chunk may hold many entries: no more than a slice of it is taken at once.
    for (let at = 0; at < chunk.length; at += LARGEST_SLICE) {
      judged(() => {
        splitter.push(chunk.subarray(at, at + LARGEST_SLICE), writer.take)
      })
      const ready = writer.ready(CHUNK)
      if (ready !== undefined) yield ready
      if (performance.now() - since > STRETCH) {
        await setImmediate()
        since = performance.now()
      }
    }
  }
  const rest = judged(() => splitter.end(writer.take))
  if (rest === undefined) yield writer.finish()
  else {
    const bytes = whole(rest)
    if (bytes !== undefined) yield bytes
  }
}

function judged<T>(take: () => T): T {
  try {
    return take()
  } catch (error) {
    throw unreadable('a streamed answer that cannot be judged', error)
  }
}

const COMMA = Buffer.from(',')

type Pages = ReturnType<typeof readPages>

type Writer = {
  readonly take: (piece: Piece) => void
  /** What has gathered, once it is worth a chunk. */
  readonly ready: (least: number) => Buffer | undefined
  readonly finish: () => Buffer
}

/** Writes a Bundle again from its pieces: known members, our own link, the entries that may leave. */
function createWriter(permit: Permit, context: Context, tally: Tally): Writer {
  const { words, scan } = context
  const { at } = words
  const isTimed = !hiddenOf(permit, context).time
  const shown = [at.resourceType, at.id, at.type, ...(isTimed ? [at.timestamp] : [])]
  /** Named members that have been met, and those that are shown as they stand. */
  const met = new Set<number>()
  const head: string[] = []
  const tail: string[] = []
  const trail = permit.terms.follows && createTrail(permit.terms.follows, tally)
  let pages: Pages | undefined
  let isLinked = false
  let entries = 0
  let out: Buffer[] = []
  let length = 0

  function take({ kind, text }: Piece): void {
    const tape = scan(text)
    if (kind === 'elements') takeEntries(tape)
    else takeMembers(tape, kind === 'head' ? head : tail)
  }

  /** The members of a head or tail, in which the entries are not. */
  function takeMembers(tape: Tape, kept: string[]): void {
    const end = after(tape, 0)
    for (let key = 1; key < end; key = after(tape, key + 1)) {
      const [name, value] = [nameOf(tape, key), key + 1]
      if (name === at.entry) continue
      if (met.has(name)) throw unreadable('a member is there twice')
      if (name >= 0) met.add(name)
      if (name === at.resourceType && textOf(tape, value) !== 'Bundle')
        throw unreadable('no Bundle')
      if (name === at.link) pages = readPages(tape, value, context)
      if (!shown.includes(name)) continue
      if (isContainer(tape, value)) throw unreadable('no simple value')
      kept.push(tape.bytes.toString('utf8', startOf(tape, key), endOf(tape, value)))
    }
  }

  /** Entries as the only member of an object. */
  function takeEntries(tape: Tape): void {
    const array = 2
    // That is what makes them elements, wherever the cuts have been made.
    if (endOf(tape, array) !== tape.bytes.length - 1) throw unreadable('no elements')
    if (after(tape, array) === array + 1) return
    // A Bundle that says so only after its entries is none that we can stream.
    if (!met.has(at.resourceType)) throw unreadable('entries before resourceType')
    const edits: Edit[] = []
    const { left, withheld } = releaseEntries(tape, array, permit, context, tally, edits, trail)
    if (left === 0) return
    const start = startOf(tape, array) + 1
    const text = entries > 0 ? ',' : `${begin()},"entry":[`
    entries += left
    // With an edit at least it is a copy: a piece is good only until the next one.
    const all = [{ start, end: start, text }, ...edits, ...withheld]
    push(tape.splice(all, start, endOf(tape, array) - 1))
  }

  /** The beginning, with its links unless they follow the entries. */
  function begin(): string {
    return pages === undefined ? `{${head.join(',')}` : `{${head.join(',')},${link(pages)}`
  }

  function link(known: Pages): string {
    isLinked = true
    return `"link":${formatLinks(permit, known, context)}`
  }

  function push(piece: Buffer): void {
    out.push(piece)
    length += piece.length
  }

  function ready(least: number): Buffer | undefined {
    const [first] = out
    if (first === undefined || length < least) return undefined
    const chunk = out.length === 1 ? first : Buffer.concat(out, length)
    out = []
    length = 0
    return chunk
  }

  function finish(): Buffer {
    if (!met.has(at.resourceType)) throw unreadable('no Bundle where one belongs')
    for (const one of trail?.rest() ?? []) push(Buffer.concat([COMMA, one]))
    let text = ''
    if (entries === 0) {
      head.push(...tail.splice(0))
      text = begin()
    }
    if (permit.terms.tellsWithheld === true && tally.withheld > 0) {
      text += `${entries++ > 0 ? ',' : ',"entry":['}${SUPPRESSED}`
    }
    if (entries > 0) text += ']'
    if (!isLinked) text += `,${link(pages ?? [])}`
    const mark = formatMark(tally)
    if (mark !== undefined) text += `,${mark}`
    for (const member of tail) text += `,${member}`
    push(Buffer.from(`${text}}`))
    return ready(0) ?? Buffer.alloc(0)
  }

  return { take, ready, finish }
}

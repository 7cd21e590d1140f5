import { setImmediate } from 'node:timers/promises'
import type { FitAnswer } from '../../exchange.ts'
import { forget, isForgotten } from '../../http/content.ts'
import { LARGEST_SLICE } from '../../json/cuts.ts'
import { createSplitter } from '../../json/entries.ts'
import type { Permit, Place } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { unreadable } from './bundle.ts'
import type { Context } from './context.ts'
import type { Writer } from './writer.ts'

/** One resource in a large Bundle, or a large single resource, at most. */
export const LARGEST_RESOURCE = 33_554_432
/** Bytes to gather before entries are judged: of those that are alike one is judged by itself in each piece. */
export const PIECE = 262_144
/** What leaves has this size at least, as most pieces have; smaller ones are gathered. */
export const CHUNK = 131_072

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

/** Asks upstream for a further page of an answer, on the terms of its permit. */
export type Turn = (permit: Permit) => Promise<FitAnswer>

/** What a Bundle is made by, out of as many of upstream's as it takes. */
export type Making = {
  readonly permit: Permit
  readonly context: Context
  readonly writer: Writer
  readonly turn: Turn | undefined
  /** Pages of upstream's beyond the first, at most. */
  readonly most: number
}

/** Milliseconds after which no further page is asked for. */
const MOST_TIME = 10_000

/**
 * A Bundle too large to hold leaves some entries at a time, each judged before it leaves. Throws when
 * a piece cannot be read: what was released before stays released, the rest never leaves, and the
 * connection is cut.
 */
export async function* releaseStream(
  body: AsyncIterable<Buffer>,
  making: Making,
): AsyncGenerator<Buffer> {
  yield* releasePieces(body, making)
  yield* releaseFurther(judged(making.writer.wants), making)
}

/** What further pages add, and the end. They are asked for as the client takes what was there before. */
export async function* releaseFurther(
  first: Place | undefined,
  making: Making,
): AsyncGenerator<Buffer> {
  const { permit, writer, turn, most } = making
  const begun = performance.now()
  let left = most
  for (let place = first; place !== undefined; place = judged(writer.wants)) {
    if (left-- <= 0 || performance.now() - begun > MOST_TIME) break
    const body = await ask(place, permit, turn)
    if (body === undefined) break
    writer.turn(place)
    yield* releasePieces(Buffer.isBuffer(body) ? [body] : body, making)
    const ready = writer.ready(CHUNK)
    if (ready !== undefined) yield ready
  }
  yield writer.finish()
}

/** What is refused ends the page: whoever goes on from there is told why. */
async function ask(
  place: Place,
  { paging }: Permit,
  turn: Turn | undefined,
): Promise<FitAnswer['body']> {
  if (paging === undefined) return undefined
  try {
    return (await turn?.(paging.turn(place)))?.body
  } catch (error) {
    if (error instanceof Refusal) return undefined
    throw error
  }
}

async function* releasePieces(
  body: AsyncIterable<Buffer> | Iterable<Buffer>,
  { context, writer }: Making,
): AsyncGenerator<Buffer> {
  const options = { name: 'entry', largest: LARGEST_RESOURCE, least: PIECE }
  const splitter = createSplitter(context.cuts, options)
  let since = performance.now()
  let before: Buffer | undefined
  for await (const chunk of body) {
    const { length } = chunk
    // Upstream's parser goes on with one after a pause: it shares its memory with nothing.
    if (length === 0 && !isForgotten(chunk)) continue
    forget(before, chunk)
    before = chunk
    let at = 0
    do {
      // A chunk may hold many entries: no more than a slice of it is taken at once. Of one that is gone there
      // is none, and that is an error: it must not pass for one that has come to its end.
      judged(() => {
        splitter.push(chunk.subarray(at, at + LARGEST_SLICE), writer.take)
      })
      at += LARGEST_SLICE
      const ready = writer.ready(CHUNK)
      if (ready !== undefined) yield ready
      if (performance.now() - since > STRETCH) {
        await setImmediate()
        since = performance.now()
      }
    } while (at < length)
  }
  judged(() => {
    const rest = splitter.end(writer.take)
    // No entries are in sight.
    if (rest !== undefined) writer.takeUncut(rest)
  })
}

function judged<T>(take: () => T): T {
  try {
    return take()
  } catch (error) {
    throw unreadable('a streamed answer that cannot be judged', error)
  }
}

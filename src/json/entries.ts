import { LARGEST_SLICE } from './cuts.ts'
import type { Cuts, Standing } from './cuts.ts'
import { JsonError } from './token.ts'

/**
 * Pieces of an object `{ …, "name":[ … ], … }` that comes in chunks, each a JSON text of its own:
 *
 *   head      what stands up to the array, with the array empty    {…,"name":[]}
 *   elements  some of its elements, as the only member             {"name":[…]}
 *   tail      what stands behind it, with the array empty          {"name":[],…}
 *
 * Whoever takes them scans them strictly, and that is all the checking there need be. Each byte of the
 * text is in exactly one piece, but for one comma between two pieces of elements, and no piece of
 * elements is blank where commas are. So when all pieces are strict, the text is: put together they
 * are the text, by the grammar of RFC 8259, which reads a text in one way only. Wherever a cut is
 * made within a string or a value, the piece before it does not end. Two things are left to whoever
 * takes them: that the array of a piece of elements is all of it, ending one byte before the text
 * does, and that no name is both in head and tail.
 */
export type Piece = { readonly kind: 'head' | 'elements' | 'tail'; readonly text: Buffer }

/** Cuts one text. A piece is good until `take` returns. Throws JsonError, and whatever `take` throws. */
export type Splitter = {
  readonly push: (chunk: Buffer, take: (piece: Piece) => void) => void
  /** The text has ended: gives the tail. Without the array in sight the text comes back as it is. */
  readonly end: (take: (piece: Piece) => void) => Buffer | undefined
}

export type SplitterOptions = {
  readonly name: string
  /** Bytes of one element, of the head or of the tail at most. */
  readonly largest: number
  /** Bytes to gather before a piece of elements is made: it costs something to take one. */
  readonly least: number
}

const COMMA = 0x2c
const END = Buffer.from(']}')
/** More memory than this is given back once what needed it is gone. */
const LARGEST_KEPT = 1_048_576

const isSpace = (c: number | undefined): boolean =>
  c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09

export function createSplitter(cuts: Cuts, { name, largest, least }: SplitterOptions): Splitter {
  const BEGIN = Buffer.from(`{"${name}":[`)
  const quoted = Buffer.from(`"${name}"`)
  const standing: Standing = { depth: 0, carry: 0 }
  let place: Piece['kind'] = 'head'
  /** What is not yet in a piece stands from `begin` to `end`; before it there is room for BEGIN. */
  let held = Buffer.alloc(BEGIN.length)
  let begin = BEGIN.length
  let end = BEGIN.length
  /** The last comma between two elements that has been seen, or -1. */
  let cut = -1
  /** Whether a piece of elements has been made. */
  let met = false

  /** Room doubles: an element of many chunks is not copied again for each of them. */
  function append(slice: Buffer): void {
    const kept = end - begin
    const needed = BEGIN.length + kept + slice.length + END.length
    const isIdle = held.length > LARGEST_KEPT && needed < LARGEST_KEPT / 2
    if (needed > held.length || isIdle) {
      const room = Buffer.allocUnsafeSlow(
        needed > LARGEST_SLICE * 2 ? 2 * needed : LARGEST_SLICE * 2,
      )
      held.copy(room, BEGIN.length, begin, end)
      held = room
    } else if (end + slice.length + END.length > held.length) {
      held.copyWithin(BEGIN.length, begin, end)
    } else {
      end += slice.copy(held, end)
      return
    }
    if (cut >= 0) cut += BEGIN.length - begin
    begin = BEGIN.length
    end = begin + kept
    end += slice.copy(held, end)
  }

  /** A piece of elements up to `at`; the bytes it needs around it are dead, or put back. */
  function giveElements(at: number, take: (piece: Piece) => void): void {
    let first = begin
    while (first < at && isSpace(held[first])) first++
    const isBlank = first === at
    // `[]` alone has none; anywhere else there is one on both sides of a comma.
    if (isBlank && (met || held[at] === COMMA)) throw new JsonError('a value is missing', at)
    give('elements', begin - BEGIN.length, at, take)
    met = true
    cut = -1
  }

  function give(kind: Piece['kind'], from: number, to: number, take: (piece: Piece) => void): void {
    if (kind !== 'head') BEGIN.copy(held, from)
    const [one = 0, two = 0] = held.subarray(to, to + END.length)
    if (kind !== 'tail') END.copy(held, to)
    take({ kind, text: held.subarray(from, kind === 'tail' ? to : to + END.length) })
    held[to] = one
    held[to + 1] = two
  }

  /** Whether the bracket at `at` opens the value of the member `name`, written without escapes. */
  function isWanted(at: number): boolean {
    let i = at - 1
    while (isSpace(held[i])) i--
    if (held[i] !== 0x3a) return false
    i--
    while (isSpace(held[i])) i--
    const start = i + 1 - quoted.length
    if (held[i] !== 0x22 || start <= begin || !held.subarray(start, i + 1).equals(quoted))
      return false
    const before = held[start - 1]
    return isSpace(before) || before === COMMA || before === 0x7b
  }

  /** Looks for the array; answers where in the slice it begins, or -1. */
  function findArray(offset: number, take: (piece: Piece) => void): number {
    for (let from = 0; ;) {
      const at = cuts.nextOpen(from, standing)
      if (at < 0) return -1
      from = at + 1
      if (held[offset + at] !== 0x5b || !isWanted(offset + at)) continue
      give('head', begin, offset + from, take)
      begin = offset + from
      place = 'elements'
      return from
    }
  }

  function pushSlice(slice: Buffer, take: (piece: Piece) => void): void {
    append(slice)
    const offset = end - slice.length
    if (place !== 'tail') cuts.load(slice)
    const from = place === 'head' ? findArray(offset, take) : 0
    if (place === 'elements' && from >= 0) {
      const at = cuts.lastCut(from, standing)
      if (at >= 0) cut = offset + at
      const isEnd = at >= 0 && held[cut] !== COMMA
      if (isEnd && held[cut] !== 0x5d) throw new JsonError('an end is missing', cut)
      if (cut >= 0 && (isEnd || end - begin >= least)) {
        const next = isEnd ? cut : cut + 1
        giveElements(cut, take)
        begin = next
        if (isEnd) place = 'tail'
      }
    }
    if (end - begin > largest) throw new JsonError('a piece is larger than can be judged', begin)
  }

  return {
    push(chunk, take) {
      for (let at = 0; at < chunk.length; at += LARGEST_SLICE) {
        pushSlice(chunk.subarray(at, at + LARGEST_SLICE), take)
      }
    },
    end(take) {
      if (place === 'head') return held.subarray(begin, end)
      if (place === 'elements') throw new JsonError('an unfinished text', end)
      give('tail', begin - BEGIN.length, end, take)
      return undefined
    },
  }
}

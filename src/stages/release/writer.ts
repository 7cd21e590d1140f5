import type { Tally } from '../../exchange.ts'
import type { Piece } from '../../json/entries.ts'
import type { Edit, Tape } from '../../json/tape.ts'
import {
  after,
  checkTape,
  endOf,
  isContainer,
  KIND,
  kindOf,
  member,
  nameOf,
  startOf,
  textOf,
} from '../../json/tape.ts'
import type { Permit, Place } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { formatLinks, readNext, SUPPRESSED, unreadable } from './bundle.ts'
import type { Context } from './context.ts'
import { releaseEntries } from './entry.ts'
import { isBundleId, isBundleType, isInstant } from './forms.ts'
import { formatMark, hiddenOf } from './frame.ts'
import { createPage } from './page.ts'
import { createTrail } from './trail.ts'

/** Writes one Bundle out of those that upstream sends for it, one after the other. */
export type Writer = {
  /** A Bundle of upstream's that is there as a whole: the tape must be good until what follows was called. */
  readonly takeWhole: (tape: Tape) => void
  /** The same of one that came in pieces and could not be cut: made at once, for others scan before the end. */
  readonly takeUncut: (text: Buffer) => void
  /** A piece of one that is not. */
  readonly take: (piece: Piece) => void
  /** A Bundle of upstream's has come to its end: where is it to be asked for more? */
  readonly wants: () => Place | undefined
  readonly turn: (place: Place) => void
  /** What has gathered, once it is worth a chunk. */
  readonly ready: (least: number) => Buffer | undefined
  readonly finish: () => Buffer
}

/** Entries that leave, and where they stand. */
type Held = {
  readonly tape: Tape
  readonly start: number
  readonly end: number
  readonly edits: Edit[]
}

const COMMA = Buffer.from(',')

/**
 * Known members, our own links, the entries that may leave. Entries without a resource (a deletion in a
 * history) cannot be judged and go; `total` goes, because it counts what is withheld (REST-11). It is
 * written alike whatever upstream's looked like: how it is written would tell whether there was another.
 */
export function createWriter(permit: Permit, context: Context, tally: Tally): Writer {
  const { words, scan, bases } = context
  const { at } = words
  const { follows, tellsWithheld } = permit.terms
  const isTimed = !hiddenOf(permit, context).time
  const shown = [at.resourceType, at.id, at.type, ...(isTimed ? [at.timestamp] : [])]
  const page = createPage(permit, context)
  const trail = follows && createTrail(follows, tally)
  const gate = { page, trail }
  /** Named members that have been met in one Bundle. */
  const met = new Set<number>()
  /** Members that are shown as they stand, those of the first alone. */
  const head: string[] = []
  const tail: string[] = []
  let isFirst = true
  let next: string | undefined
  let entries = 0
  let held: Held | undefined
  let out: Buffer[] = []
  let length = 0

  function take({ kind, text }: Piece): void {
    const tape = scan(text)
    if (kind !== 'elements') takeMembers(tape, kind === 'head' ? head : tail)
    else {
      // That is what makes them elements, wherever the cuts have been made.
      if (endOf(tape, 2) !== tape.bytes.length - 1) throw unreadable('no elements')
      // A Bundle that says so only after its entries is none that we can stream.
      if (after(tape, 2) > 3 && !met.has(at.resourceType)) {
        throw unreadable('entries before resourceType')
      }
      takeEntries(tape, 2)
      make()
    }
  }

  function takeWhole(tape: Tape): void {
    takeMembers(tape, head)
    const list = member(tape, 0, at.entry)
    if (list < 0) return
    if (kindOf(tape, list) !== KIND.array) throw unreadable('entries that are no list')
    takeEntries(tape, list)
  }

  function takeUncut(text: Buffer): void {
    takeWhole(scan(text))
    make()
  }

  /** All members but the entries. */
  function takeMembers(tape: Tape, kept: string[]): void {
    checkTape(tape)
    if (kindOf(tape, 0) !== KIND.object) throw unreadable('no Bundle')
    const end = after(tape, 0)
    for (let key = 1; key < end; key = after(tape, key + 1)) {
      const [name, value] = [nameOf(tape, key), key + 1]
      if (name === at.entry) continue
      if (met.has(name)) throw unreadable('a member is there twice')
      if (name >= 0) met.add(name)
      if (name === at.resourceType && textOf(tape, value) !== 'Bundle')
        throw unreadable('no Bundle')
      if (name === at.type && !isBundleType(tape, value, bases))
        throw unreadable('no type of Bundle')
      if (name === at.link) next = readNext(tape, value, context)
      if (!isFirst || !shown.includes(name)) continue
      if (isContainer(tape, value)) throw unreadable('no simple value')
      if (name === at.id && !isBundleId(tape, value, bases)) continue
      if (name === at.timestamp && !isInstant(tape, value, bases)) continue
      kept.push(tape.bytes.toString('utf8', startOf(tape, key), endOf(tape, value)))
    }
  }

  function takeEntries(tape: Tape, list: number): void {
    if (after(tape, list) === list + 1) return
    const edits: Edit[] = []
    const parts = { permit, context, tally, edits }
    const { left, end, withheld } = releaseEntries(tape, list, parts, gate)
    if (trail?.isFull() === true && entries > 0) followLinks(false)
    if (left === 0) return
    const start = startOf(tape, list + 1)
    const text = entries > 0 ? ',' : begin()
    entries += left
    held = { tape, start, end, edits: [{ start, end: start, text }, ...edits, ...withheld] }
  }

  /** Makes what is held, with what follows it: it is good only until the next is scanned. */
  function make(more = ''): void {
    if (held === undefined) {
      if (more !== '') push(Buffer.from(more))
      return
    }
    const { tape, start, end, edits } = held
    if (more !== '') edits.push({ start: end, end, text: more })
    // With an edit at least it is a copy.
    push(tape.splice(edits, start, end))
    held = undefined
  }

  /** What comes along with the matches: none comes without. */
  function followLinks(isEnd: boolean): void {
    for (const one of trail?.follow(isEnd) ?? []) push(Buffer.concat([COMMA, one]))
  }

  const begin = (): string => `{${head.join(',')},"entry":[`

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

  function wants(): Place | undefined {
    if (!met.has(at.resourceType)) throw unreadable('no Bundle where one belongs')
    page.end(next)
    const place = page.wants()
    if (place !== undefined) make()
    return place
  }

  function turn(place: Place): void {
    page.turn(place)
    met.clear()
    isFirst = false
    next = undefined
  }

  function finish(): Buffer {
    if (trail !== undefined) {
      make()
      followLinks(true)
    }
    if (entries === 0 && permit.interaction.code === 'history-instance' && isWhole(permit)) {
      // C1: what shows no version is not there. Nobody could tell one that is withheld from the bare frame.
      const withholds = tally.withheld > 0
      throw new Refusal(withholds ? context.hidden : 'not-found', { detail: 'withheld', withholds })
    }
    let text = ''
    const isTold = tellsWithheld === true && tally.withheld > 0
    if (entries === 0) text = isTold ? begin() : `{${[...head, ...tail.splice(0)].join(',')}`
    if (isTold) text += `${entries > 0 ? ',' : ''}${SUPPRESSED}`
    // FHIR knows no empty list: without entries the member goes as well.
    if (entries > 0 || isTold) text += ']'
    text += `,"link":${formatLinks(permit, page, context)}`
    const mark = formatMark(tally)
    if (mark !== undefined) text += `,${mark}`
    for (const one of tail) text += `,${one}`
    make(`${text}}`)
    return ready(0) ?? Buffer.alloc(0)
  }

  return { takeWhole, takeUncut, take, wants, turn, ready, finish }
}

/** Whether it is an answer from its beginning on. */
const isWhole = ({ paging }: Permit): boolean =>
  paging === undefined || (paging.place.target ?? paging.place.after) === undefined

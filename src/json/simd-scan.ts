import { isUtf8 } from 'node:buffer'
import { orderEdits, splice } from './edit.ts'
import type { Edit } from './tape.ts'
import type { Names } from './names.ts'
import { LEAST_DIGITS, NOTHING } from './notice.ts'
import { checkTape, WIDTH } from './tape.ts'
import type { Scan, Tape } from './tape.ts'
import { JsonError } from './token.ts'
import { loadModule, PAGE } from './web-assembly.ts'
import type { Memory } from './web-assembly.ts'

/**
 * The scanner in WebAssembly (assembly/scan.ts): the same tape as by scan.ts, several times faster,
 * since it reads 16 bytes of a string at once. Its memory is its own; nothing else is reachable.
 */

type Exports = {
  readonly memory: Memory
  readonly beginNames: (at: number) => void
  readonly addName: (text: number, length: number, id: number) => void
  readonly beginKept: (at: number) => void
  readonly beginGuesses: (at: number) => void
  readonly beginTwins: (at: number) => void
  readonly beginOutlines: (slots: number, columns: number, steps: number) => void
  readonly beginNotice: (at: number, prefix: number, a: number, b: number, c: number) => void
  readonly scan: (
    input: number,
    length: number,
    tape: number,
    capacity: number,
    stack: number,
    maximumDepth: number,
  ) => number
  readonly errorOffset: () => number
  readonly hasWide: () => number
  readonly countOfValues: () => number
  readonly countOfObjects: () => number
  readonly sameAs: (input: number, tape: number, entry: number) => number
  readonly compare: (input: number, tape: number, list: number, pairs: number) => number
  readonly splice: (
    input: number,
    from: number,
    to: number,
    edits: number,
    count: number,
    texts: number,
    out: number,
  ) => number
}

// As in assembly/scan.ts.
const FULL = -1
const FAILURES: Readonly<Record<number, string>> = {
  [-2]: 'a member name is missing',
  [-3]: 'a comma or an end is missing',
  [-4]: 'a member is there twice',
  [-5]: 'a colon is missing',
  [-6]: 'too deep',
  [-7]: 'more after the end',
  [-8]: 'an unfinished string',
  [-9]: 'an unknown escape',
  [-10]: 'a lone surrogate',
  [-11]: 'a malformed escape',
  [-12]: 'a malformed number',
  [-13]: 'a value is missing',
}
const SLOTS = 8192 * 4
const KEPT = 1024 * 16
const GUESSES = 2048 * 4 + 48
const TWINS = 512 * 32
const LEVEL = 48
const OUTLINES = 64 * (16 + 64 * 8) + 64 * 8 + 16

/** Where the names begin: the first page keeps what the compiler put there. */
const BEGIN = PAGE
const LONGEST_NAME = 120
/** Zeros behind the text: no read of 16 bytes meets what an earlier text has left. */
const PADDING = 32
/** For larger texts a splice finds room elsewhere. */
const LARGEST_SPLICE = 8 * 1024 * 1024
/** Texts that may be met more than once, in UTF-16 units. */
const LONG = 60
const FEW = 200
/** More memory than this is given back before the next scan. */
const LARGEST_KEPT = 32 * 1024 * 1024

const aligned = (at: number): number => (at + 15) & ~15

type Machine = {
  readonly exports: Exports
  readonly memory: Memory
  bytes: Uint8Array
  data: Int32Array
  /** The same bytes, for writing text. */
  text: Buffer
}

const instantiate = loadModule('scan')

/** Builds a scanner whose tapes are good until its next scan. Names: ASCII, 1 to 120 bytes. */
export function createSimdScan(names: Names, maximumDepth: number, notice = NOTHING): Scan {
  for (const name of names.list) {
    const isPlain = name.length <= LONGEST_NAME && /^[\0-\x7f]+$/.test(name)
    if (!isPlain || name.replaceAll(/\D/g, '').length >= LEAST_DIGITS)
      throw new RangeError(`not a name to look for: ${name}`)
  }
  const lengthOfNames = names.list.reduce((sum, { length }) => sum + 32 + aligned(length), 0)
  const kept = aligned(BEGIN + SLOTS + lengthOfNames)
  const guesses = kept + KEPT
  const twins = guesses + GUESSES
  const outlines = twins + TWINS
  const { outline } = notice
  const columns = outlines + OUTLINES
  const steps = columns + names.list.length + 1
  const noticeAt = steps + aligned(outline.steps.length)
  const asked = noticeAt + notice.prefix.length + 16
  const stack = aligned(asked + names.list.length + 1)
  const input = aligned(stack + (maximumDepth + 2) * LEVEL + LONGEST_NAME + 32)
  /** What stands before the stack, once it is made: never changes but for what is kept. */
  let image: Uint8Array | undefined
  let machine = start()
  let last: { isOver: boolean } | undefined

  function start(): Machine {
    const exports = instantiate() as Exports
    const { memory } = exports
    memory.grow(Math.ceil((input + PAGE) / PAGE))
    const bytes = new Uint8Array(memory.buffer)
    exports.beginNames(BEGIN)
    exports.beginKept(kept)
    exports.beginGuesses(guesses)
    exports.beginTwins(twins)
    exports.beginOutlines(outlines, columns, steps)
    exports.beginNotice(noticeAt, notice.prefix.length, ...notice.members)
    if (image === undefined) {
      // Each name is handed over at a place that no record reaches.
      for (const [id, name] of names.list.entries()) {
        bytes.fill(0, input, input + LONGEST_NAME + 16)
        bytes.set(Buffer.from(name), input)
        exports.addName(input, name.length, id)
      }
      bytes.fill(0, input, input + LONGEST_NAME + 16)
      bytes.set(outline.columns.subarray(0, names.list.length + 1), columns)
      bytes.set(outline.steps, steps)
      bytes.set(Buffer.from(notice.prefix), noticeAt)
      bytes.set(notice.asked.subarray(0, names.list.length + 1), asked)
      image = bytes.slice(BEGIN, stack)
    } else bytes.set(image, BEGIN)
    const { buffer } = memory
    return { exports, memory, bytes, data: new Int32Array(buffer), text: Buffer.from(buffer) }
  }

  /** Has room for `size` bytes, and views of all of it. */
  function grow(size: number): void {
    const { memory } = machine
    const missing = size - machine.bytes.length
    if (missing <= 0) return
    memory.grow(Math.ceil(missing / PAGE))
    machine.bytes = new Uint8Array(memory.buffer)
    machine.data = new Int32Array(memory.buffer)
    machine.text = Buffer.from(memory.buffer)
  }

  return (bytes: Buffer): Tape => {
    if (last !== undefined) last.isOver = true
    const { length } = bytes
    if (machine.bytes.length > LARGEST_KEPT) machine = start()
    const { exports } = machine
    const tape = aligned(input + length + PADDING)
    // A text of FHIR has an entry for 12 bytes or more; a text without spaces one for each at most.
    for (let capacity = (length >> 3) + 16; ; capacity = Math.min(capacity * 4, length + 16)) {
      const values = tape + capacity * WIDTH * 4
      const objects = values + capacity * 4
      const end = aligned(objects + capacity * 4)
      // And for the text once more, with edits in it; before that, for what is alike.
      grow(end + Math.max(capacity * 8, Math.min(length * 4, LARGEST_SPLICE)) + PAGE)
      machine.bytes.set(bytes, input)
      machine.bytes.fill(0, input + length, tape)
      const count = exports.scan(input, length, tape, capacity, stack, maximumDepth)
      if (count === FULL) continue
      if (count < 0) throw new JsonError(FAILURES[count] ?? 'malformed', exports.errorOffset())
      // Beyond strings nothing but ASCII has passed.
      if (exports.hasWide() !== 0 && !isUtf8(bytes)) throw new JsonError('not UTF-8', 0)
      const list = (at: number, size: number): Int32Array =>
        machine.data.subarray(at >> 2, (at >> 2) + size)
      const made: Tape & { isOver: boolean } = {
        data: machine.data.subarray(tape >> 2, values >> 2),
        length: count,
        bytes,
        isOver: false,
        read: new Map(),
        noted: {
          values: list(values, exports.countOfValues()),
          objects: list(objects, exports.countOfObjects()),
          at: { value: 0, object: 0 },
        },
        sameAs(entry) {
          checkTape(made)
          return exports.sameAs(input, tape, entry)
        },
        compare(entry) {
          checkTape(made)
          return list(end, exports.compare(input, tape, entry, end) * 2).slice()
        },
        splice(edits, from = 0, to = length) {
          checkTape(made)
          return spliceWithin(bytes, edits, from, to, end)
        },
      }
      last = made
      return made
    }
  }

  /** Within the memory of the scanner; from `free` on nothing of the tape stands. */
  function spliceWithin(
    source: Buffer,
    edits: readonly Edit[],
    from: number,
    to: number,
    free: number,
  ): Buffer {
    if (edits.length === 0) return source.subarray(from, to)
    const ordered = orderEdits(edits)
    // What says that something is masked is long, and of many edits comes again and again; an address of ours
    // comes for each entry of a page: such texts are written once.
    const long = ordered.length > FEW ? LONG : Infinity
    const places = new Map<string, number>()
    let [written, total, last] = ['', 0, '']
    for (let n = 0; n < ordered.length; n++) {
      const { text } = ordered[n] as Edit
      total += text.length
      if (text === last) continue
      last = text
      if (text.length >= long) {
        if (places.has(text)) continue
        places.set(text, -1)
      }
      written += text
    }
    const texts = free + aligned(ordered.length * 16)
    const { exports, bytes, data } = machine
    // More memory would be another buffer, and end the tape. A UTF-16 unit takes three bytes at most.
    const room = bytes.length - texts - 128
    if ((written.length + total) * 3 + (to - from) > room) return splice(source, ordered, from, to)
    const bytesOfTexts = machine.text.write(written, texts)
    const isAscii = bytesOfTexts === written.length
    const out = aligned(texts + bytesOfTexts) + 16
    let [at, next, place, size] = [free >> 2, 0, 0, 0]
    last = ''
    for (let n = 0; n < ordered.length; n++) {
      const { start, end, text } = ordered[n] as Edit
      if (text !== last) {
        last = text
        size = isAscii ? text.length : Buffer.byteLength(text)
        const met = text.length < long ? -1 : (places.get(text) ?? -1)
        place = met < 0 ? next : met
        if (met < 0) {
          next += size
          if (text.length >= long) places.set(text, place)
        }
      }
      data[at] = start
      data[at + 1] = end
      data[at + 2] = place
      data[at + 3] = size
      at += 4
    }
    const length = exports.splice(input, from, to, free, ordered.length, texts, out)
    return Buffer.copyBytesFrom(bytes, out, length)
  }
}

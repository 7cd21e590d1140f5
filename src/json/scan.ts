import { isUtf8 } from 'node:buffer'
import { splice } from './edit.ts'
import type { Names } from './names.ts'
import {
  ASK,
  hasDigits,
  isShort,
  mayBeInline,
  mayBeLong,
  mayHoldNumber,
  NOTHING,
} from './notice.ts'
import type { Notice } from './notice.ts'
import { checkTape, FLAG_MASK, FLAG_SHIFT, KIND, KIND_MASK, NAME_SHIFT, WIDTH } from './tape.ts'
import type { Noted, Scan, Tape } from './tape.ts'
import { CLASS, endOfLiteral, endOfNumber, endOfString, FLAG, JsonError, PLAIN } from './token.ts'

/**
 * One strict pass over the bytes of a JSON text (RFC 8259) into a tape of spans. Nothing is copied
 * and no string is made; whoever edits splices into the original bytes. Knows nothing of FHIR.
 */

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a

/** By depth: where the open containers begin on the tape, which are objects, and what is in them. */
type Stack = {
  readonly open: Int32Array
  readonly isObject: Uint8Array
  /** Number of the name around, plus one. */
  readonly nameAt: Int32Array
  /** One bit for each name met, four integers a level. */
  readonly seen: Int32Array
}

/** Memory of one scanner, used again by each scan: making and clearing it costs a fifth of a scan. */
class Room {
  #data = new Int32Array(0)
  readonly stack: Stack

  constructor(maximumDepth: number) {
    const levels = maximumDepth + 2
    this.stack = {
      open: new Int32Array(levels),
      isObject: new Uint8Array(levels),
      nameAt: new Int32Array(levels),
      seen: new Int32Array(levels * 4),
    }
  }

  take(length: number): Int32Array<ArrayBuffer> {
    if (this.#data.length >= length + 2 * WIDTH) return this.#data
    const data = new Int32Array(length + 64 * WIDTH)
    this.keep(data)
    return data
  }

  keep(data: Int32Array<ArrayBuffer>): void {
    if (data.length <= LARGEST_KEPT) this.#data = data
  }
}
const LARGEST_KEPT = 2_000_000

/** Builds a scanner in plain TypeScript: the reference for the one in WebAssembly. */
export function createScan(names: Names, maximumDepth: number, notice = NOTHING): Scan {
  const room = new Room(maximumDepth)
  let last: { isOver: boolean } | undefined
  return (bytes) => {
    if (last !== undefined) last.isOver = true
    const { data, length } = scan(bytes, names, maximumDepth, room)
    let noted: Noted | undefined
    const tape: Tape & { isOver: boolean } = {
      ...{ data, length, bytes, isOver: false, read: new Map() },
      get noted() {
        return (noted ??= note(data, length, bytes, notice))
      },
      // Nothing is compared here: each is the first of its kind.
      sameAs(string) {
        checkTape(tape)
        return string
      },
      compare() {
        checkTape(tape)
        return new Int32Array(0)
      },
      splice(edits, start, end) {
        checkTape(tape)
        return splice(bytes, edits, start, end)
      },
    }
    last = tape
    return tape
  }
}

/** Notes what is worth a look. */
function note(data: Int32Array, length: number, bytes: Buffer, notice: Notice): Noted {
  const [values, objects]: [number[], number[]] = [[], []]
  const [first, second, third] = notice.members
  const prefix = Buffer.from(notice.prefix)
  /** Objects that are not at their end yet, the innermost last. */
  const open: number[] = []
  for (let entry = 0, at = 0; entry <= length; entry++, at += WIDTH) {
    while (open.length > 0 && (data[(open.at(-1) ?? 0) * WIDTH + 3] as number) <= entry) {
      const object = open.pop() ?? 0
      const isEmpty = data[object * WIDTH + 3] === object + 1
      const had = isEmpty ? 0 : (data[(object + 1) * WIDTH + 3] as number)
      const told = had & ~short(object)
      const name = (data[object * WIDTH + 2] as number) >> NAME_SHIFT
      const isNamed = ((notice.asked[name] ?? 0) & ASK.object) !== 0
      if (((told & first) !== 0 && (had & second) !== 0) || (had & third) !== 0 || isNamed)
        objects.push(object)
    }
    if (entry === length) break
    const word = data[at + 2] as number
    const kind = word & KIND_MASK
    if (kind === KIND.object) open.push(entry)
    const [start, end] = [data[at] as number, data[at + 1] as number]
    if (kind === KIND.number && mayBeLong(bytes, start, end)) values.push(entry)
    if (kind !== KIND.string && kind !== KIND.key) continue
    const asked = kind === KIND.key ? 0 : (notice.asked[word >> NAME_SHIFT] ?? 0)
    const isInline = kind === KIND.string && mayBeInline(bytes, start + 1, asked)
    if (isInline || isNotable(bytes, start + 1, end - 1, (word >> FLAG_SHIFT) & FLAG_MASK, asked))
      values.push(entry)
  }
  const at = { value: 0, object: 0 }
  return { values: Int32Array.from(values), objects: Int32Array.from(objects), at }

  /** Bits of the members that are short numbers. */
  function short(object: number): number {
    let bits = 0
    const end = data[object * WIDTH + 3] as number
    for (let key = object + 1; key < end;) {
      const at = (key + 1) * WIDTH
      const [word, name] = [data[at + 2] as number, ((data[at + 2] as number) >> NAME_SHIFT) - 1]
      const kind = word & KIND_MASK
      const isFirst = kind === KIND.number && name >= 0 && name < 32
      if (isFirst && isShort(bytes, data[at] as number, data[at + 1] as number)) bits |= 1 << name
      key = kind <= KIND.array ? (data[at + 3] as number) : key + 2
    }
    return bits
  }

  function isNotable(text: Buffer, start: number, end: number, flags: number, asked: number) {
    if ((asked & ASK.always) !== 0) return true
    if ((asked & ASK.prefixed) !== 0) {
      if ((flags & FLAG.escaped) !== 0) return true
      if (text.subarray(start, end).subarray(0, prefix.length).equals(prefix)) return true
      const isOdd = flags !== 0 || hasDigits(text, start, end)
      if (isOdd && text.subarray(start, end).includes(0x3f)) return true
    }
    if ((asked & ASK.unsearched) !== 0) return false
    return flags !== 0 || (hasDigits(text, start, end) && mayHoldNumber(text, start, end))
  }
}

function scan(
  bytes: Buffer,
  names: Names,
  maximumDepth: number,
  room: Room,
): { data: Int32Array; length: number } {
  if (!isUtf8(bytes)) throw new JsonError('not UTF-8', 0)
  // One function with plain locals: shared between closures they would live in memory, three times slower.
  const { length } = bytes
  let data = room.take((length >> 3) * WIDTH)
  let full = data.length - 2 * WIDTH
  let w = 0
  let i = 0
  let depth = 0
  const { open, isObject, nameAt, seen } = room.stack
  /** The number of the name around the value to come, plus one; 0 = none. */
  let name = 0
  let c = 0

  for (;;) {
    // A value begins here, unless a name has to come first.
    c = bytes[i] as number
    while (c <= 0x20) {
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) throw misplaced(i)
      c = bytes[++i] as number
    }
    if (w > full) {
      const larger = new Int32Array(data.length * 2)
      larger.set(data)
      data = larger
      full = data.length - 2 * WIDTH
      room.keep(data)
    }

    if (depth > 0 && isObject[depth] === 1) {
      if (c !== QUOTE) throw new JsonError('a member name is missing', i)
      const start = i++
      while (CLASS[bytes[i] as number] === PLAIN) i++
      let id: number
      if (bytes[i] === QUOTE) {
        id = names.find(bytes, start + 1, i)
        i++
        data[w + 2] = KIND.key | ((id + 1) << NAME_SHIFT)
      } else {
        const { end, flags } = endOfString(bytes, i)
        i = end
        id = names.id(JSON.parse(bytes.toString('utf8', start, i)) as string)
        data[w + 2] = KIND.key | ((id + 1) << NAME_SHIFT) | (flags << FLAG_SHIFT)
      }
      if (id >= 0 && id < 128) {
        const slot = depth * 4 + (id >> 5)
        const bit = 1 << (id & 31)
        const had = seen[slot] as number
        if ((had & bit) !== 0) throw new JsonError('a member is there twice', i)
        seen[slot] = had | bit
      }
      data[w] = start
      data[w + 1] = i
      data[w + 3] = 0
      w += WIDTH
      name = id + 1
      c = bytes[i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
      if (c !== COLON) throw new JsonError('a colon is missing', i)
      c = bytes[++i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
    }

    if (c === QUOTE) {
      data[w] = i++
      while (CLASS[bytes[i] as number] === PLAIN) i++
      let flags = 0
      if (bytes[i] === QUOTE) i++
      else {
        const rest = endOfString(bytes, i)
        i = rest.end
        flags = rest.flags
      }
      data[w + 1] = i
      data[w + 2] = KIND.string | (name << NAME_SHIFT) | (flags << FLAG_SHIFT)
      data[w + 3] = 0
      w += WIDTH
    } else if (c === 0x7b || c === 0x5b) {
      if (depth >= maximumDepth) throw new JsonError('too deep', i)
      depth++
      open[depth] = w
      nameAt[depth] = name
      data[w] = i++
      const object = c === 0x7b ? 1 : 0
      isObject[depth] = object
      data[w + 2] = (object === 1 ? KIND.object : KIND.array) | (name << NAME_SHIFT)
      w += WIDTH
      if (object === 1) {
        const slot = depth * 4
        seen[slot] = 0
        seen[slot + 1] = 0
        seen[slot + 2] = 0
        seen[slot + 3] = 0
      }
      c = bytes[i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
      if (c !== (object === 1 ? 0x7d : 0x5d)) continue
    } else {
      data[w] = i
      const isNumber = c === 0x2d || (c >= 0x30 && c <= 0x39)
      i = isNumber ? endOfNumber(bytes, i) : endOfLiteral(bytes, i)
      data[w + 1] = i
      data[w + 2] = (isNumber ? KIND.number : KIND.literal) | (name << NAME_SHIFT)
      data[w + 3] = 0
      w += WIDTH
    }

    // After a value: a comma, or the end of one container or more.
    for (;;) {
      c = bytes[i] as number
      while (c <= 0x20 && (c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09))
        c = bytes[++i] as number
      if (depth === 0) {
        if (i < length) throw new JsonError('more after the end', i)
        return { data, length: w / WIDTH }
      }
      i++
      if (c === COMMA) {
        name = nameAt[depth] as number
        break
      }
      if (c !== (isObject[depth] === 1 ? 0x7d : 0x5d)) throw misplaced(i - 1)
      const at = open[depth] as number
      data[at + 1] = i
      data[at + 3] = w / WIDTH
      // Which of the first 32 names the object has: said by its first key.
      const had = isObject[depth] === 1 ? (seen[depth * 4] as number) : 0
      if (had !== 0) data[at + WIDTH + 3] = had
      depth--
    }
  }
}

function misplaced(at: number): JsonError {
  return new JsonError('a comma or an end is missing', at)
}

import { FLAG } from './token.ts'
import type { Names } from './names.ts'

/** Kinds of tape entries; the containers first. */
export const KIND = { object: 1, array: 2, string: 3, number: 4, literal: 5, key: 6 } as const

/**
 * Integers per entry: start, end (bytes), kind with flags and name, and one that is, for containers, the
 * entry after all that is in it; for the first key of an object, which of the first 32 names the object has;
 * for strings, 0, an equal one once it is known (see {@link sameAs}), or what a reader has found out, all bits
 * turned.
 */
export const WIDTH = 4
export const KIND_MASK = 7
export const FLAG_SHIFT = 3
export const FLAG_MASK = 7
/** Above it stands the number of the nearest member name around the value, plus one. */
export const NAME_SHIFT = 6

/** Replaces the bytes from `start` to `end`. */
export type Edit = { readonly start: number; readonly end: number; readonly text: string }

/** What a scan makes of a JSON text: `length` entries of WIDTH integers each; entry 0 is the root value. */
export type Tape = {
  readonly data: Int32Array
  readonly length: number
  readonly bytes: Buffer
  /** Its scanner has begun another: see {@link checkTape}. */
  readonly isOver: boolean
  /** What the scan was asked to note: strings, keys and numbers by their begins, objects by their ends. */
  readonly noted: Noted
  /** What readers have made of strings, by {@link sameAs}; gone with the tape. */
  readonly read: Map<number, string>
  /** An equal string that was asked about before, or itself; perhaps itself, if it is long. */
  readonly sameAs: (string: number) => number
  /**
   * Compares the objects of a list by the outline of the notice: two integers each, in order, for those
   * that have the same values as one before them wherever it looks: the object, and that one.
   */
  readonly compare: (list: number) => Int32Array
  /** The bytes from `start` to `end` with edits: splice() of edit.ts, made where the bytes are. */
  readonly splice: (edits: readonly Edit[], start?: number, end?: number) => Buffer
}

/** A tape is used when its scanner has begun another: a fault of ours, and nothing leaves of it. */
export class TapeEnded extends Error {
  override readonly name = 'TapeEnded'

  constructor() {
    super('a tape is used after the next scan of its scanner has begun')
  }
}

/**
 * Throws {@link TapeEnded} when a tape has ended: it would speak of the next text, which may be another
 * patient's. Asked by all that makes bytes of a tape and at the begin of each walk: to ask at each entry, or
 * to put something that throws in the place of its data, costs a twentieth of a release.
 */
export function checkTape({ isOver }: Pick<Tape, 'isOver'>): void {
  if (isOver) throw new TapeEnded()
}

export type Noted = {
  readonly values: Int32Array
  readonly objects: Int32Array
  /** Up to where readers of the notes have come. */
  readonly at: { value: number; object: number }
}

/**
 * Scans a whole text. Throws JsonError on anything that is not strict JSON: invalid UTF-8, lone
 * surrogates, a named member twice in one object, depth over the limit, truncation, trailing bytes.
 * The tape is good until the next scan by the same function: from then on it throws {@link TapeEnded}.
 */
export type Scan = (bytes: Buffer) => Tape

/** Reading a tape: entries are numbers; -1 is "not there". */

export const startOf = (tape: Tape, entry: number): number => tape.data[entry * WIDTH] as number
export const endOf = (tape: Tape, entry: number): number => tape.data[entry * WIDTH + 1] as number
const wordOf = (tape: Tape, entry: number): number => tape.data[entry * WIDTH + 2] as number
const lastOf = (tape: Tape, entry: number): number => tape.data[entry * WIDTH + 3] as number
export const kindOf = (tape: Tape, entry: number): number => wordOf(tape, entry) & KIND_MASK
/** The number of the nearest member name around the value, or -1. */
export const nameOf = (tape: Tape, entry: number): number => (wordOf(tape, entry) >> NAME_SHIFT) - 1

/** The entry after this value and all that is in it. */
export function after(tape: Tape, entry: number): number {
  return isContainer(tape, entry) ? lastOf(tape, entry) : entry + 1
}

/** Of a string: an equal one that was asked about before it; else itself, the first of its kind. */
export function sameAs(tape: Tape, string: number): number {
  const known = lastOf(tape, string)
  if (known !== 0) return known < 0 ? string : known
  const first = tape.sameAs(string)
  tape.data[string * WIDTH + 3] = first
  return first
}

/**
 * Whatever a reader has found out of a string that is the first of its kind, so that it need not be found
 * out again: 0 = nothing yet, or more.
 */
export function remarkOf(tape: Tape, string: number): number {
  const remarked = lastOf(tape, string)
  return remarked < 0 ? ~remarked : 0
}
export function remark(tape: Tape, string: number, found: number): void {
  tape.data[string * WIDTH + 3] = ~found
}

/** Strings and keys: FLAG bits. */
export const flagsOf = (tape: Tape, entry: number): number =>
  (wordOf(tape, entry) >> FLAG_SHIFT) & FLAG_MASK

/** Of an object: bit n is set when the member of name n < 32 is there. */
export const membersOf = (tape: Tape, object: number): number =>
  after(tape, object) === object + 1 ? 0 : lastOf(tape, object + 1)

export const isContainer = (tape: Tape, entry: number): boolean => kindOf(tape, entry) <= KIND.array

/** The value of a member of an object, or -1. */
export function member(tape: Tape, object: number, name: number): number {
  if (object < 0 || kindOf(tape, object) !== KIND.object) return -1
  const { data } = tape
  const end = data[object * WIDTH + 3] as number
  // Mostly the member is not there, and for the first names the first key tells.
  if (end === object + 1 || (name < 32 && (lastOf(tape, object + 1) & (1 << name)) === 0)) return -1
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    if (nameOf(tape, key) === name) return key + 1
  }
  return -1
}

/** The elements of an array; the value itself when it is none; nothing for -1. */
export function* elements(tape: Tape, value: number): Generator<number> {
  if (value < 0) return
  if (kindOf(tape, value) !== KIND.array) {
    yield value
    return
  }
  const end = after(tape, value)
  for (let entry = value + 1; entry < end; entry = after(tape, entry)) yield entry
}

/** What the notes of a tape are shown to. */
export type NoteReader = {
  readonly object: (entry: number) => void
  /** A string, key or number. */
  readonly value: (entry: number) => void
}

/**
 * Shows each noted object that is `value` or in it, and then each noted string, key and number. Values are
 * mostly asked for in order: it goes on looking where the last one ended.
 */
export function readNotes(tape: Tape, value: number, reader: NoteReader): void {
  const { values, objects, at } = tape.noted
  const end = after(tape, value)
  seekNotes(tape, value)
  // Objects are noted when they end: those around the value come later than all that is in it.
  let n = at.object
  for (; n < objects.length; n++) {
    const entry = objects[n] as number
    if (after(tape, entry) > end) break
    reader.object(entry)
  }
  at.object = n
  for (n = at.value; n < values.length; n++) {
    const entry = values[n] as number
    if (entry >= end) break
    reader.value(entry)
  }
  at.value = n
}

/** Whether there is anything to read. */
export function isNoted(tape: Tape, value: number): boolean {
  const { values, objects, at } = tape.noted
  const end = after(tape, value)
  seekNotes(tape, value)
  const isIn = at.object < objects.length && after(tape, objects[at.object] as number) <= end
  return isIn || (at.value < values.length && (values[at.value] as number) < end)
}

/** To the first of both that are not before a value. */
function seekNotes(tape: Tape, value: number): void {
  const { values, objects, at } = tape.noted
  let n = at.object > 0 && after(tape, objects[at.object - 1] as number) > value ? 0 : at.object
  while (n < objects.length && after(tape, objects[n] as number) <= value) n++
  at.object = n
  n = at.value > 0 && (values[at.value - 1] as number) >= value ? 0 : at.value
  while (n < values.length && (values[n] as number) < value) n++
  at.value = n
}

/** The decoded text of a string or key; undefined for any other value. */
export function textOf(tape: Tape, entry: number): string | undefined {
  if (entry < 0) return undefined
  const kind = kindOf(tape, entry)
  if (kind !== KIND.string && kind !== KIND.key) return undefined
  const [start, end, flags] = [startOf(tape, entry), endOf(tape, entry), flagsOf(tape, entry)]
  if ((flags & FLAG.escaped) !== 0) {
    return JSON.parse(tape.bytes.toString('utf8', start, end)) as string
  }
  return tape.bytes.toString((flags & FLAG.wide) === 0 ? 'latin1' : 'utf8', start + 1, end - 1)
}

/** The same, without making a string when the text is one of `known`. */
export function knownTextOf(tape: Tape, entry: number, known: Names): string | undefined {
  if (entry < 0 || kindOf(tape, entry) !== KIND.string) return undefined
  if ((flagsOf(tape, entry) & FLAG.escaped) !== 0) return textOf(tape, entry)
  const id = known.find(tape.bytes, startOf(tape, entry) + 1, endOf(tape, entry) - 1)
  return id < 0 ? textOf(tape, entry) : known.list[id]
}

/** Whether it is a string, and its text one of `known`; mostly the bytes tell. */
export function isOneOf(tape: Tape, entry: number, known: Names): boolean {
  if (kindOf(tape, entry) !== KIND.string) return false
  if ((flagsOf(tape, entry) & FLAG.escaped) !== 0) return known.id(textOf(tape, entry) ?? '') >= 0
  return known.find(tape.bytes, startOf(tape, entry) + 1, endOf(tape, entry) - 1) >= 0
}

/** All values at a path of names, arrays passed through. */
export function valuesAt(tape: Tape, object: number, path: readonly number[]): number[] {
  const found: number[] = []
  collect(tape, object, path, 0, found)
  return found
}

function collect(
  tape: Tape,
  value: number,
  path: readonly number[],
  from: number,
  found: number[],
): void {
  const name = path[from]
  if (name === undefined) {
    found.push(value)
    return
  }
  const next = member(tape, value, name)
  if (next < 0) return
  if (kindOf(tape, next) !== KIND.array) {
    collect(tape, next, path, from + 1, found)
    return
  }
  const end = after(tape, next)
  for (let entry = next + 1; entry < end; entry = after(tape, entry)) {
    collect(tape, entry, path, from + 1, found)
  }
}

import { JsonError } from './token.ts'

/** A piece of one JSON object: a member as it stands (`"key":value`), or an element of the array. */
export type Piece = { readonly kind: 'member' | 'element'; readonly bytes: Buffer }

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a]
const isSpace = (c: number): boolean => c === 0x20 || c === 0x0a || c === 0x0d || c === 0x09

/**
 * Cuts a JSON object that arrives in chunks: the elements of its member `name` (an array of objects)
 * one by one, and every other member whole. Only the cuts are made here; whoever takes a piece scans
 * it strictly. Holds one piece in memory, of `largest` bytes at most.
 */
export class EntrySplitter {
  readonly #wanted: string
  readonly #largest: number
  #held: Buffer = Buffer.alloc(0)
  /** Memory of our own that may hold what is held. */
  #grown: Buffer | undefined
  #at = 0
  #place: 'before' | 'members' | 'elements' | 'after' = 'before'
  #needsComma = false
  /** Begin of the member under way, and of its value once the colon is behind us. */
  #key = -1
  #value = -1
  #depth = 0
  #inString = false
  /** Whether the array has been met: from then on elements come. */
  met = false

  constructor(name: string, largest: number) {
    this.#wanted = `"${name}"`
    this.#largest = largest
  }

  /** Takes a chunk and answers the pieces it completes. Throws JsonError. */
  push(chunk: Buffer): Piece[] {
    this.#held = this.#held.length === 0 ? chunk : this.#append(chunk)
    const pieces: Piece[] = []
    while (this.#step(pieces));
    if (this.#held.length > this.#largest) this.#fail('a piece is larger than can be judged')
    return pieces
  }

  /** Room doubles: a piece of many chunks is not copied again for each of them. */
  #append(chunk: Buffer): Buffer {
    const held = this.#held
    const length = held.length + chunk.length
    const grown = this.#grown
    const fits =
      grown !== undefined &&
      held.buffer === grown.buffer &&
      held.byteOffset + length <= grown.byteOffset + grown.length
    if (fits) {
      const from = held.byteOffset - grown.byteOffset
      chunk.copy(grown, from + held.length)
      return grown.subarray(from, from + length)
    }
    // Memory of its own: pieces handed out before keep theirs.
    const room = Buffer.allocUnsafeSlow(Math.max(2 * length, 65_536))
    this.#grown = room
    held.copy(room)
    chunk.copy(room, held.length)
    return room.subarray(0, length)
  }

  /** Throws JsonError when the object has not ended. */
  end(): void {
    if (this.#place !== 'after') this.#fail('an unfinished text')
  }

  #fail(message: string): never {
    throw new JsonError(message, this.#at)
  }

  /** Goes on as far as one piece or one sign; false = more bytes are needed. */
  #step(pieces: Piece[]): boolean {
    if (this.#value >= 0) return this.#finishValue(pieces)
    while (this.#at < this.#held.length && isSpace(this.#held[this.#at] ?? 0)) this.#at++
    const c = this.#held[this.#at]
    if (c === undefined) return false
    if (this.#place === 'before') {
      if (c !== 0x7b) this.#fail('not an object')
      this.#place = 'members'
    } else if (this.#place === 'after') this.#fail('more after the end')
    else if (this.#key >= 0 && this.#place === 'members') return this.#beginValue(c)
    else if (c === COMMA) {
      if (!this.#needsComma) this.#fail('a value is missing')
      this.#needsComma = false
      this.#at++
      while (this.#at < this.#held.length && isSpace(this.#held[this.#at] ?? 0)) this.#at++
      const next = this.#held[this.#at]
      if (next === 0x7d || next === 0x5d) this.#fail('a value is missing')
      return true
    } else if (c === (this.#place === 'members' ? 0x7d : 0x5d)) {
      this.#place = this.#place === 'members' ? 'after' : 'members'
      this.#needsComma = true
    } else {
      if (this.#needsComma) this.#fail('a comma is missing')
      if (c !== (this.#place === 'members' ? QUOTE : 0x7b)) this.#fail('not what belongs here')
      this.#key = this.#at
      // A member's name is a value of its own first; an element begins at once.
      this.#value = this.#at
      return true
    }
    this.#at++
    return true
  }

  /** After a member's name: the colon, then its value or the array. */
  #beginValue(c: number): boolean {
    if (c === COLON) {
      this.#at++
      return true
    }
    const name = this.#held.toString('latin1', this.#key, this.#at).replace(/[\s:]+$/, '')
    if (name === this.#wanted && c === 0x5b) {
      if (this.met) this.#fail('a member is there twice')
      this.met = true
      this.#place = 'elements'
      this.#needsComma = false
      this.#at++
      this.#drop(this.#at)
      return true
    }
    this.#value = this.#at
    return true
  }

  /** Runs to the end of the value under way. */
  #finishValue(pieces: Piece[]): boolean {
    const held = this.#held
    let i = this.#at
    for (; i < held.length; i++) {
      const c = held[i] ?? 0
      if (this.#inString) {
        if (c === BACKSLASH) {
          if (i + 1 >= held.length) break
          i++
        } else if (c === QUOTE) {
          this.#inString = false
          if (this.#depth === 0) return this.#ended(i + 1, pieces)
        }
      } else if (c === QUOTE) this.#inString = true
      else if (c === 0x7b || c === 0x5b) this.#depth++
      else if (c === 0x7d || c === 0x5d) {
        if (this.#depth === 0) return this.#ended(i, pieces)
        if (--this.#depth === 0) return this.#ended(i + 1, pieces)
      } else if (this.#depth === 0 && (c === COMMA || isSpace(c))) return this.#ended(i, pieces)
    }
    this.#at = i
    return false
  }

  #ended(end: number, pieces: Piece[]): boolean {
    const isName = this.#place === 'members' && this.#value === this.#key
    this.#at = end
    this.#value = -1
    if (isName) return true
    const kind = this.#place === 'members' ? 'member' : 'element'
    pieces.push({ kind, bytes: this.#held.subarray(this.#key, end) })
    this.#needsComma = true
    this.#drop(end)
    return true
  }

  #drop(end: number): void {
    this.#held = this.#held.subarray(end)
    this.#at = 0
    this.#key = -1
  }
}

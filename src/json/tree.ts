import { hash } from 'node:crypto'
import { compileNames } from './names.ts'
import { createSimdScan } from './simd-scan.ts'
import { after, endOf, kindOf, KIND, startOf, textOf } from './tape.ts'
import type { Tape } from './tape.ts'

/** A JSON value with its own text: numbers and strings stay as they were written. */
export type Node = {
  readonly kind: 'object' | 'array' | 'scalar'
  /** The value as it was written. */
  readonly text: string
  /**
   * Written one way: equal values have equal ones, and no others have. Numbers are equal when they are
   * written alike. Of a long value it is the digest.
   */
  readonly canon: string
  /** object: its members, in order. */
  readonly members: ReadonlyMap<string, Node>
  /** array: its items. */
  readonly items: readonly Node[]
}

/** A member that stands twice: nobody can say which of them counts. */
export class TreeError extends Error {
  override readonly name = 'TreeError'
}

const NO_MEMBERS: ReadonlyMap<string, Node> = new Map()

/** A longer canon is digested, or each level would hold all below it once more. */
const LONGEST_CANON = 256

const shorten = (canon: string): string =>
  canon.length > LONGEST_CANON ? `#${hash('sha256', canon, 'base64')}` : canon

/** Keeps where its text stands, not the text: most of them nobody asks for. */
class Value implements Node {
  readonly kind: Node['kind']
  readonly canon: string
  readonly members: ReadonlyMap<string, Node>
  readonly items: readonly Node[]
  readonly #bytes: Buffer
  readonly #start: number
  readonly #end: number

  constructor(tape: Tape, entry: number, known: Omit<Node, 'text'>) {
    this.kind = known.kind
    this.canon = shorten(known.canon)
    this.members = known.members
    this.items = known.items
    this.#bytes = tape.bytes
    this.#start = startOf(tape, entry)
    this.#end = endOf(tape, entry)
  }

  get text(): string {
    return this.#bytes.toString('utf8', this.#start, this.#end)
  }
}

/** Builds the tree of a scanned text; it stays good when the tape is used again, but not its bytes. */
export function buildTree(tape: Tape, entry = 0): Node {
  const end = after(tape, entry)
  switch (kindOf(tape, entry)) {
    case KIND.object: {
      const members = new Map<string, Node>()
      for (let key = entry + 1; key < end; key = after(tape, key + 1)) {
        const name = textOf(tape, key) ?? ''
        if (members.has(name)) throw new TreeError('a member stands twice')
        members.set(name, buildTree(tape, key + 1))
      }
      const canon = [...members]
        .map(([name, { canon }]) => `${JSON.stringify(name)}:${canon}`)
        .sort()
        .join()
      return new Value(tape, entry, { kind: 'object', canon: `{${canon}}`, members, items: [] })
    }
    case KIND.array: {
      const items: Node[] = []
      for (let item = entry + 1; item < end; item = after(tape, item)) {
        items.push(buildTree(tape, item))
      }
      const canon = `[${items.map(({ canon }) => canon).join()}]`
      return new Value(tape, entry, { kind: 'array', canon, members: NO_MEMBERS, items })
    }
    default: {
      const decoded = textOf(tape, entry)
      const canon =
        decoded === undefined
          ? tape.bytes.toString('latin1', startOf(tape, entry), endOf(tape, entry))
          : JSON.stringify(decoded)
      return new Value(tape, entry, { kind: 'scalar', canon, members: NO_MEMBERS, items: [] })
    }
  }
}

/** Reads texts as trees. Made once: its scanner has memory of its own. Throws what a scan throws, too. */
export function createTreeReader(maximumDepth: number): (bytes: Buffer) => Node {
  const scan = createSimdScan(compileNames([]), maximumDepth)
  return (bytes) => buildTree(scan(bytes))
}

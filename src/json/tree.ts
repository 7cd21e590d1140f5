import { hash } from 'node:crypto'
import { compileNames } from './names.ts'
import { createSimdScan } from './simd-scan.ts'
import { after, endOf, flagsOf, isContainer, kindOf, KIND, startOf } from './tape.ts'
import type { Scan, Tape } from './tape.ts'
import { FLAG } from './token.ts'

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

/** Reads texts as trees. Throws what a scan throws, and TreeError. */
export type ReadTree = (bytes: Buffer) => Node

const NO_MEMBERS: ReadonlyMap<string, Node> = new Map()
const NO_ITEMS: readonly Node[] = []

/** A longer canon is digested, or each level would hold all below it once more. */
const LONGEST_CANON = 256

/** Bytes of a value that is looked into only when somebody asks: of long lists nearly nobody does. */
const LARGEST_CLOSED = 1024

/** Bytes of a scalar that is kept once for all of its like: a longer one costs less to make than to find. */
const LARGEST_SHARED = 4

const shorten = (canon: string): string =>
  canon.length > LONGEST_CANON ? `#${hash('sha256', canon, 'base64')}` : canon

/** What a value holds. */
type Inside = Pick<Node, 'members' | 'items'>
const NOTHING: Inside = { members: NO_MEMBERS, items: NO_ITEMS }

/** Keeps where its text stands, not the text: most of them nobody asks for. */
class Value implements Node {
  readonly kind: Node['kind']
  readonly canon: string
  readonly #bytes: Buffer
  readonly #start: number
  readonly #end: number
  #inside: Inside | ((text: Buffer) => Inside)

  constructor(
    tape: Tape,
    entry: number,
    canon: string,
    inside: Inside | ((text: Buffer) => Inside),
  ) {
    const kind = kindOf(tape, entry)
    this.kind = kind === KIND.object ? 'object' : kind === KIND.array ? 'array' : 'scalar'
    this.canon = canon
    this.#bytes = tape.bytes
    this.#start = startOf(tape, entry)
    this.#end = endOf(tape, entry)
    this.#inside = inside
  }

  get text(): string {
    return this.#bytes.toString('utf8', this.#start, this.#end)
  }

  get members(): ReadonlyMap<string, Node> {
    return this.#open().members
  }

  get items(): readonly Node[] {
    return this.#open().items
  }

  #open(): Inside {
    if (typeof this.#inside === 'function')
      this.#inside = this.#inside(this.#bytes.subarray(this.#start, this.#end))
    return this.#inside
  }
}

/** A string or key as it is written one way; a number as it stands. */
function spell(tape: Tape, entry: number): string {
  const flags = flagsOf(tape, entry)
  const isWide = (flags & (FLAG.wide | FLAG.escaped)) !== 0
  const text = tape.bytes.toString(
    isWide ? 'utf8' : 'latin1',
    startOf(tape, entry),
    endOf(tape, entry),
  )
  return (flags & FLAG.escaped) === 0 ? text : JSON.stringify(JSON.parse(text))
}

/** Calls for each member of an object: its name as it is spelled one way, and its value. */
function eachMember(
  tape: Tape,
  object: number,
  call: (spelled: string, value: number) => void,
): void {
  const end = after(tape, object)
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    call(spell(tape, key), key + 1)
  }
}

function eachItem(tape: Tape, list: number, call: (item: number) => void): void {
  const end = after(tape, list)
  for (let item = list + 1; item < end; item = after(tape, item)) call(item)
}

const canonOfObject = (members: string[]): string => shorten(`{${members.sort().join()}}`)
const canonOfList = (items: readonly string[]): string => shorten(`[${items.join()}]`)

function canonOf(tape: Tape, entry: number): string {
  const kind = kindOf(tape, entry)
  if (kind === KIND.object) {
    const names: string[] = []
    const members: string[] = []
    eachMember(tape, entry, (name, value) => {
      if (names.includes(name)) throw new TreeError('a member stands twice')
      names.push(name)
      members.push(`${name}:${canonOf(tape, value)}`)
    })
    return canonOfObject(members)
  }
  if (kind !== KIND.array) return shorten(spell(tape, entry))
  const items: string[] = []
  eachItem(tape, entry, (item) => items.push(canonOf(tape, item)))
  return canonOfList(items)
}

/**
 * Reads texts of which much is the same, as versions and views of one resource are: what stands in
 * several of them as it was written is looked at once. The trees stay good when it reads again.
 */
function createReader(scan: Scan): ReadTree {
  const trees: (readonly [text: Buffer, tree: Node])[] = []
  /** Small values by their texts; and the members of a resource, if large, by the digests of theirs. */
  const known = new Map<string, Node>()

  const openObject = (tape: Tape, object: number): Inside & { readonly canon: string } => {
    const members = new Map<string, Node>()
    const canons: string[] = []
    eachMember(tape, object, (spelled, value) => {
      const name = JSON.parse(spelled) as string
      if (members.has(name)) throw new TreeError('a member stands twice')
      const node = object === 0 ? readMember(tape, value) : read(tape, value)
      members.set(name, node)
      canons.push(`${spelled}:${node.canon}`)
    })
    return { members, items: NO_ITEMS, canon: canonOfObject(canons) }
  }

  const openList = (tape: Tape, list: number): Inside & { readonly canon: string } => {
    const items: Node[] = []
    eachItem(tape, list, (item) => items.push(read(tape, item)))
    return { members: NO_MEMBERS, items, canon: canonOfList(items.map(({ canon }) => canon)) }
  }

  const open = (tape: Tape, entry: number): Inside & { readonly canon: string } =>
    kindOf(tape, entry) === KIND.object ? openObject(tape, entry) : openList(tape, entry)

  const openLater = (text: Buffer): Inside => open(scan(text), 0)

  const valueOf = (tape: Tape, entry: number, inside: Inside | typeof openLater): Node =>
    new Value(tape, entry, canonOf(tape, entry), inside)

  function read(tape: Tape, entry: number): Node {
    const [start, end] = [startOf(tape, entry), endOf(tape, entry)]
    if (end - start > LARGEST_CLOSED) {
      if (!isContainer(tape, entry)) return valueOf(tape, entry, NOTHING)
      const inside = open(tape, entry)
      return new Value(tape, entry, inside.canon, inside)
    }
    const isScalar = !isContainer(tape, entry)
    if (isScalar && end - start > LARGEST_SHARED) return valueOf(tape, entry, NOTHING)
    const text = tape.bytes.toString('latin1', start, end)
    let node = known.get(text)
    if (node === undefined) {
      node = valueOf(tape, entry, isScalar ? NOTHING : openLater)
      known.set(text, node)
    }
    return node
  }

  /** Where most of the resource stands, and nothing of it within another: each byte is digested once. */
  function readMember(tape: Tape, entry: number): Node {
    const [start, end] = [startOf(tape, entry), endOf(tape, entry)]
    if (end - start <= LARGEST_CLOSED) return read(tape, entry)
    const digest = hash('sha256', tape.bytes.subarray(start, end), 'base64')
    let node = known.get(digest)
    if (node === undefined) {
      node = read(tape, entry)
      known.set(digest, node)
    }
    return node
  }

  return (bytes) => {
    for (const [other, tree] of trees) if (other.equals(bytes)) return tree
    const tree = read(scan(bytes), 0)
    trees.push([bytes, tree])
    return tree
  }
}

/**
 * Gives readers, one for what is to be compared; each keeps what it has read. Made once: its scanner
 * has memory of its own.
 */
export function createTreeReaders(maximumDepth: number): () => ReadTree {
  const scan = createSimdScan(compileNames([]), maximumDepth)
  return () => createReader(scan)
}

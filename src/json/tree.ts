import { compileNames } from './names.ts'
import { createSimdScan } from './simd-scan.ts'
import { after, endOf, kindOf, KIND, startOf, textOf } from './tape.ts'
import type { Tape } from './tape.ts'

/** A JSON value with its own text: numbers and strings stay as they were written. */
export type Node = {
  readonly kind: 'object' | 'array' | 'scalar'
  /** The value as it was written. */
  readonly text: string
  /** Written one way: equal values have equal ones. Numbers are equal when they are written alike. */
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

/** Builds the tree of a scanned text; it stays good when the tape is used again. */
export function buildTree(tape: Tape, entry = 0): Node {
  const text = tape.bytes.toString('utf8', startOf(tape, entry), endOf(tape, entry))
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
      return { kind: 'object', text, canon: `{${canon}}`, members, items: [] }
    }
    case KIND.array: {
      const items: Node[] = []
      for (let item = entry + 1; item < end; item = after(tape, item)) {
        items.push(buildTree(tape, item))
      }
      const canon = `[${items.map(({ canon }) => canon).join()}]`
      return { kind: 'array', text, canon, members: NO_MEMBERS, items }
    }
    default: {
      const decoded = textOf(tape, entry)
      const canon = decoded === undefined ? text : JSON.stringify(decoded)
      return { kind: 'scalar', text, canon, members: NO_MEMBERS, items: [] }
    }
  }
}

/** Reads texts as trees. Made once: its scanner has memory of its own. Throws what a scan throws, too. */
export function createTreeReader(maximumDepth: number): (bytes: Buffer) => Node {
  const scan = createSimdScan(compileNames([]), maximumDepth)
  return (bytes) => buildTree(scan(bytes))
}

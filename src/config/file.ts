import { readFileSync } from 'node:fs'
import { isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml'
import type { Node } from 'yaml'
import type { Problem } from './problem.ts'

/** A key or index from the root of the configuration. */
export type Path = readonly (string | number)[]

/** Where something stands in a file; line and column from 1. */
export type Place = { readonly file: string; readonly line: number; readonly column: number }

/** A YAML file as read, with the place of every key. */
export type ConfigFile = {
  readonly content: Readonly<Record<string, unknown>>
  readonly problems: readonly Problem[]
  /** The place of the key at the end of `path`, or of the nearest key above it that is written. */
  readonly find: (path: Path) => Place
}

/** The system's word for why a file cannot be read, without its content. */
export function describeReadError(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
  const known: Readonly<Record<string, string>> = {
    ENOENT: 'there is no such file',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
  }
  return known[code] ?? code
}

/** Reads a configuration file. Faults become problems; nothing is thrown. */
export function readConfigFile(file: string): ConfigFile {
  const start = { file, line: 1, column: 1 }
  const nothing = (message: string): ConfigFile => ({
    content: {},
    problems: [{ file, line: 0, column: 0, message }],
    find: () => start,
  })
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    return nothing(`cannot be read: ${describeReadError(error)}`)
  }
  const lines = new LineCounter()
  // YAML's own messages may quote the line at fault, which may hold a secret: prettyErrors off.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const placeAt = (offset: number): Place => {
    const { line, col } = lines.linePos(offset)
    return { file, line: Math.max(1, line), column: Math.max(1, col) }
  }
  const faults = [...document.errors, ...document.warnings].map((fault) => ({
    ...placeAt(fault.pos[0]),
    message: `YAML cannot be read: ${fault.code.toLowerCase().replaceAll('_', ' ')}`,
  }))
  if (faults.length > 0) return { content: {}, problems: faults, find: () => start }

  const root: Node | null = document.contents
  if (root === null) return { content: {}, problems: [], find: () => start }
  if (!isMap(root)) return nothing('must hold keys and values')
  let content: Readonly<Record<string, unknown>>
  try {
    content = document.toJS() as Readonly<Record<string, unknown>>
  } catch {
    return nothing('YAML cannot be read: an alias leads nowhere or grows without end')
  }
  const find = (path: Path): Place => {
    let node: unknown = root
    let place = start
    for (const step of path) {
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && item.key.value === step)
        if (pair === undefined) break
        if (isScalar(pair.key) && pair.key.range) place = placeAt(pair.key.range[0])
        node = pair.value
      } else if (isSeq(node) && typeof step === 'number') {
        node = node.items[step]
        const range = (node as Node | undefined)?.range
        if (!range) break
        place = placeAt(range[0])
      } else break
    }
    return place
  }
  return { content, problems: [], find }
}

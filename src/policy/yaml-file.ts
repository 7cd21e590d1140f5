import { readFileSync } from 'node:fs'
import { isMap, isNode, LineCounter, parseDocument, visit } from 'yaml'

/** What is wrong with a file, and where. */
export type PolicyProblem = {
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
}

/** The content of a YAML file, and how a problem with it is told. */
export type YamlFile = {
  readonly content: unknown
  /** Tells a problem with the value at `path`, once. */
  readonly report: (path: readonly PropertyKey[], message: string) => void
}

/** Where zod found what: the part of an issue that is told. */
type Issue = {
  readonly code?: string | undefined
  readonly path: readonly PropertyKey[]
  readonly message: string
  readonly keys?: readonly string[]
}

/** Reads a YAML file; undefined when it cannot be read, with the problems told. */
export function readYaml(file: string, problems: PolicyProblem[]): YamlFile | undefined {
  const lines = new LineCounter()
  const told = new Set<string>()
  const tell = (offset: number, message: string): void => {
    const { line, col } = lines.linePos(offset)
    const place = `${line}:${col} ${message}`
    if (told.has(place)) return
    told.add(place)
    problems.push({ file, line: Math.max(line, 1), column: Math.max(col, 1), message })
  }
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    tell(0, 'the file cannot be read')
    return undefined
  }
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  for (const error of [...document.errors, ...document.warnings]) {
    tell(error.pos[0], error.message.split('\n')[0] ?? error.message)
  }
  let isBroken = document.errors.length > 0
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) !== undefined) return
      isBroken = true
      tell(alias.range?.[0] ?? 0, `there is no anchor &${alias.source} before this alias`)
    },
  })
  if (isBroken) return undefined
  /** Where a value stands: at its key when it has one, else at the nearest thing around it. */
  const offsetOf = (path: readonly PropertyKey[]): number => {
    for (let length = path.length; length > 0; length--) {
      const parent = document.getIn(path.slice(0, length - 1), true)
      const key = String(path[length - 1])
      const pair = isMap(parent) ? parent.items.find((item) => String(item.key) === key) : undefined
      const node: unknown = pair?.key ?? document.getIn(path.slice(0, length), true)
      if (isNode(node) && node.range) return node.range[0]
    }
    return 0
  }
  try {
    const content: unknown = document.toJS()
    return {
      content,
      report: (path, message) => {
        tell(offsetOf(path), message)
      },
    }
  } catch (error) {
    // Aliases of aliases beyond the limit, and whatever else does not become a value.
    tell(0, error instanceof Error ? error.message : 'the file cannot be read')
    return undefined
  }
}

/** Tells what a schema found, each unknown key where it stands. */
export function reportIssues({ report }: YamlFile, issues: readonly Issue[]): void {
  for (const { code, path, message, keys = [] } of issues) {
    const where = path.length === 0 ? '' : `${path.map(String).join('.')}: `
    if (code === 'unrecognized_keys') {
      for (const key of keys) report([...path, key], `${where}Unrecognized key: "${key}"`)
    } else report(path, `${where}${message}`)
  }
}

/** A member of an object, or undefined. */
export const memberOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined

/** A member of an object that is a list, or []. */
export function listOf(value: unknown, key: string): readonly unknown[] {
  const list = memberOf(value, key)
  return Array.isArray(list) ? list : []
}

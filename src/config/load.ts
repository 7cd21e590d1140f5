import { readFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { Override } from './environment.ts'
import { readEnvironment } from './environment.ts'
import type { ConfigFile, Path } from './file.ts'
import { describeReadError, readConfigFile } from './file.ts'
import type { Problem } from './problem.ts'
import { ConfigError, formatProblem, suggest } from './problem.ts'
import { checkRules } from './rules.ts'
import type { Config } from './schema.ts'
import { configSchema } from './schema.ts'
import { formatVariable, listSettings } from './settings.ts'

export { ConfigError, formatProblem } from './problem.ts'
export type { Problem } from './problem.ts'

type Tree = { [key: string]: unknown }

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Puts a value at a path, making the objects on the way. A non-object on the way stays a fault. */
function put(tree: Tree, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path
  if (key === undefined) return
  if (rest.length === 0) {
    tree[key] = value
    return
  }
  const below = tree[key] ?? {}
  if (!isTree(below)) return
  const copy = { ...below }
  put(copy, rest, value)
  tree[key] = copy
}

function read(tree: unknown, path: Path): unknown {
  return path.reduce<unknown>((at, key) => (at as Tree | undefined)?.[String(key)], tree)
}

/** The keys that may stand under `path`. */
function listKeysAt(path: Path): string[] {
  const names = path.filter((step) => typeof step === 'string')
  const below = listSettings()
    .map(({ path: keys }) => keys.map((key) => key.replace('[]', '')))
    .filter((keys) => names.every((name, index) => keys[index] === name))
  return [...new Set(below.map((keys) => keys[names.length] ?? ''))].filter((key) => key !== '')
}

/** The required settings missing with `path`: itself, or those below it. */
function listRequired(path: Path): Path[] {
  const below = listSettings().filter(
    ({ required, path: keys }) => required && path.every((step, index) => keys[index] === step),
  )
  return below.some(({ variable }) => variable !== undefined)
    ? below.filter(({ variable }) => variable !== undefined).map(({ path: keys }) => keys)
    : [path]
}

/** The settings that name a file to be read. */
function listFiles(): (readonly string[])[] {
  return listSettings().flatMap(({ path, variable }) =>
    variable !== undefined && /[a-z]File$/.test(path.at(-1) ?? '') ? [path] : [],
  )
}

/** By line, then what stands in no line. */
function inOrder(problems: readonly Problem[]): Problem[] {
  const rank = ({ line, column }: Problem) => (line === 0 ? Infinity : line * 1e6 + column)
  return problems.toSorted((a, b) => (rank(a) === rank(b) ? 0 : rank(a) - rank(b)))
}

/** The tree without what is faulty, and something harmless where something is required. */
function repair(
  tree: Tree,
  issues: readonly { readonly path: PropertyKey[]; keys?: string[] }[],
): Tree {
  const copy = structuredClone(tree)
  for (const issue of issues) {
    for (const key of issue.keys ?? [undefined]) {
      const path = (key === undefined ? issue.path : [...issue.path, key]).map(String)
      // A list with a hole is no list: what is wrong inside a plain one takes the list with it.
      while (/^\d+$/.test(path.at(-1) ?? '')) path.pop()
      const parent = read(copy, path.slice(0, -1))
      if (typeof parent === 'object' && parent !== null) {
        Reflect.deleteProperty(parent, path.at(-1) ?? '')
      }
    }
  }
  const harmless = { url: 'https://localhost' }
  const listed: unknown[] = Array.isArray(copy.issuers) ? copy.issuers : [harmless]
  const issuers = listed.map((issuer, index) => ({
    url: `https://${index}.localhost`,
    ...(isTree(issuer) ? issuer : {}),
  }))
  return {
    ...copy,
    public: { ...harmless, ...(isTree(copy.public) ? copy.public : {}) },
    upstream: { ...harmless, ...(isTree(copy.upstream) ? copy.upstream : {}) },
    issuers: issuers.length === 0 ? [harmless] : issuers,
  }
}

/** Where a fault at `path` was written: by a variable, in the file, or nowhere yet. */
function locate(
  path: Path,
  overrides: readonly Override[],
  file: ConfigFile | undefined,
): Omit<Problem, 'message'> {
  const given = overrides.find(({ path: keys }) => keys.every((key, index) => path[index] === key))
  if (given !== undefined) return { variable: given.variable, line: 0, column: 0 }
  if (file !== undefined) return file.find(path)
  const issuer = path[0] === 'issuers'
  const variable = issuer ? 'FHIREWALL_ISSUER' : formatVariable(path.map(String))
  return { variable, line: 0, column: 0 }
}

/** What stands in the file and is given otherwise by a variable: whoever reads it there is misled. */
function listOverridden(overrides: readonly Override[], file: ConfigFile): string[] {
  return overrides.flatMap(({ path, variable, value }) => {
    const written = read(file.content, path)
    if (written === undefined || isDeepStrictEqual(written, value)) return []
    const { file: name, line, column } = file.find(path)
    const message = `${path.join('.')} does not count: ${variable} goes before it`
    return [formatProblem({ file: name, line, column, message })]
  })
}

/** A trailing slash says nothing about a base; an issuer URL must stay as the `iss` claim has it. */
function normalise(config: Config): Config {
  const trim = (url: string) => url.replace(/\/+$/, '')
  return {
    ...config,
    public: { ...config.public, url: trim(config.public.url) },
    upstream: { ...config.upstream, url: trim(config.upstream.url) },
  }
}

/**
 * Reads the configuration: the YAML file if there is one, then the environment over it, then
 * `…_FILE` variables. Throws {@link ConfigError} with every problem found. Warnings are to be
 * printed at every start. Relative paths are relative to the working directory.
 */
export function loadConfig(sources: {
  readonly file?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
}): { readonly config: Config; readonly warnings: readonly string[] } {
  const file = sources.file === undefined ? undefined : readConfigFile(sources.file)
  const { overrides, problems: fromEnvironment } = readEnvironment(sources.env)
  const problems: Problem[] = [...(file?.problems ?? []), ...fromEnvironment]
  // An unreadable file holds nothing; what "is missing" in it would only hide the one real problem.
  if ((file?.problems.length ?? 0) > 0) throw new ConfigError(problems)

  const tree: Tree = { ...file?.content }
  for (const { path, value } of overrides) put(tree, path, value)

  // A variable that could not be read has its own problem already.
  const unread = new Set(
    fromEnvironment.flatMap(({ variable = '' }) => [variable, variable.replace(/_FILE$/, '')]),
  )
  const report = (path: Path, message: string) => {
    const place = locate(path, overrides, file)
    if (place.variable !== undefined && unread.has(place.variable)) return
    problems.push({ ...place, message: `${path.join('.')}: ${message}` })
  }
  const parsed = configSchema.safeParse(tree)
  for (const issue of parsed.error?.issues ?? []) {
    const path = issue.path.map((step) => (typeof step === 'number' ? step : String(step)))
    if (issue.code === 'unrecognized_keys') {
      const known = listKeysAt(path)
      for (const key of issue.keys) report([...path, key], `no such key${suggest(key, known)}`)
    } else if (issue.code === 'invalid_type' && read(tree, path) === undefined) {
      for (const missing of listRequired(path)) report(missing, 'is missing')
    } else report(path, issue.message)
  }
  // What can be read is checked further, so that every problem shows at once.
  const config = parsed.data ?? configSchema.safeParse(repair(tree, parsed.error.issues)).data
  const { faults, warnings } =
    config === undefined ? { faults: [], warnings: [] } : checkRules(config)
  for (const { path, message } of faults) report(path, message)
  for (const path of config === undefined ? [] : listFiles()) {
    const name = read(config, path)
    if (typeof name !== 'string') continue
    try {
      readFileSync(name)
    } catch (error) {
      report(path, `cannot be read: ${describeReadError(error)}`)
    }
  }
  if (problems.length > 0 || parsed.data === undefined) throw new ConfigError(inOrder(problems))
  const overridden = file === undefined ? [] : listOverridden(overrides, file)
  return { config: normalise(parsed.data), warnings: [...warnings, ...overridden] }
}

/** The configuration with every secret replaced, fit to be printed. */
export function redact(config: Config): Config {
  const copy: Tree = structuredClone(config)
  for (const { path, secret } of listSettings()) {
    if (!secret) continue
    const parent = path.slice(0, -1).reduce<unknown>((at, key) => (isTree(at) ? at[key] : at), copy)
    if (isTree(parent) && parent[path.at(-1) ?? ''] !== undefined) put(copy, path, '[secret]')
  }
  return copy as Config
}

import type { Definitions, ElementPath, SearchParameterDefinition } from '../fhir/definitions.ts'
import { localReference } from './fhir-store.ts'
import type { FhirStore, Json, StoredResource } from './fhir-store.ts'

/** A search nobody can answer: HTTP 400 with `message` as diagnostics. */
export class SearchError extends Error {}

type Range = { readonly low: number; readonly high: number }
type Criterion = {
  readonly matches: (resource: StoredResource) => boolean
  /** A superset of what can match, from an index; undefined when there is none. */
  readonly candidates?: () => Iterable<StoredResource>
}

/** A parsed search: its criteria (all must match) and how the answer is to be shaped. */
export type Search = {
  readonly criteria: readonly Criterion[]
  readonly count: number
  readonly countOnly: boolean
  readonly sort: readonly { readonly path: readonly ElementPath[]; readonly descending: boolean }[]
}

const DEFAULT_COUNT = 20
const MAXIMUM_COUNT = 1000
const COMMON: ReadonlyMap<string, SearchParameterDefinition> = new Map([
  ['_id', { type: 'token', paths: [['id']] }],
  ['_lastUpdated', { type: 'date', paths: [['meta', 'lastUpdated']] }],
  ['_tag', { type: 'token', paths: [['meta', 'tag']] }],
  ['_security', { type: 'token', paths: [['meta', 'security']] }],
  ['_profile', { type: 'uri', paths: [['meta', 'profile']] }],
])
const IGNORED: ReadonlySet<string> = new Set(['_format', '_pretty', '_total'])

const isObject = (value: Json | undefined): value is Readonly<Record<string, Json>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The values at a path, arrays passed through. */
const nodesAt = (value: Json | undefined, path: ElementPath): readonly Json[] => {
  if (value === undefined || value === null) return []
  if (Array.isArray(value)) return value.flatMap((inner: Json) => nodesAt(inner, path))
  const [name, ...rest] = path
  if (name === undefined) return [value]
  return isObject(value) ? nodesAt(value[name], rest) : []
}

/** Splits at `separator` where it is not escaped by a backslash, and takes the escapes off. */
const split = (text: string, separator: ',' | '|'): readonly string[] => {
  const parts = ['']
  for (const piece of text.match(/\\.|[^\\]|\\$/gsu) ?? [])
    if (piece === separator) parts.push('')
    else parts.push((parts.pop() ?? '') + (separator === '|' ? piece.replace(/^\\/, '') : piece))
  return parts
}
const plain = (text: string): string => text.replace(/\\(.)/gs, '$1')
const fold = (text: string): string => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase()

// Token: https://hl7.org/fhir/R4/search.html#token
const tokensOf = (node: Json): readonly { system?: Json; code: Json }[] => {
  if (typeof node === 'string' || typeof node === 'boolean') return [{ code: String(node) }]
  if (!isObject(node)) return []
  if (Array.isArray(node.coding)) return node.coding.flatMap(tokensOf)
  const code = node.code ?? node.value
  return code === undefined
    ? []
    : [node.system === undefined ? { code } : { system: node.system, code }]
}
const matchesToken = (node: Json, wanted: string): boolean => {
  const [first = '', second] = split(wanted, '|')
  return tokensOf(node).some(({ system, code }) => {
    if (second === undefined) return code === first
    if (second !== '' && code !== second) return false
    // A plain code has its system implied by its binding, so any system fits it.
    return typeof node === 'string' || (first === '' ? system === undefined : system === first)
  })
}

// String: https://hl7.org/fhir/R4/search.html#string
const stringsOf = (node: Json): readonly string[] => {
  if (typeof node === 'string') return [node]
  if (Array.isArray(node)) return node.flatMap(stringsOf)
  if (!isObject(node)) return []
  return Object.entries(node).flatMap(([name, value]) =>
    ['use', 'type', 'period', 'system'].includes(name) ? [] : stringsOf(value),
  )
}
const matchesString = (node: Json, wanted: string, modifier: string): boolean =>
  stringsOf(node).some((text) => {
    if (modifier === 'exact') return text === plain(wanted)
    if (modifier === 'contains') return fold(text).includes(fold(plain(wanted)))
    return fold(text).startsWith(fold(plain(wanted)))
  })

// Date: https://hl7.org/fhir/R4/search.html#date — a date is the whole interval it names.
const DATE =
  /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?$/
const rangeOf = (text: string): Range | undefined => {
  const match = DATE.exec(text)
  if (!match) return undefined
  const [, year, month, day, hour, minute, second, fraction, zone] = match
  const at = (y: number, m: number, d: number): number => Date.UTC(y, m - 1, d)
  const y = Number(year)
  if (month === undefined) return { low: at(y, 1, 1), high: at(y + 1, 1, 1) }
  if (day === undefined) return { low: at(y, Number(month), 1), high: at(y, Number(month) + 1, 1) }
  if (hour === undefined)
    return { low: at(y, Number(month), Number(day)), high: at(y, Number(month), Number(day) + 1) }
  const clock = `${hour}:${minute ?? '00'}:${second ?? '00'}${fraction ?? ''}`
  const low = Date.parse(`${year ?? ''}-${month}-${day}T${clock}${zone ?? 'Z'}`)
  if (Number.isNaN(low)) return undefined
  return { low, high: low + (second === undefined ? 60_000 : fraction === undefined ? 1000 : 1) }
}
const datesOf = (node: Json): readonly Range[] => {
  if (typeof node === 'string') return [rangeOf(node)].filter((range) => range !== undefined)
  if (!isObject(node)) return []
  if (Array.isArray(node.event)) return node.event.flatMap(datesOf)
  const edge = (value: Json | undefined): Range | undefined =>
    typeof value === 'string' ? rangeOf(value) : undefined
  if (node.start === undefined && node.end === undefined) return []
  return [{ low: edge(node.start)?.low ?? -Infinity, high: edge(node.end)?.high ?? Infinity }]
}

// Number and quantity: a number is the interval its precision names.
const numbersOf = (node: Json): readonly Range[] => {
  const value = isObject(node) ? node.value : node
  return typeof value === 'number' ? [{ low: value, high: value }] : []
}
const intervalOf = (text: string): Range | undefined => {
  if (!/^[+-]?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return undefined
  const half = 0.5 * 10 ** -(text.split('.')[1]?.length ?? 0)
  return { low: Number(text) - half, high: Number(text) + half }
}

const PREFIXES: Readonly<Record<string, (target: Range, wanted: Range) => boolean>> = {
  eq: (target, wanted) => target.low >= wanted.low && target.high <= wanted.high,
  ne: (target, wanted) => !(target.low >= wanted.low && target.high <= wanted.high),
  lt: (target, wanted) => target.low < wanted.low,
  le: (target, wanted) => target.low < wanted.high,
  gt: (target, wanted) => target.high > wanted.high,
  ge: (target, wanted) => target.high > wanted.low,
  sa: (target, wanted) => target.low >= wanted.high,
  eb: (target, wanted) => target.high <= wanted.low,
  ap: (target, wanted) => target.low < wanted.high && target.high > wanted.low,
}
const ordered = (
  name: string,
  wanted: string,
  parse: (text: string) => Range | undefined,
): ((target: Range) => boolean) => {
  const prefix = /^(eq|ne|lt|le|gt|ge|sa|eb|ap)(?=[\d+-])/.exec(wanted)?.[1]
  const range = parse(prefix === undefined ? wanted : wanted.slice(2))
  const compare = PREFIXES[prefix ?? 'eq']
  if (!range || !compare) throw new SearchError(`Invalid value for "${name}": ${wanted}`)
  return (target) => compare(target, range)
}

// Reference: https://hl7.org/fhir/R4/search.html#reference
const targetsOf = (
  wanted: string,
  definition: SearchParameterDefinition,
  types: Iterable<string>,
  modifier: string,
): ReadonlySet<string> => {
  const allowed = definition.targets ?? []
  const isAllowed = (target: string): boolean =>
    allowed.length === 0 || allowed.includes(target.slice(0, target.indexOf('/')))
  const value = plain(wanted)
  if (value.includes('/')) {
    const local = localReference(value)
    return new Set(local !== undefined && isAllowed(local) ? [local] : [])
  }
  const possible = modifier !== '' ? [modifier] : allowed.length > 0 ? allowed : [...types]
  return new Set(possible.map((type) => `${type}/${value}`).filter(isAllowed))
}

type Context = {
  readonly store: FhirStore
  readonly definitions: Definitions
  readonly type: string
}

const referenceCriterion = (
  context: Context,
  definition: SearchParameterDefinition,
  values: readonly string[],
  modifier: string,
): Criterion => {
  const { store, type, definitions } = context
  const targets = new Set(
    values.flatMap((value) => [...targetsOf(value, definition, definitions.types, modifier)]),
  )
  const matchesNode = (node: Json): boolean => {
    const text = isObject(node) ? node.reference : node
    if (typeof text !== 'string') return false
    const local = localReference(text)
    return (local !== undefined && targets.has(local)) || values.includes(text)
  }
  const hasUri = values.some((value) => value.includes(':'))
  return {
    matches: ({ content }) =>
      definition.paths.some((path) => nodesAt(content, path).some(matchesNode)),
    ...(hasUri
      ? {}
      : {
          candidates: () => {
            const found = [...targets].map((target) => store.referring(type, target))
            return found.length === 1 ? (found[0] ?? []) : new Set(found.flatMap((set) => [...set]))
          },
        }),
  }
}

const MODIFIERS: Readonly<Partial<Record<SearchParameterDefinition['type'], readonly string[]>>> = {
  token: ['not'],
  string: ['exact', 'contains'],
}

const valueTest = (
  name: string,
  modifier: string,
  definition: SearchParameterDefinition,
  wanted: string,
): ((node: Json) => boolean) => {
  switch (definition.type) {
    case 'token':
      return (node) => matchesToken(node, wanted)
    case 'string':
      return (node) => matchesString(node, wanted, modifier)
    case 'uri':
      return (node) => node === plain(wanted)
    case 'date': {
      const test = ordered(name, wanted, rangeOf)
      return (node) => datesOf(node).some(test)
    }
    case 'number': {
      const test = ordered(name, wanted, intervalOf)
      return (node) => numbersOf(node).some(test)
    }
    case 'quantity': {
      const [number = '', system = '', code = ''] = split(wanted, '|')
      const test = ordered(name, number, intervalOf)
      return (node) =>
        isObject(node) &&
        numbersOf(node).some(test) &&
        (system === '' || node.system === system) &&
        (code === '' || node.code === code || node.unit === code)
    }
    default:
      throw new SearchError(
        `Search parameter "${name}" of type ${definition.type} is not supported`,
      )
  }
}

const criterion = (context: Context, key: string, text: string): Criterion => {
  const { store, type, definitions } = context
  const [name = '', modifier = ''] = key.split(':')
  const own = definitions.searchParameters(type)
  const definition = COMMON.get(name) ?? own.get(name)
  if (!definition) {
    const valid = [...COMMON.keys(), ...own.keys()].sort().join(', ')
    throw new SearchError(
      `HAPI-0524: Unknown search parameter "${name}" for resource type "${type}". ` +
        `Valid search parameters for this search are: [${valid}]`,
    )
  }
  const values = split(text, ',')
  if (modifier === 'missing') {
    const isMissing = ({ content }: StoredResource): boolean =>
      definition.paths.every((path) => nodesAt(content, path).length === 0)
    return { matches: (resource) => String(isMissing(resource)) === text }
  }
  if (definition.type === 'reference') {
    if (modifier !== '' && !definitions.types.has(modifier))
      throw new SearchError(`Modifier "${modifier}" of "${name}" is not supported`)
    return referenceCriterion(context, definition, values, modifier)
  }
  if (modifier !== '' && !MODIFIERS[definition.type]?.includes(modifier))
    throw new SearchError(`Modifier "${modifier}" of "${name}" is not supported`)
  if (definition.paths.length === 0)
    throw new SearchError(`Search parameter "${name}" is not supported`)
  const tests = values.map((value) => valueTest(name, modifier, definition, value))
  const found = ({ content }: StoredResource): boolean =>
    definition.paths.some((path) =>
      nodesAt(content, path).some((node) => tests.some((test) => test(node))),
    )
  if (modifier === 'not') return { matches: (resource) => !found(resource) }
  if (name !== '_id') return { matches: found }
  const byId = (): Iterable<StoredResource> =>
    [...new Set(values)].map((id) => store.find(type, id)).filter((one) => one !== undefined)
  return { matches: found, candidates: byId }
}

/** Reads name and value pairs. Throws {@link SearchError}: what is not understood is not ignored. */
export const parseSearch = (
  context: Context,
  pairs: Iterable<readonly [name: string, value: string]>,
): Search => {
  const criteria: Criterion[] = []
  const sort: { path: readonly ElementPath[]; descending: boolean }[] = []
  let count = DEFAULT_COUNT
  let countOnly = false
  for (const [name, value] of pairs) {
    if (IGNORED.has(name) || value === '') continue
    if (name === '_count') {
      if (!/^\d{1,9}$/.test(value)) throw new SearchError(`Invalid value for "_count": ${value}`)
      count = Math.min(Number(value), MAXIMUM_COUNT)
      if (count === 0) countOnly = true
    } else if (name === '_summary') {
      if (value !== 'count' && value !== 'false')
        throw new SearchError(`"_summary=${value}" is not supported`)
      countOnly = value === 'count'
    } else if (name === '_sort') {
      for (const rule of value.split(',')) {
        const by = rule.replace(/^-/, '')
        const definition =
          COMMON.get(by) ?? context.definitions.searchParameters(context.type).get(by)
        if (!definition) throw new SearchError(`Unknown _sort parameter value "${by}"`)
        sort.push({ path: definition.paths, descending: rule.startsWith('-') })
      }
    } else criteria.push(criterion(context, name, value))
  }
  return { criteria, count, countOnly, sort }
}

const sortKey = (resource: StoredResource, paths: readonly ElementPath[]): string | number => {
  for (const path of paths)
    for (const node of nodesAt(resource.content, path)) {
      const date = datesOf(node)[0]
      if (date) return date.low
      const number = numbersOf(node)[0]
      if (number) return number.low
      const text = stringsOf(node)[0]
      if (text !== undefined) return fold(text)
    }
  return ''
}

/** The resources a search finds, in its order. */
export const runSearch = (context: Context, search: Search): readonly StoredResource[] => {
  const { store, type } = context
  let candidates: readonly StoredResource[] | undefined
  for (const { candidates: some } of search.criteria) {
    if (!some) continue
    const found = [...some()]
    if (!candidates || found.length < candidates.length) candidates = found
  }
  const matches = (candidates ?? store.all(type)).filter(
    (resource) =>
      resource.current?.text !== undefined && search.criteria.every((one) => one.matches(resource)),
  )
  for (const { path, descending } of search.sort.toReversed()) {
    const keys = new Map(matches.map((one) => [one, sortKey(one, path)]))
    matches.sort((a, b) => {
      const x = keys.get(a) ?? ''
      const y = keys.get(b) ?? ''
      const order =
        typeof x === typeof y ? (x < y ? -1 : x > y ? 1 : 0) : typeof x === 'string' ? 1 : -1
      return descending ? -order : order
    })
  }
  return matches
}

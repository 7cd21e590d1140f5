import { ID } from './datatypes.ts'
import { valuesAt } from './element.ts'
import type { Definitions, ElementPath } from './definitions.ts'
import { containsInterval, parseDateInterval, parseElementInterval } from './match-date.ts'
import type { Interval } from './match-date.ts'
import type { Parameter } from './parameter.ts'
import { parseReference } from './reference.ts'

/**
 * FHIR search criteria held against one resource, exactly as a server would hold them
 * (https://hl7.org/fhir/R4/search.html): AND between parameters, OR between values. What cannot be
 * held exactly is not held at all.
 */

/** Whether the criteria hold for a parsed resource; pure, never throws. */
export type Matcher = (resource: unknown) => boolean

type Test = (element: unknown) => boolean

/** Parameters whose expression has a condition that their paths do not show. */
const CONDITIONAL = /^(?:composed-of|depends-on|predecessor|successor|deceased)$/
const COMMON: Readonly<Record<string, { type: string; paths: readonly ElementPath[] }>> = {
  _id: { type: 'token', paths: [['id']] },
  _lastUpdated: { type: 'date', paths: [['meta', 'lastUpdated']] },
  _tag: { type: 'token', paths: [['meta', 'tag']] },
  _security: { type: 'token', paths: [['meta', 'security']] },
  _profile: { type: 'uri', paths: [['meta', 'profile']] },
  _source: { type: 'uri', paths: [['meta', 'source']] },
}

/** Compiles criteria on a type; undefined when one of them cannot be held exactly (SCOPE-8). */
export function compileCriteria(
  type: string,
  parameters: readonly Parameter[],
  definitions: Definitions,
  bases: readonly string[],
): Matcher | undefined {
  const matchers: Matcher[] = []
  for (const parameter of parameters) {
    const matcher = compileParameter(type, parameter, definitions, bases)
    if (matcher === undefined) return undefined
    matchers.push(matcher)
  }
  return (resource) => {
    if (!isObject(resource) || resource['resourceType'] !== type) return false
    return matchers.every((matches) => matches(resource))
  }
}

function compileParameter(
  type: string,
  parameter: Parameter,
  definitions: Definitions,
  bases: readonly string[],
): Matcher | undefined {
  const { name, modifier, chain, values } = parameter
  const own = COMMON[name] ?? definitions.searchParameters(type).get(name)
  if (own === undefined || chain !== undefined || own.paths.length === 0) return undefined
  if (CONDITIONAL.test(name) || (name === 'derived-from' && type !== 'Observation'))
    return undefined
  const { paths } = own
  const elementsOf = (resource: unknown): unknown[] =>
    paths.flatMap((path) => valuesAt(resource, path).filter(isThere))
  if (modifier === 'missing') {
    const [wanted, ...more] = values
    if (more.length > 0 || (wanted !== 'true' && wanted !== 'false')) return undefined
    return (resource) => (elementsOf(resource).length === 0) === (wanted === 'true')
  }
  const targets = 'targets' in own ? (own as { targets?: readonly string[] }).targets : undefined
  const tests = values.map((value) =>
    compileTest(own.type, name, modifier, value, { targets, bases, definitions }),
  )
  if (tests.length === 0 || tests.some((test) => test === undefined)) return undefined
  const known = tests as Test[]
  const any: Matcher = (resource) =>
    elementsOf(resource).some((element) => known.some((test) => test(element)))
  // "…:not": also those that have no value at all.
  return own.type === 'token' && modifier === 'not' ? (resource) => !any(resource) : any
}

type About = {
  readonly targets: readonly string[] | undefined
  readonly bases: readonly string[]
  readonly definitions: Definitions
}

/** How one value is held against one element; undefined = not exactly. */
function compileTest(
  type: string,
  name: string,
  modifier: string | undefined,
  value: string,
  about: About,
): Test | undefined {
  switch (type) {
    case 'token':
      return modifier === undefined || modifier === 'not' ? tokenTest(name, value) : undefined
    case 'reference':
      return referenceTest(modifier, value, about)
    case 'string':
      return stringTest(modifier, value)
    case 'uri':
      return modifier === undefined ? (element) => element === unescape(value) : undefined
    case 'date':
      return modifier === undefined ? dateTest(value) : undefined
    default:
      return undefined
  }
}

/** Splits at unescaped '|', and takes the escapes away. */
function splitToken(value: string): string[] {
  const parts: string[] = []
  let part = ''
  for (let at = 0; at < value.length; at++) {
    const char = value.charAt(at)
    if (char === '\\') part += value.charAt(++at)
    else if (char === '|') {
      parts.push(part)
      part = ''
    } else part += char
  }
  return [...parts, part]
}

const unescape = (value: string): string => value.replace(/\\([\\,$|])/g, '$1')

function tokenTest(name: string, value: string): Test | undefined {
  const parts = splitToken(value)
  if (parts.length > 2) return undefined
  const [system, code] = parts.length === 2 ? parts : [undefined, parts[0]]
  if ((system ?? '') === '' && (code ?? '') === '') return undefined
  const isCoding = (ownSystem: unknown, ownCode: unknown): boolean => {
    if (system !== undefined && (system === '' ? ownSystem !== undefined : ownSystem !== system)) {
      return false
    }
    return code === '' ? true : ownCode === code
  }
  // A code of a bound element has a system that nobody writes: only the bare code is sure.
  const isBare = (text: string): boolean => system === undefined && text === code
  return (element) => {
    if (typeof element === 'string') return isBare(element)
    if (typeof element === 'boolean') return isBare(String(element))
    if (!isObject(element)) return false
    const coding = element['coding']
    if (Array.isArray(coding)) {
      return coding.some((one) => isObject(one) && isCoding(one['system'], one['code']))
    }
    if (name === 'phone' || name === 'email') {
      // The path of these two says telecom; their expression says which of it.
      return element['system'] === name && isBare(String(element['value']))
    }
    if (name === 'telecom') return isBare(String(element['value']))
    return isCoding(element['system'], 'code' in element ? element['code'] : element['value'])
  }
}

function referenceTest(
  modifier: string | undefined,
  value: string,
  { targets, bases, definitions }: About,
): Test | undefined {
  if (modifier !== undefined && !definitions.types.has(modifier)) return undefined
  const text = unescape(value)
  const isBareId = ID.test(text)
  if (modifier !== undefined && !isBareId) return undefined
  const wanted = isBareId ? undefined : parseReference(text, bases)
  if (!isBareId && wanted === undefined) return undefined
  return (element) => {
    const reference = isObject(element) ? element['reference'] : element
    const found = typeof reference === 'string' ? parseReference(reference, bases) : undefined
    if (found === undefined) return false
    // `.where(resolve() is Patient)`: the parameter is about its targets alone.
    if (targets !== undefined && !targets.includes(found.type)) return false
    if (modifier !== undefined && found.type !== modifier) return false
    return wanted === undefined
      ? found.id === text
      : found.type === wanted.type && found.id === wanted.id
  }
}

const fold = (text: string): string => text.normalize('NFD').replace(/\p{M}/gu, '').toLowerCase()
/** Parts of HumanName and Address that a string search looks at. */
const PARTS = ['text', 'family', 'given', 'prefix', 'suffix'].concat([
  'line',
  'city',
  'district',
  'state',
  'postalCode',
  'country',
])

function stringTest(modifier: string | undefined, value: string): Test | undefined {
  const raw = unescape(value)
  const wanted = fold(raw)
  const holds =
    modifier === undefined
      ? (text: string) => fold(text).startsWith(wanted)
      : modifier === 'contains'
        ? (text: string) => fold(text).includes(wanted)
        : modifier === 'exact'
          ? (text: string) => text === raw
          : undefined
  if (holds === undefined) return undefined
  const test = (element: unknown): boolean => {
    if (typeof element === 'string') return holds(element)
    if (Array.isArray(element)) return element.some(test)
    return isObject(element) && PARTS.some((part) => test(element[part]))
  }
  return test
}

/** https://hl7.org/fhir/R4/search.html#prefix; `ap` has no exact meaning. */
function dateTest(value: string): Test | undefined {
  const [, prefix = 'eq', rest = ''] = /^(eq|ne|gt|lt|ge|le|sa|eb)?(\d.*)$/.exec(value) ?? []
  const asked = parseDateInterval(rest)
  if (asked === undefined) return undefined
  const compare: Record<string, (own: Interval) => boolean> = {
    eq: (own) => containsInterval(asked, own),
    ne: (own) => !containsInterval(asked, own),
    gt: (own) => own.high > asked.high,
    lt: (own) => own.low < asked.low,
    ge: (own) => own.high > asked.high || containsInterval(asked, own),
    le: (own) => own.low < asked.low || containsInterval(asked, own),
    sa: (own) => own.low >= asked.high,
    eb: (own) => own.high <= asked.low,
  }
  const holds = compare[prefix]
  return (element) => {
    const own = parseElementInterval(element)
    return own !== undefined && holds?.(own) === true
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Not an element that is only said to be absent. */
const isThere = (value: unknown): boolean => value !== undefined && value !== null

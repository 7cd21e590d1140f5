import type { Definitions, SearchParameterDefinition } from './definitions.ts'

/**
 * Query parameters of FHIR (https://hl7.org/fhir/R4/search.html): names with modifiers and chains,
 * values as OR lists, held against the definitions of the version.
 */

/** One query parameter: `subject:Patient.name:exact=a,b` and its like. */
export type Parameter = {
  /** Base name: `subject`, `_include`, `_has` … */
  readonly name: string
  /** What follows ':' on the base name, without the colon; for `_has` all of `Observation:patient:code`. */
  readonly modifier?: string
  /** What follows '.', parsed the same way: reverse and forward chains nest here. */
  readonly chain?: Parameter
  /** OR list, split at unescaped commas; FHIR escapes (`\,` `\$` `\|` `\\`) are kept as they came. */
  readonly values: readonly string[]
}

/** How much of one request target is read at all (INPUT-1). */
export type TargetLimits = {
  readonly targetBytes: number
  readonly parameters: number
  readonly valuesPerParameter: number
}

export type InteractionErrorReason =
  | 'target-malformed'
  | 'target-too-long'
  | 'interaction-unknown'
  | 'method-not-allowed'
  | 'parameter-unknown'
  | 'parameter-malformed'
  | 'header-malformed'
  | 'credentials-malformed'

/** Why a request is not exactly one known interaction; `reason` is a key of the refusal table. */
export class InteractionError extends Error {
  override readonly name = 'InteractionError'
  readonly reason: InteractionErrorReason
  /** A parameter or header name out of our own tables, never the client's text. */
  readonly parameter: string | undefined
  readonly headers: Readonly<Record<string, string>>

  constructor(
    reason: InteractionErrorReason,
    message: string,
    more: { parameter?: string; headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message)
    this.reason = reason
    this.parameter = more.parameter
    this.headers = more.headers ?? {}
  }
}

/** Which names a request may carry: see `GRAMMAR` in interaction.ts. */
export type ParameterSet =
  'general' | 'capabilities' | 'history' | 'paging' | 'operation' | 'search' | 'criteria'

type Row = {
  readonly type: SearchParameterDefinition['type'] | 'result'
  readonly modifiers?: readonly string[]
  /** May stand more than once: its values add up instead of competing. */
  readonly many?: true
}

// A server takes the first, the last or both of a repeated result parameter; nobody can know which.
const GENERAL: ReadonlyMap<string, Row> = new Map([
  ['_format', { type: 'result' }],
  ['_pretty', { type: 'result' }],
  ['_summary', { type: 'result' }],
  ['_elements', { type: 'result' }],
])
const SEARCH: ReadonlyMap<string, Row> = new Map<string, Row>([
  ...GENERAL,
  ['_id', { type: 'token' }],
  ['_lastUpdated', { type: 'date' }],
  ['_tag', { type: 'token' }],
  ['_profile', { type: 'uri' }],
  ['_security', { type: 'token' }],
  ['_source', { type: 'uri' }],
  ['_text', { type: 'special' }],
  ['_content', { type: 'special' }],
  ['_list', { type: 'special' }],
  ['_has', { type: 'special', many: true }],
  ['_type', { type: 'special' }],
  ['_filter', { type: 'special', many: true }],
  ['_query', { type: 'special' }],
  ['_sort', { type: 'result' }],
  ['_count', { type: 'result' }],
  ['_include', { type: 'result', modifiers: ['iterate'], many: true }],
  ['_revinclude', { type: 'result', modifiers: ['iterate'], many: true }],
  ['_total', { type: 'result' }],
  ['_contained', { type: 'result' }],
  ['_containedType', { type: 'result' }],
  ['_score', { type: 'result' }],
])
const names = (...extra: readonly string[]): ReadonlyMap<string, Row> =>
  new Map<string, Row>([
    ...GENERAL,
    ...extra.map((name): [string, Row] => [name, { type: 'result' }]),
  ])
const FIXED: Readonly<Record<string, ReadonlyMap<string, Row>>> = {
  general: GENERAL,
  capabilities: names('mode'),
  history: names('_since', '_at', '_count', '_list'),
  paging: names('_getpages', '_getpagesoffset', '_count', '_bundletype', '_cursor'),
}

/** https://hl7.org/fhir/R4/search.html#modifiers; a reference also takes a resource type. */
const MODIFIERS: Readonly<Record<Row['type'], readonly string[]>> = {
  number: ['missing'],
  date: ['missing'],
  quantity: ['missing'],
  string: ['missing', 'exact', 'contains'],
  token: ['missing', 'text', 'not', 'above', 'below', 'in', 'not-in', 'of-type'],
  reference: ['missing', 'identifier', 'above', 'below'],
  uri: ['missing', 'above', 'below'],
  composite: [],
  special: [],
  result: [],
}

/** Whether a parameter is one of every search, or of every history. */
export const isParameterOfAll = (name: string): boolean =>
  SEARCH.has(name) || FIXED['history']?.has(name) === true

const DEPTH = 10
const NAME = /^[A-Za-z_][A-Za-z0-9_.:*-]{0,255}$/
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufeff]/
const BAD_ESCAPE = /\\(?![\\,$|])/

/** Whether the parameter shapes the answer everywhere and selects nothing. */
export function isGeneral(name: string): boolean {
  return GENERAL.has(name)
}

const COMMON: ReadonlySet<string> = new Set([
  '_id',
  '_lastUpdated',
  '_tag',
  '_profile',
  '_security',
  '_source',
])

/** Whether it is a search parameter of every type, by an element that every resource has. */
export function isCommon(name: string): boolean {
  return COMMON.has(name)
}

/**
 * Parses `a=b&c=d` (application/x-www-form-urlencoded, ASCII only) against the names that `set`
 * allows on `type` ('*' = any). Throws InteractionError.
 */
export function parseParameters(
  text: string,
  set: ParameterSet,
  type: string,
  definitions: Definitions,
  limits: TargetLimits,
): readonly Parameter[] {
  if (text === '') return []
  const pieces = text.split('&')
  if (pieces.length > limits.parameters) malformed('too many parameters')
  const pairs = pieces.map((piece) => parsePair(piece, limits))
  const types = set === 'search' && type === '*' ? typesAsked(pairs, definitions) : [type]
  const parameters = pairs.map(([key, values]) =>
    set === 'operation'
      ? parseOperationParameter(key, values)
      : set === 'search' || set === 'criteria'
        ? parseSearchParameter(key, values, types, definitions, 0)
        : parseFixed(key, values, FIXED[set] ?? GENERAL),
  )
  checkTogether(parameters, limits)
  return parameters
}

/** What holds for all parameters of one request, wherever they stood (REST-4). */
export function checkTogether(parameters: readonly Parameter[], limits: TargetLimits): void {
  if (parameters.length > limits.parameters) malformed('too many parameters')
  const seen = new Set<string>()
  for (const { name, values } of parameters) {
    const row = SEARCH.get(name)
    const once = row?.type === 'result' && row.many === undefined
    if (once && seen.has(name)) malformed('a result parameter stands twice', name)
    if (name === '_count' && !/^\d{1,9}$/.test(values.join())) malformed('not a count', name)
    seen.add(name)
  }
}

/** The text of the parameters as upstream gets it: one encoding, whatever the client wrote. */
export function formatParameters(parameters: readonly Parameter[]): string {
  return parameters
    .map((parameter) => `${formatName(parameter)}=${formatValues(parameter)}`)
    .join('&')
}

function formatName({ name, modifier, chain }: Parameter): string {
  const own = modifier === undefined ? name : `${name}:${modifier}`
  return chain === undefined ? own : `${own}.${formatName(chain)}`
}

const formatValues = ({ values }: Parameter): string => values.map(encodeURIComponent).join(',')

function parsePair(piece: string, limits: TargetLimits): [string, readonly string[]] {
  const equals = piece.indexOf('=')
  if (equals < 1) malformed('a parameter without name or value')
  const key = decode(piece.slice(0, equals))
  // AUTHN-3: a token in an address ends up in logs; refuse it loudly instead of ignoring it.
  if (key === 'access_token') {
    throw new InteractionError('credentials-malformed', 'an access token outside the header')
  }
  const value = decode(piece.slice(equals + 1))
  if (CONTROL.test(value)) malformed('a control character in a value')
  if (value.includes('\\') && BAD_ESCAPE.test(value.replaceAll('\\\\', '')))
    malformed('an escape that FHIR does not know')
  const values = splitValues(value)
  if (values.length > limits.valuesPerParameter) malformed('too many values')
  // Servers ignore a parameter without value: the question would be wider than it looks.
  if (values.includes('')) malformed('an empty value')
  return [key, values]
}

function decode(text: string): string {
  const plain = text.includes('+') ? text.replaceAll('+', ' ') : text
  if (!plain.includes('%')) return plain
  try {
    return decodeURIComponent(plain)
  } catch (cause) {
    if (!(cause instanceof URIError)) throw cause
    throw new InteractionError('target-malformed', 'percent-encoding that is not UTF-8')
  }
}

/** Splits at commas that no backslash escapes; the escapes stay. */
function splitValues(value: string): readonly string[] {
  if (!value.includes(',')) return [value]
  if (!value.includes('\\')) return value.split(',')
  const values: string[] = []
  let start = 0
  for (let at = 0; at < value.length; at++) {
    const char = value[at]
    if (char === '\\') at++
    else if (char === ',') {
      values.push(value.slice(start, at))
      start = at + 1
    }
  }
  values.push(value.slice(start))
  return values
}

function parseFixed(
  key: string,
  values: readonly string[],
  allowed: ReadonlyMap<string, Row>,
): Parameter {
  if (!allowed.has(key)) unknown('a parameter that this interaction does not take')
  return { name: key, values }
}

/** Names of operation parameters are the operation's own; which operations pass is not decided here. */
function parseOperationParameter(key: string, values: readonly string[]): Parameter {
  if (!NAME.test(key) || key.includes(':') || key.includes('.')) malformed('a parameter name')
  if (key === '_method') unknown('method override (REST-5)')
  return { name: key, values }
}

/** A search over all types knows what is common to all, or to those named by `_type`. */
function typesAsked(
  pairs: readonly (readonly [string, readonly string[]])[],
  definitions: Definitions,
): readonly string[] {
  const asked = pairs.filter(([key]) => key === '_type').flatMap(([, values]) => values)
  for (const type of asked) {
    if (!definitions.types.has(type)) malformed('_type names no resource type', '_type')
  }
  return asked.length === 0 ? ['*'] : asked
}

function parseSearchParameter(
  key: string,
  values: readonly string[],
  types: readonly string[],
  definitions: Definitions,
  depth: number,
): Parameter {
  if (depth > DEPTH) malformed('a chain that is too long')
  if (!NAME.test(key)) malformed('a parameter name')
  if (key.startsWith('_has:')) {
    checkReverseChain(key.slice(5), types, definitions, depth)
    return { name: '_has', modifier: key.slice(5), values }
  }
  const dot = key.indexOf('.')
  const head = dot < 0 ? key : key.slice(0, dot)
  const colon = head.indexOf(':')
  const name = colon < 0 ? head : head.slice(0, colon)
  const modifier = colon < 0 ? undefined : head.slice(colon + 1)
  const row = define(name, types, definitions)
  if (row === undefined || name === '_has') unknown('a search parameter that is not defined')
  const targets = dot < 0 ? undefined : chainTargets(row, modifier, name, definitions)
  if (targets !== undefined) {
    const chain = parseSearchParameter(key.slice(dot + 1), values, targets, definitions, depth + 1)
    if (SEARCH.get(chain.name)?.type === 'result') malformed('a result parameter in a chain', name)
    return modifier === undefined ? { name, chain, values } : { name, modifier, chain, values }
  }
  if (modifier === undefined) return { name, values }
  const known = row.modifiers ?? MODIFIERS[row.type]
  if (!known.includes(modifier) && !isTarget(row, modifier, definitions)) {
    malformed('a modifier that does not fit the parameter', name)
  }
  return { name, modifier, values }
}

type Defined = Row & { readonly targets?: readonly string[] }

/** In a chain one target type that knows the parameter is enough; the server drops the others. */
function define(
  name: string,
  types: readonly string[],
  definitions: Definitions,
): Defined | undefined {
  const common = SEARCH.get(name)
  if (common !== undefined) return common
  for (const type of types) {
    const own = definitions.searchParameters(type).get(name)
    if (own !== undefined) return own
  }
  return undefined
}

function isTarget(row: Defined, type: string, definitions: Definitions): boolean {
  if (row.type !== 'reference' || !definitions.types.has(type)) return false
  return row.targets === undefined || row.targets.includes(type)
}

function chainTargets(
  row: Defined,
  modifier: string | undefined,
  name: string,
  definitions: Definitions,
): readonly string[] {
  if (row.type !== 'reference') malformed('a chain on what is no reference', name)
  if (modifier === undefined) return row.targets ?? [...definitions.types]
  if (!isTarget(row, modifier, definitions))
    malformed('a chain through a type not referred to', name)
  return [modifier]
}

/** `Observation:patient:code`: a type, its reference back to us, and what must hold there. */
function checkReverseChain(
  text: string,
  types: readonly string[],
  definitions: Definitions,
  depth: number,
): void {
  const [type = '', reference = ''] = text.split(':', 2)
  const rest = text.slice(type.length + reference.length + 2)
  if (!definitions.types.has(type)) malformed('_has names no resource type', '_has')
  const row = definitions.searchParameters(type).get(reference)
  if (row === undefined) unknown('_has through a parameter that is not defined')
  if (!types.some((target) => target === '*' || isTarget(row, target, definitions))) {
    malformed('_has through what does not refer here', '_has')
  }
  const inner = parseSearchParameter(rest, [''], [type], definitions, depth + 1)
  if (SEARCH.get(inner.name)?.type === 'result') malformed('a result parameter in _has', '_has')
}

function malformed(message: string, parameter?: string): never {
  throw new InteractionError(
    'parameter-malformed',
    message,
    parameter === undefined ? {} : { parameter },
  )
}

function unknown(message: string): never {
  throw new InteractionError('parameter-unknown', message)
}

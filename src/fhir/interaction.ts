import type { Definitions } from './definitions.ts'
import {
  checkTogether,
  formatParameters,
  InteractionError,
  isGeneral,
  parseParameters,
} from './parameter.ts'
import type { Parameter, ParameterSet, TargetLimits } from './parameter.ts'

export { InteractionError } from './parameter.ts'
export type { Parameter, TargetLimits } from './parameter.ts'

/**
 * The FHIR RESTful interactions (https://hl7.org/fhir/R4/http.html): one request target becomes one
 * Interaction, and upstream gets that interaction formatted again, never the client's own text.
 */

/** Names as in http://hl7.org/fhir/restful-interaction, made finer where the rights differ. */
export type InteractionCode =
  | 'capabilities'
  | 'versions'
  | 'read'
  | 'vread'
  | 'update'
  | 'conditional-update'
  | 'patch'
  | 'conditional-patch'
  | 'delete'
  | 'conditional-delete'
  | 'delete-history'
  | 'create'
  | 'conditional-create'
  | 'search-type'
  | 'search-system'
  | 'search-compartment'
  | 'history-instance'
  | 'history-type'
  | 'history-system'
  | 'batch'
  | 'operation'
  | 'paging'

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** What one request asks. Plain data, canonical; equal interactions are the same question. */
export type Interaction = {
  readonly code: InteractionCode
  readonly method: Method
  readonly type?: string
  readonly id?: string
  readonly versionId?: string
  /** search-compartment: whose. `type` is then the searched type, or '*'. */
  readonly compartment?: { readonly type: string; readonly id: string }
  /** operation: its name without '$'. */
  readonly operation?: string
  /** Search criteria and result parameters together, in order. */
  readonly parameters: readonly Parameter[]
  /** Search by POST: the parameters go upstream as a form body, so that they stay out of its logs. */
  readonly byPost?: true
}

type Place = Omit<Interaction, 'code' | 'method' | 'parameters' | 'byPost'>
type Answer = readonly [InteractionCode, ParameterSet, 'form'?]
type Shape = {
  readonly pattern: readonly Part[]
  readonly methods: Readonly<Partial<Record<Method | 'OPTIONS', Answer>>>
}
/** One segment: a literal, or T type, C compartment type, I id, V version id, O `$operation`. */
type Part = 'T' | 'C' | 'I' | 'V' | 'O' | '*' | `_${string}` | 'metadata' | `$${string}`

const reading = (code: InteractionCode, set: ParameterSet) =>
  ({ GET: [code, set], HEAD: [code, set] }) as const
const OPERATION: Shape['methods'] = {
  ...reading('operation', 'operation'),
  POST: ['operation', 'operation'],
}

/**
 * Every address there is, by number of segments, the more literal first. What is not here does not
 * exist (REST-1). Conditional writes share the address of create; they need criteria.
 */
const GRAMMAR: readonly (readonly Shape[])[] = [
  [
    {
      pattern: [],
      methods: {
        ...reading('search-system', 'search'),
        POST: ['batch', 'general'],
        // As servers told what they are before R4 (DSTU2 http.html#conformance).
        OPTIONS: ['capabilities', 'capabilities'],
      },
    },
  ],
  [
    { pattern: ['metadata'], methods: reading('capabilities', 'capabilities') },
    { pattern: ['_history'], methods: reading('history-system', 'history') },
    { pattern: ['_search'], methods: { POST: ['search-system', 'search', 'form'] } },
    {
      pattern: ['$versions'],
      methods: { ...reading('versions', 'general'), POST: ['operation', 'operation'] },
    },
    // Bulk Data Access: a job is asked about, and cancelled, at an address that the gateway makes.
    {
      pattern: ['$export-status'],
      methods: { ...reading('operation', 'operation'), DELETE: ['operation', 'operation'] },
    },
    { pattern: ['O'], methods: OPERATION },
    {
      pattern: ['T'],
      methods: {
        ...reading('search-type', 'search'),
        POST: ['create', 'general'],
        PUT: ['conditional-update', 'criteria'],
        PATCH: ['conditional-patch', 'criteria'],
        DELETE: ['conditional-delete', 'criteria'],
      },
    },
  ],
  [
    { pattern: ['T', '_history'], methods: reading('history-type', 'history') },
    { pattern: ['T', '_search'], methods: { POST: ['search-type', 'search', 'form'] } },
    { pattern: ['T', 'O'], methods: OPERATION },
    {
      pattern: ['T', 'I'],
      methods: {
        ...reading('read', 'general'),
        PUT: ['update', 'general'],
        PATCH: ['patch', 'general'],
        DELETE: ['delete', 'general'],
      },
    },
  ],
  [
    {
      pattern: ['T', 'I', '_history'],
      methods: {
        ...reading('history-instance', 'history'),
        DELETE: ['delete-history', 'general'],
      },
    },
    { pattern: ['T', 'I', 'O'], methods: OPERATION },
    { pattern: ['C', 'I', '*'], methods: reading('search-compartment', 'search') },
    { pattern: ['C', 'I', 'T'], methods: reading('search-compartment', 'search') },
  ],
  [
    {
      pattern: ['T', 'I', '_history', 'V'],
      methods: { ...reading('vread', 'general'), DELETE: ['delete-history', 'general'] },
    },
    {
      pattern: ['C', 'I', '*', '_search'],
      methods: { POST: ['search-compartment', 'search', 'form'] },
    },
    {
      pattern: ['C', 'I', 'T', '_search'],
      methods: { POST: ['search-compartment', 'search', 'form'] },
    },
  ],
  [{ pattern: ['T', 'I', '_history', 'V', 'O'], methods: OPERATION }],
]
/** DSTU2 also takes `GET [type]/_search` (http.html#search), a search as any other (REST-4). */
const DSTU2_GRAMMAR: typeof GRAMMAR = GRAMMAR.map((shapes) =>
  shapes.map((shape) =>
    shape.pattern.join('/') === 'T/_search'
      ? { ...shape, methods: { ...reading('search-type', 'search'), ...shape.methods } }
      : shape,
  ),
)
/** The same five in every version from DSTU2 to R5. */
const COMPARTMENTS: ReadonlySet<string> = new Set([
  'Patient',
  'Encounter',
  'RelatedPerson',
  'Practitioner',
  'Device',
])

// Which characters may stand where, unencoded. In a path nothing of FHIR needs percent-encoding, so
// none is read: what cannot be written twice cannot be understood in two ways (REST-2).
const IN_PATH = 1
const IN_QUERY = 2
const CHARACTERS = new Uint8Array(128)
const allow = (text: string, where: number): void => {
  for (const char of text) {
    const code = char.charCodeAt(0)
    CHARACTERS[code] = (CHARACTERS[code] ?? 0) | where
  }
}
const ALPHANUMERIC = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'
allow(`${ALPHANUMERIC}-._$*/`, IN_PATH)
// '|' has no place in RFC 3986, but many clients write token searches with it as it is.
allow(`${ALPHANUMERIC}-._~!$'()*+,=&:@/%|`, IN_QUERY)

/** What `parseInteraction` looks at; `target` is what follows the base: '', '/Patient/1', '?…'. */
export type InteractionRequest = {
  readonly method: string
  readonly target: string
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
}

/**
 * The one interaction that a request asks, or an InteractionError: whatever does not parse to exactly
 * one known interaction never reaches upstream (REST-1, REST-2). Form bodies: see {@link withForm}.
 */
export function parseInteraction(
  request: InteractionRequest,
  definitions: Definitions,
  limits: TargetLimits,
): Interaction {
  const { target } = request
  if (target.length > limits.targetBytes) {
    throw new InteractionError('target-too-long', 'the request target is too long')
  }
  const mark = checkCharacters(target)
  const path = mark < 0 ? target : target.slice(0, mark)
  const query = mark < 0 ? '' : target.slice(mark + 1)
  const segments = splitPath(path)
  const [shape, place] = findShape(segments, definitions)
  const found = Object.hasOwn(shape.methods, request.method)
    ? shape.methods[request.method as Method]
    : undefined
  if (found === undefined) throw notAllowed(shape)
  const method = methodOf(request)
  const conditions = ifNoneExist(request, found[0])
  if (
    query === '' &&
    conditions === undefined &&
    found[1] !== 'criteria' &&
    found[2] === undefined
  ) {
    return { code: found[0], method, ...place, parameters: [] }
  }
  return withQuery(request, shape, place, found, query, conditions, definitions, limits)
}

/** What is asked for by OPTIONS is read. */
const methodOf = ({ method }: InteractionRequest): Method =>
  method === 'OPTIONS' ? 'GET' : (method as Method)

function withQuery(
  request: InteractionRequest,
  shape: Shape,
  place: Place,
  [code, set, form]: Answer,
  query: string,
  conditions: string | undefined,
  definitions: Definitions,
  limits: TargetLimits,
): Interaction {
  const method = methodOf(request)
  const type = place.type ?? '*'
  if (code === 'search-system' && /(?:^|&)_(?:getpages|cursor)=/.test(query)) {
    const parameters = parseParameters(query, 'paging', type, definitions, limits)
    return { code: 'paging', method, parameters }
  }
  const parameters = parseParameters(query, set, type, definitions, limits)
  if (conditions !== undefined) {
    const criteria = parseCriteria(conditions, type, definitions, limits)
    const both = [...parameters, ...criteria]
    checkTogether(both, limits)
    return { code: 'conditional-create', method, ...place, parameters: both }
  }
  // A conditional write without conditions would be about every resource of its type.
  if (set === 'criteria' && !parameters.some(({ name }) => isCriterion(name)))
    throw notAllowed(shape)
  const interaction = { code, method, ...place, parameters }
  return form === undefined ? interaction : { ...interaction, byPost: true }
}

/**
 * The interaction with a search form added to the parameters of its URL: one parameter set, wherever
 * each of them stood (REST-4). Interactions that take no form refuse one.
 */
export function withForm(
  interaction: Interaction,
  form: Buffer,
  limits: TargetLimits,
  definitions: Definitions,
): Interaction {
  if (interaction.byPost !== true) {
    throw new InteractionError('parameter-malformed', 'a form where none belongs')
  }
  const text = form.toString('latin1')
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    // A browser's form encodes all but a few; what is printable is read, '?' and '#' included.
    if (code <= 0x20 || code >= 0x7f) {
      throw new InteractionError('parameter-malformed', 'a form that is not encoded')
    }
  }
  const type = interaction.type ?? '*'
  const inForm = parseParameters(text, 'search', type, definitions, limits)
  const parameters = [...interaction.parameters, ...inForm]
  checkTogether(parameters, limits)
  return { ...interaction, parameters }
}

/**
 * The canonical text of an interaction. `path` starts with '/' or is ''; `query` is without '?'. A
 * search by POST has everything in `form` and nothing in `query`; the criteria of a conditional
 * create are `ifNoneExist`, the value of that header.
 */
export function formatInteraction(interaction: Interaction): {
  path: string
  query: string
  form?: string
  ifNoneExist?: string
} {
  const { parameters } = interaction
  const path = formatPath(interaction)
  if (interaction.byPost === true) return { path, query: '', form: formatParameters(parameters) }
  if (interaction.code === 'conditional-create') {
    return {
      path,
      query: formatParameters(parameters.filter(({ name }) => isGeneral(name))),
      ifNoneExist: formatParameters(parameters.filter(({ name }) => !isGeneral(name))),
    }
  }
  return { path, query: parameters.length === 0 ? '' : formatParameters(parameters) }
}

function formatPath(interaction: Interaction): string {
  const { code, type, id, versionId, compartment, operation, byPost } = interaction
  let path = ''
  if (compartment !== undefined) path += `/${compartment.type}/${compartment.id}`
  if (type !== undefined) path += `/${type}`
  if (id !== undefined) path += `/${id}`
  if (code === 'capabilities') path += '/metadata'
  if (code === 'versions') path += '/$versions'
  const history =
    code === 'delete-history' || code.startsWith('history-') || versionId !== undefined
  if (history) path += '/_history'
  if (versionId !== undefined) path += `/${versionId}`
  if (operation !== undefined) path += `/$${operation}`
  if (byPost === true) path += '/_search'
  return path
}

/** Index of the '?', or -1. Refuses every character that has no place where it stands. */
function checkCharacters(target: string): number {
  let mark = -1
  let where = IN_PATH
  for (let at = 0; at < target.length; at++) {
    const code = target.charCodeAt(at)
    if (code === 0x3f && mark < 0) {
      mark = at
      where = IN_QUERY
    } else if (code > 127 || ((CHARACTERS[code] ?? 0) & where) === 0) {
      throw new InteractionError('target-malformed', 'a character that has no place in an address')
    }
  }
  return mark
}

/** Segments of '/a/b'; none is empty, '.' or '..'. */
function splitPath(path: string): readonly string[] {
  if (path === '') return []
  if (!path.startsWith('/')) throw new InteractionError('target-malformed', 'no path')
  const segments: string[] = []
  // By hand: to split a text that is new each time takes the engine twice as long.
  for (let at = 1; at > 0;) {
    const end = path.indexOf('/', at)
    const segment = path.slice(at, end < 0 ? undefined : end)
    if (segment === '' || segment === '.' || segment === '..') {
      throw new InteractionError('target-malformed', 'an empty or dot segment')
    }
    segments.push(segment)
    at = end + 1
  }
  return segments
}

function findShape(segments: readonly string[], definitions: Definitions): readonly [Shape, Place] {
  const grammar = definitions.version === 'DSTU2' ? DSTU2_GRAMMAR : GRAMMAR
  for (const shape of grammar[segments.length] ?? []) {
    if (shape.pattern.every((part, at) => isPart(part, segments[at] ?? '', definitions))) {
      return [shape, placeOf(shape.pattern, segments)]
    }
  }
  const [type = '', id] = segments
  if (definitions.types.has(type) && id !== undefined && !/^[$_]/.test(id) && !isId(id)) {
    throw new InteractionError('target-malformed', 'an id that FHIR does not allow')
  }
  throw new InteractionError('interaction-unknown', 'no FHIR interaction has this address')
}

function isPart(part: Part, segment: string, definitions: Definitions): boolean {
  switch (part) {
    case 'T':
      return definitions.types.has(segment)
    case 'C':
      return COMPARTMENTS.has(segment)
    case 'I':
    case 'V':
      return isId(segment)
    case 'O':
      return segment.length <= 65 && /^\$[A-Za-z][A-Za-z0-9.-]*$/.test(segment)
    default:
      return part === segment
  }
}

/** https://hl7.org/fhir/R4/datatypes.html#id, as far as the characters of a path let through. */
function isId(text: string): boolean {
  if (text.length > 64 || text === '.' || text === '..') return false
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    // '$', '*', '_' and '/' are the characters of a path that no id has.
    if (code === 0x24 || code === 0x2a || code === 0x5f || code === 0x2f) return false
  }
  return text !== ''
}

function placeOf(pattern: readonly Part[], segments: readonly string[]): Place {
  const place: {
    type?: string
    id?: string
    versionId?: string
    compartment?: { type: string; id: string }
    operation?: string
  } = {}
  const inCompartment = pattern[0] === 'C'
  pattern.forEach((part, at) => {
    const segment = segments[at] ?? ''
    if (part === 'T' || part === '*') place.type = segment
    else if (part === 'V') place.versionId = segment
    else if (part === 'O' || part === '$export-status') place.operation = segment.slice(1)
    else if (part === 'I' && !inCompartment) place.id = segment
  })
  if (inCompartment) place.compartment = { type: segments[0] ?? '', id: segments[1] ?? '' }
  return place
}

const NO_CRITERIA: ReadonlySet<string> = new Set(['_count', '_sort', '_total', '_score'])

function isCriterion(name: string): boolean {
  return !isGeneral(name) && !NO_CRITERIA.has(name) && !/^_(?:contained|include|revinc)/.test(name)
}

/** The criteria of a conditional create: the header, only where it means something (REST-6). */
function ifNoneExist({ headers }: InteractionRequest, code: InteractionCode): string | undefined {
  const value = headers['if-none-exist']
  if (value === undefined) return undefined
  if (typeof value !== 'string' || value === '' || code !== 'create') {
    throw new InteractionError('header-malformed', 'If-None-Exist has no meaning here', {
      parameter: 'If-None-Exist',
    })
  }
  return value
}

function parseCriteria(
  text: string,
  type: string,
  definitions: Definitions,
  limits: TargetLimits,
): readonly Parameter[] {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code > 127 || ((CHARACTERS[code] ?? 0) & IN_QUERY) === 0) {
      throw new InteractionError('header-malformed', 'If-None-Exist is not a query', {
        parameter: 'If-None-Exist',
      })
    }
  }
  const criteria = parseParameters(text, 'criteria', type, definitions, limits)
  if (!criteria.every(({ name }) => isCriterion(name))) {
    throw new InteractionError('header-malformed', 'If-None-Exist holds more than criteria', {
      parameter: 'If-None-Exist',
    })
  }
  return criteria
}

/** RFC 9110 §15.5.6: "The origin server MUST generate an Allow header field in a 405 response". */
function notAllowed(shape: Shape): InteractionError {
  const methods = Object.entries(shape.methods)
    .filter(([, answer]) => answer[1] !== 'criteria')
    .map(([method]) => method)
  return new InteractionError('method-not-allowed', 'the address does not take this method', {
    headers: { allow: methods.join(', ') },
  })
}

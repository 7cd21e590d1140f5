import type { Definitions, ElementPath } from '../../fhir/definitions.ts'
import type { Interaction, Parameter } from '../../fhir/interaction.ts'
import { patientsOf } from '../../permit.ts'
import type { Grant, Touches, Trim } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'

/** They reach what no search parameter says, or count and cut what release judges by. */
const FORBIDDEN = new Set(
  ['_filter', '_list', '_query', '_text', '_content'].concat([
    '_contained',
    '_containedType',
    '_graph',
    '_has',
  ]),
)
/** They shape the answer and select nothing: no policy is needed for them. */
const OURS = new Set(['_format', '_pretty', '_count', '_summary'])
const MODIFIERS = new Set(['exact', 'contains', 'missing', 'not', 'identifier', 'iterate'])
/**
 * Refuses parameters that reach beyond what is judged, or probe for masked values. Chains and `_has`
 * have been answered by then (chain.ts).
 */
export function checkParameters(
  type: string,
  parameters: readonly Parameter[],
  grant: Grant,
  { definitions, touches }: { readonly definitions: Definitions; readonly touches: Touches },
): void {
  const isMasked = createMaskCheck(type, grant, definitions, touches)
  for (const { name, modifier, chain, values } of parameters) {
    const counting = name === '_summary' && values.includes('count')
    const reaching =
      modifier !== undefined && !MODIFIERS.has(modifier) && !definitions.types.has(modifier)
    const probing =
      isMasked?.(name, modifier) === true ||
      (!name.startsWith('_') && values.some(createProbeCheck(name, modifier, type, definitions)))
    const sorting =
      name === '_sort' &&
      sortKeys({ values }).some((by) => {
        // A chain, or what upstream alone knows, would order by what nobody has judged.
        const isUnknown = by !== '_score' && pathsOf(by, type, definitions).length === 0
        const isClosed = grant.forbids?.(by) === true || isMasked?.(by, undefined) === true
        return by === 'identifier' || isUnknown || isClosed
      })
    const isBanned = grant.forbids?.(name) === true && !OURS.has(name)
    const isForbidden =
      isBanned || FORBIDDEN.has(name) || chain !== undefined || counting || reaching
    if (sorting || isForbidden || probing) {
      throw new Refusal('parameter-forbidden', { parameter: name })
    }
  }
}

/**
 * REST-12: whether a parameter looks at what is masked for any of the resources it is about, so that
 * its matches or their order would tell; undefined = nothing is masked. Where it looks is said by its
 * definition; one that is not known to look anywhere in particular may look anywhere.
 */
function createMaskCheck(
  type: string,
  { reach }: Grant,
  definitions: Definitions,
  touches: Touches,
): ((name: string, modifier: string | undefined) => boolean) | undefined {
  const maskings = reach.flatMap(({ masking }) => (masking.size > 1 ? masking : []))
  if (maskings.length === 0) return undefined
  return (name, modifier) => {
    if (selectsNothing(name)) return false
    const paths = pathsOf(name, type, definitions, modifier)
    return (
      paths.length === 0 ||
      maskings.some((masking) => paths.some((path) => touches(masking, type, path)))
    )
  }
}

/** Where a search parameter looks; nowhere = that is not known. */
export function pathsOf(
  name: string,
  type: string,
  definitions: Definitions,
  modifier?: string,
): readonly ElementPath[] {
  const paths = COMMON.get(name) ?? definitions.searchParameters(type).get(name)?.paths ?? []
  return modifier === 'identifier' ? paths.map((path) => [...path, 'identifier']) : paths
}

/** What `_sort` orders by. */
export const sortKeys = ({ values }: Pick<Parameter, 'values'>): readonly string[] =>
  values.map((value) => value.replace(/^-/, ''))

/** They shape the answer or name other types, and look at no element. */
const SHAPES = new Set(['_sort', '_include', '_revinclude', '_type', '_elements'])

/** Whether a parameter is about no element of what is searched for. */
export const selectsNothing = (name: string): boolean => OURS.has(name) || SHAPES.has(name)

const COMMON: ReadonlyMap<string, readonly ElementPath[]> = new Map([
  ['_id', [['id']]],
  ['_lastUpdated', [['meta', 'lastUpdated']]],
  ['_tag', [['meta', 'tag']]],
  ['_profile', [['meta', 'profile']]],
  ['_security', [['meta', 'security']]],
  ['_source', [['meta', 'source']]],
  ['_since', [['meta', 'lastUpdated']]],
  ['_at', [['meta', 'lastUpdated']]],
])

/**
 * REST-12, MASK-9: whether a value names an SSN or a payment card, which a search would confirm. Release
 * lets out no match of which that is masked (shown.ts); what is refused is not even timed. Nine digits
 * alone are an SSN to an identifier and in texts; codes and quantities may have as many.
 */
function createProbeCheck(
  name: string,
  modifier: string | undefined,
  type: string,
  definitions: Definitions,
): (value: string) => boolean {
  const form = definitions.searchParameters(type).get(name)?.type ?? 'string'
  if (modifier === 'identifier' || name === 'identifier')
    return (value) => isProbe(value) || /^\d{9}$/.test(lastPart(value))
  if (form === 'number' || form === 'quantity')
    return (value) => isProbe(value) || isCard(wholeOf(value.split('|')[0] ?? ''))
  if (form === 'composite')
    return (value) => value.split('$').some((part) => isProbe(part) || isCard(wholeOf(part)))
  return form === 'string' ? (value) => isProbe(value) || hasProbe(value) : isProbe
}

function isProbe(value: string): boolean {
  if (/us-ssn|2\.16\.840\.1\.113883\.4\.1(?!\d|\.)/i.test(value)) return true
  const code = lastPart(value)
  return /^\d{3}[- ]\d{2}[- ]\d{4}$/.test(code) || isCard(code.replace(/[- ]/g, ''))
}

/** Of a token. */
const lastPart = (value: string): string => value.slice(value.lastIndexOf('|') + 1)

/** Whether such a number stands anywhere in a text. */
const hasProbe = (text: string): boolean =>
  /(?<!\d)(?:\d{9}|\d{3}[- ]\d{2}[- ]\d{4})(?!\d)/.test(text) ||
  (text.match(/(?:\d[- ]?){13,}/g) ?? []).some((run) => isCard(run.replace(/[- ]/g, '')))

/** The digits of a whole number, however it is written: `ge4.111e3` is "4111". */
function wholeOf(text: string): string {
  const number = Number(text.replace(/^[a-z]{2}/, ''))
  return Number.isSafeInteger(number) ? String(Math.abs(number)) : text.replace(/\D/g, '')
}

const isCard = (digits: string): boolean => /^\d{13,19}$/.test(digits) && isLuhn(digits)

function isLuhn(digits: string): boolean {
  let sum = 0
  for (let at = 0; at < digits.length; at++) {
    const digit = Number(digits[digits.length - 1 - at])
    const twice = at % 2 === 1 ? digit * 2 : digit
    sum += twice > 9 ? twice - 9 : twice
  }
  return sum % 10 === 0
}

/**
 * The question for upstream: `_count` capped, and one more AND parameter for each limit that all
 * resources within the grant share. Whatever else limits them is held against each resource that
 * comes back.
 */
export function narrow(
  interaction: Interaction,
  type: string,
  grant: Grant,
  count: number,
  definitions: Definitions,
): Interaction {
  const { compartment, ...rest } = interaction
  const own = patientsOf(grant)
  const limits = [
    ...(compartment === undefined ? [] : [[compartment.id]]),
    ...(own === undefined || own.join() === compartment?.id ? [] : [own]),
  ]
  const added = limits.map((ids): Parameter => {
    const parameter = definitions.patientParameter(type)
    if (parameter === undefined) {
      throw new Refusal('policy-denied', { detail: 'a type that cannot be narrowed to a patient' })
    }
    const values = ids.map((id) => (parameter.form === 'id' ? id : `Patient/${id}`))
    return { name: parameter.name, values }
  })
  return {
    ...rest,
    code: 'search-type',
    parameters: [...pageOf(interaction.parameters, grant, count), ...added, ...sharedBy(grant)],
  }
}

/**
 * SCOPE-7: the criteria that every reach has, each with the values of all: `category=a` or
 * `category=b` is `category=a,b`.
 */
function sharedBy({ reach }: Grant): readonly Parameter[] {
  const [first = [], ...others] = reach.map(({ criteria }) => criteria?.parameters ?? [])
  return first.flatMap((parameter): readonly Parameter[] => {
    const { name, modifier } = parameter
    const same = others.flatMap(
      (all) => all.find((one) => one.name === name && one.modifier === modifier) ?? [],
    )
    const own = JSON.stringify(parameter.values)
    const isOther = ({ values }: Parameter): boolean => JSON.stringify(values) !== own
    if (same.length < others.length) return []
    if (!same.some(isOther)) return [parameter]
    // `:not` and `:missing` say something else of two values than of each.
    if (modifier !== undefined) return []
    return [{ name, values: [...new Set([parameter, ...same].flatMap(({ values }) => values))] }]
  })
}

/** The parameters with the page that configuration and policy leave; a policy asks for it to be said. */
function pageOf(
  parameters: readonly Parameter[],
  { results }: Grant,
  count: number,
): readonly Parameter[] {
  const most = Math.min(results ?? count, count)
  const capped = capCount(parameters, most)
  return results === undefined || capped.some(({ name }) => name === '_count')
    ? capped
    : [...capped, { name: '_count', values: [String(most)] }]
}

/** The same parameters with a page no larger than `count`. */
export function capCount(parameters: readonly Parameter[], count: number): Parameter[] {
  return parameters.map((parameter) =>
    parameter.name === '_count' && Number(parameter.values[0]) > count
      ? { ...parameter, values: [String(count)] }
      : parameter,
  )
}

/**
 * Takes out of a question what would cut away the evidence that release judges by: whole resources
 * are fetched and cut afterwards. `_total` goes, because it counts what is withheld (REST-11).
 */
export function takeShape(
  parameters: readonly Parameter[],
  definitions: Definitions,
): { readonly parameters: readonly Parameter[]; readonly trim: Trim | undefined } {
  if (!parameters.some(({ name }) => SHAPING.has(name))) return { parameters, trim: undefined }
  const valuesOf = (wanted: string): string[] =>
    parameters.filter(({ name }) => name === wanted).flatMap(({ values }) => values)
  const elements = valuesOf('_elements')
  for (const element of elements) {
    if (!/^(?:[A-Z][A-Za-z]+\.)?[a-z][A-Za-z]{0,63}$/.test(element)) {
      throw new Refusal('parameter-malformed', { parameter: '_elements' })
    }
  }
  const [summary = 'false', ...more] = valuesOf('_summary')
  const summarize = SUMMARIES.get(summary)
  if (summarize === undefined || more.length > 0) {
    throw new Refusal('parameter-malformed', { parameter: '_summary' })
  }
  const named = new Set(elements.map((element) => element.replace(/^.*\./, '')))
  const isCut = named.size > 0 || summarize !== 'whole'
  return {
    // One that counts is refused where all parameters are looked at.
    parameters: parameters.filter(
      ({ name }) => !SHAPING.has(name) || (name === '_summary' && summary === 'count'),
    ),
    trim: !isCut
      ? undefined
      : (type, name) =>
          (summarize === 'whole' || summarize(type, name, definitions)) &&
          (named.size === 0 || named.has(name)),
  }
}
const SHAPING = new Set(['_elements', '_summary', '_total'])
/** https://hl7.org/fhir/R4/search.html#summary: which top-level elements stay. */
type Summarize = (type: string, name: string, definitions: Definitions) => boolean
const SUMMARIES: ReadonlyMap<string, 'whole' | Summarize> = new Map<string, 'whole' | Summarize>([
  ['false', 'whole'],
  ['count', 'whole'],
  ['true', (type, name, definitions) => definitions.summaryElements(type).has(name)],
  ['text', (_type, name) => name === 'text'],
  ['data', (_type, name) => name !== 'text'],
])

/** `_include` and `_revinclude`: `Type:parameter[:Type]`, or `*`; every one that comes is judged. */
export function checkIncludes(
  parameters: readonly Parameter[],
  definitions: Definitions,
  {
    grantOf,
    touches,
  }: {
    /** Of the types that are held. */
    readonly grantOf: (type: string) => Grant | undefined
    /** A link that is masked would be told by what comes. */
    readonly touches: Touches
  },
): void {
  for (const { name, values } of parameters) {
    if (name !== '_include' && name !== '_revinclude') continue
    for (const value of values) {
      if (value === '*') continue
      const [source = '', parameter = '', target, ...more] = value.split(':')
      const found = definitions.searchParameters(source).get(parameter)
      const isKnown =
        definitions.types.has(source) && (parameter === '*' || found?.type === 'reference')
      if (!isKnown || more.length > 0 || (target !== undefined && !definitions.types.has(target))) {
        throw new Refusal('parameter-malformed', { parameter: name })
      }
      const grant = grantOf(source)
      if (grant !== undefined) {
        const isMasked = createMaskCheck(source, grant, definitions, touches)
        // `*` brings what the open links lead to as well as the masked ones.
        if (grant.forbids?.(parameter) === true || isMasked?.(parameter, undefined) === true) {
          throw new Refusal('parameter-forbidden', { parameter: name })
        }
      }
      const reached =
        name === '_revinclude' ? [source] : target === undefined ? found?.targets : [target]
      // Nothing of it could be shown: say so, rather than answer as if there were none.
      if (reached?.some((one) => grantOf(one) !== undefined) === false) {
        throw new Refusal('scope-insufficient', { detail: `${name} reaches what is not held` })
      }
    }
  }
}

import type { Definitions } from './definitions.ts'
import { InteractionError, isCommon } from './parameter.ts'

/**
 * `_filter` (https://hl7.org/fhir/R4/search_filter.html), as far as it asks by search parameters of
 * the type itself. Paths through references, brackets, and the operators that ask terminology or are
 * regular expressions are refused: what they reach cannot be judged.
 */

/** One comparison: `birthdate ge 2014-10-10`. */
export type Comparison = { readonly name: string; readonly value: string }

export type Filter = {
  /** The comparisons in it, for whoever has to permit each of them. */
  readonly comparisons: readonly Comparison[]
  /** The same filter written anew, token by token. */
  readonly text: string
}

const OPERATORS = new Set(['eq', 'ne', 'co', 'sw', 'ew', 'gt', 'lt', 'ge', 'le', 'ap', 'sa', 'eb'])
/** Presence: `name pr true`. */
const PRESENCE = 'pr'
const MOST_TOKENS = 200
/** A quoted string, a parenthesis, or a word. */
const TOKEN = /\s*("(?:[^"\\]|\\["\\])*"|[()]|[^\s()"]+)/y

/** Parses a filter on `type`. Throws InteractionError `parameter-malformed`. */
export function parseFilter(text: string, type: string, definitions: Definitions): Filter {
  const tokens = tokensOf(text.trim())
  const comparisons: Comparison[] = []
  let at = 0
  const next = (): string => tokens[at++] ?? malformed('a filter that ends too early')

  /** `A and B or (C)`; upstream knows which binds tighter. */
  function expression(depth: number): string {
    if (depth > 10) malformed('a filter too deep')
    let out = term(depth)
    while (tokens[at] === 'and' || tokens[at] === 'or') out += ` ${next()} ${term(depth)}`
    return out
  }

  function term(depth: number): string {
    const token = next()
    if (token === '(') return inside('', depth)
    if (token === 'not') {
      if (next() !== '(') malformed('"not" without parentheses')
      return inside('not ', depth)
    }
    if (!isCommon(token) && !definitions.searchParameters(type).has(token)) {
      malformed('a filter by what is no search parameter of the type')
    }
    const operator = next()
    const value = next()
    const isPresence = operator === PRESENCE && (value === 'true' || value === 'false')
    if (!isPresence && !OPERATORS.has(operator)) malformed('a filter with this operator')
    if (value === '(' || value === ')') malformed('a filter without a value')
    const plain = value.startsWith('"') ? (JSON.parse(value) as string) : value
    comparisons.push({ name: token, value: plain })
    return `${token} ${operator} ${value}`
  }

  function inside(before: string, depth: number): string {
    const inner = expression(depth + 1)
    if (next() !== ')') malformed('parentheses that do not close')
    return `${before}(${inner})`
  }

  const written = expression(0)
  if (at !== tokens.length) malformed('a filter with something behind it')
  return { comparisons, text: written }
}

function tokensOf(text: string): string[] {
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const found = TOKEN.exec(text)
    if (found?.[1] === undefined) malformed('a filter that cannot be read')
    tokens.push(found[1])
    if (tokens.length > MOST_TOKENS) malformed('a filter too long')
  }
  return tokens
}

function malformed(message: string): never {
  throw new InteractionError('parameter-malformed', message, { parameter: '_filter' })
}

import type { ElementDefinition, Elements } from './elements.ts'

/**
 * Paths to elements: the part of FHIRPath that can be followed while a resource goes by.
 *
 *   Patient.telecom · HumanName (wherever one occurs) · Observation.value.ofType(string) ·
 *   Identifier.where(system = 'http://…' or type.coding.code = 'MR').value · Patient.extension('http://…')
 */
export type ElementSelector = {
  readonly text: string
  /** Where it begins: a type or a structure nested in one; whatever is of its kind counts. */
  readonly root: string
  readonly filters: readonly Filter[]
  readonly steps: readonly Step[]
}

/** One element further; `as` names the type of a choice or of a resource. */
export type Step = {
  readonly name: string
  readonly as: string | undefined
  readonly filters: readonly Filter[]
}

/** Holds when one of the members named has the text. */
export type Filter = readonly { readonly path: readonly string[]; readonly equals: string }[]

/** Says what is wrong with a path. */
export class PathError extends Error {
  override readonly name = 'PathError'
}

type MutableStep = { name: string; as: string | undefined; filters: Filter[] }

const TOKEN =
  /\s*(?:(?<name>[A-Za-z][A-Za-z0-9]{0,63})|'(?<text>(?:[^'\\]|\\.){0,500})'|(?<sign>[.()=]))/y

/** Parses a path. Throws {@link PathError}. */
export function parseSelector(text: string): ElementSelector {
  const tokens = tokenize(text)
  let at = 0
  const next = (): Token => tokens[at++] ?? { kind: 'end', text: '' }
  const isNext = (sign: string): boolean => tokens[at]?.kind === 'sign' && tokens[at]?.text === sign
  const expect = (kind: Token['kind'], what: string): string => {
    const token = next()
    const fits = token.kind === kind && (kind !== 'sign' || token.text === what)
    if (!fits) throw new PathError(`"${text}": ${what} is missing`)
    return token.text
  }
  const root = expect('name', 'a type')
  if (
    !/^[A-Z]|^(?:base64Binary|boolean|canonical|code|date|dateTime|decimal|id|instant|integer|integer64|markdown|oid|positiveInt|string|time|unsignedInt|uri|url|uuid|xhtml)$/.test(
      root,
    )
  )
    throw new PathError(`"${text}" does not begin with a type`)
  const filters: Filter[] = []
  const steps: MutableStep[] = []
  while (at < tokens.length) {
    expect('sign', '.')
    const name = expect('name', 'an element')
    if (!isNext('(')) {
      steps.push({ name, as: undefined, filters: [] })
      continue
    }
    at++
    const last = steps.at(-1)
    if (name === 'extension') {
      const url = expect('text', "'an address'")
      steps.push({ name, as: undefined, filters: [[{ path: ['url'], equals: url }]] })
    } else if (name === 'ofType') {
      if (last === undefined) throw new PathError(`"${text}": ofType() follows an element`)
      last.as = expect('name', 'a type')
    } else if (name === 'where') {
      ;(last?.filters ?? filters).push(readFilter())
    } else
      throw new PathError(
        `"${text}": ${name}() is not known; ofType(), where() and extension() are`,
      )
    expect('sign', ')')
  }
  return { text, root, filters, steps }

  function readFilter(): Filter {
    const any: { path: string[]; equals: string }[] = []
    do {
      const path = [expect('name', 'an element')]
      while (isNext('.')) {
        at++
        path.push(expect('name', 'an element'))
      }
      expect('sign', '=')
      any.push({ path, equals: expect('text', "'a text'") })
    } while (tokens[at]?.text === 'or' && tokens[at++]?.kind === 'name')
    return any
  }
}

type Token = { readonly kind: 'name' | 'text' | 'sign' | 'end'; readonly text: string }

function tokenize(text: string): Token[] {
  const tokens: Token[] = []
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.trimEnd().length) {
    const { name, text: quoted, sign } = TOKEN.exec(text)?.groups ?? {}
    if (name !== undefined) tokens.push({ kind: 'name', text: name })
    else if (quoted !== undefined)
      tokens.push({ kind: 'text', text: quoted.replaceAll(/\\(.)/g, '$1') })
    else if (sign !== undefined) tokens.push({ kind: 'sign', text: sign })
    else throw new PathError(`"${text}" is not a path`)
  }
  if (tokens.length === 0) throw new PathError('an empty path')
  return tokens
}

/**
 * What is wrong with a path in this version of FHIR, or undefined: there are elements that it names.
 */
export function checkSelector(selector: ElementSelector, elements: Elements): string | undefined {
  const { root, filters, steps } = selector
  if (elements.structure(root) === undefined && !elements.isPrimitive(root)) {
    return `there is no type ${root}`
  }
  let types = [root]
  let wrong = checkFilters(filters, types, elements)
  if (wrong !== undefined) return wrong
  let place = root
  for (const { name, as, filters: own } of steps) {
    const found = elementsOf(types, name, elements)
    if (found.length === 0) {
      const choice = types
        .flatMap((type) => elements.structure(type)?.elements.get(name) ?? [])
        .find(({ isChoice }) => isChoice)
      const hint = choice === undefined ? '' : `; write ${choice.name}.ofType(${choice.type})`
      return `${place} has no element ${name}${hint}`
    }
    place += `.${name}`
    types = [...new Set(found.map(({ type }) => type))]
    if (as !== undefined) {
      const isResource =
        types.includes('Resource') && elements.structure(as)?.kinds.includes('Resource')
      if (!types.includes(as) && isResource !== true) return `${place} is never of type ${as}`
      types = [as]
    }
    wrong = checkFilters(own, types, elements)
    if (wrong !== undefined) return wrong
  }
  return undefined
}

function checkFilters(
  filters: readonly Filter[],
  types: readonly string[],
  elements: Elements,
): string | undefined {
  for (const { path } of filters.flat()) {
    let at = types
    for (const name of path) {
      const found = elementsOf(at, name, elements)
      if (found.length === 0) return `where(): ${at.join(' or ')} has no element ${name}`
      at = found.map(({ type }) => type)
    }
    if (!at.some((type) => elements.isPrimitive(type)))
      return `where(): ${path.join('.')} is no simple value`
  }
  return undefined
}

/** Elements by a name, in each of the types. */
export function elementsOf(
  types: readonly string[],
  name: string,
  elements: Elements,
): ElementDefinition[] {
  // Beside the value of a primitive stands what every element may have: an id and extensions.
  return types.flatMap((type) => {
    const structure = elements.structure(elements.isPrimitive(type) ? 'Element' : type)
    return [...(structure?.elements.values() ?? [])].filter((one) => one.name === name)
  })
}

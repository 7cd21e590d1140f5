import type { ElementSelector, Step } from '../../../fhir/element-path.ts'
import type { ElementDefinition, Elements } from '../../../fhir/elements.ts'
import type { Names } from '../../../json/names.ts'
import { KIND } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { Method } from '../../../policy/masking-schema.ts'
import { FORMS } from './forms.ts'

/**
 * What becomes of the values of a resource, as states over (type, member name): which rules have been
 * followed how far, compiled from paths and the element trees. States are made when first reached;
 * there are no more of them than types times places in the rules.
 */

/** What is asked of an object before a rule goes on. */
export type Test = (tape: Tape, object: number) => boolean

/** A path and what becomes of what it selects. */
export type Selection = {
  readonly selector: ElementSelector
  /** Compiled `where()`: those of the root first, then of each step. */
  readonly tests: readonly (readonly Test[])[]
  readonly profile: number
  readonly rule: string
  readonly method: Method
}

/** What becomes of a value, and by which rule. */
export type Action = {
  readonly rule: string
  readonly method: Exclude<Method, { readonly kind: 'keep' }>
  /** How much it takes away. */
  readonly rank: number
}

/** A member of an object as the walk meets it. */
export type Member = {
  readonly element: ElementDefinition
  /** Number of the name that its value has; `_birthDate` of `birthDate`. */
  readonly name: number
  /** `_birthDate`: what stands beside a primitive value. */
  readonly isBeside: boolean
  readonly isPrimitive: boolean
  /** KIND of the JSON value that a primitive has: string, number, or literal for a boolean. */
  readonly kind: number
  /** primitive: whether anyone may have written its content. */
  readonly isText: boolean
  /** primitive: what becomes of the value. */
  readonly action: Action | undefined
  /** code, date and their like: what becomes of one that is a text, as a string in its place would. */
  readonly ofText: Action | undefined
  /** Where the walk goes on; of a primitive, in what stands beside it. */
  readonly next: () => Place
}

/** A value of a type, before its tests are made. */
export type Place = {
  readonly type: string
  readonly tests: readonly Test[]
  /** What holds where there are no tests. */
  readonly plain: () => State
  /** What holds once it is known which tests do. */
  readonly settle: (holds: readonly boolean[]) => State
  /** States of which one alters whatever any of all alters. */
  readonly outcomes: () => readonly State[]
  /** Of `Resource`: what the type turns out to be; undefined = no such type. */
  readonly ofType: (type: string) => Place | undefined
  /** All actions that some outcome of the tests leads to. */
  readonly actions: readonly Action[]
}

export type State = {
  readonly type: string
  readonly isExtension: boolean
  readonly isResource: boolean
  readonly isMeta: boolean
  readonly action: Action | undefined
  /** The member by the number of its name, or undefined: no element of this type. */
  readonly member: (name: number) => Member | undefined
}

export type Automaton = {
  readonly root: (type: string) => Place | undefined
  /** The least that is valid of a type, once it was made. */
  readonly stubs: Map<string, string>
  /** Numbers of the names that both ends of a Range have. */
  readonly ends: readonly number[]
  readonly structure: Elements['structure']
}

/** A selection followed so far: `at` steps have been met. */
type Position = { readonly selection: number; readonly at: number }

const RANKS = ['date-shift', 'generalise', 'last', 'pseudonym', 'replace', 'redact', 'remove']

/** How much a method takes away. */
export const rankOf = (method: Method): number =>
  RANKS.indexOf(method.kind) + (method.kind === 'last' ? (MOST_SHOWN - method.count) / 10 : 0)
const MOST_SHOWN = 4

/** Names of elements must have numbers in `names`; those that have none are no elements. */
export function buildAutomaton(
  elements: Elements,
  selections: readonly Selection[],
  names: Names,
): Automaton {
  const places = new Map<string, Place>()
  const states = new Map<string, State>()
  const tables = new Map<string, Table>()
  const roots = new Map<string, Place>()
  const rooted = new Map<string, number[]>()
  selections.forEach(({ selector: { root } }, at) => {
    rooted.set(root, [...(rooted.get(root) ?? []), at])
  })
  const kindsOf = (type: string): readonly string[] => elements.structure(type)?.kinds ?? [type]

  const testsAt = ({ selection, at }: Position): readonly Test[] =>
    selections[selection]?.tests[at] ?? []
  const stepAfter = ({ selection, at }: Position): Step | undefined =>
    selections[selection]?.selector.steps[at]

  /** A value of a type with what has been followed to it; what begins at its type begins here. */
  function place(type: string, followed: readonly Position[]): Place {
    const begun = kindsOf(type).flatMap((kind) => rooted.get(kind) ?? [])
    const positions = [...followed, ...begun.map((selection) => ({ selection, at: 0 }))]
    const key = `${type} ${positions.map(({ selection, at }) => `${selection}.${at}`).join()}`
    const known = places.get(key)
    if (known !== undefined) return known
    const tests = [...new Set(positions.flatMap(testsAt))]
    const settled = new Map<string, State>()
    let plain: State | undefined
    const ofTypes = new Map<string, Place>()
    const made: Place = {
      type,
      tests,
      plain: () => (plain ??= made.settle([])),
      settle(holds) {
        const outcome = holds.length === 0 ? '' : holds.join()
        const met = settled.get(outcome)
        if (met !== undefined) return met
        const left = positions.filter((one) =>
          testsAt(one).every((test) => holds[tests.indexOf(test)] === true),
        )
        const made = state(type, left)
        settled.set(outcome, made)
        return made
      },
      outcomes() {
        // Where a rule alters, it still does where no test holds but its own: fewer rules may keep it.
        const alone = positions.map((one) => tests.map((test) => testsAt(one).includes(test)))
        return [...new Set([tests.map(() => false), ...alone].map(made.settle))]
      },
      ofType(actual) {
        if (!elements.structure(actual)?.kinds.includes('Resource')) return undefined
        const known = ofTypes.get(actual)
        if (known !== undefined) return known
        const found = place(
          actual,
          followed.filter((one) => fits(one, actual)),
        )
        ofTypes.set(actual, found)
        return found
      },
      actions: possible(positions),
    }
    places.set(key, made)
    return made
  }

  /** Whether the step that led here is to a resource of this type. */
  function fits({ selection, at }: Position, type: string): boolean {
    const as = selections[selection]?.selector.steps[at - 1]?.as
    return as === undefined || kindsOf(type).includes(as)
  }

  function state(type: string, positions: readonly Position[]): State {
    const key = `${type} ${positions.map(({ selection, at }) => `${selection}.${at}`).join()}`
    const known = states.get(key)
    if (known !== undefined) return known
    const table = tableOf(type)
    const members = table.rows.map(({ element, isBeside }) =>
      lazily(type, element, isBeside, positions),
    )
    const made: State = {
      type,
      isExtension: type === 'Extension',
      isResource: kindsOf(type).includes('Resource'),
      isMeta: type === 'Meta',
      action: decide(positions),
      member: (name) => members[(table.places[name] ?? 0) - 1],
    }
    states.set(key, made)
    return made
  }

  function lazily(
    type: string,
    element: ElementDefinition,
    isBeside: boolean,
    positions: readonly Position[],
  ): Member {
    const isPrimitive = elements.isPrimitive(element.type)
    const followed = positions.flatMap((one): Position[] => {
      const step = stepAfter(one)
      if (step?.name !== element.name) return []
      const isResource = element.type === 'Resource'
      if (step.as !== undefined && !isResource && !kindsOf(element.type).includes(step.as))
        return []
      return [{ selection: one.selection, at: one.at + 1 }]
    })
    // Of a primitive: what begins at its type, and what has led to it.
    const begun = isPrimitive ? (rooted.get(element.type) ?? []) : []
    // Without its address nobody knows what an extension is.
    const isAddress = element.key === 'url' && kindsOf(type).includes('Extension')
    const all = [...followed, ...begun.map((selection) => ({ selection, at: 0 }))]
    const action = isPrimitive && !isAddress ? decide(all) : undefined
    const isWritten = element.type === 'code' || FORMS.has(element.type)
    const written = isWritten ? (rooted.get('string') ?? []) : []
    const ofText =
      written.length === 0
        ? undefined
        : decide([...all, ...written.map((selection) => ({ selection, at: 0 }))])
    let next: Place | undefined
    return {
      ...{ element, name: names.id(element.key), isBeside, isPrimitive, action, ofText },
      kind: kindOfType(element.type),
      isText: TEXTS.has(element.type) && !COUNTED.has(element.key),
      next: () => (next ??= place(isPrimitive ? 'Element' : element.type, followed)),
    }
  }

  /** Of one profile the last rule that is met; of all profiles the strictest. */
  function decide(positions: readonly Position[]): Action | undefined {
    let strictest: Action | undefined
    const met = positions.filter((one) => stepAfter(one) === undefined)
    for (const profile of new Set(met.map((one) => selections[one.selection]?.profile))) {
      const own = met.filter((one) => selections[one.selection]?.profile === profile)
      const last = selections[Math.max(...own.map(({ selection }) => selection))]
      if (last === undefined || last.method.kind === 'keep') continue
      if (strictest === undefined || rankOf(last.method) > strictest.rank)
        strictest = { rule: last.rule, method: last.method, rank: rankOf(last.method) }
    }
    return strictest
  }

  /** Whatever the tests say: a rule that may keep a value is not counted on. */
  function possible(positions: readonly Position[]): Action[] {
    const isSure = (one: Position): boolean => testsAt(one).length === 0
    const met = positions.filter((one) => stepAfter(one) === undefined)
    const sure = decide(met.filter(isSure))
    const others = met.filter((one) => !isSure(one)).flatMap((one) => decide([one]) ?? [])
    return sure === undefined ? others : [sure, ...others]
  }

  function tableOf(type: string): Table {
    const known = tables.get(type)
    if (known !== undefined) return known
    const structure = elements.structure(type)
    const rows = [...(structure?.elements.values() ?? [])].flatMap((element): Row[] => {
      const row = { key: element.key, element, isBeside: false }
      // The id of an element and the address of an extension are attributes: nothing stands beside.
      const isAttribute =
        element.type === 'xhtml' || (element.key === 'url' && type === 'Extension')
      if (!elements.isPrimitive(element.type) || isAttribute) return [row]
      return [row, { key: `_${element.key}`, element, isBeside: true }]
    })
    const places = new Uint16Array(names.list.length)
    rows.forEach(({ key }, row) => {
      places[names.id(key)] = row + 1
    })
    const table = { rows, places }
    tables.set(type, table)
    return table
  }

  return {
    root(type) {
      const known = roots.get(type)
      if (known !== undefined || elements.structure(type) === undefined) return known
      const found = place(type, [])
      roots.set(type, found)
      return found
    },
    stubs: new Map(),
    ends: [names.id('low'), names.id('high')],
    structure: elements.structure,
  }
}

const NUMBERS: ReadonlySet<string> = new Set(['integer', 'decimal', 'unsignedInt', 'positiveInt'])
/** "1.2.3.4" counts questions and editions here; it is the address of no network. */
const COUNTED: ReadonlySet<string> = new Set(['linkId', 'question', 'version'])
const TEXTS: ReadonlySet<string> = new Set(['string', 'markdown', 'xhtml'])

function kindOfType(type: string): number {
  if (type === 'boolean') return KIND.literal
  return NUMBERS.has(type) ? KIND.number : KIND.string
}

type Row = { readonly key: string; readonly element: ElementDefinition; readonly isBeside: boolean }

/** The members of a type: `places` has by the number of a name its row plus one, 0 = none. */
type Table = { readonly rows: readonly Row[]; readonly places: Uint16Array }

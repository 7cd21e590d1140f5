import type { ElementSelector, Step } from '../../fhir/element-path.ts'
import type { ElementDefinition, Elements } from '../../fhir/elements.ts'
import type { Tape } from '../../json/tape.ts'
import type { Method } from '../../policy/masking-schema.ts'

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
}

/** A member of an object as the walk meets it. */
export type Member = {
  readonly element: ElementDefinition
  /** `_birthDate`: what stands beside a primitive value. */
  readonly isBeside: boolean
  readonly isPrimitive: boolean
  /** primitive: what becomes of the value. */
  readonly action: Action | undefined
  /** Where the walk goes on; of a primitive, in what stands beside it. */
  readonly next: () => Place
}

/** A value of a type, before its tests are made. */
export type Place = {
  readonly type: string
  readonly tests: readonly Test[]
  /** What holds once it is known which tests do. */
  readonly settle: (holds: readonly boolean[]) => State
  /** Of `Resource`: what the type turns out to be; undefined = no such type. */
  readonly ofType: (type: string) => Place | undefined
  /** All actions that some outcome of the tests leads to. */
  readonly actions: readonly Action[]
}

export type State = {
  readonly type: string
  readonly isExtension: boolean
  readonly isResource: boolean
  readonly action: Action | undefined
  /** The member by the bytes of its name, or undefined: no element of this type. */
  readonly find: (bytes: Uint8Array, start: number, end: number) => Member | undefined
  readonly member: (key: string) => Member | undefined
}

export type Automaton = {
  readonly root: (type: string) => Place | undefined
  readonly structure: Elements['structure']
}

/** A selection followed so far: `at` steps have been met. */
type Position = { readonly selection: number; readonly at: number }

const RANKS = ['date-shift', 'generalise', 'last', 'pseudonym', 'replace', 'redact', 'remove']

/** How much a method takes away. */
export const rankOf = (method: Method): number => RANKS.indexOf(method.kind)

export function buildAutomaton(elements: Elements, selections: readonly Selection[]): Automaton {
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
    const ofTypes = new Map<string, Place>()
    const made: Place = {
      type,
      tests,
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
      action: decide(positions),
      find: (bytes, start, end) => {
        const row = table.find(bytes, start, end)
        return row < 0 ? undefined : members[row]
      },
      member: (name) => members[table.rows.findIndex((row) => row.key === name)],
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
    const action =
      isPrimitive && !isAddress
        ? decide([...followed, ...begun.map((selection) => ({ selection, at: 0 }))])
        : undefined
    let next: Place | undefined
    return {
      ...{ element, isBeside, isPrimitive, action },
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
      if (strictest === undefined || rankOf(last.method) > rankOf(strictest.method))
        strictest = { rule: last.rule, method: last.method }
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
    const table = new Table(rows)
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
    structure: elements.structure,
  }
}

type Row = { readonly key: string; readonly element: ElementDefinition; readonly isBeside: boolean }

/** The members of a type by the bytes of their names: a hash, then all bytes. */
class Table {
  readonly rows: readonly Row[]
  readonly #keys: readonly Buffer[]
  readonly #first: Int16Array
  readonly #next: Int16Array
  readonly #mask: number

  constructor(rows: readonly Row[]) {
    this.rows = rows
    this.#keys = rows.map(({ key }) => Buffer.from(key))
    this.#mask = 2 ** Math.ceil(Math.log2(rows.length * 2 + 2)) - 1
    this.#first = new Int16Array(this.#mask + 1).fill(-1)
    this.#next = new Int16Array(rows.length)
    this.#keys.forEach((key, row) => {
      const hash = hashOf(key, 0, key.length) & this.#mask
      this.#next[row] = this.#first[hash] as number
      this.#first[hash] = row
    })
  }

  find(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start
    if (length === 0) return -1
    let row = this.#first[hashOf(bytes, start, end) & this.#mask] as number
    while (row >= 0) {
      const key = this.#keys[row] as Buffer
      if (key.length === length) {
        let n = 0
        while (n < length && key[n] === bytes[start + n]) n++
        if (n === length) return row
      }
      row = this.#next[row] as number
    }
    return -1
  }
}

function hashOf(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start
  const middle = bytes[start + (length >> 1)] as number
  const [first, last] = [bytes[start] as number, bytes[end - 1] as number]
  return first * 5 + middle * 11 + last * 3 + length * 67
}

import type { ElementDefinition } from '../../fhir/elements.ts'
import { after, endOf, flagsOf, kindOf, KIND, nameOf, startOf, textOf } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { FLAG } from '../../json/token.ts'
import { rankOf } from './automaton.ts'
import type { Action, Automaton, Member, Place, State } from './automaton.ts'
import type { Alteration, AlterationCode } from './alteration.ts'
import { isNamed } from './members.ts'
import { alter, lastOf } from './methods.ts'
import type { MethodContext } from './methods.ts'
import { DATA_ABSENT_EXTENSION, WITHHELD } from './vocabulary.ts'

/** What the walk needs to know of the profiles besides the automaton. */
export type PathRules = {
  readonly automaton: Automaton
  /** Name of `resourceType` on the tape. */
  readonly resourceType: number
  /** Whether an object carries a label that removes it; by which rule. */
  readonly labelled: ((tape: Tape, object: number) => string | undefined) | undefined
  /** What a text that stays comes to when detectors of the profiles find something in it. */
  readonly detect:
    | ((text: string, type: string) => { readonly text: string; readonly rule: string } | undefined)
    | undefined
}

/** What is in no definition may be anything: it goes, and counts under this name. */
const UNKNOWN = 'unknown-element'
const REMOVAL = 6
const REMOVED: readonly AlterationCode[] = ['REDACTED', 'SUBSETTED']
const STUB = `{"extension":[${DATA_ABSENT_EXTENSION}]}`
const DIV = `<div xmlns="http://www.w3.org/1999/xhtml">${WITHHELD}</div>`

/**
 * Follows the rules through one resource and says what is altered; 'whole' when the resource itself
 * is selected. Every member is looked at; the tape must hold nothing but strict JSON.
 */
export function planPaths(
  tape: Tape,
  object: number,
  rules: PathRules,
  methods: MethodContext,
): readonly Alteration[] | 'whole' {
  const { automaton, labelled, detect } = rules
  const found: Alteration[] = []
  const type = textOf(tape, memberOf(tape, object, rules.resourceType)) ?? ''
  const root = automaton.root(type)
  if (root === undefined) return 'whole'
  const state = settle(object, root)
  if (state.action !== undefined || labelled?.(tape, object) !== undefined) return 'whole'
  // Labels and marks need a place to stand.
  const meta = valueNamed(object, 'meta')
  if (meta >= 0 && kindOf(tape, meta) !== KIND.object) return 'whole'
  walkMembers(object, state)
  return found

  function settle(entry: number, { tests, settle: settled }: Place): State {
    return settled(tests.length === 0 ? NONE : tests.map((test) => test(tape, entry)))
  }

  function walkMembers(entry: number, at: State): void {
    const end = after(tape, entry)
    const { bytes } = tape
    for (let key = entry + 1; key < end; key = after(tape, key + 1)) {
      const member =
        (flagsOf(tape, key) & FLAG.escaped) === 0
          ? at.find(bytes, startOf(tape, key) + 1, endOf(tape, key) - 1)
          : at.member(textOf(tape, key) ?? '')
      if (member === undefined) {
        const isType = nameOf(tape, key) === rules.resourceType && at.isResource
        if (!isType || kindOf(tape, key + 1) !== KIND.string) remove(key, entry, -1, UNKNOWN)
      } else if (member.isBeside) walkBeside(key, entry, member, at)
      else if (member.isPrimitive) walkPrimitive(key, entry, member, at)
      else if (at.type === 'Meta' && LABELS.has(member.element.key)) walkLabels(key, entry, member)
      else walkComplex(key, entry, member, at)
    }
  }

  function remove(entry: number, parent: number, holder: number, rule: string): void {
    found.push({ entry, text: undefined, parent, holder, rule, codes: REMOVED, rank: REMOVAL })
  }

  function put(
    entry: number,
    text: string,
    action: Action,
    codes: readonly AlterationCode[],
  ): void {
    const rank = rankOf(action.method)
    found.push({ entry, text, parent: -1, holder: -1, rule: action.rule, codes, rank })
  }

  /** `_birthDate`: goes with its value, which it may render in full; else it is an element itself. */
  function walkBeside(key: number, parent: number, member: Member, at: State): void {
    const { action, element } = member
    if (action !== undefined) {
      const hasValue = hasMember(parent, element.key)
      const isLost = !hasValue && mustStay(element, at)
      if (isLost) put(key, `"_${element.key}":${STUB}`, action, ['MASKED'])
      else remove(key, parent, -1, action.rule)
      return
    }
    const value = key + 1
    const place = member.next()
    if (kindOf(tape, value) === KIND.object) walkObject(value, parent, -1, key, place, false)
    else if (kindOf(tape, value) !== KIND.array) remove(key, parent, -1, UNKNOWN)
    else {
      for (let one = value + 1; one < after(tape, value); one = after(tape, one)) {
        // Elements stand beside those of the value, so that none of them can go.
        if (kindOf(tape, one) === KIND.object) walkMembers(one, settle(one, place))
        else if (!isNull(one)) put(one, 'null', { rule: UNKNOWN, method: REMOVE }, REMOVED)
      }
    }
  }

  function walkPrimitive(key: number, parent: number, member: Member, at: State): void {
    const { element, action } = member
    const value = key + 1
    const isList = kindOf(tape, value) === KIND.array
    let isSound = true
    for (let one = isList ? value + 1 : value; one < after(tape, value); one = after(tape, one)) {
      if (!isSoundPrimitive(one, element.type) && !(isList && isNull(one))) isSound = false
      else if (action === undefined && detect !== undefined) detectIn(one, element)
    }
    if (!isSound) {
      const rule = action?.rule ?? UNKNOWN
      if (mustStay(element, at)) redact(key, element, { rule, method: REMOVE })
      else remove(key, parent, -1, rule)
    } else if (action !== undefined) alterPrimitive(key, parent, member, action, at)
  }

  /** Whether a value is of the JSON kind that its type has. */
  function isSoundPrimitive(entry: number, type: string): boolean {
    const kind = kindOf(tape, entry)
    if (type === 'boolean') return kind === KIND.literal && !isNull(entry)
    if (NUMBERS.has(type)) return kind === KIND.number
    return kind === KIND.string
  }

  function detectIn(entry: number, { type }: ElementDefinition): void {
    if (!TEXTS.has(type)) return
    const made = detect?.(textOf(tape, entry) ?? '', type)
    if (made === undefined) return
    const action: Action = { rule: made.rule, method: { kind: 'last', count: 4 } }
    put(entry, JSON.stringify(made.text), action, ['MASKED'])
  }

  function alterPrimitive(
    key: number,
    parent: number,
    { element }: Member,
    action: Action,
    at: State,
  ): void {
    const { method, rule } = action
    const { type } = element
    const value = key + 1
    if (method.kind === 'remove' || isAttribute(element, at)) {
      if (mustStay(element, at) && !isAttribute(element, at)) redact(key, element, action)
      else if (method.kind === 'pseudonym') alterValues()
      else remove(key, parent, -1, rule)
    } else if (method.kind === 'redact') redact(key, element, action)
    else if (method.kind === 'last') {
      const rendered =
        kindOf(tape, value) === KIND.array
          ? undefined
          : lastOf(textOf(tape, value) ?? '', method.count)
      redact(key, element, action, rendered)
    } else alterValues()

    function alterValues(): void {
      const altered: {
        readonly entry: number
        readonly text: string
        readonly code: AlterationCode
      }[] = []
      const isList = kindOf(tape, value) === KIND.array
      for (let one = isList ? value + 1 : value; one < after(tape, value); one = after(tape, one)) {
        const text = textOf(tape, one)
        if (text === undefined && isNull(one)) continue
        const made = text === undefined ? undefined : alter(method, text, type, methods)
        if (made === undefined) {
          redact(key, element, action)
          return
        }
        if (made.text !== text)
          altered.push({ entry: one, text: JSON.stringify(made.text), code: made.code })
      }
      for (const { entry, text, code } of altered) put(entry, text, action, [code])
    }
  }

  /** A value that may not be shown, where something must stand: says that it is masked. */
  function redact(
    key: number,
    element: ElementDefinition,
    action: Action,
    rendered?: string,
  ): void {
    if (element.type === 'xhtml') {
      put(key + 1, JSON.stringify(DIV), action, ['MASKED'])
      return
    }
    const extensions = [DATA_ABSENT_EXTENSION]
    if (rendered !== undefined) {
      extensions.push(
        `{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":${JSON.stringify(rendered)}}`,
      )
    }
    const one = `{"extension":[${extensions.join()}]}`
    const text = `"_${element.key}":${element.isArray ? `[${one}]` : one}`
    put(key, text, action, rendered === undefined ? ['MASKED'] : ['MASKED', 'ABSTRED'])
  }

  /** LABEL-6: labels stay, whatever the rules say; nothing but codes stands in them. */
  function walkLabels(key: number, parent: number, member: Member): void {
    const list = key + 1
    if (kindOf(tape, list) !== KIND.array) {
      remove(key, parent, -1, UNKNOWN)
      return
    }
    for (let one = list + 1; one < after(tape, list); one = after(tape, one)) {
      if (kindOf(tape, one) !== KIND.object) {
        put(one, STUB, { rule: UNKNOWN, method: REMOVE }, REMOVED)
        continue
      }
      const before = found.length
      walkMembers(one, settle(one, member.next()))
      const kept = found.splice(before).filter(({ entry }) => !isCode(entry))
      found.push(...kept)
    }
  }

  /** Whether an entry is the system or code of a label, or its key. */
  function isCode(entry: number): boolean {
    const key = kindOf(tape, entry) === KIND.key ? entry : entry - 1
    const name = kindOf(tape, key) === KIND.key ? (textOf(tape, key) ?? '') : ''
    return CODES.has(name) && kindOf(tape, key + 1) === KIND.string
  }

  function walkComplex(key: number, parent: number, member: Member, around: State): void {
    const { element } = member
    const value = key + 1
    if (kindOf(tape, value) !== KIND.array) {
      walkObject(value, parent, -1, key, member.next(), mustStay(element, around))
      return
    }
    for (let one = value + 1; one < after(tape, value); one = after(tape, one)) {
      walkObject(one, value, parent, one, member.next(), mustStay(element, around))
    }
  }

  /** One complex value: `gone` is the entry that goes when it is removed. */
  function walkObject(
    value: number,
    parent: number,
    holder: number,
    gone: number,
    place: Place,
    stays: boolean,
  ): void {
    const isObject = kindOf(tape, value) === KIND.object
    const actual = isObject && place.type === 'Resource' ? resourceAt(value, place) : place
    // A resource has no place for saying that it is masked.
    const isResource = place.type === 'Resource'
    if (!isObject || actual === undefined) {
      lose({ rule: UNKNOWN, method: REMOVE }, place.type)
      return
    }
    const at = settle(value, actual)
    const label = labelled?.(tape, value)
    const action: Action | undefined =
      label === undefined ? at.action : { rule: label, method: REMOVE }
    if (action === undefined) walkMembers(value, at)
    else if (action.method.kind === 'generalise' && action.method.to === 'age-90')
      alterAge(value, action, at)
    else lose(action, at.type)

    function lose(by: Action, type: string): void {
      const goes = isResource || (by.method.kind === 'remove' && !stays)
      if (goes) remove(gone, parent, holder, by.rule)
      else put(value, stubOf(type), by, ['MASKED'])
    }
  }

  /** An age above 89 says no more than that: `>= 90`, in years. */
  function alterAge(value: number, action: Action, at: State): void {
    const entry = valueNamed(value, 'value')
    const number = Number(rawOf(entry))
    const unit =
      textOf(tape, valueNamed(value, 'code')) ?? textOf(tape, valueNamed(value, 'unit')) ?? 'a'
    const perYear = PER_YEAR.get(unit.toLowerCase())
    if (entry < 0 || number / (perYear ?? 1) < 90) {
      walkMembers(value, at)
      return
    }
    // "Less than 95", or 95 of what nobody knows, is not "90 or more".
    const comparator = textOf(tape, valueNamed(value, 'comparator')) ?? '>'
    const isOld = perYear !== undefined && Number.isFinite(number) && comparator.startsWith('>')
    if (isOld) put(value, OLD, action, ['ABSTRED'])
    else put(value, stubOf(at.type), action, ['MASKED'])
  }

  function resourceAt(value: number, place: Place): Place | undefined {
    const type = textOf(tape, memberOf(tape, value, rules.resourceType))
    return type === undefined ? undefined : place.ofType(type)
  }

  /** The least that is valid of a type: what must be there says that it is masked. */
  function stubOf(type: string, depth = 0): string {
    const members = [`"extension":[${DATA_ABSENT_EXTENSION}]`]
    const met = new Set<string>()
    const elements = [...(automaton.structure(type)?.elements.values() ?? [])]
    for (const { name, key, type: own, min, isArray } of elements) {
      if (min === 0 || met.has(name) || depth > 8) continue
      met.add(name)
      const isSimple = /^[a-z]/.test(own)
      if (own === 'xhtml') members.push(`"${key}":${JSON.stringify(DIV)}`)
      else {
        const one = isSimple ? STUB : stubOf(own, depth + 1)
        members.push(`"${isSimple ? '_' : ''}${key}":${isArray ? `[${one}]` : one}`)
      }
    }
    return `{${members.join()}}`
  }

  function hasMember(object: number, name: string): boolean {
    return valueNamed(object, name) >= 0
  }

  function valueNamed(object: number, name: string): number {
    for (let key = object + 1; key < after(tape, object); key = after(tape, key + 1)) {
      if (isNamed(tape, key, name)) return key + 1
    }
    return -1
  }

  function rawOf(entry: number): string {
    return entry < 0 ? 'x' : tape.bytes.toString('latin1', startOf(tape, entry), endOf(tape, entry))
  }

  function isNull(entry: number): boolean {
    return kindOf(tape, entry) === KIND.literal && tape.bytes[startOf(tape, entry)] === 0x6e
  }
}

/** What never goes of `meta`, and of what is in it. */
const LABELS: ReadonlySet<string> = new Set(['security', 'tag'])
const CODES: ReadonlySet<string> = new Set(['system', 'code', 'version'])
const NONE: readonly boolean[] = []
const REMOVE = { kind: 'remove' } as const
const NUMBERS: ReadonlySet<string> = new Set(['integer', 'decimal', 'unsignedInt', 'positiveInt'])
/** Types whose content anyone may have written. */
const TEXTS: ReadonlySet<string> = new Set(['string', 'markdown', 'xhtml'])
const OLD =
  '{"value":90,"comparator":">=","unit":"years","system":"http://unitsofmeasure.org","code":"a"}'
const PER_YEAR: ReadonlyMap<string, number> = new Map([
  ...['a', 'y', 'yr', 'yrs', 'year', 'years'].map((unit) => [unit, 1] as const),
  ...['mo', 'mos', 'month', 'months'].map((unit) => [unit, 12] as const),
  ...['wk', 'wks', 'week', 'weeks'].map((unit) => [unit, 52.1775] as const),
  ...['d', 'day', 'days'].map((unit) => [unit, 365.25] as const),
  ...['h', 'hr', 'hour', 'hours'].map((unit) => [unit, 8766] as const),
  ...['min', 'minute', 'minutes'].map((unit) => [unit, 525_960] as const),
])

/** Ids of elements and addresses of extensions are attributes, beside which nothing can stand. */
function isAttribute({ key, type }: ElementDefinition, at: State): boolean {
  return (
    (key === 'id' && type !== 'id') ||
    (key === 'id' && at.isResource) ||
    (key === 'url' && at.isExtension)
  )
}

/** The value of an extension, without which it is none. */
const isValue = ({ name, isChoice }: ElementDefinition): boolean => isChoice && name === 'value'

function mustStay(element: ElementDefinition, at: State): boolean {
  return element.min > 0 || (at.isExtension && isValue(element))
}

function memberOf(tape: Tape, object: number, name: number): number {
  if (kindOf(tape, object) !== KIND.object) return -1
  for (let key = object + 1; key < after(tape, object); key = after(tape, key + 1)) {
    if (nameOf(tape, key) === name) return key + 1
  }
  return -1
}

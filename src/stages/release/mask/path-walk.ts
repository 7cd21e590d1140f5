import { WITHHELD_DIV } from '../../../fhir/withheld.ts'
import type { ElementDefinition } from '../../../fhir/elements.ts'
import { after, kindOf, KIND, member, nameOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { rankOf } from './automaton.ts'
import type { Action, Automaton, Member, Place, State } from './automaton.ts'
import { CODE } from './codes.ts'
import type { Alteration } from './alteration.ts'
import { atHome, CONTAINED } from './pseudonyms.ts'
import { lastOf, make } from './methods.ts'
import { SAME } from './method-context.ts'
import type { MethodContext } from './method-context.ts'
import type { Recipe } from './methods.ts'
import { FORMS } from './forms.ts'
import { OLD } from './ages.ts'
import { withoutCards } from './number-members.ts'
import { isNamed } from './members.ts'
import type { Recording } from './precedents.ts'
import { isCardless, isFragment, isNull, isWordy } from './questions.ts'
import type { Answer, Detect, Question, Questions } from './questions.ts'
import { buildStub, hiddenValue, STUB } from './stub.ts'
import type { Vocabulary } from '../vocabulary.ts'

/** What the walk needs to know of the profiles besides the automaton. */
export type PathRules = {
  readonly automaton: Automaton
  /** Numbers of names on the tape. */
  readonly at: Vocabulary['at']
  /** Whether an object carries a label that removes it; by which rule. */
  readonly labelled: Question<string | undefined> | undefined
  /** What a text that stays comes to when detectors of the profiles find something in it. */
  readonly detect: Detect | undefined
  readonly questions: Questions
}

/** One walk through one resource. */
type Walk = {
  readonly tape: Tape
  readonly rules: PathRules
  readonly methods: MethodContext
  readonly isContained: boolean
  readonly found: Alteration[]
  readonly record: Recording | undefined
}

/** Nothing but this looks at what a value says: what follows is the same where the answers are. */
function ask<A extends Answer>({ tape, record }: Walk, question: Question<A>, entry: number): A {
  const answer = question(tape, entry)
  record?.ask(question, entry, answer)
  return answer
}

/** What is in no definition may be anything: it goes, and counts under this name. */
const UNKNOWN = 'unknown-element'
const REMOVAL = 6
const REMOVED = CODE.REDACTED | CODE.SUBSETTED

/**
 * Follows the rules through one resource and says what is altered; 'whole' when the resource itself
 * is selected. Every member is looked at; the tape must hold nothing but strict JSON.
 */
export function planPaths(
  tape: Tape,
  object: number,
  rules: PathRules,
  methods: MethodContext,
  record?: Recording,
): readonly Alteration[] | 'whole' {
  const { automaton, labelled, at: words } = rules
  const walk: Walk = { tape, rules, methods, isContained: false, found: [], record }
  const type = ask(walk, rules.questions.typeOf, member(tape, object, words.resourceType))
  const root = automaton.root(type)
  if (root === undefined) return 'whole'
  const state = settle(walk, object, root)
  if (state.action !== undefined) return 'whole'
  if (labelled !== undefined && ask(walk, labelled, object) !== undefined) return 'whole'
  // Labels and marks need a place to stand.
  const meta = member(tape, object, words.meta)
  if (meta >= 0 && kindOf(tape, meta) !== KIND.object) return 'whole'
  walkMembers(walk, object, state)
  return walk.found
}

function settle(walk: Walk, entry: number, place: Place): State {
  const { tests } = place
  return tests.length === 0
    ? place.plain()
    : place.settle(tests.map((test) => ask(walk, test, entry)))
}

function walkMembers(walk: Walk, entry: number, at: State): void {
  const {
    tape,
    rules: { at: words },
  } = walk
  const end = after(tape, entry)
  for (let key = entry + 1; key < end; key = after(tape, key + 1)) {
    const name = nameOf(tape, key)
    const child = at.member(name)
    if (child === undefined) {
      const isType = name === words.resourceType && at.isResource
      if (!isType || kindOf(tape, key + 1) !== KIND.string) remove(walk, key, entry, -1, UNKNOWN)
    } else if (child.isBeside) walkBeside(walk, key, entry, child, at)
    else if (child.isPrimitive) walkPrimitive(walk, key, entry, child, at)
    else if (at.isMeta && (name === words.security || name === words.tag))
      walkLabels(walk, key, entry, child)
    else walkComplex(walk, key, entry, child, at)
  }
}

function remove(walk: Walk, entry: number, parent: number, holder: number, rule: string): void {
  const { found } = walk
  found.push({ entry, text: undefined, parent, holder, rule, codes: REMOVED, rank: REMOVAL })
}

function put(
  walk: Walk,
  entry: number,
  text: string,
  action: Action,
  codes: number,
  recipe?: Recipe,
): void {
  const { found } = walk
  const { rule, rank } = action
  found.push({ entry, text, parent: -1, holder: -1, rule, codes, rank, recipe })
}

/** `_birthDate`: goes with its value, which it may render in full; else it is an element itself. */
function walkBeside(walk: Walk, key: number, parent: number, around: Member, at: State): void {
  const { tape } = walk
  const { action, element, name } = around
  if (action !== undefined) {
    const hasValue = member(tape, parent, name) >= 0
    const isLost = !hasValue && mustStay(element, at)
    if (isLost) put(walk, key, `"_${element.key}":${STUB}`, action, CODE.MASKED)
    else remove(walk, key, parent, -1, action.rule)
    return
  }
  const value = key + 1
  const place = around.next()
  if (kindOf(tape, value) === KIND.object) walkObject(walk, value, parent, -1, key, place, false)
  else if (kindOf(tape, value) !== KIND.array) remove(walk, key, parent, -1, UNKNOWN)
  else {
    for (let one = value + 1; one < after(tape, value); one = after(tape, one)) {
      // Elements stand beside those of the value, so that none of them can go.
      if (kindOf(tape, one) === KIND.object) walkMembers(walk, one, settle(walk, one, place))
      else if (!ask(walk, isNull, one)) put(walk, one, 'null', LOST, REMOVED)
    }
  }
}

function walkPrimitive(walk: Walk, key: number, parent: number, around: Member, at: State): void {
  const {
    tape,
    rules: { detect },
  } = walk
  const { element, action } = around
  const value = key + 1
  const isList = kindOf(tape, value) === KIND.array
  // A list where one value belongs could hold one for the rules and another for the reader.
  let areSound = !isList || element.isArray
  let hasWords = false
  for (let one = isList ? value + 1 : value; one < after(tape, value); one = after(tape, one)) {
    if (!isSound(walk, one, around)) areSound &&= isList && ask(walk, isNull, one)
    else if (action !== undefined) continue
    else if (element.type === 'canonical') renameFragment(walk, one)
    else if (element.type === 'code') {
      if ((detect === undefined && around.ofText === undefined) || !ask(walk, isWordy, one))
        continue
      if (around.ofText !== undefined) hasWords = true
      else if (detect !== undefined) detectIn(walk, one)
    } else if (around.ofText !== undefined) hasWords ||= !hasForm(walk, one, element)
    else if (around.isText && detect !== undefined) detectIn(walk, one)
  }
  if (!areSound) {
    const rule = action?.rule ?? UNKNOWN
    if (mustStay(element, at)) {
      redact(walk, key, element, { rule, method: REMOVE, rank: REMOVAL })
      removeBeside(walk, parent, element)
    } else remove(walk, key, parent, -1, rule)
    return
  }
  const made = hasWords ? around.ofText : action
  if (made === undefined && detect !== undefined && around.kind === KIND.number)
    detectCards(walk, key)
  if (made !== undefined) alterPrimitive(walk, key, parent, around, made, at)
}

/** Whether a text is written as its type has it: else it is one that somebody wrote. */
function hasForm(walk: Walk, entry: number, { type }: ElementDefinition): boolean {
  const form = FORMS.get(type)
  return form === undefined || ask(walk, form, entry)
}

/** What says that a value is masked stands where `_birthDate` did: two of the name are one too many. */
function removeBeside(walk: Walk, parent: number, { key }: ElementDefinition): void {
  const { tape } = walk
  walk.record?.giveUp()
  for (let one = parent + 1; one < after(tape, parent); one = after(tape, one + 1)) {
    if (isNamed(tape, one, `_${key}`)) remove(walk, one, parent, -1, UNKNOWN)
  }
}

/** Whether a value is of the JSON kind that its type has. */
function isSound(walk: Walk, entry: number, { kind }: Member): boolean {
  return kindOf(walk.tape, entry) === kind && (kind !== KIND.literal || !ask(walk, isNull, entry))
}

/** `#x` leads to what is contained, by whatever has become of its id. */
function renameFragment(walk: Walk, entry: number): void {
  const { rules } = walk
  if (!ask(walk, isFragment, entry)) return
  const action = rules.automaton.root('Basic')?.plain().member(rules.at.id)?.action
  if (action === undefined) return
  if (action.method.kind !== 'pseudonym') put(walk, entry, '"#"', action, CODE.PSEUDED)
  else putMade(walk, entry, action, { method: action.method, type: 'canonical', idOf: undefined })
}

function detectIn(walk: Walk, entry: number): void {
  const { tape, rules, record } = walk
  if (ask(walk, rules.questions.isClean, entry)) return
  const made = rules.detect?.(textOf(tape, entry) ?? '')
  if (made === undefined) return
  record?.giveUp()
  const action: Action = { rule: made.rule, method: LAST, rank: rankOf(LAST) }
  put(walk, entry, JSON.stringify(made.text), action, CODE.MASKED)
}

/** What stands beside goes by the baseline, which finds the same. */
function detectCards(walk: Walk, key: number): void {
  const { tape, rules, record } = walk
  if (ask(walk, isCardless, key)) return
  record?.giveUp()
  let rule = ''
  const text = withoutCards(tape, key, (card) => {
    const made = rules.detect?.(card)
    rule = made?.rule ?? rule
    return made?.text ?? ''
  })
  if (text === undefined || rule === '') return
  put(walk, key, text, { rule, method: LAST, rank: rankOf(LAST) }, CODE.MASKED)
}

function alterPrimitive(
  walk: Walk,
  key: number,
  parent: number,
  { element }: Member,
  action: Action,
  at: State,
): void {
  const { tape } = walk
  const { method, rule } = action
  const value = key + 1
  if (method.kind === 'remove' || isAttribute(element, at)) {
    if (mustStay(element, at) && !isAttribute(element, at)) redact(walk, key, element, action)
    else if (method.kind === 'pseudonym') alterValues(walk, key, element, action, at)
    else remove(walk, key, parent, -1, rule)
  } else if (method.kind === 'redact') redact(walk, key, element, action)
  else if (method.kind === 'last') {
    walk.record?.giveUp()
    const isList = kindOf(tape, value) === KIND.array
    const rendered = isList ? undefined : lastOf(textOf(tape, value) ?? '', method.count)
    redact(walk, key, element, action, rendered)
  } else if (method.kind === 'generalise' && method.to === 'zip3' && !hasZip(walk, parent))
    redact(walk, key, element, action)
  else alterValues(walk, key, element, action, at)
}

function alterValues(
  walk: Walk,
  key: number,
  element: ElementDefinition,
  action: Action,
  at: State,
): void {
  const { tape, found } = walk
  const value = key + 1
  const before = found.length
  const isList = kindOf(tape, value) === KIND.array
  const recipe = { method: action.method, type: element.type, idOf: idKind(walk, element, at) }
  for (let one = isList ? value + 1 : value; one < after(tape, value); one = after(tape, one)) {
    if (kindOf(tape, one) !== KIND.string && ask(walk, isNull, one)) continue
    if (putMade(walk, one, action, recipe)) continue
    found.length = before
    redact(walk, key, element, action)
    return
  }
}

/** Puts in place of a simple value what a method makes of it; false = it cannot be shown at all. */
function putMade(walk: Walk, entry: number, action: Action, recipe: Recipe): boolean {
  const { tape, methods, record } = walk
  const made = make(tape, entry, recipe, methods)
  record?.make(recipe, entry, made)
  if (made !== undefined && made !== SAME) put(walk, entry, made.text, action, made.code, recipe)
  return made !== undefined
}

/** What a bare id is one of; undefined = it is none. */
function idKind(walk: Walk, { key }: ElementDefinition, at: State): string | undefined {
  if (key === 'id' && at.isResource) return walk.isContained ? CONTAINED : at.type
  return key === 'versionId' && at.isMeta ? 'Meta' : undefined
}

/** ZIP codes are those of the United States; three digits may be all of a code elsewhere. */
const hasZip = (walk: Walk, address: number): boolean =>
  ask(walk, walk.rules.questions.hasZip, address)

/** A value that may not be shown, where something must stand: says that it is masked. */
function redact(
  walk: Walk,
  key: number,
  element: ElementDefinition,
  action: Action,
  rendered?: string,
): void {
  if (element.type === 'xhtml') {
    put(walk, key + 1, JSON.stringify(WITHHELD_DIV), action, CODE.MASKED)
    return
  }
  const one = hiddenValue(rendered)
  const text = `"_${element.key}":${element.isArray ? `[${one}]` : one}`
  put(walk, key, text, action, rendered === undefined ? CODE.MASKED : CODE.MASKED | CODE.ABSTRED)
}

/** LABEL-6: labels stay, whatever the rules say; nothing but codes stands in them. */
function walkLabels(walk: Walk, key: number, parent: number, around: Member): void {
  const { tape, found } = walk
  const list = key + 1
  if (kindOf(tape, list) !== KIND.array) {
    remove(walk, key, parent, -1, UNKNOWN)
    return
  }
  for (let one = list + 1; one < after(tape, list); one = after(tape, one)) {
    if (kindOf(tape, one) !== KIND.object) {
      put(walk, one, STUB, LOST, REMOVED)
      continue
    }
    const before = found.length
    walkMembers(walk, one, settle(walk, one, around.next()))
    for (const made of found.splice(before)) if (!isCode(walk, made.entry)) found.push(made)
  }
}

/** Whether an entry is the system or code of a label, or its key. */
function isCode(walk: Walk, entry: number): boolean {
  const {
    tape,
    rules: { at: words },
  } = walk
  const key = kindOf(tape, entry) === KIND.key ? entry : entry - 1
  const name = kindOf(tape, key) === KIND.key ? nameOf(tape, key) : -1
  const isOf = name === words.system || name === words.code || name === words.version
  return isOf && kindOf(tape, key + 1) === KIND.string
}

function walkComplex(
  outer: Walk,
  key: number,
  parent: number,
  { element, next }: Member,
  at: State,
): void {
  const { tape } = outer
  const isContained = element.name === 'contained'
  const walk = element.type === 'Resource' ? { ...outer, isContained } : outer
  const value = key + 1
  if (kindOf(tape, value) !== KIND.array) {
    walkObject(walk, value, parent, -1, key, next(), mustStay(element, at))
    return
  }
  for (let one = value + 1; one < after(tape, value); one = after(tape, one)) {
    walkObject(walk, one, value, parent, one, next(), mustStay(element, at))
  }
}

/** One complex value: `gone` is the entry that goes when it is removed. */
function walkObject(
  walk: Walk,
  value: number,
  parent: number,
  holder: number,
  gone: number,
  place: Place,
  stays: boolean,
): void {
  const {
    tape,
    rules: { labelled },
  } = walk
  const isObject = kindOf(tape, value) === KIND.object
  const actual = isObject && place.type === 'Resource' ? resourceAt(walk, value, place) : place
  // A resource has no place for saying that it is masked.
  const isResource = place.type === 'Resource'
  if (!isObject || actual === undefined) {
    if (isResource || !stays) remove(walk, gone, parent, holder, UNKNOWN)
    else put(walk, value, stubOf(walk, place.type), LOST, CODE.MASKED)
    return
  }
  const at = settle(walk, value, actual)
  const label = labelled === undefined ? undefined : ask(walk, labelled, value)
  const action: Action | undefined =
    label === undefined ? at.action : { rule: label, method: REMOVE, rank: REMOVAL }
  if (action === undefined)
    walkMembers(at.type === 'Bundle.entry' ? atEntry(walk, value) : walk, value, at)
  else if (action.method.kind === 'generalise') alterAge(walk, value, action, at)
  else if (isResource || (action.method.kind === 'remove' && !stays))
    remove(walk, gone, parent, holder, action.rule)
  else put(walk, value, stubOf(walk, at.type), action, CODE.MASKED)
}

/** A Bundle may come from elsewhere: what is relative in an entry is so to where that is from. */
function atEntry(walk: Walk, entry: number): Walk {
  const { tape, rules, methods, record } = walk
  record?.giveUp()
  const fullUrl = textOf(tape, member(tape, entry, rules.at.fullUrl)) ?? ''
  return { ...walk, methods: atHome(fullUrl, methods) }
}

/** An age above 89 says no more than that: `>= 90`, in years; a range that has one says nothing. */
function alterAge(walk: Walk, value: number, action: Action, at: State): void {
  const { ages } = walk.rules.questions
  const { method } = action
  const isSpan = method.kind === 'generalise' && method.to === 'span-90'
  const question = !isSpan ? ages.age : at.type === 'Range' ? ages.spans : ages.span
  const age = ask(walk, question, value)
  if (age === 'young') walkMembers(walk, value, at)
  else if (age === 'old') put(walk, value, OLD, action, CODE.ABSTRED)
  else put(walk, value, stubOf(walk, at.type), action, CODE.MASKED)
}

function resourceAt(walk: Walk, value: number, place: Place): Place | undefined {
  const { tape, rules } = walk
  const type = member(tape, value, rules.at.resourceType)
  return type < 0 ? undefined : place.ofType(ask(walk, rules.questions.typeOf, type))
}

/** The least that is valid of a type: what must be there says that it is masked. */
function stubOf({ rules: { automaton } }: Walk, type: string): string {
  const known = automaton.stubs.get(type) ?? buildStub(automaton.structure, type)
  automaton.stubs.set(type, known)
  return known
}

const REMOVE = { kind: 'remove' } as const
const LOST: Action = { rule: UNKNOWN, method: REMOVE, rank: REMOVAL }
const LAST = { kind: 'last', count: 4 } as const
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

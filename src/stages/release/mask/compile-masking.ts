import { checkSelector } from '../../../fhir/element-path.ts'
import type { ElementSelector, Filter } from '../../../fhir/element-path.ts'
import type { ElementPath } from '../../../fhir/definitions.ts'
import type { Elements } from '../../../fhir/elements.ts'
import {
  after,
  elements as listOf,
  membersOf,
  kindOf,
  KIND,
  member,
  nameOf,
  textOf,
  valuesAt,
} from '../../../json/tape.ts'
import type { Names } from '../../../json/names.ts'
import type { Tape } from '../../../json/tape.ts'
import type { DetectorName, Method } from '../../../policy/masking-schema.ts'
import { BASELINE } from '../../../policy/load-masking.ts'
import type { MaskingProfile, MaskingRule } from '../../../policy/load-masking.ts'
import type { Alteration } from './alteration.ts'
import { buildAutomaton, rankOf } from './automaton.ts'
import type { Place, Selection, Test } from './automaton.ts'
import { createLabelling } from './labelling.ts'
import { IDENTIFIER_TYPE_SYSTEMS, matchIdentifiers } from '../identifiers.ts'
import type { MethodContext } from './method-context.ts'
import { createFinder } from './detect/finder.ts'
import { planPaths } from './path-walk.ts'
import type { PathRules } from './path-walk.ts'
import { Precedents } from './precedents.ts'
import type { Recording } from './precedents.ts'
import { buildQuestions } from './questions.ts'
import { shownOf } from './detect/shown.ts'
import { CONFIDENTIALITIES, systemOf } from '../vocabulary.ts'
import type { Vocabulary } from '../vocabulary.ts'
import { membersNamed } from './members.ts'

/** Profiles made ready: what they do to a resource, and which elements they touch. */
export type Masking = {
  /** Their names, `baseline` always among them. */
  readonly names: ReadonlySet<string>
  /** What they alter besides the baseline; 'whole': the resource itself may not be seen. */
  readonly plan: (
    tape: Tape,
    object: number,
    context: MethodContext,
    record?: Recording,
  ) => readonly Alteration[] | 'whole'
  /** How resources of a structure were masked, where that is by more than the baseline. */
  readonly precedents: Precedents | undefined
  /**
   * Whether something at, above or below the element may be altered: a search that looks at it would
   * tell what is masked. Choices are written as JSON has them (`valueQuantity`).
   */
  readonly touches: (type: string, path: ElementPath) => boolean
  /** What of a resource of the type may not show outside it either. */
  readonly hidden: (type: string) => Hidden
  /** Sensitivity codes that the codes of a resource stand for (LABEL-9). */
  readonly labelsOf: ((tape: Tape, object: number) => readonly string[]) | undefined
}

/** What may not show of a resource outside it: in headers, and beside it in a Bundle. */
export type Hidden = { readonly id: boolean; readonly version: boolean; readonly time: boolean }

export const NOTHING_HIDDEN: Hidden = { id: false, version: false, time: false }

const RENDERED = 'http://hl7.org/fhir/StructureDefinition/rendered-value'
const INLINE_LABEL =
  'http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label'

/** Compiles a set of profiles, of which `serial` is a number of its own. Pure; the result lasts as long as the profiles do. */
export function compileMasking(
  profiles: readonly MaskingProfile[],
  elements: Elements,
  words: Vocabulary,
  serial = 1,
): Masking {
  const beyond = profiles.filter(({ name }) => name !== BASELINE)
  const names = new Set([BASELINE, ...profiles.map(({ name }) => name)])
  const labelsOf = createLabelling(
    beyond.flatMap(({ categories }) => categories),
    words,
  )
  // Labels alone change nothing within a resource.
  if (beyond.every(({ rules }) => rules.length === 0)) {
    return {
      ...{ names, plan: () => [], precedents: undefined, touches: () => false },
      ...{ hidden: () => NOTHING_HIDDEN, labelsOf },
    }
  }
  const tests = new Map<string, Test>()
  const selections = beyond.flatMap((profile, at) =>
    profile.rules.flatMap((rule) => selectionsOf(rule, at, profile.name)),
  )
  const automaton = buildAutomaton(elements, selections, words.names)
  const touched = new Map<string, boolean>()
  const hiddenByType = new Map<string, Hidden>()
  const detect = compileDetectors(profiles)
  const rules: PathRules = {
    ...{ automaton, at: words.at, labelled: compileLabels(beyond), detect },
    questions: buildQuestions(words, automaton.ends, detect, serial),
  }
  return {
    names,
    plan: (tape, object, context, record) => planPaths(tape, object, rules, context, record),
    precedents: new Precedents(),
    touches,
    hidden: hiddenOf,
    labelsOf,
  }

  function hiddenOf(type: string): Hidden {
    let found = hiddenByType.get(type)
    if (found === undefined) {
      const id = touches(type, ['id'])
      const version = touches(type, ['meta', 'versionId'])
      found = { id, version, time: touches(type, ['meta', 'lastUpdated']) }
      hiddenByType.set(type, found)
    }
    return found
  }

  function testOf(filter: Filter, isKept = false): Test {
    // What is asked twice is asked once, and cannot hold for one rule and not for another; but for the
    // address of an extension, of which less is kept than removed.
    const asked = JSON.stringify([
      filter,
      isKept && filter.some(({ path }) => path.at(-1) === 'url'),
    ])
    const test = tests.get(asked) ?? compileTest(filter, words.names, isKept)
    tests.set(asked, test)
    return test
  }

  function selectionsOf(rule: MaskingRule, profile: number, name: string): Selection[] {
    const base = { profile, rule: `${name}/${rule.id}` }
    const { select = [], identifiers, method } = rule
    const found = select
      // A path of another version of FHIR selects nothing here.
      .filter((selector) => checkSelector(selector, elements) === undefined)
      .map((path): Selection => {
        const selector = reroot(path, elements)
        const filters = [selector.filters, ...selector.steps.map((step) => step.filters)]
        const isKept = method.kind === 'keep'
        const tests = filters.map((all) => all.map((one) => testOf(one, isKept)))
        return { ...base, selector, method, tests }
      })
    if (identifiers === undefined) return found
    const test = identifierTest(matchIdentifiers(identifiers))
    const of = (steps: ElementSelector['steps'], own: Method, more: Test[] = []): Selection => ({
      ...{ ...base, method: own, tests: [[test], more] },
      selector: { text: rule.id, root: 'Identifier', filters: [], steps },
    })
    if (method.kind === 'remove' || method.kind === 'keep') return [...found, of([], method)]
    const value = { name: 'value', as: undefined, filters: [] }
    const beside = { name: 'extension', as: undefined, filters: [] }
    // Some servers say beside the value what it is (MASK-2).
    return [
      ...found,
      of([value], method),
      of([beside], { kind: 'remove' }, [testOf([{ path: ['url'], equals: RENDERED }])]),
    ]
  }

  function identifierTest(match: ReturnType<typeof matchIdentifiers>): Test {
    const { at, typeCoding } = words
    return (tape, object) => {
      const isOne = (fits: (text: string) => boolean, value: number): boolean =>
        value >= 0 && hasText(tape, value, [], 0, fits)
      if (isOne(match.system, member(tape, object, at.system))) return true
      const type = member(tape, object, at.type)
      for (const one of listOf(tape, type))
        if (isOne(match.words, member(tape, one, at.text))) return true
      for (const coding of valuesAt(tape, object, typeCoding)) {
        const system = systemOf(textOf(tape, member(tape, coding, at.system)))
        if (isOne(match.words, member(tape, coding, at.display))) return true
        if (system !== '' && !IDENTIFIER_TYPE_SYSTEMS.has(system)) continue
        if (
          isOne(
            (text) => match.type(text) || match.type(text.toUpperCase()),
            member(tape, coding, at.code),
          )
        )
          return true
      }
      return false
    }
  }

  /** Resources and elements that carry one of the labels; R means R and above. */
  function compileLabels(all: readonly MaskingProfile[]): PathRules['labelled'] {
    const rules = all.flatMap(({ name, rules: own }) =>
      own.flatMap(({ id, labels }) => {
        if (labels === undefined) return []
        const ranks = labels
          .map((code) => CONFIDENTIALITIES.findIndex((one) => one === code))
          .filter((rank) => rank >= 0)
        return [{ rule: `${name}/${id}`, codes: new Set(labels), from: Math.min(...ranks) }]
      }),
    )
    if (rules.length === 0) return undefined
    const { at, security } = words
    const ruleFor = (code: string | undefined): string | undefined => {
      const rank = CONFIDENTIALITIES.findIndex((one) => one === code)
      return rules.find(({ codes, from }) => codes.has(code ?? '') || rank >= from)?.rule
    }
    return (tape, object) => {
      const members = membersOf(tape, object)
      if ((members & (1 << at.meta)) !== 0) {
        for (const coding of valuesAt(tape, object, security)) {
          const rule = ruleFor(textOf(tape, member(tape, coding, at.code)))
          if (rule !== undefined) return rule
        }
      }
      if ((members & (1 << at.extension)) === 0) return undefined
      for (const extension of listOf(tape, member(tape, object, at.extension))) {
        if (kindOf(tape, extension) !== KIND.object) continue
        if (textOf(tape, member(tape, extension, at.url)) !== INLINE_LABEL) continue
        for (const coding of membersNamed(tape, extension, 'valueCoding')) {
          const rule = ruleFor(textOf(tape, member(tape, coding, at.code)))
          if (rule !== undefined) return rule
        }
      }
      return undefined
    }
  }

  function touches(type: string, path: ElementPath): boolean {
    const asked = `${type} ${path.join('.')}`
    const known = touched.get(asked)
    if (known !== undefined) return known
    const found = follow(type, path)
    // Types and paths come from definitions: there are only so many.
    touched.set(asked, found)
    return found
  }

  function follow(type: string, path: ElementPath): boolean {
    const start = automaton.root(type)
    // What nobody knows may be anything, and is removed.
    if (start === undefined) return true
    let places: ReadonlySet<Place> = new Set([start])
    if (start.actions.length > 0) return true
    for (const key of path) {
      const next = new Set<Place>()
      for (const place of places) {
        for (const state of place.outcomes()) {
          const found = state.member(words.names.id(key))
          if (found === undefined) return true
          if (found.action !== undefined) return true
          // A primitive stands at the end of its path.
          if (!found.isPrimitive) next.add(found.next())
        }
      }
      if ([...next].some(({ actions }) => actions.length > 0)) return true
      places = next
    }
    return [...places].some((place) => altersBelow(place, new Set()))
  }

  /** Whether what a search looks at within a value is altered. */
  function altersBelow(place: Place, met: Set<Place>): boolean {
    if (met.has(place)) return false
    met.add(place)
    const looked = LOOKED_AT[place.type]
    const keys = looked ?? [...(elements.structure(place.type)?.elements.keys() ?? [])]
    return place.outcomes().some((state) =>
      keys.some((key) => {
        if (looked === undefined && UNSEEN.has(key)) return false
        const found = state.member(words.names.id(key))
        if (found === undefined) return false
        if (found.action !== undefined) return true
        if (found.isPrimitive || found.element.type === 'Resource') return false
        const next = found.next()
        return next.actions.length > 0 || altersBelow(next, met)
      }),
    )
  }

  function compileDetectors(all: readonly MaskingProfile[]): PathRules['detect'] {
    if (
      all.every(
        ({ name, rules: own }) =>
          name === BASELINE || own.every(({ detect }) => detect === undefined),
      )
    )
      return undefined
    // Of one profile the last rule, of all of them the strictest; the baseline is one of them.
    const methods = new Map<DetectorName, Detection>(ALWAYS)
    for (const { name, rules: own } of all) {
      const detections = own.flatMap(({ id, detect, method }) =>
        (detect ?? []).map((detector) => [detector, { method, rule: `${name}/${id}` }] as const),
      )
      for (const [detector, one] of new Map(detections)) {
        const met = methods.get(detector)
        if (met === undefined || rankOf(one.method) >= rankOf(met.method))
          methods.set(detector, one)
      }
    }
    const ranks = new Map([...methods].map(([name, { method }]) => [name, rankOf(method)]))
    const find = createFinder(new Set(methods.keys()), (name) => ranks.get(name) ?? 0)
    const detect = (text: string): { readonly text: string; readonly rule: string } | undefined => {
      const findings = find(text)
      const [first] = findings
      if (first === undefined) return undefined
      let [out, at] = ['', 0]
      for (const { start, end, name } of findings) {
        const method = methods.get(name)?.method
        out += text.slice(at, start) + hidden(text.slice(start, end), method)
        at = end
      }
      return { text: out + text.slice(at), rule: methods.get(first.name)?.rule ?? '' }
    }
    return (text) => {
      const written = detect(text)
      const shown = shownOf(written?.text ?? text)
      return shown === undefined ? written : (detect(shown) ?? written)
    }
  }
}

/**
 * The same path from the structure that it leads to: what is in `Questionnaire.item` is in every item
 * within an item as well, and what refers to the content of another element has that content.
 */
function reroot(selector: ElementSelector, elements: Elements): ElementSelector {
  const { root, filters, steps } = selector
  const [step] = steps
  if (step === undefined || filters.length > 0 || step.as !== undefined) return selector
  const nested = [...(elements.structure(root)?.elements.values() ?? [])].find(
    ({ name, type }) => name === step.name && type.includes('.'),
  )
  if (nested === undefined) return selector
  const next = { ...selector, root: nested.type, filters: step.filters, steps: steps.slice(1) }
  return reroot(next, elements)
}

/** What a search looks at within a value, where that is less than all of it. */
const LOOKED_AT: Readonly<Record<string, readonly string[]>> = {
  Reference: ['reference'],
  CodeableConcept: ['coding'],
  Coding: ['system', 'code'],
}
const UNSEEN: ReadonlySet<string> = new Set(['id', 'extension', 'modifierExtension'])

/** What the baseline finds, whatever else is looked for. */
const ALWAYS: readonly (readonly [DetectorName, Detection])[] = [
  ['us-ssn', { method: { kind: 'last', count: 4 }, rule: 'ssn' }],
  ['payment-card', { method: { kind: 'last', count: 4 }, rule: 'payment-card' }],
]
type Detection = { readonly method: Method; readonly rule: string }

/** Stands in a text where something was found. */
export const MASKED_TEXT = '[masked]'

/** What is found in a text, as the method shows it. */
function hidden(text: string, method: Method | undefined): string {
  if (method?.kind === 'replace') return method.text
  if (method?.kind !== 'last') return MASKED_TEXT
  const units = Array.from(text)
  let left = units.filter((unit) => /[\p{L}\p{N}]/u.test(unit)).length
  if (left < 9) return MASKED_TEXT
  return units
    .map((unit) => (/[\p{L}\p{N}]/u.test(unit) && left-- > method.count ? '*' : unit))
    .join('')
}

/**
 * Compiles `where()`: one of the members has the text; addresses are compared as addresses. Of what is
 * kept for its address the address stays, and behind its version anything may stand.
 */
function compileTest(filter: Filter, names: Names, isKept: boolean): Test {
  const paths = new Map<string, { readonly path: readonly string[]; readonly texts: Set<string> }>()
  for (const { path, equals } of filter) {
    const key = path.join('.')
    const found = paths.get(key) ?? { path, texts: new Set<string>() }
    found.texts.add(isAddress(path) ? systemOf(equals) : equals)
    paths.set(key, found)
  }
  const all = [...paths.values()].map(({ path, texts }) => {
    const isWhole = isKept && path.at(-1) === 'url'
    const fits = isAddress(path)
      ? (text: string) =>
          texts.has(text) || (!(isWhole && text.includes('|')) && texts.has(systemOf(text)))
      : (text: string) => texts.has(text)
    // A name without a number is that of no element: nothing is called so.
    return { path: path.map((name) => names.id(name)), fits }
  })
  return (tape, object) => all.some(({ path, fits }) => hasText(tape, object, path, 0, fits))
}

const isAddress = (path: readonly string[]): boolean =>
  path.at(-1) === 'system' || path.at(-1) === 'url'

/** Whether a value at the end of a path has a text that fits, lists passed through. */
function hasText(
  tape: Tape,
  value: number,
  path: readonly number[],
  at: number,
  fits: (text: string) => boolean,
): boolean {
  const kind = kindOf(tape, value)
  if (kind === KIND.array) {
    const end = after(tape, value)
    for (let one = value + 1; one < end; one = after(tape, one)) {
      if (hasText(tape, one, path, at, fits)) return true
    }
    return false
  }
  const name = path[at]
  if (name === undefined) return fits(textOf(tape, value) ?? '')
  if (kind !== KIND.object || name < 0) return false
  const end = after(tape, value)
  for (let key = value + 1; key < end; key = after(tape, key + 1)) {
    if (nameOf(tape, key) === name && hasText(tape, key + 1, path, at + 1, fits)) return true
  }
  return false
}

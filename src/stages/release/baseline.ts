import type { Edit } from '../../json/tape.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import {
  after,
  eachNoted,
  flagsOf,
  kindOf,
  member,
  nameOf,
  textOf,
  valuesAt,
} from '../../json/tape.ts'
import { CODE } from './alteration.ts'
import type { Alteration } from './alteration.ts'
import { rankOf } from './automaton.ts'
import { findSecrets, starSecrets } from './detectors.ts'
import { isNarrative } from './marks.ts'
import { SYSTEM, systemAt } from './systems.ts'
import { ADDRESS, BASE64, DATA_ABSENT_EXTENSION, SECRET_TYPES } from './vocabulary.ts'
import type { Vocabulary } from './vocabulary.ts'
import { publicOf, rewriteUrl } from './address.ts'
import type { Context } from './context.ts'

/** Universally unique: digits in it mean nothing. */
const UNIQUE = /^urn:(?:oid:[\d.]+|uuid:[\da-f-]{36})$/i

/** What the baseline comes to in one resource. */
export type Baseline = {
  /** Addresses of ours in place of upstream's: no masking, and not counted. */
  readonly edits: Edit[]
  readonly alterations: readonly Alteration[]
  /** Narratives, whatever is in them: they go when anything does. */
  readonly narratives: readonly number[]
}

/**
 * Plans what holds for everybody: SSNs and payment cards wherever they stand (contained, extensions,
 * notes, displays: the scan has looked at every string and noted what may hold one), and attachments
 * nobody can look into.
 */
export function planBaseline(tape: Tape, object: number, context: Context): Baseline {
  const plan = new Plan(tape, context)
  // First what is masked as a whole: nothing in it counts again.
  eachNoted(
    tape,
    object,
    (entry) => {
      plan.object(entry)
    },
    (entry) => {
      plan.string(entry)
    },
  )
  return plan
}

const NOTHING: readonly Alteration[] = []
const NO_NARRATIVES: readonly number[] = []
/** As strict as showing the last four of it. */
const RANK = rankOf({ kind: 'last', count: 4 })

class Plan implements Baseline {
  readonly edits: Edit[] = []
  // Most resources hold nothing to mask: the list is made by the first who needs it.
  #alterations: Alteration[] | undefined
  #narratives: number[] | undefined
  /** Values that are masked as a whole: nothing in them counts again. */
  #whole: Set<number> | undefined
  readonly #tape: Tape
  readonly #context: Context
  readonly #words: Vocabulary

  constructor(tape: Tape, context: Context) {
    this.#tape = tape
    this.#context = context
    this.#words = context.words
  }

  get alterations(): readonly Alteration[] {
    return this.#alterations ?? NOTHING
  }

  get narratives(): readonly number[] {
    return this.#narratives ?? NO_NARRATIVES
  }

  /** `parent` is needed for what goes altogether. */
  #alter(entry: number, text: string | undefined, rule: string, codes: number, parent = -1): void {
    this.#alterations ??= []
    this.#alterations.push({ entry, text, parent, holder: -1, rule, codes, rank: RANK })
  }

  /** A string or key that the scan has noted. */
  string(entry: number): void {
    const tape = this.#tape
    const flags = flagsOf(tape, entry)
    if (kindOf(tape, entry) === KIND.key) {
      this.#dropKey(entry)
      return
    }
    const name = nameOf(tape, entry)
    const mark = this.#words.notable[name + 1]
    if (mark === ADDRESS) this.#releaseAddress(entry, name, flags)
    else {
      if (mark === BASE64) this.#dropOpaque(entry)
      if (flags !== 0) this.#scanString(entry, name)
    }
  }

  #releaseAddress(entry: number, name: number, flags: number): void {
    if (flags !== 0 && this.#scanString(entry, name)) return
    const edit = rewriteUrl(this.#tape, entry, flags, this.#context)
    if (edit !== undefined) this.edits.push(edit)
  }

  /** No element has a number for its name: what is called so goes. */
  #dropKey(entry: number): void {
    const tape = this.#tape
    const [found] = findSecrets(textOf(tape, entry) ?? '')
    if (found !== undefined)
      this.#alter(entry, undefined, found.rule, CODE.REDACTED, holderOf(tape, entry))
  }

  object(entry: number): void {
    const members = flagsOf(this.#tape, entry)
    const { at } = this.#words
    const coded = (1 << at.value) | (1 << at._value)
    const typed = (1 << at.system) | (1 << at.type)
    if ((members & coded) !== 0 && (members & typed) !== 0) this.#maskIdentifier(entry, members)
    if ((members & (1 << at.data)) !== 0) this.#rememberSamples(entry)
    if (isNarrative(this.#tape, entry, this.#words)) (this.#narratives ??= []).push(entry)
  }

  /** Whether something was found in it. */
  #scanString(entry: number, name: number): boolean {
    if (this.#whole?.has(entry) === true || this.#words.unscanned[name + 1] === 1) return false
    const text = textOf(this.#tape, entry)
    if (text === undefined || text.length < 9 || UNIQUE.test(text)) return false
    const findings = findSecrets(text)
    const [first] = findings
    if (first === undefined) return false
    // An address with a secret in it: both at once.
    const starred = publicOf(starSecrets(text, findings), this.#context)
    this.#alter(entry, JSON.stringify(starred), first.rule, CODE.MASKED | CODE.ABSTRED)
    return true
  }

  /** An Identifier whose system or type says that its value is a secret. */
  #maskIdentifier(object: number, members: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const rule = this.#secretOf(object, members)
    if (rule === undefined) return
    const value = member(tape, object, at.value)
    const key = (value >= 0 ? value : member(tape, object, at._value)) - 1
    if (value < 0 && !this.#showsDigits(key + 1)) return
    this.#whole ??= new Set()
    for (let entry = key; entry < after(tape, key + 1); entry++) this.#whole.add(entry)
    const text = textOf(tape, value) ?? ''
    const digits = text.replace(/\P{Nd}/gu, '')
    const rendered =
      rule === 'ssn' ? `***-**-${digits.slice(-4)}` : `**** **** **** ${digits.slice(-4)}`
    const extensions = [DATA_ABSENT_EXTENSION]
    if (digits.length >= 9) {
      extensions.push(
        `{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":${JSON.stringify(rendered)}}`,
      )
    }
    const codes = digits.length >= 9 ? CODE.MASKED | CODE.ABSTRED : CODE.MASKED
    this.#alter(key, `"_value":{"extension":[${extensions.join(',')}]}`, rule, codes)
    // What stood beside the value may render it in full (MASK-2): it goes.
    for (let other = object + 1; other < after(tape, object); other = after(tape, other + 1)) {
      const isBeside = nameOf(tape, other) === at._value || nameOf(tape, other) === at.extension
      if (other !== key && isBeside) this.#alter(other, undefined, BESIDE, 0, object)
    }
  }

  #secretOf(object: number, members: number): 'ssn' | 'payment-card' | undefined {
    const tape = this.#tape
    const { at } = this.#words
    if ((members & (1 << at.system)) !== 0) {
      if ((systemAt(tape, member(tape, object, at.system)) & SYSTEM.ssn) !== 0) return 'ssn'
    }
    if ((members & (1 << at.type)) === 0) return undefined
    for (const coding of valuesAt(tape, object, this.#words.typeCoding)) {
      const codeSystem = systemAt(tape, member(tape, coding, at.system))
      if ((codeSystem & (SYSTEM.none | SYSTEM.identifierType)) === 0) continue
      const rule = SECRET_TYPES.get(textOf(tape, member(tape, coding, at.code)) ?? '')
      if (rule !== undefined) return rule
    }
    const named = textOf(tape, member(tape, member(tape, object, at.type), at.text)) ?? ''
    return /\bssn\b|social security/i.test(named) ? 'ssn' : undefined
  }

  /** Whether more than the last four of a number stand in or below a value. */
  #showsDigits(value: number): boolean {
    for (let entry = value; entry < after(this.#tape, value); entry++) {
      const text = textOf(this.#tape, entry)
      if (text !== undefined && (text.match(/\p{Nd}/gu)?.length ?? 0) > 4) return true
    }
    return false
  }

  /** SampledData: numbers with spaces between, not something that cannot be looked into. */
  #rememberSamples(object: number): void {
    const { at } = this.#words
    if (member(this.#tape, object, at.dimensions) < 0) return
    const data = member(this.#tape, object, at.data)
    if (/^[-+.\dEUL\s]*$/.test(textOf(this.#tape, data) ?? 'x'))
      (this.#whole ??= new Set()).add(data)
  }

  /** MASK-8: what cannot be looked into does not leave while masking is on. */
  #dropOpaque(value: number): void {
    const tape = this.#tape
    const key = value - 1
    if (kindOf(tape, key) !== KIND.key || this.#whole?.has(value) === true) return
    const text = `"_${textOf(tape, key) ?? ''}":{"extension":[${DATA_ABSENT_EXTENSION}]}`
    this.#alter(key, text, 'attachment', CODE.REDACTED)
  }
}

/** The object that a key stands in. */
function holderOf(tape: Tape, key: number): number {
  for (let object = key - 1; object >= 0; object--) {
    if (kindOf(tape, object) === KIND.object && after(tape, object) > key) return object
  }
  return -1
}

/** Not counted: it goes with the value beside it. */
export const BESIDE = ''

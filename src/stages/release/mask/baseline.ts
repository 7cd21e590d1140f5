import { WITHHELD } from '../../../fhir/withheld.ts'
import type { Edit } from '../../../json/tape.ts'
import { LEAST_DIGITS } from '../../../json/notice.ts'
import { KIND } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import {
  after,
  elements,
  endOf,
  flagsOf,
  kindOf,
  member,
  membersOf,
  nameOf,
  readNotes,
  startOf,
  textOf,
  valuesAt,
} from '../../../json/tape.ts'
import { BESIDE } from './alteration.ts'
import type { Alteration } from './alteration.ts'
import { Called, namesSsn } from './called-ssn.ts'
import { CODE } from './codes.ts'
import { FLAG } from '../../../json/token.ts'
import { Around } from './around.ts'
import { rankOf } from './automaton.ts'
import { lastFour, lastFourOfSsn, planNumberMembers } from './number-members.ts'
import { findBareSsn, findSecrets, starSecrets } from './detect/secrets.ts'
import type { Finding } from './detect/secrets.ts'
import { isNarrative } from './marks.ts'
import { hiddenValue, STUB } from './stub.ts'
import { SYSTEM, systemAt } from '../systems.ts'
import { ADDRESS, BASE64, BASED, EMPTY_CONTENT, SECRET_TYPES } from '../vocabulary.ts'
import type { Vocabulary } from '../vocabulary.ts'
import { publicOf, rewriteUrl, rewriteWithin } from '../address.ts'
import { isNamed } from './members.ts'
import { decodeReferences, mayShowDigits, shownOf } from './detect/shown.ts'
import type { Context } from '../context.ts'

/** Universally unique: digits in it mean nothing. */
const UNIQUE = /^urn:(?:oid:[\d.]+|uuid:[\da-f-]{36})$/i
const isUnique = (text: string): boolean =>
  (text.charCodeAt(0) | 0x20) === 0x75 && UNIQUE.test(text)

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
 * notes, displays, numbers: the scan has looked at every value and noted what may hold one), and
 * attachments nobody can look into.
 */
export function planBaseline(tape: Tape, object: number, context: Context): Baseline {
  const plan = new Plan(tape, object, context)
  // Objects come first: nothing in what is masked as a whole counts again.
  readNotes(tape, object, plan)
  plan.finish(object)
  return plan
}

const NOTHING: readonly Alteration[] = []
const NO_NARRATIVES: readonly number[] = []
const NOT_FOUND: readonly Finding[] = []
/** As strict as showing the last four of it. */
const RANK = rankOf({ kind: 'last', count: 4 })
/** Of what nobody can look into nothing is left: what detectors make of its text does not count. */
const OPAQUE = rankOf({ kind: 'redact' })

class Plan implements Baseline {
  readonly edits: Edit[] = []
  // Most resources hold nothing to mask: the list is made by the first who needs it.
  #alterations: Alteration[] | undefined
  #narratives: number[] | undefined
  /** Values that are masked as a whole: nothing in them counts again. */
  #whole: Set<number> | undefined
  /** Long numbers, in order. */
  #numbers: number[] | undefined
  #around: Around | undefined
  #called: Called | undefined
  readonly #tape: Tape
  readonly #object: number
  readonly #context: Context
  readonly #words: Vocabulary

  constructor(tape: Tape, object: number, context: Context) {
    this.#tape = tape
    this.#object = object
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
  #alter(
    entry: number,
    text: string | undefined,
    rule: string,
    codes: number,
    parent = -1,
    rank = RANK,
  ): void {
    this.#alterations ??= []
    this.#alterations.push({ entry, text, parent, holder: -1, rule, codes, rank })
  }

  /** A string, key or number that the scan has noted. */
  value(entry: number): void {
    const tape = this.#tape
    const flags = flagsOf(tape, entry)
    const kind = kindOf(tape, entry)
    if (kind === KIND.key) {
      this.#dropKey(entry)
      return
    }
    const name = nameOf(tape, entry)
    const mark = this.#words.notable[name + 1]
    if (kind === KIND.number) {
      // Where base64 belongs nothing is searched, since all of it goes; but a number is none.
      const isScanned = this.#words.unscanned[name + 1] === 0 || mark === BASE64
      if (isScanned && this.#whole?.has(entry) !== true) (this.#numbers ??= []).push(entry)
      return
    }
    if (mark === ADDRESS) this.#releaseAddress(entry, name, flags)
    else {
      if (mark === BASE64) this.#dropOpaque(entry)
      if (this.#dropInline(entry, flags, INLINE_BASE64) || this.#scanString(entry, name)) return
      if (mark === BASED) this.#rewrite(entry, flags)
    }
  }

  /** When all that is noted was seen. */
  finish(object: number): void {
    if (this.#numbers === undefined) return
    for (const one of planNumberMembers(this.#tape, object, this.#numbers))
      (this.#alterations ??= []).push(one)
  }

  /** The innermost object that a value stands in; asked about in order. */
  #objectOf(value: number): number {
    this.#around ??= new Around(this.#tape, this.#object)
    return this.#around.objectsOf(value)[0] ?? this.#object
  }

  /** The object that a key stands in; keys are asked about in order. */
  #holderOf(key: number): number {
    this.#around ??= new Around(this.#tape, this.#object)
    return this.#around.of(key)[0]
  }

  #rewrite(entry: number, flags: number): void {
    const edit = rewriteUrl(this.#tape, entry, flags, this.#context)
    if (edit !== undefined) this.edits.push(edit)
  }

  #releaseAddress(entry: number, name: number, flags: number): void {
    if (this.#dropInline(entry, flags, INLINE)) return
    const isScanned = this.#words.unscanned[name + 1] === 0
    if (isScanned ? this.#scanString(entry, name) : this.#cutQuery(entry, flags)) return
    this.#rewrite(entry, flags)
  }

  /** No element has a number for its name: what is called so goes. */
  #dropKey(entry: number): void {
    const tape = this.#tape
    const [found] = findSecrets(textOf(tape, entry) ?? '')
    if (found !== undefined)
      this.#alter(entry, undefined, found.rule, CODE.REDACTED, this.#holderOf(entry))
  }

  object(entry: number): void {
    const members = membersOf(this.#tape, entry)
    const { at, isDetailOpaque } = this.#words
    if (isDetailOpaque && nameOf(this.#tape, entry) === at.detail) {
      const value = member(this.#tape, entry, at.value)
      if (value >= 0 && kindOf(this.#tape, value) === KIND.string) this.#dropOpaque(value, entry)
      return
    }
    const coded = (1 << at.value) | (1 << at._value) | (1 << at.extension)
    const typed = (1 << at.system) | (1 << at.type)
    if ((members & coded) !== 0 && (members & typed) !== 0) this.#maskIdentifier(entry, members)
    if ((members & (1 << at.data)) !== 0) this.#rememberSamples(entry)
    if (!isNarrative(this.#tape, entry, this.#words)) return
    rewriteWithin(this.#tape, member(this.#tape, entry, at.div), this.#context, this.edits)
    ;(this.#narratives ??= []).push(entry)
  }

  /** Whether something was found in it. */
  #scanString(entry: number, name: number): boolean {
    if (this.#whole?.has(entry) === true || this.#words.unscanned[name + 1] === 1) return false
    if (name === this.#words.at.div && this.#goesAnyway(entry)) return false
    const text = textOf(this.#tape, entry)
    if (text === undefined || text.length < LEAST_DIGITS || isUnique(text)) return false
    if (name === this.#words.at.div && INLINE_WITHIN.test(decodeReferences(text))) {
      this.#alter(entry, JSON.stringify(WITHHELD), ATTACHMENT, CODE.REDACTED, -1, OPAQUE)
      return true
    }
    if (!mayShowDigits(text, LEAST_DIGITS)) return false
    const found = findSecrets(text)
    const findings = found.length > 0 ? found : this.#findNamed(entry, text)
    const starred = starSecrets(text, findings)
    // What only its reader sees is starred as it is seen.
    const shown = shownOf(starred)
    const seen = shown === undefined ? [] : findSecrets(shown)
    const first = findings[0] ?? seen[0]
    if (first === undefined) return false
    const made = seen.length === 0 ? starred : starSecrets(shown ?? '', seen)
    // An address with a secret in it: both at once.
    const masked = publicOf(made, this.#context)
    this.#alter(entry, JSON.stringify(masked), first.rule, CODE.MASKED | CODE.ABSTRED)
    return true
  }

  /** Digits that are called an SSN beside the text alone. */
  #findNamed(entry: number, text: string): readonly Finding[] {
    const bare = findBareSsn(text)
    if (bare === undefined) return NOT_FOUND
    this.#around ??= new Around(this.#tape, this.#object)
    this.#called ??= new Called(this.#tape)
    return this.#called.isSsn(this.#around.objectsOf(entry)) ? [bare] : NOT_FOUND
  }

  /** Whether it is in a narrative, and all of those go because something else is altered (MASK-6). */
  #goesAnyway(entry: number): boolean {
    if (this.#alterations === undefined) return false
    return this.narratives.some((text) => entry > text && entry < after(this.#tape, text))
  }

  /** Content that is part of an address (RFC 2397) is as opaque as an attachment's. */
  #dropInline(entry: number, flags: number, form: RegExp): boolean {
    const tape = this.#tape
    const first = tape.bytes[startOf(tape, entry) + 1] as number
    const isPlain = first > 0x20 && (first | 0x20) !== 0x64
    if ((isPlain && (flags & FLAG.escaped) === 0) || this.#whole?.has(entry) === true) return false
    // Whoever reads an address leaves these out (URL Standard §4.4).
    if (!form.test((textOf(tape, entry) ?? '').replaceAll(/[\t\n\r]/g, ''))) return false
    if (nameOf(tape, entry) === this.#words.at.url) this.#dropDigest(this.#objectOf(entry))
    this.#alter(entry, JSON.stringify(EMPTY_CONTENT), ATTACHMENT, CODE.REDACTED, -1, OPAQUE)
    return true
  }

  /** A name that something has is no secret; what is asked of it may be (row 22). */
  #cutQuery(entry: number, flags: number): boolean {
    const tape = this.#tape
    const [start, end] = [startOf(tape, entry), endOf(tape, entry)]
    let at = start
    while (at < end && tape.bytes[at] !== 0x3f) at++
    if (at === end && (flags & FLAG.escaped) === 0) return false
    const text = textOf(tape, entry) ?? ''
    const [address = '', ...asked] = text.split('?')
    const query = asked.join('?')
    const [found] = [...findSecrets(query), ...findSecrets(decodePercent(query))]
    if (found === undefined) return false
    const cut = publicOf(address, this.#context)
    this.#alter(entry, JSON.stringify(cut), found.rule, CODE.REDACTED)
    return true
  }

  /** An Identifier whose system or type says that its value is a secret. */
  #maskIdentifier(object: number, members: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const rule = this.#secretOf(object, members)
    if (rule === undefined) return
    const value = member(tape, object, at.value)
    const beside = member(tape, object, at._value)
    if (value < 0 && beside < 0) {
      // Some servers say it beside the identifier alone (§9.3).
      const extension = member(tape, object, at.extension)
      if (!this.#showsDigits(extension)) return
      this.#whole ??= new Set()
      for (let entry = extension; entry < after(tape, extension); entry++) this.#whole.add(entry)
      this.#alter(extension - 1, undefined, rule, CODE.REDACTED, object)
      return
    }
    const key = (value >= 0 ? value : beside) - 1
    if (value < 0 && !this.#showsDigits(key + 1)) return
    this.#whole ??= new Set()
    for (let entry = key; entry < after(tape, key + 1); entry++) this.#whole.add(entry)
    const text = textOf(tape, value) ?? ''
    const digits = text.replace(/\P{Nd}/gu, '')
    const last = rule === 'ssn' ? lastFourOfSsn(digits) : lastFour(digits)
    const rendered = digits.length >= 9 ? last : undefined
    const codes = rendered === undefined ? CODE.MASKED : CODE.MASKED | CODE.ABSTRED
    this.#alter(key, `"_value":${hiddenValue(rendered)}`, rule, codes)
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
      if (someOf(tape, member(tape, object, at.system), isSsnSystem)) return 'ssn'
    }
    if ((members & (1 << at.type)) === 0) return undefined
    const type = member(tape, object, at.type)
    if (someOf(tape, type, (one) => this.#isNamedSsn(one))) return 'ssn'
    for (const coding of valuesAt(tape, object, this.#words.typeCoding)) {
      if (this.#isNamedSsn(coding)) return 'ssn'
      const codeSystem = systemAt(tape, member(tape, coding, at.system))
      if ((codeSystem & (SYSTEM.none | SYSTEM.identifierType)) === 0) continue
      const code = member(tape, coding, at.code)
      for (const one of kindOf(tape, code) === KIND.array ? elements(tape, code) : [code]) {
        const rule = SECRET_TYPES.get((textOf(tape, one) ?? '').toUpperCase())
        if (rule !== undefined) return rule
      }
    }
    return undefined
  }

  /** Whether the words of a type say that it is an SSN. */
  #isNamedSsn(type: number): boolean {
    const { at } = this.#words
    const tape = this.#tape
    const isNamed = (name: number): boolean =>
      someOf(tape, member(tape, type, name), (one) => namesSsn(textOf(tape, one) ?? ''))
    return isNamed(at.text) || isNamed(at.display)
  }

  /** Whether more than the last four of a number stand in or below a value. */
  #showsDigits(value: number): boolean {
    for (let entry = value; entry < after(this.#tape, value); entry++) {
      const text = textOf(this.#tape, entry) ?? numberAt(this.#tape, entry)
      if ((text.match(/\p{Nd}/gu)?.length ?? 0) > 4) return true
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

  /** Of an Attachment whose content goes: by its digest a guess of it is confirmed. */
  #dropDigest(object: number): void {
    const tape = this.#tape
    for (let key = object + 1; key < after(tape, object); key = after(tape, key + 1)) {
      if (isNamed(tape, key, 'hash') || isNamed(tape, key, '_hash'))
        this.#alter(key, undefined, BESIDE, 0, object)
    }
  }

  /** MASK-8: what cannot be looked into does not leave while masking is on. */
  #dropOpaque(value: number, holder?: number): void {
    const tape = this.#tape
    const key = value - 1
    if (this.#whole?.has(value) === true) return
    const object = holder ?? this.#objectOf(value)
    this.#dropDigest(object)
    if (kindOf(tape, key) !== KIND.key) {
      this.#alter(value, 'null', ATTACHMENT, CODE.REDACTED)
      return
    }
    const beside = `_${textOf(tape, key) ?? ''}`
    const text = `"${beside}":${STUB}`
    this.#alter(key, text, ATTACHMENT, CODE.REDACTED)
    for (let other = object + 1; other < after(tape, object); other = after(tape, other + 1)) {
      if (isNamed(tape, other, beside)) this.#alter(other, undefined, BESIDE, 0, object)
    }
  }
}

const isSsnSystem = (one: number, tape: Tape): boolean => (systemAt(tape, one) & SYSTEM.ssn) !== 0

/** Of a value that is there, also when it stands in a list, where none belongs. */
function someOf(tape: Tape, value: number, fits: (one: number, tape: Tape) => boolean): boolean {
  if (value < 0) return false
  if (kindOf(tape, value) !== KIND.array) return fits(value, tape)
  for (const one of elements(tape, value)) if (someOf(tape, one, fits)) return true
  return false
}

const ATTACHMENT = 'attachment'
const INLINE = /^[\0- ]*data:/i
/** Elsewhere than in an address "data:" may be a word of somebody's. */
const INLINE_BASE64 = /^[\0- ]*data:[^,]{0,200}; *base64 *,/i
/** In markup, as an attribute too. */
const INLINE_WITHIN = /\bdata:[^,"'<>]{0,200}; *base64 *,|=\s*["']\s*data:/i

/** Once: whoever reads a query does it once. */
function decodePercent(text: string): string {
  return text.replaceAll(/%([0-7][\da-f])/gi, (_, code: string) =>
    String.fromCharCode(parseInt(code, 16)),
  )
}

/** A number as it is written; of anything else nothing. */
function numberAt(tape: Tape, entry: number): string {
  if (kindOf(tape, entry) !== KIND.number) return ''
  return tape.bytes.toString('latin1', startOf(tape, entry), endOf(tape, entry))
}

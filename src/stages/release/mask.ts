import type { Edit } from '../../json/edit.ts'
import { removeMembers } from '../../json/edit.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { FLAG } from '../../json/token.ts'
import {
  after,
  endOf,
  flagsOf,
  kindOf,
  member,
  nameOf,
  startOf,
  textOf,
  valuesAt,
  walk,
} from '../../json/tape.ts'
import type { Visitor } from '../../json/tape.ts'
import type { MaskingProfile } from '../../permit.ts'
import { planDeidentification } from './deidentify.ts'
import { findSecrets, mayHoldSecret, starSecrets } from './detectors.ts'
import {
  ADDRESS,
  BASE64,
  DATA_ABSENT_EXTENSION,
  IDENTIFIER_TYPE_SYSTEMS,
  SECRET_TYPES,
  SSN_SYSTEMS,
  systemOf,
} from './vocabulary.ts'
import type { Vocabulary } from './vocabulary.ts'
import { publicOf, rewriteUrl } from './address.ts'
import type { Context } from './context.ts'

/** Universally unique: digits in it mean nothing. */
const UNIQUE = /^urn:(?:oid:[\d.]+|uuid:[\da-f-]{36})$/i

/** What masking one resource comes to. */
export type Masking = {
  readonly edits: Edit[]
  /** Altered values by rule. */
  readonly counts: ReadonlyMap<string, number>
}

const NOTHING: ReadonlyMap<string, number> = new Map()

const WITHHELD = 'Narrative withheld: parts of this resource are masked.'
const STUB = `{"status":"empty","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">${WITHHELD}</div>"}`

/**
 * Plans the edits for one resource: SSNs and payment cards wherever they stand (contained,
 * extensions, notes, displays: every string is looked at), attachments nobody can look into, and
 * under `de-identified` what identifies a person. Then the marks (LABEL-6, MASK-6).
 */
export function planMasking(
  tape: Tape,
  object: number,
  profile: MaskingProfile,
  context: Context,
): Masking {
  const plan = new Plan(tape, context)
  walk(tape, object, plan, after(tape, object))
  if (profile === 'de-identified') plan.deidentify(object)
  if (plan.counts !== undefined) plan.mark(object)
  return { edits: plan.edits, counts: plan.counts ?? NOTHING }
}

class Plan implements Visitor {
  readonly edits: Edit[] = []
  // Most resources hold nothing to mask: what keeps count of it is made by the first who needs it.
  counts: Map<string, number> | undefined
  readonly notable: Uint8Array
  readonly members: number
  #codes: Set<string> | undefined
  /** Values that are masked as a whole: nothing in them counts again. */
  #whole: Set<number> | undefined
  readonly #tape: Tape
  readonly #context: Context
  readonly #words: Vocabulary

  constructor(tape: Tape, context: Context) {
    this.#tape = tape
    this.#context = context
    this.#words = context.words
    const { at, notable } = context.words
    this.notable = notable
    this.members = (1 << at.value) | (1 << at._value) | (1 << at.data)
  }

  #count(rule: string, ...codes: string[]): void {
    this.counts ??= new Map()
    this.counts.set(rule, (this.counts.get(rule) ?? 0) + 1)
    this.#codes ??= new Set()
    for (const code of codes) this.#codes.add(code)
  }

  string(entry: number, name: number, flags: number): void {
    const mark = this.notable[name + 1]
    if (mark === ADDRESS) this.#releaseAddress(entry, name, flags)
    else {
      if (mark === BASE64) this.#dropOpaque(entry)
      if (flags !== 0) this.#scanString(entry, name, flags)
    }
  }

  #releaseAddress(entry: number, name: number, flags: number): void {
    const edits = this.edits.length
    if (flags !== 0) this.#scanString(entry, name, flags)
    const edit = rewriteUrl(this.#tape, entry, flags, this.#context)
    if (edit === undefined) return
    const starred = this.edits[edits]
    if (starred === undefined) this.edits.push(edit)
    else {
      // An address with a secret in it: both at once.
      const text = JSON.stringify(publicOf(JSON.parse(starred.text) as string, this.#context))
      this.edits[edits] = { ...starred, text }
    }
  }

  key(entry: number, name: number, flags: number): void {
    this.#scanString(entry, name, flags)
  }

  object(entry: number, members: number): void {
    const { at } = this.#words
    const coded = (1 << at.value) | (1 << at._value)
    const typed = (1 << at.system) | (1 << at.type)
    if ((members & coded) !== 0 && (members & typed) !== 0) this.#maskIdentifier(entry, members)
    if ((members & (1 << at.data)) !== 0) this.#rememberSamples(entry)
  }

  #scanString(entry: number, name: number, flags: number): void {
    if (this.#whole?.has(entry) === true || this.#words.unscanned[name + 1] !== 0) return
    const [start, end] = [startOf(this.#tape, entry), endOf(this.#tape, entry)]
    if (flags === FLAG.digits && !mayHoldSecret(this.#tape.bytes, start, end)) return
    const text = textOf(this.#tape, entry)
    if (text === undefined || text.length < 9 || UNIQUE.test(text)) return
    const findings = findSecrets(text)
    if (findings.length === 0) return
    this.edits.push({ start, end, text: JSON.stringify(starSecrets(text, findings)) })
    for (const { rule } of findings) this.#count(rule, 'MASKED', 'ABSTRED')
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
    this.edits.push({
      start: startOf(tape, key),
      end: endOf(tape, key + 1),
      text: `"_value":{"extension":[${extensions.join(',')}]}`,
    })
    // What stood beside the value may render it in full (MASK-2): it goes.
    const beside = [at._value, at.extension]
    this.edits.push(
      ...removeMembers(
        tape,
        object,
        (other) => other !== key && beside.includes(nameOf(tape, other)),
      ),
    )
    this.#count(rule, 'MASKED', ...(digits.length >= 9 ? ['ABSTRED'] : []))
  }

  #secretOf(object: number, members: number): 'ssn' | 'payment-card' | undefined {
    const tape = this.#tape
    const { at } = this.#words
    if ((members & (1 << at.system)) !== 0) {
      const entry = member(tape, object, at.system)
      if (mayBeSsnSystem(tape, entry) && SSN_SYSTEMS.has(systemOf(textOf(tape, entry))))
        return 'ssn'
    }
    if ((members & (1 << at.type)) === 0) return undefined
    for (const coding of valuesAt(tape, object, this.#words.typeCoding)) {
      const codeSystem = systemOf(textOf(tape, member(tape, coding, at.system)))
      if (codeSystem !== '' && !IDENTIFIER_TYPE_SYSTEMS.has(codeSystem)) continue
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
    this.edits.push({
      start: startOf(tape, key),
      end: endOf(tape, value),
      text: `"_${textOf(tape, key) ?? ''}":{"extension":[${DATA_ABSENT_EXTENSION}]}`,
    })
    this.#count('attachment', 'REDACTED')
  }

  deidentify(object: number): void {
    const { edits, removed, abridged } = planDeidentification(this.#tape, object, this.#words)
    this.edits.push(...edits)
    for (let n = 0; n < removed; n++) this.#count('de-identified', 'REDACTED')
    for (let n = 0; n < abridged; n++) this.#count('de-identified', 'ABSTRED')
    for (const narrative of this.#narratives(object)) {
      if (!this.#isStub(narrative)) this.#count('de-identified', 'REDACTED')
    }
  }

  /** The narratives of the resource and those contained in it. */
  *#narratives(object: number): Generator<number> {
    const { at } = this.#words
    for (const path of [[at.text], [at.contained, at.text]]) {
      for (const text of valuesAt(this.#tape, object, path)) {
        if (kindOf(this.#tape, text) === KIND.object) yield text
      }
    }
  }

  #isStub(text: number): boolean {
    const [start, end] = [startOf(this.#tape, text), endOf(this.#tape, text)]
    return this.#tape.bytes.toString('utf8', start, end) === STUB
  }

  /** Adds the alteration codes to meta.security and replaces the narrative. */
  mark(object: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const codes = [...(this.#codes ?? [])].map(
      (code) =>
        `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"${code}"}`,
    )
    const list = codes.join(',')
    const meta = member(tape, object, at.meta)
    const security = member(tape, meta, at.security)
    const element = { start: startOf(tape, security), end: endOf(tape, security) }
    if (security >= 0 && kindOf(tape, security) !== KIND.array) {
      this.edits.push({ ...element, text: `[${list}]` })
    } else if (security >= 0) {
      const isEmpty = after(tape, security) === security + 1
      insert(this.edits, endOf(tape, security) - 1, isEmpty ? list : `,${list}`)
    } else if (meta >= 0 && kindOf(tape, meta) !== KIND.object) {
      const text = `{"security":[${list}]}`
      this.edits.push({ start: startOf(tape, meta), end: endOf(tape, meta), text })
    } else if (meta >= 0) {
      const isEmpty = after(tape, meta) === meta + 1
      insert(this.edits, startOf(tape, meta) + 1, `"security":[${list}]${isEmpty ? '' : ','}`)
    } else {
      const isEmpty = after(tape, object) === object + 1
      insert(
        this.edits,
        startOf(tape, object) + 1,
        `"meta":{"security":[${list}]}${isEmpty ? '' : ','}`,
      )
    }
    for (const text of this.#narratives(object)) {
      this.edits.push({ start: startOf(tape, text), end: endOf(tape, text), text: STUB })
    }
  }
}

function insert(edits: Edit[], at: number, text: string): void {
  edits.push({ start: at, end: at, text })
}

/** Whether `ssn` or `113` stands in it, as in every spelling of an SSN system. */
function mayBeSsnSystem(tape: Tape, entry: number): boolean {
  if ((flagsOf(tape, entry) & FLAG.escaped) !== 0) return true
  const { bytes } = tape
  const end = endOf(tape, entry)
  for (let i = startOf(tape, entry); i + 3 <= end; i++) {
    const c = (bytes[i] as number) | 0x20
    if (c === 0x73 && isLetter(bytes, i + 1, 0x73) && isLetter(bytes, i + 2, 0x6e)) return true
    if (c === 0x31 && bytes[i] === 0x31 && bytes[i + 1] === 0x31 && bytes[i + 2] === 0x33)
      return true
  }
  return false
}

const isLetter = (bytes: Uint8Array, at: number, letter: number): boolean =>
  ((bytes[at] as number) | 0x20) === letter

/** Stars and the last four, as masked identifiers and texts show them. */
const MARK = /(?:\*[^\p{L}\p{Nd}*]{0,3}){5}\p{Nd}(?:[^\p{L}\p{Nd}*]{0,3}\p{Nd}){3}(?!\p{Nd})/u

/** Whether a payload carries marks of ours, which must never be stored (MASK-10). */
export function isMarked(tape: Tape, object: number, words: Vocabulary): boolean {
  const end = after(tape, object)
  for (let entry = object; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.string) continue
    if (endOf(tape, entry) - startOf(tape, entry) < 8) continue
    const text = textOf(tape, entry) ?? ''
    if (nameOf(tape, entry) === words.at.valueCode && text === 'masked') return true
    // What was cut down on its way out is not the whole, and must not take the place of it (C11).
    if (nameOf(tape, entry) === words.at.code && text === 'SUBSETTED') return true
    if (MARK.test(text) || text.includes(WITHHELD)) return true
  }
  return false
}

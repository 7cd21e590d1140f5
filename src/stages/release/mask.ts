import type { Edit } from '../../json/edit.ts'
import { removeMembers } from '../../json/edit.ts'
import { KIND } from '../../json/scan.ts'
import type { Tape } from '../../json/scan.ts'
import {
  after,
  elements,
  endOf,
  flagsOf,
  kindOf,
  member,
  nameOf,
  startOf,
  textOf,
} from '../../json/tape.ts'
import type { MaskingProfile } from '../../permit.ts'
import { findSecrets, starSecrets } from './detectors.ts'
import { IDENTIFIER_TYPE_SYSTEMS, SECRET_TYPES, SSN_SYSTEMS } from './vocabulary.ts'
import type { Vocabulary } from './vocabulary.ts'

/** What masking one resource comes to. */
export type Masking = {
  readonly edits: Edit[]
  /** Altered values by rule. */
  readonly counts: Map<string, number>
}

const DATA_ABSENT =
  '{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}'

/** Persons, whose own particulars identify them. */
const PERSONS = new Set(['Patient', 'Practitioner', 'RelatedPerson', 'Person'])

const STUB =
  '{"status":"empty","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">Narrative withheld: parts of this resource are masked.</div>"}'

/**
 * Plans the edits for one resource: SSNs and payment cards wherever they stand (contained,
 * extensions, notes, displays: every string is looked at), attachments nobody can look into, and
 * under `de-identified` what identifies a person. Then the marks (LABEL-6, MASK-6).
 */
export function planMasking(
  tape: Tape,
  object: number,
  type: string,
  profile: MaskingProfile,
  words: Vocabulary,
): Masking {
  const plan = new Plan(tape, words)
  plan.findSecrets(object)
  if (profile === 'de-identified') plan.deidentify(object, type)
  if (plan.counts.size > 0) plan.mark(object)
  return { edits: plan.edits, counts: plan.counts }
}

class Plan {
  readonly edits: Edit[] = []
  readonly counts = new Map<string, number>()
  readonly #codes = new Set<string>()
  /** Values that are masked as a whole: nothing in them counts again. */
  readonly #whole = new Set<number>()
  readonly #tape: Tape
  readonly #words: Vocabulary
  readonly #skipped: ReadonlySet<number>
  readonly #coded: number
  readonly #attached: number

  constructor(tape: Tape, words: Vocabulary) {
    this.#tape = tape
    this.#words = words
    const { at } = words
    // §9.2: numbers that look like cards stand here by the thousand and are none.
    this.#skipped = new Set([
      at.id,
      at.reference,
      at.system,
      at.code,
      at.url,
      at.fullUrl,
      at.versionId,
    ])
    this.#coded = (1 << at.value) | (1 << at.system)
    this.#attached = 1 << at.data
  }

  #count(rule: string, ...codes: string[]): void {
    this.counts.set(rule, (this.counts.get(rule) ?? 0) + 1)
    for (const code of codes) this.#codes.add(code)
  }

  findSecrets(object: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const end = after(tape, object)
    for (let entry = object; entry < end; entry++) {
      const kind = kindOf(tape, entry)
      if (kind === KIND.string) this.#scanString(entry)
      else if (kind === KIND.object) {
        const flags = flagsOf(tape, entry)
        if (
          (flags & (1 << at.value)) !== 0 &&
          (flags & (this.#coded | (1 << at.type))) !== 1 << at.value
        ) {
          this.#maskIdentifier(entry)
        }
        if ((flags & this.#attached) !== 0) this.#dropAttachment(entry)
      }
    }
  }

  #scanString(entry: number): void {
    const flags = flagsOf(this.#tape, entry)
    if (flags === 0 || this.#whole.has(entry)) return
    if (this.#skipped.has(nameOf(this.#tape, entry))) return
    const text = textOf(this.#tape, entry)
    if (text === undefined || text.length < 9) return
    const findings = findSecrets(text)
    if (findings.length === 0) return
    const edit = {
      start: startOf(this.#tape, entry),
      end: endOf(this.#tape, entry),
      text: JSON.stringify(starSecrets(text, findings)),
    }
    this.edits.push(edit)
    for (const { rule } of findings) this.#count(rule, 'MASKED', 'ABSTRED')
  }

  /** An Identifier whose system or type says that its value is a secret. */
  #maskIdentifier(object: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const rule = this.#secretOf(object)
    if (rule === undefined) return
    const value = member(tape, object, at.value)
    this.#whole.add(value)
    const text = textOf(tape, value) ?? ''
    const digits = text.replace(/\P{Nd}/gu, '')
    const rendered =
      rule === 'ssn' ? `***-**-${digits.slice(-4)}` : `**** **** **** ${digits.slice(-4)}`
    const extensions = [DATA_ABSENT]
    if (digits.length >= 9) {
      extensions.push(
        `{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":${JSON.stringify(rendered)}}`,
      )
    }
    this.edits.push({
      start: startOf(tape, value - 1),
      end: endOf(tape, value),
      text: `"_value":{"extension":[${extensions.join(',')}]}`,
    })
    // What stood beside the value may render it in full (MASK-2): it goes.
    const beside = [at._value, at.extension]
    this.edits.push(...removeMembers(tape, object, (key) => beside.includes(nameOf(tape, key))))
    this.#count(rule, 'MASKED', ...(digits.length >= 9 ? ['ABSTRED'] : []))
  }

  #secretOf(object: number): 'ssn' | 'payment-card' | undefined {
    const tape = this.#tape
    const { at } = this.#words
    const system = textOf(tape, member(tape, object, at.system))
    if (system !== undefined && SSN_SYSTEMS.has(system)) return 'ssn'
    const type = member(tape, object, at.type)
    for (const coding of elements(tape, member(tape, type, at.coding))) {
      const codeSystem = textOf(tape, member(tape, coding, at.system))
      if (codeSystem !== undefined && !IDENTIFIER_TYPE_SYSTEMS.has(codeSystem)) continue
      const rule = SECRET_TYPES.get(textOf(tape, member(tape, coding, at.code)) ?? '')
      if (rule !== undefined) return rule
    }
    return undefined
  }

  /** MASK-8: what cannot be looked into does not leave while masking is on. */
  #dropAttachment(object: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const data = member(tape, object, at.data)
    if (kindOf(tape, data) !== KIND.string || member(tape, object, at.contentType) < 0) return
    this.edits.push({
      start: startOf(tape, data - 1),
      end: endOf(tape, data),
      text: `"_data":{"extension":[${DATA_ABSENT}]}`,
    })
    this.#count('attachment', 'REDACTED')
  }

  deidentify(object: number, type: string): void {
    const tape = this.#tape
    const { at } = this.#words
    const isPerson = PERSONS.has(type)
    const own = new Set([at.identifier, at.photo, at.note, at.telecom])
    if (isPerson)
      for (const name of [at.name, at.contact, at.extension, at._birthDate]) own.add(name)
    const end = after(tape, object)
    for (let entry = object; entry < end; entry++) {
      if (kindOf(tape, entry) !== KIND.object) continue
      const isReference = (flagsOf(tape, entry) & (1 << at.reference)) !== 0
      const isAddress = nameOf(tape, entry) === at.address
      const edits = removeMembers(tape, entry, (key) => {
        const name = nameOf(tape, key)
        if (isAddress) return name !== at.state && name !== at.country && name !== at.use
        if (isReference) return name === at.display || name === at.identifier
        return own.has(name) || (isPerson && name === at.text)
      })
      this.edits.push(...edits)
      if (edits.length > 0) this.#count('de-identified', 'REDACTED')
      for (const name of [at.birthDate, at.deceasedDateTime]) this.#yearOnly(entry, name)
    }
  }

  #yearOnly(object: number, name: number): void {
    const value = member(this.#tape, object, name)
    const text = textOf(this.#tape, value)
    if (text === undefined || text.length <= 4) return
    const year = /^\d{4}/.exec(text)?.[0]
    this.edits.push({
      start: startOf(this.#tape, value),
      end: endOf(this.#tape, value),
      text: year === undefined ? '"0001"' : `"${year}"`,
    })
    this.#count('de-identified', 'ABSTRED')
  }

  /** Adds the alteration codes to meta.security and replaces the narrative. */
  mark(object: number): void {
    const tape = this.#tape
    const { at } = this.#words
    const codes = [...this.#codes].map(
      (code) =>
        `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"${code}"}`,
    )
    const list = codes.join(',')
    const meta = member(tape, object, at.meta)
    const security = member(tape, meta, at.security)
    if (security >= 0 && kindOf(tape, security) === KIND.array) {
      const isEmpty = after(tape, security) === security + 1
      insert(this.edits, endOf(tape, security) - 1, isEmpty ? list : `,${list}`)
    } else if (meta >= 0 && kindOf(tape, meta) === KIND.object) {
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
    const text = member(tape, object, at.text)
    if (text >= 0 && kindOf(tape, text) === KIND.object) {
      this.edits.push({ start: startOf(tape, text), end: endOf(tape, text), text: STUB })
    }
    for (const contained of elements(tape, member(tape, object, at.contained))) {
      const inner = member(tape, contained, at.text)
      if (inner >= 0)
        this.edits.push({ start: startOf(tape, inner), end: endOf(tape, inner), text: STUB })
    }
  }
}

function insert(edits: Edit[], at: number, text: string): void {
  edits.push({ start: at, end: at, text })
}

/** Whether a payload carries marks of ours, which must never be stored (MASK-10). */
export function isMarked(tape: Tape, object: number, words: Vocabulary): boolean {
  const end = after(tape, object)
  for (let entry = object; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.string) continue
    if (endOf(tape, entry) - startOf(tape, entry) < 8) continue
    const text = textOf(tape, entry) ?? ''
    if (nameOf(tape, entry) === words.at.valueCode && text === 'masked') return true
    if (/\*{3}-\*{2}-\d{4}|\*{4} \*{4} \*{4} \d{4}|\*{3}[ -]?\*{2}[ -]?\d{4}/.test(text))
      return true
  }
  return false
}

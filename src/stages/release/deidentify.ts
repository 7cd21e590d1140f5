import { removeMembers } from '../../json/edit.ts'
import type { Edit } from '../../json/edit.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, endOf, kindOf, member, nameOf, startOf, textOf } from '../../json/tape.ts'
import { DATA_ABSENT_EXTENSION } from './vocabulary.ts'
import type { Vocabulary, Word } from './vocabulary.ts'

/**
 * The `de-identified` profile: what identifies a person and is no use to research, by member name
 * and method. More is taken than must be: contained resources and extensions follow the same table.
 */
const METHODS = {
  /** Removed wherever it stands. */
  everywhere: [
    'identifier',
    'masterIdentifier',
    'groupIdentifier',
    'accessionIdentifier',
    'preAdmissionIdentifier',
    'definitionIdentifier',
    'valueIdentifier',
    'requisition',
    'subscriberId',
    'udiCarrier',
    'serialNumber',
    'lotNumber',
    'distinctIdentifier',
    'telecom',
    'valueContactPoint',
    'valueHumanName',
    'photo',
    'note',
    'authorString',
  ],
  /** Removed in persons as well. */
  persons: ['name', 'contact', 'extension', 'text', '_birthDate', '_deceasedDateTime'],
  /** All that is left of an address, and of a name. */
  addressKeeps: ['state', 'country', 'use'],
  nameKeeps: ['use', 'period'],
  /** Cut to the year. */
  years: ['birthDate', 'deceasedDateTime'],
} as const satisfies Record<string, readonly Word[]>

/** Persons, whose own particulars identify them. */
const PERSONS = new Set(['Patient', 'Practitioner', 'RelatedPerson', 'Person'])

/** What de-identifying a resource comes to: edits, and how many of them remove or abridge. */
export type Deidentification = {
  readonly edits: Edit[]
  readonly removed: number
  readonly abridged: number
}

export function planDeidentification(
  tape: Tape,
  object: number,
  { at }: Vocabulary,
): Deidentification {
  const numbers = (words: readonly Word[]): ReadonlySet<number> => new Set(words.map((w) => at[w]))
  const everywhere = numbers(METHODS.everywhere)
  const persons = numbers(METHODS.persons)
  const addressKeeps = numbers(METHODS.addressKeeps)
  const nameKeeps = numbers(METHODS.nameKeeps)
  const edits: Edit[] = []
  let removed = 0
  let abridged = 0
  /** Up to here entries are inside a person. */
  let personEnd = 0

  const end = after(tape, object)
  for (let entry = object; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.object) continue
    const type = textOf(tape, member(tape, entry, at.resourceType))
    if (type !== undefined && PERSONS.has(type)) personEnd = Math.max(personEnd, after(tape, entry))
    const remove = chooser(entry, entry < personEnd)
    const planned = removals(entry, remove)
    if (planned.length > 0) removed += 1
    edits.push(...planned)
    for (const word of METHODS.years) cutToYear(member(tape, entry, at[word]))
  }
  return { edits, removed, abridged }

  /** Which members of an object go. */
  function chooser(entry: number, isPerson: boolean): (key: number) => boolean {
    const around = nameOf(tape, entry)
    if (around === at.address || around === at.valueAddress) {
      return (key) => !addressKeeps.has(nameOf(tape, key))
    }
    // A HumanName shows by its parts, whatever it is called here.
    if (member(tape, entry, at.family) >= 0 || member(tape, entry, at.given) >= 0) {
      return (key) => !nameKeeps.has(nameOf(tape, key))
    }
    // Reference.display names people; Coding.display, beside a code, does not.
    const isCoding = member(tape, entry, at.code) >= 0
    const isResource = member(tape, entry, at.resourceType) >= 0
    return (key) => {
      const name = nameOf(tape, key)
      // The narrative of a resource is replaced, not removed.
      if (isResource && name === at.text) return false
      return (
        everywhere.has(name) ||
        (isPerson && persons.has(name)) ||
        (name === at.display && !isCoding)
      )
    }
  }

  /** FHIR knows no empty object: what would be one says that its content is masked. */
  function removals(entry: number, remove: (key: number) => boolean): Edit[] {
    const planned = removeMembers(tape, entry, remove)
    if (planned.length === 0) return planned
    const last = after(tape, entry)
    for (let key = entry + 1; key < last; key = after(tape, key + 1)) {
      if (!remove(key)) return planned
    }
    const text = `{"extension":[${DATA_ABSENT_EXTENSION}]}`
    return [{ start: startOf(tape, entry), end: endOf(tape, entry), text }]
  }

  function cutToYear(value: number): void {
    const text = textOf(tape, value)
    if (text === undefined || /^\d{4}$/.test(text)) return
    // What is no date is none that may be shown.
    const year = /^\d{4}(?=-)/.exec(text)?.[0] ?? '0001'
    edits.push({ start: startOf(tape, value), end: endOf(tape, value), text: `"${year}"` })
    abridged += 1
  }
}

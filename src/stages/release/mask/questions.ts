import {
  endOf,
  KIND,
  kindOf,
  knownTextOf,
  member,
  remark,
  remarkOf,
  sameAs,
  startOf,
  textOf,
} from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { CLEAN, CLEAN_SHIFT } from '../systems.ts'
import type { Vocabulary } from '../vocabulary.ts'
import { readAge, readSpan } from './ages.ts'
import type { Age } from './ages.ts'
import { withoutCards } from './number-members.ts'

/**
 * All that a walk asks of what a value says, as against its structure: two resources of one structure
 * with the same answers are masked in the same places (precedents.ts).
 */
export type Question<A extends Answer = Answer> = (tape: Tape, entry: number) => A
export type Answer = string | boolean | number | undefined

/** Those that hang on the profiles. */
export type Questions = {
  /** Whether detectors find nothing in a text. */
  readonly isClean: Question<boolean>
  /** Whether the postal code of an address may be a ZIP code. */
  readonly hasZip: Question<boolean>
  readonly typeOf: Question<string>
  readonly ages: Readonly<Record<'age' | 'span' | 'spans', Question<Age>>>
}

/** What detectors make of a text; undefined = they find nothing. */
export type Detect = (text: string) => { readonly text: string; readonly rule: string } | undefined

/** `serial` is a number of the detectors alone, above 0: what is clean by them is remarked with it. */
export function buildQuestions(
  { at, types }: Pick<Vocabulary, 'at' | 'types'>,
  ends: readonly number[],
  detect: Detect | undefined,
  serial: number,
): Questions {
  return {
    isClean(tape, entry) {
      // Displays and units come again and again: what is clean once is clean wherever it stands.
      const first = sameAs(tape, entry)
      const remarked = remarkOf(tape, first)
      if (remarked >> CLEAN_SHIFT === serial) return true
      if (detect?.(textOf(tape, entry) ?? '') !== undefined) return false
      remark(tape, first, (remarked & (CLEAN - 1)) | (serial << CLEAN_SHIFT))
      return true
    },
    hasZip(tape, address) {
      const country = member(tape, address, at.country)
      if (country < 0) return true
      const text = (textOf(tape, country) ?? '').slice(0, LONGEST_COUNTRY)
      return WITH_ZIP.has(text.toLowerCase().replaceAll(/[^a-z\d]/g, ''))
    },
    typeOf: (tape, entry) => knownTextOf(tape, entry, types) ?? '',
    ages: {
      age: (tape, quantity) => readAge(tape, quantity, at),
      span: (tape, quantity) => readSpan(tape, quantity, at),
      spans(tape, range) {
        const isYoung = ends.every(
          (end) => readSpan(tape, member(tape, range, end), at) === 'young',
        )
        return isYoung ? 'young' : 'unclear'
      },
    },
  }
}

export const isNull: Question<boolean> = (tape, entry) =>
  kindOf(tape, entry) === KIND.literal && tape.bytes[startOf(tape, entry)] === 0x6e

/** Whether a member is no payment card as a number of JSON, and no list with one in it. */
export const isCardless: Question<boolean> = (tape, key) =>
  withoutCards(tape, key, () => '') === undefined

/** Whether a canonical leads to what is contained. */
export const isFragment: Question<boolean> = (tape, entry) =>
  textOf(tape, entry)?.startsWith('#') === true

/** FHIR lets a code have spaces and any length, so that it may be a text that somebody wrote. */
export const isWordy: Question<boolean> = (tape, entry) => {
  const [start, end] = [startOf(tape, entry) + 1, endOf(tape, entry) - 1]
  const third = tape.bytes[start + 3]
  // Most codes are plain, and need not be read; a number in parts may be one of somebody's.
  let isPlain = end - start <= LONGEST_CODE && third !== 0x2d && third !== 0x2e
  for (let at = start; isPlain && at < end; at++) isPlain = PLAIN[tape.bytes[at] as number] === 1
  if (isPlain) return false
  const text = textOf(tape, entry) ?? ''
  return text.length > LONGEST_CODE || WORDY.test(text)
}
/** A UUID has 36 signs. */
const LONGEST_CODE = 40
const WORDY = /[\s@]|:\/\/|^\d{3}[-.]\d{2,3}[-.]\d{4}$/
const PLAIN = Uint8Array.from({ length: 0x100 }, (_, c) =>
  /[!-~]/.test(String.fromCharCode(c)) && !'@:\\'.includes(String.fromCharCode(c)) ? 1 : 0,
)

const LONGEST_COUNTRY = 60
/** ZIP codes are those of the United States: ISO 3166-1 in two and three letters and by number, and names. */
const WITH_ZIP: ReadonlySet<string> = new Set(
  (
    'us usa 840 unitedstates unitedstatesofamerica theunitedstates theunitedstatesofamerica ' +
    'pr pri 630 puertorico gu gum 316 guam vi vir 850 virginislands virginislandsus usvirginislands ' +
    'unitedstatesvirginislands as asm 016 americansamoa mp mnp 580 northernmarianaislands'
  ).split(' '),
)

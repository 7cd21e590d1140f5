import {
  endOf,
  flagsOf,
  kindOf,
  KIND,
  remark,
  remarkOf,
  sameAs,
  startOf,
  textOf,
} from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { FLAG } from '../../json/token.ts'
import { IDENTIFIER_TYPE_SYSTEMS } from './identifiers.ts'
import {
  ACT_CODE_SYSTEM,
  CONFIDENTIALITIES,
  CONFIDENTIALITY_SYSTEM,
  SSN_SYSTEMS,
  systemOf,
} from './vocabulary.ts'
import { recall } from '../../recall.ts'

/** What a code system is to masking and labels: bits. */
export const SYSTEM = {
  /** None is said, or none that can be read. */
  none: 1,
  ssn: 2,
  identifierType: 4,
  confidentiality: 8,
  actCode: 16,
  other: 32,
} as const

/**
 * What the code system at `entry` is, -1 = not there. Found out once for all equal strings of a tape:
 * they are few, and stand there by the thousand.
 */
export function systemAt(tape: Tape, entry: number): number {
  if (entry < 0 || kindOf(tape, entry) !== KIND.string) return SYSTEM.none
  const first = sameAs(tape, entry)
  const remarked = remarkOf(tape, first)
  if ((remarked & (CLEAN - 1)) !== 0) return remarked & (CLEAN - 1)
  const found = recallClass(textOf(tape, entry) ?? '')
  remark(tape, first, remarked | found)
  return found
}

/** In a remark: below it the bits of SYSTEM, above it by which rules a text was found clean. */
export const CLEAN_SHIFT = 8
export const CLEAN = 1 << CLEAN_SHIFT

/** A code of confidentiality as its place in CONFIDENTIALITIES, or -1 for any other text. */
export function confidentialityAt(tape: Tape, entry: number): number {
  if (entry < 0 || kindOf(tape, entry) !== KIND.string) return -1
  if ((flagsOf(tape, entry) & FLAG.escaped) !== 0) return rankOf(textOf(tape, entry))
  // All of them are one letter.
  const start = startOf(tape, entry)
  if (endOf(tape, entry) - start !== 3) return -1
  return rankOf(String.fromCharCode(tape.bytes[start + 1] as number))
}
const rankOf = (code: string | undefined): number =>
  CONFIDENTIALITIES.findIndex((one) => one === code)

/** A server has a few hundred systems, and says them in every answer. */
const recallClass = recall(classOf, { most: 1024, longest: 200 })

function classOf(text: string): number {
  const system = systemOf(text)
  if (system === '') return SYSTEM.none
  const found =
    (SSN_SYSTEMS.has(system) ? SYSTEM.ssn : 0) |
    (IDENTIFIER_TYPE_SYSTEMS.has(system) ? SYSTEM.identifierType : 0) |
    (CONFIDENTIALITY_SYSTEM.test(system) ? SYSTEM.confidentiality : 0) |
    (ACT_CODE_SYSTEM.test(system) ? SYSTEM.actCode : 0)
  return found === 0 ? SYSTEM.other : found
}

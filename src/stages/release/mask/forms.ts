import { endOf, flagsOf, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { FLAG } from '../../../json/token.ts'
import { isDate } from './dates.ts'

/** By type, whether a text of it is one indeed: any other may be what somebody wrote. */
export const FORMS: ReadonlyMap<string, (tape: Tape, entry: number) => boolean> = new Map([
  ...['date', 'dateTime', 'instant'].map((type) => [type, isFormedDate] as const),
  ['time', (tape, entry) => /^[\d:.]{5,30}$/.test(textOf(tape, entry) ?? '')],
  // JSON has no number of that size (https://hl7.org/fhir/R5/json.html#primitive).
  ['integer64', (tape, entry) => /^-?\d{1,19}$/.test(textOf(tape, entry) ?? '')],
])

function isFormedDate(tape: Tape, entry: number): boolean {
  if ((flagsOf(tape, entry) & FLAG.escaped) === 0)
    return isDate(tape.bytes, startOf(tape, entry) + 1, endOf(tape, entry) - 1)
  const text = Buffer.from(textOf(tape, entry) ?? '')
  return isDate(text, 0, text.length)
}

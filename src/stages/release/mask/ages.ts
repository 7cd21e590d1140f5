import { endOf, member, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { Vocabulary } from '../vocabulary.ts'

/** Stands for every age above 89 (45 CFR 164.514(b)(2)(i)(C)). */
export const OLD =
  '{"value":90,"comparator":">=","unit":"years","system":"http://unitsofmeasure.org","code":"a"}'
const OLDEST_TOLD = 90
/** Years, of a unit that nobody knows: a decade. */
const LONGEST_UNIT = 10

const PER_YEAR: ReadonlyMap<string, number> = new Map([
  ...['a', 'y', 'yr', 'yrs', 'year', 'years'].map((unit) => [unit, 1] as const),
  ...['mo', 'mos', 'month', 'months'].map((unit) => [unit, 12] as const),
  ...['wk', 'wks', 'week', 'weeks'].map((unit) => [unit, 52.1775] as const),
  ...['d', 'day', 'days'].map((unit) => [unit, 365.25] as const),
  ...['h', 'hr', 'hour', 'hours'].map((unit) => [unit, 8766] as const),
  ...['min', 'minute', 'minutes'].map((unit) => [unit, 525_960] as const),
])

/** Whether a Quantity is an age of 89 or less, or one above; 'unclear' = nobody can tell. */
export function readAge(
  tape: Tape,
  quantity: number,
  at: Vocabulary['at'],
): 'young' | 'old' | 'unclear' {
  const value = member(tape, quantity, at.value)
  if (value < 0) return 'young'
  const number = Number(tape.bytes.toString('latin1', startOf(tape, value), endOf(tape, value)))
  const unit =
    textOf(tape, member(tape, quantity, at.code)) ??
    textOf(tape, member(tape, quantity, at.unit)) ??
    'a'
  const perYear = PER_YEAR.get(unit.toLowerCase())
  // What nobody knows may be decades; no unit of an age is longer.
  if (number / (perYear ?? 1 / LONGEST_UNIT) < OLDEST_TOLD) return 'young'
  // "Less than 95", or 95 of what nobody knows, is not "90 or more".
  const comparator = textOf(tape, member(tape, quantity, at.comparator)) ?? '>'
  const isOld = perYear !== undefined && Number.isFinite(number) && comparator.startsWith('>')
  return isOld ? 'old' : 'unclear'
}

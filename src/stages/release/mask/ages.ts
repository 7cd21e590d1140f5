import { endOf, member, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { Vocabulary } from '../vocabulary.ts'
import { recall } from '../../../recall.ts'

/** Stands for every age above 89 (45 CFR 164.514(b)(2)(i)(C)). */
export const OLD =
  '{"value":90,"comparator":">=","unit":"years","system":"http://unitsofmeasure.org","code":"a"}'
const OLDEST_TOLD = 90
/** To a year, of a unit that nobody knows: a decade. */
const LONGEST_UNIT = 0.1

const words = (per: number, text: string): [string, number][] =>
  text.split(' ').map((unit) => [unit, per])

/** How many make a year, by code of UCUM and by word, spelled as {@link perYearOf} does. */
const PER_YEAR: ReadonlyMap<string, number> = new Map([
  ...words(LONGEST_UNIT, 'decade decades'),
  ...words(1, 'a a_j a_t a_g ann y yr yrs year years yo y/o yearold yearsold yearsofage'),
  ...words(1, 'jahr jahre jahren an ans année années año años ano anos anno anni jaar jaren år'),
  ...words(12, 'mo mo_j mo_s mo_g mos mth mths month months monthsold'),
  ...words(12, 'monat monate monaten mois mes meses mese mesi mês maand maanden'),
  ...words(52.1775, 'wk wks week weeks weeksold woche wochen semaine semaines semana semanas'),
  ...words(365.25, 'd day days daysold tag tage tagen jour jours día días dia dias dag dagen'),
  ...words(8766, 'h hr hrs hour hours'),
  ...words(525_960, 'min mins minute minutes'),
  ...words(31_557_600, 's sec secs second seconds'),
])
const LONGEST_WORD = 40

/** `Years`, `year(s)`, `y.o.`, `a{age}` and `{years}` are units as well. */
function perYearOf(unit: string | undefined): number | undefined {
  if (unit === undefined || unit.length > LONGEST_WORD) return undefined
  const perYear = recallUnit(unit)
  return perYear === 0 ? undefined : perYear
}

/** A server has a few hundred; 0 = none of time. */
const recallUnit = recall(
  (unit) => {
    const word = unit.replace(/(?<=.)\{.*/, '').replaceAll(/[\s.(){}]/g, '')
    return PER_YEAR.get(unit) ?? PER_YEAR.get(word.toLowerCase()) ?? 0
  },
  { most: 1024 },
)

export type Age = 'young' | 'old' | 'unclear'

/** Whether a Quantity that is an age is one of 89 or less, or one above; 'unclear' = nobody can tell. */
export function readAge(tape: Tape, quantity: number, at: Vocabulary['at']): Age {
  // What nobody knows may be decades; no unit of an age is longer.
  return judge(tape, quantity, at, (hasUnit) => (hasUnit ? LONGEST_UNIT : 1), true)
}

/**
 * The same of a Quantity that may be anything: it is an age if it has a unit of time. Without any unit
 * nobody can tell.
 */
export function readSpan(tape: Tape, quantity: number, at: Vocabulary['at']): Age {
  return judge(tape, quantity, at, (hasUnit) => (hasUnit ? undefined : 1), false)
}

/** `unknown` says how many make a year of what is no unit of time; undefined = it is no age. */
function judge(
  tape: Tape,
  quantity: number,
  at: Vocabulary['at'],
  unknown: (hasUnit: boolean) => number | undefined,
  isYears: boolean,
): Age {
  const value = member(tape, quantity, at.value)
  if (value < 0) return 'young'
  const number = Number(tape.bytes.toString('latin1', startOf(tape, value), endOf(tape, value)))
  // Below a decade times this nothing is old.
  if (number < OLDEST_TOLD * LONGEST_UNIT) return 'young'
  const code = textOf(tape, member(tape, quantity, at.code))
  const unit = textOf(tape, member(tape, quantity, at.unit))
  // Where the two do not agree, either may be what is read.
  const known = Math.min(perYearOf(code) ?? Infinity, perYearOf(unit) ?? Infinity)
  const hasUnit = code !== undefined || unit !== undefined
  const perYear = known === Infinity ? unknown(hasUnit) : known
  if (perYear === undefined || number / perYear < OLDEST_TOLD) return 'young'
  // "Less than 95", or 95 of what nobody knows, is not "90 or more".
  const comparator = textOf(tape, member(tape, quantity, at.comparator)) ?? '>'
  const isSure = known !== Infinity || (isYears && !hasUnit)
  return isSure && Number.isFinite(number) && comparator.startsWith('>') ? 'old' : 'unclear'
}

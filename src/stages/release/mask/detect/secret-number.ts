import { LEAST_BYTES, LEAST_WHOLE } from '../../../../json/notice.ts'
import { endOf, KIND, kindOf, startOf } from '../../../../json/tape.ts'
import type { Tape } from '../../../../json/tape.ts'
import { findBareSsn, findSecrets } from './secrets.ts'

/** The digits of the card that a value is as a number of JSON; undefined = it is none. */
export const cardAt = (tape: Tape, entry: number): string | undefined =>
  secretIn(tape, entry, cardOf)

/** The nine digits of the SSN that it is, if something calls it one. */
export const ssnAt = (tape: Tape, entry: number): string | undefined => secretIn(tape, entry, ssnOf)

/** Of digits times ten to the power. */
type Read = (digits: string, power: number) => string | undefined

/**
 * What a number is as it is written: by its value, of which a reader is told in full, or by the digits
 * before its exponent. What has a fraction is measured.
 */
function secretIn(tape: Tape, entry: number, read: Read): string | undefined {
  const [start, end] = [startOf(tape, entry), endOf(tape, entry)]
  if (kindOf(tape, entry) !== KIND.number || end - start < LEAST_BYTES) return undefined
  const number = tape.bytes.toString('latin1', start, end)
  const [, whole = '', fraction = '', exponent = '0'] = NUMBER.exec(number) ?? []
  const digits = whole + fraction
  return (
    read(digits, Number(exponent) - fraction.length) ??
    (exponent === '0' ? undefined : read(digits, -fraction.length))
  )
}
const NUMBER = /^-?(\d+)(?:\.(\d+))?(?:e([-+]?\d+))?$/i

/** What has fewer digits is in round figures: 4.3e12 red cells in a litre pass the check of a card. */
const LEAST_SIGNIFICANT = 8
/** ISO/IEC 7812. */
const LONGEST = 19

function cardOf(digits: string, power: number): string | undefined {
  const card = wholeOf(digits, power, LEAST_SIGNIFICANT)
  return card !== undefined && findSecrets(card).length > 0 ? card : undefined
}

/** A number has no zeros in front: those of the first areas are found again. */
function ssnOf(digits: string, power: number): string | undefined {
  const ssn = wholeOf(digits, power, 1)
  if (ssn === undefined || ssn.length < LEAST_WHOLE || ssn.length > 9) return undefined
  const whole = ssn.padStart(9, '0')
  return findBareSsn(whole) === undefined ? undefined : whole
}

/** The digits of a whole number with so many at least that count; undefined = it is none, or too long. */
function wholeOf(digits: string, power: number, least: number): string | undefined {
  let [start, end] = [0, digits.length]
  while (digits.charCodeAt(start) === 0x30) start++
  while (end > start && digits.charCodeAt(end - 1) === 0x30) end--
  const zeros = power + digits.length - end
  const isLikely = zeros >= 0 && end - start >= least && end - start + zeros <= LONGEST
  return isLikely ? digits.slice(start, end) + '0'.repeat(zeros) : undefined
}

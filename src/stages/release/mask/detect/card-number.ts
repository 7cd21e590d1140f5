import { LEAST_BYTES } from '../../../../json/notice.ts'
import { endOf, KIND, kindOf, startOf } from '../../../../json/tape.ts'
import type { Tape } from '../../../../json/tape.ts'
import { findSecrets } from './secrets.ts'

/** The digits of the card that a value is as a number of JSON; undefined = it is none. */
export function cardAt(tape: Tape, entry: number): string | undefined {
  const [start, end] = [startOf(tape, entry), endOf(tape, entry)]
  if (kindOf(tape, entry) !== KIND.number || end - start < LEAST_BYTES) return undefined
  return cardIn(tape.bytes.toString('latin1', start, end))
}

/**
 * The same of a number as it is written: by its value, of which a reader is told in full, or by the
 * digits before its exponent. What has a fraction is measured.
 */
export function cardIn(number: string): string | undefined {
  const [, whole = '', fraction = '', exponent = '0'] = NUMBER.exec(number) ?? []
  const digits = whole + fraction
  return (
    cardOf(digits, Number(exponent) - fraction.length) ??
    (exponent === '0' ? undefined : cardOf(digits, -fraction.length))
  )
}
const NUMBER = /^-?(\d+)(?:\.(\d+))?(?:e([-+]?\d+))?$/i

/** What has fewer digits is in round figures: 4.3e12 red cells in a litre pass the check of a card. */
const LEAST_SIGNIFICANT = 8
/** ISO/IEC 7812. */
const LONGEST = 19

/** Of digits times ten to the power. */
function cardOf(digits: string, power: number): string | undefined {
  let [start, end] = [0, digits.length]
  while (digits.charCodeAt(start) === 0x30) start++
  while (end > start && digits.charCodeAt(end - 1) === 0x30) end--
  const zeros = power + digits.length - end
  const isLikely = zeros >= 0 && end - start >= LEAST_SIGNIFICANT && end - start + zeros <= LONGEST
  if (!isLikely) return undefined
  const card = digits.slice(start, end) + '0'.repeat(zeros)
  return findSecrets(card).length > 0 ? card : undefined
}

import { endOf, flagsOf, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { FLAG } from '../../../json/token.ts'
import { CODE } from './codes.ts'
import { formatParts, SAME } from './method-context.ts'
import type { Made, MethodContext } from './method-context.ts'

/** Ages above 89 are told by a year alone (45 CFR 164.514(b)(2)(i)(C)). */
const OLDEST = 90
const DAY = 86_400_000

/** A year where the type can hold one alone; of an instant the first moment of it. */
export function yearAt(
  tape: Tape,
  entry: number,
  type: string,
  { known: { thisYear } }: MethodContext,
): Made | undefined {
  let [bytes, start, end] = [tape.bytes, startOf(tape, entry) + 1, endOf(tape, entry) - 1]
  if ((flagsOf(tape, entry) & FLAG.escaped) !== 0) {
    bytes = Buffer.from(textOf(tape, entry) ?? '')
    ;[start, end] = [0, bytes.length]
  }
  if (!isDate(bytes, start, end)) return undefined
  let year = 0
  for (let at = start; at < start + 4; at++) year = year * 10 + (bytes[at] as number) - ZERO
  if (year < thisYear - (OLDEST - 1)) return undefined
  if (type === 'date' || type === 'dateTime')
    return end - start === 4 ? SAME : { text: `"${year}"`, code: CODE.ABSTRED }
  if (type !== 'instant') return undefined
  const first = `${year}${NEW_YEAR}`
  if (end - start === first.length && bytes.toString('latin1', start, end) === first) return SAME
  return { text: `"${first}"`, code: CODE.ABSTRED }
}
const NEW_YEAR = '-01-01T00:00:00Z'

/**
 * Whether bytes are a date, or a time of one, as FHIR writes them:
 * `\d{4}(-\d{2}(-\d{2}(T[\d:.]{5,30}(Z|[+-]\d{2}:\d{2}))?)?)?`.
 */
export function isDate(bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start
  if (length <= DAY_FORM.length) {
    return (
      (length === 4 || length === 7 || length === 10) && hasForm(bytes, start, DAY_FORM, length)
    )
  }
  if (!hasForm(bytes, start, DAY_FORM, 10) || bytes[start + 10] !== 0x54) return false
  const isUtc = bytes[end - 1] === 0x5a
  const zone = isUtc ? end - 1 : end - ZONE_FORM.length
  const time = start + 11
  if (zone - time < 5 || zone - time > 30) return false
  // Digits, the colon behind them, and the point.
  for (let at = time; at < zone; at++) {
    const one = bytes[at] as number
    if ((one < ZERO || one > 0x3a) && one !== 0x2e) return false
  }
  const sign = bytes[zone]
  return (
    isUtc ||
    ((sign === 0x2b || sign === 0x2d) && hasForm(bytes, zone + 1, ZONE_FORM.subarray(1), 5))
  )
}
const ZERO = 0x30
/** Zeros stand for any digit. */
const DAY_FORM = Buffer.from('0000-00-00')
const ZONE_FORM = Buffer.from('+00:00')

function hasForm(bytes: Uint8Array, start: number, form: Uint8Array, length: number): boolean {
  for (let n = 0; n < length; n++) {
    const one = bytes[start + n] as number
    const asked = form[n]
    if (asked === ZERO ? one < ZERO || one > 0x39 : one !== asked) return false
  }
  return true
}

/** By 1 to 182 days either way, the same for all of one patient; the time of day stays. */
export function shifted(text: string, type: string, context: MethodContext): Made | undefined {
  const [, day = '', year = '', date, time = ''] = MOMENT.exec(text) ?? []
  // There is no year 0, and no instant without a time.
  if (day === '' || year === '0000' || (type === 'instant' && time === '')) return undefined
  const moved = date === undefined ? undefined : moveDay(day, text, context)
  if (moved === undefined)
    return { text: type === 'instant' ? `${year}-01-01T00:00:00Z` : year, code: CODE.ABSTRED }
  return { text: type === 'date' ? moved : moved + time, code: CODE.MASKED }
}

/** As FHIR writes dates; whatever else is in a time may be anything. */
const MOMENT =
  /^((\d{4})(?:-\d{2}(-\d{2})?)?)(T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d{1,9})?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d))?$/

/** The day that is shown for one; undefined = nothing but its year. */
function moveDay(
  day: string,
  text: string,
  { keyedHash, patient, known: { thisYear } }: MethodContext,
): string | undefined {
  const [time, moment] = [Date.parse(day), Date.parse(text)]
  // A patient nobody can name has no shift of its own: another's would tell them apart from nothing.
  if (patient === undefined || Number.isNaN(time) || Number.isNaN(moment)) return undefined
  const digest = keyedHash(formatParts('date-shift', patient))
  const drawn = Number.parseInt(digest.slice(0, 8), 16) % 364
  const days = drawn < 182 ? drawn - 182 : drawn - 181
  const moved = time + days * DAY
  // Shifted, a day that stands for none would give away by how much all the others are.
  const isReal = [time, moved].every((one) => {
    const year = new Date(one).getUTCFullYear()
    return year >= thisYear - LONGEST_LIFE && year <= thisYear + FURTHEST
  })
  if (!isReal || STAND_INS.has(day) || STAND_INS.has(dayOf(moment))) return undefined
  return dayOf(moved)
}

const dayOf = (time: number): string => new Date(time).toISOString().slice(0, 10)

/** Years: what is older is the zero of some system (1753, 1840, 1900), what is later means no end. */
const LONGEST_LIFE = 120
const FURTHEST = 20

/**
 * Days within that range at which clocks begin or end: of Unix, which is the day before west of
 * Greenwich, of DOS, of devices without a battery, and of 32 bits. Somebody may be born on one, so
 * that it cannot stay as it is.
 */
const STAND_INS: ReadonlySet<string> = new Set([
  ...['1969-12-31', '1970-01-01', '1980-01-01', '2000-01-01', '2038-01-19'],
])

import { sameAs, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { KeyedHash } from './keyed-hash.ts'
import type { Method } from '../../../policy/masking-schema.ts'
import { CODE } from './alteration.ts'

/** Who is shown what, as far as methods depend on it. */
export type MethodContext = {
  /** Pseudonyms and shifts of dates hang on its key. */
  readonly keyedHash: KeyedHash
  /** For whom pseudonyms are made: no two recipients can compare theirs. */
  readonly recipient: string
  /** Bare id of the one patient that the resource is about, if it is. */
  readonly patient: string | undefined
  /** Made for this answer and recipient already: most references name the same few. */
  readonly known: Known
  /** Base of what is named relative to it; undefined = ours. */
  readonly home?: string | undefined
}

/** What need not be found out again for one answer. */
export type Known = {
  /** The year that it is, UTC. */
  readonly thisYear: number
  /** What may stand before an id: any other word may be somebody's name. */
  readonly isType: (name: string) => boolean
  /** Upstream's base and the public one: what is there is ours. */
  readonly bases: readonly string[]
  /** Pseudonyms by the text that they take the place of, and what they share by the part that is one. */
  readonly texts: Map<string, string>
  readonly tokens: Map<string, string>
  /** The same by the string of a tape, of which equal ones are known: {@link sameAs}. */
  readonly places: Map<number, string>
  tape: Tape | undefined
}

/** `now` in milliseconds since the epoch. */
export const createKnown = (
  now: number,
  isType: Known['isType'],
  bases: Known['bases'],
): Known => ({
  thisYear: new Date(now).getUTCFullYear(),
  isType,
  bases,
  texts: new Map(),
  tokens: new Map(),
  places: new Map(),
  tape: undefined,
})

/** What a method makes of a simple value; undefined = it cannot be shown at all. */
export type Made = { readonly text: string; readonly code: number }

/** What becomes of the text of a primitive value of the type. */
export function alter(
  method: Method,
  text: string,
  type: string,
  context: MethodContext,
): Made | undefined {
  if (method.kind === 'generalise') {
    const made =
      method.to === 'year'
        ? yearOf(text, type, context.known.thisYear)
        : method.to === 'zip3'
          ? zip3Of(text)
          : undefined
    return made === undefined ? undefined : { text: made, code: CODE.ABSTRED }
  }
  if (method.kind === 'date-shift') return shifted(text, type, context)
  if (method.kind === 'pseudonym') {
    return { text: pseudonym(text, type, context), code: CODE.PSEUDED }
  }
  if (method.kind === 'replace' && STRINGS.has(type))
    return { text: method.text, code: CODE.MASKED }
  return undefined
}

const STRINGS: ReadonlySet<string> = new Set(['string', 'markdown'])

/** Ages above 89 are told by a year alone (45 CFR 164.514(b)(2)(i)(C)). */
const OLDEST = 90
const DAY = 86_400_000

/** A year where the type can hold one alone; of an instant the first moment of it. */
function yearOf(text: string, type: string, thisYear: number): string | undefined {
  if (!DATE.test(text)) return undefined
  const year = text.slice(0, 4)
  if (Number(year) < thisYear - (OLDEST - 1)) return undefined
  if (type === 'date' || type === 'dateTime') return year
  return type === 'instant' ? `${year}-01-01T00:00:00Z` : undefined
}
const DATE = /^\d{4}(?:-\d{2}(?:-\d{2}(?:T[\d:.]{5,30}(?:Z|[+-]\d{2}:\d{2}))?)?)?$/

/** Census 2000: areas of three digits in which 20,000 people or fewer live. */
const RESTRICTED: ReadonlySet<string> = new Set(
  '036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893'.split(' '),
)

function zip3Of(text: string): string | undefined {
  const [, area] = /^\s{0,9}(\d{3})\d{2}(?:[- ]?\d{4})?\s{0,9}$/.exec(text) ?? []
  if (area === undefined) return /^\d{3}$/.test(text) && !RESTRICTED.has(text) ? text : undefined
  return RESTRICTED.has(area) ? '000' : area
}

/** By 1 to 182 days either way, the same for all of one patient; the time of day stays. */
function shifted(text: string, type: string, context: MethodContext): Made | undefined {
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

/**
 * The same for the same text and recipient wherever it stands, so that references still lead to what
 * they led to: of `Patient/1` the id, of `urn:uuid:…` the uuid, of `#1` what follows the sign. A bare
 * id has that of what it is one of: `Patient/1` and `Group/1` are two.
 */
export function pseudonym(
  text: string,
  type: string,
  context: PseudonymContext,
  idOf?: string,
): string {
  // What is no address is one thing as a URI and another as a text.
  const isUri = URIS.has(type)
  const { home = '', known } = context
  const name = `${home.length}${isUri ? '/' : ' '}${home}${idOf ?? ''} ${text}`
  return recall(known.texts, name, () =>
    idOf === undefined || text.startsWith('#')
      ? buildPseudonym(text, isUri, context)
      : tokenOf(idOf === CONTAINED ? idOf : `${home}${idOf}`, text, context),
  )
}

/** Ids of what is contained: a reference to one does not say its type. */
export const CONTAINED = '#'

/** The same of a string on a tape. */
export function pseudonymAt(
  tape: Tape,
  entry: number,
  type: string,
  context: PseudonymContext,
): string {
  const { known, home } = context
  if (known.tape !== tape) {
    known.tape = tape
    known.places.clear()
  }
  // Where equal ones are not known each is its own, and met once.
  const first = sameAs(tape, entry)
  const place = first * 2 + (URIS.has(type) ? 1 : 0)
  const met = first < entry && home === undefined ? known.places.get(place) : undefined
  if (met !== undefined) return met
  const made = pseudonym(textOf(tape, entry) ?? '', type, context)
  if (home === undefined) known.places.set(place, made)
  return made
}

function recall(known: Map<string, string>, name: string, make: () => string): string {
  const met = known.get(name)
  if (met !== undefined) return met
  const made = make()
  if (known.size >= MOST_KNOWN) known.clear()
  known.set(name, made)
  return made
}
const MOST_KNOWN = 20_000

/** What pseudonyms are made of. */
export type PseudonymContext = Pick<MethodContext, 'keyedHash' | 'recipient' | 'known' | 'home'>

function buildPseudonym(text: string, isUri: boolean, context: PseudonymContext): string {
  const token = (part: string, of = ''): string => tokenOf(of, part, context)
  if (text.includes('/')) {
    const [, base, type, id] = RESOURCE.exec(text) ?? []
    if (type !== undefined && id !== undefined && context.known.isType(type))
      return `${type}/${token(id, `${homeOf(base, context) ?? ''}${type}`)}`
  }
  if (/^urn:uuid:/i.test(text)) return `urn:uuid:${uuidOf(token(text.slice(9).toLowerCase()))}`
  if (text.startsWith('#')) return `#${text === '#' ? '' : token(text.slice(1), CONTAINED)}`
  // What is some other address, or must be one, is known by nobody elsewhere.
  const isAddress = isUri || /^[a-z][a-z0-9+.-]{1,20}:/i.test(text)
  return isAddress ? `urn:uuid:${uuidOf(token(text))}` : token(text)
}

function tokenOf(
  of: string,
  part: string,
  { keyedHash, recipient, known }: PseudonymContext,
): string {
  return recall(known.tokens, `${of.length} ${of}${part}`, () =>
    keyedHash(formatParts('pseudonym', recipient, of, part)).slice(0, 32),
  )
}

/** `Patient/1`, and the same at the end of an address. */
const RESOURCE =
  /^(?:(.{0,2000})\/)?([A-Z][A-Za-z]{1,63})\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/.{1,64})?$/

/** The base that tells what an address names from what has its type and id with us. */
function homeOf(base: string | undefined, { known, home }: PseudonymContext): string | undefined {
  if (base === undefined) return home
  return known.bases.includes(base) ? undefined : `${base}/`
}

/** The same context within an entry of a Bundle, whose own address the others there are relative to. */
export function atHome(fullUrl: string, context: MethodContext): MethodContext {
  const [, base] = RESOURCE.exec(fullUrl) ?? []
  const home = homeOf(base, context)
  return home === context.home ? context : { ...context, home }
}

/** 122 bits in the form of a uuid of version 8, "custom" (RFC 9562 §5.8). */
function uuidOf(hex: string): string {
  const [low, mid, high] = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(13, 16)]
  return `${low}-${mid}-8${high}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}

const URIS: ReadonlySet<string> = new Set(['uri', 'url', 'canonical', 'oid', 'uuid'])

/** The parts, each with its length, so that no two lists run into one. */
function formatParts(...parts: readonly string[]): string {
  let text = ''
  for (const part of parts) text += `${Buffer.byteLength(part)}:${part}`
  return text
}

/** Stars but for the last `count` letters and digits, when there are enough not to show most of it. */
export function lastOf(text: string, count: number): string | undefined {
  const units = Array.from(text)
  let left = units.filter((unit) => SIGN.test(unit)).length
  if (left < Math.max(9, count * 2)) return undefined
  return units.map((unit) => (SIGN.test(unit) && left-- > count ? '*' : unit)).join('')
}
const SIGN = /[\p{L}\p{N}\p{M}]/u

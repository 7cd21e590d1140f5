import { createHmac } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import type { Method } from '../../policy/masking-schema.ts'
import type { AlterationCode } from './alteration.ts'

/** Who is shown what, as far as methods depend on it. */
export type MethodContext = {
  /** Secret of at least 32 bytes; pseudonyms and shifts of dates hang on it. */
  readonly key: KeyObject
  /** For whom pseudonyms are made: no two recipients can compare theirs. */
  readonly recipient: string
  /** Bare id of the one patient that the resource is about, if it is. */
  readonly patient: string | undefined
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Pseudonyms made for this answer already: most references name the same few. */
  readonly known: Map<string, string>
}

/** What a method makes of a simple value; undefined = it cannot be shown at all. */
export type Made = { readonly text: string; readonly code: AlterationCode }

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
        ? yearOf(text, type, context.now)
        : method.to === 'zip3'
          ? zip3Of(text)
          : undefined
    return made === undefined ? undefined : { text: made, code: 'ABSTRED' }
  }
  if (method.kind === 'date-shift') return shifted(text, type, context)
  if (method.kind === 'pseudonym') {
    return { text: pseudonym(text, type, context), code: 'PSEUDED' }
  }
  if (method.kind === 'replace' && STRINGS.has(type)) return { text: method.text, code: 'MASKED' }
  return undefined
}

const STRINGS: ReadonlySet<string> = new Set(['string', 'markdown'])

/** Ages above 89 are told by a year alone (45 CFR 164.514(b)(2)(i)(C)). */
const OLDEST = 90
const DAY = 86_400_000

/** A year where the type can hold one alone; of an instant the first moment of it. */
function yearOf(text: string, type: string, now: number): string | undefined {
  const [, year] =
    /^(\d{4})(?:-\d{2}(?:-\d{2}(?:T[\d:.]{5,30}(?:Z|[+-]\d{2}:\d{2}))?)?)?$/.exec(text) ?? []
  if (year === undefined) return undefined
  if (Number(year) < new Date(now).getUTCFullYear() - (OLDEST - 1)) return undefined
  if (type === 'date' || type === 'dateTime') return year
  return type === 'instant' ? `${year}-01-01T00:00:00Z` : undefined
}

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
function shifted(text: string, type: string, { key, patient }: MethodContext): Made | undefined {
  const [, day, rest = ''] =
    /^(\d{4}-\d{2}-\d{2})(T[\d:.]{5,30}(?:Z|[+-]\d{2}:\d{2}))?$/.exec(text) ?? []
  if (day === undefined) {
    const [year] = /^\d{4}(?=-\d{2}$|$)/.exec(text) ?? []
    return year === undefined || type === 'instant' ? undefined : { text: year, code: 'ABSTRED' }
  }
  const time = Date.parse(day)
  // A patient nobody can name has no shift of its own: another's would tell them apart from nothing.
  if (patient === undefined || Number.isNaN(time)) {
    return {
      text: type === 'instant' ? `${day.slice(0, 4)}-01-01T00:00:00Z` : day.slice(0, 4),
      code: 'ABSTRED',
    }
  }
  const drawn = digest(key, 'date-shift', patient).readUInt32BE(0) % 364
  const days = drawn < 182 ? drawn - 182 : drawn - 181
  const moved = new Date(time + days * DAY).toISOString().slice(0, 10)
  return { text: moved + rest, code: 'MASKED' }
}

/**
 * The same for the same text and recipient wherever it stands, so that references still lead to what
 * they led to: of `Patient/1` the id, of `urn:uuid:…` the uuid, of `#1` what follows the sign.
 */
export function pseudonym(
  text: string,
  type: string,
  context: Pick<MethodContext, 'key' | 'recipient' | 'known'>,
): string {
  const hex = (part: string): string => tokenOf(part, context)
  const uuid = (part: string): string =>
    hex(part).replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-8$3-8$4-$5')
  const [, folder, id] =
    /^(?:.{0,2000}\/)?([A-Z][A-Za-z]{1,63}\/)([A-Za-z0-9\-.]{1,64})(?:\/_history\/.{1,64})?$/.exec(
      text,
    ) ?? []
  if (folder !== undefined && id !== undefined) return folder + hex(id)
  if (/^urn:uuid:/i.test(text)) return `urn:uuid:${uuid(text.slice(9).toLowerCase())}`
  if (text.startsWith('#')) return `#${text === '#' ? '' : hex(text.slice(1))}`
  // What is some other address, or must be one, is known by nobody elsewhere.
  const isAddress = URIS.has(type) || /^[a-z][a-z0-9+.-]{1,20}:/i.test(text)
  return isAddress ? `urn:uuid:${uuid(text)}` : hex(text)
}

/** 128 bits in hexadecimal for an id or another text; its id, references and addresses share it. */
function tokenOf(
  part: string,
  { key, recipient, known }: Pick<MethodContext, 'key' | 'recipient' | 'known'>,
): string {
  const made = known.get(part)
  if (made !== undefined) return made
  const token = digest(key, 'pseudonym', recipient, part).toString('hex', 0, 16)
  if (known.size >= MOST_KNOWN) known.clear()
  known.set(part, token)
  return token
}
const MOST_KNOWN = 10_000

const URIS: ReadonlySet<string> = new Set(['uri', 'url', 'canonical', 'oid', 'uuid'])

/** HMAC-SHA256 over the parts, each with its length, so that no two lists run into one. */
function digest(key: KeyObject, ...parts: readonly string[]): Buffer {
  const text = parts.map((part) => `${Buffer.byteLength(part)}:${part}`).join('')
  return createHmac('sha256', key).update(text).digest()
}

/** Stars but for the last `count` letters and digits, when there are enough not to show most of it. */
export function lastOf(text: string, count: number): string | undefined {
  const units = Array.from(text)
  let left = units.filter((unit) => SIGN.test(unit)).length
  if (left < Math.max(9, count * 2)) return undefined
  return units.map((unit) => (SIGN.test(unit) && left-- > count ? '*' : unit)).join('')
}
const SIGN = /[\p{L}\p{N}\p{M}]/u

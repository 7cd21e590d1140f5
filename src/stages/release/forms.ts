import { STATUS_CODES } from 'node:http'
import { ID, INSTANT, VERSION_TAG } from '../../fhir/datatypes.ts'
import { below, parseReference } from '../../fhir/reference.ts'
import { compileNames } from '../../json/names.ts'
import { endOf, flagsOf, isOneOf, KIND, kindOf, startOf, textOf } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { FLAG } from '../../json/token.ts'
import { findSecrets } from './mask/detect/secrets.ts'

/**
 * The forms of what a Bundle says of itself and beside its resources. Nobody masks it, and it is upstream's
 * own: what has another form could be anything, and goes.
 */

/**
 * Whether a value stays as it is written; a text that stands in its place. `bases`: what is on one of them is
 * ours.
 */
export type Form = (tape: Tape, value: number, bases: readonly string[]) => boolean | string

/** Codes of a required binding: mostly the bytes tell, and no string is made. */
function oneOf(codes: readonly string[]): Form {
  const known = compileNames(codes)
  return (tape, value) => isOneOf(tape, value, known)
}

const like =
  (form: RegExp): Form =>
  (tape, value) =>
    form.test(textOf(tape, value) ?? '')

/** https://hl7.org/fhir/R5/valueset-bundle-type.html */
export const isBundleType = oneOf(
  (
    'searchset history collection document message batch batch-response transaction ' +
    'transaction-response subscription-notification'
  ).split(' '),
)

/** An id may look like an SSN, and that of a Bundle is nobody's. */
export const isBundleId: Form = (tape, value) => {
  const text = textOf(tape, value) ?? ''
  return ID.test(text) && findSecrets(text).length === 0
}

export const isInstant = like(INSTANT)

/** http://hl7.org/fhir/R4/valueset-search-entry-mode.html */
const isMode = oneOf(['match', 'include', 'outcome'])

/** http://hl7.org/fhir/R4/valueset-http-verb.html */
const isMethod = oneOf(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH'])

/** Few digits before the point: an identifier has more. */
const isScore: Form = (tape, value) =>
  kindOf(tape, value) === KIND.number &&
  SCORE.test(tape.bytes.toString('latin1', startOf(tape, value), endOf(tape, value)))
const SCORE = /^\d{1,6}(?:\.\d{1,18})?(?:[eE]-\d{1,3})?$/

/** "The status code returned by processing this entry", with the phrase of the standard or none. */
const statusOf: Form = (tape, value) => {
  if (isOneOf(tape, value, STATUSES)) return true
  const code = /^(\d{3})(?: |$)/.exec(textOf(tape, value) ?? '')?.[1]
  return code !== undefined && code in STATUS_CODES && code
}
const STATUSES = compileNames(
  Object.entries(STATUS_CODES).flatMap(([code, phrase = '']) => [code, `${code} ${phrase}`]),
)

const isLocation: Form = (tape, value, bases) =>
  parseReference(textOf(tape, value) ?? '', bases) !== undefined

/** Of a request: what stands behind the base; criteria are cut off elsewhere. */
const isTarget: Form = (tape, value, bases) => {
  const bare = textOf(tape, value)?.replace(/\?.*$/s, '')
  const target = bare?.includes(':') === true ? below(bare, bases) : bare
  return target !== undefined && TARGET.test(target)
}
const TARGET =
  /^\/?(?:[A-Z][A-Za-z]{1,63}(?:\/[A-Za-z0-9\-.]{1,64}(?:\/_history(?:\/[A-Za-z0-9\-.]{1,64})?)?)?)?$/

/**
 * An address without criteria, wherever it is, or a URN; asked for every entry, so of the bytes. Those before
 * `from` are known to have the form.
 */
export function isFullUrl(tape: Tape, value: number, from = startOf(tape, value) + 1): boolean {
  if (kindOf(tape, value) !== KIND.string) return false
  if ((flagsOf(tape, value) & FLAG.escaped) === 0)
    return isAddress(tape.bytes, from, endOf(tape, value) - 1)
  const text = Buffer.from(textOf(tape, value) ?? '')
  return isAddress(text, 0, text.length)
}

function isAddress(bytes: Uint8Array, start: number, end: number): boolean {
  let isPath = false
  for (let n = start; n < end; n++) {
    const mark = OF_ADDRESS[bytes[n] as number] as number
    if (mark === 0) return false
    if (mark === SEPARATES) isPath = true
  }
  return isPath
}
const SEPARATES = 2
/** RFC 3986 without the query: all have a slash or colon in them, and nothing else needs to. */
const OF_ADDRESS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const sign = String.fromCharCode(byte)
  return /[/:]/.test(sign) ? SEPARATES : /[\w\-.~%#[\]@!$&'()*+,;=|]/.test(sign) ? 1 : 0
})

/** By the name of the member. */
export const FORMS = {
  mode: isMode,
  score: isScore,
  method: isMethod,
  url: isTarget,
  status: statusOf,
  location: isLocation,
  etag: like(VERSION_TAG),
  lastModified: isInstant,
} as const satisfies Readonly<Record<string, Form>>

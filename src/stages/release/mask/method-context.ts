import type { Tape } from '../../../json/tape.ts'
import type { KeyedHash } from './keyed-hash.ts'

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
  /** Pseudonyms by the text that they take the place of, of URIs and of any others. */
  readonly uris: Map<string, string>
  readonly texts: Map<string, string>
  /** What pseudonyms share, by what the part is one of. */
  readonly domains: Map<string, Domain>
  /** Pseudonyms by the string of a tape, of which equal ones are known: {@link sameAs}. */
  readonly places: Map<number, string>
  tape: Tape | undefined
}

/** Of what ids or texts something is one: what is hashed before each, and what came of it by the part. */
export type Domain = { readonly prefix: string; readonly tokens: Map<string, string> }

/** `now` in milliseconds since the epoch. */
export const createKnown = (
  now: number,
  isType: Known['isType'],
  bases: Known['bases'],
): Known => ({
  thisYear: new Date(now).getUTCFullYear(),
  isType,
  bases,
  uris: new Map(),
  texts: new Map(),
  domains: new Map(),
  places: new Map(),
  tape: undefined,
})

/** What a simple value comes to: JSON, and the bit of CODE that tells of it. */
export type Made = { readonly text: string; readonly code: number }

/** It stays as it is. */
export const SAME: Made = { text: '', code: 0 }

/** The parts, each with its length, so that no two lists run into one. */
export function formatParts(...parts: readonly string[]): string {
  let text = ''
  for (const part of parts) text += `${Buffer.byteLength(part)}:${part}`
  return text
}

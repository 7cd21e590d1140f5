import type { MaskingNames, Terms, Trim } from '../../permit.ts'
import type { Cuts } from '../../json/cuts.ts'
import type { Scan } from '../../json/tape.ts'
import type { KeyedHash } from './mask/keyed-hash.ts'
import type { Known } from './mask/method-context.ts'
import type { Masking } from './mask/compile-masking.ts'
import type { BundleWords, Vocabulary } from './vocabulary.ts'

/** What every part of release needs to know; made once. */
export type Context = {
  readonly words: Vocabulary
  readonly bundleWords: BundleWords
  readonly upstreamUrl: string
  readonly upstreamBytes: Uint8Array
  /** The ways in which it stands within a JSON string. */
  readonly upstreamSpelt: readonly Uint8Array[]
  readonly publicUrl: string
  /** The public URL as it stands within a JSON string. */
  readonly publicText: string
  /** What is said of a resource that is withheld. */
  readonly hidden: 'hidden' | 'not-found'
  /** Both: a reference on either is to a resource of ours. */
  readonly bases: readonly string[]
  /** One tape at a time: whoever scans is done with the last one. */
  readonly scan: Scan
  /** One slice at a time, in the same way. */
  readonly cuts: Cuts
  /** Profiles by their names. Throws when there is none of a name: nothing is shown unmasked. */
  readonly maskingFor: (names: MaskingNames) => Masking
  /** Pseudonyms and shifts of dates hang on its key. */
  readonly keyedHash: KeyedHash
  /** Pseudonyms made for an answer, by recipient, which are forgotten with it. */
  readonly pseudonyms: WeakMap<Terms, Map<string, Known>>
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly trim: (resource: Buffer, trim: Trim) => Buffer
}

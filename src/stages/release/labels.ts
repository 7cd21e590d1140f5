import type { Tape } from '../../json/tape.ts'
import { elements, member, textOf, valuesAt } from '../../json/tape.ts'
import type { Confidentiality } from '../../permit.ts'
import { confidentialityAt, SYSTEM, systemAt } from './systems.ts'
import { CONFIDENTIALITIES, HANDLING } from './vocabulary.ts'
import type { Vocabulary } from './vocabulary.ts'

/** What the labels of a resource or element say. */
export type Labels = {
  /** Index of the highest confidentiality in CONFIDENTIALITIES; -1 = none is said. */
  highest: number
  readonly sensitivities: string[]
  /** Whether elements of it carry labels of their own (LABEL-2). */
  isInline: boolean
}

const UNLABELLED: Labels = { highest: -1, sensitivities: [], isInline: false }

/** The labels of a resource and of those contained in it: the highest, and all sensitivities. */
export function readLabels(tape: Tape, object: number, words: Vocabulary): Labels {
  const { at } = words
  const security = member(tape, member(tape, object, at.meta), at.security)
  const contained = member(tape, object, at.contained)
  if (security < 0 && contained < 0) return UNLABELLED
  const labels: Labels = { highest: -1, sensitivities: [], isInline: false }
  if (security >= 0) readLabel(tape, object, words, labels)
  if (contained >= 0) {
    for (const resource of elements(tape, contained)) readLabel(tape, resource, words, labels)
  }
  return labels
}

function readLabel(tape: Tape, resource: number, words: Vocabulary, labels: Labels): void {
  for (const coding of valuesAt(tape, resource, words.security)) {
    readCoding(tape, coding, words, labels)
  }
}

/** Adds one Coding of a label. */
export function readCoding(tape: Tape, coding: number, words: Vocabulary, labels: Labels): void {
  const { at } = words
  const system = systemAt(tape, member(tape, coding, at.system))
  const code = member(tape, coding, at.code)
  const rank = confidentialityAt(tape, code)
  // A code of this small set without a system can mean nothing else.
  const isBare = (system & SYSTEM.none) !== 0 && rank >= 0
  if (isBare || (system & SYSTEM.confidentiality) !== 0) {
    // A code nobody knows cannot be known to be harmless.
    labels.highest = Math.max(labels.highest, rank === -1 ? CONFIDENTIALITIES.length - 1 : rank)
  } else if ((system & SYSTEM.actCode) !== 0) {
    const text = textOf(tape, code) ?? ''
    if (text === 'PROCESSINLINELABEL') labels.isInline = true
    else if (!HANDLING.has(text)) labels.sensitivities.push(text)
  }
}

/** The confidentiality that they come to, as its place in CONFIDENTIALITIES: N when none is said. */
export const rankOf = ({ highest }: Pick<Labels, 'highest'>): number =>
  highest < 0 ? NORMAL : highest
const NORMAL = CONFIDENTIALITIES.indexOf('N')

export const confidentialityOf = (labels: Labels): Confidentiality =>
  CONFIDENTIALITIES[rankOf(labels)] ?? 'N'

import type { Tape } from '../../json/tape.ts'
import { elements, knownTextOf, member, valuesAt } from '../../json/tape.ts'
import type { Confidentiality } from '../../permit.ts'
import {
  ACT_CODE_SYSTEMS,
  CONFIDENTIALITIES,
  CONFIDENTIALITY_SYSTEMS,
  HANDLING,
  systemOf,
} from './vocabulary.ts'
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
  const isLabelled = member(tape, member(tape, object, at.meta), at.security) >= 0
  const contained = member(tape, object, at.contained)
  if (!isLabelled && contained < 0) return UNLABELLED
  const labels: Labels = { highest: -1, sensitivities: [], isInline: false }
  const read = (resource: number): void => {
    for (const coding of valuesAt(tape, resource, words.security)) {
      readCoding(tape, coding, words, labels)
    }
  }
  read(object)
  for (const resource of elements(tape, contained)) read(resource)
  return labels
}

/** Adds one Coding of a label. */
export function readCoding(tape: Tape, coding: number, words: Vocabulary, labels: Labels): void {
  const { at } = words
  const system = systemOf(knownTextOf(tape, member(tape, coding, at.system), words.labels))
  const code = knownTextOf(tape, member(tape, coding, at.code), words.labels) ?? ''
  // A code of this small set without a system can mean nothing else.
  const isBare = system === '' && CONFIDENTIALITIES.includes(code as Confidentiality)
  if (isBare || CONFIDENTIALITY_SYSTEMS.has(system)) {
    // A code nobody knows cannot be known to be harmless.
    const rank = CONFIDENTIALITIES.indexOf(code as Confidentiality)
    labels.highest = Math.max(labels.highest, rank === -1 ? CONFIDENTIALITIES.length - 1 : rank)
  } else if (ACT_CODE_SYSTEMS.has(system)) {
    if (code === 'PROCESSINLINELABEL') labels.isInline = true
    else if (!HANDLING.has(code)) labels.sensitivities.push(code)
  }
}

/** The confidentiality that they come to: N when none is said. */
export const confidentialityOf = ({ highest }: Labels): Confidentiality =>
  CONFIDENTIALITIES[highest] ?? 'N'

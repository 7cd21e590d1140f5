import type { Tape } from '../../json/tape.ts'
import { after, elements, kindOf, KIND, member, nameOf, textOf } from '../../json/tape.ts'
import type { Confidentiality } from '../../permit.ts'
import { confidentialityAt, SYSTEM, systemAt } from './systems.ts'
import { CONFIDENTIALITIES, HANDLING, SENSITIVITIES } from './vocabulary.ts'
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
  const meta = member(tape, object, at.meta)
  const contained = member(tape, object, at.contained)
  if (meta < 0 && contained < 0) return UNLABELLED
  const labels: Labels = { highest: -1, sensitivities: [], isInline: false }
  readMeta(tape, meta, words, labels)
  // Whatever is contained, in Bundles, Parameters and contained resources of its own too.
  const end = contained < 0 ? 0 : after(tape, contained)
  for (let entry = contained; entry < end; entry++) {
    const isMeta = kindOf(tape, entry) === KIND.object && nameOf(tape, entry) === at.meta
    if (isMeta) readMeta(tape, entry, words, labels)
  }
  return labels
}

/** Lists where none belong are passed through: a label is one however it is wrapped. */
function readMeta(tape: Tape, meta: number, words: Vocabulary, labels: Labels): void {
  if (meta < 0) return
  if (kindOf(tape, meta) === KIND.array) {
    for (const one of elements(tape, meta)) readMeta(tape, one, words, labels)
    return
  }
  const list = member(tape, meta, words.at.security)
  if (list >= 0) readCodings(tape, list, words, labels)
}

function readCodings(tape: Tape, value: number, words: Vocabulary, labels: Labels): void {
  if (kindOf(tape, value) !== KIND.array) {
    readCoding(tape, value, words, labels)
    return
  }
  const end = after(tape, value)
  for (let one = value + 1; one < end; one = after(tape, one)) {
    readCodings(tape, one, words, labels)
  }
}

/** Adds one Coding of a label. */
export function readCoding(tape: Tape, coding: number, words: Vocabulary, labels: Labels): void {
  const { at } = words
  const system = systemAt(tape, member(tape, coding, at.system))
  const code = member(tape, coding, at.code)
  if ((system & SYSTEM.none) !== 0) readBare(tape, code, labels)
  else if ((system & SYSTEM.confidentiality) !== 0) {
    const rank = confidentialityAt(tape, code)
    // A code nobody knows cannot be known to be harmless.
    labels.highest = Math.max(labels.highest, rank === -1 ? CONFIDENTIALITIES.length - 1 : rank)
  } else if ((system & SYSTEM.actCode) !== 0) {
    readPolicy(textOf(tape, code) ?? '', labels)
  }
}

/** A code of ActCode. */
function readPolicy(code: string, labels: Labels): void {
  if (code === 'PROCESSINLINELABEL') labels.isInline = true
  else if (!HANDLING.has(code)) labels.sensitivities.push(code)
}

/** Codes without a system: those of these small sets can mean nothing else, however they are written. */
function readBare(tape: Tape, value: number, labels: Labels): void {
  for (const one of elements(tape, value)) {
    const code = (textOf(tape, one) ?? '').trim().toUpperCase()
    const rank = CONFIDENTIALITIES.findIndex((known) => known === code)
    if (rank >= 0) labels.highest = Math.max(labels.highest, rank)
    else if (SENSITIVITIES.has(code) || code === 'PROCESSINLINELABEL') readPolicy(code, labels)
  }
}

/** The confidentiality that they come to, as its place in CONFIDENTIALITIES: N when none is said. */
export const rankOf = ({ highest }: Pick<Labels, 'highest'>): number =>
  highest < 0 ? NORMAL : highest
const NORMAL = CONFIDENTIALITIES.indexOf('N')

export const confidentialityOf = (labels: Labels): Confidentiality =>
  CONFIDENTIALITIES[rankOf(labels)] ?? 'N'

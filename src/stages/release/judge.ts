import { parseReference } from '../../fhir/reference.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import {
  checkTape,
  elements,
  endOf,
  kindOf,
  knownTextOf,
  member,
  sameAs,
  startOf,
  textOf,
  valuesAt,
} from '../../json/tape.ts'
import type { Inspection, Reach, Terms } from '../../permit.ts'
import type { Masking } from './mask/compile-masking.ts'
import type { Context } from './context.ts'
import { CONFIDENTIALITIES } from './vocabulary.ts'
import { confidentialityOf, rankOf, readLabels } from './labels.ts'
import type { Labels } from './labels.ts'
import type { Vocabulary } from './vocabulary.ts'

/** Whether one resource may be seen; what would have to be masked is found elsewhere. */
export type Verdict = Omit<
  Inspection,
  'id' | 'versionId' | 'masked' | 'marked' | 'altered' | 'named' | 'links' | 'searches'
> & {
  /** What each way by which it is reached masks; none = there is one that masks nothing. */
  readonly maskings: readonly Masking[]
  readonly recipient: string
  /** Whether it holds for all resources that are like it (outline.ts): nothing else was asked. */
  readonly isCommon: boolean
  /** Only where elements carry labels of their own (LABEL-2). */
  readonly maySeeElement?: (labels: Labels) => boolean
}

/** Contents that nobody judges yet: never released whatever a grant says. */
const UNJUDGED = new Set(['Bundle', 'Parameters', 'Binary', 'OperationOutcome'])

/** Types that may rightly name several patients. */
const SHARED = new Set(['Account', 'Appointment'])

/** Judges the resource at `object` of the tape against the terms. Whatever is in doubt is withheld. */
export function judge(
  tape: Tape,
  object: number,
  terms: Terms,
  context: JudgeContext,
  seen?: ReadonlySet<string>,
): Verdict {
  checkTape(tape)
  const { words, bases } = context
  const type = knownTextOf(tape, member(tape, object, words.at.resourceType), words.types) ?? ''
  const labels = readLabels(tape, object, words)
  const patients = patientsOf(tape, object, type, words, bases)
  const grant =
    kindOf(tape, object) === KIND.object && !UNJUDGED.has(type) ? terms.grantFor(type) : undefined
  const said: Verdict = {
    type,
    confidentiality: confidentialityOf(labels),
    sensitivities: labels.sensitivities,
    patients,
    withheld: grant === undefined ? 'type' : undefined,
    maskings: NO_MASKINGS,
    recipient: grant?.recipient ?? '',
    // A Patient is told by its own id, and a Provenance by what was released before it.
    isCommon: type !== 'Patient' && type !== 'Provenance',
  }
  if (grant === undefined) return said
  const one: One = { tape, object, type, patients, labels, seen }
  // Mostly it is reached by a way that asks nothing further and masks nothing more.
  if (!labels.isInline) {
    for (const way of grant.reach) if (isOpen(way, one, context)) return said
  }
  return { ...said, isCommon: false, ...judgeReach(grant.reach, one, context) }
}

const NO_MASKINGS: readonly Masking[] = []

/** The resource that is judged, and what is known of it. */
type One = {
  readonly tape: Tape
  readonly object: number
  readonly type: string
  readonly patients: readonly string[]
  readonly labels: Labels
  readonly seen: ReadonlySet<string> | undefined
}

function isOpen(way: Reach, one: One, context: JudgeContext): boolean {
  return (
    way.criteria === undefined &&
    isMild(way) &&
    isCleared(way, one.labels) &&
    isWithin(way, one, context)
  )
}

/** Whether it is within the compartment that a way is limited to. */
function isWithin({ patient }: Reach, one: One, { words, bases }: JudgeContext): boolean {
  if (patient === undefined) return true
  const { tape, object, type, patients, seen } = one
  if (type === 'Provenance') return isAboutOwn(tape, object, patient, words, bases, seen)
  // A second patient where only one can be named leaves in doubt whose it is.
  return (patients.length === 1 || SHARED.has(type)) && patients.includes(patient)
}

/** By which of the ways it is reached, and what all of them mask. */
function judgeReach(
  all: readonly Reach[],
  one: One,
  context: JudgeContext,
): Pick<Verdict, 'withheld' | 'maskings' | 'maySeeElement'> {
  const { tape, object, labels } = one
  const withhold = (withheld: Verdict['withheld']) => ({ withheld, maskings: NO_MASKINGS })
  let reach = all.filter((way) => isWithin(way, one, context))
  if (reach.length === 0) return withhold('compartment')
  if (reach.some(({ criteria }) => criteria !== undefined)) {
    const resource = parse(tape, object)
    reach = reach.filter(({ criteria }) => criteria === undefined || criteria.hold(resource))
    if (reach.length === 0) return withhold('criteria')
  }
  reach = reach.filter((way) => isCleared(way, labels))
  if (reach.length === 0) return withhold('label')
  const inline = labels.isInline ? { maySeeElement: seesElement } : {}
  if (reach.some(isMild)) return { withheld: undefined, maskings: NO_MASKINGS, ...inline }
  const maskings: Masking[] = []
  for (const way of reach) {
    const masking = admit(way)
    if (masking !== undefined && !maskings.includes(masking)) maskings.push(masking)
  }
  if (maskings.length === 0) return withhold('label')
  return { withheld: undefined, maskings: mildest(maskings), ...inline }

  /** LABEL-2: the strictest of what the resource says and what the element says. */
  function seesElement(element: Labels): boolean {
    const both = {
      highest: Math.max(element.highest, labels.highest),
      sensitivities: [...labels.sensitivities, ...element.sensitivities],
    }
    return reach.some((way) => isCleared(way, both))
  }

  /** What a way masks, unless the codes of the resource show what it may not show (LABEL-9). */
  function admit({ masking: names, clearance }: Reach): Masking | undefined {
    const masking = context.maskingFor(names)
    const codes = masking.labelsOf?.(tape, object)
    const isShown = codes?.every((code) => clearance.sensitivities.has(code)) ?? true
    return isShown ? masking : undefined
  }
}

/** What judging needs to know besides the terms. */
export type JudgeContext = Pick<Context, 'words' | 'bases' | 'maskingFor'>

/** Whether nothing but the baseline is masked. */
const isMild = ({ masking }: Reach): boolean => masking.size === 1 && masking.has('baseline')

/** Without those that mask all that another one masks, and more. */
function mildest(maskings: readonly Masking[]): readonly Masking[] {
  if (maskings.length === 1) return maskings
  return maskings.filter((one) =>
    maskings.every(
      (other) =>
        other === one ||
        other.names.size >= one.names.size ||
        [...other.names].some((name) => !one.names.has(name)),
    ),
  )
}

function isCleared(
  { clearance: { confidentiality, sensitivities } }: Reach,
  labels: Pick<Labels, 'highest' | 'sensitivities'>,
): boolean {
  if (rankOf(labels) > CONFIDENTIALITIES.indexOf(confidentiality)) return false
  return (
    labels.sensitivities.length === 0 ||
    labels.sensitivities.every((code) => sensitivities.has(code))
  )
}

/** The resource as a value; the scan has found it strict JSON with every name once that decides. */
function parse(tape: Tape, object: number): unknown {
  return JSON.parse(tape.bytes.toString('utf8', startOf(tape, object), endOf(tape, object)))
}

/**
 * Whether everything that a Provenance is about is the patient's: the Patient, or a resource that the
 * same answer has released already. It names no patient otherwise.
 */
function isAboutOwn(
  tape: Tape,
  object: number,
  patient: string,
  { at }: Vocabulary,
  bases: readonly string[],
  seen: ReadonlySet<string> | undefined,
): boolean {
  const targets = [...elements(tape, member(tape, object, at.target))]
  return (
    targets.length > 0 &&
    targets.every((target) => {
      const text = textOf(tape, member(tape, target, at.reference))
      const local = text === undefined ? undefined : parseReference(text, bases)
      if (local === undefined) return false
      if (local.type === 'Patient') return local.id === patient
      return seen?.has(`${local.type}/${local.id}`) === true
    })
  )
}

/** Which resource it says to be, and in which version. */
export function identify(
  tape: Tape,
  object: number,
  { at }: Vocabulary,
): { readonly id: string | undefined; readonly versionId: string | undefined } {
  return {
    id: textOf(tape, member(tape, object, at.id)),
    versionId: textOf(tape, member(tape, member(tape, object, at.meta), at.versionId)),
  }
}

/** Bare ids of the patients named where the type names its primary subject (exact, row 6). */
function patientsOf(
  tape: Tape,
  object: number,
  type: string,
  { at, patientPaths }: Vocabulary,
  bases: readonly string[],
): string[] {
  const found: string[] = []
  if (type === 'Patient') {
    const id = textOf(tape, member(tape, object, at.id))
    return id === undefined ? [] : [id]
  }
  for (const path of patientPaths(type)) {
    const value = member(tape, object, path[0] ?? -1)
    if (value < 0) continue
    // Mostly `subject` or `patient`, a Reference.
    if (path.length === 1 && kindOf(tape, value) === KIND.object) {
      addPatient(found, patientIn(tape, member(tape, value, at.reference), bases))
    } else {
      for (const reference of valuesAt(tape, object, path)) {
        addPatient(found, patientIn(tape, member(tape, reference, at.reference), bases))
      }
    }
  }
  return found
}

function addPatient(found: string[], id: string | undefined): void {
  if (id !== undefined && !found.includes(id)) found.push(id)
}

/** The id that a reference names, when it is to a patient of ours; found out once for equal ones. */
export function patientIn(tape: Tape, entry: number, bases: readonly string[]): string | undefined {
  if (entry < 0 || kindOf(tape, entry) !== KIND.string) return undefined
  const first = sameAs(tape, entry)
  let id = tape.read.get(first)
  if (id === undefined) {
    const local = parseReference(textOf(tape, entry) ?? '', bases)
    id = local?.type === 'Patient' ? local.id : ''
    tape.read.set(first, id)
  }
  return id === '' ? undefined : id
}

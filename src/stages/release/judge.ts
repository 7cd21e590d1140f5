import { parseReference } from '../../fhir/reference.ts'
import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import {
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
import type { Masking } from './compile-masking.ts'
import type { Context } from './context.ts'
import { CONFIDENTIALITIES } from './vocabulary.ts'
import { confidentialityOf, rankOf, readLabels } from './labels.ts'
import type { Labels } from './labels.ts'
import type { Vocabulary } from './vocabulary.ts'

/** Whether one resource may be seen; what would have to be masked is found elsewhere. */
export type Verdict = Omit<Inspection, 'id' | 'versionId' | 'masked' | 'marked'> & {
  /** What each way by which it is reached masks; none = there is one that masks nothing. */
  readonly maskings: readonly Masking[]
  readonly recipient: string
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
  { words, bases, maskingFor }: JudgeContext,
  seen?: ReadonlySet<string>,
): Verdict {
  const { at } = words
  const type = knownTextOf(tape, member(tape, object, at.resourceType), words.types) ?? ''
  const found = readLabels(tape, object, words)
  const confidentiality = confidentialityOf(found)
  const { sensitivities } = found
  const patients = patientsOf(tape, object, type, words, bases)

  const grant =
    kindOf(tape, object) === KIND.object && !UNJUDGED.has(type) ? terms.grantFor(type) : undefined
  const recipient = grant?.recipient ?? ''
  const verdict = (withheld: Verdict['withheld'], maskings: readonly Masking[] = []): Verdict => {
    const said = { type, confidentiality, sensitivities, patients, withheld, maskings, recipient }
    return found.isInline ? { ...said, maySeeElement: seesElement } : said
  }
  if (grant === undefined) return verdict('type')
  // A second patient where only one can be named leaves in doubt whose it is.
  const isDoubtful = patients.length > 1 && !SHARED.has(type)
  const isOf = (patient: string): boolean =>
    type === 'Provenance'
      ? isAboutOwn(tape, object, patient, words, bases, seen)
      : !isDoubtful && patients.includes(patient)
  // Mostly it is reached by a way that asks nothing further and masks nothing more.
  for (const way of grant.reach) {
    if (found.isInline) break
    const isOpen = way.criteria === undefined && isMild(way) && isCleared(way, found)
    if (isOpen && (way.patient === undefined || isOf(way.patient))) return verdict(undefined)
  }
  let reach = grant.reach.filter(({ patient }) => patient === undefined || isOf(patient))
  if (reach.length === 0) return verdict('compartment')
  if (reach.some(({ criteria }) => criteria !== undefined)) {
    const resource = parse(tape, object)
    reach = reach.filter(({ criteria }) => criteria === undefined || criteria.hold(resource))
    if (reach.length === 0) return verdict('criteria')
  }
  reach = reach.filter((one) => isCleared(one, found))
  if (reach.length === 0) return verdict('label')
  if (reach.some(isMild)) return verdict(undefined)
  const maskings = [...new Set(reach.flatMap((one) => admit(one) ?? []))]
  if (maskings.length === 0) return verdict('label')
  return verdict(undefined, mildest(maskings))

  /** LABEL-2: the strictest of what the resource says and what the element says. */
  function seesElement(element: Labels): boolean {
    const both = {
      highest: Math.max(element.highest, found.highest),
      sensitivities: [...sensitivities, ...element.sensitivities],
    }
    return reach.some((one) => isCleared(one, both))
  }

  /** What a way masks, unless the codes of the resource show what it may not show (LABEL-9). */
  function admit(one: Reach): Masking | undefined {
    const masking = maskingFor(one.masking)
    const cleared = one.clearance.sensitivities
    const isOpen = masking.labelsOf?.(tape, object).every((code) => cleared.has(code))
    return isOpen === false ? undefined : masking
  }
}

/** What judging needs to know besides the terms. */
export type JudgeContext = Pick<Context, 'words' | 'bases' | 'maskingFor'>

/** Whether nothing but the baseline is masked. */
const isMild = ({ masking }: Reach): boolean => masking.size === 1 && masking.has('baseline')

/** Without those that mask all that another one masks, and more. */
function mildest(maskings: readonly Masking[]): readonly Masking[] {
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
  const take = (reference: number): void => {
    const id = patientIn(tape, member(tape, reference, at.reference), bases)
    if (id !== undefined && !found.includes(id)) found.push(id)
  }
  for (const path of patientPaths(type)) {
    const [name = -1, ...further] = path
    const value = member(tape, object, name)
    if (value < 0) continue
    // Mostly `subject` or `patient`, a Reference.
    if (further.length === 0 && kindOf(tape, value) === KIND.object) take(value)
    else for (const reference of valuesAt(tape, object, path)) take(reference)
  }
  return found
}

/** The id that a reference names, when it is to a patient of ours; found out once for equal ones. */
function patientIn(tape: Tape, entry: number, bases: readonly string[]): string | undefined {
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

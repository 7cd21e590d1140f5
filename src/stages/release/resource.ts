import type { Edit } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, endOf, nameOf, startOf } from '../../json/tape.ts'
import type { Tally } from '../../exchange.ts'
import type { Terms } from '../../permit.ts'
import type { Context } from './context.ts'
import { raiseMark } from './frame.ts'
import { identify, judge } from './judge.ts'
import type { Verdict } from './judge.ts'
import { planMasking } from './mask/plan-masking.ts'
import type { Masked, Viewer } from './mask/plan-masking.ts'
import { createKnown } from './mask/method-context.ts'
import type { Known } from './mask/method-context.ts'
import { addCounts } from './tally.ts'

/** A resource that may be released, and how. */
export type Released = {
  readonly verdict: Verdict
  /** undefined: nothing but the baseline is masked. */
  readonly viewer: Viewer | undefined
  /** Nobody else's: whoever gets them may add to them. */
  readonly edits: Edit[]
  readonly renamed: Masked['renamed']
  /** All that may be seen of it, where its links are followed. */
  readonly shown?: unknown
}

/**
 * Judges one resource and plans its edits; undefined = withheld. Counts either way. `seen`: what has been
 * released before it.
 */
export function releaseResource(
  tape: Tape,
  object: number,
  terms: Terms,
  context: Context,
  tally: Tally,
  seen: ReadonlySet<string> | undefined = tally.seen,
): Released | undefined {
  const { words } = context
  tally.inspected += 1
  const verdict = judge(tape, object, terms, context, seen)
  const viewer = verdict.withheld === undefined ? viewerOf(verdict, terms, context) : undefined
  const masked =
    verdict.withheld === undefined ? planMasking(tape, object, viewer, context) : undefined
  if (masked === undefined) {
    tally.withheld += 1
    return undefined
  }
  const { edits, counts, renamed } = masked
  if (counts !== undefined && !isFound(tape, object, edits, verdict.type, terms, context)) {
    tally.withheld += 1
    return undefined
  }
  raiseMark(tally, verdict.confidentiality)
  tally.released += 1
  addCounts(tally, counts)
  for (const patient of verdict.patients) tally.patients.add(patient)
  if (tally.seen !== undefined) {
    const { id } = identify(tape, object, words)
    if (id !== undefined) tally.seen.add(`${verdict.type}/${id}`)
  }
  const shown =
    terms.follows && (JSON.parse(bytesOf(tape, object, edits).toString('utf8')) as unknown)
  if (terms.trim === undefined) return { verdict, viewer, edits, renamed, shown }
  const text = context.trim(bytesOf(tape, object, edits), terms.trim).toString('utf8')
  return {
    verdict,
    viewer,
    renamed,
    shown,
    edits: [{ start: startOf(tape, object), end: endOf(tape, object), text }],
  }
}

/** Whether what is shown of a resource of which something is masked is what was searched for. */
export function isFound(
  tape: Tape,
  object: number,
  edits: readonly Edit[],
  type: string | undefined,
  { shown }: Terms,
  { words: { names } }: Context,
): boolean {
  const asked = shown?.get(type ?? '')
  if (asked === undefined) return true
  const { members, holds } = asked
  const isBeside = (name: number): boolean =>
    name >= 0 && members?.has(names.list[name] as string) === false
  if (edits.every((edit) => isBeside(memberAround(tape, object, edit)))) return true
  const parse = (made: readonly Edit[]): unknown =>
    JSON.parse(bytesOf(tape, object, made).toString())
  return holds(parse(edits), parse([]))
}

/** The name of the member that has an edit within its value; -1 = none, or one without a number. */
function memberAround(tape: Tape, object: number, { start, end }: Edit): number {
  const last = after(tape, object)
  for (let key = object + 1; key < last; key = after(tape, key + 1)) {
    const limit = endOf(tape, key + 1)
    if (end > limit) continue
    // What stands at its end comes behind it, as a member that was not there.
    return start >= startOf(tape, key + 1) && start < limit ? nameOf(tape, key) : -1
  }
  return -1
}

/** Who sees what was judged; undefined where nothing but the baseline is masked. */
export function viewerOf(
  { maskings, recipient, patients, maySeeElement }: Verdict,
  terms: Terms,
  { keyedHash, pseudonyms, now, bases, words: { types } }: Context,
): Viewer | undefined {
  if (maskings.length === 0 && maySeeElement === undefined) return undefined
  const ofAnswer = pseudonyms.get(terms) ?? new Map<string, Known>()
  let known = ofAnswer.get(recipient)
  if (known === undefined) {
    known = createKnown(now(), (name) => types.id(name) >= 0, bases)
    pseudonyms.set(terms, ofAnswer.set(recipient, known))
  }
  const patient = patients.length === 1 ? patients[0] : undefined
  const methods = { keyedHash, recipient, patient, known }
  return maySeeElement === undefined ? { maskings, methods } : { maskings, methods, maySeeElement }
}

/** The bytes of a resource with its edits. */
export function bytesOf(tape: Tape, object: number, edits: readonly Edit[]): Buffer {
  return tape.splice(edits, startOf(tape, object), endOf(tape, object))
}

import { toEdit } from '../../../json/edit.ts'
import type { Edit } from '../../../json/tape.ts'
import { shapeOf } from '../../../json/shape.ts'
import { KIND } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { checkTape, isNoted, kindOf, member } from '../../../json/tape.ts'
import { BESIDE, common, outermost, render } from './alteration.ts'
import { CODE } from './codes.ts'
import type { Alteration } from './alteration.ts'
import { planBaseline } from './baseline.ts'
import type { Masking } from './compile-masking.ts'
import type { Context } from '../context.ts'
import { planInlineLabels } from './inline-labels.ts'
import type { Labels } from '../labels.ts'
import { dropSignatures, markAltered } from './marks.ts'
import type { MethodContext } from './method-context.ts'
import type { Outcome, Precedents, Recording } from './precedents.ts'

/** What masking one resource comes to; of what is not masked the edits are those of addresses. */
export type Masked = Partial<Outcome> & {
  /** Nobody else's: whoever gets them may add to them. */
  readonly edits: Edit[]
}

/** Who sees it: by which ways it is reached, each with its profiles. */
export type Viewer = {
  /** None = nothing but the baseline. */
  readonly maskings: readonly Masking[]
  readonly methods: MethodContext
  /** Only where elements carry labels of their own (LABEL-2). */
  readonly maySeeElement?: (labels: Labels) => boolean
}

/**
 * Plans the edits for one resource: the baseline, and what every way by which it is reached masks;
 * then the marks. undefined = the resource itself may not be seen.
 */
export function planMasking(
  tape: Tape,
  object: number,
  viewer: Viewer | undefined,
  context: Context,
): Masked | undefined {
  checkTape(tape)
  if (viewer === undefined && !isNoted(tape, object)) return { edits: [] }
  const { edits, alterations: baseline, narratives } = planBaseline(tape, object, context)
  const precedents = baseline.length === 0 ? precedentsFor(viewer) : undefined
  const shape = precedents && shapeOf(tape, object)
  if (precedents !== undefined && shape !== undefined && viewer !== undefined) {
    const found = precedents.follow(tape, object, shape, narratives, viewer.methods)
    if (found !== undefined) {
      for (const edit of edits) found.edits.push(edit)
      return found
    }
  }
  const record = shape && precedents.record(shape)
  const paths = viewer === undefined ? NOTHING : planViewed(tape, object, viewer, context, record)
  if (paths === undefined) return undefined
  if (baseline.length === 0 && paths.length === 0) return { edits }
  const { words } = context
  const signatures = dropSignatures(tape, object, words)
  const isPlain = baseline.length === 0 && signatures.length === 0
  const all = outermost(
    tape,
    isPlain ? paths : [...paths, ...milder(tape, baseline, paths), ...signatures],
  )
  const changes = markAltered(tape, object, all, narratives, words)
  render(tape, all, changes)
  const outcome = { counts: countByRule(all), renamed: renamed(tape, object, all, context) }
  record?.finish(tape, object, narratives, changes, outcome)
  const made = changes.map((change) => toEdit(tape, change))
  // Behind them: of two at the very same place the first is made.
  for (const edit of edits) made.push(edit)
  return { edits: made, ...outcome }
}

/** Where what is masked hangs on nothing but one set of profiles. */
function precedentsFor(viewer: Viewer | undefined): Precedents | undefined {
  if (viewer === undefined || viewer.maySeeElement !== undefined) return undefined
  const [masking, ...others] = viewer.maskings
  return others.length === 0 ? masking?.precedents : undefined
}

function countByRule(alterations: readonly Alteration[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { rule } of alterations) {
    if (rule !== BESIDE) counts.set(rule, (counts.get(rule) ?? 0) + 1)
  }
  return counts
}

function renamed(
  tape: Tape,
  object: number,
  all: readonly Alteration[],
  { words: { at } }: Context,
): Outcome['renamed'] {
  const id = member(tape, object, at.id)
  const found = id < 0 ? undefined : all.find(({ entry }) => entry === id || entry === id - 1)
  if (found === undefined) return undefined
  return (found.codes & CODE.PSEUDED) !== 0 ? 'pseudonym' : 'gone'
}

const NOTHING: readonly Alteration[] = []

/** What is altered besides the baseline; undefined = the resource itself may not be seen. */
function planViewed(
  tape: Tape,
  object: number,
  { maskings, methods, maySeeElement }: Viewer,
  { words }: Context,
  record: Recording | undefined,
): readonly Alteration[] | undefined {
  const planned = planAll(tape, object, maskings, methods, record)
  if (planned === undefined || maySeeElement === undefined) return planned
  return [...planned, ...planInlineLabels(tape, object, maySeeElement, words)]
}

/** What all ways alter; undefined when none of them shows the resource. */
function planAll(
  tape: Tape,
  object: number,
  maskings: readonly Masking[],
  methods: MethodContext,
  record: Recording | undefined,
): readonly Alteration[] | undefined {
  let found: readonly Alteration[] | undefined
  for (const masking of maskings) {
    const plan = masking.plan(tape, object, methods, record)
    // Who may not see it by this way sees it by another.
    if (plan === 'whole') continue
    found = found === undefined ? plan : common(tape, found, plan)
    if (found.length === 0) return found
  }
  return maskings.length === 0 ? [] : found
}

/** The baseline without what a profile alters more strictly: the last four of a number it takes whole. */
function milder(
  tape: Tape,
  baseline: readonly Alteration[],
  paths: readonly Alteration[],
): readonly Alteration[] {
  if (baseline.length === 0 || paths.length === 0) return baseline
  const ranks = new Map(paths.map(({ entry, rank }) => [entry, rank]))
  return baseline.filter(({ entry, rank }) => {
    const isMember = kindOf(tape, entry) === KIND.key
    return !isMember || (ranks.get(entry + 1) ?? -1) <= rank
  })
}

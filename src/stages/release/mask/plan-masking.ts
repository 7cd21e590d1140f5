import type { Edit } from '../../../json/tape.ts'
import { KIND } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { kindOf, member } from '../../../json/tape.ts'
import { CODE, common, outermost, render } from './alteration.ts'
import type { Alteration } from './alteration.ts'
import { BESIDE, planBaseline } from './baseline.ts'
import type { Masking } from './compile-masking.ts'
import type { Context } from '../context.ts'
import { planInlineLabels } from './inline-labels.ts'
import type { Labels } from '../labels.ts'
import { dropSignatures, markAltered } from './marks.ts'
import type { MethodContext } from './methods.ts'

/** What masking one resource comes to. */
export type Masked = {
  /** Nobody else's: whoever gets them may add to them. */
  readonly edits: Edit[]
  /** Altered values by rule. */
  readonly counts?: ReadonlyMap<string, number>
  /** What the id has become: another one, or none that may be seen; undefined = it is as it was. */
  readonly renamed?: 'pseudonym' | 'gone'
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
  const { edits, alterations: baseline, narratives } = planBaseline(tape, object, context)
  const paths = viewer === undefined ? NOTHING : planViewed(tape, object, viewer, context)
  if (paths === undefined) return undefined
  if (baseline.length === 0 && paths.length === 0) return { edits }
  const { words } = context
  const signatures = dropSignatures(tape, object, words)
  const isPlain = baseline.length === 0 && signatures.length === 0
  const all = outermost(
    tape,
    isPlain ? paths : [...paths, ...milder(tape, baseline, paths), ...signatures],
  )
  const made = markAltered(tape, object, all, narratives, words)
  for (const edit of render(tape, all)) made.push(edit)
  for (const edit of edits) made.push(edit)
  return { edits: made, counts: countByRule(all), ...renamed(tape, object, all, context) }
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
): Pick<Masked, 'renamed'> {
  const id = member(tape, object, at.id)
  const found = id < 0 ? undefined : all.find(({ entry }) => entry === id || entry === id - 1)
  if (found === undefined) return {}
  return { renamed: (found.codes & CODE.PSEUDED) !== 0 ? 'pseudonym' : 'gone' }
}

const NOTHING: readonly Alteration[] = []

/** What is altered besides the baseline; undefined = the resource itself may not be seen. */
function planViewed(
  tape: Tape,
  object: number,
  { maskings, methods, maySeeElement }: Viewer,
  { words }: Context,
): readonly Alteration[] | undefined {
  const planned = planAll(tape, object, maskings, methods)
  if (planned === undefined || maySeeElement === undefined) return planned
  return [...planned, ...planInlineLabels(tape, object, maySeeElement, words)]
}

/** What all ways alter; undefined when none of them shows the resource. */
function planAll(
  tape: Tape,
  object: number,
  maskings: readonly Masking[],
  methods: MethodContext,
): readonly Alteration[] | undefined {
  let found: readonly Alteration[] | undefined
  for (const masking of maskings) {
    const plan = masking.plan(tape, object, methods)
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

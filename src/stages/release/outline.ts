import type { Names } from '../../json/names.ts'
import { COLUMNS, PLACE } from '../../json/notice.ts'
import type { Outline } from '../../json/notice.ts'

const { ignored, outlined, text } = PLACE
const RESOURCE = 3
const META = 4
/** Whatever it says. */
const KIND = 5

/**
 * What is compared of the entries of a Bundle: all that judge.ts asks of a resource, and bundle.ts of the
 * members beside it, however they are wrapped. What is said of one entry holds for those that are alike:
 * they have the same type, labels and patients, unless it is a Patient, whose own id says whose it is.
 */
export function buildOutline(names: Names, patients: ReadonlySet<string>): Outline {
  const subjects = [...patients].map((name) => [name, text] as const)
  const rows: readonly (readonly [place: number, others: number, members: object])[] = [
    [outlined, text, { fullUrl: KIND, resource: RESOURCE }],
    [text, text, {}],
    [
      RESOURCE,
      ignored,
      { resourceType: text, meta: META, contained: text, ...Object.fromEntries(subjects) },
    ],
    [META, ignored, { security: text }],
    [KIND, text, {}],
  ]
  const columns = new Uint8Array(names.list.length + 1)
  const steps = new Uint8Array((rows.length + 1) * COLUMNS)
  let last = 0
  for (const [place, others, members] of rows) {
    steps.fill(others, place * COLUMNS, (place + 1) * COLUMNS)
    for (const name of Object.keys(members)) columns[names.id(name) + 1] ||= ++last
  }
  if (last >= COLUMNS) throw new RangeError(`more than ${COLUMNS - 1} names in an outline`)
  for (const [place, , members] of rows) {
    for (const [name, step] of Object.entries(members) as [string, number][]) {
      steps[place * COLUMNS + (columns[names.id(name) + 1] as number)] = step
    }
  }
  return { columns, steps }
}

import { KIND, kindOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { Method } from '../../../policy/masking-schema.ts'
import { CODE } from './codes.ts'
import { shifted, yearAt } from './dates.ts'
import { SAME } from './method-context.ts'
import type { Made, MethodContext } from './method-context.ts'
import { pseudonym, pseudonymAt } from './pseudonyms.ts'

/** By what a simple value is made: `type` is its own, `idOf` what it is an id of, if it is a bare one. */
export type Recipe = {
  readonly method: Method
  readonly type: string
  readonly idOf: string | undefined
}

/** What becomes of the simple value at `entry`; undefined = it cannot be shown at all. */
export function make(
  tape: Tape,
  entry: number,
  { method, type, idOf }: Recipe,
  context: MethodContext,
): Made | undefined {
  if (kindOf(tape, entry) !== KIND.string) return undefined
  if (method.kind === 'pseudonym') {
    const name =
      idOf === undefined
        ? pseudonymAt(tape, entry, type, context)
        : pseudonym(textOf(tape, entry) ?? '', type, context, idOf)
    return { text: `"${name}"`, code: CODE.PSEUDED }
  }
  if (method.kind === 'generalise' && method.to === 'year')
    return yearAt(tape, entry, type, context)
  const text = textOf(tape, entry) ?? ''
  const made = alter(method, text, type, context)
  if (made?.text === text) return SAME
  // Years and the like are made of nothing that would need an escape.
  const isPlain = method.kind === 'generalise'
  return made && { text: isPlain ? `"${made.text}"` : JSON.stringify(made.text), code: made.code }
}

function alter(
  method: Method,
  text: string,
  type: string,
  context: MethodContext,
): Made | undefined {
  if (method.kind === 'generalise') {
    const made = method.to === 'zip3' ? zip3Of(text) : undefined
    return made === undefined ? undefined : { text: made, code: CODE.ABSTRED }
  }
  if (method.kind === 'date-shift') return shifted(text, type, context)
  if (method.kind === 'replace' && STRINGS.has(type))
    return { text: method.text, code: CODE.MASKED }
  return undefined
}

const STRINGS: ReadonlySet<string> = new Set(['string', 'markdown'])

/** Census 2000: areas of three digits in which 20,000 people or fewer live. */
const RESTRICTED: ReadonlySet<string> = new Set(
  '036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893'.split(' '),
)

function zip3Of(text: string): string | undefined {
  const [, area] = /^\s{0,9}(\d{3})\d{2}(?:[- ]?\d{4})?\s{0,9}$/.exec(text) ?? []
  if (area === undefined) return /^\d{3}$/.test(text) && !RESTRICTED.has(text) ? text : undefined
  return RESTRICTED.has(area) ? '000' : area
}

/** Stars but for the last `count` letters and digits, when there are enough not to show most of it. */
export function lastOf(text: string, count: number): string | undefined {
  const units = Array.from(text)
  let left = units.filter((unit) => SIGN.test(unit)).length
  if (left < Math.max(9, count * 2)) return undefined
  return units.map((unit) => (SIGN.test(unit) && left-- > count ? '*' : unit)).join('')
}
const SIGN = /[\p{L}\p{N}\p{M}]/u

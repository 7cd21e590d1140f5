/**
 * Reads the part of regular expressions that detectors are written in: signs, classes, groups,
 * alternatives, `?`, `{n}` and `{n,m}`, with `(?<!…)` of one class first and `(?!…)` of one class last in
 * an alternative. All else is refused, `*`, `+` and `{n,}` above all: what is read has an end.
 */

/** One sign of a set, one of several ways, or a part so many times. */
export type Part =
  | { readonly set: RegExp }
  | { readonly ways: readonly (readonly Part[])[] }
  | { readonly part: Part; readonly least: number; readonly most: number }

/** An alternative, and which signs must not stand before and behind it. */
export type Way = {
  readonly behind: RegExp | undefined
  readonly parts: readonly Part[]
  readonly ahead: RegExp | undefined
}

const SET = /\[(?:\\.|[^\]\\])+\]|\\[dws]|\\\W|[^\\()[\]{}?*+|^$.]/y
const TIMES = /\?|\{(\d+)(?:,(\d+))?\}/y
const BEHIND = /\(\?<!(\[(?:\\.|[^\]\\])+\]|\\w)\)/y
const AHEAD = /\(\?!(\[(?:\\.|[^\]\\])+\]|\\w)\)/y
const OPEN = /\(\?:/y
const CLOSE = /\)/y
const OR = /\|/y

/** The alternatives of a pattern, of which `g` and `i` are the only flags. */
export function waysOf({ source, flags, ignoreCase }: RegExp): readonly Way[] {
  let at = 0
  const take = (form: RegExp): RegExpExecArray | undefined => {
    form.lastIndex = at
    const match = form.exec(source) ?? undefined
    at += match?.[0].length ?? 0
    return match
  }
  const setOf = (text: string): RegExp => new RegExp(`^${text}$`, ignoreCase ? 'i' : '')
  const around = (form: RegExp): RegExp | undefined => {
    const text = take(form)?.[1]
    return text === undefined ? undefined : setOf(text)
  }
  const one = (): Part | undefined => {
    const set = take(SET)
    if (set !== undefined) return { set: setOf(set[0]) }
    if (take(OPEN) === undefined) return undefined
    const ways = [several()]
    while (take(OR) !== undefined) ways.push(several())
    if (take(CLOSE) === undefined) throw new Error(`/${source}/ is not understood at ${at}`)
    return { ways }
  }
  function several(): readonly Part[] {
    const parts: Part[] = []
    for (let part = one(); part !== undefined; part = one()) {
      const times = take(TIMES)
      const [least, most] = [Number(times?.[1] ?? 0), Number(times?.[2] ?? times?.[1] ?? 1)]
      parts.push(times === undefined ? part : { part, least, most })
    }
    return parts
  }
  const ways: Way[] = []
  do ways.push({ behind: around(BEHIND), parts: several(), ahead: around(AHEAD) })
  while (take(OR) !== undefined)
  if (at < source.length || /[^gi]/.test(flags))
    throw new Error(`/${source}/${flags} is not understood at ${at}`)
  return ways
}

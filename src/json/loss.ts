import { countsOf, hides } from './restore.ts'
import type { Node } from './tree.ts'

type Path = readonly string[]

/**
 * Somebody was shown `whole` or `view`, in which less of it shows, and nobody knows which. Gives where in
 * what he `wrote` something that the view hides is not as it is in the whole: names from the top down.
 * undefined = all of it is there, so that whichever he has seen, he means the same by what he wrote.
 */
export function findLoss(
  whole: Node,
  view: Node | undefined,
  wrote: Node | undefined,
  path: Path = [],
): Path | undefined {
  if (view !== undefined && !hides(whole, view)) return undefined
  if (whole.canon === wrote?.canon) return undefined
  if (view === undefined || wrote === undefined) return path
  const isAlike = view.kind === whole.kind && wrote.kind === whole.kind
  if (isAlike && whole.kind === 'array' && !losesItem(whole.items, view.items, wrote.items))
    return undefined
  if (!isAlike || whole.kind !== 'object') return path
  for (const [name, part] of whole.members) {
    const inner = [...path, name]
    const lost = findLoss(part, view.members.get(name), wrote.members.get(name), inner)
    if (lost !== undefined) return lost
  }
  return undefined
}

/** An item of which something is hidden is there as often as it was, or in its place with all of that. */
function losesItem(whole: readonly Node[], view: readonly Node[], wrote: readonly Node[]): boolean {
  const [own, shown, there] = [countsOf(whole), countsOf(view), countsOf(wrote)]
  const isInPlace = whole.length === view.length
  return whole.some((item, at) => {
    const { canon } = item
    const times = own.get(canon) ?? 0
    const seen = view[at]
    const isHidden =
      isInPlace && seen !== undefined ? hides(item, seen) : times > (shown.get(canon) ?? 0)
    if (!isHidden || (there.get(canon) ?? 0) >= times) return false
    const now = whole.length === wrote.length ? wrote[at] : undefined
    return !isInPlace || now === undefined || findLoss(item, seen, now) !== undefined
  })
}

import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { endOf, kindOf, member, startOf, textOf } from '../../json/tape.ts'
import type { Paging, Permit, Place } from '../../permit.ts'
import type { Context } from './context.ts'
import { identify } from './judge.ts'

/**
 * One page of an answer, put together from as many of upstream's as it takes, so that it tells nothing of
 * what is withheld (REST-11): it holds as many matches as were asked for, or all there are, and another
 * follows a full one whether or not there is more.
 */
export type Page = {
  /**
   * Whether an entry is held to be judged: it is none that has left, or for which there is no room. `first` is
   * the one before that it is like (outline.ts), or itself.
   */
  readonly admits: (
    tape: Tape,
    element: number,
    first: number,
    leaves: (element: number) => boolean,
  ) => boolean
  /** Notes that the entry that was admitted last leaves. */
  readonly leave: (element: number) => void
  /** The tape will be gone: what is to be known of it later is looked up now. */
  readonly rest: (tape: Tape) => void
  /** All of upstream's page has been seen, and what follows it there. */
  readonly end: (next: string | undefined) => void
  /** Where upstream is to be asked for more; undefined = this page is done. */
  readonly wants: () => Place | undefined
  /** From here on upstream's page is another. */
  readonly turn: (place: Place) => void
  /** Where the next page begins, and how many matches it holds; undefined = there is none. */
  readonly next: () => { readonly place: Place; readonly size: number | undefined } | undefined
}

export function createPage(permit: Permit, context: Context): Page {
  const { at } = context.words
  const { follows } = permit.terms
  const isHistory = permit.interaction.code.startsWith('history-')
  const { paging = NO_PAGING } = permit
  let { place, size = Infinity, isSettled } = paging
  /** Matches that have left, and those that were there on upstream's page. */
  let left = 0
  let met = 0
  /** How many have to leave before upstream is asked for no more. */
  let wanted = size
  let isSkipping = place.after !== undefined
  let isOver = false
  let following: string | undefined
  /** The last match that has left of upstream's page. */
  let last: string | undefined = place.after
  let lastElement = -1
  /** Whether the entry that was looked at last is one. */
  let isCounted = false
  /** The first of those that it is like. */
  let lastFirst = -1

  function isMatch(tape: Tape, element: number): boolean {
    const said = member(tape, member(tape, element, at.search), at.mode)
    // Mostly it is shorter than what would matter, and no string need be made.
    if (follows === undefined && (said < 0 || endOf(tape, said) - startOf(tape, said) < OUTCOME))
      return true
    const mode = textOf(tape, said)
    if (mode === 'outcome') return false
    if (follows === undefined) return true
    const type = textOf(tape, member(tape, member(tape, element, at.resource), at.resourceType))
    return mode !== 'include' && follows.types.has(type ?? '')
  }

  /** By which a match is found again on upstream's page. */
  function nameOf(tape: Tape, element: number): string {
    const resource = member(tape, element, at.resource)
    const { id, versionId } = identify(tape, resource, context.words)
    const type = textOf(tape, member(tape, resource, at.resourceType))
    return `${type}/${id}${isHistory ? `/${versionId}` : ''}`
  }

  return {
    admits(tape, element, first, leaves) {
      if (first !== lastFirst)
        isCounted = kindOf(tape, element) === KIND.object && isMatch(tape, element)
      lastFirst = first
      if (!isCounted) return true
      met += 1
      if (isSkipping) {
        if (nameOf(tape, element) === place.after) isSkipping = false
        return false
      }
      if (left < size) return true
      isOver ||= leaves(element)
      return false
    },
    leave(element) {
      if (!isCounted) return
      left += 1
      lastElement = element
    },
    rest(tape) {
      if (lastElement >= 0) last = nameOf(tape, lastElement)
      lastElement = -1
      lastFirst = -1
    },
    end(next) {
      // What leads to itself leads nowhere.
      following = next === place.target ? undefined : next
      if (isSettled) return
      isSettled = true
      // Upstream has a size of its own. Whether another page follows a full one is not known by it.
      const isOwn = next === undefined ? met > size : met !== size && met > 0
      if (isOwn) size = met
      wanted = isOwn ? size + 1 : size
      if (size === Infinity) wanted = 1
    },
    wants() {
      // What was to be found again is not there any more: rather what has been shown twice than never.
      if (isSkipping) return place.target === undefined ? {} : { target: place.target }
      return following !== undefined && left < wanted && !isOver ? { target: following } : undefined
    },
    turn(next) {
      place = next
      isSkipping = false
      following = undefined
      last = undefined
    },
    next() {
      if (size === 0) return undefined
      const settled = Number.isFinite(size) ? size : undefined
      if (isSkipping) return { place: { ...place, after: undefined }, size: settled }
      if (isOver) return { place: { ...place, after: last }, size: settled }
      if (following !== undefined) return { place: { target: following }, size: settled }
      const isFull = size > 0 && left >= size && wanted === size
      return isFull ? { place: { ...place, after: last }, size: settled } : undefined
    },
  }
}

const OUTCOME = '"outcome"'.length

const NO_PAGING: Pick<Paging, 'size' | 'isSettled' | 'place'> = {
  size: undefined,
  isSettled: false,
  place: {},
}

import type { Tally } from '../../exchange.ts'
import type { Follows, Link } from '../../permit.ts'
import { mergeTally } from './tally.ts'

/** A resource that may be seen, for what it is; whether it may be seen here is still open. */
export type Candidate = {
  readonly type: string
  /** As it is shown, whole. */
  readonly shown: unknown
  /** What upstream says it is beside the others: `search.mode`. */
  readonly mode: string | undefined
  /** What was counted of it. */
  readonly tally: Tally
}

/** Which of the resources of a searchset leave: matches, and what the links of those that leave bring along. */
export type Trail = {
  /** Whether it leaves now. If not, `text` may follow when something else has led to it. */
  readonly take: (candidate: Candidate, text: () => Buffer) => boolean
  /** What has been led to since; the others never leave, and are counted as withheld. */
  readonly rest: () => readonly Buffer[]
}

/** Bytes that wait to be led to, at most: more than an answer that has them in any likely order. */
const MOST_WAITING = 33_554_432

export function createTrail({ types, linksOf }: Follows, tally: Tally): Trail {
  const matches = new Set<string>()
  const met = new Set<string>()
  /** Where the links of what has left lead to. */
  const led = new Set<string>()
  let waiting: (Candidate & { readonly links: readonly Link[]; readonly text: Buffer })[] = []
  let length = 0

  function isLed(keys: readonly string[], links: readonly Link[]): boolean {
    return (
      keys.some((key) => led.has(key)) ||
      links.some(({ isReverse, iterates, to }) => isReverse && (iterates ? met : matches).has(to))
    )
  }

  function leave(keys: readonly string[], links: readonly Link[], isMatch: boolean): void {
    for (const key of keys) {
      met.add(key)
      if (isMatch) matches.add(key)
    }
    for (const { isReverse, iterates, to } of links)
      if (!isReverse && (isMatch || iterates)) led.add(to)
  }

  return {
    take(candidate, text) {
      const { type, shown, mode } = candidate
      const links = linksOf(type, shown)
      const keys = keysOf(type, shown)
      // A server need not say what is a match; what was not searched for is none, whatever it says.
      const isMatch = types.has(type) && (mode === undefined || mode === 'match')
      if (!isMatch && !isLed(keys, links)) {
        const held = text()
        length += held.length
        // Dropped, as if nothing led to it: what is held here is held for every client at once.
        if (length <= MOST_WAITING) waiting.push({ ...candidate, links, text: held })
        else withhold(tally, candidate.tally)
        return false
      }
      leave(keys, links, isMatch)
      mergeTally(tally, candidate.tally)
      return true
    },
    rest() {
      const found: Buffer[] = []
      for (let before = -1; before < found.length;) {
        before = found.length
        waiting = waiting.filter(({ type, shown, links, text, tally: own }) => {
          const keys = keysOf(type, shown)
          if (!isLed(keys, links)) return true
          leave(keys, links, false)
          mergeTally(tally, own)
          found.push(text)
          return false
        })
      }
      for (const one of waiting.splice(0)) withhold(tally, one.tally)
      length = 0
      return found
    },
  }
}

function withhold(tally: Tally, { inspected }: Tally): void {
  tally.inspected += inspected
  tally.withheld += inspected
}

/** By what a link names it: as the caller sees it, so a pseudonym is found by its pseudonym. */
function keysOf(type: string, shown: unknown): readonly string[] {
  const { id, url } = shown as { readonly id?: unknown; readonly url?: unknown }
  return [
    ...(typeof id === 'string' ? [`${type}/${id}`] : []),
    ...(typeof url === 'string' ? [url] : []),
  ]
}

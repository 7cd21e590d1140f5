import type { Tally } from '../../exchange.ts'
import type { Follows, Link } from '../../permit.ts'
import { unreadable } from './bundle.ts'
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

/**
 * Which of the resources of a searchset leave: matches, and behind them what the links of those that leave
 * bring along; each once, and in an order of its own, since upstream's would tell of what is withheld.
 */
export type Trail = {
  /** Whether it leaves now. If not, its `text` may follow when something that leaves has led to it. */
  readonly take: (candidate: Candidate, text: () => Buffer) => boolean
  /** Whether more waits than should. */
  readonly isFull: () => boolean
  /** What has been led to by now; at the end the others are counted as withheld. */
  readonly follow: (isEnd: boolean) => readonly Buffer[]
}

/** Bytes that wait: beyond it they leave as they come, and beyond twice as much nothing is waited for. */
const MOST_WAITING = 16_777_216

type Waiting = Candidate & {
  readonly keys: readonly string[]
  readonly links: readonly Link[]
  readonly text: Buffer
}

export function createTrail({ types, linksOf }: Follows, tally: Tally): Trail {
  const matches = new Set<string>()
  const met = new Set<string>()
  /** Where the links of what has left lead to. */
  const led = new Set<string>()
  let waiting: Waiting[] = []
  let length = 0

  const isLed = ({ keys, links }: Waiting): boolean =>
    keys.some((key) => led.has(key)) ||
    links.some(({ isReverse, iterates, to }) => isReverse && (iterates ? met : matches).has(to))

  function leave(keys: readonly string[], links: readonly Link[], isMatch: boolean): void {
    for (const key of keys) {
      met.add(key)
      if (isMatch) matches.add(key)
    }
    for (const { isReverse, iterates, to } of links)
      if (!isReverse && (isMatch || iterates)) led.add(to)
  }

  function follow(): Waiting[] {
    const found: Waiting[] = []
    for (let before = -1; before < found.length;) {
      before = found.length
      waiting = waiting.filter((one) => {
        // Two pages of upstream's may bring along the same.
        if (met.has(one.keys[0] ?? '')) return false
        if (!isLed(one)) return true
        leave(one.keys, one.links, false)
        mergeTally(tally, one.tally)
        found.push(one)
        return false
      })
    }
    length = waiting.reduce((sum, { text }) => sum + text.length, 0)
    return found.sort((a, b) => ((a.keys[0] ?? '') < (b.keys[0] ?? '') ? -1 : 1))
  }

  return {
    take(candidate, text) {
      const { type, shown, mode } = candidate
      const links = linksOf(type, shown)
      const keys = keysOf(type, shown)
      // A server need not say what is a match; what was not searched for is none, whatever it says.
      if (types.has(type) && (mode === undefined || mode === 'match')) {
        leave(keys, links, true)
        mergeTally(tally, candidate.tally)
        return true
      }
      const held = text()
      length += held.length
      if (length > 2 * MOST_WAITING) throw unreadable('more beside the matches than can be judged')
      waiting.push({ ...candidate, keys, links, text: held })
      return false
    },
    isFull: () => length > MOST_WAITING,
    follow(isEnd) {
      const found = follow()
      if (isEnd) for (const one of waiting) withhold(tally, one.tally)
      return found.map(({ text }) => text)
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

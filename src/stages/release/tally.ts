import type { Tally } from '../../exchange.ts'
import { raiseMark } from './frame.ts'

/** `seen`: what was released before, where what follows may be about it. */
export function newTally(seen?: Set<string>): Tally {
  return {
    inspected: 0,
    released: 0,
    withheld: 0,
    masked: new Map(),
    patients: new Set(),
    ...(seen === undefined ? {} : { seen }),
    resource: undefined,
  }
}

/** Adds what was counted apart. */
export function mergeTally(into: Tally, from: Tally): void {
  into.inspected += from.inspected
  into.released += from.released
  into.withheld += from.withheld
  addCounts(into, from.masked)
  for (const patient of from.patients) into.patients.add(patient)
  if (into.seen !== from.seen) for (const one of from.seen ?? []) into.seen?.add(one)
  if (from.confidentiality !== undefined) raiseMark(into, from.confidentiality)
}

/** Counts what was altered, by rule. */
export function addCounts(tally: Tally, counts: ReadonlyMap<string, number> | undefined): void {
  if (counts === undefined) return
  for (const [rule, count] of counts) tally.masked.set(rule, (tally.masked.get(rule) ?? 0) + count)
}

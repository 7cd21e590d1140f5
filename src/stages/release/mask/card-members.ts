import { after, endOf, KIND, kindOf, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { BESIDE } from './alteration.ts'
import { CODE } from './codes.ts'
import type { Alteration } from './alteration.ts'
import { Around } from './around.ts'
import { rankOf } from './automaton.ts'
import { cardAt } from './detect/card-number.ts'
import { hiddenValue } from './stub.ts'

/** Cards that stand as numbers of JSON: a text is starred where it stands, but no number can be. */

/** As much of a card as everybody may see. */
export const lastFour = (card: string): string => `**** **** **** ${card.slice(-4)}`

/**
 * What takes the place of a member whose value is a card, or a list of numbers with cards among them, as
 * `show` has those; undefined = it is neither. In a list each stays where it was, since others may go by
 * their places.
 */
export function withoutCards(
  tape: Tape,
  key: number,
  show: (card: string) => string,
): string | undefined {
  const value = key + 1
  const isList = kindOf(tape, value) === KIND.array
  const only = isList ? undefined : cardAt(tape, value)
  if (isList ? !hasCard(tape, value) : only === undefined) return undefined
  const name = textOf(tape, key) ?? ''
  const isBeside = name.startsWith('_')
  const beside = JSON.stringify(isBeside ? name : `_${name}`)
  if (only !== undefined) return `${beside}:${hiddenValue(show(only))}`
  // There belong objects, each of which can say for itself that something is hidden.
  if (isBeside) return undefined
  const [values, besides]: [string[], string[]] = [[], []]
  for (let one = value + 1; one < after(tape, value); one++) {
    const card = cardAt(tape, one)
    values.push(card === undefined ? rawOf(tape, one) : 'null')
    besides.push(card === undefined ? 'null' : hiddenValue(show(card)))
  }
  const hidden = `${beside}:[${besides.join()}]`
  if (values.every((one) => one === 'null')) return hidden
  return `${rawOf(tape, key)}:[${values.join()}],${hidden}`
}

/** Whether a list holds numbers and nothing else, cards among them. */
function hasCard(tape: Tape, list: number): boolean {
  let isFound = false
  for (let one = list + 1; one < after(tape, list); one++) {
    const kind = kindOf(tape, one)
    const isNull = kind === KIND.literal && rawOf(tape, one) === 'null'
    if (kind !== KIND.number && !isNull) return false
    isFound ||= cardAt(tape, one) !== undefined
  }
  return isFound
}

const rawOf = (tape: Tape, entry: number): string =>
  tape.bytes.toString('utf8', startOf(tape, entry), endOf(tape, entry))

const RULE = 'payment-card'
const RANK = rankOf({ kind: 'last', count: 4 })
/** Of two members of one name one has to go, whatever else is said of it. */
const GONE = rankOf({ kind: 'redact' })

/** What the baseline makes of the numbers of an object that are given, in order. */
export function planCardMembers(
  tape: Tape,
  object: number,
  numbers: readonly number[],
): readonly Alteration[] {
  const found: Alteration[] = []
  const add = (entry: number, text: string): void => {
    const codes = CODE.MASKED | CODE.ABSTRED
    found.push({ entry, text, parent: -1, holder: -1, rule: RULE, codes, rank: RANK })
  }
  /** Lists that were met, and whether they are altered as a whole. */
  const lists = new Map<number, boolean>()
  const around = new Around(tape, object)
  for (const entry of numbers) {
    const card = cardAt(tape, entry)
    if (card === undefined) continue
    const [holder, outer] = around.of(entry)
    const isList = kindOf(tape, holder) === KIND.array
    const isAltered = lists.get(holder)
    if (isAltered === true) continue
    const key = isList ? holder - 1 : entry - 1
    const isMember = kindOf(tape, key) === KIND.key
    const text = isMember && isAltered === undefined ? withoutCards(tape, key, lastFour) : undefined
    if (isList) lists.set(holder, text !== undefined)
    if (text !== undefined) {
      add(key, text)
      const parent = isList ? outer : holder
      for (const beside of around.takeBesides(parent, key)) {
        const alteration = { rule: BESIDE, codes: 0, rank: GONE }
        found.push({ entry: beside, text: undefined, parent, holder: -1, ...alteration })
      }
    } else {
      const isBeside = isMember && textOf(tape, key)?.startsWith('_') === true
      add(entry, isBeside ? hiddenValue(lastFour(card)) : 'null')
    }
  }
  return found
}

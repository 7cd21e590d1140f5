import { after, endOf, KIND, kindOf, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { BESIDE } from './alteration.ts'
import { CODE } from './codes.ts'
import type { Alteration } from './alteration.ts'
import { Around } from './around.ts'
import { rankOf } from './automaton.ts'
import { Called } from './called-ssn.ts'
import { cardAt, ssnAt } from './detect/secret-number.ts'
import { hiddenValue } from './stub.ts'

/** Cards and SSNs that stand as numbers of JSON: a text is starred where it stands, but no number can be. */

/** As much of a card as everybody may see. */
export const lastFour = (card: string): string => `**** **** **** ${card.slice(-4)}`
/** The same of an SSN. */
export const lastFourOfSsn = (ssn: string): string => `***-**-${ssn.slice(-4)}`

/** What is shown in place of a value that is a secret as a number of JSON; undefined = it is none. */
type Show = (entry: number) => string | undefined

/** As `show` has each card. */
export const withoutCards = (
  tape: Tape,
  key: number,
  show: (card: string) => string,
): string | undefined => withoutNumbers(tape, key, (entry) => mapped(cardAt(tape, entry), show))

/**
 * What takes the place of a member whose value is a secret, or a list of numbers with secrets among them;
 * undefined = it is neither. In a list each stays where it was, since others may go by their places.
 */
function withoutNumbers(tape: Tape, key: number, show: Show): string | undefined {
  const value = key + 1
  const isList = kindOf(tape, value) === KIND.array
  const only = isList ? undefined : show(value)
  if (isList ? !hasSecret(tape, value, show) : only === undefined) return undefined
  const name = textOf(tape, key) ?? ''
  const isBeside = name.startsWith('_')
  const beside = JSON.stringify(isBeside ? name : `_${name}`)
  if (only !== undefined) return `${beside}:${hiddenValue(only)}`
  // There belong objects, each of which can say for itself that something is hidden.
  if (isBeside) return undefined
  const [values, besides]: [string[], string[]] = [[], []]
  for (let one = value + 1; one < after(tape, value); one++) {
    const shown = show(one)
    values.push(shown === undefined ? rawOf(tape, one) : 'null')
    besides.push(shown === undefined ? 'null' : hiddenValue(shown))
  }
  const hidden = `${beside}:[${besides.join()}]`
  if (values.every((one) => one === 'null')) return hidden
  return `${rawOf(tape, key)}:[${values.join()}],${hidden}`
}

/** Whether a list holds numbers and nothing else, secrets among them. */
function hasSecret(tape: Tape, list: number, show: Show): boolean {
  let isFound = false
  for (let one = list + 1; one < after(tape, list); one++) {
    const kind = kindOf(tape, one)
    const isNull = kind === KIND.literal && rawOf(tape, one) === 'null'
    if (kind !== KIND.number && !isNull) return false
    isFound ||= show(one) !== undefined
  }
  return isFound
}

const rawOf = (tape: Tape, entry: number): string =>
  tape.bytes.toString('utf8', startOf(tape, entry), endOf(tape, entry))

const RANK = rankOf({ kind: 'last', count: 4 })
/** Of two members of one name one has to go, whatever else is said of it. */
const GONE = rankOf({ kind: 'redact' })

/** What the baseline makes of the numbers of an object that are given, in order. */
export function planNumberMembers(
  tape: Tape,
  object: number,
  numbers: readonly number[],
): readonly Alteration[] {
  const found: Alteration[] = []
  /** Lists that were met, and whether they are altered as a whole. */
  const lists = new Map<number, boolean>()
  const [around, called] = [new Around(tape, object), new Called(tape)]
  for (const entry of numbers) {
    const secret = secretAt(tape, entry, () => called.isSsn(around.objectsOf(entry)))
    if (secret === undefined) continue
    const { rule, show, shown } = secret
    const add = (at: number, text: string): void => {
      const codes = CODE.MASKED | CODE.ABSTRED
      found.push({ entry: at, text, parent: -1, holder: -1, rule, codes, rank: RANK })
    }
    const [holder, outer] = around.of(entry)
    const isList = kindOf(tape, holder) === KIND.array
    const isAltered = lists.get(holder)
    if (isAltered === true) continue
    const key = isList ? holder - 1 : entry - 1
    const isMember = kindOf(tape, key) === KIND.key
    const text = isMember && isAltered === undefined ? withoutNumbers(tape, key, show) : undefined
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
      add(entry, isBeside ? hiddenValue(shown) : 'null')
    }
  }
  return found
}

type Secret = { readonly rule: 'payment-card' | 'ssn'; readonly shown: string; readonly show: Show }

/** What a number is; what calls it an SSN calls all in its list so, and is asked where it may be one. */
function secretAt(tape: Tape, entry: number, isCalledSsn: () => boolean): Secret | undefined {
  const showCard: Show = (one) => mapped(cardAt(tape, one), lastFour)
  const showSsn: Show = (one) => mapped(ssnAt(tape, one), lastFourOfSsn)
  const [card, ssn] = [showCard(entry), showSsn(entry)]
  const shown = card ?? ssn
  if (shown === undefined) return undefined
  const isCalled = isCalledSsn()
  if (card === undefined && !isCalled) return undefined
  const rule = card === undefined ? 'ssn' : 'payment-card'
  return { rule, shown, show: isCalled ? (one) => showCard(one) ?? showSsn(one) : showCard }
}

const mapped = (text: string | undefined, map: (text: string) => string): string | undefined =>
  text === undefined ? undefined : map(text)

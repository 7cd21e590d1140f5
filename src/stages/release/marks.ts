import type { Edit } from '../../json/edit.ts'
import {
  after,
  elements,
  endOf,
  kindOf,
  KIND,
  member,
  nameOf,
  startOf,
  textOf,
} from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import type { Alteration, AlterationCode } from './alteration.ts'
import { MASKED_TEXT } from './compile-masking.ts'
import { WITHHELD } from './vocabulary.ts'
import type { Vocabulary } from './vocabulary.ts'

const STUB = `{"status":"empty","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">${WITHHELD}</div>"}`
const SYSTEM = 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue'
const codingOf = (code: string): string => `{"system":"${SYSTEM}","code":"${code}"}`

/**
 * The edits that say what was done: alteration codes in meta.security (LABEL-6), SUBSETTED in
 * meta.tag (LABEL-7), and every narrative replaced (MASK-6): it may tell what is masked.
 */
export function markAltered(
  tape: Tape,
  object: number,
  alterations: readonly Alteration[],
  words: Vocabulary,
): Edit[] {
  const codes = new Set(alterations.flatMap((one) => one.codes))
  const lists = [
    [words.at.security, 'security', listOf([...codes].filter((code) => code !== 'SUBSETTED'))],
    [words.at.tag, 'tag', listOf([...codes].filter((code) => code === 'SUBSETTED'))],
  ] as const
  const wanted = lists.filter(([, , list]) => list !== '')
  const edits: Edit[] = []
  const meta = member(tape, object, words.at.meta)
  const whole = wanted.map(([, name, list]) => `"${name}":[${list}]`).join()
  const isMeta = meta >= 0 && kindOf(tape, meta) === KIND.object
  if (meta < 0) {
    const comma = after(tape, object) === object + 1 ? '' : ','
    insert(edits, startOf(tape, object) + 1, `"meta":{${whole}}${comma}`)
  } else if (!isMeta || isEmptied(tape, meta, alterations)) {
    edits.push({ start: startOf(tape, meta), end: endOf(tape, meta), text: `{${whole}}` })
  } else {
    for (const [number, name, list] of wanted) {
      const codings = member(tape, meta, number)
      if (codings < 0) insert(edits, startOf(tape, meta) + 1, `"${name}":[${list}],`)
      else if (kindOf(tape, codings) !== KIND.array) {
        edits.push({ start: startOf(tape, codings), end: endOf(tape, codings), text: `[${list}]` })
      } else {
        const isEmpty = after(tape, codings) === codings + 1
        insert(edits, endOf(tape, codings) - 1, isEmpty ? list : `,${list}`)
      }
    }
  }
  for (const text of narratives(tape, object, words)) {
    edits.push({ start: startOf(tape, text), end: endOf(tape, text), text: STUB })
  }
  return edits
}

const listOf = (codes: readonly AlterationCode[]): string => codes.map(codingOf).join()

function insert(edits: Edit[], at: number, text: string): void {
  edits.push({ start: at, end: at, text })
}

/** Whether nothing of an object is left. */
function isEmptied(tape: Tape, object: number, alterations: readonly Alteration[]): boolean {
  const gone = new Set(alterations.flatMap(({ entry, text }) => (text === undefined ? entry : [])))
  const end = after(tape, object)
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    if (!gone.has(key) && !isListGone(key + 1)) return false
  }
  return true

  function isListGone(value: number): boolean {
    if (kindOf(tape, value) !== KIND.array || after(tape, value) === value + 1) return false
    return [...elements(tape, value)].every((element) => gone.has(element))
  }
}

/** Every narrative: of the resource, of its sections, and of whatever is contained in it. */
function* narratives(tape: Tape, object: number, { at }: Vocabulary): Generator<number> {
  const end = after(tape, object)
  for (let entry = object + 1; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.object || nameOf(tape, entry) !== at.text) continue
    // Within a list it is none, but then nobody knows what it is.
    if (member(tape, entry, at.div) >= 0 || member(tape, entry, at.status) >= 0) yield entry
  }
}

/** Removes signatures over what is not any more what was signed (MASK-11). */
export function dropSignatures(tape: Tape, object: number, { at }: Vocabulary): Alteration[] {
  const resources = [object, ...elements(tape, member(tape, object, at.contained))]
  return resources.flatMap((resource): Alteration[] => {
    const signature = member(tape, resource, at.signature)
    if (signature < 0) return []
    return [
      {
        entry: signature - 1,
        ...{ text: undefined, parent: resource, holder: -1 },
        rule: 'signature',
        codes: ['REDACTED', 'SUBSETTED'],
        rank: 6,
      },
    ]
  })
}

/** Stars and the last four, as masked identifiers and texts show them. */
const MARK = /(?:\*[^\p{L}\p{Nd}*]{0,3}){5}\p{Nd}(?:[^\p{L}\p{Nd}*]{0,3}\p{Nd}){3}(?!\p{Nd})/u

/** Whether a payload carries marks of ours, which must never be stored (MASK-10). */
export function isMarked(tape: Tape, object: number, words: Vocabulary): boolean {
  const end = after(tape, object)
  for (let entry = object; entry < end; entry++) {
    if (kindOf(tape, entry) !== KIND.string) continue
    if (endOf(tape, entry) - startOf(tape, entry) < 8) continue
    const text = textOf(tape, entry) ?? ''
    if (nameOf(tape, entry) === words.at.valueCode && text === 'masked') return true
    // What was cut down on its way out is not the whole, and must not take the place of it (C11).
    if (nameOf(tape, entry) === words.at.code && ALTERED.has(text)) return true
    if (MARK.test(text) || text.includes(WITHHELD) || text.includes(MASKED_TEXT)) return true
  }
  return false
}

/** Codes that say that a resource is not what is stored. */
const ALTERED: ReadonlySet<string> = new Set(['SUBSETTED'])

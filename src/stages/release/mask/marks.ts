import { WITHHELD, WITHHELD_NARRATIVE } from '../../../fhir/withheld.ts'
import { beforeEnd, beginOf, finishOf, inside } from '../../../json/edit.ts'
import type { Place } from '../../../json/edit.ts'
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
  valuesAt,
} from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { CODE } from './codes.ts'
import type { Alteration, MaskChange } from './alteration.ts'
import { MASKED_TEXT } from './compile-masking.ts'
import { EMPTY_CONTENT } from '../vocabulary.ts'
import type { Vocabulary } from '../vocabulary.ts'

/**
 * The changes that say what was done: alteration codes in meta.security (LABEL-6), SUBSETTED in
 * meta.tag (LABEL-7), and every narrative replaced (MASK-6): it may tell what is masked.
 */
export function markAltered(
  tape: Tape,
  object: number,
  alterations: readonly Alteration[],
  narratives: readonly number[],
  words: Vocabulary,
): MaskChange[] {
  let codes = 0
  for (const one of alterations) codes |= one.codes
  const security = words.codings[codes & ~CODE.SUBSETTED] ?? ''
  const tag = words.codings[codes & CODE.SUBSETTED] ?? ''
  const changes: MaskChange[] = []
  const meta = member(tape, object, words.at.meta)
  if (meta < 0) {
    const comma = after(tape, object) === object + 1 ? '' : ','
    insert(changes, inside(object), `"meta":${metaOf(security, tag)}${comma}`)
  } else if (kindOf(tape, meta) !== KIND.object || isEmptied(tape, meta, alterations)) {
    replace(changes, meta, metaOf(security, tag))
  } else {
    addCodings(tape, meta, words.at.security, 'security', security, changes)
    addCodings(tape, meta, words.at.tag, 'tag', tag, changes)
  }
  for (const text of narratives) replace(changes, text, WITHHELD_NARRATIVE)
  return changes
}

/** A meta that says nothing else. */
function metaOf(security: string, tag: string): string {
  const lists = [listOf('security', security), listOf('tag', tag)]
  return `{${lists.filter((one) => one !== '').join()}}`
}

const listOf = (name: string, codings: string): string =>
  codings === '' ? '' : `"${name}":[${codings}]`

function addCodings(
  tape: Tape,
  meta: number,
  number: number,
  name: string,
  codings: string,
  changes: MaskChange[],
): void {
  if (codings === '') return
  const list = member(tape, meta, number)
  if (list < 0) insert(changes, inside(meta), `${listOf(name, codings)},`)
  else if (kindOf(tape, list) !== KIND.array) replace(changes, list, `[${codings}]`)
  else {
    const isEmpty = after(tape, list) === list + 1
    insert(changes, beforeEnd(list), isEmpty ? codings : `,${codings}`)
  }
}

function insert(changes: MaskChange[], at: Place, text: string): void {
  changes.push({ from: at, to: at, text })
}

function replace(changes: MaskChange[], value: number, text: string): void {
  changes.push({ from: beginOf(value), to: finishOf(value), text })
}

/** Whether nothing of an object is left. */
function isEmptied(tape: Tape, object: number, alterations: readonly Alteration[]): boolean {
  const end = after(tape, object)
  const inside = alterations.filter(
    ({ entry, text }) => text === undefined && entry > object && entry < end,
  )
  if (inside.length === 0) return end === object + 1
  const gone = new Set(inside.map(({ entry }) => entry))
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    if (!gone.has(key) && !isListGone(key + 1)) return false
  }
  return true

  function isListGone(value: number): boolean {
    if (kindOf(tape, value) !== KIND.array || after(tape, value) === value + 1) return false
    return [...elements(tape, value)].every((element) => gone.has(element))
  }
}

/** Whether a noted object by the name `text` is a narrative: of a resource, section, or contained. */
export function isNarrative(tape: Tape, entry: number, { at }: Vocabulary): boolean {
  // Within a list it is none, but then nobody knows what it is.
  return (
    nameOf(tape, entry) === at.text &&
    (member(tape, entry, at.div) >= 0 || member(tape, entry, at.status) >= 0)
  )
}

/** Removes signatures over what is not any more what was signed (MASK-11). */
export function dropSignatures(tape: Tape, object: number, { at }: Vocabulary): Alteration[] {
  const found: Alteration[] = []
  take(object)
  for (const resource of elements(tape, member(tape, object, at.contained))) take(resource)
  return found

  function take(resource: number): void {
    const signature = member(tape, resource, at.signature)
    if (signature < 0) return
    const codes = CODE.REDACTED | CODE.SUBSETTED
    const [entry, parent] = [signature - 1, resource]
    found.push({ entry, text: undefined, parent, holder: -1, rule: 'signature', codes, rank: 6 })
  }
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
    if (text === EMPTY_CONTENT) return true
    if (MARK.test(text) || text.includes(WITHHELD) || text.includes(MASKED_TEXT)) return true
  }
  return false
}

/** Codes that say that a resource is not what is stored. */
const ALTERED: ReadonlySet<string> = new Set(['SUBSETTED'])

/** Whether the labels of a resource say that values in it are not as they are stored. */
export function isAltered(tape: Tape, object: number, { at, security }: Vocabulary): boolean {
  return valuesAt(tape, object, security).some((coding) =>
    ALTERATIONS.has(textOf(tape, member(tape, coding, at.code)) ?? ''),
  )
}
const ALTERATIONS: ReadonlySet<string> = new Set(Object.keys(CODE))

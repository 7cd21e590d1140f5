import { removeMembers } from '../../json/edit.ts'
import type { Edit } from '../../json/tape.ts'
import { after, kindOf, KIND, member, startOf, textOf } from '../../json/tape.ts'
import type { Scan } from '../../json/tape.ts'
import type { Trim } from '../../permit.ts'
import { CODE } from './mask/codes.ts'
import type { Vocabulary } from './vocabulary.ts'

/** What no resource is without, whatever was asked for. */
const ALWAYS: ReadonlySet<string> = new Set(['resourceType', 'id', 'meta', 'implicitRules'])

/**
 * Cuts a resource that has been judged and masked down to the elements asked for: `scan` must not be
 * the scanner whose tape is still in use. Elements that its type cannot do without stay.
 */
export function createTrim(
  scan: Scan,
  { at, codings }: Vocabulary,
  mandatory: (type: string) => ReadonlySet<string>,
): (resource: Buffer, trim: Trim) => Buffer {
  // "A resource that is only partially represented SHALL be marked with the tag SUBSETTED".
  const subsetted = codings[CODE.SUBSETTED] ?? ''
  return (resource, trim) => {
    const tape = scan(resource)
    const type = textOf(tape, member(tape, 0, at.resourceType)) ?? ''
    const needed = mandatory(type)
    const cut = removeMembers(tape, 0, (key) => {
      const name = (textOf(tape, key) ?? '').replace(/^_/, '')
      return !ALWAYS.has(name) && !needed.has(name) && !trim(type, name)
    })
    const edits: Edit[] = [...cut]
    const meta = member(tape, 0, at.meta)
    const tag = member(tape, meta, at.tag)
    const into = (container: number, text: string): void => {
      const place = startOf(tape, container) + 1
      const isEmpty = after(tape, container) === container + 1
      edits.push({ start: place, end: place, text: isEmpty ? text : `${text},` })
    }
    if (tag >= 0 && kindOf(tape, tag) === KIND.array) into(tag, subsetted)
    else if (meta >= 0 && kindOf(tape, meta) === KIND.object) into(meta, `"tag":[${subsetted}]`)
    else into(0, `"meta":{"tag":[${subsetted}]}`)
    return tape.splice(edits)
  }
}

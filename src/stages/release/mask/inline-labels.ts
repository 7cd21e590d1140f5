import { KIND } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { after, elements, isContainer, kindOf, member, textOf } from '../../../json/tape.ts'
import { CODE } from './codes.ts'
import type { Alteration } from './alteration.ts'
import { readCoding } from '../labels.ts'
import type { Labels } from '../labels.ts'
import { membersNamed } from './members.ts'
import { STUB } from './stub.ts'
import type { Vocabulary } from '../vocabulary.ts'

const INLINE_LABEL =
  'http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label'

const WHOLE: ReadonlySet<string> = new Set(['extension', 'modifierExtension', 'contained'])
const LABELS: ReadonlySet<string> = new Set(['security', 'tag'])

/**
 * Security labels on single elements (DS4P inline labels, LABEL-2): whatever carries one that the
 * caller is not cleared for is taken out, marked as masked. An element of a primitive carries its label
 * beside it (`_birthDate`): both go.
 */
export function planInlineLabels(
  tape: Tape,
  object: number,
  maySee: (labels: Labels) => boolean,
  words: Vocabulary,
): Alteration[] {
  const found: Alteration[] = []
  visit(object, -1, -1, -1)
  return found

  /** `key` is that of the member a value is in; `parent` the object or list around it. */
  function visit(value: number, key: number, parent: number, holder: number): void {
    if (kindOf(tape, value) === KIND.object) {
      if (parent >= 0 && !maySee(labelsOf(value))) {
        withhold(value, key, parent, holder)
        return
      }
      const end = after(tape, value)
      for (let name = value + 1; name < end; name = after(tape, name + 1)) {
        if (isContainer(tape, name + 1)) visit(name + 1, name, value, parent)
      }
    } else {
      const end = after(tape, value)
      for (let item = value + 1; item < end; item = after(tape, item)) {
        if (isContainer(tape, item)) visit(item, key, value, parent)
      }
    }
  }

  function labelsOf(element: number): Labels {
    const labels: Labels = { highest: -1, sensitivities: [], isInline: false }
    for (const extension of elements(tape, member(tape, element, words.at.extension))) {
      if (textOf(tape, member(tape, extension, words.at.url)) !== INLINE_LABEL) continue
      for (const coding of membersNamed(tape, extension, 'valueCoding')) {
        readCoding(tape, coding, words, labels)
      }
    }
    return labels
  }

  function withhold(value: number, key: number, parent: number, holder: number): void {
    const common = { rule: 'label', codes: CODE.REDACTED, rank: 5 }
    const name = textOf(tape, key) ?? ''
    const object = kindOf(tape, parent) === KIND.array ? holder : parent
    if (name.startsWith('_')) {
      const end = after(tape, object)
      for (let sibling = object + 1; sibling < end; sibling = after(tape, sibling + 1)) {
        if (textOf(tape, sibling) === name.slice(1)) {
          found.push({ entry: sibling, text: undefined, parent: object, holder: -1, ...common })
        }
      }
      // Of a list of primitives nobody can say any more which is which.
      const stub = kindOf(tape, key + 1) === KIND.array ? `[${STUB}]` : STUB
      const text = `${JSON.stringify(name)}:${stub}`
      found.push({ entry: key, text, parent: object, holder: -1, ...common })
    } else if (WHOLE.has(name)) {
      // Without its address an extension is none, and without its type a resource.
      const entry = kindOf(tape, parent) === KIND.array ? value : key
      found.push({ entry, text: undefined, parent, holder, ...common })
    } else if (name === 'meta') {
      // LABEL-6: labels stay.
      const end = after(tape, value)
      for (let one = value + 1; one < end; one = after(tape, one + 1)) {
        if (LABELS.has(textOf(tape, one) ?? '')) continue
        found.push({ entry: one, text: undefined, parent: value, holder: -1, ...common })
      }
    } else found.push({ entry: value, text: STUB, parent, holder, ...common })
  }
}

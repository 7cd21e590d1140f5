import { KIND } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import { after, isContainer, kindOf, nameOf, textOf } from '../../json/tape.ts'
import type { Searching } from '../../permit.ts'
import type { Vocabulary } from './vocabulary.ts'

/** The references of a resource that are searches (`Patient?identifier=…`), wherever they stand. */
export function searchesIn(tape: Tape, object: number, { at }: Vocabulary): readonly Searching[] {
  const found: Searching[] = []
  const end = after(tape, object)
  for (let entry = object; entry < end; entry++) {
    if (nameOf(tape, entry) !== at.reference || kindOf(tape, entry) !== KIND.string) continue
    const reference = textOf(tape, entry) ?? ''
    if (reference.includes('?')) {
      found.push({ reference, element: namesTo(tape, object, entry).join('.') })
    }
  }
  return found
}

/** The names of the members from a container down to an entry within it. */
function namesTo(tape: Tape, container: number, entry: number): string[] {
  const isObject = kindOf(tape, container) === KIND.object
  const end = after(tape, container)
  for (let key = container + 1; key < end;) {
    const value = isObject ? key + 1 : key
    const next = after(tape, value)
    if (entry < next) {
      const name = isObject ? [textOf(tape, key) ?? ''] : []
      return isContainer(tape, value) ? [...name, ...namesTo(tape, value, entry)] : name
    }
    key = next
  }
  return []
}

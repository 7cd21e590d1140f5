import { after, elements, flagsOf, kindOf, KIND, startOf, textOf } from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import { FLAG } from '../../../json/token.ts'

/** Every value of the members of an object that have the name, lists passed through, duplicates too. */
export function* membersNamed(tape: Tape, object: number, name: string): Generator<number> {
  if (kindOf(tape, object) !== KIND.object) return
  const end = after(tape, object)
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    if (isNamed(tape, key, name)) yield* elements(tape, key + 1)
  }
}

/** Whether a key is the name (ASCII), however it is written. */
export function isNamed(tape: Tape, key: number, name: string): boolean {
  if ((flagsOf(tape, key) & FLAG.escaped) !== 0) return textOf(tape, key) === name
  const start = startOf(tape, key) + 1
  const { bytes } = tape
  if (bytes[start + name.length] !== 0x22) return false
  for (let n = 0; n < name.length; n++) if (bytes[start + n] !== name.charCodeAt(n)) return false
  return true
}

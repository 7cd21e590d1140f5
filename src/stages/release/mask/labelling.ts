import {
  after,
  elements,
  endOf,
  kindOf,
  KIND,
  member,
  startOf,
  textOf,
} from '../../../json/tape.ts'
import type { Tape } from '../../../json/tape.ts'
import type { Category } from '../../../policy/masking-schema.ts'
import type { Vocabulary } from '../vocabulary.ts'
import { recall } from '../../../recall.ts'

type List = keyof Category['codes']

/** Code systems by a part of what servers call them, without what separates words and numbers. */
const SYSTEMS: readonly (readonly [part: RegExp, list: List])[] = [
  [/icd10|^(?:urnoid)?2168401113883(?:690|63)$/, 'icd-10'],
  [/snomed|^(?:urnoid)?2168401113883696$/, 'snomed'],
  [/loinc|^(?:urnoid)?216840111388361$/, 'loinc'],
]
/** ICD-10-PCS numbers procedures: what begins as a diagnosis does is none, in its form. */
const PROCEDURES = /icd10pcs|codingicd10$/
const PROCEDURE = /^[0-9A-Z]{7}$/
/** Nothing but a diagnosis has the point there. */
const DIAGNOSIS = /^[A-Z]\d[0-9A-Z]\.[0-9A-Z]{1,4}$/i

/**
 * Tells the sensitivity of a resource that nobody labelled from its codes (LABEL-9), wherever they
 * stand in it; undefined when there are no categories.
 */
export function createLabelling(
  categories: readonly Category[],
  { at }: Vocabulary,
): ((tape: Tape, object: number) => readonly string[]) | undefined {
  if (categories.length === 0) return undefined
  const exact = new Map<string, Set<string>>()
  /** Systems come again and again. */
  const recallSystem = recall(readSystem, { most: 500 })
  const prefixes: { readonly prefix: string; readonly label: string }[] = []
  const add = (list: List | 'any', code: string, label: string): void => {
    const key = `${list} ${code}`
    exact.set(key, (exact.get(key) ?? new Set()).add(label))
  }
  for (const { label, codes } of categories) {
    for (const prefix of codes['icd-10']) prefixes.push({ prefix: plain(prefix), label })
    for (const list of ['icd-10', 'snomed', 'loinc'] as const) {
      for (const code of codes[list]) {
        add(list, code, label)
        add('any', code, label)
      }
    }
  }
  return (tape, object) => {
    const labels = new Set<string>()
    const end = after(tape, object)
    for (let entry = object; entry < end; entry++) {
      if (kindOf(tape, entry) !== KIND.object) continue
      const codes = textsOf(tape, member(tape, entry, at.code))
      if (codes.length === 0) continue
      const systems = textsOf(tape, member(tape, entry, at.system))
      for (const system of systems.length === 0 ? [''] : systems) label(system, codes, labels)
    }
    return [...labels]
  }

  function label(system: string, codes: readonly string[], labels: Set<string>): void {
    const { name, list } = recallSystem(system)
    if (list === undefined) return
    for (const code of codes.flatMap(conceptsOf)) {
      for (const one of exact.get(`${list} ${code}`) ?? []) labels.add(one)
      const isIcd = list === 'icd-10' || (list === 'any' && DIAGNOSIS.test(code))
      if (!isIcd || (PROCEDURES.test(name) && PROCEDURE.test(code))) continue
      const text = plain(code)
      for (const { prefix, label } of prefixes) if (text.startsWith(prefix)) labels.add(label)
    }
  }
}

function readSystem(system: string): System {
  const name = nameOf(system)
  const list = name === '' ? 'any' : SYSTEMS.find(([part]) => part.test(name))?.[1]
  return { name, list }
}

type System = { readonly name: string; readonly list: List | 'any' | undefined }

/** ICD codes are written with and without the point. */
const plain = (code: string): string => code.toUpperCase().replace(/[^0-9A-Z]/g, '')

function nameOf(system: string): string {
  const [bare = ''] = system.split('|', 1)
  return bare.toLowerCase().replace(/[^0-9a-z]/g, '')
}

/**
 * What a code names: servers write terms beside it, and what refines it (SNOMED CT compositional
 * grammar), of which nothing says that the patient has it.
 */
function conceptsOf(code: string): readonly string[] {
  if (SIMPLE.test(code)) return [code]
  const [focus = ''] = code.replace(/\|[^|]*\|?/g, ' ').split(':')
  return focus.split('+').map((one) => one.replace(/[\s=<(){}]/g, ''))
}
const SIMPLE = /^[\w.-]*$/

/** Texts where there should be one: of a list each, of a number its digits. */
function textsOf(tape: Tape, value: number): readonly string[] {
  const kind = value < 0 ? undefined : kindOf(tape, value)
  if (kind === KIND.string) return [textOf(tape, value) ?? '']
  if (kind === KIND.number)
    return [tape.bytes.toString('latin1', startOf(tape, value), endOf(tape, value))]
  return kind === KIND.array ? [...elements(tape, value)].flatMap((one) => textsOf(tape, one)) : []
}

/** What is in each type of one FHIR version: the element trees of resources and data types. */
import { readFileSync } from 'node:fs'
import { recall } from '../recall.ts'
import { VERSIONS } from './definitions.ts'
import type { FhirVersion } from './definitions.ts'

/** One element of a structure, once for each data type that it may have. */
export type ElementDefinition = {
  /** As paths name it, without the type of a choice: 'value'. */
  readonly name: string
  /** As JSON names it: 'valueQuantity'. */
  readonly key: string
  /** Its data type, or the structure that is nested here: 'Patient.contact'. */
  readonly type: string
  readonly min: number
  readonly isArray: boolean
  readonly isChoice: boolean
}

/** A resource type, a complex data type, or a structure nested in one. */
export type Structure = {
  readonly name: string
  /** From itself up: ['Age', 'Quantity', 'Element']. */
  readonly kinds: readonly string[]
  /** By JSON key, in the order of the definition, those of its bases first. */
  readonly elements: ReadonlyMap<string, ElementDefinition>
}

export type Elements = {
  readonly version: FhirVersion
  /** Names of all structures. */
  readonly names: readonly string[]
  /** Every name that JSON has for an element, `_birthDate` and its like among them. */
  readonly keys: () => ReadonlySet<string>
  /** Names of elements that may be of one of the types. */
  readonly keysOf: (types: ReadonlySet<string>) => ReadonlySet<string>
  /** undefined for primitive types and for what this version does not know. */
  readonly structure: (name: string) => Structure | undefined
  /** Whether it is a primitive type of this version, `xhtml` included. */
  readonly isPrimitive: (name: string) => boolean
}

/**
 * The element trees of one FHIR version, from the generated data (CC0,
 * scripts/generate-fhir-data.ts). Reads one file, once, and makes of it what is asked for.
 */
export const loadElements = recall(readElements, { most: VERSIONS.length })

function readElements(version: FhirVersion): Elements {
  const file = new URL(`./data/${version.toLowerCase()}-elements.json`, import.meta.url)
  const { structures: lines } = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly structures: Readonly<Record<string, readonly [base: string, ...own: string[]]>>
  }
  const known = new Map(Object.entries(lines))
  const made = new Map<string, Structure>()
  let parsed: readonly ElementDefinition[] | undefined
  let primitives: ReadonlySet<string> | undefined

  /** Those of all structures, one after the other. */
  function all(): readonly ElementDefinition[] {
    return (parsed ??= [...known.values()].flatMap(([, ...own]) => own.flatMap(parse)))
  }

  function structure(name: string): Structure | undefined {
    const line = known.get(name)
    if (line === undefined) return undefined
    let found = made.get(name)
    if (found === undefined) {
      const [baseName, ...own] = line
      const base = structure(baseName)
      const elements = new Map(base?.elements)
      for (const element of own.flatMap(parse)) elements.set(element.key, element)
      found = { name, kinds: [name, ...(base?.kinds ?? [])], elements }
      made.set(name, found)
    }
    return found
  }

  function isPrimitive(name: string): boolean {
    primitives ??= new Set(all().flatMap(({ type }) => (/^[a-z]/.test(type) ? type : [])))
    return primitives.has(name)
  }

  function keys(): ReadonlySet<string> {
    const found = new Set<string>()
    for (const { key, type } of all()) {
      found.add(key)
      if (/^[a-z]/.test(type)) found.add(`_${key}`)
    }
    return found
  }

  function keysOf(types: ReadonlySet<string>): ReadonlySet<string> {
    return new Set(all().flatMap(({ key, type }) => (types.has(type) ? key : [])))
  }

  return { version, names: [...known.keys()], keys, keysOf, structure, isPrimitive }
}

/** `name!*:Type|Type`: `!` must be there, `*` a list. */
function parse(text: string): ElementDefinition[] {
  const [, name = '', choice, must, many, types = ''] =
    /^(\w+)(\[x\])?(!)?(\*)?:(.*)$/.exec(text) ?? []
  return types.split('|').map((type) => ({
    name,
    key: choice === undefined ? name : name + type.charAt(0).toUpperCase() + type.slice(1),
    type,
    min: must === undefined ? 0 : 1,
    isArray: many !== undefined,
    isChoice: choice !== undefined,
  }))
}

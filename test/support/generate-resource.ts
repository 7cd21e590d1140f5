import type { ElementDefinition, Elements } from '../../src/fhir/elements.ts'

/** A value on the way from the resource to a seeded one. */
export type Node = {
  readonly name: string
  readonly type: string
  readonly kinds: readonly string[]
}
/** A text that stands nowhere else, and the way to it. */
export type Seeded = {
  readonly canary: string
  readonly type: string
  readonly way: readonly Node[]
}
export type Generated = { readonly text: string; readonly seeded: readonly Seeded[] }

/** Numbers of a seed (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/**
 * A resource of a type, made from its element tree: every text in it is a canary, about `size`
 * elements, lists, extensions, primitive extensions and contained resources among them.
 */
export function generateResource(
  elements: Elements,
  type: string,
  seed: number,
  size: number,
): Generated {
  const next = numbers(seed)
  const seeded: Seeded[] = []
  let left = size
  const resources = ['Patient', 'Observation', 'Practitioner', 'QuestionnaireResponse', 'Basic']
  const kindsOf = (name: string): readonly string[] => elements.structure(name)?.kinds ?? [name]

  function canary(): string {
    const letters = (n: number): string => String.fromCharCode(97 + (n % 26))
    const n = seeded.length
    const random = Array.from({ length: 8 }, () => letters(Math.floor(next() * 26))).join('')
    return `Zq${random}${letters(n)}${letters(Math.floor(n / 26))}${letters(Math.floor(n / 676))}Qz`
  }

  function seed_(type: string, way: readonly Node[], format: (text: string) => string): string {
    const text = canary()
    seeded.push({ canary: text, type, way })
    return format(text)
  }

  function primitive(type: string, way: readonly Node[]): unknown {
    switch (type) {
      case 'boolean':
        return next() < 0.5
      case 'integer':
      case 'unsignedInt':
      case 'positiveInt':
        return 1 + Math.floor(next() * 80)
      case 'integer64':
        return String(1 + Math.floor(next() * 80))
      case 'decimal':
        return Math.floor(next() * 80)
      case 'date':
        return `${1950 + Math.floor(next() * 70)}-11-23`
      case 'dateTime':
      case 'instant':
        return `${1950 + Math.floor(next() * 70)}-11-23T10:11:12Z`
      case 'time':
        return '10:11:12'
      case 'base64Binary':
        return seed_(type, way, (text) => Buffer.from(text).toString('base64'))
      case 'xhtml':
        return seed_(type, way, (text) => `<div xmlns="http://www.w3.org/1999/xhtml">${text}</div>`)
      case 'uri':
      case 'url':
      case 'canonical':
        return seed_(type, way, (text) => `http://canary.example/${text}`)
      default:
        return seed_(type, way, (text) => text)
    }
  }

  function value(element: ElementDefinition, way: readonly Node[], depth: number): unknown {
    if (element.type === 'Resource')
      return resource(resources[Math.floor(next() * 5)] ?? '', way, depth)
    if (elements.isPrimitive(element.type)) return primitive(element.type, way)
    return complex(element.type, way, depth)
  }

  function complex(name: string, way: readonly Node[], depth: number): Record<string, unknown> {
    const members: Record<string, unknown> = {}
    const structure = elements.structure(name)
    const groups = Map.groupBy([...(structure?.elements.values() ?? [])], (one) => one.name)
    const all = [...groups.values()]
    const chance = Math.min(0.9, left / (all.length + 1) / 2)
    for (const choices of all) {
      const element = choices[Math.floor(next() * choices.length)]
      if (element === undefined) continue
      const isNeeded = element.min > 0 || (name === 'Extension' && element.name === 'value')
      if (!isNeeded && (depth > 6 || left <= 0 || next() > chance)) continue
      if (element.name === 'contained' && depth > 0) continue
      left -= 1
      const isPrimitive = elements.isPrimitive(element.type)
      const node = { name: element.name, type: element.type, kinds: kindsOf(element.type) }
      const count = element.isArray ? 1 + Math.floor(next() * 2) : 1
      const list = Array.from({ length: count }, () => value(element, [...way, node], depth + 1))
      members[element.key] = element.isArray ? list : list[0]
      const mayHaveBeside =
        isPrimitive && element.type !== 'xhtml' && element.name !== 'url' && element.name !== 'id'
      if (mayHaveBeside && depth < 5 && next() < 0.15) {
        const beside = { ...node, kinds: [element.type, 'Element'] }
        const one = (): unknown => complex('Element', [...way, beside], depth + 3)
        members[`_${element.key}`] = element.isArray ? list.map(one) : one()
      }
    }
    // FHIR knows no empty object.
    if (Object.keys(members).length === 0) {
      const node = { name: 'id', type: 'string', kinds: ['string'] }
      members['id'] = seed_('string', [...way, node], (text) => text)
    }
    return members
  }

  function resource(name: string, way: readonly Node[], depth: number): Record<string, unknown> {
    const kinds = kindsOf(name)
    const last = way.at(-1)
    const own =
      last === undefined
        ? [{ name: '', type: name, kinds }]
        : [...way.slice(0, -1), { ...last, type: name, kinds }]
    return { resourceType: name, ...complex(name, own, depth) }
  }

  return { text: JSON.stringify(resource(type, [], 0)), seeded }
}

/** What is not as the element tree says it must be; DAR stands in for what must be there. */
export function findFaults(
  elements: Elements,
  value: unknown,
  type: string,
  place: string,
): string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return [`${place}: no object`]
  const members = value as Record<string, unknown>
  const actual = type === 'Resource' ? String(members['resourceType']) : type
  const structure = elements.structure(actual)
  if (structure === undefined) return [`${place}: no type ${actual}`]
  const faults: string[] = []
  const keys = Object.keys(members).filter((key) => key !== 'resourceType')
  if (keys.length === 0 && type !== 'Resource' && place !== actual) faults.push(`${place}: empty`)
  for (const key of keys) {
    const isBeside = key.startsWith('_')
    const element = structure.elements.get(isBeside ? key.slice(1) : key)
    if (element === undefined) {
      faults.push(`${place}.${key}: unknown`)
      continue
    }
    const held = members[key]
    if (element.isArray !== Array.isArray(held)) faults.push(`${place}.${key}: list or not`)
    const list = Array.isArray(held) ? (held as unknown[]) : [held]
    if (list.length === 0) faults.push(`${place}.${key}: an empty list`)
    for (const one of list) {
      if (one === null) continue
      const isSimple = elements.isPrimitive(element.type) && !isBeside
      if (isSimple && (typeof one === 'object' || one === ''))
        faults.push(`${place}.${key}: not simple`)
      if (!isSimple)
        faults.push(
          ...findFaults(elements, one, isBeside ? 'Element' : element.type, `${place}.${key}`),
        )
    }
  }
  for (const choices of Map.groupBy(structure.elements.values(), (one) => one.name).values()) {
    const isNeeded = choices.some(
      ({ min, name }) =>
        min > 0 ||
        (actual === 'Extension' && name === 'value' && members['extension'] === undefined),
    )
    if (isNeeded && !choices.some(({ key }) => key in members || `_${key}` in members))
      faults.push(`${place}.${choices[0]?.key ?? ''}: missing`)
  }
  return faults
}

import type { Elements } from '../../src/fhir/elements.ts'
import type { Node, Seeded } from './generate-resource.ts'
import type { createNodes } from './plain-masking.ts'

export type SeededResource = { readonly text: string; readonly seeded: readonly Seeded[] }

/** A canary by its number: letters only, so that no detector and no check of a code takes it. */
function canaryOf(n: number): string {
  const letters = n
    .toString(26)
    .padStart(5, '0')
    .replace(/./g, (digit) => String.fromCharCode(97 + parseInt(digit, 26)))
  return `Zq${letters}Qz`
}

/**
 * A resource with a canary in place of every text in it, wherever its type says that one stands, and
 * with dates of which the day can be told again. What is in no definition is left out.
 */
export function seedResource(
  elements: Elements,
  nodes: ReturnType<typeof createNodes>,
  resource: object,
): SeededResource {
  const seeded: Seeded[] = []

  function seed(type: string, way: readonly Node[], text: string): string {
    if (type === 'date') return `${text.slice(0, 4)}-11-23`
    if (type === 'dateTime' || type === 'instant') return `${text.slice(0, 4)}-11-23T10:11:12Z`
    if (type === 'time') return '10:11:12'
    const canary = canaryOf(seeded.length)
    seeded.push({ canary, type, way })
    switch (type) {
      case 'base64Binary':
        return Buffer.from(canary).toString('base64')
      case 'xhtml':
        return `<div xmlns="http://www.w3.org/1999/xhtml">${canary}</div>`
      case 'uri':
      case 'url':
      case 'canonical':
        return `http://canary.example/${canary}`
      default:
        return canary
    }
  }

  function each(value: unknown, type: string, way: readonly Node[]): unknown {
    if (Array.isArray(value)) return value.map((one) => each(one, type, way))
    if (typeof value === 'string') return seed(type, way, value)
    if (typeof value !== 'object' || value === null) return value
    if (type !== 'Resource') return inside(value, type, way)
    const actual = String((value as Record<string, unknown>)['resourceType'])
    const last = nodes.resource(way.at(-1) as Node, actual)
    return inside(value, actual, [...way.slice(0, -1), last])
  }

  function inside(value: object, type: string, way: readonly Node[]): Record<string, unknown> {
    const structure = elements.structure(type)
    const members = Object.entries(value).flatMap(([key, held]): [string, unknown][] => {
      if (key === 'resourceType') return [[key, held]]
      const isBeside = key.startsWith('_')
      const element = structure?.elements.get(isBeside ? key.slice(1) : key)
      if (element === undefined) return []
      const on = [...way, nodes.member(element, isBeside)]
      return [[key, each(held, isBeside ? 'Element' : element.type, on)]]
    })
    return Object.fromEntries(members)
  }

  const type = String((resource as Record<string, unknown>)['resourceType'])
  return { text: JSON.stringify(inside(resource, type, [nodes.root(type)])), seeded }
}

/** All canaries in a text, and those in base64. */
export function canariesIn(text: string): Set<string> {
  const found = new Set<string>(text.match(/Zq[a-z]{5}Qz/g) ?? [])
  for (const part of text.match(/WnF[\w+/]{9}/g) ?? [])
    found.add(Buffer.from(part, 'base64').toString())
  return found
}

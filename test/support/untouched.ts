import type { Elements } from '../../src/fhir/elements.ts'
import type { Node } from './generate-resource.ts'
import type { createNodes } from './plain-masking.ts'
import { textIn } from './json-tree.ts'
import type { Tree } from './json-tree.ts'

const MARK = 'http://hl7.org/fhir/StructureDefinition/data-absent-reason'

/**
 * What no rule is about, in the bytes it came in and in its order: the same of what came and of what
 * left, when nothing was edited but what was planned. Objects and lists of which nothing is left are
 * left out, since masking removes them; so are our marks.
 */
export function untouched(
  elements: Elements,
  nodes: ReturnType<typeof createNodes>,
  resource: Tree,
  isTouched: (way: readonly Node[]) => boolean,
  /** Of a text as it is written: whether a number in it is taken. */
  isFound: (raw: string) => boolean,
): string {
  const type = String(textIn(resource, 'resourceType'))
  return inside(resource, type, [nodes.root(type)])

  function inside(tree: Tree, type: string, way: readonly Node[]): string {
    if (tree.kind !== 'object') return ''
    const isMark = type === 'Extension' && textIn(tree, 'url') === MARK
    if (isMark && textIn(tree, 'valueCode') === 'masked') return ''
    const parts = tree.members.flatMap(({ name, raw, value }) => {
      if (name === 'resourceType') return [`${raw}:${JSON.stringify(textIn(tree, name))}`]
      const isBeside = name.startsWith('_')
      const element = elements.structure(type)?.elements.get(isBeside ? name.slice(1) : name)
      // What nobody knows is nobody's plan to keep.
      if (element === undefined) return []
      const on = [...way, nodes.member(element, isBeside)]
      const kept = each(value, isBeside ? 'Element' : element.type, on)
      return kept === '' ? [] : [`${raw}:${kept}`]
    })
    const isNothing = parts.length === 0 || (way.length > 1 && parts.every(isType))
    return isNothing ? '' : `{${parts.join()}}`
  }

  function each(tree: Tree, type: string, way: readonly Node[]): string {
    if (type === 'code' && hasWords(tree)) return ''
    if (tree.kind === 'list') {
      const kept = tree.items.map((item) => each(item, type, way)).filter((one) => one !== '')
      return kept.length === 0 ? '' : `[${kept.join()}]`
    }
    if (type === 'Resource' && tree.kind === 'object') {
      const actual = String(textIn(tree, 'resourceType'))
      const on = [...way.slice(0, -1), nodes.resource(way.at(-1) as Node, actual)]
      return isTouched(on) ? '' : inside(tree, actual, on)
    }
    if (isTouched(way)) return ''
    if (tree.kind === 'object') return inside(tree, type, way)
    return tree.raw === 'null' || isFound(tree.raw) ? '' : tree.raw
  }
}

/** A code that may be a text of somebody's: a profile does to it what it does to texts. */
function hasWords(tree: Tree): boolean {
  if (tree.kind === 'list') return tree.items.some(hasWords)
  if (tree.kind === 'object' || !tree.raw.startsWith('"')) return false
  const text = JSON.parse(tree.raw) as string
  return text.length > 40 || /[\s@]|:\/\/|^\d{3}[-.]\d{2,3}[-.]\d{4}$/.test(text)
}

const isType = (part: string): boolean => part.startsWith('"resourceType":')

import type { ElementDefinition, Elements } from '../../src/fhir/elements.ts'
import type { ElementSelector } from '../../src/fhir/element-path.ts'
import type { Method } from '../../src/policy/masking-schema.ts'
import type { MaskingProfile } from '../../src/policy/load-masking.ts'
import type { Node } from './generate-resource.ts'

const isSure = ({ filters, steps }: ElementSelector): boolean =>
  filters.length === 0 && steps.every((step) => step.filters.length === 0)

/** Whether a path, conditions aside, selects the last of the nodes: by trying every beginning. */
function selects({ root, steps }: ElementSelector, way: readonly Node[]): boolean {
  // `Questionnaire.item.linkId` is about every item, those within items too.
  for (let skipped = 0; skipped <= steps.length; skipped++) {
    const begin = [root, ...steps.slice(0, skipped).map(({ name }) => name)].join('.')
    const rest = steps.slice(skipped)
    const start = way.length - 1 - rest.length
    const isRoot = way[start]?.kinds.includes(begin) === true
    const isLed = rest.every(({ name, as }, n) => {
      const node = way[start + 1 + n]
      return node?.name === name && (as === undefined || node.kinds.includes(as))
    })
    if (isRoot && isLed) return true
  }
  return false
}

/** The plain reading of a profile: whether the value, or one around it, is selected. */
export function isMasked({ rules }: MaskingProfile, way: readonly Node[]): boolean {
  return way.some((_, at) => {
    const part = way.slice(0, at + 1)
    const met = rules.filter(({ select = [] }) =>
      select.some((one) => isSure(one) && selects(one, part)),
    )
    const last = met.at(-1)
    return last !== undefined && last.method.kind !== 'keep' && !isOfAges(last.method)
  })
}

/** Takes those only that are above 89. */
const isOfAges = (method: Method): boolean =>
  method.kind === 'generalise' && (method.to === 'age-90' || method.to === 'span-90')

/** Whether it may be, as its conditions turn out. */
export function mayBeMasked(profile: MaskingProfile, way: readonly Node[]): boolean {
  return (
    isMasked(profile, way) ||
    way.some((_, at) => {
      const part = way.slice(0, at + 1)
      return profile.rules.some(
        ({ select = [], method }) =>
          method.kind !== 'keep' &&
          select.some((one) => (!isSure(one) || isOfAges(method)) && selects(one, part)),
      )
    })
  )
}

/** What labels, marks, the baseline and attributes do apart from any profile. */
export function isApart(way: readonly Node[]): boolean {
  const names = way.map(({ name }) => name)
  const isLabel = names.includes('meta') && (names.includes('security') || names.includes('tag'))
  const isAddress = names.at(-1) === 'url' && way.at(-2)?.kinds.includes('Extension') === true
  // What stands beside something opaque goes with it.
  const isOpaque = way.some(
    ({ type, name }) =>
      type === 'base64Binary' || name === 'data' || name === 'content' || name === 'detail',
  )
  // `#x` goes by what has become of the id of what is contained.
  const isFragment = way.at(-1)?.type === 'canonical'
  return isLabel || isAddress || isOpaque || isFragment
}

/** Replaced or removed whenever anything else is altered. */
export const isLost = (way: readonly Node[]): boolean =>
  way.some(({ type, name }) => type === 'Narrative' || name === 'signature')

/** The same question answered once for all ways over the same nodes. */
export function remembered(
  ask: (way: readonly Node[]) => boolean,
): (way: readonly Node[]) => boolean {
  type Step = { readonly next: Map<Node, Step>; answer: boolean | undefined }
  const start: Step = { next: new Map(), answer: undefined }
  return (way) => {
    let step = start
    for (const node of way) {
      let next = step.next.get(node)
      if (next === undefined) step.next.set(node, (next = { next: new Map(), answer: undefined }))
      step = next
    }
    return (step.answer ??= ask(way))
  }
}

/** Nodes of ways: the same one for the same element, so that ways can be compared by them. */
export function createNodes(elements: Elements) {
  const known = new Map<unknown, Map<string, Node>>()
  const kindsOf = (type: string): readonly string[] => elements.structure(type)?.kinds ?? [type]
  const same = (of: unknown, which: string, make: () => Node): Node => {
    let nodes = known.get(of)
    if (nodes === undefined) known.set(of, (nodes = new Map<string, Node>()))
    let node = nodes.get(which)
    if (node === undefined) nodes.set(which, (node = make()))
    return node
  }
  return {
    root: (type: string): Node =>
      same('root', type, () => ({ name: '', type, kinds: kindsOf(type) })),
    member: (element: ElementDefinition, isBeside: boolean): Node =>
      same(element, String(isBeside), () => {
        const { name, type } = element
        return { name, type, kinds: isBeside ? [type, 'Element'] : kindsOf(type) }
      }),
    /** Of a member that may be any resource: the one that it is. */
    resource: (node: Node, type: string): Node =>
      same(node, type, () => ({ ...node, type, kinds: kindsOf(type) })),
  }
}

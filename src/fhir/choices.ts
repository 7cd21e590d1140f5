import type { Shape, ShapeOf } from '../json/restore.ts'
import type { Node } from '../json/tree.ts'
import type { ElementDefinition, Elements, Structure } from './elements.ts'

/**
 * Which members are forms of one element: `value[x]` is `valueString` or `valueQuantity`, never both
 * (https://hl7.org/fhir/R4/formats.html#choice), in whatever the resource holds, at any depth.
 *
 * A member that its type does not define counts to the choice that it is named like, with whatever
 * type follows (`valueNobody`) or none, since a server may take it for one. What is in a member that nobody
 * defines may be of any type: there, members count to every choice of this version of FHIR that they
 * are named like. So rather too many are held to be forms of one than too few.
 */
export function createChoices(elements: Elements): ShapeOf {
  const shapes = new Map<string, Shape>()
  let unknown: Shape | undefined

  function ofType(type: string): Shape {
    const known = shapes.get(type)
    if (known !== undefined) return known
    const structure = elements.structure(type)
    if (structure === undefined) return (unknown ??= ofUnknown())
    const shape = ofStructure(structure)
    shapes.set(type, shape)
    return shape
  }

  function ofStructure({ elements: own }: Structure): Shape {
    const likeChoice = likenessTo([...own.values()])
    return {
      choiceOf(name) {
        const key = keyOf(name)
        const element = own.get(key)
        if (element === undefined) return likeChoice(key)
        return element.isChoice ? element.name : undefined
      },
      inside(name) {
        const type = own.get(keyOf(name))?.type
        if (type === 'Resource') return ofResource
        // Beside the value of a primitive stands what every element may have.
        const isBeside = type !== undefined && elements.isPrimitive(type) && name !== keyOf(name)
        const shape = ofType(isBeside ? 'Element' : (type ?? ''))
        return () => shape
      },
    }
  }

  function ofUnknown(): Shape {
    const all = elements.names.flatMap((name) => [
      ...(elements.structure(name)?.elements.values() ?? []),
    ])
    const likeChoice = likenessTo(all)
    return {
      choiceOf: (name) => likeChoice(keyOf(name)),
      inside: () => () => ofType(''),
    }
  }

  const ofResource = (object: Node): Shape => ofType(typeOf(object))

  return ofResource
}

/** Finds the choice that a key is named like; of several the shortest, which most keys are like. */
function likenessTo(elements: readonly ElementDefinition[]): (key: string) => string | undefined {
  const choices = elements.filter(({ isChoice }) => isChoice).map(({ name }) => name)
  const names = [...new Set(choices)].sort((a, b) => a.length - b.length)
  return (key) =>
    names.find((name) => key.startsWith(name) && /^[A-Z]?$/.test(key.charAt(name.length)))
}

const keyOf = (name: string): string => name.replace(/^_/, '')

function typeOf({ members }: Node): string {
  const type = members.get('resourceType')
  return type?.kind === 'scalar' ? String(JSON.parse(type.text)) : ''
}

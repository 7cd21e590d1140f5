import { compileNames } from '../json/names.ts'
import { createSimdScan } from '../json/simd-scan.ts'
import { after, elements, endOf, kindOf, KIND, startOf, textOf } from '../json/tape.ts'
import type { Edit, Tape } from '../json/tape.ts'
import type { Elements } from './elements.ts'

/**
 * Puts what a link will lead to in the place of the `fullUrl` it names, in one JSON resource; every other
 * byte stays. Throws JsonError.
 */
export type ReplaceLinks = (resource: Buffer, places: ReadonlyMap<string, string>) => Buffer

const LINKS: ReadonlySet<string> = new Set(['uri', 'url', 'oid', 'uuid'])
/** Of a narrative as JSON writes it; a URN has nothing that XHTML or JSON would escape. */
const ATTRIBUTE = /(\s(?:href|src)\s*=\s*(?:\\"|'))(urn:[^"'\\\s]+)/g

/**
 * What a server does with the links within a transaction
 * (https://hl7.org/fhir/R4/http.html#trules): "replace all matching links in the bundle, whether they
 * are found in the resource ids, resource references, elements of type uri, url, oid, uuid, and <a href=""
 * & <img src="" in the narrative"; canonicals and strings that look alike stay.
 */
export function createReplaceLinks(definitions: Elements, maximumDepth: number): ReplaceLinks {
  const scan = createSimdScan(compileNames([]), maximumDepth)

  return function replaceLinks(resource, places) {
    if (places.size === 0) return resource
    const tape = scan(resource)
    const edits: Edit[] = []

    function replace(value: number): void {
      const place = places.get(textOf(tape, value) ?? '')
      if (place === undefined) return
      edits.push({
        start: startOf(tape, value),
        end: endOf(tape, value),
        text: JSON.stringify(place),
      })
    }

    function replaceInNarrative(value: number): void {
      if (kindOf(tape, value) !== KIND.string) return
      const [start, end] = [startOf(tape, value), endOf(tape, value)]
      const written = tape.bytes.toString('utf8', start, end)
      const text = written.replace(
        ATTRIBUTE,
        (_, before: string, link: string) => before + (places.get(link) ?? link),
      )
      if (text !== written) edits.push({ start, end, text })
    }

    function walk(value: number, type: string): void {
      if (type === 'xhtml') replaceInNarrative(value)
      else if (LINKS.has(type)) replace(value)
      if (kindOf(tape, value) !== KIND.object) return
      const name = type === 'Resource' ? typeOf(tape, value) : type
      const structure = definitions.structure(name)
      if (structure === undefined) return
      for (const [key, member] of membersOf(tape, value)) {
        const isReference = key === 'reference' && structure.kinds.includes('Reference')
        // `_url` holds the extensions of `url`.
        const inner = key.startsWith('_') ? 'Element' : structure.elements.get(key)?.type
        if (isReference) replace(member)
        else if (inner !== undefined) for (const one of elements(tape, member)) walk(one, inner)
      }
    }

    walk(0, 'Resource')
    return edits.length === 0 ? resource : tape.splice(edits)
  }
}

function* membersOf(tape: Tape, object: number): Generator<[key: string, value: number]> {
  const end = after(tape, object)
  for (let key = object + 1; key < end; key = after(tape, key + 1)) {
    yield [textOf(tape, key) ?? '', key + 1]
  }
}

function typeOf(tape: Tape, resource: number): string {
  for (const [key, value] of membersOf(tape, resource)) {
    if (key === 'resourceType') return textOf(tape, value) ?? ''
  }
  return ''
}

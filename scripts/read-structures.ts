/** Reads the element trees of one FHIR version: what is in a type, in the order of its definition. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One element of a snapshot, whatever the version wrote it in. */
type Element = {
  /** As HL7 writes it: 'Observation.value[x]'. */
  readonly path: string
  readonly min: number
  readonly isArray: boolean
  readonly types: readonly string[]
  /** Path of the element whose content it has: 'Observation.referenceRange'. */
  readonly same: string | undefined
}
type Structure = { readonly base: string; readonly elements: readonly Element[] }

type Definition = {
  id: string
  type: string
  kind?: string
  derivation?: string
  baseDefinition?: string
  fhirVersion: string
  snapshot: {
    element: {
      path: string
      min: number
      max: string
      type?: { code: string }[]
      contentReference?: string
    }[]
  }
}

/** Lines of the structures: `[base, 'name', 'given*:string', 'url!:uri', 'value[x]:Quantity|string']`. */
export function readStructures(
  folder: string,
  version: string,
  types: ReadonlySet<string>,
): Map<string, string[]> {
  const found = existsSync(join(folder, 'package'))
    ? readPackage(join(folder, 'package'), version)
    : readProfiles(join(folder, 'profiles'))
  const names = new Set([...found.keys()])
  const wanted = [...found].filter(([name, { base }]) => {
    const isResource = types.has(name) || /Resource$/.test(name)
    return isResource || !reaches(found, base, 'Resource')
  })
  const lines = new Map<string, string[]>()
  for (const [name, structure] of wanted) {
    for (const [path, line] of linesOf(name, structure, names)) lines.set(path, line)
  }
  // What stands in the base already is not said again.
  const inherited = (name: string): Set<string> => {
    const [base, ...own] = lines.get(name) ?? ['']
    return new Set([...(base === '' || base === undefined ? [] : inherited(base)), ...own])
  }
  return new Map(
    [...lines].sort().map(([name, [base = '', ...own]]) => {
      const known = base === '' ? new Set<string>() : inherited(base)
      return [name, [base, ...own.filter((element) => !known.has(element))]]
    }),
  )
}

function reaches(found: ReadonlyMap<string, Structure>, name: string, wanted: string): boolean {
  if (name === wanted) return true
  const next = found.get(name)?.base
  return next !== undefined && next !== '' && reaches(found, next, wanted)
}

function linesOf(
  name: string,
  { base, elements }: Structure,
  names: ReadonlySet<string>,
): Map<string, string[]> {
  const lines = new Map([[name, [base]]])
  const parents = new Set(elements.map(({ path }) => path.slice(0, path.lastIndexOf('.'))))
  for (const { path, min, isArray, types, same } of elements) {
    const dot = path.lastIndexOf('.')
    if (dot < 0) continue
    const own = path.slice(dot + 1)
    if (parents.has(path)) lines.set(path, [types[0] ?? 'BackboneElement'])
    const type = same ?? (parents.has(path) ? path : [...new Set(types)].map(fix).join('|'))
    const isId = own === 'id'
    const said = isId ? (types.includes('id') || dot === path.indexOf('.') ? type : 'string') : type
    const sign = (min > 0 ? '!' : '') + (isArray ? '*' : '')
    lines.get(path.slice(0, dot))?.push(`${own}${sign}:${said}`)
  }
  return lines

  /** A type that has no definition of its own in this version is the Quantity it constrains. */
  function fix(type: string): string {
    return /^[A-Z]/.test(type) && !names.has(type) ? 'Quantity' : type
  }
}

function readPackage(folder: string, version: string): Map<string, Structure> {
  const found = new Map<string, Structure>()
  for (const file of readdirSync(folder).sort()) {
    if (!/^StructureDefinition-[A-Za-z]+\.json$/.test(file)) continue
    const one = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Definition
    if (one.kind !== 'resource' && one.kind !== 'complex-type') continue
    if (one.fhirVersion !== version || one.derivation === 'constraint' || one.id !== one.type)
      continue
    found.set(one.type, {
      base: one.baseDefinition?.replace(/^.*\//, '') ?? '',
      elements: one.snapshot.element.map(({ path, min, max, type, contentReference }) => ({
        ...{ path, min, isArray: max !== '1' && max !== '0' },
        types: (type ?? []).map(({ code }) => plain(code, path, one.kind ?? '')),
        same: contentReference?.replace(/^.*#/, ''),
      })),
    })
  }
  // R5 says that Base is the root of everything; nothing is in it.
  found.delete('Base')
  for (const [name, structure] of found) {
    if (structure.base === 'Base') found.set(name, { ...structure, base: '' })
  }
  return found
}

/** FHIRPath's names for the primitives that stand in attributes. */
function plain(code: string, path: string, kind: string): string {
  if (!code.startsWith('http://hl7.org/fhirpath/')) return code
  if (path === 'Extension.url') return 'uri'
  return kind === 'resource' && path.split('.').length === 2 ? 'id' : 'string'
}

/** DSTU2's profiles in XML, as read-definitions.ts has them. */
function readProfiles(folder: string): Map<string, Structure> {
  const found = new Map<string, Structure>()
  for (const file of readdirSync(folder).sort()) {
    const xml = readFileSync(join(folder, file), 'utf8')
    const start = xml.indexOf('<snapshot>')
    const head = xml.slice(0, start)
    const of = (text: string, name: string): string | undefined =>
      new RegExp(`<${name} value="([^"]*)"/>`).exec(text)?.[1]
    if (of(head, 'fhirVersion') !== '1.0.2' || of(head, 'constrainedType') !== undefined) continue
    const root = of(xml.slice(start), 'path') ?? ''
    if (!/^[A-Z]/.test(root)) continue
    const blocks = [
      ...xml.slice(start, xml.indexOf('</snapshot>')).matchAll(/<element>([\s\S]*?)<\/element>/g),
    ].map(([, text = '']) => text)
    const named = new Map(blocks.map((text) => [of(text, 'name') ?? '', of(text, 'path')]))
    const elements = blocks.map((text) => {
      const path = of(text, 'path') ?? ''
      const same = of(text, 'nameReference')
      const codes = [...text.matchAll(/<type>[\s\S]*?<code value="([^"]*)"/g)].map(
        ([, c = '']) => c,
      )
      const all = codes.includes('*') ? ANY : codes
      return {
        ...{ path, min: Number(of(text, 'min')), isArray: !/^[01]$/.test(of(text, 'max') ?? '') },
        types: all,
        same: same === undefined ? undefined : named.get(same),
      }
    })
    found.set(root, { base: of(head, 'base')?.replace(/^.*\//, '') ?? '', elements })
  }
  return found
}

/** What "*" stands for in DSTU2 (https://hl7.org/fhir/DSTU2/datatypes.html#open). */
const ANY = (
  'boolean integer decimal base64Binary instant string uri date dateTime time code oid id ' +
  'unsignedInt positiveInt markdown Annotation Attachment Identifier CodeableConcept Coding ' +
  'Quantity Range Period Ratio SampledData Signature HumanName Address ContactPoint Timing ' +
  'Reference Meta'
).split(' ')

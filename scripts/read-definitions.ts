/** Reads HL7's definitions of one FHIR version into one shape, as far as the gateway needs them. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One element of a resource type, from its snapshot. */
export type Element = {
  /** As HL7 writes it: 'Observation.value[x]'. */
  readonly path: string
  readonly min: number
  readonly isSummary: boolean
  /** Codes of its data types: ['Quantity', 'string']. */
  readonly types: readonly string[]
  /** Resource types that a reference may point at; [] = not a reference, or to anything. */
  readonly targets: readonly string[]
}

export type SearchParameter = {
  readonly code: string
  readonly base: readonly string[]
  readonly type: string
  /** FHIRPath; alternatives divided by '|'. */
  readonly expression: string
  readonly targets?: readonly string[]
}

export type Source = {
  /** Elements of every concrete resource type. */
  readonly types: ReadonlyMap<string, readonly Element[]>
  readonly parameters: readonly SearchParameter[]
  /** Compartment → type → parameters that put a resource into it. */
  readonly compartments: ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>
}

type Definition = {
  url: string
  type: string
  kind?: string
  abstract?: boolean
  derivation?: string
  fhirVersion: string
  snapshot: {
    element: {
      path: string
      min: number
      isSummary?: boolean
      type?: { code: string }[]
    }[]
  }
}
type Parameter = {
  id: string
  version?: string
  code: string
  base?: string[]
  type: string
  expression?: string
  target?: string[]
}
type Compartment = { id: string; code: string; resource: { code: string; param?: string[] }[] }

/** STU3 and later: the folder of an unpacked FHIR package, one resource a file. */
export function readPackage(folder: string, version: string): Source {
  const load = <T>(kind: string): T[] =>
    readdirSync(folder)
      .filter((file) => file.startsWith(`${kind}-`) && file.endsWith('.json'))
      .sort()
      .map((file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as T)
  const types = new Map<string, Element[]>()
  for (const one of load<Definition>('StructureDefinition')) {
    if (one.kind !== 'resource' || one.derivation !== 'specialization') continue
    if (one.abstract === true || one.fhirVersion !== version) continue
    types.set(
      one.type,
      one.snapshot.element.map(({ path, min, isSummary, type }) => ({
        ...{ path, min, isSummary: isSummary === true, targets: [] },
        types: [...new Set((type ?? []).map(({ code }) => code))],
      })),
    )
  }
  const parameters = load<Parameter>('SearchParameter')
    // STU3 gives its parameters no version; the examples among them have none in any version.
    .filter((one) => (one.version ?? '3.0.2') === version && !/^example(?:-|$)/.test(one.id))
    // Those that look into extensions stay out: few servers index them, and nobody can follow them.
    .filter(({ type, expression }) => expression !== undefined || type === 'composite')
    .filter(({ expression = '' }) => !/extension\(/i.test(expression))
    .map(({ code, base = [], type, expression = '', target }) => ({
      ...{ code, base, type, expression },
      ...(target === undefined ? {} : { targets: target }),
    }))
  const compartments = new Map(
    load<Compartment>('CompartmentDefinition')
      .filter(({ id }) => id !== 'example')
      .map(({ code, resource }) => [
        code,
        new Map(
          resource.flatMap(({ code, param }) => (param === undefined ? [] : [[code, param]])),
        ),
      ]),
  )
  return { types, parameters, compartments }
}

/**
 * DSTU2, which HL7 never published as a package: `folder` has the profiles of 1.0.2 in XML
 * (`profiles/*.profile.xml`) and `structures.txt`, the annotations of HAPI's classes as javap -v
 * prints them, with the search parameters and their compartments.
 */
export function readDstu2(folder: string): Source {
  const { annotations, names } = readAnnotations(
    readFileSync(join(folder, 'structures.txt'), 'utf8'),
  )
  const types = new Map<string, Element[]>()
  for (const file of readdirSync(join(folder, 'profiles')).sort()) {
    const xml = readFileSync(join(folder, 'profiles', file), 'utf8')
    const head = xml.slice(0, xml.indexOf('<snapshot>'))
    const of = (name: string): string | undefined => valueOf(head, name)
    const [, root] = /<path value="(\w+)"\/>/.exec(xml) ?? []
    if (of('kind') !== 'resource' || of('abstract') !== 'false' || root === undefined) continue
    if (of('fhirVersion') !== '1.0.2' || of('constrainedType') !== undefined) continue
    if (names.has(root)) types.set(root, readElements(xml))
  }
  const targetsOf = new Map([...types.values()].flat().map(({ path, targets }) => [path, targets]))
  const parameters: SearchParameter[] = []
  const compartments = new Map<string, Map<string, string[]>>(
    ['Patient', 'Encounter', 'Practitioner'].map((name) => [name, new Map()]),
  )
  for (const { owner, code, type, expression, stated, columns } of annotations) {
    const known = expression.split('|').flatMap((path) => targetsOf.get(path.trim()) ?? [])
    const targets = stated.length > 0 ? stated : [...new Set(type === 'reference' ? known : [])]
    const parameter = { code, base: [owner], type, expression }
    parameters.push(targets.length === 0 ? parameter : { ...parameter, targets })
    for (const [name, members] of compartments) {
      // The annotations were made from a table (Patient, Encounter, RelatedPerson, Practitioner,
      // Device) whose empty cells were skipped, so that what followed them moved to the left. Where a
      // parameter stood is told again by what it may refer to.
      const isMember =
        name === 'Patient'
          ? columns.includes(name) && (targets.length === 0 || targets.includes(name))
          : targets.includes(name) &&
            columns.some((column) => column !== 'Patient' || !targets.includes(column))
      if (isMember) members.set(owner, [...(members.get(owner) ?? []), code])
    }
  }
  return { types, parameters, compartments }
}

const valueOf = (xml: string, name: string): string | undefined =>
  new RegExp(`<${name} value="([^"]*)"/>`).exec(xml)?.[1]

function readElements(xml: string): Element[] {
  const snapshot = xml.slice(xml.indexOf('<snapshot>'), xml.indexOf('</snapshot>'))
  return [...snapshot.matchAll(/<element>([\s\S]*?)<\/element>/g)].map(([, text = '']) => {
    const types = [...text.matchAll(/<type>([\s\S]*?)<\/type>/g)].map(([, type = '']) => ({
      code: valueOf(type, 'code') ?? '',
      target: valueOf(type, 'profile')?.replace('http://hl7.org/fhir/StructureDefinition/', ''),
    }))
    const references = types.filter(({ code }) => code === 'Reference')
    const targets = references.flatMap(({ target }) => (target === undefined ? [] : [target]))
    return {
      path: valueOf(text, 'path') ?? '',
      min: Number(valueOf(text, 'min')),
      isSummary: valueOf(text, 'isSummary') === 'true',
      types: [...new Set(types.map(({ code }) => code))],
      targets: targets.includes('Resource') ? [] : targets,
    }
  })
}

function readAnnotations(text: string) {
  const names = new Set<string>()
  const annotations = new Map<string, Annotation>()
  let owner = ''
  const rename = (name: string): string => (name === 'ListResource' ? 'List' : name)
  const pattern = /^Classfile .*\/(\w+)\.class$|SearchParamDefinition\(\n((?: {10}.*\n)*) {8}\)\n/gm
  for (const [, file, body = ''] of text.matchAll(pattern)) {
    if (file !== undefined) {
      owner = rename(file)
      if (file !== 'BaseResource') names.add(owner)
      continue
    }
    if (!names.has(owner)) continue
    const of = (name: string): string => new RegExp(`^ +${name}="(.*)"$`, 'm').exec(body)?.[1] ?? ''
    const all = (regex: RegExp): string[] =>
      [...body.matchAll(regex)].map(([, found = '']) => found)
    const code = of('name')
    annotations.set(`${owner}.${code}`, {
      ...{ owner, code, type: of('type') },
      expression: of('path').replaceAll(/\((system)=(\w+)\)/g, ".where($1='$2')"),
      stated: all(/dstu2\/resource\/(\w+);/g).map(rename),
      columns: all(/Compartment\(\s*name="(\w+)"/g),
    })
  }
  return { names, annotations: [...annotations.values()] }
}

type Annotation = {
  readonly owner: string
  readonly code: string
  readonly type: string
  readonly expression: string
  readonly stated: readonly string[]
  readonly columns: readonly string[]
}

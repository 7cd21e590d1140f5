import { PatchError } from './patch-error.ts'
import { valueAt } from './patch-tree.ts'
import type { Pointer, Work } from './patch-tree.ts'

/**
 * The part of FHIRPath (http://hl7.org/fhirpath/N1/) that names elements: `Type.element`, `[0]`,
 * `.where(child = 'text')`, `.extension('url')`, `.ofType(Type)` after a choice. Nothing else.
 */

export type Step =
  | { readonly kind: 'element'; readonly name: string; readonly type?: string }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'where'; readonly child: string; readonly value: string | boolean }

/** A path with the resource type it begins with. */
export type FhirPath = { readonly type: string; readonly steps: readonly Step[] }

const LONGEST = 1000
const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype'])
const NAME = '[A-Za-z][A-Za-z0-9]*'
/** Literals without escapes: what servers make of those differs. */
const LITERAL = String.raw`'([^'\\\u0000-\u001f]*)'`
const STEP = new RegExp(
  String.raw`\[(0|[1-9]\d{0,8})\]` +
    String.raw`|\.where\( *(${NAME}) *= *(?:${LITERAL}|(true|false)) *\)` +
    String.raw`|\.extension\( *${LITERAL} *\)` +
    String.raw`|\.ofType\( *(${NAME}) *\)` +
    String.raw`|\.(${NAME})(?!\w|\()`,
  'y',
)

const refused = (message: string): PatchError => new PatchError('body-rule-broken', message)

/** Reads a path; throws PatchError `body-rule-broken` for anything beyond the subset. */
export function parseFhirPath(text: string): FhirPath {
  const type = /^[A-Z][A-Za-z]*(?=[.]|$)/.exec(text)?.[0]
  if (type === undefined || text.length > LONGEST)
    throw refused('not a FHIRPath that is taken here')
  const steps: Step[] = []
  const step = new RegExp(STEP)
  step.lastIndex = type.length
  while (step.lastIndex < text.length) {
    const match = step.exec(text)
    if (match === null) throw refused('not a FHIRPath that is taken here')
    const [, index, child, literal, boolean, url, ofType, name] = match
    if ([child, ofType, name].some((one) => one !== undefined && FORBIDDEN.has(one)))
      throw refused('a forbidden path')
    if (index !== undefined) steps.push({ kind: 'index', index: Number(index) })
    else if (child !== undefined)
      steps.push({ kind: 'where', child, value: literal ?? boolean === 'true' })
    else if (url !== undefined)
      steps.push(
        { kind: 'element', name: 'extension' },
        { kind: 'where', child: 'url', value: url },
      )
    else if (name !== undefined) steps.push({ kind: 'element', name })
    else {
      const last = steps.pop()
      if (last?.kind !== 'element' || last.type !== undefined || ofType === undefined)
        throw refused('ofType after what is no element')
      const capital = ofType.charAt(0).toUpperCase() + ofType.slice(1)
      steps.push({ kind: 'element', name: last.name, type: capital })
    }
  }
  return { type, steps }
}

/**
 * Where the elements of a path stand. Throws PatchError `body-rule-broken` when the resource is of
 * another type, or when elements on the way cannot be told apart from a choice or hold extensions of
 * primitives.
 */
export function locate(resource: unknown, path: FhirPath, work: Work): Pointer[] {
  const root = membersOf(resource)
  if (
    root === undefined ||
    !Object.hasOwn(root, 'resourceType') ||
    root['resourceType'] !== path.type
  )
    throw refused('a path of another resource type')
  let found: Pointer[] = [[]]
  for (const step of path.steps) {
    work.spend(found.length + 1)
    if (step.kind === 'index') found = found.slice(step.index, step.index + 1)
    else if (step.kind === 'where') {
      const all = found.map((one) => membersOf(valueAt(resource, one)))
      work.ask(all.map((members) => members?.[step.child]))
      found = found.filter((_, n) => {
        const members = all[n]
        return members !== undefined && equals(members, step.child, step.value)
      })
    } else {
      found = found.flatMap((one) => children(resource, one, step.name, step.type))
      work.spend(found.length)
    }
  }
  return found
}

type Members = Readonly<Record<string, unknown>>

function membersOf(value: unknown): Members | undefined {
  const isMembers = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isMembers ? (value as Members) : undefined
}

function equals(members: Members, name: string, literal: string | boolean): boolean {
  if (!Object.hasOwn(members, name)) {
    ambiguous(members, name)
    return false
  }
  const value = members[name]
  // FHIRPath makes a list of one equal to its element.
  return Array.isArray(value) ? value.length === 1 && value[0] === literal : value === literal
}

function children(
  resource: unknown,
  at: Pointer,
  name: string,
  type: string | undefined,
): Pointer[] {
  const members = membersOf(valueAt(resource, at))
  if (members === undefined) return []
  const member = type === undefined ? name : name + type
  if (Object.hasOwn(members, `_${member}`)) throw refused('an element has extensions')
  if (!Object.hasOwn(members, member)) {
    if (type === undefined) ambiguous(members, name)
    return []
  }
  const value = members[member]
  const here = [...at, member]
  if (!Array.isArray(value)) return [here]
  return value.map((_, index) => [...here, String(index)])
}

/** `value` may mean `valueQuantity`: which of the two a server takes is not for us to guess. */
function ambiguous(members: Members, name: string): void {
  const isChoice = Object.keys(members).some((key) => {
    const element = key.startsWith('_') ? key.slice(1) : key
    return element.startsWith(name) && /^[A-Z]/.test(element.slice(name.length))
  })
  if (isChoice) throw refused('a path through a choice without ofType')
}

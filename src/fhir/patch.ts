import { compileNames } from '../json/names.ts'
import { createScan } from '../json/scan.ts'
import { after, KIND, kindOf, textOf } from '../json/tape.ts'
import type { Tape } from '../json/tape.ts'
import { JsonError } from '../json/token.ts'
import { parseFhirPath, locate } from './patch-path.ts'
import type { FhirPath } from './patch-path.ts'
import { PatchError } from './patch-error.ts'
import { insertAt, removeAt, replaceAt, sameJson, valueAt, Work } from './patch-tree.ts'
import type { Pointer } from './patch-tree.ts'

export { PatchError } from './patch-error.ts'

/**
 * JSON Patch (RFC 6902) and FHIRPath Patch (https://hl7.org/fhir/R4/fhirpatch.html), applied only to
 * judge what a patch would make of a resource; what is forwarded stays the client's bytes. So every
 * doubt about how a server would read the patch is a refusal.
 */

/** One operation of a JSON Patch; pointers are decoded. */
export type JsonOperation =
  | { readonly op: 'add' | 'replace' | 'test'; readonly path: Pointer; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: Pointer }
  | { readonly op: 'move' | 'copy'; readonly from: Pointer; readonly path: Pointer }

/** A value of a FHIRPath Patch with the type its `value[x]` names; undefined for `part`s. */
type FhirValue = { readonly value: unknown; readonly type: string | undefined }

/** One operation of a FHIRPath Patch. */
export type FhirPathOperation = { readonly path: FhirPath } & (
  | ({ readonly op: 'add'; readonly name: string } & FhirValue)
  | ({ readonly op: 'insert'; readonly index: number } & FhirValue)
  | ({ readonly op: 'replace' } & FhirValue)
  | { readonly op: 'delete' }
  | { readonly op: 'move'; readonly source: number; readonly destination: number }
)

/** A patch that was read strictly. `hasTest`: its success tells something about the present state. */
export type FhirPatch =
  | {
      readonly kind: 'json'
      readonly operations: readonly JsonOperation[]
      readonly hasTest: boolean
    }
  | {
      readonly kind: 'fhirpath'
      readonly operations: readonly FhirPathOperation[]
      readonly hasTest: boolean
    }

const MAXIMUM_OPERATIONS = 1000
const MAXIMUM_DEPTH = 64
/** Names that reach a prototype in careless code, ours or a server's. */
const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype'])

/**
 * Reads a patch. Throws PatchError: `media-type-unsupported` for anything but
 * `application/json-patch+json` and `application/fhir+json` (XML cannot be judged);
 * `body-malformed` for what is no strict JSON or no patch; `body-rule-broken` for a FHIRPath beyond
 * the subset.
 */
export function parsePatch(bytes: Buffer, mediaType: string): FhirPatch {
  const type = (mediaType.split(';')[0] ?? '').trim().toLowerCase()
  if (type === 'application/json-patch+json') return jsonPatchOf(strictJson(bytes))
  if (type === 'application/fhir+json') return fhirPatchOf(strictJson(bytes))
  throw new PatchError('media-type-unsupported', 'the patch is of no type that can be judged')
}

/**
 * The resource as the patch would leave it. The resource (plain JSON) is never changed; the result
 * may share parts with it that are the same in both. Throws PatchError `body-rule-broken` when an
 * operation does not apply, nothing of the patch then counts (RFC 5789 §2: all or nothing).
 *
 * @param asked - takes down what each condition was held against, for who must know whether it would be
 *   another thing to ask it of another version; then nothing is deleted that is not there, either
 */
export function applyPatch(resource: unknown, patch: FhirPatch, asked?: string[]): unknown {
  const work = new Work(asked)
  let result = resource
  if (patch.kind === 'json') {
    for (const operation of patch.operations) result = applyJson(result, operation, work)
  } else {
    for (const operation of patch.operations) result = applyFhirPath(result, operation, work)
  }
  return result
}

/**
 * The element paths a patch reads or writes, without resource type and list indexes, primitives'
 * `_name` as `name`. [] is the whole resource. A path stands for all below it and reads what is
 * above it: compare with a masked element by prefix in both directions. The choice `value` is told
 * as `value` and, where the patch names the type, as `valueQuantity` too.
 */
export function touches(patch: FhirPatch): readonly string[][] {
  return distinct([...changes(patch), ...reads(patch)])
}

/** Of {@link touches}, those that are written. */
export function changes(patch: FhirPatch): readonly string[][] {
  if (patch.kind === 'json') {
    return distinct(
      patch.operations.flatMap((operation) => {
        if (operation.op === 'test') return []
        const path = elementsOf(operation.path)
        return operation.op === 'move' ? [elementsOf(operation.from), path] : [path]
      }),
    )
  }
  return distinct(
    patch.operations.flatMap((operation) => {
      const at = pathsOf(operation.path)
      if (operation.op !== 'add') return at
      const { name, type } = operation
      const names = type === undefined ? [name] : [name, name + type]
      return at.flatMap((path) => names.map((one) => [...path, one]))
    }),
  )
}

function reads(patch: FhirPatch): string[][] {
  if (patch.kind === 'json') {
    return patch.operations.flatMap((operation) => {
      if (operation.op === 'copy') return [elementsOf(operation.from)]
      return operation.op === 'test' ? [elementsOf(operation.path)] : []
    })
  }
  return patch.operations.flatMap(({ path }) => {
    const found: string[][] = []
    const before: FhirPath['steps'][number][] = []
    for (const step of path.steps) {
      if (step.kind === 'where') {
        const here = pathsOf({ type: path.type, steps: before })
        for (const one of here) found.push([...one, step.child])
      }
      before.push(step)
    }
    return found
  })
}

/** The element path of a FHIRPath; two when it goes through a choice. */
function pathsOf(path: FhirPath): string[][] {
  let found: string[][] = [[]]
  for (const step of path.steps) {
    if (step.kind !== 'element') continue
    const names = step.type === undefined ? [step.name] : [step.name, step.name + step.type]
    found = found.flatMap((one) => names.map((name) => [...one, name]))
  }
  return found
}

function elementsOf(pointer: Pointer): string[] {
  return pointer
    .filter((token) => token !== '-' && !/^\d+$/.test(token))
    .map((token) => (token.startsWith('_') ? token.slice(1) : token))
}

function distinct(paths: readonly string[][]): string[][] {
  return [...new Map(paths.map((path) => [JSON.stringify(path), path])).values()]
}

// Reading

const malformed = (message: string): PatchError => new PatchError('body-malformed', message)

/** Strict JSON without any name twice in an object, at any place, and without a forbidden name. */
function strictJson(bytes: Buffer): unknown {
  let tape: Tape
  try {
    tape = createScan(compileNames([]), MAXIMUM_DEPTH)(bytes)
  } catch (error) {
    if (error instanceof JsonError) throw malformed(`${error.message} at ${error.offset}`)
    throw error
  }
  // The scanner tells duplicates of names given to it; in a patch any name may matter.
  for (let entry = 0; entry < tape.length; entry++) {
    if (kindOf(tape, entry) !== KIND.object) continue
    const names = new Set<string>()
    const end = after(tape, entry)
    for (let key = entry + 1; key < end; key = after(tape, key + 1)) {
      const name = textOf(tape, key) ?? ''
      if (names.has(name)) throw malformed('a member is there twice')
      if (FORBIDDEN.has(name)) throw malformed('a forbidden member name')
      names.add(name)
    }
  }
  return JSON.parse(bytes.toString('utf8')) as unknown
}

type Members = Readonly<Record<string, unknown>>

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function stringOf(value: unknown): string {
  if (typeof value === 'string') return value
  throw malformed('a text is missing')
}

function atMost(operations: readonly unknown[]): void {
  if (operations.length > MAXIMUM_OPERATIONS) throw malformed('too many operations')
}

const JSON_PATCH_MEMBERS = ['op', 'path', 'from', 'value']

function jsonPatchOf(document: unknown): FhirPatch {
  if (!Array.isArray(document)) throw malformed('a JSON Patch is an array')
  atMost(document)
  const operations = document.map(jsonOperationOf)
  return { kind: 'json', operations, hasTest: operations.some(({ op }) => op === 'test') }
}

function jsonOperationOf(document: unknown): JsonOperation {
  if (!isObject(document)) throw malformed('an operation is an object')
  for (const name of Object.keys(document)) {
    // RFC 6902 §4: unknown members are ignored. But some servers read names in any letter case.
    const known = JSON_PATCH_MEMBERS.includes(name.toLowerCase())
    if (known && !JSON_PATCH_MEMBERS.includes(name))
      throw malformed('a member in wrong letter case')
  }
  const op = own(document, 'op')
  const path = pointerOf(own(document, 'path'))
  switch (op) {
    case 'add':
    case 'replace':
    case 'test':
      if (!Object.hasOwn(document, 'value')) throw malformed('a value is missing')
      return { op, path, value: document['value'] }
    case 'remove':
      return { op, path }
    case 'move':
    case 'copy':
      return { op, path, from: pointerOf(own(document, 'from')) }
    default:
      throw malformed('an unknown operation')
  }
}

const own = (members: Members, name: string): unknown =>
  Object.hasOwn(members, name) ? members[name] : undefined

/** RFC 6901 §3, §4. */
function pointerOf(value: unknown): Pointer {
  const text = stringOf(value)
  if (text === '') return []
  if (!text.startsWith('/') || /~(?![01])/.test(text)) throw malformed('not a JSON Pointer')
  const tokens = text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'))
  if (tokens.length > MAXIMUM_DEPTH) throw malformed('a path is too deep')
  if (tokens.some((token) => FORBIDDEN.has(token))) throw malformed('a forbidden path')
  return tokens
}

function fhirPatchOf(document: unknown): FhirPatch {
  if (!isObject(document) || document['resourceType'] !== 'Parameters')
    throw malformed('a FHIRPath Patch is a Parameters resource')
  onlyMembers(document, ['resourceType', 'id', 'meta', 'parameter'])
  const list = own(document, 'parameter')
  if (!Array.isArray(list)) throw malformed('operations are missing')
  atMost(list)
  const operations = list.map(fhirOperationOf)
  const hasTest = operations.some(({ path }) => path.steps.some(({ kind }) => kind === 'where'))
  return { kind: 'fhirpath', operations, hasTest }
}

function onlyMembers(members: Members, names: readonly string[]): void {
  if (Object.keys(members).some((name) => !names.includes(name)))
    throw malformed('a member that does not belong there')
}

function fhirOperationOf(parameter: unknown): FhirPathOperation {
  if (!isObject(parameter) || parameter['name'] !== 'operation')
    throw malformed('a parameter that is no operation')
  onlyMembers(parameter, ['name', 'part'])
  const parts = new Map<string, Members>()
  for (const part of partsOf(parameter)) {
    const name = stringOf(own(part, 'name'))
    if (parts.has(name)) throw malformed('a part is there twice')
    parts.set(name, part)
  }
  const take = (name: string): Members => {
    const part = parts.get(name)
    if (part === undefined) throw malformed('a part is missing')
    parts.delete(name)
    return part
  }
  const text = (name: string, types: readonly string[]): string => {
    const { value, type } = valueOf(take(name))
    if (type === undefined || !types.includes(type)) throw malformed('a part of a wrong type')
    return stringOf(value)
  }
  const index = (name: string): number => {
    const { value, type } = valueOf(take(name))
    if (type === 'Integer' && Number.isInteger(value) && Number(value) >= 0) return Number(value)
    throw malformed('a part is no index')
  }
  const op = text('type', ['Code'])
  const path = parseFhirPath(text('path', ['String']))
  const operation = ((): FhirPathOperation => {
    switch (op) {
      case 'add': {
        const name = text('name', ['String'])
        if (!/^[a-zA-Z]\w{0,99}$/.test(name) || FORBIDDEN.has(name))
          throw malformed('not an element name')
        return { op, path, name, ...valueOf(take('value')) }
      }
      case 'insert':
        return { op, path, index: index('index'), ...valueOf(take('value')) }
      case 'replace':
        return { op, path, ...valueOf(take('value')) }
      case 'delete':
        return { op, path }
      case 'move':
        return { op, path, source: index('source'), destination: index('destination') }
      default:
        throw malformed('an unknown operation')
    }
  })()
  if (parts.size > 0) throw malformed('a part that does not belong there')
  return operation
}

function partsOf(parameter: Members): Members[] {
  const parts = own(parameter, 'part')
  if (!Array.isArray(parts) || parts.length === 0 || !parts.every(isObject))
    throw malformed('parts are missing')
  return parts
}

/** The one `value[x]` of a part, or the object that its parts make (types without a name). */
function valueOf(part: Members): FhirValue {
  const names = Object.keys(part).filter((name) => name !== 'name')
  const [name] = names
  if (names.length !== 1 || name === undefined) throw malformed('not exactly one value')
  if (name !== 'part') {
    // Extensions on primitives (`_valueString`) are refused with everything else.
    if (!/^value[A-Z]\w*$/.test(name)) throw malformed('a value is missing')
    return { value: part[name], type: name.slice('value'.length) }
  }
  const members = new Map<string, unknown>()
  for (const inner of partsOf(part)) {
    const key = stringOf(own(inner, 'name'))
    if (!/^[a-zA-Z]\w*$/.test(key) || FORBIDDEN.has(key)) throw malformed('not an element name')
    if (members.has(key)) throw malformed('a part is there twice')
    members.set(key, valueOf(inner).value)
  }
  return { value: Object.fromEntries(members), type: undefined }
}

// Applying

const inapplicable = (message: string): PatchError => new PatchError('body-rule-broken', message)

function applyJson(document: unknown, operation: JsonOperation, work: Work): unknown {
  const { op, path } = operation
  switch (op) {
    case 'add':
      return insertAt(document, path, operation.value, work)
    case 'replace':
      return replaceAt(document, path, operation.value, work)
    case 'remove':
      return removeAt(document, path, work)
    case 'copy':
      return insertAt(document, path, valueAt(document, operation.from), work)
    case 'move': {
      const { from } = operation
      const value = valueAt(document, from)
      const inside = from.every((token, at) => token === path[at])
      if (inside && from.length === path.length) return document
      // RFC 6902 §4.4: the "from" location MUST NOT be a proper prefix of the "path" location.
      if (inside) throw inapplicable('a value cannot be moved into itself')
      return insertAt(removeAt(document, from, work), path, value, work)
    }
    case 'test':
      if (sameJson(valueAt(document, path), operation.value, work)) return document
      throw inapplicable('a test fails')
  }
}

function applyFhirPath(document: unknown, operation: FhirPathOperation, work: Work): unknown {
  const { op, path } = operation
  const found = locate(document, path, work)
  if (op === 'insert' || op === 'move') {
    const { list, length } = listOf(document, found)
    const within = (index: number, limit: number): number => {
      if (index < limit) return index
      throw inapplicable('an index is beyond the list')
    }
    if (op === 'insert') {
      const index = within(operation.index, length + 1)
      return insertAt(document, [...list, String(index)], operation.value, work)
    }
    const source = [...list, String(within(operation.source, length))]
    const destination = [...list, String(within(operation.destination, length))]
    const value = valueAt(document, source)
    return insertAt(removeAt(document, source, work), destination, value, work)
  }
  const [one] = found
  if (found.length > 1) throw inapplicable('a path matches more than one element')
  if (one === undefined) {
    // Fhirpatch: except for delete, it is an error if no element matches the path.
    if (op === 'delete' && work.asked === undefined) return document
    throw inapplicable('a path matches no element')
  }
  switch (op) {
    case 'add':
      return addMember(document, one, operation, work)
    case 'replace':
      return replaceAt(document, one, operation.value, work)
    case 'delete': {
      const list = valueAt(document, one.slice(0, -1))
      // FHIR JSON has no empty lists.
      const last = Array.isArray(list) && list.length === 1
      return removeAt(document, last ? one.slice(0, -1) : one, work)
    }
  }
}

/** The one list that holds all the elements found, and nothing else. */
function listOf(document: unknown, found: readonly Pointer[]): { list: Pointer; length: number } {
  const [first] = found
  if (first === undefined || first.length === 0) throw inapplicable('a path matches no list')
  const list = first.slice(0, -1)
  const value = valueAt(document, list)
  const whole =
    Array.isArray(value) &&
    value.length === found.length &&
    found.every(
      (one) => one.length === first.length && list.every((token, at) => token === one[at]),
    )
  if (!whole) throw inapplicable('a path matches no single list')
  return { list, length: found.length }
}

type Addition = Extract<FhirPathOperation, { op: 'add' }>

function addMember(document: unknown, at: Pointer, operation: Addition, work: Work): unknown {
  const { name, type, value } = operation
  const parent = valueAt(document, at)
  if (!isObject(parent)) throw inapplicable('an element is added to what is none')
  if (Object.hasOwn(parent, `_${name}`)) throw inapplicable('an element has extensions')
  const present = own(parent, name)
  if (Array.isArray(present)) return insertAt(document, [...at, name, '-'], value, work)
  const member = type !== undefined && CHOICES.has(name) ? name + type : name
  // Also `deceasedBoolean` beside `deceasedDateTime`: a choice is there once.
  const isThere = Object.keys(parent).some(
    (key) => key === name || key === member || (CHOICES.has(name) && isChoice(key, name)),
  )
  if (isThere) throw inapplicable('an element is there already')
  const isUnsure =
    UNSURE.has(name) ||
    (CHOICES.has(name) && type === undefined) ||
    (name === 'value' && at.length === 0)
  if (isUnsure) throw inapplicable('an element may be a choice')
  return insertAt(document, [...at, member], value, work)
}

const isChoice = (key: string, name: string): boolean =>
  key.startsWith(name) && /^[A-Z]/.test(key.slice(name.length))

/** Element names that are a choice of types wherever they stand (STU3 to R5). */
const CHOICES = new Set([
  'abatement',
  'asNeeded',
  'deceased',
  'defaultValue',
  'effective',
  'fixed',
  'multipleBirth',
  'occurrence',
  'onset',
  'performed',
  'rate',
  'reported',
  'serviced',
])
/** Names that are a choice in one type or version and plain in another: nothing is guessed. */
const UNSURE = new Set(['item', 'medication', 'product', 'timing'])

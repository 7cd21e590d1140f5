import { stampResource } from './raw-json.ts'

/** Any JSON value, as `JSON.parse` gives it. */
export type Json =
  string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

/** One version of one resource; `text` is undefined when this version is a deletion. */
export type Version = {
  readonly versionId: number
  /** FHIR instant, UTC. */
  readonly lastUpdated: string
  readonly method: 'POST' | 'PUT' | 'DELETE'
  readonly text: string | undefined
}

/** One resource with its history, oldest version first. */
export class StoredResource {
  readonly type: string
  readonly id: string
  readonly versions: Version[] = []
  #parsed: Json | undefined

  constructor(type: string, id: string) {
    this.type = type
    this.id = id
  }

  get current(): Version | undefined {
    return this.versions.at(-1)
  }

  /** The current content, for search; numbers lose their precision here, so it is never sent. */
  get content(): Json {
    this.#parsed ??= JSON.parse(this.current?.text ?? 'null') as Json
    return this.#parsed
  }

  add(version: Version): void {
    this.versions.push(version)
    this.#parsed = undefined
  }
}

const REFERENCE = /"reference"\s*:\s*"([^"\\]*)"/g

/** `Type/id` of a reference, whatever base stands before it; undefined for `#contained` and others. */
export const localReference = (reference: string): string | undefined =>
  /(?:^|\/)([A-Z][A-Za-z]+\/[A-Za-z0-9\-.]{1,64})(?:\/_history\/[^/]+)?$/.exec(reference)?.[1]

const referencesIn = (text: string): ReadonlySet<string> => {
  // Text search sees what is written plainly; an escaped reference needs the parsed content.
  const found = new Set<string>()
  const add = (reference: string): void => {
    const local = localReference(reference)
    if (local !== undefined) found.add(local)
  }
  if (text.includes('\\')) {
    const walk = (value: Json): void => {
      if (Array.isArray(value)) value.forEach(walk)
      else if (value !== null && typeof value === 'object')
        for (const [key, inner] of Object.entries(value))
          if (key === 'reference' && typeof inner === 'string') add(inner)
          else walk(inner)
    }
    walk(JSON.parse(text) as Json)
  } else for (const match of text.matchAll(REFERENCE)) add(match[1] ?? '')
  return found
}

/** Resources in memory, indexed by type, id and the references they hold. */
export class FhirStore {
  readonly #byType = new Map<string, Map<string, StoredResource>>()
  readonly #byReference = new Map<string, Set<StoredResource>>()
  #lastId = 1000

  find(type: string, id: string): StoredResource | undefined {
    return this.#byType.get(type)?.get(id)
  }

  /** All resources of a type that are not deleted, in the order they came. */
  all(type: string): readonly StoredResource[] {
    return [...(this.#byType.get(type)?.values() ?? [])].filter(
      (r) => r.current?.text !== undefined,
    )
  }

  /** Resources of `type` holding a reference to `target` (`Type/id`) anywhere. */
  referring(type: string, target: string): ReadonlySet<StoredResource> {
    return this.#byReference.get(`${type} ${target}`) ?? new Set()
  }

  /** An id nobody has; `wanted` when it is free and well formed. */
  newId(type: string, wanted?: string): string {
    if (wanted !== undefined && /^[A-Za-z0-9\-.]{1,64}$/.test(wanted) && !this.find(type, wanted))
      return wanted
    do this.#lastId++
    while (this.find(type, String(this.#lastId)))
    return String(this.#lastId)
  }

  /** Stores a new version of valid resource text. */
  write(type: string, id: string, text: string, method: 'POST' | 'PUT'): StoredResource {
    return this.#append(type, id, method, text)
  }

  delete(type: string, id: string): void {
    this.#append(type, id, 'DELETE', undefined)
  }

  #append(
    type: string,
    id: string,
    method: Version['method'],
    text: string | undefined,
  ): StoredResource {
    let ofType = this.#byType.get(type)
    if (!ofType) this.#byType.set(type, (ofType = new Map<string, StoredResource>()))
    let resource = ofType.get(id)
    if (!resource) ofType.set(id, (resource = new StoredResource(type, id)))
    const old = resource.current
    const versionId = (old?.versionId ?? 0) + 1
    const lastUpdated = new Date().toISOString()
    if (old?.text !== undefined)
      for (const target of referencesIn(old.text))
        this.#byReference.get(`${type} ${target}`)?.delete(resource)
    const stamped =
      text === undefined ? undefined : stampResource(text, { id, versionId, lastUpdated })
    resource.add({ versionId, lastUpdated, method, text: stamped })
    if (stamped !== undefined)
      for (const target of referencesIn(stamped)) {
        const key = `${type} ${target}`
        const referring = this.#byReference.get(key)
        if (referring) referring.add(resource)
        else this.#byReference.set(key, new Set([resource]))
      }
    return resource
  }
}

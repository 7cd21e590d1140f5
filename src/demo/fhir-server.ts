import { randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { loadDefinitions } from '../fhir/definitions.ts'
import type { Definitions } from '../fhir/definitions.ts'
import { BulkExport } from './fhir-export.ts'
import { parseSearch, runSearch, SearchError } from './fhir-search.ts'
import { FhirStore } from './fhir-store.ts'
import type { Json, StoredResource, Version } from './fhir-store.ts'
import { close, listen } from './listen.ts'
import { elementsOf, membersOf, valueOf } from './raw-json.ts'

export type FhirServerOptions = {
  /** 0 or absent: any free port. */
  readonly port?: number
  readonly host?: string
  /** JSON texts to begin with: resources with an id, or transaction and batch Bundles. */
  readonly load?: Iterable<string>
}

export type FhirServer = {
  /** The FHIR base, `http://127.0.0.1:8083/fhir`. */
  readonly url: string
  /** Stores one resource (with `resourceType` and `id`) as it stands, or runs one Bundle. */
  readonly put: (json: string) => void
  /** The current text of a resource, as a read would send it. */
  readonly get: (type: string, id: string) => string | undefined
  /** The current texts of all resources of a type. */
  readonly all: (type: string) => readonly string[]
  /** Resources held, deleted ones not counted. */
  readonly count: (type?: string) => number
  readonly close: () => Promise<void>
}

type Request = {
  readonly method: string
  /** Relative to the base: '' or 'Patient/1'; percent-decoded by segment. */
  readonly segments: readonly string[]
  readonly query: URLSearchParams
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}
type Reply = {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

const VERSION = '6.8.3'
const MAXIMUM_BODY_BYTES = 64 * 1024 * 1024
const MAXIMUM_PAGED = 1000
const ID = /^[A-Za-z0-9\-.]{1,64}$/

/** Ends a request with an OperationOutcome. */
class FhirError extends Error {
  readonly status: number
  readonly code: string
  constructor(status: number, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

const operationOutcome = (code: string, diagnostics: string): string =>
  JSON.stringify({
    resourceType: 'OperationOutcome',
    issue: [{ severity: 'error', code, diagnostics }],
  })

const etag = (version: Version): string => `W/"${version.versionId}"`

const parseResource = (text: string): { resourceType: string; id?: string } => {
  let value: Json
  try {
    value = JSON.parse(text) as Json
  } catch (error) {
    throw new FhirError(
      400,
      'structure',
      `HAPI-1861: Failed to parse JSON encoded FHIR content: ${String(error)}`,
    )
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new FhirError(400, 'structure', 'Content is not a JSON object')
  const { resourceType, id } = value as Readonly<Record<string, Json>>
  if (typeof resourceType !== 'string')
    throw new FhirError(400, 'structure', 'HAPI-1838: resourceType is missing')
  return { resourceType, ...(typeof id === 'string' ? { id } : {}) }
}

/** A FHIR R4 server in memory that keeps every resource as the text that came. */
class Fhir {
  base = ''
  readonly store = new FhirStore()
  readonly #definitions: Definitions
  readonly #bulk = new BulkExport(this.store)
  readonly #pages = new Map<string, readonly StoredResource[]>()

  constructor(definitions: Definitions) {
    this.#definitions = definitions
  }

  /** Runs one request; throws {@link FhirError} and {@link SearchError}. */
  handle(request: Request): Reply {
    const { method, segments, query } = request
    const [type, id, history, versionId] = segments
    if (type === undefined) {
      if (method === 'POST') return this.runBundle(request.body)
      if (method === 'GET' && query.has('_getpages')) return this.#page(query)
      throw new FhirError(400, 'processing', 'Unexpected operation on the server root')
    }
    if (segments.at(-1) === '$export') return this.#export(segments, query)
    if (type === '$export-poll-status') return this.#exportStatus(method, query.get('_jobId') ?? '')
    if (type === 'Binary' && id !== undefined && history === undefined && method === 'GET') {
      const file = this.#bulk.file(id)
      if (file !== undefined) return file
    }
    if (type === 'metadata' && id === undefined && method === 'GET') return this.#metadata()
    if (!this.#definitions.types.has(type))
      throw new FhirError(404, 'processing', `HAPI-0302: Unknown resource type '${type}'`)
    if (id === undefined) {
      if (method === 'GET') return this.#search(type, query)
      if (method === 'POST') return this.#create(type, request.body)
    } else if (id === '_search' && history === undefined) {
      if (method === 'POST')
        return this.#search(
          type,
          new URLSearchParams([...query, ...new URLSearchParams(request.body)]),
        )
    } else if (history === undefined) {
      if (method === 'GET') return this.#read(request, type, id)
      if (method === 'PUT') return this.#update(request, type, id)
      if (method === 'DELETE') return this.#delete(request, type, id)
    } else if (
      type === 'Patient' &&
      method === 'GET' &&
      segments.length === 3 &&
      history === '$everything'
    ) {
      return this.#everything(id, query)
    } else if (type === 'Patient' && method === 'GET' && this.#definitions.types.has(history)) {
      // Patient compartment: https://hl7.org/fhir/R4/compartmentdefinition-patient.html
      const narrowed = this.#ofPatient(history, id, query)
      if (narrowed !== undefined && segments.length === 3) return this.#search(history, narrowed)
    } else if (history === '_history' && method === 'GET') {
      if (versionId === undefined) return this.#history(type, id)
      if (segments.length === 4) return this.#vread(type, id, versionId)
    }
    throw new FhirError(405, 'not-supported', `${method} is not supported here`)
  }

  /** Runs a transaction or batch. References between its entries (`urn:uuid:`) become local ones. */
  runBundle(text: string): Reply {
    const type = parseResource(text).resourceType
    const kind = JSON.parse(valueOf(text, 'type') ?? 'null') as Json
    if (type !== 'Bundle' || (kind !== 'transaction' && kind !== 'batch'))
      throw new FhirError(
        400,
        'processing',
        'Only a transaction or batch Bundle can be posted here',
      )
    const taken = new Map<string, Set<string>>()
    const places = new Map<string, string>()
    const entries = elementsOf(valueOf(text, 'entry') ?? '[]').map((entry) => {
      const parts = new Map(
        membersOf(entry).map(({ key, valueStart, end }) => [key, entry.slice(valueStart, end)]),
      )
      const { method = '', url = '' } = JSON.parse(parts.get('request') ?? '{}') as {
        method?: string
        url?: string
      }
      const resource = parts.get('resource') ?? ''
      const fullUrl = JSON.parse(parts.get('fullUrl') ?? '""') as string
      const target = new URL(url, `${this.base}/`)
      const segments = target.pathname.slice(new URL(this.base).pathname.length).split('/').slice(1)
      if (method === 'POST' && segments.length === 1 && segments[0] !== '') {
        const named = segments[0] ?? ''
        const ids = taken.get(named) ?? new Set<string>()
        taken.set(named, ids)
        // Any id is right for a new resource; the one it already goes by keeps demos readable.
        const wanted = /^urn:uuid:(.+)$/.exec(fullUrl)?.[1]
        const id = this.store.newId(
          named,
          wanted !== undefined && ids.has(wanted) ? undefined : wanted,
        )
        ids.add(id)
        if (fullUrl !== '') places.set(fullUrl, `${named}/${id}`)
        return { method: 'CREATE', segments: [named, id], query: target.searchParams, resource }
      }
      if (fullUrl.startsWith('urn:') && method === 'PUT') places.set(fullUrl, segments.join('/'))
      return { method, segments, query: target.searchParams, resource }
    })
    const linked = (resource: string): string =>
      resource.replace(/"(urn:(?:uuid|oid):[^"\\]+)"/g, (all, urn: string) => {
        const place = places.get(urn)
        return place === undefined ? all : JSON.stringify(place)
      })
    if (kind === 'transaction')
      for (const { method, segments, resource } of entries) {
        const expected = method === 'CREATE' || method === 'PUT'
        if (!expected && !['GET', 'DELETE'].includes(method))
          throw new FhirError(400, 'processing', `Entry with method "${method}"`)
        if (expected && parseResource(resource).resourceType !== segments[0])
          throw new FhirError(
            400,
            'processing',
            'Entry whose resource is not of the type in its URL',
          )
      }
    const answers = entries.map(({ method, segments, query, resource }) => {
      const [named = '', id = ''] = segments
      const body = linked(resource)
      try {
        const reply =
          method === 'CREATE'
            ? this.#create(named, body, id)
            : this.handle({ method, segments: segments.filter(Boolean), query, headers: {}, body })
        return this.#bundleEntry(reply)
      } catch (error) {
        if (kind === 'transaction') throw error
        const { status, body: outcome = '{}' } = errorReply(error)
        return `{"response":{"status":"${status}","outcome":${outcome}}}`
      }
    })
    return {
      status: 200,
      body:
        `{"resourceType":"Bundle","id":"${randomUUID()}","type":"${kind}-response",` +
        `"link":[{"relation":"self","url":"${this.base}"}],"entry":[${answers.join(',')}]}`,
    }
  }

  #bundleEntry({ status, headers = {}, body }: Reply): string {
    const response = JSON.stringify({
      status: String(status),
      ...(headers.location === undefined ? {} : { location: headers.location }),
      ...(headers.etag === undefined ? {} : { etag: headers.etag }),
      ...(headers['last-modified'] === undefined
        ? {}
        : { lastModified: new Date(headers['last-modified']).toISOString() }),
    })
    // Like return=minimal: what was written is not sent back.
    const resource = status === 200 && headers.location === undefined ? body : undefined
    return `{${resource === undefined ? '' : `"resource":${resource},`}"response":${response}}`
  }

  #found(type: string, id: string): StoredResource & { readonly current: Version } {
    const resource = this.store.find(type, id)
    if (!resource?.current)
      throw new FhirError(404, 'processing', `HAPI-2001: Resource ${type}/${id} is not known`)
    if (resource.current.text === undefined)
      throw new FhirError(
        410,
        'deleted',
        `Resource was deleted at ${resource.current.lastUpdated} (${type}/${id})`,
      )
    return resource as StoredResource & { readonly current: Version }
  }

  #one(status: number, type: string, id: string, version: Version): Reply {
    const location = `${this.base}/${type}/${id}/_history/${version.versionId}`
    return {
      status,
      headers: {
        etag: etag(version),
        'last-modified': new Date(version.lastUpdated).toUTCString(),
        'content-location': location,
      },
      ...(version.text === undefined ? {} : { body: version.text }),
    }
  }

  #written(status: number, resource: StoredResource): Reply {
    const version = resource.current
    if (!version) throw new FhirError(500, 'exception', 'nothing written')
    const reply = this.#one(status, resource.type, resource.id, version)
    const location = `${this.base}/${resource.type}/${resource.id}/_history/${version.versionId}`
    return { ...reply, headers: { ...reply.headers, location } }
  }

  #read({ headers }: Request, type: string, id: string): Reply {
    const { current } = this.#found(type, id)
    const reply = this.#one(200, type, id, current)
    if (headers['if-none-match'] !== etag(current)) return reply
    return { status: 304, headers: reply.headers ?? {} }
  }

  #vread(type: string, id: string, versionId: string): Reply {
    const version = this.store
      .find(type, id)
      ?.versions.find((one) => `${one.versionId}` === versionId)
    if (!version)
      throw new FhirError(
        404,
        'processing',
        `HAPI-2001: Version ${versionId} of ${type}/${id} is not known`,
      )
    if (version.text === undefined)
      throw new FhirError(410, 'deleted', `Resource was deleted at ${version.lastUpdated}`)
    return this.#one(200, type, id, version)
  }

  #create(type: string, body: string, id = this.store.newId(type)): Reply {
    const { resourceType } = parseResource(body)
    if (resourceType !== type)
      throw new FhirError(400, 'processing', `Body is a ${resourceType}, the URL says ${type}`)
    return this.#written(201, this.store.write(type, id, body, 'POST'))
  }

  #update({ headers, body }: Request, type: string, id: string): Reply {
    const parsed = parseResource(body)
    if (!ID.test(id)) throw new FhirError(400, 'processing', `Invalid id: ${id}`)
    if (parsed.resourceType !== type || parsed.id !== id)
      throw new FhirError(
        400,
        'processing',
        'HAPI-0420: Can not update resource, resource body must contain an ID element which matches the request URL',
      )
    const old = this.store.find(type, id)?.current
    this.#checkMatch(headers['if-match'], old)
    return this.#written(
      old?.text === undefined ? 201 : 200,
      this.store.write(type, id, body, 'PUT'),
    )
  }

  #delete({ headers }: Request, type: string, id: string): Reply {
    const { current } = this.#found(type, id)
    this.#checkMatch(headers['if-match'], current)
    this.store.delete(type, id)
    return { status: 204 }
  }

  #checkMatch(wanted: string | string[] | undefined, version: Version | undefined): void {
    if (wanted === undefined || (version && wanted === etag(version))) return
    throw new FhirError(412, 'conflict', `Version ${String(wanted)} is not the current one`)
  }

  #history(type: string, id: string): Reply {
    const resource = this.store.find(type, id)
    if (!resource) throw new FhirError(404, 'processing', `Resource ${type}/${id} is not known`)
    const entries = resource.versions.toReversed().map((version) => {
      const created = version.method !== 'DELETE' && version.versionId === 1
      const request = {
        method: version.method,
        url: version.method === 'POST' ? type : `${type}/${id}`,
      }
      const response = {
        status: version.method === 'DELETE' ? '204 No Content' : created ? '201 Created' : '200 OK',
        etag: etag(version),
        lastModified: version.lastUpdated,
      }
      return (
        `{"fullUrl":"${this.base}/${type}/${id}",` +
        (version.text === undefined ? '' : `"resource":${version.text},`) +
        `"request":${JSON.stringify(request)},"response":${JSON.stringify(response)}}`
      )
    })
    const links = [{ relation: 'self', url: `${this.base}/${type}/${id}/_history` }]
    return { status: 200, body: bundle('history', resource.versions.length, links, entries) }
  }

  #search(type: string, query: URLSearchParams): Reply {
    const context = { store: this.store, definitions: this.#definitions, type }
    const search = parseSearch(context, query)
    const matches = runSearch(context, search)
    const self = `${this.base}/${type}${query.size > 0 ? `?${query.toString()}` : ''}`
    if (search.countOnly)
      return {
        status: 200,
        body: bundle('searchset', matches.length, [{ relation: 'self', url: self }], []),
      }
    return this.#firstPage(matches, self, search.count)
  }

  /** A query that finds what of a type is in the compartment of a patient; undefined = nothing is. */
  #ofPatient(type: string, id: string, query: URLSearchParams): URLSearchParams | undefined {
    const narrowing = this.#definitions.patientParameter(type)
    if (narrowing === undefined) return undefined
    const value = narrowing.form === 'id' ? id : `Patient/${id}`
    return new URLSearchParams([...query, [narrowing.name, value]])
  }

  /** With `_count` and `_type`: https://hl7.org/fhir/R4/patient-operation-everything.html */
  #everything(id: string, query: URLSearchParams): Reply {
    this.#found('Patient', id)
    const asked = query.get('_type')?.split(',')
    const pages = new URLSearchParams({ _count: query.get('_count') ?? '' })
    const found = new Set<StoredResource>()
    let count = 0
    for (const type of this.#definitions.types) {
      const narrowed = this.#ofPatient(type, id, pages)
      if (narrowed === undefined || asked?.includes(type) === false) continue
      const context = { store: this.store, definitions: this.#definitions, type }
      const search = parseSearch(context, narrowed)
      for (const one of runSearch(context, search)) found.add(one)
      count = search.count
    }
    const self = `${this.base}/Patient/${id}/$everything${query.size > 0 ? `?${query.toString()}` : ''}`
    return this.#firstPage([...found], self, count)
  }

  #firstPage(matches: readonly StoredResource[], self: string, count: number): Reply {
    let key: string | undefined
    if (matches.length > count) {
      key = randomUUID()
      this.#pages.set(key, matches)
      // An abandoned search is not kept forever.
      const oldest = this.#pages.keys().next().value
      if (this.#pages.size > MAXIMUM_PAGED && oldest !== undefined) this.#pages.delete(oldest)
    }
    return { status: 200, body: this.#searchset(matches, self, key, 0, count) }
  }

  #page(query: URLSearchParams): Reply {
    const key = query.get('_getpages') ?? ''
    const matches = this.#pages.get(key)
    const offset = Number(query.get('_getpagesoffset') ?? 0)
    const count = Number(query.get('_count') ?? 20)
    if (!matches || !Number.isSafeInteger(offset) || offset < 0 || !(count > 0))
      throw new FhirError(
        410,
        'processing',
        `HAPI-0417: Search ID "${key}" does not exist and may have expired`,
      )
    return {
      status: 200,
      body: this.#searchset(matches, this.#pageUrl(key, offset, count), key, offset, count),
    }
  }

  #pageUrl(key: string, offset: number, count: number): string {
    return `${this.base}?_getpages=${key}&_getpagesoffset=${offset}&_count=${count}&_bundletype=searchset`
  }

  #searchset(
    matches: readonly StoredResource[],
    self: string,
    key: string | undefined,
    offset: number,
    count: number,
  ): string {
    const links = [{ relation: 'self', url: self }]
    if (key !== undefined && offset + count < matches.length)
      links.push({ relation: 'next', url: this.#pageUrl(key, offset + count, count) })
    if (key !== undefined && offset > 0)
      links.push({
        relation: 'previous',
        url: this.#pageUrl(key, Math.max(0, offset - count), count),
      })
    const entries = matches
      .slice(offset, offset + count)
      .flatMap(({ type, id, current }) =>
        current?.text === undefined
          ? []
          : [
              `{"fullUrl":"${this.base}/${type}/${id}","resource":${current.text},"search":{"mode":"match"}}`,
            ],
      )
    return bundle('searchset', matches.length, links, entries)
  }

  #export(segments: readonly string[], query: URLSearchParams): Reply {
    const asked = `${this.base}/${segments.join('/')}${query.size > 0 ? `?${query.toString()}` : ''}`
    const all = [...this.#definitions.types]
    const ofPatients = all.filter(
      (type) =>
        type === 'Patient' || this.#definitions.compartmentPaths('Patient', type).length > 0,
    )
    return this.#bulk.begin(this.base, asked, segments.length === 1 ? all : ofPatients, query)
  }

  #exportStatus(method: string, id: string): Reply {
    const reply = method === 'DELETE' ? this.#bulk.cancel(id) : this.#bulk.status(id)
    if (reply === undefined) throw new FhirError(404, 'processing', `HAPI-2040: no job "${id}"`)
    return reply
  }

  #metadata(): Reply {
    const interactions = [
      'read',
      'vread',
      'update',
      'delete',
      'history-instance',
      'create',
      'search-type',
    ]
    const statement = {
      resourceType: 'CapabilityStatement',
      status: 'active',
      date: new Date().toISOString(),
      publisher: 'FHIRewall demo',
      kind: 'instance',
      software: { name: 'HAPI FHIR Server', version: VERSION },
      implementation: { description: 'Demo FHIR R4 server in memory', url: this.base },
      fhirVersion: '4.0.1',
      format: ['application/fhir+json', 'json'],
      rest: [
        {
          mode: 'server',
          resource: [...this.#definitions.types].sort().map((type) => ({
            type,
            interaction: interactions.map((code) => ({ code })),
            versioning: 'versioned-update',
            updateCreate: true,
            ...(type === 'Patient' || type === 'Group'
              ? {
                  operation: [{ name: 'export', definition: `${this.base}/OperationDefinition/x` }],
                }
              : {}),
            searchParam: [...this.#definitions.searchParameters(type)].map(
              ([name, { type: kind }]) => ({ name, type: kind }),
            ),
          })),
          interaction: [{ code: 'transaction' }, { code: 'batch' }],
          operation: [{ name: 'export', definition: `${this.base}/OperationDefinition/export` }],
        },
      ],
    }
    return { status: 200, body: JSON.stringify(statement) }
  }
}

const bundle = (
  type: string,
  total: number,
  links: readonly { relation: string; url: string }[],
  entries: readonly string[],
): string =>
  `{"resourceType":"Bundle","id":"${randomUUID()}",` +
  `"meta":{"lastUpdated":"${new Date().toISOString()}"},"type":"${type}","total":${total},` +
  `"link":${JSON.stringify(links)}${entries.length > 0 ? `,"entry":[${entries.join(',')}]` : ''}}`

const errorReply = (error: unknown): Reply => {
  if (error instanceof FhirError)
    return { status: error.status, body: operationOutcome(error.code, error.message) }
  if (error instanceof SearchError)
    return { status: 400, body: operationOutcome('processing', error.message) }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return { status: 500, body: operationOutcome('exception', text) }
}

const readBody = async (request: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > MAXIMUM_BODY_BYTES) throw new FhirError(413, 'too-long', 'Body is too large')
    chunks.push(chunk)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))
  } catch {
    throw new FhirError(400, 'structure', 'Body is not UTF-8')
  }
}

const answer = async (
  fhir: Fhir,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> => {
  let reply: Reply
  try {
    const target = new URL(request.url ?? '/', 'http://upstream.invalid')
    if (target.pathname !== '/fhir' && !target.pathname.startsWith('/fhir/'))
      throw new FhirError(404, 'processing', `Nothing at ${target.pathname}`)
    const segments = target.pathname.slice(6).split('/').map(decodeURIComponent).filter(Boolean)
    const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '')
    const body = await readBody(request)
    reply = fhir.handle({
      method,
      segments,
      query: target.searchParams,
      headers: request.headers,
      body,
    })
  } catch (error) {
    reply = errorReply(error)
  }
  const bytes = Buffer.from(reply.body ?? '')
  response.writeHead(reply.status, {
    'x-powered-by': `HAPI FHIR ${VERSION} REST Server (FHIR Server; FHIR 4.0.1/R4)`,
    ...(reply.body === undefined
      ? {}
      : { 'content-type': 'application/fhir+json;charset=UTF-8', 'content-length': bytes.length }),
    ...reply.headers,
  })
  response.end(request.method === 'HEAD' ? undefined : bytes)
}

/** Starts the demo's upstream; rejects with the system's error when the port is taken. */
export const startFhirServer = async (options: FhirServerOptions = {}): Promise<FhirServer> => {
  const definitions = loadDefinitions('R4')
  const fhir = new Fhir(definitions)
  const server = createServer((request, response) => {
    void answer(fhir, request, response)
  })
  const { store } = fhir
  fhir.base = `${await listen(server, options.port ?? 0, options.host ?? '127.0.0.1')}/fhir`
  const put = (json: string): void => {
    const { resourceType, id } = parseResource(json)
    if (resourceType === 'Bundle') fhir.runBundle(json)
    else if (id === undefined) throw new Error('a resource to put needs an id')
    else store.write(resourceType, id, json, 'PUT')
  }
  try {
    for (const json of options.load ?? []) put(json)
  } catch (error) {
    await close(server)
    throw error
  }
  const all = (type: string): readonly string[] =>
    store.all(type).flatMap(({ current }) => current?.text ?? [])
  return {
    url: fhir.base,
    put,
    get: (type, id) => store.find(type, id)?.current?.text,
    all,
    count: (type) =>
      (type === undefined ? [...definitions.types] : [type]).reduce(
        (sum, one) => sum + store.all(one).length,
        0,
      ),
    close: () => close(server),
  }
}

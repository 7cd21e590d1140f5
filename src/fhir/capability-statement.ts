import { NUMBERS } from './definitions.ts'
import type { Definitions } from './definitions.ts'
import { OPERATIONS } from './operations.ts'
import type { InteractionCode } from './interaction.ts'

/** What the statement is made from; `upstream` is its parsed CapabilityStatement. */
export type CapabilitySource = {
  readonly definitions: Definitions
  readonly publicUrl: string
  readonly upstream: unknown
  /** The interactions this deployment lets pass. */
  readonly allowed: readonly InteractionCode[]
  /** Endpoints of the authorization server, for clients older than smart-configuration. */
  readonly smart?: { readonly authorize?: string; readonly token?: string }
  /** FHIR dateTime. */
  readonly now: string
}

type Properties = Readonly<Record<string, unknown>>

/** Codes of http://hl7.org/fhir/restful-interaction that stand at a resource type. */
const TYPE_LEVEL: readonly InteractionCode[] = [
  'read',
  'vread',
  'update',
  'patch',
  'delete',
  'history-instance',
  'history-type',
  'create',
  'search-type',
]
const OAUTH_URIS = 'http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris'

/**
 * The answer to `$versions` (https://hl7.org/fhir/R4/capabilitystatement-operation-versions.html): the one that
 * is spoken here. undefined: the version knows no such operation.
 */
export function formatVersions({ version, number }: Definitions): string | undefined {
  if (version === 'DSTU2' || version === 'STU3') return undefined
  const parameter = ['version', 'default'].map((name) => ({ name, valueCode: number }))
  return JSON.stringify({ resourceType: 'Parameters', parameter })
}

/**
 * The CapabilityStatement (JSON text) of what callers get here: what upstream offers, and of that
 * only what passes this gateway (DISC-4). Built new: upstream's software, addresses, narrative and
 * extensions stay behind. Throws when `upstream` is no CapabilityStatement of a server.
 */
export function buildCapabilityStatement(source: CapabilitySource): string {
  const { upstream, publicUrl, now } = source
  const { version } = source.definitions
  const resourceType = version === 'DSTU2' ? 'Conformance' : 'CapabilityStatement'
  if (!isObject(upstream) || upstream['resourceType'] !== resourceType) {
    throw new Error(`upstream sent no ${resourceType}`)
  }
  const rest = list(upstream['rest']).find((one) => one['mode'] === 'server')
  if (rest === undefined) throw new Error(`upstream's ${resourceType} describes no server`)
  // DSTU2 knows no patch, and no code for a batch of its own.
  const allowed = new Set<string>(
    source.allowed.filter((code) => version !== 'DSTU2' || !code.endsWith('patch')),
  )
  const isOld = version === 'DSTU2' || version === 'STU3'
  const offersExport = allowed.has('operation') && operations(rest).has('export')
  return JSON.stringify({
    resourceType,
    status: 'active',
    date: now,
    kind: 'instance',
    ...(offersExport && !isOld ? { instantiates: [`${BULK}CapabilityStatement/bulk-data`] } : {}),
    software: { name: 'FHIRewall' },
    implementation: { description: 'FHIR server behind FHIRewall', url: publicUrl },
    fhirVersion: NUMBERS[version],
    // "Does the server accept elements it does not know", mandatory until R4 took it away.
    ...(isOld ? { acceptUnknown: 'no' } : {}),
    format: ['json', 'application/fhir+json'],
    ...(allowed.has('patch') ? { patchFormat: ['application/json-patch+json'] } : {}),
    rest: [
      {
        mode: 'server',
        security: buildSecurity(source),
        ...filled('resource', buildResources(rest, allowed, source.definitions)),
        ...filled('interaction', buildSystemInteractions(rest, allowed)),
        ...filled('operation', offersExport ? [EXPORT] : []),
      },
    ],
  })
}

function buildSecurity({ smart, definitions: { version } }: CapabilitySource): unknown {
  const uris = [
    ...(smart?.authorize === undefined ? [] : [{ url: 'authorize', valueUri: smart.authorize }]),
    ...(smart?.token === undefined ? [] : [{ url: 'token', valueUri: smart.token }]),
  ]
  return {
    ...(uris.length === 0 ? {} : { extension: [{ url: OAUTH_URIS, extension: uris }] }),
    cors: true,
    service: [
      {
        coding: [
          {
            system:
              version === 'DSTU2' || version === 'STU3'
                ? 'http://hl7.org/fhir/restful-security-service'
                : 'http://terminology.hl7.org/CodeSystem/restful-security-service',
            code: 'SMART-on-FHIR',
          },
        ],
      },
    ],
  }
}

function buildResources(
  rest: Properties,
  allowed: ReadonlySet<string>,
  definitions: Definitions,
): readonly unknown[] {
  const resources: unknown[] = []
  for (const resource of list(rest['resource'])) {
    const type = resource['type']
    if (typeof type !== 'string' || !definitions.types.has(type)) continue
    const offered = codes(resource)
    const interaction = TYPE_LEVEL.filter((code) => offered.has(code) && allowed.has(code))
    if (interaction.length === 0) continue
    const known = definitions.searchParameters(type)
    const searches = list(resource['searchParam']).flatMap(({ name }): readonly Properties[] => {
      if (name === '_id') return [{ name, type: 'token' }]
      if (name === '_lastUpdated') return [{ name, type: 'date' }]
      const defined = typeof name === 'string' ? known.get(name) : undefined
      return defined === undefined ? [] : [{ name, type: defined.type }]
    })
    resources.push({
      type,
      interaction: interaction.map((code) => ({ code })),
      ...conditional(resource, allowed),
      ...filled('searchParam', interaction.includes('search-type') ? searches : []),
      ...filled('operation', allowed.has('operation') ? buildOperations(resource, type) : []),
    })
  }
  return resources
}

/** Operations that upstream has and this gateway can judge, by the definitions of FHIR itself. */
function buildOperations(resource: Properties, type: string): readonly unknown[] {
  const offered = operations(resource)
  const names = OPERATIONS.filter(
    ({ name, level, types }) =>
      level !== 'system' && offered.has(name) && (types === '*' || types.includes(type)),
  ).map(({ name }) => name)
  return [...new Set(names)].map((name) => ({
    name,
    definition:
      name === 'export'
        ? `${BULK}OperationDefinition/${type.toLowerCase()}-export`
        : `http://hl7.org/fhir/OperationDefinition/${name === 'validate' ? 'Resource' : type}-${name}`,
  }))
}

/** Conditional interactions, each named only where both sides take it. */
function conditional(resource: Properties, allowed: ReadonlySet<string>): Properties {
  const found: Record<string, unknown> = {}
  if (allowed.has('conditional-create') && resource['conditionalCreate'] === true) {
    found['conditionalCreate'] = true
  }
  if (allowed.has('conditional-update') && resource['conditionalUpdate'] === true) {
    found['conditionalUpdate'] = true
  }
  const deletes = resource['conditionalDelete']
  if (allowed.has('conditional-delete') && (deletes === 'single' || deletes === 'multiple')) {
    // Of several matches none is deleted, whatever upstream would do.
    found['conditionalDelete'] = 'single'
  }
  return found
}

function buildSystemInteractions(
  rest: Properties,
  allowed: ReadonlySet<string>,
): readonly unknown[] {
  const offered = codes(rest)
  const passing = [
    ['transaction', 'batch'],
    ['batch', 'batch'],
    ['search-system', 'search-system'],
    ['history-system', 'history-system'],
  ] as const
  return passing
    .filter(([code, ours]) => offered.has(code) && allowed.has(ours))
    .map(([code]) => ({ code }))
}

const isObject = (value: unknown): value is Properties =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const list = (value: unknown): readonly Properties[] =>
  Array.isArray(value) ? value.filter(isObject) : []

/** The names of the operations that a part of upstream's statement offers, without '$'. */
const operations = (part: Properties): ReadonlySet<string> =>
  new Set(list(part['operation']).map(({ name }) => String(name).replace(/^\$/, '')))

const BULK = 'http://hl7.org/fhir/uv/bulkdata/'
const EXPORT = { name: 'export', definition: `${BULK}OperationDefinition/export` }

const codes = (part: Properties): ReadonlySet<unknown> =>
  new Set(list(part['interaction']).map(({ code }) => code))

// FHIR JSON has no empty arrays.
const filled = (name: string, items: readonly unknown[]): Properties =>
  items.length === 0 ? {} : { [name]: items }

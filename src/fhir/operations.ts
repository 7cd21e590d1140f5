import type { Interaction, Method } from './interaction.ts'

/**
 * The operations this gateway can judge (https://hl7.org/fhir/R4/operationslist.html), one row each;
 * what is not here is refused whatever a policy says (REST-8). `$graphql`, `$meta-*`, `$expunge`,
 * `$process-message` and their like have no row because nothing they answer can be judged, or
 * because they change more than they say.
 */

/** What comes back, and so how it is released. */
export type OperationShape =
  /** A Bundle: every resource in it is judged. */
  | 'bundle'
  /** One resource, judged. */
  | 'resource'
  /** Parameters without any resource in them. */
  | 'parameters'
  /** An OperationOutcome: codes and places, none of upstream's words. */
  | 'outcome'
  /** Bulk Data Access: the address of a job; what the job has come to. */
  | 'job'
  | 'manifest'
  /** Bulk Data Access, a file of NDJSON: of resources, of Bundles that delete, of OperationOutcomes. */
  | LinesShape

/** What the lines of a bulk file are. */
export type LinesShape = 'resources' | 'deletions' | 'outcomes'

export const LINES: ReadonlySet<string> = new Set<LinesShape>([
  'resources',
  'deletions',
  'outcomes',
])

export type Operation = {
  readonly name: string
  /** Where it is asked: `/$name`, `/Type/$name` or `/Type/id/$name`. */
  readonly level: 'system' | 'type' | 'instance'
  readonly types: readonly string[] | '*'
  readonly methods: readonly Method[]
  /** SMART letter that it needs on its type. */
  readonly letter: 'r' | 's' | 'c'
  readonly shape: OperationShape
  /** Names of its parameters in the address; any other is refused. */
  readonly parameters: readonly string[]
  /** Its parameter that names the patient it is about, when it must be held to one. */
  readonly patient?: string
  /** Whether a resource is sent along in the body. */
  readonly takesResource?: true
}

const READ: readonly Method[] = ['GET', 'HEAD']
const PERIOD = ['start', 'end']
const GET: readonly Method[] = ['GET']
const EXPORT = ['_outputFormat', '_since', '_until', '_type']
const TERMS = ['url', 'code', 'system', 'version', 'display', 'date', 'displayLanguage']

export const OPERATIONS: readonly Operation[] = [
  {
    ...{ name: 'everything', level: 'instance', types: ['Patient'], methods: READ, letter: 'r' },
    ...{ shape: 'bundle', parameters: [...PERIOD, '_since', '_type', '_count'] },
  },
  {
    ...{ name: 'summary', level: 'instance', types: ['Patient'], methods: READ, letter: 'r' },
    ...{ shape: 'bundle', parameters: ['profile'] },
  },
  {
    ...{ name: 'lastn', level: 'type', types: ['Observation'], methods: READ, letter: 's' },
    ...{ shape: 'bundle', parameters: ['patient', 'subject', 'category', 'code', 'max'] },
    patient: 'patient',
  },
  {
    ...{ name: 'docref', level: 'type', types: ['DocumentReference'], methods: READ, letter: 's' },
    ...{ shape: 'bundle', parameters: ['patient', ...PERIOD, 'type', 'on-demand', 'profile'] },
    patient: 'patient',
  },
  {
    ...{ name: 'validate', level: 'type', types: '*', methods: ['POST'], letter: 'c' },
    ...{ shape: 'outcome', parameters: ['mode', 'profile'], takesResource: true },
  },
  {
    ...{ name: 'expand', level: 'type', types: ['ValueSet'], methods: READ, letter: 'r' },
    ...{ shape: 'resource', parameters: ['filter', 'offset', 'count', 'activeOnly', ...TERMS] },
  },
  {
    ...{ name: 'expand', level: 'instance', types: ['ValueSet'], methods: READ, letter: 'r' },
    ...{ shape: 'resource', parameters: ['filter', 'offset', 'count', 'activeOnly', ...TERMS] },
  },
  {
    ...{ name: 'validate-code', level: 'type', types: ['ValueSet', 'CodeSystem'], methods: READ },
    ...{ letter: 'r', shape: 'parameters', parameters: [...TERMS, 'systemVersion', 'abstract'] },
  },
  {
    ...{ name: 'lookup', level: 'type', types: ['CodeSystem'], methods: READ, letter: 'r' },
    ...{ shape: 'parameters', parameters: [...TERMS, 'property'] },
  },
  {
    ...{ name: 'subsumes', level: 'type', types: ['CodeSystem'], methods: READ, letter: 'r' },
    ...{ shape: 'parameters', parameters: ['codeA', 'codeB', 'system', 'version'] },
  },
  {
    ...{ name: 'translate', level: 'type', types: ['ConceptMap'], methods: READ, letter: 'r' },
    ...{ shape: 'parameters', parameters: [...TERMS, 'source', 'target', 'targetsystem'] },
  },
  // Bulk Data Access (https://hl7.org/fhir/uv/bulkdata): for system clients, `stages/authorize/export.ts`.
  {
    ...{ name: 'export', level: 'system', types: '*', methods: GET, letter: 'r' },
    ...{ shape: 'job', parameters: EXPORT },
  },
  {
    ...{ name: 'export', level: 'type', types: ['Patient'], methods: GET, letter: 'r' },
    ...{ shape: 'job', parameters: EXPORT },
  },
  {
    ...{ name: 'export', level: 'instance', types: ['Group'], methods: GET, letter: 'r' },
    ...{ shape: 'job', parameters: EXPORT },
  },
  {
    ...{ name: 'export-status', level: 'system', types: '*', methods: ['GET', 'DELETE'] },
    ...{ letter: 'r', shape: 'manifest', parameters: ['_job'] },
  },
  {
    ...{ name: 'export-file', level: 'system', types: '*', methods: GET, letter: 'r' },
    ...{ shape: 'resources', parameters: ['_file'] },
  },
]

/** The row of an operation, or undefined: it is not offered. */
export function findOperation(interaction: Interaction): Operation | undefined {
  const { operation, type, id, versionId, method } = interaction
  if (operation === undefined || versionId !== undefined) return undefined
  const level = type === undefined ? 'system' : id === undefined ? 'type' : 'instance'
  return OPERATIONS.find(
    (row) =>
      row.name === operation &&
      row.level === level &&
      (type === undefined || row.types === '*' || row.types.includes(type)) &&
      row.methods.includes(method),
  )
}

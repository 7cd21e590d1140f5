import { hash } from 'node:crypto'
import type { Interaction, InteractionCode, Parameter } from './interaction.ts'

/**
 * AuditEvent (FHIR R4, whatever version upstream speaks) by the IHE Basic Audit Log Patterns 1.1.5,
 * https://profiles.ihe.net/ITI/BALP. Built as text: the shapes are fixed, so that concatenation with
 * JSON-escaped values is both exact and several times cheaper than an object and `stringify`.
 */

const BALP = 'https://profiles.ihe.net/ITI/BALP/'
const PROFILE = `${BALP}StructureDefinition/IHE.BasicAudit.`
const ENTITY_TYPE = 'http://terminology.hl7.org/CodeSystem/audit-entity-type'
const OBJECT_ROLE = 'http://terminology.hl7.org/CodeSystem/object-role'

/** Who writes the records, the same for all of them. */
export type AuditSource = {
  /** AuditEvent.source.site */
  readonly site: string
  /** AuditEvent.source.observer.identifier.value */
  readonly observer: string
  /** The FHIR base clients see; stands for the server that was asked. */
  readonly publicUrl: string
  /** A search records one event per patient, at most this many. */
  readonly patientsPerSearch: number
  /** A target up to this length is recorded whole; a longer one is refused in any case. */
  readonly targetBytes: number
  /** Takes the credentials out of what a client wrote. */
  readonly withoutCredentials: (text: string) => string
}

/** AuditEvent.outcome: success, minor failure, serious failure, major failure. */
export type AuditOutcome = '0' | '4' | '8' | '12'

/** What is known of one access attempt; whatever is not known is left out (AUD-6). */
export type AuditedAccess = {
  readonly requestId: string
  /** Milliseconds since the epoch. */
  readonly recorded: number
  readonly outcome: AuditOutcome
  /** Reason code of a failure, for `outcomeDesc`; never free text. */
  readonly reason: string | undefined
  /** Address of the client. */
  readonly address: string
  readonly interaction: Interaction | undefined
  /** The request as it came; credentials, and what is too long, are taken out here (AUD-4). */
  readonly request: {
    readonly method: string
    /** Relative to the public base. */
    readonly target: string
    readonly accept: string | undefined
    /** Text of a form or operation body, if it was read. */
    readonly body: string | undefined
  }
  readonly principal: AuditedPrincipal | undefined
  /** `Type/id` or `Type/id/_history/vid` of the one resource that was read or written. */
  readonly resource: string | undefined
  /** Bare ids of the patients concerned. */
  readonly patients: readonly string[]
  /** Recorded once more, as a security alert: glass was broken (BTG-3), or only said to be (BTG-1). */
  readonly alert?: 'emergency' | 'emergency-refused' | undefined
  /** What was counted and decided, as name and value: `released`, `rule` … */
  readonly details: readonly AuditDetail[]
}

/** Who asked. What is written of one is remembered with it: the same object says the same. */
export type AuditedPrincipal = {
  readonly issuer: string
  readonly subject: string | undefined
  readonly clientId: string | undefined
  readonly kind: 'user' | 'system'
  readonly tokenId: string | undefined
  /** Last characters of an opaque token or of one without `jti`, 32 at most. */
  readonly tokenEnd: string | undefined
  readonly roles: readonly string[]
  /** v3-ActReason codes. */
  readonly purposes: readonly string[]
}

/** Names are words of ours, of a closed set. */
export type AuditDetail = readonly [name: string, value: string | number]

/** JSON text of a Coding. */
type Coding = string
type Action = 'C' | 'R' | 'U' | 'D' | 'E'
type Shape = {
  /** Stem of the BALP profile, if there is one for this interaction. */
  readonly profile?: 'Create' | 'Read' | 'Update' | 'Delete' | 'Query'
  readonly action: Action
  readonly client: Coding
  readonly server: Coding
}

function concept(of: Coding): string {
  return `{"coding":[${of}]}`
}

function coding(system: string, code: string, display: string): Coding {
  return `{"system":"${system}","code":"${code}","display":"${display}"}`
}

const DCM = 'http://dicom.nema.org/resources/ontology/DCM'
const SOURCE = coding(DCM, '110153', 'Source Role ID')
const DESTINATION = coding(DCM, '110152', 'Destination Role ID')
const APPLICATION = coding(DCM, '110150', 'Application')
const RESTFUL_OPERATION = coding(
  'http://terminology.hl7.org/CodeSystem/audit-event-type',
  'rest',
  'RESTful Operation',
)
const SECURITY_ALERT = coding(DCM, '110113', 'Security Alert')
const EMERGENCY_OVERRIDE = coding(DCM, '110127', 'Emergency Override Started')
const CUSTODIAN = coding(
  'http://terminology.hl7.org/CodeSystem/provenance-participant-type',
  'custodian',
  'Custodian',
)

const PARTICIPATION = 'http://terminology.hl7.org/CodeSystem/v3-ParticipationType'
const RECIPIENT = coding(PARTICIPATION, 'IRCP', 'information recipient')
const AUTHOR = coding(PARTICIPATION, 'AUT', 'author (originator)')
const OAUTH_USER = coding(`${BALP}CodeSystem/UserAgentTypes`, 'UserOauthAgent', 'User OAuth Agent')
const PERSON = coding(ENTITY_TYPE, '1', 'Person')
const SYSTEM_OBJECT = coding(ENTITY_TYPE, '2', 'System Object')
const REQUEST_ID = coding(`${BALP}CodeSystem/BasicAuditEntityType`, 'XrequestId', 'X-Request-Id')
const PATIENT_ROLE = coding(OBJECT_ROLE, '1', 'Patient')
const DOMAIN_ROLE = coding(OBJECT_ROLE, '4', 'Domain Resource')
const QUERY_ROLE = coding(OBJECT_ROLE, '24', 'Query')

// What stands between the values of a record, each in one piece.
const DOMAIN_RESOURCE = flat(`{"type":${SYSTEM_OBJECT},"role":${DOMAIN_ROLE},"what":{"reference":`)
const QUERY_TEXT = flat(`{"type":${SYSTEM_OBJECT},"role":${QUERY_ROLE},"query":"`)
const IS_PATIENT = flat(`},"type":${PERSON},"role":${PATIENT_ROLE}}`)
const IS_REQUEST_ID = flat(`}},"type":${REQUEST_ID}`)

// BALP volume 3, 5.7.3: the roles follow the flow of the data, so a read has them the other way
// round than a query, and a delete has roles of its own.
const CREATE: Shape = { profile: 'Create', action: 'C', client: SOURCE, server: DESTINATION }
const READ: Shape = { profile: 'Read', action: 'R', client: DESTINATION, server: SOURCE }
const UPDATE: Shape = { profile: 'Update', action: 'U', client: SOURCE, server: DESTINATION }
const DELETE: Shape = { profile: 'Delete', action: 'D', client: APPLICATION, server: CUSTODIAN }
const QUERY: Shape = { profile: 'Query', action: 'E', client: SOURCE, server: DESTINATION }
/** No BALP profile: shaped like a query. */
const OTHER: Shape = { action: 'E', client: SOURCE, server: DESTINATION }

const SHAPES: Readonly<Record<InteractionCode, readonly [shape: Shape, subtype: string]>> = {
  capabilities: [OTHER, 'capabilities'],
  versions: [OTHER, 'capabilities'],
  read: [READ, 'read'],
  vread: [READ, 'vread'],
  update: [UPDATE, 'update'],
  'conditional-update': [UPDATE, 'update'],
  patch: [UPDATE, 'patch'],
  'conditional-patch': [UPDATE, 'patch'],
  delete: [DELETE, 'delete'],
  'conditional-delete': [DELETE, 'delete'],
  'delete-history': [DELETE, 'delete'],
  create: [CREATE, 'create'],
  'conditional-create': [CREATE, 'create'],
  'search-type': [QUERY, 'search-type'],
  'search-system': [QUERY, 'search-system'],
  'search-compartment': [QUERY, 'search'],
  'history-instance': [OTHER, 'history-instance'],
  'history-type': [OTHER, 'history-type'],
  'history-system': [OTHER, 'history-system'],
  batch: [OTHER, 'batch'],
  operation: [OTHER, 'operation'],
  paging: [QUERY, 'search'],
}

/** Formats the records of one access attempt: JSON texts without a line end, one at least. */
export type FormatAuditEvents = (access: AuditedAccess) => string[]

/**
 * Compiles what is the same in every record.
 *
 * The result gives one AuditEvent per patient concerned (BALP PatientQuery: "a search that returns
 * several patients' data is recorded as one event for each"), or one without a patient when none is
 * known. A profile is declared on success only (BALP: success is part of the profiles).
 */
export function createAuditEventFormat(source: AuditSource): FormatAuditEvents {
  const { publicUrl, patientsPerSearch } = source
  const base = publicUrl.replace(/\/+$/, '')
  const server = `"who":{"identifier":{"value":${text(base)}}},"requestor":false,"network":{"address":${text(base)},"type":"5"}}`
  const observer =
    `"source":{"site":${text(source.site)},"observer":{"identifier":{"value":${text(source.observer)}}},` +
    `"type":[${coding('http://terminology.hl7.org/CodeSystem/security-source-type', '4', 'Application Server')}]}`
  const headOf = createRecall((code: InteractionCode | undefined) => formatHead(code))
  const formatDetail = createDetailFormat()
  const formatTime = createTimeFormat()

  function formatWho({ principal, address }: Who, shape: Shape): string {
    const agents = agentsOf({ principal, address }, shape)
    return (
      `${purposesOf(principal)}"agent":[{"type":${concept(shape.server)},${server}${agents}],` +
      `${observer},"entity":[`
    )
  }

  const known = new WeakMap<AuditedPrincipal, Known>()

  /** Agents and source: the same for every request of a principal, from one address. */
  function whoOf({ principal, address }: AuditedAccess, shape: Shape): string {
    if (principal === undefined) return formatWho({ principal, address }, shape)
    const last = known.get(principal)
    if (last?.shape === shape && last.address === address) return last.text
    const who = flat(formatWho({ principal, address }, shape))
    known.set(principal, { shape, address, text: who })
    return who
  }

  return (access) => {
    const { interaction, patients } = access
    const [shape] = interaction === undefined ? [OTHER] : SHAPES[interaction.code]
    const head = headOf(interaction?.code)
    const who = whoOf(access, shape)
    const data = dataEntity(access, shape, base, source)
    const outcome =
      `${formatTime(access.recorded)}","outcome":"${access.outcome}",` +
      (access.reason === undefined ? '' : `"outcomeDesc":${text(access.reason)},`)
    const isSuccess = access.outcome === '0'

    const { alert } = access
    const write = (patient: string | undefined, omitted: number, start = ''): string => {
      const profiles =
        isSuccess && start === '' ? profilesOf(access, shape, data.complete, patient) : ''
      const transaction = transactionEntity(access, omitted, formatDetail)
      return (
        `{"resourceType":"AuditEvent"${profiles}${start === '' ? `${head.plain}${outcome}` : start}${who}` +
        `${data.json},${patient === undefined ? '' : `${patientEntity(patient)},`}${transaction}]}`
      )
    }

    const startOf = (what: NonNullable<AuditedAccess['alert']>): string =>
      what === 'emergency'
        ? head.emergency + outcome
        : `${head.alert}${formatTime(access.recorded)}","outcome":"8","outcomeDesc":"${what}",`
    const alerts = alert === undefined ? [] : [write(patients[0], 0, startOf(alert))]
    if (patients.length === 0) return [write(undefined, 0), ...alerts]
    const omitted = Math.max(0, patients.length - patientsPerSearch)
    const events = patients.slice(0, patientsPerSearch).map((patient) => write(patient, 0))
    // Over the cap: say so, once, rather than let the rest vanish.
    if (omitted > 0) events.push(write(undefined, omitted))
    return [...events, ...alerts]
  }
}

type Who = Pick<AuditedAccess, 'principal' | 'address'>
type Known = { readonly shape: Shape; readonly address: string; readonly text: string }

/** From `type` up to the time: what only the interaction decides; `emergency` when glass was broken. */
function formatHead(
  code: InteractionCode | undefined,
): Readonly<Record<'plain' | 'alert' | 'emergency', string>> {
  const [{ action }, subtype] = code === undefined ? [OTHER, undefined] : SHAPES[code]
  const tail = `"action":"${action}","recorded":"`
  const restful =
    subtype === undefined
      ? ''
      : `"subtype":[{"system":"http://hl7.org/fhir/restful-interaction","code":"${subtype}","display":"${subtype}"}],`
  return {
    plain: flat(`,"type":${RESTFUL_OPERATION},${restful}${tail}`),
    alert: flat(`,"type":${SECURITY_ALERT},${restful}${tail}`),
    emergency: flat(`,"type":${SECURITY_ALERT},"subtype":[${EMERGENCY_OVERRIDE}],${tail}`),
  }
}

/** An instant: those of one second differ in their milliseconds alone. */
function createTimeFormat(): (milliseconds: number) => string {
  let second = NaN
  let start = ''
  return (milliseconds) => {
    const now = Math.floor(milliseconds / 1000)
    if (now !== second) {
      second = now
      start = new Date(now * 1000).toISOString().slice(0, -4)
    }
    return `${start}${String(1000 + Math.floor(milliseconds - now * 1000)).slice(1)}Z`
  }
}

/** Remembers every answer: for questions of a closed set. */
function createRecall<Question, Answer>(
  find: (question: Question) => Answer,
): (question: Question) => Answer {
  const known = new Map<Question, Answer>()
  return (question) => {
    let answer = known.get(question)
    if (answer === undefined) {
      answer = find(question)
      known.set(question, answer)
    }
    return answer
  }
}

/**
 * The same text in one piece. The engine keeps a concatenation as the tree of its parts, and walks
 * all of it whenever the text is written as part of a record; by way of bytes that tree is lost.
 */
function flat(parts: string): string {
  return Buffer.from(parts).toString()
}

/** `meta`: the profiles that the event really meets. */
function profilesOf(
  access: AuditedAccess,
  shape: Shape,
  complete: boolean,
  patient: string | undefined,
): string {
  const profiles: string[] = []
  if (shape.profile !== undefined && complete) {
    profiles.push(`"${PROFILE}${patient === undefined ? '' : 'Patient'}${shape.profile}"`)
  }
  const who = access.principal
  if (who?.clientId !== undefined && (who.kind === 'system' || who.tokenId !== undefined)) {
    profiles.push(`"${PROFILE}OAUTHaccessTokenUse.Comprehensive"`)
  } else if (who?.tokenId !== undefined && isUser(who)) {
    profiles.push(`"${PROFILE}OAUTHaccessTokenUse.Minimal"`)
  } else if (who?.tokenEnd !== undefined && isUser(who)) {
    profiles.push(`"${PROFILE}OAUTHaccessTokenUse.Opaque"`)
  }
  return profiles.length === 0 ? '' : `,"meta":{"profile":[${profiles.join(',')}]}`
}

/** The client, the OAuth client where that is another role, and the user; each after a comma. */
function agentsOf({ principal, address }: Who, shape: Shape): string {
  const who =
    principal?.clientId === undefined
      ? // BALP wants `who` on the client; the address is all that is known of this one.
        `"who":{"identifier":{"value":${text(address === '' ? 'unknown' : address)}}}`
      : `"who":{"identifier":{"value":${text(principal.clientId)}}}`
  const network = `"network":{"address":${text(address === '' ? 'unknown' : address)},"type":"${/^[\d.]+$|:/.test(address) ? '2' : '1'}"}`
  const policy = policyOf(principal)
  const own = isUser(principal) ? '' : policy
  let agents = `,{"type":${concept(shape.client)},${who},"requestor":${String(!isUser(principal))}${own},${network}}`
  if (principal === undefined) return agents
  // OAUTHaccessTokenUse asks for the client as 110150; a delete has it in that role already.
  if (principal.clientId !== undefined && shape.client !== APPLICATION) {
    agents += `,{"type":${concept(APPLICATION)},${who},"requestor":false,${network}}`
  }
  if (isUser(principal) && principal.subject !== undefined) {
    agents +=
      `,{"type":{"coding":[${userTypes(principal, shape)}]}` +
      (principal.roles.length === 0
        ? ''
        : `,"role":[${principal.roles.map((role) => `{"text":${text(role)}}`).join(',')}]`) +
      `,"who":{"identifier":{"system":${text(principal.issuer)},"value":${text(principal.subject)}}}` +
      `,"requestor":true${policy}}`
  }
  return agents
}

/** Whether a user is recorded as the requestor; else the client is. */
function isUser(principal: AuditedAccess['principal']): boolean {
  return principal?.kind === 'user' && principal.subject !== undefined
}

/** A write names its author, and the OAuth profile wants the recipient of information besides. */
function userTypes(principal: NonNullable<AuditedAccess['principal']>, shape: Shape): string {
  const types = [RECIPIENT]
  if (shape.action !== 'R' && shape.action !== 'E') {
    types.unshift(AUTHOR)
  }
  if (principal.clientId === undefined || principal.tokenId === undefined) {
    types.push(OAUTH_USER)
  }
  return types.join(',')
}

/** The token that was used: its id, or the end of it, never the whole (AUD-5). */
function policyOf(principal: AuditedAccess['principal']): string {
  if (principal?.tokenId !== undefined) {
    return `,"policy":[${uri(`urn:ietf:params:oauth:jti:${principal.tokenId}`)}]`
  }
  if (principal?.tokenEnd !== undefined) return `,"policy":[${text(principal.tokenEnd.slice(-32))}]`
  return ''
}

function purposesOf(principal: AuditedPrincipal | undefined): string {
  if (principal === undefined || principal.purposes.length === 0) return ''
  const purposes = principal.purposes.map((purpose) => `{"coding":[${purposeOf(purpose)}]}`)
  return `"purposeOfEvent":[${purposes.join(',')}],`
}

const ACT_REASON = 'http://terminology.hl7.org/CodeSystem/v3-ActReason'

/** A purpose of another vocabulary stands behind its system: it is none of v3-ActReason. */
function purposeOf(purpose: string): Coding {
  const [, system = ACT_REASON, code = ''] = /^(?:([^]+)\|)?([^]*)$/.exec(purpose) ?? []
  return `{"system":${uri(system)},"code":${text(code.trim().replace(/\s+/g, ' '))}}`
}

/** What was accessed: the resource, or the query that asked for resources. */
function dataEntity(
  access: AuditedAccess,
  shape: Shape,
  base: string,
  source: AuditSource,
): { json: string; complete: boolean } {
  const isQuery = shape.action === 'E'
  const reference = isQuery ? undefined : (access.resource ?? referenceOf(access.interaction))
  if (reference !== undefined) {
    return { json: `${DOMAIN_RESOURCE}${text(reference)}}}`, complete: true }
  }
  // Profile Query: no `what`, no `lifecycle`, no `detail`. Of a create that failed, or a conditional
  // write that met nothing, the request is what is known.
  const query = Buffer.from(rawRequest(access, base, source)).toString('base64')
  return { json: `${QUERY_TEXT}${query}"}`, complete: isQuery }
}

function referenceOf(interaction: Interaction | undefined): string | undefined {
  if (interaction?.type === undefined || interaction.id === undefined) return undefined
  const version = interaction.versionId === undefined ? '' : `/_history/${interaction.versionId}`
  return `${interaction.type}/${interaction.id}${version}`
}

function patientEntity(id: string): string {
  return `{"what":{"reference":${text(`Patient/${id}`)}${IS_PATIENT}`
}

/** The request id (AUD-7), and with it what was counted and decided. */
function transactionEntity(
  { requestId, details }: AuditedAccess,
  omitted: number,
  formatDetail: (detail: AuditDetail) => string,
): string {
  let written = ''
  for (const detail of details) written += formatDetail(detail)
  if (omitted > 0) written += formatDetail(['patients-not-recorded', omitted])
  const detail = written === '' ? '' : `,"detail":[${written.slice(1)}]`
  return `{"what":{"identifier":{"value":${text(requestId)}${IS_REQUEST_ID}${detail}}`
}

/** Each detail after a comma. */
function createDetailFormat(): (detail: AuditDetail) => string {
  const nameOf = createRecall((name: string) => flat(`,{"type":${text(name)},"valueString":"`))
  return ([name, value]) => `${nameOf(name)}${typeof value === 'number' ? value : escaped(value)}"}`
}

/**
 * BALP volume 1, 52.4.1.4: method, URL, the headers that matter, and the body of a POST. Whoever has no
 * token writes here as well, and a search writes it once for each patient. So each part has an end, and
 * nothing behind it is looked at; a form that was longer can still be proved, by the hash of its rest
 * (only forms that are searches come so far, and no search has a credential among its names).
 */
function rawRequest(
  { request, requestId }: AuditedAccess,
  base: string,
  { withoutCredentials, targetBytes }: AuditSource,
): string {
  const write = (part: string, most: number, proof = ''): string =>
    part.length <= most
      ? withoutCredentials(part)
      : `${withoutCredentials(part.slice(0, most))}[and ${part.length - most} more${proof}]`
  const { method, target, accept, body } = request
  const line = `${write(method, LONGEST_METHOD)} ${base}${write(target, targetBytes)}`
  const header = accept === undefined ? '' : `\nAccept: ${write(accept, LONGEST_ACCEPT)}`
  const form = body === undefined ? '' : `\n\n${write(body, LONGEST_FORM, proofOf(body))}`
  return `${line}${header}\nX-Request-Id: ${requestId}${form}`
}

const LONGEST_METHOD = 32
/** Enough for every list of FHIR media types with their versions. */
const LONGEST_ACCEPT = 256
const LONGEST_FORM = 4096

function proofOf(form: string): string {
  return form.length <= LONGEST_FORM ? '' : `, sha256 ${hash('sha256', form.slice(LONGEST_FORM))}`
}

/**
 * Formats search parameters as a form, as the client could have sent them: the request of a search by
 * POST, whose body was read into parameters.
 */
export function formatForm(parameters: readonly Parameter[]): string {
  return parameters
    .map((parameter) => `${nameOf(parameter)}=${lastOf(parameter).values.map(encoded).join(',')}`)
    .join('&')
}

function nameOf({ name, modifier, chain }: Parameter): string {
  const own = modifier === undefined ? name : `${name}:${modifier}`
  return chain === undefined ? own : `${own}.${nameOf(chain)}`
}

/** A chain has its values at its end; one without, at its head. */
function lastOf(parameter: Parameter): Parameter {
  const { chain } = parameter
  return chain === undefined || parameter.values.length > 0 ? parameter : lastOf(chain)
}

function encoded(value: string): string {
  return encodeURIComponent(value.toWellFormed())
}

/** What RFC 8259 §7 wants escaped, surrogates, which may be lone, and what says nothing. */
const UNPLAIN = /["\\\u0000-\u001f\ud800-\udfff]|^\s*$/
/** "Strings SHOULD not contain Unicode character points below 32, except for u0009, u000D and u000A". */
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g

/**
 * A FHIR string, as JSON. What none may hold becomes U+FFFD: lone surrogates, so that its bytes are its
 * text, and control characters; so does one that "SHALL always contain non-whitespace content" and has none.
 */
function text(value: string): string {
  return `"${escaped(value)}"`
}

function escaped(value: string): string {
  if (!UNPLAIN.test(value)) return value
  const fit = value.toWellFormed().replace(CONTROL, '\ufffd')
  return JSON.stringify(fit.trim() === '' ? '\ufffd' : fit).slice(1, -1)
}

/** A FHIR uri, as JSON: it has no blanks. */
function uri(value: string): string {
  return text(value.replace(/\s/g, encodeURIComponent))
}

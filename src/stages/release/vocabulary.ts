import { compileNames } from '../../json/names.ts'
import type { Names } from '../../json/names.ts'
import { ASK } from '../../json/notice.ts'
import type { Notice } from '../../json/notice.ts'
import type { Definitions, FhirVersion } from '../../fhir/definitions.ts'
import { loadElements } from '../../fhir/elements.ts'
import { buildOutline } from './outline.ts'
import { buildCodings } from './mask/codes.ts'
import type { Confidentiality } from '../../permit.ts'
import { FORMS } from './forms.ts'
import type { Form } from './forms.ts'

/** The member names that decide something; the first 32 show in an object's flags. */
const LIST = [
  'system',
  'value',
  'type',
  '_value',
  'reference',
  'data',
  'resourceType',
  'id',
  'meta',
  'security',
  'code',
  'coding',
  'identifier',
  'url',
  'fullUrl',
  'contained',
  'text',
  'versionId',
  'entry',
  'resource',
  'search',
  'request',
  'response',
  'link',
  'extension',
  'subject',
  'patient',
  'dimensions',
  'signature',
  'div',
  'contentType',
  'name',
  'telecom',
  'address',
  'birthDate',
  'photo',
  'contact',
  'note',
  'valueCode',
  'valueUri',
  'valueUrl',
  'valueCanonical',
  'source',
  'timestamp',
  'mode',
  'state',
  'country',
  'use',
  'deceasedDateTime',
  'instantiatesUri',
  'profile',
  'uri',
  '_birthDate',
  '_data',
  'family',
  'given',
  'status',
  'etag',
  'lastModified',
  'lastUpdated',
  'method',
  'score',
  'valueBase64Binary',
  'valueAddress',
  'period',
  '_deceasedDateTime',
  'masterIdentifier',
  'groupIdentifier',
  'accessionIdentifier',
  'preAdmissionIdentifier',
  'definitionIdentifier',
  'valueIdentifier',
  'requisition',
  'authorString',
  'valueHumanName',
  'valueContactPoint',
  'subscriberId',
  'udiCarrier',
  'serialNumber',
  'lotNumber',
  'distinctIdentifier',
  'tag',
  'relation',
  'target',
  'version',
  'unit',
  'comparator',
  'display',
  'location',
  'query',
  'carrierAIDC',
  'blob',
  'content',
  'detail',
] as const

export type Word = (typeof LIST)[number]

export type Vocabulary = {
  readonly names: Names
  readonly at: Readonly<Record<Word, number>>
  /** By name plus one: strings that are not searched for secrets. */
  readonly unscanned: Uint8Array
  /** By name plus one: strings that are looked at whatever is in them: ADDRESS, BASE64, BASED. */
  readonly notable: Uint8Array
  /** Whether the value of a `detail` is base64: of an AuditEvent before R4. */
  readonly isDetailOpaque: boolean
  /** What says that something was done to a resource, by the bits of CODE. */
  readonly codings: readonly string[]
  /** What a scan notes for the baseline; upstream's base is the prefix of its addresses. */
  readonly noticeOf: (prefix: string) => Notice
  readonly types: Names
  /** Paths that are followed in every resource. */
  readonly security: readonly number[]
  readonly typeCoding: readonly number[]
  /** Patient paths of a type, as numbers. */
  readonly patientPaths: (type: string) => readonly (readonly number[])[]
}

/** One numbering for all names: those release looks for, patient paths included, then all of FHIR's. */
export function buildVocabulary(
  definitions: Definitions,
  elements = loadElements(definitions.version),
): Vocabulary {
  const paths = new Map(
    [...definitions.types].map((type) => [type, definitions.patientPaths(type)]),
  )
  const words = new Set<string>([...LIST, ...[...paths.values()].flat(2)])
  // No object may have one of these twice.
  if (words.size > MOST_UNIQUE) throw new RangeError(`more than ${MOST_UNIQUE} names`)
  for (const key of elements.keys()) words.add(key)
  const names = compileNames([...words])
  const at = Object.fromEntries(LIST.map((word) => [word, names.id(word)])) as Record<Word, number>
  const compiled = new Map(
    [...paths].map(([type, list]) => [
      type,
      list.map((path) => path.map((name) => names.id(name))),
    ]),
  )
  const size = names.list.length
  const notable = markNames(size, [
    ...[...elements.keysOf(URIS)].map(
      (key) => [names.id(key), NAMING.has(key) ? 0 : BASED] as const,
    ),
    ...ADDRESSES.map((word) => [at[word], ADDRESS] as const),
    ...opaqueOf(definitions.version).map((word) => [at[word], BASE64] as const),
  ])
  const unscanned = markNames(
    size,
    UNSCANNED.map((word) => [at[word], 1]),
  )
  const asked = notable.map(
    (mark, name) =>
      // A narrative may have pictures in it, without a digit.
      (mark === BASE64 || name === at.div + 1 ? ASK.always : mark === 0 ? 0 : ASK.prefixed) |
      (unscanned[name] === 0 ? 0 : ASK.unsearched) |
      (name === at.text + 1 ? ASK.object : 0),
  )
  const members = [
    (1 << at.value) | (1 << at._value) | (1 << at.extension),
    (1 << at.system) | (1 << at.type),
    1 << at.data,
  ] as const
  const outline = buildOutline(
    names,
    new Set([...paths.values()].flat().map(([head = '']) => head)),
  )
  return {
    names,
    at,
    unscanned,
    notable,
    isDetailOpaque: isBeforeR4(definitions.version),
    codings: buildCodings(
      isBeforeR4(definitions.version)
        ? 'http://hl7.org/fhir/v3/ObservationValue'
        : 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue',
    ),
    noticeOf: (prefix) => ({ asked, prefix, members, outline }),
    types: compileNames([...definitions.types]),
    security: [at.meta, at.security],
    typeCoding: [at.type, at.coding],
    patientPaths: (type) => compiled.get(type) ?? [],
  }
}

const MOST_UNIQUE = 128

/** An address, whatever is in it. */
export const ADDRESS = 1
export const BASE64 = 2
/** An address where it begins with our base or upstream's; else it may be a text. */
export const BASED = 3

function markNames(
  size: number,
  names: readonly (readonly [name: number, mark: number])[],
): Uint8Array {
  const table = new Uint8Array(size + 1)
  for (const [name, mark] of names) table[name + 1] = mark
  return table
}

/** Base64: nobody can look into it. */
const OPAQUE: readonly Word[] = ['data', 'valueBase64Binary', 'query', 'carrierAIDC', 'blob']

/** Before R4 a Binary has its bytes in `content`. */
function opaqueOf(version: FhirVersion): readonly Word[] {
  return isBeforeR4(version) ? [...OPAQUE, 'content'] : OPAQUE
}

const isBeforeR4 = (version: FhirVersion): boolean => version === 'DSTU2' || version === 'STU3'

/**
 * §9.2: numbers that look like cards stand here by the thousand and are none. Of `data`, only the
 * samples of an ECG and the like are left.
 */
const UNSCANNED: readonly Word[] = [
  ...(['id', 'reference', 'system', 'code', 'url', 'fullUrl', 'versionId', 'data'] as const),
]

const ADDRESSES: readonly Word[] = [
  ...(['reference', 'url', 'fullUrl', 'location', 'uri', 'source', 'instantiatesUri'] as const),
  ...(['valueUri', 'valueUrl', 'valueCanonical'] as const),
]

const URIS: ReadonlySet<string> = new Set(['uri', 'url', 'canonical'])
/** Of these types, but names to compare and to search by: nobody follows them. */
const NAMING: ReadonlySet<string> = new Set(['system', 'code'])

/** A set of names as a table: 1 by name plus one. */
export type NameSet = Uint8Array
export const isIn = (set: NameSet, name: number): boolean => set[name + 1] === 1

/** What stays of a part beside the resource, and whether addresses are in it. */
export type Beside = { readonly kept: NameSet; readonly hasAddress: boolean }

/** What stays beside the resources of a Bundle. */
export type BundleWords = {
  readonly entry: NameSet
  /** An entry of whose resource the id is masked. */
  readonly nameless: NameSet
  /** By name plus one. */
  readonly besideOf: readonly (Beside | undefined)[]
  /** By name plus one: the form of what stays of those. */
  readonly formOf: readonly (Form | undefined)[]
  /** Looked into further; any other kept member must be a simple value. */
  readonly nested: NameSet
}

export function buildBundleWords({ at }: Vocabulary): BundleWords {
  const numbers = (...words: Word[]): NameSet =>
    markNames(
      MOST_UNIQUE,
      words.map((word) => [at[word], 1]),
    )
  const besideOf: (Beside | undefined)[] = Array.from({ length: MOST_UNIQUE + 1 }, () => undefined)
  besideOf[at.search + 1] = { kept: numbers('mode', 'score'), hasAddress: false }
  besideOf[at.request + 1] = { kept: numbers('method', 'url'), hasAddress: true }
  besideOf[at.response + 1] = {
    kept: numbers('status', 'location', 'etag', 'lastModified'),
    hasAddress: true,
  }
  const formOf: (Form | undefined)[] = Array.from({ length: MOST_UNIQUE + 1 }, () => undefined)
  for (const [word, form] of Object.entries(FORMS))
    formOf[at[word as keyof typeof FORMS] + 1] = form
  return {
    formOf,
    entry: numbers('fullUrl', 'resource', 'search', 'request', 'response'),
    nameless: numbers('resource', 'search'),
    besideOf,
    nested: numbers('link', 'entry', 'resource', 'search', 'request', 'response'),
  }
}

/** Stands where a masked value stood (requirements §9.3). */
export const DATA_ABSENT_EXTENSION =
  '{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}'

/** Stands where an address with content in it stood (RFC 2397): one with none. */
export const EMPTY_CONTENT = 'data:,'

export const CONFIDENTIALITIES: readonly Confidentiality[] = ['U', 'L', 'M', 'N', 'R', 'V']

/**
 * A code system as the sets below have it: servers write one URI with `https`, `www`, capitals, a version
 * or a slash at the end, and mean the same.
 */
export function systemOf(text: string | undefined): string {
  if (text === undefined) return ''
  return SPELLED.get(text) ?? normalize(text)
}

function normalize(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replace(/^https?:\/\/(?:www\.)?/, 'http://')
    .replace(/\/?(\|.*)?$/, '')
}

/** HL7 has had it in several places, and as a value set; all of them mean the same. */
export const CONFIDENTIALITY_SYSTEM =
  /^http:\/\/(?:terminology\.)?hl7\.org\/(?:.*[/-])?confidentiality$|^(?:urn:oid:)?2\.16\.840\.1\.113883\.5\.25$/

/** The same of v3-ActCode, and of the part of it that is about sensitivity. */
export const ACT_CODE_SYSTEM =
  /^http:\/\/(?:terminology\.)?hl7\.org\/(?:.*[/-])?(?:actcode|(?:act)?informationsensitivitypolicy)$|^(?:urn:oid:)?2\.16\.840\.1\.113883\.5\.4$/

/**
 * ActCodes that say how to handle data (ObligationPolicy and RefrainPolicy of HL7 v3-ActCode), not
 * what is sensitive about it: no clearance needed. Any other code needs clearance, known or not; NOPAT
 * among them, which says who may not see it.
 */
export const HANDLING = new Set(
  (
    'ANONY AOD AUDIT AUDTR CPLYPOL CPLYCC CPLYCD CPLYCUI CPLYJPP CPLYJSP CPLYOPP CPLYOSP ' +
    'DECLASSIFYLABEL DEID DELAU DOWNGRDLABEL DRIVLABEL ENCRYPT ENCRYPTR ENCRYPTT ENCRYPTU HUAPRV ' +
    'LABEL MASK MINEC PERSISTLABEL PRIVMARK CUIMark PSEUD REDACT UPGRDLABEL PROCESSINLINELABEL ' +
    'NOAUTH NOCOLLECT NODSCLCD NODSCLCDS NOINTEGRATE NOLIST NOMOU NOORGPOL NOPERSISTP ' +
    'NORDSCLCD NORDSCLCDS NORDSCLW NORELINK NOREUSE NOVIP ORCON'
  ).split(' '),
)

/** What v3-ActCode says of sensitivity (InformationSensitivityPolicy), and NOPAT: so also without a system. */
export const SENSITIVITIES: ReadonlySet<string> = new Set(
  (
    'ETH GDIS HIV MST PREGNANT SCA SDV SEX SPI BH COGN DVD EMOTDIS MH PSY PSYTHPN SUD ETHUD OPIOIDUD ' +
    'STD TBOO VIO IDS DEMO DOB GENDER LIVARG MARST PATLOC RACE REL B EMPL LOCIS SSP ADOL CEL VIP DIA ' +
    'DRGIS EMP PDS PHY PRS NOPAT'
  ).split(' '),
)

export const SSN_SYSTEMS = new Set([
  'http://hl7.org/fhir/sid/us-ssn',
  'urn:oid:2.16.840.1.113883.4.1',
  '2.16.840.1.113883.4.1',
])

/** HL7 v2-0203 codes of identifiers that are secrets. */
export const SECRET_TYPES: ReadonlyMap<string, 'ssn' | 'payment-card'> = new Map([
  ['SS', 'ssn'],
  ...['BC', 'AM', 'DI', 'DS', 'MS', 'VS'].map((code) => [code, 'payment-card'] as const),
])

/** The usual spelling of each system above, so that it need not be normalized again and again. */
const SPELLED = new Map(
  [
    'http://terminology.hl7.org/CodeSystem/v3-Confidentiality',
    'http://terminology.hl7.org/CodeSystem/v3-ActCode',
    'http://terminology.hl7.org/CodeSystem/v3-ObservationValue',
    'http://terminology.hl7.org/CodeSystem/v2-0203',
    'http://hl7.org/fhir/v2/0203',
    'http://hl7.org/fhir/sid/us-ssn',
  ].map((system) => [system, normalize(system)]),
)

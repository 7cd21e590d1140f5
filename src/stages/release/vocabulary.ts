import { compileNames } from '../../json/scan.ts'
import type { Names } from '../../json/scan.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import type { Confidentiality } from '../../permit.ts'

/** The member names that decide something; the first 32 show in an object's flags. */
const LIST = [
  'system',
  'value',
  'type',
  '_value',
  'reference',
  'display',
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
  'location',
  'contained',
  'text',
  'versionId',
  'entry',
  'resource',
  'contentType',
  'name',
  'telecom',
  'address',
  'birthDate',
  'photo',
  'contact',
  'extension',
  'note',
  'valueCode',
  'valueUri',
  'valueUrl',
  'valueCanonical',
  'source',
  'link',
  'total',
  'timestamp',
  'search',
  'request',
  'response',
  'mode',
  'state',
  'country',
  'use',
  'deceasedDateTime',
  'instantiatesUri',
  'profile',
  'uri',
  '_birthDate',
  'hash',
  'line',
  'signature',
] as const

export type Word = (typeof LIST)[number]

export type Vocabulary = {
  readonly names: Names
  readonly at: Readonly<Record<Word, number>>
  /** Patient paths of a type, as numbers. */
  readonly patientPaths: (type: string) => readonly (readonly number[])[]
}

/** One numbering for all the names release looks for, patient paths included. */
export function buildVocabulary(definitions: Definitions): Vocabulary {
  const paths = new Map(
    [...definitions.types].map((type) => [type, definitions.patientPaths(type)]),
  )
  const words = new Set<string>([...LIST, ...[...paths.values()].flat(2)])
  const names = compileNames([...words])
  const at = Object.fromEntries(LIST.map((word) => [word, names.id(word)])) as Record<Word, number>
  const compiled = new Map(
    [...paths].map(([type, list]) => [
      type,
      list.map((path) => path.map((name) => names.id(name))),
    ]),
  )
  return { names, at, patientPaths: (type) => compiled.get(type) ?? [] }
}

export const CONFIDENTIALITIES: readonly Confidentiality[] = ['U', 'L', 'M', 'N', 'R', 'V']

export const CONFIDENTIALITY_SYSTEMS = new Set([
  'http://terminology.hl7.org/CodeSystem/v3-Confidentiality',
  'http://hl7.org/fhir/v3/Confidentiality',
  'urn:oid:2.16.840.1.113883.5.25',
])

export const ACT_CODE_SYSTEMS = new Set([
  'http://terminology.hl7.org/CodeSystem/v3-ActCode',
  'http://hl7.org/fhir/v3/ActCode',
  'urn:oid:2.16.840.1.113883.5.4',
])

/** ActCodes that say how to handle data, not what is sensitive about it: no clearance needed. */
export const HANDLING =
  /^(ANONY|AOD|AUDIT|AUDTR|CPLY.*|DECLASSIFYLABEL|DEID|DELAU|DOWNGRDLABEL|DRIVLABEL|ENCRYPT.?|HUAPRV|LABEL|MASK|MINEC|PERSISTLABEL|PRIVMARK|CUIMark|PROCESSINLINELABEL|PSEUD|REDACT|UPGRDLABEL|NO.*)$/

export const SSN_SYSTEMS = new Set([
  'http://hl7.org/fhir/sid/us-ssn',
  'https://hl7.org/fhir/sid/us-ssn',
  'urn:oid:2.16.840.1.113883.4.1',
  '2.16.840.1.113883.4.1',
])

export const IDENTIFIER_TYPE_SYSTEMS = new Set([
  'http://terminology.hl7.org/CodeSystem/v2-0203',
  'http://hl7.org/fhir/v2/0203',
  'urn:oid:2.16.840.1.113883.18.108',
])

/** HL7 v2-0203 codes of identifiers that are secrets. */
export const SECRET_TYPES: ReadonlyMap<string, 'ssn' | 'payment-card'> = new Map([
  ['SS', 'ssn'],
  ...['BC', 'AM', 'DI', 'DS', 'MS', 'VS'].map((code) => [code, 'payment-card'] as const),
])

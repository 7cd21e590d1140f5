/** Who asks and what for, as UDAP and IHE IUA put it into the `extensions` claim of a token. */
import { compilePath, parseText } from './claims.ts'
import type { Claims } from './claims.ts'

export type Asserted = {
  readonly roles: readonly string[]
  readonly purposes: readonly string[]
  readonly organization: string | undefined
  /** What else is said of the person and their consent; absent = nothing. */
  readonly identity?: Identity
}

/** Said by the issuer of the person behind a token, and of the consents that it acts on. */
export type Identity = {
  readonly subjectName: string | undefined
  readonly homeCommunity: string | undefined
  readonly nationalProvider: string | undefined
  readonly person: string | undefined
  /** Policies that were consented to (`consent_policy`, BPPC `acp`), and where the consents are. */
  readonly consentPolicies: readonly string[]
  readonly consentReferences: readonly string[]
  /** BPPC `patient_id`: whose consent it is. */
  readonly consentPatient: string | undefined
}

const readB2b = compilePath('extensions.hl7-b2b')
const readIua = compilePath('extensions.ihe_iua')
const readBppc = compilePath('extensions.ihe_bppc')

const NOTHING: Asserted = { roles: [], purposes: [], organization: undefined }

/** The systems of v3-ActReason: a code of another one may be spelled alike and mean something else. */
const ACT_REASON: ReadonlySet<string> = new Set([
  'http://terminology.hl7.org/CodeSystem/v3-ActReason',
  'http://hl7.org/fhir/v3/ActReason',
  'urn:oid:2.16.840.1.113883.5.8',
  '2.16.840.1.113883.5.8',
])

/**
 * Reads `extensions.hl7-b2b` (UDAP B2B Authorization Extension Object), `extensions.ihe_iua` and
 * `extensions.ihe_bppc` (IHE ITI-71 §3.71.4.2.2.1). What has not its form is left out: it grants nothing.
 */
export function parseExtensions(claims: Claims): Asserted {
  const [b2b, iua, bppc] = [readB2b(claims), readIua(claims), readBppc(claims)]
  if (b2b === undefined && iua === undefined && bppc === undefined) return NOTHING
  const of = (from: unknown, name: string): unknown =>
    typeof from === 'object' && from !== null && Object.hasOwn(from, name)
      ? (from as Claims)[name]
      : undefined
  const both = (name: string): readonly Code[] => [
    ...parseList(of(b2b, name)),
    ...parseList(of(iua, name)),
  ]
  return {
    purposes: both('purpose_of_use').map(formatPurpose),
    roles: both('subject_role').map(({ code }) => code),
    organization:
      parseText(of(b2b, 'organization_id')) ??
      parseText(of(iua, 'subject_organization_id')) ??
      parseText(of(iua, 'subject_organization')),
    identity: {
      subjectName: parseText(of(b2b, 'subject_name')) ?? parseText(of(iua, 'subject_name')),
      homeCommunity: parseText(of(iua, 'home_community_id')),
      nationalProvider: parseText(of(iua, 'national_provider_identifier')),
      person: parseText(of(b2b, 'subject_id')) ?? parseText(of(iua, 'person_id')),
      consentPolicies: [...parseTexts(of(b2b, 'consent_policy')), ...parseTexts(of(bppc, 'acp'))],
      consentReferences: [
        ...parseTexts(of(b2b, 'consent_reference')),
        ...parseTexts(of(bppc, 'doc_id')),
      ],
      consentPatient: parseText(of(bppc, 'patient_id')),
    },
  }
}

const parseTexts = (value: unknown): readonly string[] =>
  (Array.isArray(value) ? value : [value]).flatMap((one: unknown) => parseText(one) ?? [])

type Code = { readonly system: string | undefined; readonly code: string }

function parseList(value: unknown): readonly Code[] {
  return (Array.isArray(value) ? value : [value]).flatMap((item: unknown) => parseCode(item) ?? [])
}

/** UDAP: `system#code` in one text; IUA: a Coding. */
function parseCode(item: unknown): Code | undefined {
  if (typeof item === 'string' && item !== '') {
    const hash = item.lastIndexOf('#')
    const code = item.slice(hash + 1)
    return code === '' ? undefined : { system: hash < 1 ? undefined : item.slice(0, hash), code }
  }
  if (typeof item !== 'object' || item === null) return undefined
  const { system, code } = item as Claims
  const text = parseText(code)
  return text === undefined ? undefined : { system: parseText(system), code: text }
}

/** A purpose of another vocabulary keeps its system, so that no policy takes it for one it knows. */
function formatPurpose({ system, code }: Code): string {
  return system === undefined || ACT_REASON.has(system) ? code : `${system}|${code}`
}

import type { Conditions } from './http/validators.ts'
import type { ElementPath } from './fhir/definitions.ts'
import type { Interaction, Parameter } from './fhir/interaction.ts'
import type { LinesShape, OperationShape } from './fhir/operations.ts'
import type { SmartLetter } from './oauth/smart-scope.ts'

/** HL7 v3-Confidentiality, low to high. */
export type Confidentiality = 'U' | 'L' | 'M' | 'N' | 'R' | 'V'

/**
 * How sensitive a resource the caller may see (LABEL-4). A resource is withheld when its
 * confidentiality is above `confidentiality`, or carries a sensitivity code (v3-ActCode) outside
 * the closed-over set `sensitivities`.
 */
export type Clearance = {
  readonly confidentiality: Confidentiality
  readonly sensitivities: ReadonlySet<string>
}

/** The criteria of a granular scope (SCOPE-7), compiled. */
export type Criteria = {
  readonly parameters: readonly Parameter[]
  /** Whether they hold for a parsed resource; pure, never throws, false when in doubt. */
  readonly hold: (resource: unknown) => boolean
}

/** Masking profiles by name, `baseline` always among them; the release stage compiles them once. */
export type MaskingNames = ReadonlySet<string>

/** One way by which resources of a type are reached, and how they may be seen by it. */
export type Reach = {
  /** Only resources in this Patient's compartment; absent = no limit by compartment. */
  readonly patient?: string
  /** Only resources for which these hold. */
  readonly criteria?: Criteria
  readonly clearance: Clearance
  readonly masking: MaskingNames
}

/**
 * Access to the resources of one type: the union of what scopes and policies give at each level. A
 * resource is within it when one reach admits it, and is masked as mildly as those reaches allow; so
 * that one more scope never takes anything away (SCOPE-6).
 */
export type Grant = {
  /** Which SMART letters hold for this type. */
  readonly letters: ReadonlySet<SmartLetter>
  /** Never empty. */
  readonly reach: readonly Reach[]
  /** Names of the policy rules that permitted. */
  readonly rules: readonly string[]
  /** Largest page of a search; undefined = no limit by policy. */
  readonly results?: number | undefined
  /** Whether a policy keeps a search parameter from being used. */
  readonly forbids?: ((parameter: string) => boolean) | undefined
  /** For whom pseudonyms are made: the same for one client, of no use to another (MASK-12). */
  readonly recipient?: string
  /** Whether it is there only because glass was broken. */
  readonly isEmergency?: boolean
}

/** The patients that everything within a grant belongs to; undefined = there is no such limit. */
export function patientsOf(grant: Grant | undefined): readonly string[] | undefined {
  const patients = new Set<string>()
  if (grant === undefined) return undefined
  for (const { patient } of grant.reach) {
    if (patient === undefined) return undefined
    patients.add(patient)
  }
  return [...patients]
}

/** Whether all of it is limited by patient or criteria, so that nobody may be asked for the whole type. */
export const isLimited = ({ reach }: Grant): boolean =>
  reach.every(({ patient, criteria }) => (patient ?? criteria) !== undefined)

/** On what terms the access is permitted: everything `release` needs to judge what comes back. */
export type Terms = {
  /**
   * The grant for a type, or undefined: resources of that type are withheld. Pure and total; called
   * once for each resource that comes back.
   */
  readonly grantFor: (type: string) => Grant | undefined
  /** Whether the body of a write answer may be shown (SCOPE-4): needs the letter `r`. */
  readonly mayReadBack: boolean
  /** Whether resources of other types may come beside those asked for. */
  readonly hasOthers?: boolean
  /** Whether it is said that something was withheld: to who could break glass for it (BTG-2). */
  readonly tellsWithheld?: boolean | undefined
  /**
   * What was asked, by type, held once more against what is shown of a match of which something is masked,
   * and against the whole: it is found by nothing that does not show (MASK-9).
   */
  readonly shown?: ReadonlyMap<string, Shown> | undefined
  /** The links by which others come along with a match: what none of them shows to lead to stays. */
  readonly follows?: Follows | undefined
  /** What each resource is cut down to on its way out (`_elements`, `_summary`). */
  readonly trim?: Trim | undefined
}

/** What was asked of one type. */
export type Shown = {
  /** Whether what is masked is found as the whole was. */
  readonly holds: (masked: unknown, whole: unknown) => boolean
  /** It holds as long as these members of the resource are as they were; undefined = perhaps not even then. */
  readonly members: ReadonlySet<string> | undefined
}

/** A link that was to be followed, and where it leads: `Type/id`, or a canonical address. */
export type Link = {
  readonly to: string
  /** It brings along whose link it is, not where it leads. */
  readonly isReverse: boolean
  /** Not of matches alone. */
  readonly iterates: boolean
}

/** What was searched for, and the links of a resource, as it is shown, that were to be followed. */
export type Follows = {
  readonly types: ReadonlySet<string>
  readonly linksOf: (type: string, shown: unknown) => readonly Link[]
}

/** Whether a top-level element was asked for; what FHIR cannot do without comes along. */
export type Trim = (type: string, name: string) => boolean

/** A reference that is a search, and the names of the elements down to it. */
export type Searching = { readonly reference: string; readonly element: string }

/** What judging one resource against terms found; made by release, also asked by authorize. */
export type Inspection = {
  readonly type: string
  readonly id: string | undefined
  readonly versionId: string | undefined
  /** Why it must be withheld, or undefined: it may be released. */
  readonly withheld: 'type' | 'compartment' | 'criteria' | 'label' | undefined
  /** How many values masking would alter: more than 0 means the caller never saw the whole. */
  readonly masked: number
  /** Whether it carries our own mask marks (data-absent-reason `masked`, a rendered mask). */
  readonly marked: boolean
  /** Whether its labels say that values in it were masked, generalised or made pseudonyms (LABEL-6). */
  readonly altered: boolean
  /** Confidentiality label found (highest), N when there is none. */
  readonly confidentiality: Confidentiality
  /** Sensitivity codes found. */
  readonly sensitivities: readonly string[]
  /** Bare ids of the patients it is about. */
  readonly patients: readonly string[]
  /** Patients that any reference in it names: bare ids, or as it stands what only looks like one. */
  readonly named: readonly string[]
  /** What else of ours any reference in it names: `Type/id`, or as it stands what only looks like one. */
  readonly links: readonly string[]
  /** References in it that a server would answer as the searches they are. */
  readonly searches: readonly Searching[]
}

/** Judges the bytes of one JSON resource. Throws an error with reason `body-malformed`. */
export type Inspect = (terms: Terms, resource: Buffer) => Inspection

/** What an address of a bulk export leads to: the job itself, or one of its files. */
export type BulkKind = 'job' | LinesShape

/** A resource as who holds these terms would read it, but with addresses as upstream writes them. */
export type View = (terms: Terms, resource: Buffer) => Buffer

/** A resource that was sent, with addresses of ours as those of upstream; every other byte stays. */
export type Inward = (resource: Buffer) => Buffer

/** Whether masking by these profiles may alter what stands at, above or below an element of a type. */
export type Touches = (masking: MaskingNames, type: string, path: ElementPath) => boolean

/** Where a page begins: at an address of upstream's, or with the question, and behind one of its matches. */
export type Place = { readonly target?: string; readonly after?: string | undefined }

/** How an answer is cut into pages, so that none of them tells what is withheld (REST-11). */
export type Paging = {
  /** Matches on a page; undefined = as many as upstream makes it. */
  readonly size: number | undefined
  /** Whether that was found out with the first page. */
  readonly isSettled: boolean
  readonly place: Place
  /** Another page of the same answer. */
  readonly turn: (place: Place) => Permit
  /** What leads to another page, sealed for who asked. */
  readonly link: (place: Place, size: number | undefined) => string
}

/** Bulk Data Access. */
export type Bulk = {
  /** What the job began with. */
  readonly kickOff: Interaction
  /** Makes an address of ours out of one below the upstream base. */
  readonly link: (kind: BulkKind, target: string) => string
}

/** What a permit is made of. */
export type PermitFields = {
  /** The interaction as upstream will get it: narrowed, canonical. */
  readonly interaction: Interaction
  /** The interaction as the caller asked it (self links and audit speak of this one). */
  readonly requested: Interaction
  /** Request body to forward byte for byte, if any. */
  readonly body: Buffer | undefined
  /** `W/"vid"` that the write must meet upstream: the version that was judged. */
  readonly ifMatch?: string | undefined
  /** Nothing was there when it was judged, and nothing may be there upstream. */
  readonly isNew?: boolean | undefined
  /** What a read is to be spared by, if its caller has it. */
  readonly unless?: Conditions | undefined
  readonly terms: Terms
  /** Ids of the policy rules that permitted, for audit and trace. */
  readonly rules: readonly string[]
  /** Hash of the policies that permitted; others may be in force by the time that it is recorded. */
  readonly policies?: string | undefined
  /** Why glass was broken, in the words of who did it (BTG-3). */
  readonly breakGlass?: { readonly reason: string } | undefined
  /** Bare ids of the patients it is about, as far as is known before upstream is asked. */
  readonly patients?: readonly string[] | undefined
  /** Upstream's own address of a further page, in place of the interaction's. */
  readonly target?: { readonly path: string; readonly query: string } | undefined
  /** An answer that comes in pages. */
  readonly paging?: Paging | undefined
  readonly bulk?: Bulk | undefined
  /** operation: what comes back. */
  readonly shape?: OperationShape | undefined
  /** X-Provenance, judged as the create that it is. */
  readonly provenance?: string | undefined
  /** Media type of `body` when it is not a FHIR resource. */
  readonly contentType?: string | undefined
}

/**
 * The decision that an interaction may go forward, and on what terms. `forward` and `release` accept
 * nothing else, and only `stages/authorize` may call {@link Permit.issue} (held by
 * `test/architecture.test.ts`).
 */
export class Permit {
  readonly #genuine = true
  readonly interaction: Interaction
  readonly requested: Interaction
  readonly body: Buffer | undefined
  readonly ifMatch: string | undefined
  readonly isNew: boolean
  readonly unless: Conditions | undefined
  readonly terms: Terms
  readonly rules: readonly string[]
  readonly policies: string | undefined
  readonly breakGlass: { readonly reason: string } | undefined
  readonly patients: readonly string[]
  readonly shape: OperationShape | undefined
  readonly contentType: string | undefined
  readonly provenance: string | undefined
  readonly target: { readonly path: string; readonly query: string } | undefined
  readonly paging: Paging | undefined
  readonly bulk: Bulk | undefined

  /** What it was made of, for the permit of which it becomes a part. */
  readonly fields: PermitFields

  private constructor(fields: PermitFields) {
    this.fields = fields
    this.interaction = fields.interaction
    this.requested = fields.requested
    this.body = fields.body
    this.ifMatch = fields.ifMatch
    this.isNew = fields.isNew ?? false
    this.unless = fields.unless
    this.terms = fields.terms
    this.rules = fields.rules
    this.policies = fields.policies
    this.breakGlass = fields.breakGlass
    this.patients = fields.patients ?? []
    this.shape = fields.shape
    this.contentType = fields.contentType
    this.provenance = fields.provenance
    this.target = fields.target
    this.paging = fields.paging
    this.bulk = fields.bulk
  }

  static issue(fields: PermitFields): Permit {
    return new Permit(fields)
  }

  /** Whether `value` was really issued: a look-alike object is not a permit. */
  static isGenuine(value: unknown): value is Permit {
    return typeof value === 'object' && value !== null && #genuine in value
  }
}

import type { Interaction } from './fhir/interaction.ts'
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

/** Access to the resources of one type. */
export type Grant = {
  /** Which SMART letters hold for this type. */
  readonly letters: ReadonlySet<SmartLetter>
  /** Only resources in this Patient's compartment; absent = no limit by compartment. */
  readonly patient?: string
}

/** A masking profile by name; the release stage compiles it once. */
export type MaskingProfile = 'baseline' | 'de-identified'

/** On what terms the access is permitted: everything `release` needs to judge what comes back. */
export type Terms = {
  /**
   * The grant for a type, or undefined: resources of that type are withheld. Pure and total; called
   * once for each resource that comes back.
   */
  readonly grantFor: (type: string) => Grant | undefined
  readonly clearance: Clearance
  readonly masking: MaskingProfile
  /** Whether the body of a write answer may be shown (SCOPE-4): needs the letter `r`. */
  readonly mayReadBack: boolean
}

/** What judging one resource against terms found; made by release, also asked by authorize. */
export type Inspection = {
  readonly type: string
  readonly id: string | undefined
  readonly versionId: string | undefined
  /** Why it must be withheld, or undefined: it may be released. */
  readonly withheld: 'type' | 'compartment' | 'label' | undefined
  /** How many values masking would alter: more than 0 means the caller never saw the whole. */
  readonly masked: number
  /** Whether it carries our own mask marks (data-absent-reason `masked`, a rendered mask). */
  readonly marked: boolean
  /** Confidentiality label found (highest), N when there is none. */
  readonly confidentiality: Confidentiality
  /** Sensitivity codes found. */
  readonly sensitivities: readonly string[]
  /** Bare ids of the patients it is about. */
  readonly patients: readonly string[]
}

/** Judges the bytes of one JSON resource. Throws an error with reason `body-malformed`. */
export type Inspect = (terms: Terms, resource: Buffer) => Inspection

/** What a permit is made of. */
export type PermitFields = {
  /** The interaction as upstream will get it: narrowed, canonical. */
  readonly interaction: Interaction
  /** The interaction as the caller asked it (self links and audit speak of this one). */
  readonly requested: Interaction
  /** Request body to forward byte for byte, if any. */
  readonly body: Buffer | undefined
  /** `W/"vid"` that the write must meet upstream: the version that was judged. */
  readonly ifMatch?: string
  readonly terms: Terms
  /** Ids of the policy rules that permitted, for audit and trace. */
  readonly rules: readonly string[]
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
  readonly terms: Terms
  readonly rules: readonly string[]

  private constructor(fields: PermitFields) {
    this.interaction = fields.interaction
    this.requested = fields.requested
    this.body = fields.body
    this.ifMatch = fields.ifMatch
    this.terms = fields.terms
    this.rules = fields.rules
  }

  static issue(fields: PermitFields): Permit {
    return new Permit(fields)
  }

  /** Whether `value` was really issued: a look-alike object is not a permit. */
  static isGenuine(value: unknown): value is Permit {
    return typeof value === 'object' && value !== null && #genuine in value
  }
}

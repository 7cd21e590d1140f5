/** SMART App Launch 2.2 scopes (https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html). */

/** create, read, update, delete, search. */
export type SmartLetter = 'c' | 'r' | 'u' | 'd' | 's'

export type SmartLevel = 'patient' | 'user' | 'system'

/** One scope that grants FHIR access. */
export type SmartScope = {
  readonly level: SmartLevel
  /** Resource type, or '*'. */
  readonly target: string
  readonly letters: ReadonlySet<SmartLetter>
  /** `?param=value` pairs of a granular scope, percent-decoded once; [] for none. */
  readonly filters: readonly (readonly [name: string, value: string])[]
}

/**
 * The FHIR RESTful interactions (https://hl7.org/fhir/R4/http.html): one request target becomes one
 * Interaction, and upstream gets that interaction formatted again, never the client's own text.
 */

/** Names as in http://hl7.org/fhir/restful-interaction, made finer where the rights differ. */
export type InteractionCode =
  | 'capabilities'
  | 'versions'
  | 'read'
  | 'vread'
  | 'update'
  | 'conditional-update'
  | 'patch'
  | 'conditional-patch'
  | 'delete'
  | 'conditional-delete'
  | 'delete-history'
  | 'create'
  | 'conditional-create'
  | 'search-type'
  | 'search-system'
  | 'search-compartment'
  | 'history-instance'
  | 'history-type'
  | 'history-system'
  | 'batch'
  | 'operation'
  | 'paging'

export type Method = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** One query parameter: `subject:Patient.name:exact=a,b` and its like. */
export type Parameter = {
  /** Base name: `subject`, `_include`, `_has` … */
  readonly name: string
  /** What follows ':' on the base name, without the colon; for `_has` all of `Observation:patient:code`. */
  readonly modifier?: string
  /** What follows '.', parsed the same way: reverse and forward chains nest here. */
  readonly chain?: Parameter
  /** OR list, split at unescaped commas; FHIR escapes (`\,` `\$` `\|` `\\`) are kept as they came. */
  readonly values: readonly string[]
}

/** What one request asks. Plain data, canonical; equal interactions are the same question. */
export type Interaction = {
  readonly code: InteractionCode
  readonly method: Method
  readonly type?: string
  readonly id?: string
  readonly versionId?: string
  /** search-compartment: whose. `type` is then the searched type, or '*'. */
  readonly compartment?: { readonly type: string; readonly id: string }
  /** operation: its name without '$'. */
  readonly operation?: string
  /** Search criteria and result parameters together, in order. */
  readonly parameters: readonly Parameter[]
  /** Search by POST: the parameters go upstream as a form body, so that they stay out of its logs. */
  readonly byPost?: true
}

/** OperationOutcome (https://hl7.org/fhir/R4/operationoutcome.html): how FHIR says what went wrong. */

const REASON_SYSTEM = 'https://fhirewall.dev/reason'

/** One issue; `text` is public and must come from our own tables. */
export type Issue = {
  readonly severity: 'fatal' | 'error' | 'warning' | 'information'
  /** http://hl7.org/fhir/issue-type */
  readonly code: string
  /** Our reason: `details.coding.code`. */
  readonly reason: string
  readonly text: string
  /** Where: `http.<parameter or header>`, or a FHIRPath. */
  readonly expression?: string
  /** The request id, so that a caller can name the request to the operator. */
  readonly id?: string
}

/** An OperationOutcome of one issue, as JSON text. */
export function formatOperationOutcome(issue: Issue): string {
  const { severity, code, reason, text, expression, id } = issue
  return JSON.stringify({
    resourceType: 'OperationOutcome',
    issue: [
      {
        severity,
        code,
        details: { coding: [{ system: REASON_SYSTEM, code: reason }], text },
        ...(id === undefined ? {} : { diagnostics: `Request ${id}` }),
        ...(expression === undefined ? {} : { expression: [expression] }),
      },
    ],
  })
}

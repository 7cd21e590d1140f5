/** Header with why glass is broken, in a person's words; the only free text of a client that audit keeps. */
export const REASON_HEADER = 'x-break-glass-reason'

/** FHIR R4 security-labels.html, "Break the Glass": `http://…/v3-ActReason#BTG; scheme="…"; label="…"`. */
const CATEGORY = /v3[-/]ActReason#BTG(?![\w-])/i

/** Whether the headers of a request declare an emergency, be it one or not (BTG-1). */
export function declaresEmergency(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): boolean {
  const category = headers['category']
  return (
    headers[REASON_HEADER] !== undefined ||
    (category !== undefined && CATEGORY.test(String(category)))
  )
}

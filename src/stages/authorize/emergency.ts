import type { Inquiry, Principal } from '../../exchange.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import { REASON_HEADER } from '../../fhir/emergency.ts'
import type { Grant } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'

/**
 * The reason of an emergency that is declared, or undefined: there is none. It takes the purpose BTG
 * in the token (BTG-1: the token is the authority, a header alone is nothing), a reason in the header
 * X-Break-Glass-Reason, and one patient whom it is about (BTG-3). Whether the principal is entitled
 * to it is for the policies to say. Throws Refusal when the reason cannot be kept.
 */
export function readEmergency(
  { purposes }: Principal,
  { arrival, interaction }: Inquiry,
  definitions: Definitions,
): string | undefined {
  const reason = arrival.headers[REASON_HEADER]
  if (reason === undefined || !purposes.includes('BTG')) return undefined
  if (typeof reason !== 'string' || !/^[\x20-\x7e]{8,200}$/.test(reason.trim())) {
    throw new Refusal('header-malformed', { parameter: 'X-Break-Glass-Reason' })
  }
  const { id, type = '', compartment, parameters } = interaction
  // What comes along with a match may be about somebody else.
  if (parameters.some(({ name }) => name.endsWith('include'))) return undefined
  const link = new Set(['patient', 'subject', definitions.patientParameter(type)?.name])
  const isAboutOne =
    id !== undefined ||
    compartment !== undefined ||
    parameters.some(
      ({ name, modifier, chain, values }) =>
        link.has(name) && modifier === undefined && chain === undefined && values.length === 1,
    )
  return isAboutOne ? reason.trim() : undefined
}

/** The reason to put on record, when the grant is there only because glass was broken. */
export function brokenBy(
  { isEmergency }: Grant,
  reason: string | undefined,
): { reason: string } | undefined {
  return isEmergency === true && reason !== undefined ? { reason } : undefined
}

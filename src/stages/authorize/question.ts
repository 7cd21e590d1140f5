import type { Definitions } from '../../fhir/definitions.ts'
import type { Interaction, Parameter } from '../../fhir/interaction.ts'
import type { MaskingProfile } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'

const FORBIDDEN = new Set(
  ['_include', '_revinclude', '_has', '_filter', '_list', '_query', '_text', '_content'].concat(
    // They cut away what release judges by, or count what it would withhold.
    ['_elements', '_contained', '_containedType', '_graph'],
  ),
)
const MODIFIERS = new Set(['exact', 'contains', 'missing', 'not', 'identifier'])
const IDENTIFYING =
  /^(?:identifier|name|family|given|phonetic|telecom|phone|email|address.*|birthdate|death-date)$/

/** Refuses parameters that reach beyond the type, cut evidence, or probe for masked values. */
export function checkParameters(
  parameters: readonly Parameter[],
  masking: MaskingProfile,
  definitions: Definitions,
): void {
  for (const { name, modifier, chain, values } of parameters) {
    const cut =
      (name === '_summary' && values.join() !== 'false') ||
      (name === '_total' && values.join() !== 'none')
    const reaching =
      modifier !== undefined && !MODIFIERS.has(modifier) && !definitions.types.has(modifier)
    const probing =
      (masking === 'de-identified' && (IDENTIFYING.test(name) || modifier === 'identifier')) ||
      (!name.startsWith('_') &&
        values.some((value) => isProbe(value, name === 'identifier' || modifier === 'identifier')))
    const sorting =
      name === '_sort' && values.some((value) => isHidden(value.replace(/^-/, ''), masking))
    if (sorting || FORBIDDEN.has(name) || chain !== undefined || cut || reaching || probing) {
      throw new Refusal('parameter-forbidden', { parameter: name })
    }
  }
}

/** Whether the order of a result would tell what is masked in it. */
function isHidden(name: string, masking: MaskingProfile): boolean {
  return name === 'identifier' || (masking === 'de-identified' && IDENTIFYING.test(name))
}

/** REST-12: whether a value names an SSN or a payment card, which a search would confirm. */
function isProbe(value: string, identifier: boolean): boolean {
  if (/us-ssn|2\.16\.840\.1\.113883\.4\.1(?!\d|\.)/i.test(value)) return true
  const code = value.slice(value.lastIndexOf('|') + 1)
  if (/^\d{3}[- ]\d{2}[- ]\d{4}$/.test(code) || (identifier && /^\d{9}$/.test(code))) return true
  const digits = code.replace(/[- ]/g, '')
  return /^\d{13,19}$/.test(digits) && isLuhn(digits)
}

function isLuhn(digits: string): boolean {
  let sum = 0
  for (let at = 0; at < digits.length; at++) {
    const digit = Number(digits[digits.length - 1 - at])
    const twice = at % 2 === 1 ? digit * 2 : digit
    sum += twice > 9 ? twice - 9 : twice
  }
  return sum % 10 === 0
}

/** The question for upstream: `_count` capped, and one more AND parameter for each patient limit. */
export function narrow(
  interaction: Interaction,
  type: string,
  patients: readonly string[],
  count: number,
  definitions: Definitions,
): Interaction {
  const { compartment, ...rest } = interaction
  const wanted = compartment === undefined ? patients : [compartment.id, ...patients]
  const added = [...new Set(wanted)].map((id): Parameter => {
    const parameter = definitions.patientParameter(type)
    if (parameter === undefined) {
      throw new Refusal('policy-denied', { detail: 'a type that cannot be narrowed to a patient' })
    }
    const value = parameter.form === 'id' ? id : `Patient/${id}`
    return { name: parameter.name, values: [value] }
  })
  const parameters = interaction.parameters.map((parameter) =>
    parameter.name === '_count' && Number(parameter.values[0]) > count
      ? { ...parameter, values: [String(count)] }
      : parameter,
  )
  return { ...rest, code: 'search-type', parameters: [...parameters, ...added] }
}

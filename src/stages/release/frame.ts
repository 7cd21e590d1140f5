import type { Tally } from '../../exchange.ts'
import type { Confidentiality, Permit } from '../../permit.ts'
import { NOTHING_HIDDEN } from './mask/compile-masking.ts'
import type { Hidden } from './mask/compile-masking.ts'
import type { Context } from './context.ts'
import type { Verdict } from './judge.ts'
import { CONFIDENTIALITIES } from './vocabulary.ts'

/**
 * What is masked of the id, version and time of resources by one of the ways by which they may be
 * reached: ETag, Last-Modified and Bundle.timestamp tell as much as `meta` does.
 */
export function hiddenOf(permit: Permit, context: Context): Hidden {
  const type = permit.interaction.type ?? 'Patient'
  const maskings = (permit.terms.grantFor(type)?.reach ?? []).flatMap(({ masking }) =>
    masking.size === 1 ? [] : context.maskingFor(masking),
  )
  if (maskings.length === 0) return NOTHING_HIDDEN
  const all = maskings.map((one) => one.hidden(type))
  return {
    id: all.some(({ id }) => id),
    version: all.some(({ version }) => version),
    time: all.some(({ time }) => time),
  }
}

/** The same of one resource, of what all ways by which it is reached mask. */
export function hiddenIn({ type, maskings }: Verdict): Hidden {
  const [first, ...others] = maskings.map((one) => one.hidden(type))
  if (first === undefined || others.length === 0) return first ?? NOTHING_HIDDEN
  return {
    id: first.id && others.every(({ id }) => id),
    version: first.version && others.every(({ version }) => version),
    time: first.time && others.every(({ time }) => time),
  }
}

/** The highest confidentiality of what is in a Bundle. */
export type Mark = Pick<Tally, 'confidentiality'>

/** Notes a resource that is released. */
export function raiseMark(tally: Mark, confidentiality: Confidentiality): void {
  if (confidentiality === tally.confidentiality) return
  const before = CONFIDENTIALITIES.indexOf(tally.confidentiality ?? 'U')
  if (CONFIDENTIALITIES.indexOf(confidentiality) > before) tally.confidentiality = confidentiality
}

/**
 * LABEL-3: a Bundle is as confidential as the most confidential resource in it; said when that is
 * above what every record is. Codes that say what was done to a resource are not for the Bundle.
 */
export function formatMark({ confidentiality = 'N' }: Mark): string | undefined {
  if (CONFIDENTIALITIES.indexOf(confidentiality) <= CONFIDENTIALITIES.indexOf('N')) return undefined
  const system = 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality'
  return `"meta":{"security":[{"system":"${system}","code":"${confidentiality}"}]}`
}

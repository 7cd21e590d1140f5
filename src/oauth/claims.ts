/** What a verified access token says about its bearer. Every reader answers undefined for a claim
 * that is not of its form: a claim nobody can read grants nothing. */

export type Claims = Readonly<Record<string, unknown>>

const NONE: readonly never[] = []

/** Reads what is at one path of claims. */
export type ClaimReader = (claims: unknown) => unknown

/**
 * Compiles a path. Names may hold dots themselves (`https://a.example/roles`): the longest that is
 * there counts. Of a list it is what is at the path of each of its objects.
 *
 * @param known - readers of the ends of a path, each made once
 */
export function compilePath(path: string, known = new Map<string, ClaimReader>()): ClaimReader {
  const made = known.get(path)
  if (made !== undefined) return made
  const cuts = [...path.matchAll(/\./g)].reverse().map(({ index }) => ({
    name: path.slice(0, index),
    rest: compilePath(path.slice(index + 1), known),
  }))
  const read: ClaimReader = (value) => {
    if (Array.isArray(value)) {
      const found: unknown[] = value.map((item) => read(item))
      return found.flat().filter((item) => item !== undefined)
    }
    if (typeof value !== 'object' || value === null) return undefined
    if (Object.hasOwn(value, path)) return (value as Claims)[path]
    for (const { name, rest } of cuts) {
      if (Object.hasOwn(value, name)) return rest((value as Claims)[name])
    }
    return undefined
  }
  known.set(path, read)
  return read
}

/** The claim at a path that is compiled for this once. */
export function claimAt(claims: Claims, path: string): unknown {
  return compilePath(path)(claims)
}

/** More codes than these, or longer ones, are none that a policy could be about. */
const MOST_CODES = 1000
const LONGEST_CODE = 512

/** Whether a token says more than can be weighed: to leave some out could lift a ban. */
export function isExcessive(codes: readonly string[]): boolean {
  return codes.length > MOST_CODES || codes.some((code) => code.length > LONGEST_CODE)
}

const ID = /^[A-Za-z0-9\-.]{1,64}$/

/** A launch context id (CTX-1: "bare ids"): no type, no URL, no list. */
export function parsePatient(claim: unknown): string | undefined {
  return typeof claim === 'string' && ID.test(claim) && claim !== '.' && claim !== '..'
    ? claim
    : undefined
}

const MOST_CONTEXT = 50

/**
 * `fhirContext` (SMART App Launch 2.2, scopes-and-launch-context.html): objects with a `reference`,
 * and a `role` that is not "" (CTX-1). What names a resource elsewhere, by `canonical` or by
 * `identifier` names none here. A claim that is not of its form holds nothing.
 */
export function parseFhirContext(claim: unknown, publicUrl: string): readonly string[] {
  if (!Array.isArray(claim) || claim.length > MOST_CONTEXT) return NONE
  return claim.flatMap((item: unknown) => {
    if (typeof item !== 'object' || item === null) return []
    const { reference, role } = item as Claims
    if (typeof reference !== 'string' || role === '') return []
    const local = reference.startsWith(`${publicUrl}/`)
      ? reference.slice(publicUrl.length + 1)
      : reference
    const [type = '', id = '', ...rest] = local.split('/')
    const isLocal = rest.length === 0 && /^[A-Z][A-Za-z]{1,63}$/.test(type)
    return isLocal && parsePatient(id) !== undefined ? [local] : []
  })
}

/** The types that `fhirUser` may name. */
export const PERSONS: ReadonlySet<string> = new Set([
  'Patient',
  'Practitioner',
  'PractitionerRole',
  'RelatedPerson',
  'Person',
])

/**
 * `fhirUser` (CTX-2): relative, or absolute on our own base. "absolute on a foreign base never
 * treated as local".
 */
export function parseFhirUser(
  claim: unknown,
  publicUrl: string,
): { readonly type: string; readonly id: string } | undefined {
  if (typeof claim !== 'string') return undefined
  const relative = claim.startsWith(`${publicUrl}/`) ? claim.slice(publicUrl.length + 1) : claim
  const [type = '', id = '', ...rest] = relative.split('/')
  return rest.length === 0 && PERSONS.has(type) && parsePatient(id) !== undefined
    ? { type, id }
    : undefined
}

/** Strings of a claim that is one string (space-separated), a list of strings, or of Codings. */
export function parseCodes(claim: unknown): readonly string[] {
  if (claim === undefined) return NONE
  if (typeof claim === 'string') return claim.split(' ').filter((code) => code !== '')
  const list = Array.isArray(claim) ? claim : [claim]
  return list.flatMap((item: unknown) => {
    if (typeof item === 'string') return [item]
    const code = typeof item === 'object' && item !== null ? (item as Claims)['code'] : undefined
    return typeof code === 'string' ? [code] : []
  })
}

/** A claim that is a NumericDate (RFC 7519 §2): seconds since the epoch. */
export function parseTime(claim: unknown): number | undefined {
  return typeof claim === 'number' && Number.isFinite(claim) && claim > 0 ? claim : undefined
}

/** A claim that is one non-empty string. */
export function parseText(claim: unknown): string | undefined {
  return typeof claim === 'string' && claim !== '' ? claim : undefined
}

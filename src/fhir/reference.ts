/** FHIR references (https://hl7.org/fhir/R4/references.html#literal) to resources of this server. */

/** A literal reference to one resource of ours, in one version when it says so. */
export type LocalReference = {
  readonly type: string
  readonly id: string
  readonly versionId?: string
}

const LOCAL =
  /^([A-Z][A-Za-z]{1,63})\/([A-Za-z0-9\-.]{1,64})(?:\/_history\/([A-Za-z0-9\-.]{1,64}))?$/

/**
 * Parses `Patient/1`, `Patient/1/_history/2` or the same on one of our `bases` (with or without a
 * slash at the end). Undefined for all else: fragments, URNs, other servers, searches.
 */
export function parseReference(text: string, bases: readonly string[]): LocalReference | undefined {
  const [, type, id, versionId] = LOCAL.exec(relative(text, bases)) ?? []
  if (type === undefined || id === undefined || isDots(id)) return undefined
  if (versionId === undefined) return { type, id }
  return isDots(versionId) ? undefined : { type, id, versionId }
}

function relative(text: string, bases: readonly string[]): string {
  if (!text.includes(':')) return text
  for (const base of bases) {
    const root = base.endsWith('/') ? base : `${base}/`
    if (text.startsWith(root)) return text.slice(root.length)
  }
  return ''
}

const isDots = (text: string): boolean => text === '.' || text === '..'

/** The part of an address that follows one of our bases; undefined for any other address. */
export function below(url: string, bases: readonly string[]): string | undefined {
  const base = bases.find((one) => url.startsWith(one) && /^[/?]/.test(url.slice(one.length)))
  if (base === undefined) return undefined
  const target = url.slice(base.length)
  const path = target.replace(/\?.*$/, '')
  const isPlain = /^[\x21-\x7e]*$/.test(target) && !/[\\#]/.test(target)
  // What a server could read as another path than the one below its base is not followed.
  return isPlain && !/%|\/\.{0,2}(?:\/|$)/.test(path === '/' ? '' : path) ? target : undefined
}

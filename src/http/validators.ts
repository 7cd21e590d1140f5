/**
 * Validators of answers and conditions of requests (RFC 9110 §8.8, §13). Of one version of a resource
 * there are as many views as there are ways to mask it: each has a tag of its own (REST-16).
 */

/** Behind the version: no id of one has the sign, so that a tag leads back to its version. */
const VIEW = /~[\da-f]{16}(?=")/

/** The tag of one view of the version that a weak tag names; `hash`: hexadecimal, of what is shown. */
export const viewTag = (etag: string, hash: string): string =>
  etag.replace(/"$/, `~${hash.slice(0, 16)}"`)

/** The same tags as those of the versions: what is written replaces all of one, seen or not. */
export const versionTags = (tags: string): string => tags.replaceAll(new RegExp(VIEW, 'g'), '')

/** `If-None-Match` and `If-Modified-Since`, as they came. */
export type Conditions = {
  readonly none: string | undefined
  readonly since: string | undefined
}

/**
 * Whether a read has to show nothing, since its caller has the very same (304): §13.1.2, and §13.1.3 only
 * "if the request does not contain an If-None-Match" field. When a version was changed does not tell when
 * a view of it was, so for views the second never holds. What cannot be read is no condition.
 */
export function isKnown(
  { none, since }: Conditions,
  headers: Readonly<Record<string, string>>,
): boolean {
  const { etag, 'last-modified': changed } = headers
  if (none !== undefined) {
    if (none.trim() === '*') return true
    const tag = etag?.replace(/^W\//, '')
    return tag !== undefined && (none.match(/"[^"]*"/g)?.some((one) => one === tag) ?? false)
  }
  if (since === undefined || changed === undefined || etag === undefined) return false
  return !VIEW.test(etag) && Date.parse(changed) <= Date.parse(since)
}

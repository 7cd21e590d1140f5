/** Forms of simple values (https://hl7.org/fhir/R4/datatypes.html). */

export const ID = /^[A-Za-z0-9\-.]{1,64}$/

/** A moment to the second or finer, with its time zone. */
export const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})$/

/** The ETag of a version (https://hl7.org/fhir/R4/http.html#versioning). */
export const VERSION_TAG = /^W\/"[A-Za-z0-9.\-]{1,64}"$/

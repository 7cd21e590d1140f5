import type { Elements } from '../../src/fhir/elements.ts'

/** https://hl7.org/fhir/R4/datatypes.html: what the values of primitive types look like. */
const FORMS: Readonly<Record<string, RegExp>> = {
  base64Binary: /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/,
  boolean: /^(?:true|false)$/,
  canonical: /^\S+$/,
  code: /^[^\s]+(?:\s[^\s]+)*$/,
  id: /^[A-Za-z0-9\-.]{1,64}$/,
  instant:
    /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/,
  // "strings SHOULD not contain Unicode character points below 32, except for u0009, u000D and
  // u000A", "SHALL always contain non-whitespace content".
  string: /^(?=[^]*\S)[^\u0000-\u0008\u000b\u000c\u000e-\u001f]+$/,
  unsignedInt: /^(?:0|[1-9]\d*)$/,
  uri: /^[^\s\u0000-\u001f]+$/,
  url: /^[^\s\u0000-\u001f]+$/,
}

/** Values of a resource or data type that have not the form of their type, by place. */
export function findMisformed(
  elements: Elements,
  value: unknown,
  type: string,
  place: string,
): string[] {
  if (typeof value !== 'object' || value === null) {
    const text = String(value)
    const form = FORMS[type]
    if (form === undefined) return [`${place}: no form of ${type}`]
    return form.test(text) && text.isWellFormed() ? [] : [`${place}: ${JSON.stringify(value)}`]
  }
  return Object.entries(value).flatMap(([key, held]: [string, unknown]) => {
    const found = elements.structure(type)?.elements.get(key)
    if (found === undefined) return []
    const list: readonly unknown[] = Array.isArray(held) ? held : [held]
    return list.flatMap((one) => findMisformed(elements, one, found.type, `${place}.${key}`))
  })
}

import type { ElementPath } from './definitions.ts'

/** All values at a path of element names in a parsed resource, arrays passed through. */
export function valuesAt(value: unknown, path: ElementPath, from = 0): unknown[] {
  if (Array.isArray(value)) return value.flatMap((one: unknown) => valuesAt(one, path, from))
  const name = path[from]
  if (name === undefined) return [value]
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return []
  return valuesAt((value as Record<string, unknown>)[name], path, from + 1)
}

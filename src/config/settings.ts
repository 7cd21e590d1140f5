import { z } from 'zod'
import { configSchema } from './schema.ts'

/** One key of the configuration that holds a value, as documented and as set from outside. */
export type Setting = {
  /** Keys from the root; `issuers` is one setting, its own keys follow as `issuers[].…`. */
  readonly path: readonly string[]
  /** Environment variable; undefined inside a list. */
  readonly variable: string | undefined
  readonly kind: 'string' | 'integer' | 'number' | 'boolean' | 'strings' | 'objects'
  readonly required: boolean
  readonly secret: boolean
  readonly default: unknown
  readonly description: string
  /** Allowed values, when it is a closed set. */
  readonly options: readonly string[]
}

/** The part of JSON Schema that `z.toJSONSchema` writes for our schema. */
type Node = {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Node>>
  readonly required?: readonly string[]
  readonly items?: Node
  readonly enum?: readonly string[]
  readonly default?: unknown
  readonly description?: string
  readonly writeOnly?: boolean
}

/** JSON Schema (draft 2020-12) of the configuration file, as an operator writes it. */
export function buildConfigJsonSchema(): Record<string, unknown> {
  return {
    ...z.toJSONSchema(configSchema, { io: 'input' }),
    title: 'FHIRewall configuration',
  }
}

/** `upstream.caFile` is `FHIREWALL_UPSTREAM_CA_FILE`. */
export function formatVariable(path: readonly string[]): string {
  const words = path.map((key) => key.replace(/(?<=[a-z0-9])(?=[A-Z])/g, '_').toUpperCase())
  return `FHIREWALL_${words.join('_')}`
}

function kindOf(node: Node): Setting['kind'] {
  if (node.type === 'array') return node.items?.type === 'object' ? 'objects' : 'strings'
  if (node.type === 'integer' || node.type === 'number' || node.type === 'boolean') return node.type
  return 'string'
}

function* walk(node: Node, path: readonly string[], inList: boolean): Generator<Setting> {
  for (const [key, child] of Object.entries(node.properties ?? {})) {
    const here = [...path, key]
    const about = [node.description, child.description].filter(Boolean).join(': ')
    if (child.type === 'object') {
      yield* walk(child, here, inList)
      continue
    }
    yield {
      path: here,
      variable: inList ? undefined : formatVariable(here),
      kind: kindOf(child),
      required: node.required?.includes(key) ?? false,
      secret: child.writeOnly ?? false,
      default: child.default,
      description: about,
      options: child.enum ?? child.items?.enum ?? [],
    }
    if (child.items?.type === 'object') {
      yield* walk(child.items, [...path, `${key}[]`], true)
    }
  }
}

/** Every setting, in the order of the schema. */
export function listSettings(): Setting[] {
  return [...walk(buildConfigJsonSchema(), [], false)]
}

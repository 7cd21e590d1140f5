import { z } from 'zod'
import { exampleSchema } from './example-schema.ts'
import { interactionSchema } from './words.ts'

const id = z.string().regex(/^[a-z][a-z0-9-]{0,63}$/, 'lower-case letters, digits and hyphens')
const type = z.string().regex(/^(?:\*|[A-Z][A-Za-z]{1,63})$/, 'a resource type or "*"')
const typeName = z.string().regex(/^[A-Z][A-Za-z]{1,63}$/, 'a resource type')
const parameter = z.string().regex(/^_?[A-Za-z][A-Za-z0-9-]{0,63}$/, 'a search parameter')
const levels = z.enum(['patient', 'user', 'system'])

const plainRule = z.strictObject({
  id,
  effect: z.enum(['permit', 'deny']),
  when: z.string().min(1).max(2000).optional().describe('CEL condition; absent = always'),
  interactions: z.array(interactionSchema).min(1),
  types: z.array(type).min(1),
  operations: z
    .array(z.string().regex(/^\$[a-z][A-Za-z-]{1,63}$/, 'an operation such as $everything'))
    .default([])
    .describe('which operations; needed with the interaction "operation"'),
  except: z.array(typeName).default([]).describe('types that "*" does not mean here'),
  levels: z.array(levels).min(1),
  obligations: z
    .strictObject({
      compartment: z
        .enum(['patient', 'encounter', 'practitioner'])
        .optional()
        .describe(
          'only what is in the compartment of the patient, encounter or practitioner of the token',
        ),
      clearance: z
        .strictObject({
          confidentiality: z.enum(['U', 'L', 'M', 'N', 'R', 'V']).default('N'),
          sensitivities: z.array(z.string().min(1)).default([]),
        })
        .prefault({}),
      masking: z
        .union([id.transform((one) => [one]), z.array(id).min(1)])
        .default(['baseline'])
        .describe('profiles of masking; baseline is always one of them'),
      results: z.int().positive().optional().describe('largest page of a search'),
      rate: z
        .strictObject({ burst: z.int().positive(), perSecond: z.number().positive() })
        .optional()
        .describe('how much each principal may ask by this rule, on top of the limits of all'),
      parameters: z
        .strictObject({
          only: z.array(parameter).optional().describe('search parameters that may be used at all'),
          forbid: z.array(parameter).default([]).describe('search parameters that may not be used'),
        })
        .refine(({ only, forbid }) => only !== undefined || forbid.length > 0, {
          message: 'says nothing without only or forbid',
        })
        .optional(),
      strength: z
        .strictObject({
          acr: z.array(z.string().min(1)).min(1).optional().describe('one of these'),
          amr: z.array(z.string().min(1)).min(1).optional().describe('all of these'),
          within: z.number().positive().optional().describe('seconds since the login at most'),
        })
        .refine((asked) => Object.values(asked).some((one) => one !== undefined), {
          message: 'asks nothing without one of acr, amr and within',
        })
        .optional()
        .describe('how the person must have authenticated (RFC 9470)'),
      breakGlass: z
        .strictObject({ minutes: z.int().min(1).max(1440).default(60) })
        .optional()
        .describe('only with a declared emergency, for so long after the token was issued'),
    })
    .prefault({}),
})

/** BTG-5: an emergency opens what may be read, and nothing else. */
const READING: ReadonlySet<string> = new Set(
  ['read', 'vread', 'history-instance', 'search-type'].concat('search-compartment'),
)
/** One rule: whom and what it is about, and what a permit demands. */
export const ruleSchema = plainRule
  .refine(
    ({ effect, interactions, obligations }) =>
      obligations.breakGlass === undefined ||
      (effect === 'permit' && interactions.every((interaction) => READING.has(interaction))),
    { path: ['obligations'], message: 'breakGlass permits reading and searching, nothing else' },
  )
  .refine(({ obligations, when }) => obligations.breakGlass === undefined || when !== undefined, {
    path: ['obligations'],
    message: 'breakGlass needs a condition ("when"): who is entitled to it',
  })
  .refine(
    ({ effect, interactions, operations }) =>
      effect === 'deny' || !interactions.includes('operation') || operations.length > 0,
    { path: ['interactions'], message: 'to permit an "operation" takes "operations", their names' },
  )
  .refine(
    ({ interactions, operations }) => operations.length === 0 || interactions.includes('operation'),
    { path: ['operations'], message: 'operations take the interaction "operation"' },
  )
  // What is excepted from nothing, or named all the same, would not be excepted.
  .refine(({ types, except }) => except.length === 0 || types.includes('*'), {
    path: ['except'],
    message: 'except is of "*", which is not among the types',
  })
  .superRefine(({ types, except }, context) => {
    for (const one of except) {
      if (one === '*' || !types.includes('*') || !types.includes(one)) continue
      context.addIssue({
        code: 'custom',
        path: ['except'],
        message: `"${one}" is among the types by name`,
      })
    }
  })

/** One policy file. */
export const policySchema = z.strictObject({
  policy: id,
  description: z.string().min(1),
  rules: z.array(ruleSchema).min(1),
  examples: z
    .array(exampleSchema)
    .default([])
    .describe('what all policies together must say; checked whenever they are loaded'),
})

export type Rule = z.output<typeof ruleSchema>
export type Policy = z.output<typeof policySchema>

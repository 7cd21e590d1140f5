import { z } from 'zod'
import { interactionSchema } from './words.ts'

const text = z.string().min(1)
export const questionSchema = z.strictObject({
  as: z
    .strictObject({
      kind: z.enum(['user', 'system']).default('user'),
      issuer: text.default('https://issuer.example'),
      clientId: text.optional(),
      patient: text.optional(),
      encounter: text.optional(),
      context: z.array(text).default([]),
      fhirUser: z
        .string()
        .regex(/^[A-Z][A-Za-z]+\/[A-Za-z0-9.-]{1,64}$/, 'such as Practitioner/d1')
        .optional(),
      roles: z.array(text).default([]),
      purposes: z.array(text).default([]),
      organization: text.optional(),
      acr: text.optional(),
      amr: z.array(text).default([]),
      authenticatedAgo: z.number().min(0).optional().describe('seconds since the login'),
    })
    .prefault({}),
  level: z.enum(['patient', 'user', 'system']),
  // A misspelt one is denied by any policies: the example would hold, and say nothing.
  interaction: interactionSchema,
  type: text,
  id: text.optional(),
  method: text.default('GET'),
  operation: z.string().startsWith('$').optional(),
  emergency: z.boolean().default(false).describe('declared, with a reason, for one patient'),
  at: z.iso.datetime({ offset: true }).optional().describe('when; default: now'),
})

/** One example: exactly one of allow, deny and mask. */
export const exampleSchema = z
  .strictObject({
    allow: questionSchema.optional(),
    deny: questionSchema.optional(),
    mask: questionSchema.optional().describe('allowed, and masked as "masking" says'),
    masking: z
      .union([text.transform((one) => [one]), z.array(text).min(1)])
      .optional()
      .describe(
        'the profiles that must hold, no more and no fewer; with mask: any but the baseline',
      ),
    results: z.int().positive().optional().describe('the largest page that must hold'),
    confidentiality: z
      .enum(['U', 'L', 'M', 'N', 'R', 'V'])
      .optional()
      .describe('the highest confidentiality that must be seen'),
    because: text.optional().describe('for people'),
  })
  .refine(
    ({ allow, deny, mask }) => [allow, deny, mask].filter((one) => one !== undefined).length === 1,
    { message: 'exactly one of "allow", "deny" and "mask"' },
  )
  .refine(
    ({ deny, masking, results, confidentiality }) =>
      deny === undefined || (masking ?? results ?? confidentiality) === undefined,
    { message: 'what is denied has no terms' },
  )

/** A file of cases beside policies, `*.test.yaml`. */
export const caseFileSchema = z.strictObject({ cases: z.array(exampleSchema).min(1) })

export type Example = z.output<typeof exampleSchema>
export type Question = z.output<typeof questionSchema>

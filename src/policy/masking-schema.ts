import { z } from 'zod'

/** What a masking profile says: which elements, and what becomes of them. */

const id = z.string().regex(/^[a-z][a-z0-9-]{0,63}$/, 'lower-case letters, digits and hyphens')
const code = z.string().regex(/^[A-Za-z0-9._-]{1,64}$/, 'a code')

/** Numbers and addresses that are found by how they look (requirements §9.2). */
export const DETECTORS = [
  'us-ssn',
  'payment-card',
  'us-itin',
  'us-mbi',
  'us-dea',
  'uk-nhs',
  'ca-sin',
  'de-kvnr',
  'fr-nir',
  'nl-bsn',
  'au-ihi',
  'au-medicare',
  'br-cpf',
  'it-cf',
  'be-ssin',
  'no-fnr',
  'se-pnr',
  'fi-hetu',
  'es-dni',
  'pl-pesel',
  'nz-nhi',
  'in-aadhaar',
  'iban',
  'phone',
  'email',
  'url',
  'ip',
] as const
export type DetectorName = (typeof DETECTORS)[number]

/** Identifiers known by name: their systems, OIDs and types are in the registry. */
export const IDENTIFIERS = [
  'us-ssn',
  'payment-card',
  'us-mbi',
  'us-dea',
  'us-npi',
  'uk-nhs',
  'ca-hcn',
  'de-kvnr',
  'fr-nir',
  'nl-bsn',
  'au-ihi',
  'au-medicare',
  'br-cpf',
  'it-cf',
  'passport',
  'driver-licence',
  'medical-record',
  'health-plan',
  'account',
  'national',
] as const
export type IdentifierName = (typeof IDENTIFIERS)[number]

const plainMethod = z.enum(['keep', 'remove', 'redact', 'pseudonym', 'date-shift'])
const methodSchema = z.union([
  plainMethod.transform((kind) => ({ kind })),
  z
    .strictObject({ last: z.int().min(1).max(4).describe('of nine signs or more') })
    .transform(({ last }) => ({ kind: 'last' as const, count: last })),
  z
    .strictObject({ generalise: z.enum(['year', 'zip3', 'age-90', 'span-90']) })
    .transform(({ generalise }) => ({ kind: 'generalise' as const, to: generalise })),
  z
    .strictObject({
      replace: z
        .string()
        .min(1)
        .max(200)
        .regex(/^[^\p{Cc}]+$/u, 'plain text'),
    })
    .transform(({ replace }) => ({ kind: 'replace' as const, text: replace })),
])

const ruleSchema = z
  .strictObject({
    id,
    select: z.array(z.string().min(1).max(500)).min(1).optional().describe('paths to elements'),
    identifiers: z
      .array(
        z.union([
          z.enum(IDENTIFIERS),
          z.strictObject({ system: z.string().min(1) }),
          z.strictObject({ type: code.describe('HL7 v2-0203') }),
        ]),
      )
      .min(1)
      .optional()
      .describe('identifiers by name, system or type'),
    detect: z.array(z.enum(DETECTORS)).min(1).optional().describe('what is found in any text'),
    labels: z.array(code).min(1).optional().describe('elements and resources that carry a label'),
    method: methodSchema,
  })
  .refine(
    ({ select, identifiers, detect, labels }) =>
      [select, identifiers, detect, labels].filter((one) => one !== undefined).length === 1,
    { message: 'a rule has one of select, identifiers, detect and labels' },
  )
  .refine(({ labels, method }) => labels === undefined || method.kind === 'remove', {
    path: ['method'],
    message: 'what carries a label can be removed only',
  })
  .refine(
    ({ detect, method }) =>
      detect === undefined || ['last', 'redact', 'replace'].includes(method.kind),
    { path: ['method'], message: 'what is found in a text takes last, redact or replace' },
  )
  .refine(
    ({ identifiers, method }) =>
      identifiers === undefined || !['generalise', 'date-shift'].includes(method.kind),
    {
      path: ['method'],
      message: 'an identifier takes keep, remove, redact, last, pseudonym or replace',
    },
  )

/** Codes that show what a resource is about, for records that nobody labelled (LABEL-9). */
const categorySchema = z
  .strictObject({
    label: code.describe('v3-ActCode of the sensitivity'),
    description: z.string().min(1),
    codes: z
      .strictObject({
        'icd-10': z
          .array(code)
          .default([])
          .describe('each stands for all codes that begin with it'),
        snomed: z.array(code).default([]),
        loinc: z.array(code).default([]),
      })
      .prefault({}),
  })
  .refine(({ codes }) => Object.values(codes).some((list) => list.length > 0), {
    message: 'a category has codes: nothing is told by none',
  })

/** One file of masking. */
export const maskingSchema = z.strictObject({
  masking: id,
  description: z.string().min(1),
  rules: z.array(ruleSchema).default([]),
  categories: z
    .array(categorySchema)
    .default([])
    .describe('labels by code; judged as if the resource carried them'),
})

export type Method = z.output<typeof methodSchema>
export type Category = z.output<typeof categorySchema>
export type MaskingFile = z.output<typeof maskingSchema>

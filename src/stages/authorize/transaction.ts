import { Permit } from '../../permit.ts'

/**
 * The permit for a transaction whose entries all have theirs: one request, made of those permits
 * alone. What comes back is released entry by entry, under the permit of each.
 */
export function permitTransaction(permits: readonly Permit[], body: Buffer): Permit {
  if (!permits.every((permit) => Permit.isGenuine(permit))) {
    throw new Error('a transaction needs a permit for each entry')
  }
  const interaction = { code: 'batch', method: 'POST', parameters: [] } as const
  return Permit.issue({
    ...{ interaction, requested: interaction, body },
    terms: { grantFor: () => undefined, mayReadBack: false },
    rules: [...new Set(permits.flatMap(({ rules }) => rules))],
    policies: permits.at(-1)?.policies,
    patients: [...new Set(permits.flatMap(({ patients }) => patients))],
  })
}

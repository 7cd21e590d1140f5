import type { Interaction, InteractionCode } from '../../fhir/interaction.ts'
import { findOperation } from '../../fhir/operations.ts'
import type { Asked } from './holdings.ts'

/**
 * SCOPE-3: the letter of each plain interaction, and the word that policies have for it. To patch is
 * to update; to search or look back over several types is to do it with each of them.
 */
export const ASKED = {
  read: { letter: 'r', word: 'read' },
  vread: { letter: 'r', word: 'vread' },
  'history-instance': { letter: 'r', word: 'history-instance' },
  'history-type': { letter: 's', word: 'history-instance' },
  'history-system': { letter: 's', word: 'history-instance' },
  'search-type': { letter: 's', word: 'search-type' },
  'search-compartment': { letter: 's', word: 'search-compartment' },
  'search-system': { letter: 's', word: 'search-type' },
  create: { letter: 'c', word: 'create' },
  update: { letter: 'u', word: 'update' },
  patch: { letter: 'u', word: 'update' },
  delete: { letter: 'd', word: 'delete' },
} as const satisfies Partial<Record<InteractionCode, Asked>>

/** What a plain interaction or an operation needs of its type; undefined for all others. */
export function askedOf(interaction: Interaction): Asked | undefined {
  const row = findOperation(interaction)
  if (row !== undefined) return { letter: row.letter, word: 'operation' }
  return Object.hasOwn(ASKED, interaction.code)
    ? ASKED[interaction.code as keyof typeof ASKED]
    : undefined
}

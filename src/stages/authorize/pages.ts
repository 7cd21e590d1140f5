import { formatInteraction } from '../../fhir/interaction.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import { Permit } from '../../permit.ts'
import type { PermitFields, Place } from '../../permit.ts'
import { splitTarget } from './cursors.ts'
import type { Cursors } from './cursors.ts'

/**
 * The permit for one page of an answer, and by it for every further one: on the same terms, at an address
 * that upstream gives, or for the question itself once more.
 *
 * @param asked - what a link to another page is bound to
 */
export function permitPage(
  fields: PermitFields,
  cursors: Cursors,
  asked: Interaction,
  place: Place = {},
  size?: number,
): Permit {
  return Permit.issue({
    ...fields,
    target: place.target === undefined ? undefined : splitTarget(place.target),
    paging: {
      size: size ?? countOf(fields.interaction),
      isSettled: size !== undefined,
      place,
      turn: (next) => permitPage(fields, cursors, asked, next, size),
      link: (next, settled) =>
        cursors.close(next, settled, asked, roomFor(fields.interaction, place)),
    },
  })
}

function countOf({ parameters }: Interaction): number | undefined {
  const count = parameters.find(({ name }) => name === '_count')?.values[0]
  return count === undefined ? undefined : Number(count)
}

/** What an address of upstream's may take: the question, and where to go on. */
function roomFor(interaction: Interaction, { target = '' }: Place): number {
  const { path, query, form = '' } = formatInteraction(interaction)
  return Math.max(path.length + query.length + form.length, target.length) + 512
}

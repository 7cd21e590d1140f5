import { parseReference } from '../../fhir/reference.ts'
import { formatInteraction } from '../../fhir/interaction.ts'
import type { Grant, Terms } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import type { Request } from './request.ts'
import { collect, readBundle } from './view.ts'

/** Who names more of one patient would be asking, not writing. */
const MOST_LINKS = 200
const MOST_TYPES = 16
/** Ids in one address. */
const MOST_ASKED = 50

/**
 * SCOPE-11, REST-20: what is written by the right to one patient names nothing that is another's. A server
 * that holds to its references would tell by its answer what there is, and what is linked stands in the
 * other record too (an encounter, a document). So they are looked up here: what is another's, what may not
 * be seen and what is not there are refused alike. Throws Refusal.
 */
export async function checkLinks(
  request: Request,
  grant: Grant,
  links: readonly string[],
): Promise<void> {
  const { definitions, bases, principal } = request
  const asked = new Map<string, string[]>()
  for (const link of links) {
    const local = parseReference(link, bases)
    if (local === undefined) throw denied()
    const { type, id } = local
    // What is of no patient is everybody's; the encounter of the launch is the token's own word.
    const isTied = definitions.patientPaths(type).length > 0
    if (!isTied || (type === 'Encounter' && id === principal.encounter)) continue
    const ids = asked.get(type) ?? []
    asked.set(type, ids)
    ids.push(id)
  }
  const isTooMuch = [...asked.values()].flat().length > MOST_LINKS || asked.size > MOST_TYPES
  if (isTooMuch) throw new Refusal('compartment-denied', { detail: 'it names too much to look up' })
  for (const [type, ids] of asked) {
    for (let from = 0; from < ids.length; from += MOST_ASKED) {
      const some = ids.slice(from, from + MOST_ASKED)
      const own = await findOwn(request, grant, type, some)
      if (!some.every((id) => own.has(id))) throw denied()
    }
  }
}

const denied = (): Refusal =>
  new Refusal('compartment-denied', { detail: 'it names what is not of its patient' })

/** Those that are within the reach of the grant, but for criteria: they are of the type that is written. */
async function findOwn(
  { upstream, inquiry, inspect, config, bases }: Request,
  grant: Grant,
  type: string,
  ids: readonly string[],
): Promise<ReadonlySet<string>> {
  const reach = grant.reach.flatMap(({ patient, clearance, masking }) =>
    patient === undefined ? [] : [{ patient, clearance, masking }],
  )
  const terms: Terms = { grantFor: () => ({ ...grant, reach }), mayReadBack: false }
  const own = new Set<string>()
  // One of a type with as many ids as a page may have: what is not on it counts as not there.
  const { path, query } = formatInteraction({
    ...{ code: 'search-type', method: 'GET', type },
    parameters: [
      { name: '_id', values: ids },
      { name: '_count', values: [String(ids.length)] },
    ],
  })
  const answer = await upstream({
    ...{ method: 'GET', path, query },
    headers: { accept: 'application/fhir+json', prefer: 'handling=strict' },
    signal: inquiry.arrival.signal,
  })
  const bytes = await collect(answer, config.limits.bodyBytes)
  if (answer.status !== 200) throw new Refusal('upstream-failed', { detail: 'no links' })
  for (const resource of readBundle(bytes, bases).resources) {
    const found = inspect(terms, Buffer.from(JSON.stringify(resource)))
    if (found.type === type && found.id !== undefined && found.withheld === undefined) {
      own.add(found.id)
    }
  }
  return own
}

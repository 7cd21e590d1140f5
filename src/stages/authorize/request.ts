import type { Config } from '../../config/schema.ts'
import type { Inquiry, Principal } from '../../exchange.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import type { ShapeOf } from '../../json/restore.ts'
import type { ReadTree } from '../../json/tree.ts'
import type { Grant, Inspect, Inward, Permit, Terms, Touches, View } from '../../permit.ts'
import type { Upstream } from '../../ports.ts'
import type { Cursors } from './cursors.ts'
import type { Holdings } from './holdings.ts'

/** One request under decision, and everything that may be asked while it is decided. */
export type Request = {
  readonly principal: Principal
  readonly inquiry: Inquiry
  readonly holdings: Holdings
  readonly upstream: Upstream
  readonly cursors: Cursors
  readonly config: Config
  readonly definitions: Definitions
  readonly inspect: Inspect
  readonly view: View
  readonly readTree: ReadTree
  /** The terms of every grant by which the caller may have been shown a resource of a type, reading first. */
  readonly ways: (type: string) => readonly Terms[]
  /** Which members of a resource are forms of one element. */
  readonly shapeOf: ShapeOf
  readonly inward: Inward
  readonly touches: Touches
  /** Both: a reference on either is to a resource of ours. */
  readonly bases: readonly string[]
  /** Why glass is broken, when an emergency is declared. */
  readonly reason: string | undefined
  /** Searches that may still be made on the way to this one decision, nested chains included. */
  readonly budget: { left: number }
  /** Decides another interaction for the same principal: what depends on a search is that search. */
  readonly again: (interaction: Interaction, body?: Buffer) => Promise<Permit>
}

/** Terms under which resources of one type come back, and nothing beside them. */
export function only(type: string, grant: Grant | undefined): Terms {
  return {
    grantFor: (other) => (other === type ? grant : undefined),
    mayReadBack: grant !== undefined,
  }
}

/** The request, but what has been looked at by the same terms is not looked at again. */
export function remembering(request: Request): Request {
  const known = new Map<string, readonly Terms[]>()
  return {
    ...request,
    inspect: once(request.inspect),
    view: once(request.view),
    ways: (type) => {
      const ways = known.get(type) ?? request.ways(type)
      known.set(type, ways)
      return ways
    },
  }
}

/** Of the same terms and the same bytes asked but once. */
function once<Found extends object>(
  look: (terms: Terms, resource: Buffer) => Found,
): (terms: Terms, resource: Buffer) => Found {
  const known = new WeakMap<Terms, WeakMap<Buffer, Found>>()
  return (terms, resource) => {
    const seen = known.get(terms) ?? new WeakMap<Buffer, Found>()
    known.set(terms, seen)
    const found = seen.get(resource) ?? look(terms, resource)
    seen.set(resource, found)
    return found
  }
}

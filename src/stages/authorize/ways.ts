import type { Principal } from '../../exchange.ts'
import { OPERATIONS } from '../../fhir/operations.ts'
import type { Grant } from '../../permit.ts'
import { ASKED } from './asked.ts'
import { Holdings, isAlike } from './holdings.ts'
import type { About, Asked, HoldingsParts } from './holdings.ts'

/** What shows resources, as policies are asked about it; reading first. */
type Showing = Pick<About, 'method' | 'operation'> & {
  readonly asked: Asked
  /** Whether it names the resource. */
  readonly isOfOne: boolean
}

const GET = { method: 'GET' } as const
const PLAIN: readonly Showing[] = [
  ...(['read', 'vread', 'history-instance'] as const).map((code) => ({
    ...{ ...GET, asked: ASKED[code], isOfOne: true },
  })),
  ...(['history-type', 'search-type', 'search-compartment'] as const).map((code) => ({
    ...{ ...GET, asked: ASKED[code], isOfOne: false },
  })),
  // By its form.
  { method: 'POST', asked: ASKED['search-type'], isOfOne: false },
]
const SHAPES: ReadonlySet<string> = new Set(['bundle', 'resource', 'job'])

function showingsOf(type: string): readonly Showing[] {
  const operations = OPERATIONS.filter(
    ({ shape, types, name }) =>
      SHAPES.has(shape) && (types === '*' || types.includes(type) || name === 'export'),
  )
  return [
    ...PLAIN,
    ...operations.map(({ name: operation, letter, level }) => ({
      ...{ ...GET, operation, isOfOne: level === 'instance' },
      asked: { letter, word: 'operation' },
    })),
  ]
}

/**
 * MASK-10: every grant by which the caller may have been shown a resource, each that shows something
 * else, reading first. Asked as the requests are that show it, and in an emergency also as without one.
 */
export function findWays(
  principal: Principal,
  { id, breakGlass = false }: About,
  parts: HoldingsParts,
  type: string,
): readonly Grant[] {
  const found: Grant[] = []
  for (const isEmergency of breakGlass ? [true, false] : [false]) {
    for (const { asked, isOfOne, method, operation } of showingsOf(type)) {
      const about = { id: isOfOne ? id : undefined, method, operation, breakGlass: isEmergency }
      const grant = new Holdings(principal, about, parts).look(type, asked)
      if (grant !== undefined && !found.some((one) => isAlike(one, grant))) found.push(grant)
    }
  }
  return found
}

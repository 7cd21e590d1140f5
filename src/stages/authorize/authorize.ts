import type { Config } from '../../config/schema.ts'
import type { Inquiry, Principal } from '../../exchange.ts'
import { createChoices } from '../../fhir/choices.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import { loadElements } from '../../fhir/elements.ts'
import type { InteractionCode } from '../../fhir/interaction.ts'
import { createTreeReaders } from '../../json/tree.ts'
import type { Seal } from '../../http/seal.ts'
import type { SmartScope } from '../../oauth/smart-scope.ts'
import { Permit } from '../../permit.ts'
import type { Criteria, Inspect, Inward, Touches, View } from '../../permit.ts'
import type { PolicySet } from '../../policy/evaluate.ts'
import type { Clock, Upstream } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import type { Stages } from '../../stages.ts'
import { decideConditional, findMatch } from './conditional.ts'
import { readEmergency } from './emergency.ts'
import { Holdings } from './holdings.ts'
import { decideOperation } from './operation.ts'
import { createCursors } from './cursors.ts'
import { decidePaging } from './paging.ts'
import { compileScope } from './granular.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'
import { decideHistory, decideInstance } from './read.ts'
import { decideSearch } from './search.ts'
import { findWays } from './ways.ts'
import { decideWrite } from './write.ts'

export type AuthorizeParts = {
  readonly policies: () => PolicySet
  readonly definitions: Definitions
  readonly inspect: Inspect
  readonly view: View
  readonly inward: Inward
  /** Without it every parameter may look at what is masked. */
  readonly touches?: Touches
  readonly clock: Clock
  /** Seals page links. */
  readonly seal: Seal
}

/** Searches made on the way to one decision: chains, nested ones included, and conditions. */
const MOST_SEARCHES = 8

/** What one decision has left to ask upstream, and the policies that it is made by to the end. */
type Budget = { left: number; readonly inForce: PolicySet }

type Decide = (request: Request) => Permit | Promise<Permit>

/** How each interaction is decided; what is not here is refused. */
const DECIDE: Readonly<Partial<Record<InteractionCode, Decide>>> = {
  read: decideInstance,
  vread: decideInstance,
  'history-instance': decideInstance,
  'history-type': decideHistory,
  'history-system': decideHistory,
  'search-type': decideSearch,
  'search-compartment': decideSearch,
  'search-system': decideSearch,
  create: decideWrite,
  update: decideWrite,
  patch: decideWrite,
  delete: decideWrite,
  operation: decideOperation,
  paging: decidePaging,
  'conditional-create': decideConditional,
  'conditional-update': decideConditional,
  'conditional-patch': decideConditional,
  'conditional-delete': decideConditional,
}

/** Builds the stage that decides whether a principal may, and on what terms. Both throw Refusal. */
export function createAuthorize(
  config: Config,
  parts: AuthorizeParts,
): Pick<Stages, 'authorize' | 'findMatch'> {
  const { policies, definitions, inspect, view, inward, touches = () => true, clock, seal } = parts
  const bases = [config.upstream.url, config.public.url].map((url) => url.replace(/\/$/, ''))

  const treeReaders = createTreeReaders(config.limits.jsonDepth)
  const shapeOf = createChoices(loadElements(definitions.version))

  /** SCOPE-7: the filters of a granular scope are search criteria, once for each scope and type. */
  const compiled = new WeakMap<SmartScope, Map<string, Criteria | undefined>>()
  function compile(scope: SmartScope, type: string): Criteria | undefined {
    let known = compiled.get(scope)
    if (known === undefined) {
      known = new Map<string, Criteria | undefined>()
      compiled.set(scope, known)
    }
    if (!known.has(type))
      known.set(type, compileScope(scope, type, definitions, config.limits, bases))
    return known.get(type)
  }

  function authorize(
    principal: Principal,
    inquiry: Inquiry,
    upstream: Upstream,
    budget: Budget,
  ): Permit | Promise<Permit> {
    const { code, type } = inquiry.interaction
    const decide = DECIDE[code]
    if (decide === undefined || (type !== undefined && !isKnown(type))) {
      throw new Refusal('interaction-refused')
    }
    return decide(open(principal, inquiry, upstream, budget))
  }

  function open(
    principal: Principal,
    inquiry: Inquiry,
    upstream: Upstream,
    budget: Budget,
  ): Request {
    const { id, method, operation } = inquiry.interaction
    const { inForce } = budget
    const reason = readEmergency(principal, inquiry, definitions)
    const about = { id, method, operation, breakGlass: reason !== undefined }
    const now = clock.now()
    const parts = { policies: inForce, definitions, compile, now, bases }
    const holdings = new Holdings(principal, about, parts)
    const cursors = createCursors(seal, principal, inForce.hash, now, config)
    return {
      principal,
      inquiry,
      holdings,
      upstream,
      config,
      definitions,
      inspect,
      view,
      inward,
      touches,
      readTree: treeReaders(),
      ways: (one) => findWays(principal, about, parts, one).map((grant) => only(one, grant)),
      shapeOf,
      bases,
      cursors,
      budget,
      reason,
      // The requested interaction stays the one that was asked: what it became is the gateway's doing.
      again: async (next, body) =>
        authorize(principal, { ...inquiry, interaction: next, body }, upstream, budget),
    }
  }

  function isKnown(type: string): boolean {
    return type === '*' || definitions.types.has(type)
  }

  return {
    authorize: (principal, inquiry, upstream) => {
      checkHeaders(inquiry)
      const inForce = policies()
      const permit = authorize(principal, inquiry, upstream, { left: MOST_SEARCHES, inForce })
      const { interaction } = inquiry
      const signed = ({ fields }: Permit): Permit => {
        // A further page is one of the question it belongs to, and so is what an export has come to.
        const requested = interaction.code === 'paging' ? fields.requested : interaction
        return Permit.issue({ ...fields, requested, policies: inForce.hash })
      }
      return permit instanceof Promise ? permit.then(signed) : signed(permit)
    },
    async findMatch(principal, inquiry, upstream) {
      checkHeaders(inquiry)
      // A reference that is a search is one of many (RATE-1): none brings others along.
      const left = inquiry.interaction.code === 'search-type' ? 1 : MOST_SEARCHES
      return findMatch(open(principal, inquiry, upstream, { left, inForce: policies() }))
    },
  }
}

/** Headers that would turn the interaction into another one upstream. */
function checkHeaders({ arrival: { headers }, interaction }: Inquiry): void {
  const isConditional = interaction.code === 'conditional-create'
  const isSecond = headers['if-none-exist'] !== undefined && !isConditional
  const { code, type } = interaction
  const mayTell = (code === 'create' || code === 'update') && type !== 'Provenance'
  if (isSecond || (headers['x-provenance'] !== undefined && !mayTell)) {
    throw new Refusal('interaction-refused', {
      detail: 'a header that asks for a second interaction',
    })
  }
  if (headers.prefer === undefined) return
  const isExport = interaction.operation?.startsWith('export') === true
  if (!isExport && /respond-async/i.test([headers.prefer].flat().join())) {
    throw new Refusal('interaction-refused', {
      detail: 'Prefer: respond-async',
      parameter: 'Prefer',
    })
  }
}

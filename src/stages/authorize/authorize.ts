import type { Config } from '../../config/schema.ts'
import type { Inquiry, Principal } from '../../exchange.ts'
import type { Definitions } from '../../fhir/definitions.ts'
import type { Interaction, InteractionCode } from '../../fhir/interaction.ts'
import type { Seal } from '../../http/seal.ts'
import { JSON_PATCH, parseMediaType } from '../../http/content.ts'
import type { SmartScope } from '../../oauth/smart-scope.ts'
import { patientsOf, Permit } from '../../permit.ts'
import type { Criteria, Grant, Inspect, MaskingProfile, Terms } from '../../permit.ts'
import type { PolicySet } from '../../policy/evaluate.ts'
import type { Clock, Upstream } from '../../ports.ts'
import { Refusal } from '../../refusal.ts'
import { isLinked, resolveChains } from './chain.ts'
import { decideConditional } from './conditional.ts'
import { readEmergency } from './emergency.ts'
import { Holdings } from './holdings.ts'
import type { Asked } from './holdings.ts'
import { findOperation } from '../../fhir/operations.ts'
import { decideOperation } from './operation.ts'
import { createCursors } from './cursors.ts'
import { decidePaging } from './paging.ts'
import { compileScope } from './granular.ts'
import { capCount, checkIncludes, checkParameters, narrow, takeShape } from './question.ts'
import { only } from './request.ts'
import type { Request } from './request.ts'
import { judgeWrite } from './write.ts'

export type AuthorizeParts = {
  readonly policies: () => PolicySet
  readonly definitions: Definitions
  readonly inspect: Inspect
  readonly clock: Clock
  /** Seals page links. */
  readonly seal: Seal
}

/** Searches made on the way to one decision: chains, nested ones included, and conditions. */
const MOST_SEARCHES = 8

type Decide = (request: Request) => Permit | Promise<Permit>

/**
 * SCOPE-3: the letter of each plain interaction, and the word that policies have for it. To patch is
 * to update; to search or look back over several types is to do it with each of them.
 */
const ASKED = {
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
const READ: Asked = ASKED.read

/** What a plain interaction or an operation needs of its type; undefined for all others. */
export function askedOf(interaction: Interaction): Asked | undefined {
  const row = findOperation(interaction)
  if (row !== undefined) return { letter: row.letter, word: 'operation' }
  return Object.hasOwn(ASKED, interaction.code)
    ? ASKED[interaction.code as keyof typeof ASKED]
    : undefined
}

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

/** Builds the stage that decides whether a principal may, and on what terms. Throws Refusal. */
export function createAuthorize(
  config: Config,
  { policies, definitions, inspect, clock, seal }: AuthorizeParts,
): (principal: Principal, inquiry: Inquiry, upstream: Upstream) => Permit | Promise<Permit> {
  const bases = [config.upstream.url, config.public.url].map((url) => url.replace(/\/$/, ''))

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
    budget: { left: number },
  ): Permit | Promise<Permit> {
    const { interaction } = inquiry
    const { code, type, id, method, operation } = interaction
    const decide = DECIDE[code]
    if (decide === undefined || (type !== undefined && !isKnown(type))) {
      throw new Refusal('interaction-refused')
    }
    const inForce = policies()
    const reason = readEmergency(principal, inquiry, definitions)
    const about = {
      ...{ id, method, breakGlass: reason !== undefined },
      ...(operation === undefined ? {} : { operation }),
    }
    const holdings = new Holdings(principal, about, {
      policies: inForce,
      definitions,
      compile,
      now: clock.now(),
    })
    const cursors = createCursors(
      seal,
      principal,
      inForce.hash,
      clock.now(),
      config.paging.lifetimeSeconds,
    )
    return decide({
      ...{
        principal,
        inquiry,
        holdings,
        upstream,
        config,
        definitions,
        inspect,
        bases,
        cursors,
        budget,
        reason,
      },
      // The requested interaction stays the one that was asked: what it became is the gateway's doing.
      again: async (next, body) =>
        authorize(principal, { ...inquiry, interaction: next, body }, upstream, budget),
    })
  }

  function isKnown(type: string): boolean {
    return type === '*' || definitions.types.has(type)
  }

  return (principal, inquiry, upstream) => {
    checkHeaders(inquiry)
    const permit = authorize(principal, inquiry, upstream, { left: MOST_SEARCHES })
    const { interaction } = inquiry
    // A further page is one of the question it belongs to.
    if (interaction.code === 'paging') return permit
    return permit instanceof Promise
      ? permit.then((found) => Permit.issue({ ...found.fields, requested: interaction }))
      : permit
  }
}

/** A question must not ask what is masked for any of the resources it is about. */
function strictest({ reach }: Grant): MaskingProfile {
  return reach.some(({ masking }) => masking === 'de-identified') ? 'de-identified' : 'baseline'
}

function brokenBy(
  { isEmergency }: Grant,
  reason: string | undefined,
): { reason: string } | undefined {
  return isEmergency === true && reason !== undefined ? { reason } : undefined
}

/** read, vread and the history of one resource. */
function decideInstance({ inquiry, holdings, definitions, cursors, reason }: Request): Permit {
  const { interaction } = inquiry
  const { type = '' } = interaction
  const grant = holdings.demand(type, ASKED[interaction.code as 'read'])
  const { parameters, trim } = takeShape(interaction.parameters)
  checkParameters(parameters, strictest(grant), definitions)
  return Permit.issue({
    ...{ interaction: { ...interaction, parameters }, requested: interaction, body: undefined },
    ...{
      terms: { ...only(type, grant), trim },
      rules: grant.rules,
      patients: patientsOf(grant),
      breakGlass: brokenBy(grant, reason),
    },
    pageLink: (target) => cursors.close(target, interaction),
  })
}

/** The history of a type or of all: upstream cannot narrow it, so every version is judged alone. */
function decideHistory({ inquiry, holdings, definitions, config, cursors }: Request): Permit {
  const { interaction } = inquiry
  const { type } = interaction
  const asked = ASKED[interaction.code as 'history-type']
  const { parameters, trim } = takeShape(interaction.parameters)
  if (parameters.some(({ name }) => name === '_list')) {
    throw new Refusal('parameter-forbidden', { parameter: '_list' })
  }
  const grants = type === undefined ? [] : [holdings.demand(type, asked)]
  if (type === undefined) holdings.demandAny(definitions.types, asked)
  const terms: Terms = {
    grantFor: (other) =>
      type === undefined || other === type ? holdings.look(other, asked) : undefined,
    mayReadBack: true,
    trim,
  }
  return Permit.issue({
    interaction: { ...interaction, parameters: capCount(parameters, config.limits.count) },
    ...{ requested: interaction, body: undefined, terms },
    rules: grants.flatMap(({ rules }) => rules),
    pageLink: (target) => cursors.close(target, interaction),
  })
}

/** Search of a type, of a type in a patient's compartment, or of several types. */
function decideSearch(request: Request): Permit | Promise<Permit> {
  const { interaction } = request.inquiry
  const { type, compartment } = interaction
  if (compartment !== undefined && compartment.type !== 'Patient') {
    throw new Refusal('interaction-refused', { detail: 'not the compartment of a patient' })
  }
  if (type === undefined || type === '*') return decideSystemSearch(request)
  // Held before anything is asked upstream on behalf of it.
  const grant = request.holdings.demand(type, ASKED[interaction.code as 'search-type'])
  if (!interaction.parameters.some(isLinked)) return permitSearch(request, type, grant, interaction)
  return resolveChains(request, interaction).then((plain) =>
    permitSearch(request, type, grant, plain),
  )
}

function permitSearch(
  { inquiry, holdings, definitions, config, cursors, reason }: Request,
  type: string,
  grant: Grant,
  interaction: Interaction,
): Permit {
  const { parameters, trim } = takeShape(interaction.parameters)
  checkParameters(parameters, strictest(grant), definitions)
  checkIncludes(parameters, definitions, (other) => holdings.find(other) !== undefined)
  const question = { ...interaction, parameters }
  const hasIncludes = parameters.some(({ name }) => name.endsWith('include'))
  const terms: Terms = hasIncludes
    ? {
        grantFor: (other) => (other === type ? grant : holdings.find(other)),
        mayReadBack: true,
        trim,
      }
    : { ...only(type, grant), trim }
  const compartment = interaction.compartment?.id
  return Permit.issue({
    interaction: narrow(question, type, grant, config.limits.count, definitions),
    ...{ requested: inquiry.interaction, body: undefined, terms, rules: grant.rules },
    patients: compartment === undefined ? patientsOf(grant) : [compartment],
    pageLink: (target) => cursors.close(target, inquiry.interaction),
    breakGlass: brokenBy(grant, reason),
  })
}

/** Search over several types: they must be named, and each must be held. */
function decideSystemSearch({ inquiry, holdings, definitions, config, cursors }: Request): Permit {
  const { interaction } = inquiry
  const types = interaction.parameters
    .filter(({ name }) => name === '_type')
    .flatMap(({ values }) => values)
  if (types.length === 0 || interaction.compartment !== undefined) {
    throw new Refusal('interaction-refused', { detail: 'a search of all types there are' })
  }
  const grants = types.map((type) => holdings.demand(type, ASKED['search-system']))
  const { parameters, trim } = takeShape(interaction.parameters)
  for (const grant of grants) checkParameters(parameters, strictest(grant), definitions)
  if (parameters.some((parameter) => isLinked(parameter))) {
    throw new Refusal('parameter-forbidden', { detail: 'a chain from several types' })
  }
  checkIncludes(parameters, definitions, (other) => holdings.find(other) !== undefined)
  return Permit.issue({
    interaction: { ...interaction, parameters: capCount(parameters, config.limits.count) },
    ...{ requested: interaction, body: undefined },
    terms: {
      grantFor: (other) =>
        types.includes(other) ? holdings.look(other, ASKED['search-system']) : holdings.find(other),
      mayReadBack: true,
      trim,
    },
    rules: [...new Set(grants.flatMap(({ rules }) => rules))],
    pageLink: (target) => cursors.close(target, interaction),
  })
}

/** create, update, patch and delete; what comes back is shown as a read would show it (SCOPE-4). */
async function decideWrite(request: Request): Promise<Permit> {
  const { interaction, body, arrival } = request.inquiry
  const { type = '' } = interaction
  const grant = request.holdings.demand(type, ASKED[interaction.code as 'create'])
  const { parameters, trim } = takeShape(interaction.parameters)
  checkParameters(parameters, strictest(grant), request.definitions)
  const { ifMatch, patients } = await judgeWrite(request, type, grant)
  const isJsonPatch = parseMediaType(arrival.headers['content-type']) === JSON_PATCH
  return Permit.issue({
    ...{ interaction: { ...interaction, parameters }, requested: interaction, body, patients },
    terms: { ...only(type, request.holdings.look(type, READ)), trim },
    rules: grant.rules,
    ifMatch,
    contentType: interaction.code === 'patch' && isJsonPatch ? JSON_PATCH : undefined,
  })
}

/** Headers that would turn the interaction into another one upstream. */
function checkHeaders({ arrival: { headers }, interaction }: Inquiry): void {
  const isConditional = interaction.code === 'conditional-create'
  const isSecond = headers['if-none-exist'] !== undefined && !isConditional
  if (isSecond || headers['x-provenance'] !== undefined) {
    throw new Refusal('interaction-refused', {
      detail: 'a header that asks for a second interaction',
    })
  }
  if (/respond-async/i.test([headers.prefer ?? ''].flat().join())) {
    throw new Refusal('interaction-refused', {
      detail: 'Prefer: respond-async',
      parameter: 'Prefer',
    })
  }
}

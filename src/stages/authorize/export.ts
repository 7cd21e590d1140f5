import { INSTANT } from '../../fhir/datatypes.ts'
import type { Interaction, Parameter } from '../../fhir/interaction.ts'
import type { Operation } from '../../fhir/operations.ts'
import { isNdjson, NDJSON } from '../../http/content.ts'
import { Permit } from '../../permit.ts'
import type { BulkKind } from '../../permit.ts'
import { Refusal } from '../../refusal.ts'
import { splitTarget } from './cursors.ts'
import type { Asked } from './holdings.ts'
import type { Request } from './request.ts'

const EXPORTED: Asked = { letter: 'r', word: 'operation' }

/**
 * Bulk Data Access (https://hl7.org/fhir/uv/bulkdata) for clients without an end-user: kick-off,
 * status and files. The addresses of a job are sealed for its owner; each time one comes back, the
 * kick-off is decided again, with the scopes and policies of now (pitfall 18).
 */
export function decideExport(request: Request, row: Operation): Permit | Promise<Permit> {
  if (request.principal.kind !== 'system') {
    throw new Refusal('operation-refused', { detail: 'an export for an end-user' })
  }
  return row.shape === 'job' ? decideKickOff(request) : decideFollowUp(request)
}

/** `$export`, of everything, of all patients or of a group. */
function decideKickOff({ principal, inquiry, holdings, definitions, cursors }: Request): Permit {
  const { interaction } = inquiry
  const { parameters } = interaction
  const types = readTypes(parameters, definitions.types)
  // BKS-1: data that is asked for and out of scope fails the whole request.
  const grants = types?.map((type) => holdings.demand(type, EXPORTED))
  if (grants === undefined) holdings.demandAny(definitions.types, EXPORTED)
  if (interaction.type === 'Group') holdings.demand('Group', EXPORTED)
  const isWide = principal.scopes.some(
    ({ level, target, letters }) => level === 'system' && target === '*' && letters.has('r'),
  )
  // Scopes that name types narrow the question; a wildcard leaves it to upstream which there are.
  const asked =
    types ??
    (isWide
      ? []
      : [...definitions.types].filter((type) => holdings.look(type, EXPORTED) !== undefined))
  return Permit.issue({
    interaction: { ...interaction, parameters: buildParameters(parameters, asked) },
    ...{ requested: interaction, body: undefined, shape: 'job' },
    rules: [...new Set(grants?.flatMap(({ rules }) => rules))],
    terms: {
      grantFor: (type) =>
        types?.includes(type) === false ? undefined : holdings.look(type, EXPORTED),
      mayReadBack: true,
    },
    bulk: {
      kickOff: interaction,
      link: (kind, target) => {
        const sealed = cursors.closeBulk(kind, target, interaction)
        return kind === 'job' ? `/$export-status?_job=${sealed}` : `/$export-file?_file=${sealed}`
      },
    },
  })
}

/** The status of a job, its end, or one of its files. */
async function decideFollowUp({ inquiry, cursors, again }: Request): Promise<Permit> {
  const { interaction } = inquiry
  const isJob = interaction.operation === 'export-status'
  const [sealed, ...more] = interaction.parameters
  const cursor = cursors.openBulk(sealed?.values.join() ?? '')
  if (more.length > 0) throw new Refusal('parameter-malformed')
  if (cursor === undefined || (cursor.kind === 'job') !== isJob) {
    throw new Refusal('export-gone')
  }
  const { asked, target, kind } = cursor
  const permit = await again(asked)
  return Permit.issue({
    ...permit.fields,
    ...{ interaction, shape: shapeOf(kind), target: splitTarget(target) },
  })
}

const shapeOf = (kind: BulkKind) => (kind === 'job' ? 'manifest' : kind)

/** The types that `_type` names, or undefined: it is not there. */
function readTypes(
  parameters: readonly Parameter[],
  known: ReadonlySet<string>,
): readonly string[] | undefined {
  const named = parameters.filter(({ name }) => name === '_type')
  if (named.length === 0) return undefined
  const types = [...new Set(named.flatMap(({ values }) => values))]
  if (types.every((type) => known.has(type))) return types
  throw new Refusal('parameter-malformed', { parameter: '_type' })
}

/** The question as upstream gets it: checked instants, our own format, the types that may come. */
function buildParameters(
  parameters: Interaction['parameters'],
  types: readonly string[],
): Parameter[] {
  const built: Parameter[] = [{ name: '_outputFormat', values: [NDJSON] }]
  if (types.length > 0) built.push({ name: '_type', values: types })
  for (const { name, values } of parameters) {
    const value = values.join()
    if (name === '_outputFormat' && !isNdjson(value.replace(' ', '+'))) {
      throw new Refusal('not-acceptable', { parameter: name })
    }
    if (name !== '_since' && name !== '_until') continue
    // '+' in a query is a space once decoded.
    const instant = value.replace(' ', '+')
    if (!INSTANT.test(instant) || built.some((one) => one.name === name)) {
      throw new Refusal('parameter-malformed', { parameter: name })
    }
    built.push({ name, values: [instant] })
  }
  return built
}

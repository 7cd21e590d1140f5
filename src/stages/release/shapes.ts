import { kindOf, KIND, member, textOf } from '../../json/tape.ts'
import type { Tape } from '../../json/tape.ts'
import type { Tally } from '../../exchange.ts'
import { unreadable } from './bundle.ts'
import type { Context } from './context.ts'
import { planMasking } from './mask/plan-masking.ts'
import { addCounts } from './tally.ts'

/** Parameters that name no resource: terminology. Whatever else comes is not what was permitted. */
export function releaseParameters(tape: Tape, context: Context, tally: Tally): Buffer {
  const { at } = context.words
  if (textOf(tape, member(tape, 0, at.resourceType)) !== 'Parameters') {
    throw unreadable('no Parameters where they belong')
  }
  for (let entry = 1, met = 0; entry < tape.length; entry++) {
    if (kindOf(tape, entry) !== KIND.key) continue
    const name = textOf(tape, entry)
    if (name === 'resource' || (name === 'resourceType' && met++ > 0)) {
      throw unreadable('a resource where none belongs')
    }
  }
  tally.inspected += 1
  tally.released += 1
  const masked = planMasking(tape, 0, undefined, context)
  if (masked === undefined) throw unreadable('Parameters that may not be seen')
  const { edits, counts } = masked
  addCounts(tally, counts)
  return tape.splice(edits)
}

const SEVERITIES = new Set(['fatal', 'error', 'warning', 'information', 'success'])
const CODE = /^[a-z][a-z-]{1,40}$/
/** Element paths, with indexes; line and column of what was sent. */
const PLACE = /^[A-Za-z0-9_.[\]()'-]{1,200}$/

/**
 * What upstream found of a resource that was sent to be validated: severities, codes and places.
 * Its words stay behind: they may tell of other resources, or of the server.
 */
export function releaseOutcome(bytes: Buffer): Buffer {
  const outcome = JSON.parse(bytes.toString('utf8')) as { resourceType?: unknown; issue?: unknown }
  if (outcome.resourceType !== 'OperationOutcome' || !Array.isArray(outcome.issue)) {
    throw unreadable('no OperationOutcome where one belongs')
  }
  const issue = (outcome.issue as unknown[]).slice(0, 1000).flatMap((one) => {
    if (typeof one !== 'object' || one === null) return []
    const { severity, code, expression, location } = one as Record<string, unknown>
    if (typeof severity !== 'string' || !SEVERITIES.has(severity)) return []
    return [
      {
        severity,
        code: typeof code === 'string' && CODE.test(code) ? code : 'invalid',
        ...places('expression', expression),
        ...places('location', location),
      },
    ]
  })
  return Buffer.from(JSON.stringify({ resourceType: 'OperationOutcome', issue }))
}

function places(name: string, value: unknown): Record<string, string[]> {
  if (!Array.isArray(value)) return {}
  const kept = (value as unknown[]).filter(
    (place): place is string => typeof place === 'string' && PLACE.test(place),
  )
  return kept.length === 0 ? {} : { [name]: kept }
}

import type { Principal } from '../exchange.ts'
import { BASELINE } from './load-masking.ts'
import type { PolicyRequest, PolicySet } from './evaluate.ts'
import type { Example, Question } from './example-schema.ts'

/** Examples: what policies are meant to say, checked whenever they are loaded. */

/** What an example asks, in a line. */
export function describeExample({ allow, deny, mask, because }: Example): string {
  const asked = allow ?? deny ?? mask
  if (asked === undefined) return ''
  const { as, level, interaction, type, operation } = asked
  const who = as.fhirUser ?? as.patient ?? as.clientId ?? as.kind
  const what = `${who} ${level}/ ${interaction} ${type}${operation === undefined ? '' : `/${operation}`}`
  return because === undefined ? what : `${what} (${because})`
}

/** Why an example does not hold, or undefined: it does. */
export function checkExample(set: PolicySet, example: Example, now: number): string | undefined {
  const { allow, deny, mask, results, confidentiality } = example
  const asked = allow ?? deny ?? mask
  if (asked === undefined) return 'asks nothing'
  const decision = set.evaluate(principalOf(asked, now), requestOf(asked, now))
  const by = decision.rules.length === 0 ? 'by no rule' : `by ${decision.rules.join(', ')}`
  if (deny === undefined && !decision.permitted) return `should be allowed, and is denied ${by}`
  if (deny !== undefined && decision.permitted) return `should be denied, and is allowed ${by}`
  const masked = [...decision.masking].filter((name) => name !== BASELINE).sort()
  const wanted = example.masking?.filter((name) => name !== BASELINE).sort()
  const isAsWanted =
    wanted === undefined ? mask === undefined || masked.length > 0 : wanted.join() === masked.join()
  if (!isAsWanted) {
    const named = (names: readonly string[]): string => names.join(', ') || BASELINE
    const should = wanted === undefined ? 'beyond the baseline' : `"${named(wanted)}"`
    return `should be masked ${should}, and is masked "${named(masked)}" ${by}`
  }
  if (results !== undefined && decision.results !== results) {
    return `should have pages of ${results}, and has ${decision.results ?? 'any size'} ${by}`
  }
  const seen = decision.clearance.confidentiality
  if (confidentiality !== undefined && seen !== confidentiality) {
    return `should see up to ${confidentiality}, and sees up to ${seen} ${by}`
  }
  return undefined
}

function principalOf({ as, at }: Question, now: number): Principal {
  const seconds = (at === undefined ? now : Date.parse(at)) / 1000
  const [type = '', id = ''] = (as.fhirUser ?? '').split('/')
  return {
    ...{
      issuer: as.issuer,
      subject: 'example',
      clientId: as.clientId,
      kind: as.kind,
      key: 'example',
    },
    ...{ acr: as.acr, amr: as.amr },
    authTime: as.authenticatedAgo === undefined ? undefined : seconds - as.authenticatedAgo,
    ...{ encounter: as.encounter, context: as.context },
    ...{ scopes: [], patient: as.patient, roles: as.roles, purposes: as.purposes },
    fhirUser: as.fhirUser === undefined ? undefined : { type, id },
    ...{ organization: as.organization, tokenId: undefined, issuedAt: 0, expiresAt: 0 },
  }
}

function requestOf(asked: Question, now: number): PolicyRequest {
  const { level, interaction, type, id, method, operation, at, emergency } = asked
  return {
    ...{ level, interaction, type, id, method, breakGlass: emergency },
    ...(operation === undefined ? {} : { operation: operation.slice(1) }),
    time: at === undefined ? now : Date.parse(at),
  }
}

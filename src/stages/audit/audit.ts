import type { Config } from '../../config/schema.ts'
import type { Identity } from '../../oauth/extensions.ts'
import type { Exchange, Principal } from '../../exchange.ts'
import type {
  AuditDetail,
  AuditedAccess,
  AuditedPrincipal,
  AuditOutcome,
} from '../../fhir/audit-event.ts'
import { createAuditEventFormat, formatForm } from '../../fhir/audit-event.ts'
import type { Interaction } from '../../fhir/interaction.ts'
import { withoutCredentials } from '../../oauth/redaction.ts'
import type { AuditSink } from '../../ports.ts'
import type { Reason } from '../../refusal.ts'
import { REFUSALS } from '../../refusal.ts'

/** A token shorter than this shows too much of itself by its last 32 characters. */
const SHORTEST_TOKEN_QUOTED = 64

export type Audit = {
  /** Whether records can be written: when false, a request is refused before it goes upstream. */
  readonly isReady: () => boolean
  /**
   * Records one exchange, once, on whichever way out (AUD-1). Resolves when the record is handed to
   * the operating system; rejects when it is not, and then nothing may be released.
   */
  readonly record: (exchange: Exchange) => Promise<void>
}

/** The audit of every access attempt, allowed or not, as AuditEvents (AUD-1 to AUD-7). */
export function createAudit(
  config: Config,
  ports: {
    readonly sink: AuditSink
    /** Which policies are in force (GOV-2): recorded of what none has permitted. */
    readonly policyHash?: () => string
  },
): Audit {
  const { policyHash = () => '' } = ports
  const { site, observer, patientsPerSearch } = config.audit
  const format = createAuditEventFormat({
    site,
    observer,
    publicUrl: config.public.url,
    patientsPerSearch,
    targetBytes: config.limits.targetBytes,
    withoutCredentials,
  })
  const identify = createIdentify()
  return {
    isReady: () => ports.sink.isReady(),
    record: (exchange) => ports.sink.append(format(accessOf(exchange, identify, policyHash()))),
  }
}

type Identify = (principal: Principal, authorization: unknown) => AuditedPrincipal

function accessOf(exchange: Exchange, identify: Identify, policyHash: string): AuditedAccess {
  const { facts, arrival } = exchange
  const interaction = facts.permit?.requested ?? facts.interaction
  const failure = failureOf(exchange)
  const accept = arrival.headers['accept']
  return {
    requestId: exchange.id,
    recorded: exchange.startedAt,
    outcome: failure === undefined ? '0' : failure.outcome,
    reason: failure?.reason,
    address: arrival.address,
    interaction,
    request: {
      method: arrival.method,
      target: arrival.target,
      accept: Array.isArray(accept) ? accept.join(', ') : accept,
      body: interaction?.byPost === true ? formatForm(interaction.parameters) : undefined,
    },
    principal:
      facts.principal === undefined
        ? undefined
        : identify(facts.principal, arrival.headers['authorization']),
    resource: facts.tally?.resource,
    patients: patientsOf(exchange, interaction),
    alert: alertOf(exchange),
    details: detailsOf(exchange, facts.permit?.policies ?? policyHash),
  }
}

function alertOf({ facts, isEmergencyRefused }: Exchange): AuditedAccess['alert'] {
  if (facts.permit?.breakGlass !== undefined) return 'emergency'
  return isEmergencyRefused ? 'emergency-refused' : undefined
}

/** The same object for the same principal and token, so that what is written of it is made once. */
function createIdentify(): Identify {
  const known = new WeakMap<Principal, AuditedPrincipal>()
  return (principal, authorization) => {
    const tokenEnd = tokenEndOf(principal, authorization)
    const last = known.get(principal)
    if (last !== undefined && last.tokenEnd === tokenEnd) return last
    const { issuer, subject, clientId, kind, tokenId, roles, purposes } = principal
    const identity = { issuer, subject, clientId, kind, tokenId, tokenEnd, roles, purposes }
    known.set(principal, identity)
    return identity
  }
}

function tokenEndOf(principal: Principal, authorization: unknown): string | undefined {
  if (principal.tokenId !== undefined || typeof authorization !== 'string') return undefined
  const token = authorization.slice(authorization.indexOf(' ') + 1).trim()
  return token.length < SHORTEST_TOKEN_QUOTED ? undefined : token.slice(-32)
}

/** Success only when an answer left whole, and it was one of success. */
function failureOf({ facts }: Exchange): { outcome: AuditOutcome; reason: string } | undefined {
  const { outcome, reason, status, withholds } = facts
  if (outcome === 'released' && reason === undefined && (status ?? 200) < 400) return undefined
  if (reason !== undefined) return { outcome: severityOf(reason, withholds === true), reason }
  if (outcome === 'aborted') return { outcome: '4', reason: 'aborted' }
  // No reason and no success: a fault of ours, and the worst outcome is the safe reading.
  return { outcome: '12', reason: 'internal' }
}

/** 8 when who may do what was at stake or upstream failed, 12 when we failed, else 4: a true miss too. */
function severityOf(reason: Reason, withholds: boolean): AuditOutcome {
  if (reason === 'internal' || reason === 'audit-unavailable') return '12'
  const { status } = REFUSALS[reason]
  return withholds || status === 401 || status === 403 || status >= 500 ? '8' : '4'
}

/**
 * Whose data it was: what release found; else whom the permit narrowed to, because a search that
 * found nothing was still about this patient; else whom the target names.
 */
function patientsOf({ facts }: Exchange, interaction: Interaction | undefined): string[] {
  const found = facts.tally?.patients
  if (found !== undefined && found.size > 0) return [...found]
  if (interaction === undefined) return []
  const { type, id, compartment } = interaction
  if (type === 'Patient' && id !== undefined) return [id]
  if (compartment?.type === 'Patient') return [compartment.id]
  return [...(facts.permit?.patients ?? [])]
}

function detailsOf({ facts }: Exchange, policyHash: string): AuditDetail[] {
  const { outcome, status, upstreamStatus, tally, principal, permit } = facts
  const details: AuditDetail[] = []
  if (outcome !== undefined) details.push(['outcome', outcome])
  if (status !== undefined) details.push(['status', status])
  if (upstreamStatus !== undefined) details.push(['upstream-status', upstreamStatus])
  if (tally !== undefined) {
    const { inspected, released, withheld, masked } = tally
    details.push(['inspected', inspected], ['released', released], ['withheld', withheld])
    for (const [rule, count] of masked) details.push([`masked-${rule}`, count])
  }
  const { organization, identity } = principal ?? {}
  if (organization !== undefined) details.push(['organization', organization])
  if (identity !== undefined) details.push(...identityOf(identity))
  for (const rule of permit?.rules ?? []) details.push(['rule', rule])
  const { breakGlass } = permit ?? {}
  if (breakGlass !== undefined) details.push(['break-glass', breakGlass.reason])
  if (policyHash !== '') details.push(['policies', policyHash])
  return details
}

/** UDAP-1, IUA-1: who the issuer says that it was, and on whose consent. */
function identityOf(identity: Identity): AuditDetail[] {
  const said: [name: string, text: string | undefined][] = [
    ['subject-name', identity.subjectName],
    ['home-community', identity.homeCommunity],
    ['national-provider', identity.nationalProvider],
    ['person', identity.person],
    ...identity.consentPolicies.map((text): [string, string] => ['consent-policy', text]),
    ...identity.consentReferences.map((text): [string, string] => ['consent', text]),
    ['consent-patient', identity.consentPatient],
  ]
  return said.flatMap(([name, text]): AuditDetail[] => (text === undefined ? [] : [[name, text]]))
}

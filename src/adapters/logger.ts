import type { DestinationStream } from 'pino'
import { pino } from 'pino'
import type { Config } from '../config/schema.ts'
import type { Exchange, Observer } from '../exchange.ts'
import { withoutTokens } from '../oauth/redaction.ts'
import type { Log } from '../ports.ts'
import type { Reason } from '../refusal.ts'

/** The only fields that a line may have (AUD-15). Another one is left out and named in `dropped`. */
const FIELDS = new Set(
  (
    'address adminUrl attempt bucket bytes check code column count detail error event file host inspected ' +
    'interaction issuer kid level line masked method names outcome path pid policies port problem ' +
    'problems reason records released requestId rule rules seconds setting signal stage status type ' +
    'upstreamStatus url version warning withheld'
  ).split(' '),
)
const LONGEST = 1000

/**
 * The operational log: JSON lines, times in UTC. Values are strings, numbers and
 * booleans (lists of them too); an error is its type, code, message and stack.
 */
export function createLogger(level: Config['log']['level'], destination: DestinationStream): Log {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  const out = pino(options, destination)
  return {
    debug: (fields, message) => {
      if (out.isLevelEnabled('debug')) out.debug(allowed(fields), message)
    },
    info: (fields, message) => {
      if (out.isLevelEnabled('info')) out.info(allowed(fields), message)
    },
    warn: (fields, message) => {
      if (out.isLevelEnabled('warn')) out.warn(allowed(fields), message)
    },
    error: (fields, message) => {
      if (out.isLevelEnabled('error')) out.error(allowed(fields), message)
    },
  }
}

/** A line of this log about those that nobody took. */
export function formatMissing(count: number): string {
  const msg = 'so many lines of this log are missing: nobody took them'
  return `${JSON.stringify({ level: 'warn', time: new Date().toISOString(), count, msg })}\n`
}

function allowed(fields: object): Record<string, unknown> {
  const line: Record<string, unknown> = {}
  const dropped: string[] = []
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue
    if (FIELDS.has(name)) line[name] = plain(value)
    else dropped.push(name)
  }
  if (dropped.length > 0) line['dropped'] = dropped
  return line
}

function plain(value: unknown): unknown {
  if (typeof value === 'string') return clean(value)
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return value
  if (value instanceof Error) return plainError(value)
  if (Array.isArray(value))
    return value.map((each: unknown) => (isScalar(each) ? plain(each) : '…'))
  return '…'
}

function isScalar(value: unknown): boolean {
  return ['string', 'number', 'boolean'].includes(typeof value)
}

/** Tokens and credentials in URLs are taken out, whoever put them there. */
function clean(value: string): string {
  // Most values are a word or a code; every rule below needs one of these.
  if (value.length < 64 && !/eyJ|[ @]/.test(value)) return value
  const short = value.length > LONGEST ? `${value.slice(0, LONGEST)}…` : value
  return withoutTokens(short)
    .replace(/\b(bearer|basic|dpop) +[\w~+/=.-]+/gi, '$1 [removed]')
    .replace(/(\w:\/\/)[^\s/@]+@/g, '$1[removed]@')
}

function plainError(error: Error): Record<string, unknown> {
  // The engine quotes the text it could not parse, which is a body or a claim.
  const isParse = error instanceof SyntaxError
  const line: Record<string, unknown> = { type: error.name }
  if ('code' in error && isScalar(error.code)) line['code'] = error.code
  if (!isParse) line['message'] = clean(error.message)
  const frames = error.stack?.split('\n').filter((each) => /^\s+at /.test(each))
  if (frames !== undefined && frames.length > 0) line['stack'] = frames.slice(0, 12).join('\n')
  if (error.cause instanceof Error) line['cause'] = plainError(error.cause)
  return line
}

/** OWASP Application Logging Vocabulary names, for what a SIEM watches (AUD-16). */
const EVENTS: Readonly<Partial<Record<Reason, string>>> = {
  'credentials-malformed': 'authn_login_fail',
  'credentials-missing': 'authn_login_fail',
  'token-invalid': 'authn_login_fail',
  'token-expired': 'authn_login_fail',
  'token-revoked': 'authn_token_reuse',
  'proof-invalid': 'authn_login_fail',
  'strength-insufficient': 'authz_fail',
  'scope-insufficient': 'authz_fail',
  'policy-denied': 'authz_fail',
  'compartment-denied': 'authz_fail',
  'interaction-refused': 'authz_fail',
  'operation-refused': 'authz_fail',
  'parameter-forbidden': 'authz_fail',
  'rate-exceeded': 'excess_rate_limit_exceeded',
  'target-malformed': 'input_validation_fail',
  'target-too-long': 'input_validation_fail',
  'parameter-malformed': 'input_validation_fail',
  'parameter-unknown': 'input_validation_fail',
  'header-malformed': 'input_validation_fail',
  'headers-too-large': 'input_validation_fail',
  'media-type-unsupported': 'input_validation_fail',
  'method-not-allowed': 'input_validation_fail',
  'interaction-unknown': 'input_validation_fail',
  'body-malformed': 'input_validation_fail',
  'body-mismatch': 'input_validation_fail',
  'body-rule-broken': 'input_validation_fail',
  'body-too-large': 'input_validation_fail',
  'audit-unavailable': 'sys_monitor_disabled',
}

const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/**
 * One line for each exchange. It names what was asked by code and resource type, never by id, query
 * or token; the address stands on refusals only, where a SIEM needs it.
 */
export function createExchangeLog(log: Log): Observer {
  return {
    exchangeEnded(exchange) {
      const { outcome, reason } = exchange.facts
      const fields = fieldsOf(exchange)
      if (reason !== undefined && outcome !== 'released') {
        const event = EVENTS[reason] ?? (exchange.isEmergencyRefused ? 'authz_fail' : undefined)
        Object.assign(fields, { reason, event, detail: exchange.facts.detail })
        if (outcome === 'refused') fields['address'] = exchange.arrival.address
        if (event === 'sys_monitor_disabled') log.error(fields, 'exchange')
        else if (outcome === 'failed' || event !== undefined) log.warn(fields, 'exchange')
        else log.info(fields, 'exchange')
      } else if (exchange.isEmergencyRefused) {
        // Answered as if nothing had been declared, but somebody should know.
        log.warn({ ...fields, event: 'authz_fail', detail: 'emergency-refused' }, 'exchange')
      } else if (outcome === undefined || outcome === 'failed') log.warn(fields, 'exchange')
      else log.info(fields, 'exchange')
    },
  }
}

function fieldsOf(exchange: Exchange): Record<string, unknown> {
  const { facts, arrival } = exchange
  const fields: Record<string, unknown> = {
    requestId: exchange.id,
    method: METHODS.has(arrival.method) ? arrival.method : 'other',
    interaction: facts.interaction?.code,
    type: facts.interaction?.type,
    status: facts.status,
    outcome: facts.outcome ?? 'failed',
    seconds: Math.round(exchange.elapsed * 1e6) / 1e6,
    upstreamStatus: facts.upstreamStatus,
  }
  if (facts.tally !== undefined) {
    const { inspected, released, withheld, masked } = facts.tally
    let values = 0
    for (const count of masked.values()) values += count
    Object.assign(fields, { inspected, released, withheld, masked: values })
  }
  return fields
}

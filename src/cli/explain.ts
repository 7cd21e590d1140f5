import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Config } from '../config/schema.ts'
import { shippedPolicies } from '../config/shipped.ts'
import type { Inquiry, Principal } from '../exchange.ts'
import { formatProblem } from '../config/load.ts'
import { loadDefinitions } from '../fhir/definitions.ts'
import type { Definitions } from '../fhir/definitions.ts'
import { REASON_HEADER } from '../fhir/emergency.ts'
import { parseInteraction } from '../fhir/interaction.ts'
import type { Interaction } from '../fhir/interaction.ts'
import { loadPolicies, PolicyError } from '../policy/load.ts'
import { profilesOf } from '../policy/load-masking.ts'
import { findOperation } from '../fhir/operations.ts'
import { createSeal } from '../http/seal.ts'
import { patientsOf } from '../permit.ts'
import type { Grant } from '../permit.ts'
import type { PolicySet } from '../policy/evaluate.ts'
import type { Upstream, UpstreamRequest } from '../ports.ts'
import { toRefusal } from '../refusal.ts'
import type { SmartLetter, SmartScope } from '../oauth/smart-scope.ts'
import { createReadPrincipal } from '../stages/authenticate/principal.ts'
import { askedOf } from '../stages/authorize/asked.ts'
import { compileScope } from '../stages/authorize/granular.ts'
import { createAuthorize } from '../stages/authorize/authorize.ts'
import { readEmergency } from '../stages/authorize/emergency.ts'
import { Holdings, mustBeNamed, obstacleTo } from '../stages/authorize/holdings.ts'
import type { Asked, HoldingsParts } from '../stages/authorize/holdings.ts'
import { createRelease } from '../stages/release/release.ts'
import { EXIT, HELP, loadOrExplain, parseOptions, say, UsageError, warn } from './command.ts'

const HELP_TEXT = `fhirewall explain: why a request is permitted or refused, rule by rule

Usage: fhirewall explain --request 'GET /Patient/1'
                         (--token FILE | --claims FILE)

  --request TEXT  method and address below the FHIR base
  --token FILE    access token; "-" reads it from standard input. Its signature
                  is not verified here, and it is never printed
  --claims FILE   the claims of a token, as JSON
  --break-glass REASON
                  an emergency is declared (header X-Break-Glass-Reason)
  --config FILE   YAML configuration; FHIREWALL_… variables go before it
  -h, --help      this text

Exit code 0: permitted as far as is known without the FHIR server; 1: refused.`

/** `fhirewall explain`. */
export async function explain(args: string[]): Promise<number> {
  const options = parseOptions(args, {
    ...HELP,
    request: { type: 'string' },
    token: { type: 'string' },
    claims: { type: 'string' },
    'break-glass': { type: 'string' },
    config: { type: 'string' },
  })
  if (options.help) {
    say(HELP_TEXT)
    return EXIT.ok
  }
  if (options.request === undefined) throw new UsageError('--request is missing')
  if ((options.token === undefined) === (options.claims === undefined)) {
    throw new UsageError('either --token or --claims is needed')
  }
  const loaded = loadOrExplain(options.config)
  if (loaded === undefined) return EXIT.failed
  const { config } = loaded
  const claims = readClaims(options.token, options.claims)
  const policies = policiesOf(config)
  if (policies === undefined) return EXIT.failed
  try {
    const principal = toPrincipal(claims, config)
    const reason = options['break-glass']
    const headers = reason === undefined ? {} : { [REASON_HEADER]: reason }
    return await explainTo(principal, options.request, { policies, config, headers })
  } catch (error) {
    if (error instanceof UsageError) throw error
    const { reason, detail, row } = toRefusal(error)
    say(`\nrefused: ${reason} (${row.status})${detail === undefined ? '' : `, ${detail}`}`)
    return EXIT.failed
  }
}

function policiesOf(config: Config): PolicySet | undefined {
  try {
    return loadPolicies(config.policies ?? shippedPolicies(), config.fhir.version)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    for (const problem of error.problems) warn(formatProblem(problem))
    return undefined
  }
}

function readClaims(token: string | undefined, file: string | undefined): Record<string, unknown> {
  const read = (path: string): string => readFileSync(path === '-' ? 0 : path, 'utf8').trim()
  let text: string
  try {
    text =
      token === undefined
        ? read(file ?? '')
        : Buffer.from(read(token).split('.')[1] ?? '', 'base64url').toString('utf8')
    const claims: unknown = JSON.parse(text)
    if (typeof claims === 'object' && claims !== null && !Array.isArray(claims)) {
      return claims as Record<string, unknown>
    }
  } catch {
    // Said below, without what could not be read.
  }
  throw new UsageError('no claims can be read there: a JWT, or a JSON object, is needed')
}

function toPrincipal(claims: Record<string, unknown>, config: Config): Principal {
  const { iss } = claims
  const issuer =
    iss === undefined ? config.issuers[0] : config.issuers.find(({ url }) => url === iss)
  if (issuer === undefined) {
    const known = config.issuers.map(({ url }) => url).join(', ')
    throw new UsageError(
      `the issuer (iss) ${String(iss)} is none of those configured (${known}): the gateway answers 401`,
    )
  }
  return createReadPrincipal(issuer, config)(claims)
}

/** What is explained, and by what it is decided. */
type Asking = {
  readonly principal: Principal
  readonly interaction: Interaction
  readonly policies: PolicySet
  readonly config: Config
  readonly definitions: Definitions
  readonly headers: Readonly<Record<string, string>>
}

async function explainTo(
  principal: Principal,
  request: string,
  { policies, config, headers }: Pick<Asking, 'policies' | 'config' | 'headers'>,
): Promise<number> {
  const [method = '', target = ''] = request.trim().split(/\s+/)
  const definitions = loadDefinitions(config.fhir.version ?? 'R4')
  const interaction = parseInteraction({ method, target, headers: {} }, definitions, config.limits)
  const asking = { principal, interaction, policies, config, definitions, headers }
  sayPrincipal(principal)
  say(`\nasked      ${describe(interaction)}`)
  const asked = askedOf(interaction)
  const { type, id } = interaction
  const isOfOneType = asked !== undefined && type !== undefined && type !== '*'
  if (!isOfOneType && !OF_ALL_TYPES.has(interaction.code)) {
    say('           decided type by type, or entry by entry: ask for one of them')
    return EXIT.failed
  }
  const grant = isOfOneType ? explainType(asking, type, asked) : undefined
  const rest = await decide(asking)
  const patients = patientsOf(grant)
  if (type === 'Patient' && id !== undefined && patients?.includes(id) === false) {
    say(
      `\nrefused    only patient ${patients.join(', ')} can be reached: as if there were no other`,
    )
    return EXIT.failed
  }
  say(`\npermitted  ${grant === undefined ? 'type by type' : `by ${grant.rules.join(', ')}`}`)
  if (grant !== undefined) sayReach(grant)
  if (rest !== undefined) say(`           as far as can be told here: ${rest}`)
  say(`policies   ${policies.hash.slice(0, 16)}, ${policies.rules} rules`)
  return EXIT.ok
}

const OF_ALL_TYPES: ReadonlySet<string> = new Set(['search-system', 'history-system'])

/** Says of each scope and rule what it comes to. Throws Refusal when they permit nothing. */
function explainType(asking: Asking, type: string, asked: Asked): Grant {
  const { principal, interaction, policies, config, definitions, headers } = asking
  const { id, method, operation } = interaction
  say(`needs      the letter "${asked.letter}" on ${type}, and a policy for "${asked.word}"`)
  const bases = basesOf(config)
  const compile = (scope: SmartScope, of: string) =>
    compileScope(scope, of, definitions, config.limits, bases)
  const isEmergency = readEmergency(principal, inquiryOf(asking), definitions) !== undefined
  if (headers[REASON_HEADER] !== undefined && !isEmergency) {
    say('emergency  not declared: it takes the purpose BTG in the token, and one patient')
  }
  const about = { id, method, operation, breakGlass: isEmergency }
  const parts = { policies, definitions, now: Date.now(), bases, compile }
  const holdings = new Holdings(principal, about, parts)
  for (const level of ['patient', 'user', 'system'] as const) {
    say(`\n${level}/`)
    const scopes = principal.scopes.filter((scope) => scope.level === level)
    let isHeld = false
    for (const scope of scopes) {
      const why = whyNot(principal, scope, type, asked.letter, compile)
      isHeld ||= why === undefined
      say(`  ${why === undefined ? '→' : ' '} ${formatScope(scope).padEnd(47)} ${why ?? 'holds'}`)
    }
    if (scopes.length === 0) say('    no scope')
    if (obstacleTo(principal, level) !== undefined) continue
    for (const { rule, effect, verdict, missing = [] } of holdings.trace(type, asked, level)) {
      // A rule that denies at a level that could be used denies, whatever scopes there are at it.
      if (!isHeld && (effect === 'permit' || !DENYING.has(verdict))) continue
      const applies = verdict === 'matches' || (effect === 'deny' && DENYING.has(verdict))
      say(`  ${applies ? '→' : ' '} ${effect.padEnd(6)} ${rule.padEnd(40)} ${verdict}`)
      for (const fact of missing) say(`           not given: ${fact}`)
    }
  }
  return holdings.demand(type, asked)
}

/** What a rule that denies comes to when it does deny: what is undecided counts as a match. */
const DENYING: ReadonlySet<string> = new Set(['matches', 'condition is undecided'])

function sayReach(grant: Grant): void {
  const patients = patientsOf(grant)
  say(
    `           ${patients === undefined ? 'no limit to patients' : `only patient ${patients.join(', ')}`}`,
  )
  for (const { patient, criteria, clearance, masking } of grant.reach) {
    const of = patient === undefined ? 'any patient' : `patient ${patient}`
    const which = criteria === undefined ? '' : ', by criteria of the scope'
    const sensitive = [...clearance.sensitivities].join(' ') || 'none'
    say(
      `           ${of}${which}: up to ${clearance.confidentiality}, sensitivities ${sensitive}, masking ${[...masking].join(', ')}`,
    )
  }
}

const basesOf = ({ upstream, public: { url } }: Config): readonly string[] =>
  [upstream.url, url].map((base) => base.replace(/\/$/, ''))

/**
 * The decision of the gateway's own stage, beyond scopes and rules: parameters, what is masked, shapes.
 * Throws its Refusal; gives what it would yet have to know, or undefined: nothing.
 */
async function decide(asking: Asking): Promise<string | undefined> {
  const { principal, interaction, policies, config, definitions } = asking
  if (/create|update|patch/.test(interaction.code) || takesResource(interaction)) {
    return 'what is written is judged as well'
  }
  const questions: UpstreamRequest[] = []
  const upstream: Upstream = (question) => {
    questions.push(question)
    throw new Error('nobody is asked')
  }
  const now = (): number => Date.now()
  const { inspect, view, inward, touches } = createRelease(config, definitions, {
    ...{ profiles: profilesOf, key: randomBytes(32), now },
  })
  const { authorize } = createAuthorize(config, {
    ...{ policies: () => policies, definitions, inspect, view, inward, touches },
    ...{ clock: { now, monotonic: () => performance.now() }, seal: createSeal([randomBytes(32)]) },
  })
  try {
    await authorize(principal, inquiryOf(asking), upstream)
  } catch (error) {
    if (questions.length === 0) throw error
    return 'the gateway would ask the FHIR server for more before it decides'
  }
  return undefined
}

function inquiryOf({ interaction, headers }: Asking): Inquiry {
  const arrival = {
    ...{ method: interaction.method, target: '', headers, rawHeaders: [], address: '' },
    ...{ body: undefined, signal: new AbortController().signal },
  }
  return { arrival, interaction, body: undefined }
}

const takesResource = (interaction: Interaction): boolean =>
  findOperation(interaction)?.takesResource === true

const formatScope = ({ level, target, letters, filters }: SmartScope): string =>
  `${level}/${target}.${[...letters].join('')}${filters.length === 0 ? '' : '?…'}`

/** Why a scope gives nothing of what is asked, or undefined: it holds. */
function whyNot(
  principal: Principal,
  scope: SmartScope,
  type: string,
  letter: SmartLetter,
  compile: HoldingsParts['compile'],
): string | undefined {
  const { level, target, letters, filters } = scope
  if (target !== type && target !== '*') return `not about ${type}`
  if (!letters.has(letter)) return `no letter "${letter}"`
  const obstacle = obstacleTo(principal, level)
  if (obstacle !== undefined) return obstacle
  if (target === '*' && mustBeNamed(type, letter)) return 'by its name only'
  const isHeld = filters.length === 0 || compile(scope, type) !== undefined
  return isHeld ? undefined : 'criteria nobody can hold'
}

function sayPrincipal({
  kind,
  subject,
  clientId,
  patient,
  fhirUser,
  roles,
  purposes,
  acr,
  amr,
}: Principal) {
  say('The claims are taken as they stand: nothing here verifies them.\n')
  say(`who        ${kind} ${subject ?? '(no subject)'}, client ${clientId ?? '(none)'}`)
  say(`patient    ${patient ?? '(no context)'}`)
  say(
    `fhirUser   ${fhirUser === undefined ? '(none on this server)' : `${fhirUser.type}/${fhirUser.id}`}`,
  )
  say(`roles      ${roles.join(' ') || '(none)'}`)
  say(`purposes   ${purposes.join(' ') || '(none)'}`)
  say(`login      ${[acr, ...(amr ?? [])].join(' ').trim() || '(not told how)'}`)
}

function describe({ code, type, id, operation }: Interaction): string {
  const place = [type, id, operation === undefined ? undefined : `$${operation}`]
  return `${code} ${place.filter((part) => part !== undefined).join('/')}`
}

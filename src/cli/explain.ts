import { readFileSync } from 'node:fs'
import type { Config } from '../config/schema.ts'
import { shippedPolicies } from '../config/shipped.ts'
import type { Principal } from '../exchange.ts'
import { formatProblem } from '../config/load.ts'
import { loadDefinitions } from '../fhir/definitions.ts'
import { parseInteraction } from '../fhir/interaction.ts'
import type { Interaction } from '../fhir/interaction.ts'
import { loadPolicies, PolicyError } from '../policy/load.ts'
import { patientsOf } from '../permit.ts'
import type { PolicySet } from '../policy/evaluate.ts'
import { toRefusal } from '../refusal.ts'
import type { SmartLetter, SmartScope } from '../oauth/smart-scope.ts'
import { createReadPrincipal } from '../stages/authenticate/principal.ts'
import { askedOf } from '../stages/authorize/asked.ts'
import { compileScope } from '../stages/authorize/granular.ts'
import { heldScopes, Holdings, obstacleTo } from '../stages/authorize/holdings.ts'
import { EXIT, HELP, loadOrExplain, parseOptions, say, UsageError, warn } from './command.ts'

const HELP_TEXT = `fhirewall explain: why a request is permitted or refused, rule by rule

Usage: fhirewall explain --request 'GET /Patient/1'
                         (--token FILE | --claims FILE)

  --request TEXT  method and address below the FHIR base
  --token FILE    access token; "-" reads it from standard input. Its signature
                  is not verified here, and it is never printed
  --claims FILE   the claims of a token, as JSON
  --config FILE   YAML configuration; FHIREWALL_… variables go before it
  -h, --help      this text

Exit code 0: permitted as far as scopes and policies go; 1: refused.`

/** `fhirewall explain`. */
export async function explain(args: string[]): Promise<number> {
  const options = parseOptions(args, {
    ...HELP,
    request: { type: 'string' },
    token: { type: 'string' },
    claims: { type: 'string' },
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
    return explainTo(principal, options.request, policies, config)
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

function explainTo(
  principal: Principal,
  request: string,
  policies: PolicySet,
  config: Config,
): number {
  const [method = '', target = ''] = request.trim().split(/\s+/)
  const definitions = loadDefinitions(config.fhir.version ?? 'R4')
  const interaction = parseInteraction({ method, target, headers: {} }, definitions, config.limits)
  sayPrincipal(principal)
  const asked = askedOf(interaction)
  const { type, id, operation } = interaction
  say(`\nasked      ${describe(interaction)}`)
  if (asked === undefined || type === undefined || type === '*') {
    say('           decided type by type, or entry by entry: ask for one of them')
    return EXIT.failed
  }
  say(`needs      the letter "${asked.letter}" on ${type}, and a policy for "${asked.word}"`)
  const about = {
    id,
    method: interaction.method,
    ...(operation === undefined ? {} : { operation }),
  }
  const now = Date.now()
  for (const level of ['patient', 'user', 'system'] as const) {
    const held = heldScopes(principal, type, asked.letter).filter((scope) => scope.level === level)
    say(`\n${level}/`)
    for (const scope of principal.scopes) {
      if (scope.level !== level) continue
      const why = held.includes(scope) ? 'holds' : whyNot(principal, scope, type, asked.letter)
      say(`  ${held.includes(scope) ? '→' : ' '} ${formatScope(scope).padEnd(47)} ${why}`)
    }
    if (held.length === 0) {
      if (principal.scopes.every((scope) => scope.level !== level)) say('    no scope')
      continue
    }
    const question = { interaction: asked.word, type, level, ...about, time: now }
    for (const { rule, effect, verdict, missing = [] } of policies.trace(principal, question)) {
      say(
        `  ${verdict === 'matches' ? '→' : ' '} ${effect.padEnd(6)} ${rule.padEnd(40)} ${verdict}`,
      )
      for (const fact of missing) say(`           not given: ${fact}`)
    }
  }
  const bases = [config.upstream.url, config.public.url].map((url) => url.replace(/\/$/, ''))
  const holdings = new Holdings(principal, about, {
    ...{ policies, definitions, now, bases },
    compile: (scope, of) => compileScope(scope, of, definitions, config.limits, bases),
  })
  const grant = holdings.demand(type, asked)
  const patients = patientsOf(grant)
  if (type === 'Patient' && id !== undefined && patients?.includes(id) === false) {
    say(
      `\nrefused    only patient ${patients.join(', ')} can be reached: as if there were no other`,
    )
    return EXIT.failed
  }
  say(`\npermitted  by ${grant.rules.join(', ')}`)
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
  say(`policies   ${policies.hash.slice(0, 16)}, ${policies.rules} rules`)
  return EXIT.ok
}

const formatScope = ({ level, target, letters, filters }: SmartScope): string =>
  `${level}/${target}.${[...letters].join('')}${filters.length === 0 ? '' : '?…'}`

function whyNot(
  principal: Principal,
  { level, target, letters }: SmartScope,
  type: string,
  letter: SmartLetter,
): string {
  if (target !== type && target !== '*') return `not about ${type}`
  if (!letters.has(letter)) return `no letter "${letter}"`
  return obstacleTo(principal, level) ?? ''
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

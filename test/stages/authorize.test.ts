import fc from 'fast-check'
import t from 'tap'
import { loadConfig } from '../../src/config/load.ts'
import { shippedPolicies } from '../../src/config/shipped.ts'
import type { Arrival, Inquiry, Principal } from '../../src/exchange.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { formatInteraction, parseInteraction, withForm } from '../../src/fhir/interaction.ts'
import type { Interaction } from '../../src/fhir/interaction.ts'
import { createSeal } from '../../src/http/seal.ts'
import { parseScopes } from '../../src/oauth/smart-scope.ts'
import { patientsOf, Permit } from '../../src/permit.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import type { UpstreamAnswer, UpstreamRequest } from '../../src/ports.ts'
import { toRefusal } from '../../src/refusal.ts'
import { createAuthorize } from '../../src/stages/authorize/authorize.ts'
import { createRelease } from '../../src/stages/release/release.ts'

const { config } = loadConfig({
  env: {
    FHIREWALL_PUBLIC_URL: 'https://public.example/fhir',
    FHIREWALL_UPSTREAM_URL: 'http://127.0.0.1:9/base',
    FHIREWALL_ISSUERS: '[{"url":"https://issuer.example"}]',
  },
})
const definitions = loadDefinitions('R4')
const policies = loadPolicies(shippedPolicies())
const { authorize } = createAuthorize(config, {
  policies: () => policies,
  definitions,
  ...createRelease(config, definitions),
  clock: { now: () => 1_700_000_000_000, monotonic: () => 0 },
  seal: createSeal([Buffer.alloc(32)]),
})

type Who = Partial<Omit<Principal, 'scopes'>>
/** The principal that can use the scopes of a level, and no other level unless said. */
const PATIENT: Who = { patient: 'p1' }
const CLINICIAN: Who = { fhirUser: { type: 'Practitioner', id: 'd1' } }
const BACKEND: Who = { kind: 'system', subject: undefined }
const BY_LEVEL = { patient: PATIENT, user: CLINICIAN, system: BACKEND } as const
type Level = keyof typeof BY_LEVEL

const principalOf = (who: Who, scopes: string): Principal => ({
  issuer: 'https://issuer.example',
  subject: 's1',
  clientId: 'app',
  kind: 'user',
  key: 'k',
  patient: undefined,
  fhirUser: undefined,
  roles: [],
  purposes: [],
  organization: undefined,
  tokenId: undefined,
  issuedAt: 0,
  expiresAt: 2_000_000_000,
  ...who,
  scopes: parseScopes(scopes),
})

type Ask = {
  readonly method: string
  readonly target: string
  readonly body?: string
  readonly headers?: Arrival['headers']
}

function inquire({ method, target, body, headers = {} }: Ask): Inquiry {
  const arrival: Arrival = {
    method,
    target,
    headers,
    rawHeaders: [],
    address: '127.0.0.1',
    body: undefined,
    signal: AbortSignal.timeout(60_000),
  }
  const parsed = parseInteraction(arrival, definitions, config.limits)
  const isForm = parsed.byPost === true
  return {
    arrival,
    interaction: isForm
      ? withForm(parsed, Buffer.from(body ?? ''), config.limits, definitions)
      : parsed,
    body: isForm || body === undefined ? undefined : Buffer.from(body),
  }
}

type Current = { readonly status: number; readonly body: UpstreamAnswer['body'] }
const present = (text: string): Current => ({ status: 200, body: Buffer.from(text) })
const absent: Current = { status: 404, body: Buffer.alloc(0) }

/** The permit or the reason, and what upstream was asked on the way. */
async function run(
  who: Who,
  scopes: string,
  ask: Ask,
  current: Current = absent,
): Promise<{ permit: Permit | undefined; verdict: string; asked: string[] }> {
  const asked: string[] = []
  const upstream = (request: UpstreamRequest): Promise<UpstreamAnswer> => {
    asked.push(
      `${request.method} ${request.path}${request.query === '' ? '' : '?'}${request.query}`,
    )
    const isSearch = request.query !== '' && current.status === 200
    const found = `{"resourceType":"Bundle","entry":[{"resource":${Buffer.isBuffer(current.body) ? current.body.toString() : ''}}]}`
    return Promise.resolve({
      headers: {},
      ...current,
      ...(isSearch ? { body: Buffer.from(found) } : {}),
    })
  }
  try {
    const permit = await authorize(principalOf(who, scopes), inquire(ask), upstream)
    return { permit, verdict: 'permit', asked }
  } catch (error) {
    return { permit: undefined, verdict: toRefusal(error).reason, asked }
  }
}

const observation = (id: string | undefined, patient: string, more: object = {}): string =>
  JSON.stringify({
    resourceType: 'Observation',
    ...(id === undefined ? {} : { id }),
    meta: { versionId: '3' },
    status: 'final',
    code: { text: 'a' },
    subject: { reference: `Patient/${patient}` },
    ...more,
  })
const CURRENT = present(observation('o1', 'p1'))
const BODY = observation('o1', 'p1')

// ---------------------------------------------------------------------------------------------
// SCOPE-3 and §8, written from the requirements: which letter suffices for which interaction, and
// '-' where this gateway offers the interaction to nobody, whatever the scopes (REST-1).
// prettier-ignore
const INTERACTIONS: [code: string, letter: string, method: string, target: string][] = [
  ['read',               'r', 'GET',    '/Observation/o1'],
  ['read',               'r', 'HEAD',   '/Observation/o1'],
  ['vread',              'r', 'GET',    '/Observation/o1/_history/1'],
  ['history-instance',   'r', 'GET',    '/Observation/o1/_history'],
  ['search-type',        's', 'GET',    '/Observation?code=a'],
  ['search-type',        's', 'POST',   '/Observation/_search'],
  ['search-compartment', 's', 'GET',    '/Patient/p1/Observation'],
  ['create',             'c', 'POST',   '/Observation'],
  ['update',             'u', 'PUT',    '/Observation/o1'],
  ['delete',             'd', 'DELETE', '/Observation/o1'],
  ['patch',              'u', 'PATCH',  '/Observation/o1'],
  ['conditional-update', 'su', 'PUT',   '/Observation?code=a'],
  ['conditional-patch',  'su', 'PATCH', '/Observation?code=a'],
  ['conditional-delete', 'sd', 'DELETE', '/Observation?code=a'],
  ['conditional-create', 'sr', 'POST',  '/Observation'], // there is one: it is read
  ['delete-history',     '-', 'DELETE', '/Observation/o1/_history'],
  ['history-type',       's', 'GET',    '/Observation/_history'],
  ['history-system',     's', 'GET',    '/_history'],
  ['search-system',      's', 'GET',    '?_type=Observation'],
  ['search-compartment', '-', 'GET',    '/Patient/p1/*'],
  ['search-compartment', '-', 'GET',    '/Encounter/e1/Observation'],
  ['batch',              '-', 'POST',   ''],
  ['paging',             '-', 'GET',    '?_getpages=a'],
  ['operation',          '-', 'GET',    '/Observation/$stats'],
  ['operation',          '-', 'POST',   '/$graphql'],
]

/** What upstream cannot be asked about one patient alone (pitfalls §1 rows 25, 27). */
const UNNARROWED: ReadonlySet<string> = new Set(['history-type', 'history-system', 'search-system'])

/** A request of that row, complete enough that only the scope can be what is missing. */
function askOf([code, , method, target]: (typeof INTERACTIONS)[number]): Ask {
  const ask = { method, target }
  if (code === 'create') return { ...ask, body: observation(undefined, 'p1') }
  if (code.endsWith('update')) return { ...ask, body: BODY }
  if (code === 'conditional-create') {
    return { ...ask, headers: { 'if-none-exist': 'code=a' }, body: observation(undefined, 'p1') }
  }
  if (code.endsWith('patch')) {
    const body = '[{"op":"replace","path":"/status","value":"amended"}]'
    return { ...ask, body, headers: { 'content-type': 'application/json-patch+json' } }
  }
  return ask
}

// Spellings of permissions → the letters they grant (SCOPE-1, SCOPE-2, §3.4).
// prettier-ignore
const SPELLINGS: [permissions: string, letters: string][] = [
  ['c',      'c'],
  ['r',      'r'],
  ['u',      'u'],
  ['d',      'd'],
  ['s',      's'],
  ['rs',     'rs'],
  ['cud',    'cud'],
  ['cruds',  'cruds'],
  ['read',   'rs'],      // v1
  ['write',  'cud'],     // v1
  ['*',      'cruds'],   // v1
  ['sr',     ''],
  ['dus',    ''],
  ['rr',     ''],
  ['crudsx', ''],
  ['reads',  ''],
  ['',       ''],
]

t.test('one scope, one interaction: level × spelling × interaction (SCOPE-1, 2, 3)', async (t) => {
  for (const row of INTERACTIONS) {
    const [code, letter, method, target] = row
    t.equal(inquire(askOf(row)).interaction.code, code, `${method} ${target} is ${code}`)
    for (const level of Object.keys(BY_LEVEL) as Level[]) {
      const wrong: string[] = []
      for (const [permissions, letters] of SPELLINGS) {
        for (const type of ['Observation', '*']) {
          const scope = `${level}/${type}.${permissions}`
          const { verdict, asked } = await run(BY_LEVEL[level], scope, askOf(row), CURRENT)
          const permitted = level === 'patient' && UNNARROWED.has(code) ? 'cannot-narrow' : 'permit'
          const expected =
            letter === '-'
              ? code === 'operation'
                ? 'operation-refused'
                : 'interaction-refused'
              : Array.from(letter).every((one) => letters.includes(one))
                ? permitted
                : 'scope-insufficient'
          if (verdict !== expected) wrong.push(`${scope}: ${verdict}, not ${expected}`)
          // What a conditional interaction turns out to be is known once its search is answered.
          const maySearch = letter.startsWith('s') && letters.includes('s')
          if (expected !== 'permit' && !maySearch && asked.length > 0)
            wrong.push(`${scope}: upstream was asked`)
        }
        const other = `${level}/Condition.${permissions}`
        const { verdict } = await run(BY_LEVEL[level], other, askOf(row), CURRENT)
        // A look back over all types shows those that are held.
        const isAny = code === 'history-system'
        if (verdict === 'permit' && !isAny) wrong.push(`${other}: a scope on another type`)
      }
      t.strictSame(wrong, [], `${level} ${method} ${target}: ${letter}`)
    }
  }
})

// Which principal can use the scopes of which level (SCOPE-11, SCOPE-15, CTX-1, CTX-2).
// prettier-ignore
const LEVELS: [who: string, principal: Who, patient: boolean, user: boolean, system: boolean][] = [
  //                                                                          patient user   system
  ['nobody',             {},                                                  false, false, false],
  ['patient context',    PATIENT,                                             true,  false, false],
  ['practitioner',       CLINICIAN,                                           false, true,  false],
  ['practitioner + ctx', { ...CLINICIAN, ...PATIENT },                        true,  true,  false],
  ['patient as user',    { fhirUser: { type: 'Patient', id: 'p1' } },         false, true,  false],
  ['relative',           { fhirUser: { type: 'RelatedPerson', id: 'x' } },    false, false, false],
  ['relative + ctx',     { fhirUser: { type: 'RelatedPerson', id: 'x' }, ...PATIENT },
                                                                              true,  true,  false],
  ['device',             { fhirUser: { type: 'Device', id: 'x' } },           false, false, false],
  ['backend',            BACKEND,                                             false, false, true],
  ['backend + person',   { ...BACKEND, ...CLINICIAN },                        false, false, true],
]

t.test(
  'who can use which level; patient/ without a patient grants nothing (SCOPE-11, 15)',
  async (t) => {
    const ask = { method: 'GET', target: '/Observation/o1' }
    for (const [who, principal, ...usable] of LEVELS) {
      for (const [at, level] of (['patient', 'user', 'system'] as const).entries()) {
        const { verdict } = await run(principal, `${level}/*.cruds`, ask)
        t.equal(verdict, usable[at] === true ? 'permit' : 'scope-insufficient', `${who}: ${level}/`)
      }
    }
  },
)

// Scopes together (SCOPE-4, 6, 8, 14, 16): → verdict, the patient limit, may the echo be shown.
const BOTH: Who = { ...CLINICIAN, ...PATIENT }
const AS_USER: Who = { fhirUser: { type: 'Patient', id: 'p1' }, patient: 'p1' }
// prettier-ignore
const UNIONS: [who: Who, scopes: string, method: string, target: string, verdict: string][] = [
  [PATIENT,   'patient/Observation.r patient/Observation.s',     'GET',    '/Observation',     'permit p1 echo'],
  [PATIENT,   'patient/Observation.r patient/Condition.s',       'GET',    '/Observation',     'scope-insufficient'],
  [PATIENT,   'patient/Observation.s user/Observation.r',        'GET',    '/Observation/o1',  'scope-insufficient'],
  [BOTH,      'patient/Observation.s user/Observation.r',        'GET',    '/Observation/o1',  'permit all echo'],
  [BOTH,      'patient/*.rs',                                    'GET',    '/Observation/o1',  'permit p1 echo'],
  [BOTH,      'patient/*.rs user/*.rs',                          'GET',    '/Observation/o1',  'permit all echo'],
  [AS_USER,   'patient/*.rs user/*.rs',                          'GET',    '/Observation/o1',  'permit p1 echo'],
  [PATIENT,   'patient/*.c',                                     'POST',   '/Observation',     'permit all -'],
  [PATIENT,   'patient/*.cr',                                    'POST',   '/Observation',     'permit p1 echo'],
  [PATIENT,   'patient/*.c patient/Observation.r',               'POST',   '/Observation',     'permit p1 echo'],
  [PATIENT,   'patient/*.c patient/Condition.r',                 'POST',   '/Observation',     'permit all -'],
  [BOTH,      'user/*.c patient/*.r',                            'POST',   '/Observation',     'permit p1 echo'],
  [BOTH,      'patient/*.c user/*.r',                            'POST',   '/Observation',     'permit all echo'],
  [CLINICIAN, 'user/Observation.rs?category=a',                  'GET',    '/Observation/o1',  'permit all echo'],
  [CLINICIAN, 'user/Observation.rs?code:in=a',                   'GET',    '/Observation/o1',  'scope-insufficient'],
  [CLINICIAN, 'user/Observation.rs?category=a user/*.rs',        'GET',    '/Observation/o1',  'permit all echo'],
  [CLINICIAN, 'user/Observation.rs?code:in=a user/*.s',          'GET',    '/Observation/o1',  'scope-insufficient'],
  [CLINICIAN, 'openid fhirUser launch/patient offline_access',   'GET',    '/Observation/o1',  'scope-insufficient'],
  [PATIENT,   'http://smarthealthit.org/fhir/scopes/patient/*.r','GET',    '/Observation/o1',  'permit p1 echo'],
  [CLINICIAN, 'user/*.cruds user/AuditEvent.cruds',              'GET',    '/AuditEvent/a1',   'policy-denied'],
  [BACKEND,   'system/*.cruds system/Subscription.c',            'POST',   '/Subscription',    'policy-denied'],
  [BACKEND,   'system/*.cruds',                                  'GET',    '/Binary/b1',       'policy-denied'],
  [CLINICIAN, 'user/*.cruds user/Consent.cruds',                 'DELETE', '/Consent/c1',      'policy-denied'],
  [BACKEND,   'system/*.cruds',                                  'DELETE', '/StructureDefinition/s1', 'policy-denied'],
]

t.test('scopes unite, each with its own limit (SCOPE-4, 6, 8, 14, 16)', async (t) => {
  for (const [who, scopes, method, target, expected] of UNIONS) {
    const body = method === 'POST' ? { body: observation(undefined, 'p1') } : {}
    const { permit, verdict } = await run(who, scopes, { method, target, ...body }, CURRENT)
    const { grantFor, mayReadBack = false } = permit?.terms ?? {}
    const terms = ` ${patientsOf(grantFor?.('Observation'))?.join() ?? 'all'} ${mayReadBack ? 'echo' : '-'}`
    const found = permit === undefined ? verdict : verdict + terms
    t.equal(found, expected, `${scopes} ${method} ${target}`)
    t.equal(grantFor?.('Condition'), undefined, 'and no other type comes back')
  }
})

t.test(
  'one more scope takes nothing away, whatever rules and levels meet (SCOPE-5, 6)',
  async (t) => {
    const researcher = { ...BOTH, roles: ['researcher'] }
    const vread = { method: 'GET', target: '/Observation/o1/_history/1' }
    for (const scopes of ['patient/*.rs', 'patient/*.rs user/*.rs']) {
      const { verdict } = await run(researcher, scopes, vread)
      t.equal(verdict, 'policy-denied', `${scopes}: a rule that denies at one level denies`)
    }
    const two: Who = { fhirUser: { type: 'Patient', id: 'p2' }, patient: 'p1' }
    const search = { method: 'GET', target: '/Observation' }
    const { permit } = await run(two, 'patient/*.rs user/*.rs', search)
    t.strictSame(patientsOf(permit?.terms.grantFor('Observation')), ['p1', 'p2'])
    const values = permit?.interaction.parameters.map((parameter) => parameter.values)
    t.strictSame(values, [['Patient/p1', 'Patient/p2']], 'upstream is asked for both')
    const cleared: Who = { ...BOTH, roles: ['restricted-records'], purposes: ['TREAT'] }
    const reachOf = async (scopes: string) => {
      const read = await run(cleared, scopes, { method: 'GET', target: '/Observation/o1' })
      const reach = read.permit?.terms.grantFor('Observation')?.reach ?? []
      return reach.map(
        ({ patient, clearance }) => `${patient ?? 'all'} ${clearance.confidentiality}`,
      )
    }
    t.strictSame(await reachOf('user/*.rs'), ['all R'])
    t.strictSame(await reachOf('patient/*.rs'), ['p1 N'])
    t.strictSame(
      await reachOf('patient/*.rs user/*.rs'),
      ['all R'],
      'the wider covers the narrower',
    )
  },
)

const scopeArbitrary = fc
  .tuple(
    fc.constantFrom('patient', 'user', 'system'),
    fc.constantFrom('*', 'Observation', 'Condition'),
    fc.constantFrom('c', 'r', 'u', 'd', 's', 'rs', 'cud', 'read', 'write', '*', 'sr'),
    fc.constantFrom('', '', '', '?category=a'),
  )
  .map(([level, type, permissions, query]) => `${level}/${type}.${permissions}${query}`)
const OFFERED = INTERACTIONS.filter(([, letter]) => letter !== '-')

t.test('property: one more scope never takes access away (SCOPE-6)', async (t) => {
  let seen = 0
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom<Who>(PATIENT, CLINICIAN, BOTH, AS_USER, BACKEND, {}),
      fc.array(scopeArbitrary, { maxLength: 4 }),
      scopeArbitrary,
      fc.constantFrom(...OFFERED),
      async (who, scopes, added, row) => {
        const before = await run(who, scopes.join(' '), askOf(row), CURRENT)
        const after = await run(who, [...scopes, added].join(' '), askOf(row), CURRENT)
        if (before.permit === undefined) return
        seen++
        const limitOf = ({ permit }: typeof after) =>
          patientsOf(permit?.terms.grantFor('Observation'))
        const [had, has] = [limitOf(before), limitOf(after)]
        // A write without the right to read shows nothing: no limit to hold to.
        const isShown = before.permit.terms.grantFor('Observation') !== undefined
        const isKept =
          !isShown || has === undefined || had?.every((id) => has.includes(id)) === true
        // Who sees more may find what it did not: a creation is then an update, which is another right.
        const isOther =
          row[0] === 'conditional-update' && before.permit.interaction.code === 'create'
        if (isOther && after.verdict === 'scope-insufficient') return
        if (after.permit === undefined || !isKept)
          fail({ scopes, added, row, found: after.verdict })
      },
    ),
    { numRuns: 1000 },
  )
  t.ok(seen > 50, `enough accesses were permitted: ${seen}`)
})

t.test(
  'a right to read others is none, and no obstacle, to a patch (SCOPE-4, SCOPE-6)',
  async (t) => {
    const by = async (scopes: string, patch: object[]): Promise<string> => {
      const body = JSON.stringify(patch)
      const headers = { 'content-type': 'application/json-patch+json' }
      const ask = { method: 'PATCH', target: '/Observation/o1', body, headers }
      return (await run(BACKEND, scopes, ask, CURRENT)).verdict
    }
    const change = { op: 'replace', path: '/status', value: 'amended' }
    const right = { op: 'test', path: '/status', value: 'final' }
    const wrong = { op: 'test', path: '/status', value: 'amended' }
    // scopes, and what becomes of: a change alone; one behind a guess that is right; that is wrong
    const rows: [scopes: string, ...verdicts: [string, string, string]][] = [
      ['system/*.cud', 'permit', 'scope-insufficient', 'scope-insufficient'],
      [
        'system/*.cud system/*.rs?category=nothing',
        'permit',
        'body-rule-broken',
        'body-rule-broken',
      ],
      ['system/*.cud system/Patient.rs', 'permit', 'scope-insufficient', 'scope-insufficient'],
      ['system/*.cruds', 'permit', 'permit', 'body-rule-broken'],
    ]
    // The same question, asked by a FHIRPath patch.
    const where = async (scopes: string, text: string): Promise<string> => {
      const part = [
        { name: 'type', valueCode: 'replace' },
        { name: 'path', valueString: `Observation.code.where(text = '${text}').text` },
        { name: 'value', valueString: 'b' },
      ]
      const parameter = [{ name: 'operation', part }]
      const body = JSON.stringify({ resourceType: 'Parameters', parameter })
      const headers = { 'content-type': 'application/fhir+json' }
      const ask = { method: 'PATCH', target: '/Observation/o1', body, headers }
      return (await run(BACKEND, scopes, ask, CURRENT)).verdict
    }
    for (const [scopes, , guessed, missed] of rows) {
      t.equal(await where(scopes, 'a'), guessed, `${scopes}: where() that holds`)
      t.equal(await where(scopes, 'x'), missed, `${scopes}: where() that does not`)
    }
    for (const [scopes, alone, guessed, missed] of rows) {
      t.equal(await by(scopes, [change]), alone, `${scopes}: a change`)
      t.equal(await by(scopes, [right, change]), guessed, `${scopes}: a guess that is right`)
      t.equal(await by(scopes, [wrong, change]), missed, `${scopes}: one that is not`)
    }
  },
)

const fail = (what: unknown): never => {
  throw new Error(JSON.stringify(what))
}

/** Values as a hostile client would write them; those that do not parse are no question at all. */
const value = fc.oneof(
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 }),
  fc.string({ unit: fc.constantFrom('&', '=', ',', '\\,', '|', '%', '+', ' ', '#', 'é', 'p2') }),
)
const criterion = fc
  .tuple(
    fc.constantFrom(
      '_id',
      '_id:not',
      '_lastUpdated',
      '_security',
      'code',
      'code:not',
      'date',
      'patient',
      'patient:missing',
      'patient:identifier',
      'subject',
      'subject:Patient',
    ),
    value,
    fc.boolean(),
  )
  .map(([name, text, raw]) => `${name}=${raw ? text : encodeURIComponent(text)}`)
const general = fc.constantFrom('_count=5', '_count=99999', '_count=999999999', '_sort=-date')

t.test('property: narrowing adds, never replaces; upstream reads what was decided', async (t) => {
  let seen = 0
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom<Level>('patient', 'user', 'system'),
      fc.constantFrom('/Observation', '/Patient/p1/Observation', '/Patient/p2/Observation'),
      fc.boolean(),
      fc.array(fc.oneof({ weight: 4, arbitrary: criterion }, general), { maxLength: 5 }),
      async (level, path, byPost, pieces) => {
        const text = pieces.join('&')
        const ask = byPost
          ? { method: 'POST', target: `${path}/_search`, body: text }
          : { method: 'GET', target: text === '' ? path : `${path}?${text}` }
        const { permit } = await run(BY_LEVEL[level], `${level}/*.s`, ask)
        if (permit === undefined) return
        seen++
        const { interaction, requested } = permit
        const [, , compartment] = path.split('/').length > 2 ? path.split('/') : []
        const wanted = [compartment, level === 'patient' ? 'p1' : undefined].filter(
          (id) => id !== undefined,
        )
        const added = [...new Set(wanted)].map((id) => ({
          name: 'patient',
          values: [`Patient/${id}`],
        }))
        const kept = requested.parameters.map((parameter) =>
          parameter.name === '_count' && Number(parameter.values[0]) > config.limits.count
            ? { ...parameter, values: [String(config.limits.count)] }
            : parameter,
        )
        same(interaction.parameters, [...kept, ...added])
        same(interaction.compartment, undefined)
        same(readBack(interaction), interaction)
      },
    ),
    { numRuns: 500 },
  )
  t.ok(seen > 100, `enough questions were permitted: ${seen}`)
})

/** What a server that reads FHIR as we do would understand of it. */
function readBack(interaction: Interaction): Interaction {
  const { path, query, form } = formatInteraction(interaction)
  const { method } = interaction
  const target = query === '' ? path : `${path}?${query}`
  return inquire({ method, target, ...(form === undefined ? {} : { body: form }) }).interaction
}

const same = (found: unknown, wanted: unknown): void => {
  if (JSON.stringify(sorted(found)) !== JSON.stringify(sorted(wanted))) fail({ found, wanted })
}
const sorted = (thing: unknown): unknown =>
  thing !== null && typeof thing === 'object' && !Array.isArray(thing)
    ? Object.fromEntries(
        Object.entries(thing)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([name, inner]) => [name, sorted(inner)]),
      )
    : Array.isArray(thing)
      ? thing.map(sorted)
      : thing

t.test('every offered interaction goes up as it was decided (rule 1)', async (t) => {
  for (const row of OFFERED) {
    const level = UNNARROWED.has(row[0]) ? 'user' : 'patient'
    const { permit } = await run(BY_LEVEL[level], `${level}/*.cruds`, askOf(row), CURRENT)
    if (permit === undefined) throw new Error(row.join(' '))
    t.strictSame(sorted(readBack(permit.interaction)), sorted(permit.interaction), row.join(' '))
    t.ok(Permit.isGenuine(permit))
  }
})

// ---------------------------------------------------------------------------------------------
// Writes: who, what, over what → verdict, and the version upstream must still have.
const CONFIDENTIALITY = 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality'
const ACT_CODE = 'http://terminology.hl7.org/CodeSystem/v3-ActCode'
const label = (...codes: string[]) => ({
  meta: {
    versionId: '3',
    security: codes.map((code) => ({
      system: code.length === 1 ? CONFIDENTIALITY : ACT_CODE,
      code,
    })),
  },
})
const MASKED_URL = 'http://hl7.org/fhir/StructureDefinition/data-absent-reason'
const marks = { _status: { extension: [{ url: MASKED_URL, valueCode: 'masked' }] } }
const secret = { note: [{ text: 'SSN 123-45-6789' }] }
const CLEARED: Who = { ...CLINICIAN, roles: ['restricted-records'], purposes: ['TREAT'] }

const o1 = (more?: object): string => observation('o1', 'p1', more)
const ofP2 = observation('o1', 'p2')
const ofNobody = '{"resourceType":"Observation","id":"o1","meta":{"versionId":"3"}}'
const condition = o1().replace('"Observation"', '"Condition"')
const fresh = observation(undefined, 'p1')
const now = (more?: object): Current => present(o1(more))
const unversioned = present(o1({ meta: {} }))
const gone: Current = { status: 410, body: Buffer.alloc(0) }
const broken: Current = { status: 500, body: Buffer.from('{}') }
const nonsense = present('{"resourceType":')
const POST = 'POST /Observation'
const PUT = 'PUT /Observation/o1'
const DELETE = 'DELETE /Observation/o1'

type Write = [
  what: string,
  who: Who,
  ask: string,
  body: string | undefined,
  current: Current,
  ifMatch: string | undefined,
  verdict: string,
]
// prettier-ignore
const WRITES: Write[] = [
  ['create, own',                     PATIENT,   POST,   fresh,                   absent,            undefined, 'permit -'],
  ['create without a body',           PATIENT,   POST,   undefined,               absent,            undefined, 'body-malformed'],
  ['create with an empty body',       PATIENT,   POST,   '',                      absent,            undefined, 'body-malformed'],
  ['create of no JSON',               PATIENT,   POST,   '{"resourceType":',      absent,            undefined, 'body-malformed'],
  ['create of two members alike',     PATIENT,   POST,   '{"resourceType":"Observation","resourceType":"Patient"}', absent, undefined, 'body-malformed'],
  ['create of another type',          PATIENT,   POST,   condition,               absent,            undefined, 'body-mismatch'],
  ['create of an array',              PATIENT,   POST,   '[]',                    absent,            undefined, 'body-mismatch'],
  ['create for another patient',      PATIENT,   POST,   ofP2,                    absent,            undefined, 'compartment-denied'],
  ['create for nobody',               PATIENT,   POST,   ofNobody,                absent,            undefined, 'compartment-denied'],
  ['create, N by N',                  CLINICIAN, POST,   o1(label('N')),          absent,            undefined, 'permit -'],
  ['create, R by N (LABEL-4)',        CLINICIAN, POST,   o1(label('R')),          absent,            undefined, 'policy-denied'],
  ['create, R by R',                  CLEARED,   POST,   o1(label('R')),          absent,            undefined, 'permit -'],
  ['create, V by R',                  CLEARED,   POST,   o1(label('V')),          absent,            undefined, 'policy-denied'],
  ['create, HIV by N',                CLINICIAN, POST,   o1(label('N', 'HIV')),   absent,            undefined, 'policy-denied'],
  ['create with our marks (MASK-10)', CLINICIAN, POST,   o1(marks),               absent,            undefined, 'body-rule-broken'],

  ['update, own',                     PATIENT,   PUT,    o1(),                    now(),             undefined, 'permit W/"3"'],
  ['update without a body',           PATIENT,   PUT,    undefined,               now(),             undefined, 'body-malformed'],
  ['update, another id (INPUT-5)',    PATIENT,   PUT,    observation('o2', 'p1'), now(),             undefined, 'body-mismatch'],
  ['update, no id (INPUT-5)',         PATIENT,   PUT,    fresh,                   now(),             undefined, 'body-mismatch'],
  ['update, another type (INPUT-5)',  PATIENT,   PUT,    condition,               now(),             undefined, 'body-mismatch'],
  ['update, given away',              PATIENT,   PUT,    ofP2,                    now(),             undefined, 'compartment-denied'],
  ['update, taken over',              PATIENT,   PUT,    o1(),                    present(ofP2),     undefined, 'not-found'],
  ['update, made nobody\'s',          PATIENT,   PUT,    ofNobody,                now(),             undefined, 'compartment-denied'],
  ['update, taken from nobody',       PATIENT,   PUT,    o1(),                    present(ofNobody), undefined, 'not-found'],
  ['update by a clinician',           CLINICIAN, PUT,    ofP2,                    present(ofP2),     undefined, 'permit W/"3"'],
  ['update of the unseen R',          CLINICIAN, PUT,    o1(),                    now(label('R')),   undefined, 'not-found'],
  ['update to the unseen R',          CLINICIAN, PUT,    o1(label('R')),          now(),             undefined, 'policy-denied'],
  ['R stays R',                       CLEARED,   PUT,    o1(label('R')),          now(label('R')),   undefined, 'permit W/"3"'],
  ['N becomes R',                     CLEARED,   PUT,    o1(label('R')),          now(),             undefined, 'permit W/"3"'],
  ['R becomes N (INPUT-5)',           CLEARED,   PUT,    o1(label('N')),          now(label('R')),   undefined, 'body-rule-broken'],
  ['R is no longer said (INPUT-5)',   CLEARED,   PUT,    o1(),                    now(label('R')),   undefined, 'body-rule-broken'],
  ['HIV is no longer said (INPUT-5)', CLEARED,   PUT,    o1(label('R')),          now(label('R', 'HIV')), undefined, 'body-rule-broken'],
  ['HIV becomes ETH (INPUT-5)',       CLEARED,   PUT,    o1(label('R', 'ETH')),   now(label('R', 'HIV')), undefined, 'body-rule-broken'],
  ['HIV stays, ETH is added',         CLEARED,   PUT,    o1(label('R', 'ETH', 'HIV')), now(label('R', 'HIV')), undefined, 'permit W/"3"'],
  ['our marks come back (MASK-10)',   CLINICIAN, PUT,    o1(marks),               now(secret),       undefined, 'body-hides'],
  ['marks cut out (MASK-10)',         CLINICIAN, PUT,    o1(),                    now(secret),       undefined, 'body-hides'],
  ['the secret guessed (MASK-10)',    CLINICIAN, PUT,    o1(secret),              now(secret),       undefined, 'body-hides'],

  ['update, If-Match as it is',       PATIENT,   PUT,    o1(),                    now(),             'W/"3"',   'permit W/"3"'],
  ['update, If-Match of before',      PATIENT,   PUT,    o1(),                    now(),             'W/"2"',   'precondition-failed'],
  ['update, If-Match of anything',    PATIENT,   PUT,    o1(),                    now(),             '*',       'precondition-failed'],
  ['update, If-Match, of another',    PATIENT,   PUT,    o1(),                    present(ofP2),     'W/"2"',   'not-found'],
  ['update, no version to judge',     PATIENT,   PUT,    o1(),                    unversioned,       undefined, 'upstream-unreadable'],
  ['update of what is not (REST-17)', PATIENT,   PUT,    o1(),                    absent,            undefined, 'not-found'],
  ['update of what is not (REST-17)', CLINICIAN, PUT,    o1(),                    absent,            undefined, 'not-found'],
  ['update of what is not (REST-17)', BACKEND,   PUT,    o1(),                    absent,            undefined, 'permit -'],
  ['update of what is no more',       BACKEND,   PUT,    o1(),                    gone,              undefined, 'permit -'],
  ['the same, If-Match',              BACKEND,   PUT,    o1(),                    absent,            'W/"1"',   'precondition-failed'],
  ['update, upstream broken',         BACKEND,   PUT,    o1(),                    broken,            undefined, 'upstream-failed'],
  ['update, current of another id',   BACKEND,   PUT,    o1(),                    present(observation('o2', 'p1')), undefined, 'upstream-unreadable'],
  ['update, current of another type', BACKEND,   PUT,    o1(),                    present(condition), undefined, 'upstream-unreadable'],

  ['delete, own',                     PATIENT,   DELETE, undefined,               now(),             undefined, 'permit W/"3"'],
  ['delete with a body',              PATIENT,   DELETE, o1(),                    now(),             undefined, 'body-malformed'],
  ['delete of another patient\'s',    PATIENT,   DELETE, undefined,               present(ofP2),     undefined, 'not-found'],
  ['delete of nobody\'s',             PATIENT,   DELETE, undefined,               present(ofNobody), undefined, 'not-found'],
  ['delete of the unseen R',          CLINICIAN, DELETE, undefined,               now(label('R')),   undefined, 'not-found'],
  ['delete of R by R',                CLEARED,   DELETE, undefined,               now(label('R')),   undefined, 'permit W/"3"'],
  ['delete, If-Match of before',      CLINICIAN, DELETE, undefined,               now(),             'W/"2"',   'precondition-failed'],
  ['delete of what is not',           PATIENT,   DELETE, undefined,               absent,            undefined, 'not-found'],
  ['delete of what is not',           BACKEND,   DELETE, undefined,               absent,            undefined, 'not-found'],
  ['delete of what is no more',       BACKEND,   DELETE, undefined,               gone,              undefined, 'not-found'],
]

t.test('writes are judged, and over what (SCOPE-11, INPUT-5, MASK-10, REST-17, 20)', async (t) => {
  for (const [what, who, asked, body, current, ifMatch, expected] of WRITES) {
    const [method = '', target = ''] = asked.split(' ')
    const ask = {
      method,
      target,
      ...(body === undefined ? {} : { body }),
      headers: ifMatch === undefined ? {} : { 'if-match': ifMatch },
    }
    const all = 'patient/*.cruds user/*.cruds system/*.cruds'
    const found = await run(who, all, ask, current)
    const verdict = found.permit === undefined ? '' : ` ${found.permit.ifMatch ?? '-'}`
    t.equal(found.verdict + verdict, expected, what)
    t.ok(['', 'GET /Observation/o1'].includes(found.asked.join()), `${what}: asks only to read`)
    if (found.permit !== undefined) {
      t.equal(found.permit.body?.toString(), body, `${what}: the body goes up as it came`)
    }
  }
})

t.test('an echo shows no label that a read would withhold (SCOPE-4, LABEL-4)', async (t) => {
  const who: Who = { ...CLEARED, ...PATIENT }
  const ask = { method: 'POST', target: '/Observation', body: o1(label('R')) }
  const echo = async (scopes: string) => (await run(who, scopes, ask)).permit?.terms.mayReadBack
  t.equal(await echo('user/*.cr'), true, 'read at R, written at R')
  t.equal(await echo('user/*.cr patient/*.r'), true, 'one more scope takes nothing away')
  const shown = await run(who, 'user/*.c patient/*.r', ask)
  const reach = shown.permit?.terms.grantFor('Observation')?.reach ?? []
  t.equal(reach[0]?.clearance.confidentiality, 'N', 'written at R, shown as a read would at N')
})

t.test('a current version that nobody can read is never written over', async (t) => {
  const ask = { method: 'PUT', target: '/Observation/o1', body: o1() }
  t.equal((await run(BACKEND, 'system/*.u', ask, nonsense)).verdict, 'upstream-unreadable')
})

t.test('a current version that comes in pieces is judged whole, or not at all', async (t) => {
  const pieces = (...texts: string[]): Current => ({
    status: 200,
    body: (async function* () {
      for (const text of texts) yield Buffer.from(text)
    })(),
  })
  const ask = { method: 'PUT', target: '/Observation/o1', body: o1() }
  const put = async (current: Current) => (await run(PATIENT, 'patient/*.u', ask, current)).verdict
  t.equal(await put(pieces(o1().slice(0, 20), o1().slice(20))), 'permit')
  t.equal(await put(pieces(ofP2.slice(0, 20), ofP2.slice(20))), 'not-found')
  const large = ' '.repeat(config.limits.bodyBytes)
  t.equal(await put(pieces(o1(), large)), 'upstream-unreadable')
})

t.test('headers that ask for something else are refused (§8)', async (t) => {
  const post = { method: 'POST', target: '/Observation', body: fresh }
  for (const headers of [
    { prefer: 'respond-async' },
    { prefer: 'return=minimal, Respond-Async' },
  ]) {
    const { verdict } = await run(CLINICIAN, 'user/*.cruds', { ...post, headers })
    t.equal(verdict, 'interaction-refused', JSON.stringify(headers))
  }
  const minimal = { ...post, headers: { prefer: 'return=minimal' } }
  t.equal((await run(CLINICIAN, 'user/*.cruds', minimal)).verdict, 'permit')
})

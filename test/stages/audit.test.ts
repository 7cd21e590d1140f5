import { createHash } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { findMisformed } from '../support/forms.ts'
import { findFaults } from '../support/generate-resource.ts'
import { grantOf } from '../support/grants.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { Arrival, Facts, Principal, Tally } from '../../src/exchange.ts'
import { Exchange } from '../../src/exchange.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import type { Interaction, InteractionCode } from '../../src/fhir/interaction.ts'
import { withoutCredentials } from '../../src/oauth/redaction.ts'
import { Permit } from '../../src/permit.ts'
import type { Reason } from '../../src/refusal.ts'
import { REFUSALS } from '../../src/refusal.ts'
import { createAudit } from '../../src/stages/audit/audit.ts'

const BALP = 'https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.'
const JWT = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl'

type Coding = { system: string; code: string }
type Concept = { coding: Coding[] }
type Agent = {
  type: Concept
  who?: { identifier: { system?: string; value: string } }
  requestor: boolean
  policy?: string[]
  network?: { address: string; type: string }
}
type Entity = {
  what?: { reference?: string; identifier?: { value: string } }
  type: Coding
  role?: Coding
  query?: string
  detail?: { type: string; valueString: string }[]
}
type AuditEvent = {
  resourceType: string
  meta?: { profile: string[] }
  type: Coding
  subtype?: Coding[]
  action: string
  recorded: string
  outcome: string
  outcomeDesc?: string
  agent: Agent[]
  source: { site: string; observer: { identifier: { value: string } }; type: Coding[] }
  entity: Entity[]
}

const is = (agent: Agent, code: string) => agent.type.coding.some((coding) => coding.code === code)
const role = (entity: Entity) => entity.role?.code

/** The rules of BALP 1.1.5 (IHE.BasicAudit.*.fsh), written down apart from what builds the events. */
const RULES: Record<
  string,
  { action: string; subtypes: string[]; client: string; server: string; user: string[] }
> = {
  Create: {
    action: 'C',
    subtypes: ['create'],
    client: '110153',
    server: '110152',
    user: ['AUT', 'INF', 'CST'],
  },
  Read: {
    action: 'R',
    subtypes: ['read', 'vread'],
    client: '110152',
    server: '110153',
    user: ['IRCP'],
  },
  Update: {
    action: 'U',
    subtypes: ['update', 'patch'],
    client: '110153',
    server: '110152',
    user: ['AUT', 'INF', 'CST'],
  },
  Delete: {
    action: 'D',
    subtypes: ['delete'],
    client: '110150',
    server: 'custodian',
    user: ['AUT', 'INF', 'CST'],
  },
  Query: {
    action: 'E',
    subtypes: ['search', 'search-type', 'search-system'],
    client: '110153',
    server: '110152',
    user: ['IRCP'],
  },
}

const R4 = loadElements('R4')

/** Every rule that an event breaks: base R4 AuditEvent, and each profile that it declares. */
function broken(event: AuditEvent): string[] {
  const found: string[] = []
  const must = (holds: boolean, rule: string) => {
    if (!holds) found.push(rule)
  }
  must(event.resourceType === 'AuditEvent', 'resourceType')
  must(event.type.code === 'rest', 'type')
  must(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(event.recorded), 'recorded 1..1 instant')
  must(event.agent.length > 0, 'agent 1..*')
  must(event.source.observer.identifier.value !== '', 'source.observer 1..1')
  for (const agent of event.agent) {
    must(typeof agent.requestor === 'boolean', 'agent.requestor 1..1')
    must(
      agent.network === undefined || ['1', '2', '5'].includes(agent.network.type),
      'network.type',
    )
  }
  must(event.agent.filter(({ requestor }) => requestor).length === 1, 'one requestor')
  must(event.outcome === '0' || event.outcomeDesc !== undefined, 'outcomeDesc of a failure')
  const transactions = event.entity.filter(({ type }) => type.code === 'XrequestId')
  must(
    transactions.length === 1 && transactions[0]?.what?.identifier?.value === 'request-1',
    'AUD-7',
  )
  const texts = JSON.stringify(event)
  must(!/:(""|\[\]|\{\}|null)/.test(texts), 'no empty values')
  found.push(...findFaults(R4, event, 'AuditEvent', 'AuditEvent'))
  found.push(...findMisformed(R4, event, 'AuditEvent', 'AuditEvent'))

  for (const profile of event.meta?.profile ?? []) {
    const name = profile.slice(BALP.length)
    if (name.startsWith('OAUTH')) oauth(event, name, must)
    else data(event, name, must)
  }
  return found
}

type Must = (holds: boolean, rule: string) => void

function data(event: AuditEvent, name: string, must: Must): void {
  const isPatient = name.startsWith('Patient')
  const rule = RULES[name.replace('Patient', '')]
  if (rule === undefined) throw new Error(`no such profile ${name}`)
  must(event.outcome === '0', 'profiles on success only (C4)')
  must(event.action === rule.action, 'action')
  must(event.subtype?.some(({ code }) => rule.subtypes.includes(code)) === true, 'subtype')
  const clients = event.agent.filter((agent) => is(agent, rule.client))
  const servers = event.agent.filter((agent) => is(agent, rule.server))
  must(clients.length === 1, 'client 1..1 (C7)')
  must(servers.length === 1, 'server 1..1 (C7)')
  for (const agent of [...clients, ...servers]) {
    must(agent.who !== undefined && agent.network !== undefined, 'client and server: who, network')
  }
  must(servers[0]?.network?.address === 'https://fhir.example/fhir', 'server is the public base')
  const users = event.agent.filter(({ requestor, network }) => requestor && network === undefined)
  for (const user of users) {
    must(
      rule.user.some((code) => is(user, code)),
      'user.type (C6)',
    )
  }
  const patients = event.entity.filter((entity) => role(entity) === '1')
  must(patients.length === (isPatient ? 1 : 0), 'patient')
  must(
    patients.every(
      ({ type, what }) => type.code === '1' && /^Patient\//.test(what?.reference ?? ''),
    ),
    'patient entity',
  )
  const queries = event.entity.filter((entity) => role(entity) === '24')
  const things = event.entity.filter((entity) => ['3', '4', '20'].includes(role(entity) ?? ''))
  if (rule.action === 'E') {
    must(queries.length === 1 && things.length === 0, 'query 1..1')
    const [query] = queries
    must(query?.what === undefined && query?.detail === undefined, 'query: no what, no detail')
    must((query?.query ?? '') !== '', 'query.query 1..1')
  } else must(things.length === 1 && things[0]?.what?.reference !== undefined, 'data 1..1')
}

function oauth(event: AuditEvent, name: string, must: Must): void {
  const clients = event.agent.filter((agent) => is(agent, '110150'))
  const users = event.agent.filter((agent) => is(agent, 'IRCP'))
  must(users.length <= 1, 'oUser 0..1')
  for (const user of users) {
    must(user.who?.identifier.system === 'https://issuer.example', 'user.who system = iss (AUD-5)')
    must(user.who?.identifier.value === 'sub-1', 'user.who value = sub (AUD-5)')
    must(user.policy?.length === 1, 'oUser.policy 1..1')
  }
  if (name.endsWith('Comprehensive')) {
    must(clients.length === 1, 'oClient 1..1')
    must(clients[0]?.who?.identifier.value === 'client-1', 'oClient.who = client_id')
    must(
      users.every(({ policy }) => policy?.[0] === 'urn:ietf:params:oauth:jti:token-1'),
      'jti',
    )
  } else {
    must(users.length === 1 && users.every((user) => is(user, 'UserOauthAgent')), 'UserOauthAgent')
    must((users[0]?.policy?.[0]?.length ?? 99) <= 32 || name.endsWith('Minimal'), 'token end ≤ 32')
  }
}

const principal: Principal = {
  issuer: 'https://issuer.example',
  subject: 'sub-1',
  clientId: 'client-1',
  kind: 'user',
  key: 'k',
  scopes: [],
  patient: undefined,
  fhirUser: undefined,
  roles: ['nurse "x"'],
  purposes: ['TREAT'],
  organization: undefined,
  tokenId: 'token-1',
  issuedAt: 0,
  expiresAt: 0,
}
const arrivalOf = (fields: Partial<Arrival> = {}): Arrival => ({
  method: 'GET',
  target: '/Observation?patient=p1',
  headers: { accept: 'application/fhir+json', authorization: `Bearer ${JWT}${'x'.repeat(60)}` },
  rawHeaders: [],
  address: '203.0.113.7',
  body: undefined,
  signal: new AbortController().signal,
  ...fields,
})
const tallyOf = (patients: string[], resource?: string): Tally => ({
  inspected: 3,
  released: 2,
  withheld: 1,
  masked: new Map([['ssn', 2]]),
  patients: new Set(patients),
  resource,
})
const permitOf = (requested: Interaction, patient?: string) =>
  Permit.issue({
    interaction: requested,
    requested,
    body: undefined,
    rules: ['shipped/own'],
    ...(patient === undefined ? {} : { patients: [patient] }),
    terms: { grantFor: () => grantOf(), mayReadBack: true },
  })

const config = configSchema.parse({
  public: { url: 'https://fhir.example/fhir/' },
  upstream: { url: 'http://127.0.0.1:1/fhir' },
  issuers: [{ url: 'https://issuer.example' }],
  audit: { patientsPerSearch: 5 },
})

/** The stage, and the lines that it appends. */
function listening() {
  const lines: string[] = []
  const sink = {
    isReady: () => true,
    append: async (records: readonly string[]) => void lines.push(...records),
    close: async () => undefined,
  }
  return { audit: createAudit(config, { sink }), lines }
}

async function recorded(facts: Partial<Facts>, arrival = arrivalOf()): Promise<AuditEvent[]> {
  const { audit, lines } = listening()
  const clock = { now: () => 1_700_000_000_000, monotonic: () => 0 }
  const exchange = new Exchange('request-1', arrival, clock)
  for (const [name, value] of Object.entries(facts)) {
    exchange.record(name as keyof Facts, value)
  }
  await audit.record(exchange)
  t.ok(lines.every((line) => !line.includes('\n')))
  return lines.map((line) => JSON.parse(line) as AuditEvent)
}

/** Decodes what was asked. */
function queryOf(event: AuditEvent | undefined): string {
  const query = event?.entity.find((entity) => role(entity) === '24')?.query ?? ''
  return Buffer.from(query, 'base64').toString()
}

const CODES: Record<InteractionCode, string | undefined> = {
  capabilities: undefined,
  versions: undefined,
  read: 'Read',
  vread: 'Read',
  update: 'Update',
  'conditional-update': 'Update',
  patch: 'Update',
  'conditional-patch': 'Update',
  delete: 'Delete',
  'conditional-delete': 'Delete',
  'delete-history': 'Delete',
  create: 'Create',
  'conditional-create': 'Create',
  'search-type': 'Query',
  'search-system': 'Query',
  'search-compartment': 'Query',
  'history-instance': undefined,
  'history-type': undefined,
  'history-system': undefined,
  batch: undefined,
  operation: undefined,
  paging: 'Query',
}
const WHOS: Record<string, Principal> = {
  user: principal,
  system: { ...principal, kind: 'system', subject: undefined },
  opaque: { ...principal, tokenId: undefined },
  'no client': { ...principal, clientId: undefined },
  // Of whom introspection does not say who it is (RFC 7662 §2.2: `sub` is OPTIONAL).
  'no subject': { ...principal, subject: undefined },
  'nobody, opaque': { ...principal, subject: undefined, tokenId: undefined },
}

t.test('every interaction, by every kind of principal, meets its profiles (AUD-2)', async (t) => {
  for (const [code, stem] of Object.entries(CODES)) {
    const withId = ['Read', 'Update', 'Delete'].includes(stem ?? '')
    const interaction: Interaction = {
      code: code as InteractionCode,
      method: 'GET',
      type: 'Observation',
      parameters: [],
      ...(withId ? { id: 'o1' } : {}),
    }
    for (const [kind, who] of Object.entries(WHOS)) {
      for (const patients of [[], ['p1']]) {
        const events = await recorded({
          interaction,
          principal: who,
          permit: permitOf(interaction),
          tally: tallyOf(patients, stem === 'Create' ? 'Observation/o9/_history/1' : undefined),
          status: 200,
          outcome: 'released',
        })
        t.equal(events.length, 1)
        const [event] = events
        t.strictSame(broken(event!), [], `${code} ${kind}`)
        const policies = event?.agent.flatMap(({ policy }) => policy ?? [])
        t.equal(policies?.length, 1, `${code} ${kind}: by which token`)
        const own = event?.meta?.profile.filter((profile) => !profile.includes('OAUTH'))
        const expected = `${BALP}${patients.length > 0 ? 'Patient' : ''}${stem ?? ''}`
        t.strictSame(own ?? [], stem === undefined ? [] : [expected])
        const token = event?.meta?.profile.find((profile) => profile.includes('OAUTH'))
        const mix: Record<string, string> = {
          user: 'Comprehensive',
          system: 'Comprehensive',
          opaque: 'Opaque',
          'no client': 'Minimal',
          'no subject': 'Comprehensive',
        }
        t.equal(token?.split('.').at(-1), mix[kind])
      }
    }
  }
})

t.test('every refusal is recorded, unprofiled, with its reason (AUD-1, C4)', async (t) => {
  const interaction: Interaction = {
    code: 'read',
    method: 'GET',
    type: 'Patient',
    id: 'p7',
    parameters: [],
  }
  for (const reason of Object.keys(REFUSALS) as Reason[]) {
    const { status } = REFUSALS[reason]
    for (const known of [{}, { interaction }, { interaction, principal }]) {
      const outcome = status >= 500 ? 'failed' : 'refused'
      const [event, ...more] = await recorded({ ...known, reason, status, outcome })
      t.equal(more.length, 0)
      t.strictSame(broken(event!), [], reason)
      t.equal(event?.meta, undefined)
      t.equal(event?.outcomeDesc, reason)
    }
  }
  const outcomeOf = async (reason: Reason) =>
    (await recorded({ reason, status: REFUSALS[reason].status, outcome: 'refused' }))[0]?.outcome
  t.equal(await outcomeOf('policy-denied'), '8')
  t.equal(await outcomeOf('token-invalid'), '8')
  t.equal(await outcomeOf('rate-exceeded'), '4')
  t.equal(await outcomeOf('parameter-malformed'), '4')
  t.equal(await outcomeOf('upstream-timeout'), '8')
  t.equal(await outcomeOf('internal'), '12')
  const [denied] = await recorded({ interaction, reason: 'policy-denied', outcome: 'refused' })
  t.ok(
    denied?.entity.some(({ what }) => what?.reference === 'Patient/p7'),
    'what was asked for',
  )
})

t.test('the instant of a record is its own, to the millisecond (AUD-1)', async (t) => {
  const { audit, lines } = listening()
  // Across seconds and years, twice in one second, and with a clock that is set back.
  const times = [1_700_000_000_000, 1_700_000_000_007, 1_700_000_000_999, 1_700_000_001_000].concat(
    [1_699_999_999_090, 1_767_225_599_999, 1_767_225_600_000, 0, -1],
  )
  for (const now of times) {
    await audit.record(
      new Exchange('request-1', arrivalOf(), { now: () => now, monotonic: () => 0 }),
    )
  }
  t.strictSame(
    lines.map((line) => (JSON.parse(line) as AuditEvent).recorded),
    times.map((now) => new Date(now).toISOString()),
  )
})

t.test('aborted, and ended for no known reason, are no success (AUD-1, AUD-6)', async (t) => {
  const facts = { principal, tally: tallyOf(['p1']), status: 200 }
  const [aborted] = await recorded({ ...facts, outcome: 'aborted' })
  t.match(aborted, { outcome: '4', outcomeDesc: 'aborted' })
  t.equal(aborted?.meta, undefined)
  t.ok(
    aborted?.entity.some((entity) => role(entity) === '1'),
    'whose data may have left',
  )
  for (const odd of [{}, { outcome: 'failed' as const }]) {
    t.match((await recorded(odd))[0], { outcome: '12', outcomeDesc: 'internal' })
  }
})

const search: Interaction = {
  code: 'search-type',
  method: 'GET',
  type: 'Observation',
  parameters: [],
}

t.test('a search is recorded once for each patient, with a cap that shows (AUD-3)', async (t) => {
  const of = (patients: string[], narrowed?: string) =>
    recorded({
      interaction: search,
      principal,
      permit: permitOf(search, narrowed),
      tally: tallyOf(patients),
      outcome: 'released',
    })
  const patientsOf = (events: AuditEvent[]) =>
    events.map((event) => event.entity.find((entity) => role(entity) === '1')?.what?.reference)
  const three = await of(['a', 'b', 'c'])
  t.strictSame(patientsOf(three), ['Patient/a', 'Patient/b', 'Patient/c'])
  const seven = await of(['a', 'b', 'c', 'd', 'e', 'f', 'g'])
  t.equal(seven.length, 6)
  t.strictSame(seven.flatMap(broken), [])
  const last = seven[5]?.entity.flatMap(({ detail }) => detail ?? [])
  t.match(last?.at(-1), { type: 'patients-not-recorded', valueString: '2' })
  t.strictSame(patientsOf(await of([], 'own')), ['Patient/own'], 'found nothing, about one patient')
  t.strictSame(patientsOf(await of([])), [undefined])
  t.match(
    three[0]?.entity.flatMap(({ detail }) => detail ?? []),
    [
      { type: 'outcome', valueString: 'released' },
      { type: 'inspected', valueString: '3' },
      { type: 'released', valueString: '2' },
      { type: 'withheld', valueString: '1' },
      { type: 'masked-ssn', valueString: '2' },
      { type: 'rule', valueString: 'shipped/own' },
    ],
  )
})

t.test('the raw request is there, credentials are not (AUD-4, AUD-5)', async (t) => {
  const ask = async (target: string, facts: Partial<Facts> = {}) =>
    recorded(
      { interaction: search, principal, outcome: 'released', ...facts },
      arrivalOf({ target }),
    )
  t.equal(
    queryOf((await ask('/Observation?patient=p1&code=a%7Cb'))[0]),
    'GET https://fhir.example/fhir/Observation?patient=p1&code=a%7Cb\n' +
      'Accept: application/fhir+json\nX-Request-Id: request-1',
  )
  for (const target of [
    `/Observation?access_token=hidden-1&code=x`,
    `/Observation?code=x;access_token=hidden-1`,
    `/Observation?%61ccess%5Ftoken=hidden-1&code=x`,
    `/Observation?ACCESS_TOKEN=hidden-1=more&code=x`,
    `/Observation?code=x#access_token=hidden-1`,
    `/Observation?code=x&client_secret=hidden-1&%=1`,
    `/Observation?code=${JWT}`,
    `/${JWT.replaceAll('.', '%2e')}?code=x`,
    `/Observation?code=x%26y%3Dz,${JWT.replaceAll('.', '%252E')}`,
    `/Observation?access_token:exact=hidden-1&code=x`,
    `/Observation?access%255ftoken=hidden-1&code=x`,
    `/Observation?access%5ftoken%=hidden-1&code=x`,
    `/Observation?access_token%3dhidden-1&code=x`,
    `/Observation?access_token%253Dhidden-1%26more-hidden-1&code=x`,
    `/Observation?code=x%26session_token%3dhidden-1`,
    `/Observation?url=https%3A%2F%2Fx%3Faccess_token%3Dhidden-1`,
    `/Observation?code=session_token=hidden-1`,
    `/Observation?session_token=hidden-1?hidden-1`,
    `/Observation;api-key=hidden-1?code=x`,
    `/Patient?_source=https://bob:hidden-1@host/x`,
    `/Patient?_source=https://a:b@c,https://bob:a@hidden-1@host`,
    `/Patient?_source=//bob:hidden-1@host`,
    `/Patient?_source=https%3a%2f%2fbob%3Ahidden-1%40host%2Fx`,
    `/Patient?_source=https%253A%252F%252Fbob%253Ahidden-1%2540host`,
  ]) {
    const events = await ask(target)
    const query = queryOf(events[0])
    t.match(query, 'removed', target)
    t.notMatch(query, /hidden-1|c2lnbmF0dXJl/, target)
  }
  for (const target of [
    `/Patient/token-1?name=x`,
    `/Observation?code=token&patient=p1`,
    `/Observation?code=a.b,eyJhbGciOiJS,eyJ.x`,
    `/Patient?telecom=bob@host&_source=https://bob@host/a:b@c`,
    `/Patient?identifier=https://host:80|bob@host`,
    `/Patient?identifier=https%3A%2F%2Fhost%3A80%7Cbob%40host`,
    `/Patient?_source=https://host:80/bob@host`,
  ]) {
    t.ok(queryOf((await ask(target))[0]).includes(`/fhir${target}\n`), `${target}: no credential`)
  }
  const opaque = await ask('/Observation', { principal: WHOS['opaque']! })
  t.notMatch(JSON.stringify(opaque), /eyJhbGci/, 'never the whole token')
  const post: Interaction = {
    ...search,
    method: 'POST',
    byPost: true,
    parameters: [
      {
        name: 'patient',
        chain: { name: 'name', modifier: 'exact', values: ['Ann & Co', 'b'] },
        values: [],
      },
      { name: 'code', values: ['x'] },
    ],
  }
  const [posted] = await recorded(
    { interaction: post, principal, outcome: 'released' },
    arrivalOf({ method: 'POST', target: '/Observation/_search' }),
  )
  t.match(queryOf(posted), /^POST .*_search\n[^]*\n\npatient\.name:exact=Ann%20%26%20Co,b&code=x$/)
})

t.test('a record takes as long as it is long, and is not long (AUD-4)', async (t) => {
  const post: Interaction = { ...search, method: 'POST', byPost: true, parameters: [] }
  // Where one place of a text is tried for each other, these take hours.
  for (const [what, text] of [
    ['tokens without end', 'eyJ'.repeat(1_000_000)],
    ['tokens behind tokens', `token=${'eyJhbGciOiJ.'.repeat(300_000)}`],
    ['a name without value', `?${'a'.repeat(3_000_000)}&b=1`],
    ['names without value', 'token?'.repeat(500_000)],
    ['values without name', `token${'='.repeat(3_000_000)}`],
    ['escapes of escapes', `%${'25'.repeat(1_500_000)}`],
    ['addresses without end', `${'//a:'.repeat(700_000)}@`],
    ['escaped addresses', `${'%2f%2fa%3a'.repeat(300_000)}%40`],
    ['passwords without end', `//${'a:@'.repeat(1_000_000)}`],
    ['escapes in passwords', `//a:${'%25'.repeat(1_000_000)}@`],
    ['half escapes in passwords', `//a:${'%'.repeat(3_000_000)}@`],
  ] as const) {
    withoutCredentials(text)
    withoutCredentials(`access_token=hidden-1&${text}`)
    const [event] = await recorded(
      {
        interaction: { ...post, parameters: [{ name: 'code', values: [text] }] },
        principal,
        outcome: 'released',
      },
      arrivalOf({ method: text, target: `/${text}`, headers: { accept: text } }),
    )
    t.ok(queryOf(event).length < 13_000, what)
    t.strictSame(broken(event!), [], what)
  }
  const form = `code=${'x'.repeat(4091)}${'y'.repeat(5000)}`
  const [event] = await recorded(
    {
      interaction: { ...post, parameters: [{ name: 'code', values: [form.slice(5)] }] },
      principal,
      outcome: 'released',
    },
    arrivalOf({ target: `/${'z'.repeat(8191)}`, headers: { accept: 'a'.repeat(300) } }),
  )
  const proof = createHash('sha256').update('y'.repeat(5000)).digest('hex')
  t.match(
    queryOf(event),
    new RegExp(
      `/z{8191}\\nAccept: a{256}\\[and 44 more\\]\\n[^]*\\n\\ncode=x{4091}\\[and 5000 more, sha256 ${proof}\\]$`,
    ),
  )
})

t.test('whatever a client sends, the record is one line of JSON (AUD-6)', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'binary' }),
      async (target, address, subject) => {
        const events = await recorded(
          {
            interaction: search,
            principal: {
              ...{ ...principal, subject, clientId: address, tokenId: target },
              ...{ roles: [subject, target], purposes: [address, subject], organization: target },
            },
            tally: tallyOf([subject]),
            outcome: 'released',
          },
          arrivalOf({ target, address }),
        )
        const [event] = events
        t.strictSame(findFaults(R4, event, 'AuditEvent', ''), [])
        t.strictSame(findMisformed(R4, event, 'AuditEvent', ''), [])
        return events.length === 1
      },
    ),
    { numRuns: 300 },
  )
  const [garbage] = await recorded(
    { reason: 'token-invalid', outcome: 'refused', status: 401 },
    arrivalOf({ method: 'G"T', target: '/\ud800"\\\u0000', address: '' }),
  )
  t.strictSame(broken(garbage!), [])
})

t.test('a sink that fails rejects the record (AUD-10)', async (t) => {
  const audit = createAudit(config, {
    sink: {
      isReady: () => false,
      append: () => Promise.reject(new Error('disk full')),
      close: async () => undefined,
    },
  })
  t.notOk(audit.isReady())
  const clock = { now: () => 0, monotonic: () => 0 }
  await t.rejects(audit.record(new Exchange('request-1', arrivalOf(), clock)), /disk full/)
})

t.test(
  'what an issuer says of a person and their consent is on record (UDAP-1, IUA-1)',
  async (t) => {
    const identity = {
      ...{
        subjectName: 'Dr. "Dora"',
        homeCommunity: 'urn:oid:1.2.9',
        nationalProvider: '1234567893',
      },
      ...{ person: 'doc-1', consentPolicies: ['urn:oid:1.2.7', 'https://x/treat'] },
      ...{ consentReferences: ['urn:uuid:9'], consentPatient: 'p1' },
    }
    const said = { ...principal, organization: 'urn:oid:1.2.3', identity }
    const [event] = await recorded({ interaction: search, principal: said, outcome: 'released' })
    const details = JSON.stringify(event)
    for (const [name, text] of [
      ['organization', 'urn:oid:1.2.3'],
      ['subject-name', 'Dr. "Dora"'],
      ['home-community', 'urn:oid:1.2.9'],
      ['national-provider', '1234567893'],
      ['person', 'doc-1'],
      ['consent-policy', 'urn:oid:1.2.7'],
      ['consent-policy', 'https://x/treat'],
      ['consent', 'urn:uuid:9'],
      ['consent-patient', 'p1'],
    ] as const) {
      t.ok(details.includes(JSON.stringify({ type: name, valueString: text })), `${name} ${text}`)
    }
    const [plain] = await recorded({ interaction: search, principal, outcome: 'released' })
    t.notMatch(JSON.stringify(plain), /subject-name|consent|home-community/)
  },
)

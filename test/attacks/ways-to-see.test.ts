import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { startGateway } from '../support/gateway.ts'

// MASK-10, C11: one resource may be shown to one caller in several ways, each masked in its own. What is
// written may come from any of them, and its marks may be gone.
const PATIENT = {
  ...{ resourceType: 'Patient', id: 'p1', active: true },
  text: { status: 'generated', div: '<div xmlns="http://www.w3.org/1999/xhtml">Jane Doe</div>' },
  identifier: [
    { system: 'urn:mrn', value: 'M-1' },
    { system: 'urn:acct', value: 'A-2', period: { start: '2020' } },
  ],
  name: [{ family: 'Doe', given: ['Jane', 'Mary'] }],
  telecom: [{ system: 'phone', value: '617-555-1234' }],
  birthDate: '1970-05-06',
  address: [{ line: ['1 High Street'], city: 'Boston', postalCode: '02134' }],
  contact: [{ name: { text: 'secret friend' } }, { gender: 'male' }],
}
const MASKING = `masking: hide
description: d
rules:
  - { id: telecom, select: [Patient.telecom], method: remove }
  - { id: given, select: [HumanName.given], method: remove }
  - { id: birth, select: [Patient.birthDate], method: { generalise: year } }
  - { id: zip, select: [Address.postalCode], method: { generalise: zip3 } }
  - { id: line, select: [Address.line], method: remove }
  - { id: account, identifiers: [{ system: urn:acct }], method: redact }
  - { id: friend, select: ["Patient.contact.name"], method: remove }
`
const rule = (id: string, more: string, masking: string, when = '') =>
  `  - { id: ${id}, effect: permit, levels: [user], types: ['*'], ${more}, obligations: { masking: ${masking} }${when} }\n`
const WRITE = rule('write', 'interactions: [create, update, vread]', 'baseline')

type Ask = (
  method: string,
  target: string,
  body?: unknown,
  type?: string,
) => Promise<{
  readonly status: number
  readonly text: string
}>

async function setUp(
  t: { teardown: (end: () => unknown) => void },
  rules: string,
  scope = 'cruds',
) {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-ways-'))
  mkdirSync(join(folder, 'masking'))
  writeFileSync(join(folder, 'own.yaml'), `policy: own\ndescription: d\nrules:\n${rules}`)
  writeFileSync(join(folder, 'masking', 'hide.yaml'), MASKING)
  const server = await startFhirServer()
  const gateway = await startGateway({ upstreamUrl: server.url, config: { policies: folder } })
  t.teardown(async () => {
    await gateway.close()
    await server.close()
    rmSync(folder, { recursive: true })
  })
  const claims = { scope: `user/*.${scope}`, fhirUser: 'Practitioner/d1' }
  const authorization = `Bearer ${await gateway.token(claims)}`
  const ask: Ask = async (method, target, body, type = 'application/fhir+json') => {
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization, ...(body === undefined ? {} : { 'content-type': type }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: answer.status, text: await answer.text() }
  }
  const put = (): void => {
    server.put(JSON.stringify(PATIENT))
  }
  put()
  /** What upstream holds, but for its meta. */
  const held = (): unknown => without(JSON.parse(server.get('Patient', 'p1') ?? '{}'), 'meta')
  return { ask, held, put, server }
}

type Resource = Readonly<Record<string, unknown>>

const without = (resource: unknown, ...names: string[]): Resource =>
  Object.fromEntries(Object.entries(resource as object).filter(([name]) => !names.includes(name)))

/** The Patient by each way. */
const SHOWN: Readonly<Record<string, (ask: Ask) => Promise<Resource>>> = {
  read: async (ask) => JSON.parse((await ask('GET', '/Patient/p1')).text) as Resource,
  search: async (ask) => first((await ask('GET', '/Patient?_id=p1')).text),
  everything: async (ask) => first((await ask('GET', '/Patient/p1/$everything')).text),
}
function first(bundle: string): Resource {
  const { entry = [] } = JSON.parse(bundle) as { entry?: { resource: Resource }[] }
  const [found] = entry
  if (found === undefined) throw new Error(`nothing in ${bundle}`)
  return found.resource
}
/** The same as an app's own model keeps it: no meta, no narrative, and nothing beside primitives. */
const modelOf = async (way: string, ask: Ask): Promise<Resource> =>
  JSON.parse(
    JSON.stringify(without(await SHOWN[way]?.(ask), 'meta', 'text'), (name, value: unknown) =>
      name.startsWith('_') || name === 'extension' ? undefined : value,
    ),
  ) as Resource

const READ_WHOLE = rule('read', 'interactions: [read]', 'baseline')
const FOUND_MASKED = rule('found', 'interactions: [search-type]', 'hide')

t.test('a masked match that is written back without its marks destroys nothing', async (t) => {
  for (const [what, rules, way, scope] of [
    ['search', WRITE + READ_WHOLE + FOUND_MASKED, 'search'],
    [
      'operation',
      `${WRITE + READ_WHOLE}  - { id: all, effect: permit, levels: [user], types: ['*'], interactions: [operation], operations: [$everything], obligations: { masking: hide } }\n`,
      'everything',
    ],
    ['a search, and no right to read', WRITE + READ_WHOLE + FOUND_MASKED, 'search', 'us'],
    [
      'a read, asked by its method',
      WRITE +
        READ_WHOLE +
        rule('get', 'interactions: [read]', 'hide', `, when: "request.method == 'GET'"`),
      'read',
    ],
  ] as const) {
    const { ask, held, put } = await setUp(t, rules, scope)
    const before = held()
    const model = await modelOf(way, ask)
    t.notMatch(JSON.stringify(model), /617-555|Mary|05-06|High Street|secret friend/, what)
    for (const [edit, body] of Object.entries({
      'as it was shown': model,
      'edited beside it': { ...model, active: false },
      'a name changed': { ...model, name: [{ family: 'Roe' }] },
      'something put where something was': { ...model, telecom: [{ value: '1' }] },
      'a city changed': { ...model, address: [{ city: 'Lynn', postalCode: '021' }] },
    })) {
      const { status, text } = await ask('PUT', '/Patient/p1', body)
      t.notMatch(text, /617-555|Mary|05-06|High Street|secret friend|A-2/, `${what}: ${edit}`)
      const now = JSON.stringify(held())
      for (const kept of ['617-555-1234', 'Mary', '1970-05-06', '1 High Street', 'A-2', 'secret']) {
        t.match(now, kept, `${what}: ${edit}: ${status}: ${kept}`)
      }
      if (status !== 200) t.strictSame(held(), before, `${what}: ${edit}: refused, and as it was`)
      put()
    }
  }
})

t.test('what has its marks still is what was shown, and the rest comes back', async (t) => {
  const { ask, held } = await setUp(t, WRITE + READ_WHOLE + FOUND_MASKED)
  const before = held()
  const shown = await SHOWN['search']?.(ask)
  const put = await ask('PUT', '/Patient/p1', { ...shown, active: false })
  t.equal(put.status, 200, put.text)
  t.strictSame(held(), { ...(before as object), active: false })
  const cut = await ask('PUT', '/Patient/p1', { ...shown, address: [{ city: 'Lynn' }] })
  t.match(cut, { status: 422, text: '"expression":["address' })
})

t.test('who has read the whole writes the whole', async (t) => {
  const { ask, held, put } = await setUp(t, WRITE + READ_WHOLE + FOUND_MASKED)
  const whole = JSON.parse((await ask('GET', '/Patient/p1')).text) as typeof PATIENT
  const [mrn, account] = whole.identifier
  const div = whole.text.div.replace('Doe', 'Roe')
  for (const [edit, change] of Object.entries({
    'as it was read': {},
    'what all show': { active: false, name: [{ ...whole.name[0], family: 'Roe' }] },
    'an item more, in front': { identifier: [{ value: 'new' }, mrn, account] },
    'an item beside what is hidden': { contact: [...whole.contact, { gender: 'female' }] },
    'beside what is hidden in an item': { address: [{ ...whole.address[0], city: 'Lynn' }] },
    'a text that is made of the rest': { text: { ...whole.text, div } },
  })) {
    const body = { ...whole, ...change }
    const { status, text } = await ask('PUT', '/Patient/p1', body)
    t.equal(status, 200, `${edit}: ${text}`)
    t.strictSame(held(), without(body, 'meta'), edit)
    const bare = await ask('PUT', '/Patient/p1', without(body, 'meta'))
    t.equal(bare.status, 200, `${edit}: no meta ${bare.text}`)
    put()
  }
  // Whether he has seen what he takes away nobody can tell: it is said, and how it is done.
  for (const [element, change] of [
    ['telecom', { telecom: undefined }],
    ['birthDate', { birthDate: '1971-01-01' }],
    ['name', { name: [{ family: 'Doe', given: ['Jane'] }] }],
  ] as const) {
    const { status, text } = await ask('PUT', '/Patient/p1', { ...whole, ...change })
    t.match({ status, text }, { status: 422, text: `"expression":["${element}` })
    t.match(text, '"code":"body-unseen"')
  }
})

t.test(
  'what a write answers is masked as a GET would be, whatever its own method (SCOPE-4)',
  async (t) => {
    const get = rule('get', 'interactions: [read]', 'hide', `, when: "request.method == 'GET'"`)
    const { ask, held } = await setUp(t, WRITE + READ_WHOLE + get)
    const before = held()
    const read = JSON.parse((await ask('GET', '/Patient/p1')).text) as Resource
    const { status, text } = await ask('PUT', '/Patient/p1', read)
    t.equal(status, 200, text)
    t.notMatch(text, /617-555|Mary|05-06|High Street|secret friend/)
    t.strictSame(held(), before)
  },
)

t.test('what a search will not show any more may still be written', async (t) => {
  const restricted = (id: string, more: string): string =>
    `  - { id: ${id}, effect: permit, levels: [user], types: ['*'], ${more}, obligations: { clearance: { confidentiality: R } } }\n`
  const { ask, held } = await setUp(
    t,
    restricted('write', 'interactions: [update]') +
      restricted('read', 'interactions: [read]') +
      FOUND_MASKED,
  )
  const system = 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality'
  const body = { ...PATIENT, meta: { security: [{ system, code: 'R' }] }, active: false }
  const { status, text } = await ask('PUT', '/Patient/p1', body)
  t.equal(status, 200, text)
  t.match(held(), { active: false })
})

t.test('a patch that was made for a masked match is held against it', async (t) => {
  const { ask } = await setUp(t, WRITE + READ_WHOLE + FOUND_MASKED)
  const patch = async (operations: readonly object[]) => {
    const { status, text } = await ask(
      ...(['PATCH', '/Patient/p1', operations, 'application/json-patch+json'] as const),
    )
    return status === 502 ? 'goes up' : (/"code":"([a-z-]+)"\}\],"text"/.exec(text)?.[1] ?? text)
  }
  const telecom = { op: 'test', path: '/telecom', value: PATIENT.telecom }
  const birth = { op: 'test', path: '/birthDate', value: PATIENT.birthDate }
  for (const [what, operations, expected] of [
    // The demo server takes no PATCH itself: that it is asked to is all that is to be seen here.
    ['what all show', [{ op: 'replace', path: '/active', value: false }], 'goes up'],
    ['what only a read shows', [{ op: 'remove', path: '/telecom' }], 'goes up'],
    ['the same, tested', [telecom, { op: 'remove', path: '/telecom' }], 'goes up'],
    ['over what is hidden', [{ op: 'add', path: '/telecom', value: [] }], 'body-unseen'],
    [
      'of what a match shows',
      [{ op: 'replace', path: '/birthDate', value: '1970' }],
      'body-unseen',
    ],
    ['tested', [birth, { op: 'replace', path: '/birthDate', value: '1971-01-01' }], 'goes up'],
    ['whole', [{ op: 'replace', path: '/address/0', value: { city: 'Lynn' } }], 'body-unseen'],
    ['within', [{ op: 'replace', path: '/address/0/city', value: 'Lynn' }], 'goes up'],
    ['with what is hidden in it', [{ op: 'remove', path: '/name/0' }], 'body-unseen'],
  ] as const) {
    t.equal(await patch(operations), expected, what)
  }
})

t.test('whether something is hidden is told by no write that adds it (MASK-9)', async (t) => {
  const all = rule('all', 'interactions: [read, search-type, update]', 'hide')
  const { ask, server } = await setUp(t, all)
  const JSON_PATCH = 'application/json-patch+json'
  const name = { name: [{ family: 'Doe', given: ['A'] }] }
  const noNames = { ...PATIENT, name: [{ family: 'Doe' }] }
  const phone = [{ value: '1' }]
  const add = (path: string, value: unknown) => [{ op: 'add', path, value }]
  for (const [what, method, make, bare] of [
    [
      'a list',
      'PUT',
      (read: Resource) => ({ ...read, telecom: phone }),
      without(PATIENT, 'telecom'),
    ],
    ['in an item', 'PUT', (read: Resource) => ({ ...read, ...name }), noNames],
    ['patched', 'PATCH', () => add('/telecom', phone), without(PATIENT, 'telecom')],
    ['patched in an item', 'PATCH', () => add('/name/0/given', ['A']), noNames],
  ] as const) {
    const said: string[] = []
    for (const one of [PATIENT, bare]) {
      server.put(JSON.stringify(one))
      const read = JSON.parse((await ask('GET', '/Patient/p1')).text) as Resource
      const type = method === 'PATCH' ? JSON_PATCH : undefined
      const { status, text } = await ask(method, '/Patient/p1', make(read), type)
      said.push(`${status} ${text.replace(/Request [^"]*/, '')}`)
      t.strictSame(without(JSON.parse(server.get('Patient', 'p1') ?? ''), 'meta'), one, what)
    }
    t.match(said[0], /^422 .*"code":"body-hides"/, what)
    t.equal(said[1], said[0], what)
  }
  // What shows that it is hidden, and what he is shown of what he adds, is no secret.
  server.put(JSON.stringify(without(PATIENT, 'address')))
  const read = JSON.parse((await ask('GET', '/Patient/p1')).text) as Resource
  const more = { ...read, address: PATIENT.address, gender: 'female' }
  const { status, text } = await ask('PUT', '/Patient/p1', more)
  t.equal(status, 200, text)
})

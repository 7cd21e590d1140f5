import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { shippedPolicies } from '../../src/config/shipped.ts'
import type { Inquiry, Principal } from '../../src/exchange.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { createSeal } from '../../src/http/seal.ts'
import { restore, RestoreError } from '../../src/json/restore.ts'
import type { Shape } from '../../src/json/restore.ts'
import { createTreeReaders } from '../../src/json/tree.ts'
import { parseScopes } from '../../src/oauth/smart-scope.ts'
import { loadPolicies } from '../../src/policy/load.ts'
import { createAuthorize } from '../../src/stages/authorize/authorize.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { maskWith } from '../support/mask.ts'
import { shippedMasking } from '../support/masking.ts'

// MASK-10, RATE-6: a write of long lists holds up nobody else. Lists of such a length that comparing
// each item with each would take minutes, and gigabytes; that this ends is what is shown.
const LENGTH = 25_000
/** No choices. */
const SHAPE: Shape = { choiceOf: () => undefined, inside: () => () => SHAPE }
const read = createTreeReaders(64)()
const tree = (list: unknown) => read(Buffer.from(JSON.stringify({ list })))
const numbers = Array.from({ length: LENGTH }, (_, n) => n)
const secret = { system: 'ssn', value: '078-05-1120' }
const seen = { system: 'ssn', _value: 'masked' }

/** The list that is written, or where it cannot be told. */
function restored(o: unknown, m: unknown, b: unknown): unknown {
  try {
    return (JSON.parse(restore(tree(o), tree(m), tree(b), () => SHAPE)) as { list: unknown }).list
  } catch (error) {
    if (error instanceof RestoreError) return `? ${error.path}`
    throw error
  }
}
/** Whether lists are equal: a difference of them is nothing to be printed. */
const isSame = (one: unknown, other: unknown): boolean =>
  JSON.stringify(one) === JSON.stringify(other)

t.test('a long list with something masked in it', (t) => {
  const [o, m] = [
    [...numbers, secret],
    [...numbers, seen],
  ]
  t.ok(isSame(restored(o, m, ['new', ...m]), ['new', ...o]), 'one more in front')
  t.ok(isSame(restored(o, m, m.slice(1)), o.slice(1)), 'the first taken away')
  t.ok(isSame(restored(o, m, m.toReversed()), o.toReversed()), 'turned round')
  t.equal(restored(o, m, numbers), '? list', 'what is masked taken away')
  const alike = numbers.map(() => 0)
  t.ok(
    isSame(restored([...alike, secret], [...alike, seen], [1, ...alike, seen]), [
      1,
      ...alike,
      secret,
    ]),
    'all alike',
  )
  const all = numbers.map((n) => ({ id: n, v: n }))
  const marked = numbers.map((n) => ({ id: n, _v: 'masked' }))
  const added = marked.map((one) => ({ more: 1, ...one }))
  t.ok(
    isSame(
      restored(all, marked, added),
      numbers.map((n) => ({ more: 1, id: n, v: n })),
    ),
    'all changed',
  )
  t.end()
})

t.test('a long list from which something was taken', (t) => {
  const m = numbers.filter((n) => n % 2 === 0)
  t.ok(isSame(restored(numbers, m, ['new', ...m]), ['new', ...numbers]), 'every other item')
  t.ok(isSame(restored(numbers, [], ['new']), [...numbers, 'new']), 'all of them')
  const [o, view] = [
    ['gone', ...numbers, secret],
    [...numbers, seen],
  ]
  t.ok(isSame(restored(o, view, [...view, 'new']), [...o, 'new']), 'one, with another masked')
  t.end()
})

// One of two equal items has gone: which of them, only a comparison of each with each tells.
t.test('lists that can only be compared item by item', (t) => {
  const gone = (length: number) => ['x', ...numbers.slice(0, length), 'x']
  const added = (list: readonly unknown[]) => [...list, 'new']
  const [short, long] = [gone(1000), gone(LENGTH)]
  const found = restored(short, short.slice(1), added(short.slice(1)))
  t.ok(isSame(found, added(short)), 'of short ones it is told')
  t.equal(restored(long, long.slice(1), added(long.slice(1))), '? list', 'of long ones not')
  for (const [before, behind] of [
    [numbers, []],
    [[], numbers],
  ] as const) {
    const o = [...before, 'x', 'y', 'x', ...behind]
    const m = [...before, 'y', 'x', ...behind]
    t.ok(isSame(restored(o, m, added(m)), added(o)), 'what is equal around it costs nothing')
  }
  const several = (count: number, list: readonly unknown[]) =>
    Object.fromEntries(Array.from({ length: count }, (_, n) => [`l${n}`, list]))
  const of = (count: number): unknown =>
    restored(
      several(count, short),
      several(count, short.slice(1)),
      several(count, added(short.slice(1))),
    )
  t.ok(isSame(of(4), several(4, added(short))))
  t.equal(of(40), '? list.l4', 'several lists have no more of it than one')
  t.end()
})

t.test('members whose names are numbers, one after the other', async (t) => {
  const names = numbers.map((n) => `"078-05-${1000 + (n % 9000)} ${n}":${n}`)
  const { send } = maskWith()
  const { text } = await send(`{"resourceType":"Patient",${names.join()},"active":true}`, [[]])
  t.match(text, '"resourceType":"Patient"')
  t.notMatch(text, /078-05/, 'all of them gone')
})

// REST-11: what is taken out of an answer is as much as upstream, or who writes to it, likes.
t.test('very many members that go, beside a resource and in labels', async (t) => {
  const { send } = maskWith()
  const unknown = Array.from({ length: 200_000 }, (_, n) => `"a${n}":1`).join()
  const resource = '{"resourceType":"Patient","id":"p"}'
  const entry = `{"fullUrl":"urn:x","resource":${resource},${unknown}}`
  const bundle = `{"resourceType":"Bundle","type":"history","entry":[${entry}]}`
  const out = await send(bundle, [[]], { code: 'history-type' })
  t.match(out.text, `"entry":[{"fullUrl":"urn:x","resource":${resource}}]`)
  const labelled = `{"resourceType":"Patient","id":"p","meta":{"security":[{${unknown}}]}}`
  const { text } = await send(labelled, [['safe-harbor']])
  t.match(text, '"resourceType":"Patient"')
})

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})
const CLINICIAN: Principal = {
  ...{ issuer: 'https://issuer.example', subject: 's1', clientId: 'app', kind: 'user', key: 'k' },
  ...{ patient: undefined, fhirUser: { type: 'Practitioner', id: 'd1' }, roles: [], purposes: [] },
  ...{ organization: undefined, tokenId: undefined, issuedAt: 0, expiresAt: 2_000_000_000 },
  scopes: parseScopes('user/*.cruds'),
}
/** Hides what stands in each item of a list, and leaves a mark there. */
const HIDE = {
  policy: `policy: own
description: d
rules:
  - { id: all, effect: permit, levels: [user], types: ['*'], interactions: [read, update], obligations: { masking: hide } }
`,
  masking: `masking: hide
description: d
rules:
  - { id: given, select: [HumanName.given], method: remove }
`,
}

/** Decides a patch of a Patient: what it was decided by, and what of that was done without a pause. */
async function decide(
  own: typeof HIDE | undefined,
  patient: object,
  write: { readonly contentType: string; readonly body: string },
) {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-long-'))
  mkdirSync(join(folder, 'masking'))
  if (own !== undefined) {
    writeFileSync(join(folder, 'own.yaml'), own.policy)
    writeFileSync(join(folder, 'masking', 'hide.yaml'), own.masking)
  }
  const policies = loadPolicies(own === undefined ? shippedPolicies() : folder)
  const definitions = loadDefinitions('R4')
  const masking = shippedMasking(own === undefined ? undefined : join(folder, 'masking'))
  const stage = createRelease(config, definitions, masking)
  rmSync(folder, { recursive: true })

  /** Looks at the whole: in all, in this turn of the event loop, and in the one that had most. */
  const looks = { all: 0, now: 0, most: 0 }
  const counted =
    <In extends readonly unknown[], Out>(look: (...asked: In) => Out) =>
    (...asked: In): Out => {
      looks.all++
      looks.most = Math.max(looks.most, ++looks.now)
      return look(...asked)
    }
  const { authorize } = createAuthorize(config, {
    ...stage,
    ...{ inspect: counted(stage.inspect), view: counted(stage.view) },
    ...{ policies: () => policies, definitions, seal: createSeal([Buffer.alloc(32)]) },
    clock: { now: () => 1_700_000_000_000, monotonic: () => 0 },
  })

  const clock = (): number => {
    const { user, system } = process.threadCpuUsage()
    return user + system
  }
  const inquiry: Inquiry = {
    arrival: {
      ...{
        method: 'PATCH',
        target: '/Patient/p1',
        headers: { 'content-type': write.contentType },
        rawHeaders: [],
      },
      ...{ address: '127.0.0.1', body: undefined, signal: AbortSignal.timeout(600_000) },
    },
    interaction: { code: 'patch', method: 'PATCH', type: 'Patient', id: 'p1', parameters: [] },
    body: Buffer.from(write.body),
  }
  const body = Buffer.from(JSON.stringify(patient))
  const begin = clock()
  let [longest, since, isOver] = [0, begin, false]
  const turn = (): void => {
    const now = clock()
    longest = Math.max(longest, now - since)
    since = now
    looks.now = 0
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  try {
    const answer = { status: 200, headers: {}, body }
    const permit = await authorize(CLINICIAN, inquiry, () => Promise.resolve(answer))
    return { permit, looks, share: Math.max(longest, clock() - since) / (clock() - begin) }
  } finally {
    isOver = true
  }
}

// RATE-6: a patch is a few bytes; what it is made of is as long as upstream has it.
t.test('a short patch of a long resource holds up nobody else', async (t) => {
  const patch = (op: string, path: string, value: unknown) => ({
    ...({ code: 'patch', contentType: 'application/json-patch+json' } as const),
    body: JSON.stringify([{ op, path, value }]),
  })
  const part = (name: string, value: object) => ({ name, ...value })
  const fhirPath = {
    ...({ code: 'patch', contentType: 'application/fhir+json' } as const),
    body: JSON.stringify({
      resourceType: 'Parameters',
      parameter: [
        {
          name: 'operation',
          part: [
            part('type', { valueCode: 'replace' }),
            part('path', { valueString: 'Patient.active' }),
            part('value', { valueBoolean: false }),
          ],
        },
      ],
    }),
  }
  const many = Array.from({ length: 2 * LENGTH }, (_, n) => n)
  const head = { resourceType: 'Patient', id: 'p1', meta: { versionId: '1' }, active: true }
  const ssn = { system: 'http://hl7.org/fhir/sid/us-ssn', value: '078-05-1120' }
  const beside = { ...head, identifier: [ssn], name: many.map((n) => ({ text: `${n}` })) }
  const among = { ...head, identifier: many.map((n) => (n === 7 ? ssn : { value: `A${n}` })) }
  const each = { ...head, name: many.map((n) => ({ given: [`${n}`], text: `${n}` })) }
  for (const [what, own, patient, write] of [
    ['beside what is hidden', undefined, beside, patch('replace', '/active', false)],
    ['the same in FHIRPath', undefined, beside, fhirPath],
    ['something hidden in it', undefined, among, patch('replace', '/active', false)],
    ['another in it', undefined, among, patch('replace', '/identifier/9/value', 'new')],
    ['one more in it', undefined, among, patch('add', '/identifier/-', { value: 'new' })],
    ['something hidden in each item', HIDE, each, patch('replace', '/active', false)],
    ['one more of those', HIDE, each, patch('add', '/name/-', { text: 'new' })],
  ] as const) {
    const { permit, looks, share } = await decide(own, patient, write)
    t.equal(permit.fields.body?.toString(), write.body, `${what}: goes up`)
    t.equal(looks.most, 1, `${what}: others have their turn before it is looked at again`)
    // As it is, as the caller has seen it, and what becomes of both: by the right to write, and to read.
    t.ok(looks.all <= 8, `${what}: looked at ${looks.all} times`)
    t.ok(share < 0.9, `${what}: ${share.toFixed(2)} of the work in one turn`)
  }
})

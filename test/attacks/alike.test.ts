/**
 * What is found of one entry of a Bundle holds for those that are like it. Whatever makes a difference to
 * whoever judges must make one there: entries together are released as each of them alone.
 */
import { fileURLToPath } from 'node:url'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import type { Tally } from '../../src/exchange.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { createSimdScan } from '../../src/json/simd-scan.ts'
import { after, member } from '../../src/json/tape.ts'
import { Permit } from '../../src/permit.ts'
import type { Reach, Terms } from '../../src/permit.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { buildVocabulary } from '../../src/stages/release/vocabulary.ts'
import { grantOf } from '../support/grants.ts'
import { SAFE_HARBOR, shippedMasking } from '../support/masking.ts'

const UP = 'http://127.0.0.1:9/base'
const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: UP },
  issuers: [{ url: 'https://issuer.example' }],
})
const definitions = loadDefinitions('R4')
const { release } = createRelease(config, definitions, shippedMasking())
const { names, at, noticeOf } = buildVocabulary(definitions)
const scan = createSimdScan(names, 64, noticeOf(UP))

const CONFIDENTIALITY = 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality'
const ACT_CODE = 'http://terminology.hl7.org/CodeSystem/v3-ActCode'
const label = (code: string, system = CONFIDENTIALITY): string =>
  `{"system":"${system}","code":"${code}"}`

const TYPES = ['Observation', 'Observation', 'Condition', 'Patient', 'Provenance', 'Binary', 'Zzz']
const METAS = [
  '',
  '"meta":{},',
  `"meta":{"security":[${label('N')}]},`,
  `"meta":{"security":[${label('R')}]},`,
  `"meta":{"security":[${label('\\u0052')}]},`,
  `"meta":{"security":[${label('V', 'urn:oid:2.16.840.1.113883.5.25')}]},`,
  `"meta":{"security":${label('R')}},`,
  `"meta":[{"security":[${label('R')}]}],`,
  `"meta":{"security":[[${label('R')}]]},`,
  `"m\\u0065ta":{"security":[${label('R')}]},`,
  `"meta":{"security":[{"code":"R"}]},`,
  `"meta":{"security":[{"code":"N"}]},`,
  `"meta":{"security":[{"code":5}]},`,
  `"meta":{"security":[${label('N')},${label('HIV', ACT_CODE)}]},`,
  `"meta":{"security":[${label('N')},${label('PSY', ACT_CODE)}]},`,
  `"meta":{"security":[${label('N')},${label('NORDSCLCD', ACT_CODE)}]},`,
  `"meta":{"security":[${label('PROCESSINLINELABEL', ACT_CODE)}]},`,
  `"meta":{"tag":[${label('R')}]},`,
  `"meta":{"source":"${'x'.repeat(140)}","security":[${label('N')}]},`,
  `"meta":{"security":[{"system":"${CONFIDENTIALITY}","code":"N","display":"${'y'.repeat(140)}"}]},`,
]
const CONTAINED = [
  '',
  '"contained":[],',
  `"contained":[{"resourceType":"Patient","id":"p2"}],`,
  `"contained":[{"resourceType":"Condition","meta":{"security":[${label('R')}]}}],`,
  `"contained":[{"resourceType":"Condition","meta":{"security":[${label('N')}]}}],`,
]
const SUBJECTS = [
  '"subject":{"reference":"Patient/p1"}',
  '"subject":{"reference":"Patient/p2"}',
  '"subject":{"reference":"Patient\\/p1"}',
  '"subject":{"reference":"Patient/\\u0070\\u0032"}',
  `"subject":{"reference":"${UP}/Patient/p1"}`,
  `"subject":{"reference":"${UP}/Patient/p2"}`,
  '"subject":{"reference":"Group/p1"}',
  '"subject":{"reference":["Patient/p1"]}',
  '"subject":[{"reference":"Patient/p1"}]',
  '"subject":[{"reference":"Patient/p1"},{"reference":"Patient/p2"}]',
  '"subject":{"reference":"Patient/p1"},"patient":{"reference":"Patient/p2"}',
  '"subject":{"display":"p1"}',
  '"focus":[{"reference":"Patient/p2"}]',
  '"status":"final"',
]
const RESTS = [
  '',
  ',"note":[{"text":"SSN 123-45-6789"}]',
  ',"text":{"status":"generated","div":"<div>123-45-6789</div>"}',
  ',"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"123456789"}]',
  `,"url":"${UP}/Patient/p2?ssn=123-45-6789"`,
  ',"extension":[{"url":"http://x","valueReference":{"reference":"Patient/p2"}}]',
]
const BESIDES = [
  ['', ',"search":{"mode":"match"}'],
  [`"fullUrl":"${UP}/Observation/o",`, ',"search":{"mode":"match"}'],
  [`"fullUrl":"${UP}/Observation/longer-id",`, ',"search":{"mode":"match"}'],
  [`"fullUrl":"http:\\/\\/127.0.0.1:9\\/base\\/Observation\\/o",`, ''],
  ['"fullUrl":"urn:uuid:8f2a3d6e-0000-4000-8000-123456789012",', ''],
  ['"fullUrl":7,', ''],
  ['"fullUrl":["urn:x"],', ''],
  ['"search":{"mode":"match"},', `,"fullUrl":"${UP}/Observation/o"`],
  ['', ',"search":{"mode":"match","score":1,"extension":[{"valueString":"123-45-6789"}]}'],
  ['', ',"search":[{"mode":"match"}]'],
  ['', `,"response":{"status":"200","location":"${UP}/Observation/o/_history/1"}`],
  ['', `,"request":{"method":"GET","url":"Observation?name=123-45-6789"}`],
  ['"upstreamsOwn":"123-45-6789",', ''],
  ['"upstreamsOwn":{"resource":{"resourceType":"Patient"}},', ''],
] as const

const one = <T>(list: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...list)
/** Mostly the usual, so that many are alike but for one thing. */
const mostly = <T>(list: readonly T[], usual: number): fc.Arbitrary<T> =>
  fc.oneof({ weight: 3, arbitrary: fc.constant(list[usual]!) }, { weight: 1, arbitrary: one(list) })

/** Most of a Bundle have the same beside them. */
const elementBeside = (usual: number) =>
  fc
    .tuple(
      mostly(TYPES, 0),
      fc.nat(3),
      mostly(METAS, 2),
      mostly(CONTAINED, 0),
      mostly(SUBJECTS, 0),
      one(RESTS),
      mostly(BESIDES, usual),
    )
    .map(
      ([type, id, meta, contained, subject, rest, [before, behind]]) =>
        `{${before}"resource":{"resourceType":"${type}","id":"o${id}",${meta}${contained}${subject}${rest}}${behind}}`,
    )
const elements = fc.nat(BESIDES.length - 1).chain((usual) => {
  const element = elementBeside(usual)
  const anything = one(['{}', 'null', '[]', '[{}]', '"x"'])
  const length = { minLength: 2, maxLength: 12 }
  return fc.oneof(
    fc.array(element, length),
    fc.array(fc.oneof({ weight: 8, arbitrary: element }, anything), length),
  )
})

const VIEWS: Readonly<Record<string, Partial<Reach>>> = {
  'everybody of every patient': {},
  'one patient': { patient: 'p1' },
  'cleared for HIV': {
    clearance: { confidentiality: 'R', sensitivities: new Set(['HIV']) },
  },
  masked: { masking: new Set(['baseline', ...SAFE_HARBOR]) },
}

const HEAD = '{"resourceType":"Bundle","type":"searchset","entry":['
async function send(list: readonly string[], terms: Terms, streamed: boolean) {
  const interaction = { code: 'search-type', method: 'GET', parameters: [] } as const
  const fields = { interaction, requested: interaction, body: undefined, terms, rules: [] }
  const bytes = Buffer.from(`${HEAD}${list.join(',')}]}`)
  const body = streamed
    ? (async function* () {
        yield bytes
      })()
    : bytes
  const { answer, tally } = await release(Permit.issue(fields), { status: 200, headers: {}, body })
  const chunks: Buffer[] = []
  if (Buffer.isBuffer(answer.body)) chunks.push(answer.body)
  else for await (const chunk of answer.body ?? []) chunks.push(chunk)
  return { text: Buffer.concat(chunks).toString(), tally }
}

/** What stands in the list of entries; behind it there may be links and a mark when it was streamed. */
function within(text: string): string {
  const bare = text
    .replace(/,"link":\[\{"relation":"self","url":"[^"]*"\}\]/, '')
    .replace(/,"meta":\{"security":\[\{[^\]]*\]\}(?=\}$)/, '')
  return /"entry":\[(.*)\]\}$/s.exec(bare)?.[1] ?? ''
}
const counts = ({ inspected, released, withheld, masked, patients }: Tally) => ({
  ...{ inspected, released, withheld },
  masked: [...masked].sort(),
  patients: [...patients].sort(),
})
function sum(all: readonly Tally[]): ReturnType<typeof counts> {
  const masked = new Map<string, number>()
  for (const tally of all)
    for (const [rule, n] of tally.masked) masked.set(rule, (masked.get(rule) ?? 0) + n)
  const add = (name: 'inspected' | 'released' | 'withheld'): number =>
    all.reduce((total, tally) => total + tally[name], 0)
  return {
    ...{ inspected: add('inspected'), released: add('released'), withheld: add('withheld') },
    masked: [...masked].sort(),
    patients: [...new Set(all.flatMap(({ patients }) => [...patients]))].sort(),
  }
}

for (const [view, reach] of Object.entries(VIEWS)) {
  t.test(`entries together are released as each alone: ${view} (MASK-5, LABEL-1)`, async (t) => {
    let likened = 0
    await fc.assert(
      fc.asyncProperty(elements, fc.boolean(), async (list, streamed) => {
        // One exchange has one set of terms: pseudonyms hang on it.
        const terms: Terms = { grantFor: () => grantOf(reach), mayReadBack: true }
        const tape = scan(Buffer.from(`${HEAD}${list.join(',')}]}`))
        likened += tape.compare(member(tape, 0, at.entry)).length / 2
        const together = await send(list, terms, streamed)
        const alone = []
        for (const single of list) alone.push(await send([single], terms, streamed))
        const wanted = alone.map(({ text }) => within(text)).filter((text) => text !== '')
        assert.equal(within(together.text), wanted.join(','))
        assert.deepEqual(counts(together.tally), sum(alone.map(({ tally }) => tally)))
      }),
      { seed: 4, numRuns: 400 },
    )
    t.ok(likened > 400, `${likened} entries were like one before`)
  })
}

t.test('of records, most of one type and patient are alike, and none of two are', async (t) => {
  const folder = fileURLToPath(new URL('../../../shared/data/synthea/r4', import.meta.url))
  const files = existsSync(folder) ? readdirSync(folder).slice(0, 4) : []
  type Record = { resource: { resourceType: string; id: string } }
  const lists = files.map(
    (name) => (JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as { entry: Record[] }).entry,
  )
  // Two patients in turn.
  for (const [n, list] of lists.entries()) {
    const other = lists[(n + 1) % lists.length]!
    const mixed = list.flatMap((record, i) => [record, other[i % other.length]!])
    const tape = scan(Buffer.from(JSON.stringify({ resourceType: 'Bundle', entry: mixed })))
    const array = member(tape, 0, at.entry)
    const place = new Map<number, number>()
    for (let entry = array + 1; entry < after(tape, array); entry = after(tape, entry))
      place.set(entry, place.size)
    const pairs = tape.compare(array)
    for (let i = 0; i < pairs.length; i += 2) {
      const [one, first] = [pairs[i]!, pairs[i + 1]!].map((entry) => mixed[place.get(entry)!]!)
      const types = [one!, first!].map(({ resource }) => resource.resourceType)
      if (types[0] !== types[1]) t.equal(...(types as [string, string]))
    }
    t.ok(pairs.length / 2 > mixed.length / 3, `${pairs.length / 2} of ${mixed.length}`)
  }
})

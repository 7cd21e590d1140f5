/**
 * The byte scanner and the release stage beside JSON.parse and parse-walk-stringify, alternating rounds,
 * medians: on records of the demo and, where they are at hand, of Synthea. Then a
 * Bundle of 50 MB through the release stage: the longest block of the event loop, and memory.
 *
 *   npm run bench:json
 */
import { setTimeout } from 'node:timers/promises'
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { tuneEngine } from '../src/cli/engine.ts'
import { shippedPolicies } from '../src/config/shipped.ts'
import { configSchema } from '../src/config/schema.ts'
import { generatePopulation } from '../src/demo/population.ts'
import { loadDefinitions } from '../src/fhir/definitions.ts'
import { createCuts } from '../src/json/cuts.ts'
import { createSplitter } from '../src/json/entries.ts'
import { createScan } from '../src/json/scan.ts'
import { createSimdScan } from '../src/json/simd-scan.ts'
import { Permit } from '../src/permit.ts'
import { loadMasking } from '../src/policy/load-masking.ts'
import type { Grant, Terms } from '../src/permit.ts'
import { createRelease } from '../src/stages/release/release.ts'
import { LARGEST_RESOURCE, PIECE } from '../src/stages/release/stream.ts'
import { buildVocabulary } from '../src/stages/release/vocabulary.ts'

// As the gateway starts.
tuneEngine()
const definitions = loadDefinitions('R4')
const { names, noticeOf } = buildVocabulary(definitions)
const notice = noticeOf('http://127.0.0.1:9/base')
const scan = createScan(names, 64, notice)
const simdScan = createSimdScan(names, 64, notice)

/** Entries of a searchset: the records of the demo population, of every type in it. */
const population = generatePopulation(1, 120)
const entry = (i: number): string =>
  `{"fullUrl":"http://127.0.0.1:9/base/record/${i}","resource":${population[i % population.length]!},"search":{"mode":"match"}}`
const HEAD = '{"resourceType":"Bundle","type":"searchset","entry":['

function bundle(bytes: number): Buffer {
  const entries: string[] = []
  for (let length = 0, i = 0; length < bytes; i++) {
    entries.push(entry(i))
    length += entries[i]!.length
  }
  return Buffer.from(`${HEAD}${entries.join(',')}]}`)
}

function walk(value: unknown): unknown {
  if (typeof value === 'string')
    return value.includes('-') ? value.replace(/\b\d{3}-\d{2}-\d{4}\b/g, '*') : value
  if (Array.isArray(value)) return value.map(walk)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, walk(inner)]))
}

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})
const profiles = loadMasking([join(shippedPolicies(), 'masking')], 'R4', [])
const { release } = createRelease(config, definitions, {
  profiles: () => profiles,
  key: randomBytes(32),
  now: Date.now,
})
const grant: Grant = {
  letters: new Set(['r', 's']),
  reach: [
    {
      clearance: { confidentiality: 'N', sensitivities: new Set() },
      masking: new Set(['baseline']),
    },
  ],
  rules: [],
}
const terms: Terms = {
  grantFor: () => grant,
  mayReadBack: true,
}
const interaction = {
  code: 'search-type',
  method: 'GET',
  type: 'Observation',
  parameters: [],
} as const
const permit = Permit.issue({
  interaction,
  requested: interaction,
  body: undefined,
  terms,
  rules: [],
})

/** The same for whom nothing of the 18 kinds of identifiers is shown. */
const [reach] = grant.reach
const masked: Grant = {
  ...grant,
  reach: reach === undefined ? [] : [{ ...reach, masking: new Set(['baseline', 'safe-harbor']) }],
}
/** Anew for each answer, as an exchange has it: pseudonyms are made for one answer. */
const research = (): Permit =>
  Permit.issue({ ...permit.fields, terms: { ...terms, grantFor: () => masked } })

/** As the gateway looks at what is larger than it buffers: cut into pieces, each scanned by itself. */
function scanPieces(bytes: Buffer): void {
  const options = { name: 'entry', largest: LARGEST_RESOURCE, least: PIECE }
  const splitter = createSplitter(cuts, options)
  const take = ({ text }: { text: Buffer }): unknown => simdScan(text)
  splitter.push(bytes, take)
  const rest = splitter.end(take)
  if (rest !== undefined) simdScan(rest)
}
const cuts = createCuts()

const subjects: [name: string, run: (bytes: Buffer) => unknown][] = [
  ['parse, walk, stringify', (bytes) => JSON.stringify(walk(JSON.parse(bytes.toString('utf8'))))],
  ['JSON.parse', (bytes) => JSON.parse(bytes.toString('utf8')) as unknown],
  ['scanner in TypeScript', scan],
  ['scanner in WebAssembly', simdScan],
  ['the same, cut in pieces', scanPieces],
  ['release: judged and masked', (body) => release(permit, { status: 200, headers: {}, body })],
  ['release: safe-harbor', (body) => release(research(), { status: 200, headers: {}, body })],
]

/** Synthea's records of patients, where they are at hand: as they were written, and without spaces. */
function records(): [name: string, texts: Buffer[]][] {
  const folder = fileURLToPath(new URL('../../shared/data/synthea/r4', import.meta.url))
  if (!existsSync(folder)) return []
  const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name)))
  const compact = texts.map((text) =>
    Buffer.from(JSON.stringify(JSON.parse(text.toString('utf8')))),
  )
  return [
    ['Synthea, as it writes them', texts],
    ['Synthea, without spaces', compact],
  ]
}

const corpora: [name: string, texts: Buffer[]][] = [
  ...[60_000, 2_000_000].map((size): [string, Buffer[]] => [
    `demo records, ${size / 1000} KB`,
    [bundle(size)],
  ]),
  ...records(),
]
for (const [corpus, texts] of corpora) {
  const size = texts.reduce((sum, { length }) => sum + length, 0)
  const rounds = 15
  // Long enough that what the subject before has left to be collected is a small part.
  const repeat = Math.max(1, Math.round(32_000_000 / size))
  const speeds = subjects.map(() => [] as number[])
  for (let round = -3; round < rounds; round++) {
    for (const [i, [, run]] of subjects.entries()) {
      const begun = performance.now()
      for (let n = 0; n < repeat; n++) for (const text of texts) await run(text)
      const speed = (size * repeat) / 1000 / (performance.now() - begun)
      if (round >= 0) speeds[i]!.push(speed)
    }
  }
  const medians = speeds.map((list) => list.toSorted((a, b) => a - b)[list.length >> 1]!)
  console.log(`\n${corpus}`)
  for (const [i, [name]] of subjects.entries()) {
    console.log(
      `${name.padEnd(28)}${medians[i]!.toFixed(0).padStart(6)} MB/s${(medians[i]! / medians[1]!).toFixed(2).padStart(8)} of JSON.parse`,
    )
  }
}

/** A Bundle that is never in memory as a whole; chunks as a socket would hand them over. */
function* largeBundle(bytes: number): Generator<Buffer> {
  let text = HEAD
  for (let length = 0, i = 0; length < bytes; i++) {
    text += (i === 0 ? '' : ',') + entry(i)
    if (text.length < 65_536) continue
    length += text.length
    yield Buffer.from(text)
    text = ''
  }
  yield Buffer.from(`${text}]}`)
}

const size = 50_000_000
let longest = 0
let last = performance.now()
const beat = setInterval(() => {
  longest = Math.max(longest, performance.now() - last)
  last = performance.now()
}, 1)
await setTimeout(50)
longest = 0
const before = process.memoryUsage().rss
let most = before
let length = 0
let came = 0
let first = 0
const begun = performance.now()
const { answer } = await release(permit, {
  status: 200,
  headers: {},
  // Wrapped without a wait between chunks: the hardest case for the event loop.
  body: (async function* () {
    for (const chunk of largeBundle(size)) {
      came += chunk.length
      yield chunk
    }
  })(),
})
for await (const chunk of answer.body as AsyncIterable<Buffer>) {
  if (length === 0) first = came
  length += chunk.length
  most = Math.max(most, process.memoryUsage().rss)
}
const seconds = (performance.now() - begun) / 1000
clearInterval(beat)
console.log(
  `\n${size / 1e6} MB streamed: ${(length / 1e6 / seconds).toFixed(0)} MB/s, longest block ${longest.toFixed(1)} ms, memory grew ${((most - before) / 1e6).toFixed(0)} MB, first byte out after ${(first / 1e3).toFixed(0)} KB in`,
)

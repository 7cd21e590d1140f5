import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { generatePopulation } from '../../src/demo/population.ts'
import { orderEdits, splice } from '../../src/json/edit.ts'
import type { Edit } from '../../src/json/tape.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { compileNames } from '../../src/json/names.ts'
import { createScan } from '../../src/json/scan.ts'
import { createSimdScan } from '../../src/json/simd-scan.ts'
import {
  endOf,
  KIND,
  KIND_MASK,
  kindOf,
  sameAs,
  startOf,
  TapeEnded,
  WIDTH,
} from '../../src/json/tape.ts'
import type { Scan, Tape } from '../../src/json/tape.ts'
import { JsonError } from '../../src/json/token.ts'
import { buildVocabulary } from '../../src/stages/release/vocabulary.ts'

/** The scanner in WebAssembly against the one in TypeScript, which is its reference. */

const root = fileURLToPath(new URL('../..', import.meta.url))
const { names, noticeOf } = buildVocabulary(loadDefinitions('R4'))
const notice = noticeOf('http://example.org/fhir')
const reference = createScan(names, 32, notice)
const simd = createSimdScan(names, 32, notice)

const BOTH = [reference, simd] as const
/** Of few levels, so that what comes again deeper may be too deep. */
const SHALLOW = [createScan(names, 5, notice), createSimdScan(names, 5, notice)] as const

/** What a scan says: every integer that has a meaning, or that the text is refused. */
function outcome(scan: Scan, bytes: Buffer): number[] | 'refused' {
  let tape: Tape
  try {
    tape = scan(bytes)
  } catch (error) {
    if (error instanceof JsonError) return 'refused'
    throw error
  }
  const said: number[] = []
  for (let entry = 0; entry < tape.length; entry++) {
    const [start, end, word, last] = tape.data.subarray(entry * WIDTH, (entry + 1) * WIDTH)
    const isString = (word! & KIND_MASK) === KIND.string
    said.push(start!, end!, word!, last!, !isString || isSame(tape, entry) ? 0 : 1)
  }
  const { values, objects } = tape.noted
  return [...said, -1, ...values, -1, ...objects]
}

/** Whether the string that it is said to be the same as is no later one, and has the same bytes. */
function isSame(tape: Tape, entry: number): boolean {
  const other = sameAs(tape, entry)
  const [one, two] = [entry, other].map((at) =>
    tape.bytes.subarray(startOf(tape, at), endOf(tape, at)),
  )
  return other <= entry && kindOf(tape, other) === KIND.string && one!.equals(two!)
}

function agree(bytes: Buffer, [first, second] = BOTH): boolean {
  const [one, other] = [outcome(first, bytes), outcome(second, bytes)]
  return one === 'refused' || other === 'refused'
    ? one === other
    : one.length === other.length && one.every((n, i) => n === other[i])
}

/** A seeded generator: mulberry32. */
function seeded(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let n = Math.imul(state ^ (state >>> 15), 1 | state)
    n = (n + Math.imul(n ^ (n >>> 7), 61 | n)) ^ n
    return ((n ^ (n >>> 14)) >>> 0) % below
  }
}

const SPACES = ['', '', '', '', ' ', '\n', '\r\n\t  ']
const SCALARS = [
  'true',
  'false',
  'null',
  '0',
  '-0',
  '1.10',
  '12e+3',
  '-7E-2',
  '900719925474099312345',
  // What a card may look like, and what it does not.
  '4111111111111',
  '123456789',
  '1234567',
  '123456',
  '-123456',
  '12345.6',
  '123456.0',
  '1234567.0',
  '1234567.1',
  '1.23e10',
  '411111111111',
  '-4111111111111',
  '-411111111111',
  '4111111111111.0',
  '4111111111111.00100',
  '5.1625542332492',
  '0.41111111111111111111111111111111e16',
  '41111111E8',
  '4111111e8',
]
const TEXTS = [
  'a',
  '123-45-6789',
  '123.45.6789',
  '4111.1111.1111.1111',
  '12:13:56.1234567',
  '.45.',
  '3782.',
  '4111111111111111',
  '&#49;23',
  '<b>',
  '?',
  'data:',
  'dAtA:;base64,QQ==',
  ' data',
  'http://example.org/fhir/Patient/17',
  'Müller 😀 ߷',
  '\\"',
  '\\u0034\\u0031',
  '\\ud83d\\ude00',
  '\\/',
  '\\\\',
  ' '.repeat(31),
  'x'.repeat(16),
  '\u007f',
]
// What most mutations hit: the signs of JSON, and what is never allowed.
const SIGNS = Buffer.from('"\\{}[]:, 0123456789eE+-.tfn/u\u0000\u001f\u007f')

type Member = { readonly key: string; readonly value: string }

/** Some of `met` comes again, byte for byte or nearly, by the same name or another, at any depth. */
function document(pick: (below: number) => number, depth: number, met: Member[] = []): string {
  const space = (): string => SPACES[pick(SPACES.length)]!
  const text = (): string => {
    let made = ''
    for (let n = pick(4); n > 0; n--) made += TEXTS[pick(TEXTS.length)]!
    return `"${made}"`
  }
  const key = (): string => {
    if (pick(4) === 0) return text()
    const name = names.list[pick(names.list.length)]!
    if (pick(8) !== 0) return `"${name}"`
    const at = pick(name.length)
    const code = name.charCodeAt(at).toString(16).padStart(4, '0')
    return `"${name.slice(0, at)}\\u${code}${name.slice(at + 1)}"`
  }
  const nearly = (value: string): string =>
    pick(3) === 0 ? value.replace(/[a-z0-9](?=[^a-z0-9]*$)/, () => String(pick(10))) : value
  const kind = depth === 0 ? pick(2) : pick(5)
  if (kind === 0) return SCALARS[pick(SCALARS.length)]!
  if (kind === 1) return text()
  const members = Array.from({ length: pick(6) }, () => {
    const again = pick(3) === 0 ? met[pick(met.length)] : undefined
    const made = document(pick, depth - 1, met)
    const member = {
      key: again !== undefined && pick(4) !== 0 ? again.key : key(),
      value: again === undefined ? made : nearly(again.value),
    }
    met.push(member)
    const value = `${space()}${member.value}${space()}`
    return kind === 2 ? value : `${space()}${member.key}${space()}:${value}`
  })
  return kind === 2 ? `[${members.join(',') || space()}]` : `{${members.join(',') || space()}}`
}

function mutate(bytes: Buffer, pick: (below: number) => number): Buffer {
  const at = pick(bytes.length)
  switch (pick(4)) {
    case 0:
      return bytes.subarray(0, at)
    case 1:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)])
    case 2:
      return Buffer.concat([bytes.subarray(0, at), Buffer.of(pick(256)), bytes.subarray(at)])
    default: {
      const changed = Buffer.from(bytes)
      changed[at] = SIGNS[pick(SIGNS.length)]!
      return changed
    }
  }
}

t.test('both scanners write the same tape for generated documents, whole and broken', async (t) => {
  const documents = Number(process.env['FHIREWALL_TEST_DOCUMENTS'] ?? 10_000)
  const pick = seeded(20)
  let differing = 0
  let taken = 0
  for (let n = 0; n < documents; n++) {
    const whole = Buffer.from(`${SPACES[pick(7)]!}${document(pick, 4)}${SPACES[pick(7)]!}`)
    const bytes = n % 2 === 0 || whole.length === 0 ? whole : mutate(whole, pick)
    if (outcome(reference, bytes) !== 'refused') taken++
    if (agree(bytes) && agree(bytes, SHALLOW)) continue
    if (differing++ < 5) t.fail(JSON.stringify(bytes.toString('latin1')))
  }
  t.equal(differing, 0)
  t.ok(taken > documents / 4 && taken < documents, `${taken} of ${documents} are JSON`)
})

/** Digits, points and exponents in any order and number: some of it is a number of JSON. */
function number(pick: (below: number) => number): string {
  const digits = (most: number): string =>
    Array.from({ length: 1 + pick(most) }, () => pick(3) * 2).join('')
  const whole = `${['', '-'][pick(2)]!}${pick(4) === 0 ? '0' : `4${digits(16)}`}`
  const point = ['', '', '.', `.${'0'.repeat(1 + pick(20))}`, `.${digits(20)}`][pick(5)]!
  return `${whole}${point}${['', '', '', 'e9', 'E-7', 'e+', `e${digits(3)}`][pick(7)]!}`
}

t.test('what may be an identifier is noted, but with short numbers alone (MASK-4)', (t) => {
  const NUMBERS: readonly (readonly [number: string, isShort: boolean])[] = [
    ...(['0', '-1.5', '1234', '12.34', '-0.123', '1e-9', '123.4'] as const).map(
      (one) => [one, true] as const,
    ),
    ...(['12345', '-12.345', '0.0001e3', '1234e1', '0.0000', '123456789'] as const).map(
      (one) => [one, false] as const,
    ),
    ['0.000000000000000000', false],
  ]
  for (const [number, isShort] of NUMBERS) {
    const rows: readonly (readonly [members: string, count: number])[] = [
      [`"value":${number},"system":"x"`, isShort ? 0 : 1],
      [`"system":"x", "v\\u0061lue" : ${number}`, isShort ? 0 : 1],
      [`"type":{},"value":${number},"extension":[]`, 1],
      [`"_value":{},"system":"x","value":${number}`, 1],
      [`"value":[${number}],"system":"x"`, 1],
      [`"value":{"value":${number}},"system":"x"`, 1],
      [`"value":${number}`, 0],
      [`"value":"1","system":"x"},{"value":${number},"system":"x"`, isShort ? 1 : 2],
      [`"value":${number},"system":"x"},{"value":"1","system":"x"`, isShort ? 1 : 2],
    ]
    for (const [members, count] of rows) {
      const bytes = Buffer.from(`[{${members}}]`)
      t.ok(agree(bytes), members)
      t.equal(simd(bytes).noted.objects.length, count, members)
    }
  }
  t.end()
})

t.test('long numbers are noted by both or by none (MASK-4, MASK-7)', async (t) => {
  const pick = seeded(40)
  let noted = 0
  for (let n = 0; n < 20_000; n++) {
    const text = [`[${number(pick)},${number(pick)}]`, `{"value":${number(pick)}}`, number(pick)][
      n % 3
    ]!
    const bytes = Buffer.from(text)
    if (!agree(bytes)) t.fail(text)
    if (outcome(reference, bytes) !== 'refused') noted += simd(bytes).noted.values.length
  }
  t.ok(noted > 2000, `${noted} noted`)
})

t.test('and for records, also when the text before was longer', async (t) => {
  const records = generatePopulation(3, 4).map((text) => Buffer.from(text))
  const folder = join(root, '../shared/data/synthea/r4')
  if (existsSync(folder)) {
    for (const name of readdirSync(folder)) records.push(readFileSync(join(folder, name)))
  }
  records.push(Buffer.from('1'), Buffer.from(''), Buffer.from(`[${'0,'.repeat(70_000)}0]`))
  // What comes again, with all that is noted of it.
  records.push(...records.slice(0, 20).map((one) => Buffer.from(`[${[one, one, one].join()}]`)))
  // What comes again at the very end, and for which there is not enough room at first.
  const half = `[${'1234567,0,'.repeat(5000)}0]`
  records.push(Buffer.from(`[${half},${half}]`))
  t.strictSame(
    records.filter((bytes) => !agree(bytes)).map((bytes) => bytes.toString('latin1', 0, 80)),
    [],
  )
})

/** Edits as they come of a plan: some at one place, some within others, not in order. */
function edits(pick: (below: number) => number, length: number): Edit[] {
  return Array.from({ length: pick(12) }, () => {
    const start = pick(length)
    const end = start + (pick(3) === 0 ? 0 : pick(Math.min(40, length - start) + 1))
    // Long ones that come again are written once.
    const long = ['z'.repeat(60 + pick(3)), `"${'é'.repeat(60 + pick(2))}"`][pick(2)]!
    const texts = ['', 'x', '"é"', '{"a":[1,2,3]}', 'y'.repeat(pick(80)), long]
    return { start, end, text: texts[pick(texts.length)]! }
  })
}

t.test('both splice the same, and what is not edited stays as it is', async (t) => {
  const pick = seeded(30)
  for (let n = 0; n < 2000; n++) {
    const bytes = Buffer.from(`[${document(pick, 4)}]`)
    if (outcome(reference, bytes) === 'refused') continue
    const from = pick(3) === 0 ? pick(bytes.length) : 0
    const to = pick(3) === 0 ? from + pick(bytes.length - from) : bytes.length
    const some = edits(pick, bytes.length).filter(({ start, end }) => start >= from && end <= to)
    const made = simd(bytes).splice(some, from, to).toString('latin1')
    const wanted = splice(bytes, some, from, to).toString('latin1')
    if (made !== wanted) t.equal(made, wanted, JSON.stringify({ some, from, to }))
    const kept = orderEdits(some).reduce(
      ({ at, sum }, { start, end }) =>
        start < at ? { at, sum } : { at: end, sum: sum + start - at },
      { at: from, sum: 0 },
    )
    if (some.every(({ text }) => text === '')) t.equal(made.length, kept.sum + to - kept.at)
  }
})

t.test('equal strings are found, near and far', async (t) => {
  const code = '"system":"http://loinc.org"'
  const tape = simd(Buffer.from(`[${Array.from({ length: 300 }, () => `{${code}}`).join()}]`))
  const same = Array.from({ length: 300 }, (_, n) => sameAs(tape, 3 + n * 3))
  t.strictSame(new Set(same), new Set([3]))
  const next = simd(Buffer.from(`[1,2,{${code},"value":"http://loinc.org"}]`))
  t.equal(sameAs(next, 5), 5, 'of the text before nothing is left')
})

t.test('names are what they are, whatever came behind the one before the last time', async (t) => {
  const pick = seeded(50)
  const known = names.list.filter(({ length }) => length <= 17)
  const near = (name: string): string[] => [name, name.slice(1), name.slice(0, -1), `${name}x`, '']
  const keys = Array.from({ length: 60 }, () => near(known[pick(known.length)]!)).flat()
  for (const length of [14, 15, 16, 17]) {
    keys.push(...known.filter((name) => name.length === length).slice(0, 10), 'x'.repeat(length))
  }
  for (let n = 0; n < 400; n++) {
    const members = (): string =>
      Array.from({ length: pick(5) }, () => {
        const key = keys[pick(keys.length)]!
        const space = SPACES[pick(7)]!
        return `"${key}"${space}:${space}${pick(3) === 0 ? '{"code":{"text":1}}' : '"v"'}`
      }).join(',')
    const text = `[${Array.from({ length: 30 }, () => `{${members()}}`).join()}]`
    if (!agree(Buffer.from(text))) t.fail(text)
  }
  for (const name of ['', 'é', 'x'.repeat(121), '123456789'])
    t.throws(() => createSimdScan(compileNames([name]), 8), RangeError)
})

t.test('a text of many megabytes is taken, and a small one after it', async (t) => {
  const large = Buffer.from(`[${'"0123456789",'.repeat(2_000_000)}0]`)
  t.equal(simd(large).length, 2_000_002)
  t.equal(simd(Buffer.from('[1]')).length, 2)
})

t.test('what is compiled belongs to its source', async (t) => {
  const lines = ['scan', 'cuts'].flatMap((name) =>
    readFileSync(join(root, `assembly/${name}.sha256`), 'utf8')
      .trim()
      .split('\n'),
  )
  t.equal(lines.length, 4)
  for (const line of lines) {
    const [sum, path] = line.split('  ')
    const found = createHash('sha256')
      .update(readFileSync(join(root, path!)))
      .digest('hex')
    t.equal(found, sum, `${path!}: npm run build:wasm`)
  }
})

t.test(
  'a tape ends when its scanner begins another: what is made of it then throws (pitfalls §1)',
  (t) => {
    const text = (id: string): Buffer => Buffer.from(`{"resourceType":"Patient","id":"${id}"}`)
    const uses: Readonly<Record<string, (tape: Tape) => unknown>> = {
      'an equal string': (tape) => tape.sameAs(4),
      'a comparison': (tape) => tape.compare(0),
      'a splice': (tape) => tape.splice([{ start: 0, end: 1, text: '{' }]),
      'a part as it came': (tape) => tape.splice([], 0, 4),
    }
    const later: Readonly<Record<string, (scan: Scan) => unknown>> = {
      'a text': (scan) => scan(text('other')),
      'a text that is refused': (scan) => {
        t.throws(() => scan(Buffer.from('{"resourceType":"Pat')), JsonError)
      },
      'a text for which there is no room': (scan) => scan(Buffer.from(`"${'x'.repeat(1 << 20)}"`)),
    }
    for (const [name, create] of Object.entries({ createScan, createSimdScan })) {
      for (const [after, scanLater] of Object.entries(later)) {
        for (const [use, call] of Object.entries(uses)) {
          const scan = create(names, 32, notice)
          const tape = scan(text('one'))
          t.doesNotThrow(() => call(tape), `${name}: ${use} in time`)
          const other = create(names, 32, notice)
          scanLater(other)
          t.doesNotThrow(() => call(tape), `${name}: ${use} after a scan by another`)
          scanLater(scan)
          t.throws(() => call(tape), TapeEnded, `${name}: ${use} after ${after}`)
        }
      }
    }
    t.end()
  },
)

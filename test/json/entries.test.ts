import fc from 'fast-check'
import t from 'tap'
import { createCuts } from '../../src/json/cuts.ts'
import type { Cuts } from '../../src/json/cuts.ts'
import { createSplitter } from '../../src/json/entries.ts'
import { compileNames } from '../../src/json/names.ts'
import { createScan } from '../../src/json/scan.ts'
import { after, endOf, kindOf, KIND, nameOf, startOf } from '../../src/json/tape.ts'
import { createPlainCuts } from '../support/cuts.ts'

/** A Bundle that comes in chunks against the same text as a whole. */

const numRuns = Number(process.env['FHIREWALL_TEST_DOCUMENTS'] ?? 2_000)
const names = compileNames(['entry', 'type', 'n'])
const scan = createScan(names, 20)
const ENTRY = names.id('entry')
const BEGIN = '{"entry":['

type Cut = {
  /** The text again, put together from its pieces as their positions say. */
  readonly again: string
  readonly elements: readonly string[]
  readonly members: readonly string[]
}

/** Takes pieces as release does: each is scanned strictly. Throws where release would refuse. */
function cut(cuts: Cuts, text: Buffer, ends: readonly number[], least = 1, largest = 1e6): Cut {
  const splitter = createSplitter(cuts, { name: 'entry', largest, least })
  const [elements, members]: [string[], string[]] = [[], []]
  const met = new Set<number>()
  let again = ''
  let batches = 0
  const take: Parameters<typeof splitter.push>[1] = ({ kind, text }) => {
    const tape = scan(text)
    const raw = text.toString('latin1')
    if (kind === 'elements') {
      if (endOf(tape, 2) !== text.length - 1) throw new Error('no elements')
      again += (batches++ > 0 ? ',' : '') + raw.slice(BEGIN.length, -2)
      for (let at = 3; at < tape.length; at = after(tape, at)) {
        elements.push(raw.slice(startOf(tape, at), endOf(tape, at)))
      }
      return
    }
    again += kind === 'head' ? raw.slice(0, -2) : raw.slice(BEGIN.length)
    for (let key = 1; key < tape.length; key = after(tape, key + 1)) {
      const name = nameOf(tape, key)
      if (name === ENTRY) continue
      if (name >= 0 && met.has(name)) throw new Error('twice')
      met.add(name)
      members.push(raw.slice(startOf(tape, key), endOf(tape, key + 1)))
    }
  }
  let begin = 0
  for (const end of [...ends, text.length]) {
    splitter.push(text.subarray(begin, end), take)
    begin = end
  }
  const whole = splitter.end(take)
  return whole === undefined ? { again, elements, members } : outline(whole)
}

/** The same of the whole text. */
function outline(text: Buffer): Cut {
  const tape = scan(text)
  const raw = text.toString('latin1')
  const [elements, members]: [string[], string[]] = [[], []]
  if (kindOf(tape, 0) !== KIND.object) throw new Error('no object')
  for (let key = 1; key < tape.length; key = after(tape, key + 1)) {
    const value = key + 1
    if (nameOf(tape, key) === ENTRY && kindOf(tape, value) === KIND.array) {
      for (let at = value + 1; at < after(tape, value); at = after(tape, at)) {
        elements.push(raw.slice(startOf(tape, at), endOf(tape, at)))
      }
    } else members.push(raw.slice(startOf(tape, key), endOf(tape, value)))
  }
  return { again: raw, elements, members }
}

/** What the cut says, or that the text is refused. */
function verdict(run: () => Cut): string {
  try {
    return JSON.stringify(run())
  } catch {
    return 'refused'
  }
}

const space = fc.constantFrom('', '', '', ' ', '\r\n\t')
const element = fc.oneof(
  { weight: 4, arbitrary: fc.json({ maxDepth: 3 }) },
  fc.constantFrom(
    '{"resource":{"entry":[{},{}]}}',
    '"]},{\\"[\\\\"',
    '{"a":"\\"entry\\":[{},"}',
    '{"x":["",[]],"y":"\\\\"}',
    `{"t":"${'é,'.repeat(90)}"}`,
  ),
)
const name = fc.constantFrom('"entry"', '"entry"', '"entry"', '"\\u0065ntry"', '"Entry"', '"n"')
const bundle = fc
  .tuple(fc.array(element, { maxLength: 5 }), name, space, fc.constantFrom('', '"type":"x\\"[",'))
  .chain(([elements, name, s, before]) =>
    fc
      .constantFrom(
        '',
        `,${s}"n":1.10`,
        ',"type":[]',
        ',"entry":[]',
        ',"\\u0065ntry":{}',
        ',"x":{}',
      )
      .map(
        (behind) =>
          `${s}{${s}${before}${s}${name}${s}:${s}[${s}${elements.join(`${s},${s}`)}${s}]${behind}${s}}${s}`,
      ),
  )
/** What is wrong with a text: a sign too many, too few, or another one. */
const broken = fc
  .tuple(bundle, fc.nat(), fc.constantFrom('', ...Array.from('"\\{}[]:, 1e\u0000é')), fc.nat(1))
  .map(([text, at, sign, gone]) => {
    const i = at % text.length
    return text.slice(0, i) + sign + text.slice(i + gone)
  })
const borders = fc.array(fc.nat(), { maxLength: 8 })
const sort = (ends: readonly number[], length: number): number[] =>
  ends.map((end) => end % (length + 1)).toSorted((a, b) => a - b)

t.test('what is released in pieces is what would be as a whole, and nothing else', async (t) => {
  const [cuts, plain] = [createCuts(), createPlainCuts()]
  const counts = { taken: 0, refused: 0 }
  for (const [texts, runs] of [
    [bundle, numRuns],
    [broken, numRuns],
  ] as const) {
    fc.assert(
      fc.property(texts, borders, fc.integer({ min: 1, max: 200 }), (text, ends, least) => {
        const bytes = Buffer.from(text)
        const whole = verdict(() => outline(bytes))
        counts[whole === 'refused' ? 'refused' : 'taken']++
        const sliced = sort(ends, bytes.length)
        const each = Array.from(bytes, (_, i) => i)
        return (
          verdict(() => cut(cuts, bytes, sliced, least)) === whole &&
          verdict(() => cut(plain, bytes, each)) === whole
        )
      }),
      { numRuns: runs },
    )
  }
  t.ok(counts.taken > numRuns / 2 && counts.refused > numRuns / 2, JSON.stringify(counts))
})

/** Cuts that are made by chance: where a comma, a bracket, or anything at all is. */
function lyingCuts(choices: readonly number[]): Cuts {
  let slice: Buffer = Buffer.alloc(0)
  let n = 0
  const pick = (from: number, signs: string): number => {
    const choice = choices[n++ % choices.length]!
    const found: number[] = [-1]
    for (let i = from; i < slice.length; i++) {
      if (choice % 5 === 0 || signs.includes(String.fromCharCode(slice[i]!))) found.push(i)
    }
    return found[choice % found.length]!
  }
  return {
    load: (loaded) => {
      slice = loaded
    },
    nextOpen: (from) => pick(from, '[{'),
    lastCut: (from) => pick(from, ',,]}'),
  }
}

t.test('wherever the cuts are made, no text is read in another way (INPUT-2)', async (t) => {
  let taken = 0
  const choices = fc.array(fc.nat(100), { minLength: 1, maxLength: 10 })
  const texts = fc.oneof(bundle, broken, fc.constant('{"entry":[{"a":1},["x"],{}],"n":[[],{}]}'))
  fc.assert(
    fc.property(texts, borders, choices, (text, ends, choices) => {
      const bytes = Buffer.from(text)
      const said = verdict(() => cut(lyingCuts(choices), bytes, sort(ends, bytes.length)))
      if (said === 'refused') return true
      taken++
      return said === verdict(() => outline(bytes))
    }),
    { numRuns: numRuns * 4 },
  )
  t.ok(taken > 100, `${taken} were right by chance`)
})

t.test('no more is held than allowed, and what is allowed is taken', async (t) => {
  const text = (length: number): Buffer =>
    Buffer.from(`{"type":"x","entry":[{},{"a":"${'x'.repeat(length)}"},{}],"n":1}`)
  const cuts = createCuts()
  const ends = (bytes: Buffer, size: number): number[] =>
    Array.from({ length: Math.floor(bytes.length / size) }, (_, i) => (i + 1) * size)
  for (const size of [1_000, 70_000, 400_000]) {
    const large = text(300_000)
    const { elements } = cut(cuts, large, ends(large, size), 1, 400_000)
    t.same(
      elements.map(({ length }) => length),
      [2, 300_008, 2],
    )
    const refused = text(500_000)
    t.throws(() => cut(cuts, refused, ends(refused, size), 1, 400_000), /larger/, `by ${size}`)
  }
  for (const endless of ['{"x":"', '{"entry":[{},{"x":"', '{"entry":[{}],"x":"', '{"entry":[']) {
    const splitter = createSplitter(cuts, { name: 'entry', largest: 200_000, least: 1 })
    const filling = Buffer.alloc(10_000, ' ')
    let pushed = 0
    t.throws(() => {
      splitter.push(Buffer.from(endless), () => undefined)
      for (; pushed < 1e6; pushed += filling.length) splitter.push(filling, () => undefined)
    }, /larger/)
    t.ok(pushed <= 210_000, `${endless}: ${pushed}`)
  }
})

t.test('many elements leave together, soon after they came', async (t) => {
  const sizes: number[] = []
  const splitter = createSplitter(createCuts(), { name: 'entry', largest: 1e6, least: 1_000 })
  const push = (text: string): void => {
    splitter.push(Buffer.from(text), ({ kind, text }) => {
      if (kind === 'elements') sizes.push(text.length)
    })
  }
  push('{"entry":[')
  for (let i = 0; i < 100; i++) push(`{"n":${String(i).padStart(95, '1')}},`)
  t.ok(sizes.length >= 9 && sizes.every((size) => size > 900 && size < 1_200), sizes.join(' '))
})

import fc from 'fast-check'
import t from 'tap'
import { createCuts } from '../../src/json/cuts.ts'
import type { Cuts, Standing } from '../../src/json/cuts.ts'
import { createPlainCuts } from '../support/cuts.ts'

/** The cuts made 64 bytes at a time against those made byte by byte. */

const numRuns = Number(process.env['FHIREWALL_TEST_DOCUMENTS'] ?? 4_000)

/** All that is said of a text, slice by slice: brackets until there are `arrays`, then cuts. */
function outcome(cuts: Cuts, text: Buffer, ends: readonly number[], arrays: number): number[] {
  const said: number[] = []
  const standing: Standing = { depth: arrays === 0 ? 2 : 0, carry: 0 }
  let left = arrays
  let begin = 0
  for (const end of [...ends, text.length]) {
    if (end < begin) continue
    cuts.load(text.subarray(begin, end))
    let from = 0
    while (left > 0 && from >= 0) {
      const at = cuts.nextOpen(from, standing)
      said.push(at, standing.depth, standing.carry)
      if (at >= 0) left--
      from = at < 0 ? -1 : at + 1
    }
    if (from >= 0) {
      const at = cuts.lastCut(from, standing)
      said.push(at)
      if (at >= 0 && standing.depth < 2) return said
      said.push(standing.depth, standing.carry)
    }
    begin = end
  }
  return said
}

const [plain, simd] = [createPlainCuts(), createCuts()]
const sorted = (ends: number[], length: number): number[] =>
  ends.map((end) => end % (length + 1)).toSorted((a, b) => a - b)

/** Texts of nothing but what matters, and long runs of one sign: what goes over the edge of a block. */
const signs = fc
  .array(
    fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...Array.from('"\\{}[],:x')) },
      fc.constantFrom(
        'é',
        '\u0000',
        '\\"',
        '\\\\',
        '{"a":[',
        '"},{"',
        ']}',
        '\u001b',
        '|',
        '\u000c',
      ),
      fc
        .tuple(fc.constantFrom('\\', 'x', '"', ' ', '[', '{},'), fc.integer({ min: 1, max: 130 }))
        .map(([sign, times]) => sign.repeat(times)),
    ),
    { maxLength: 60, size: 'max' },
  )
  .map((parts) => parts.join(''))
const borders = fc.array(fc.nat(10_000), { maxLength: 6 })

t.test('the same cuts in whatever may come, wherever it is sliced', async (t) => {
  const texts = fc.oneof(
    signs,
    signs.map((text) => `{"entry":[${text}`),
    fc.json({ maxDepth: 4 }).map((text) => `{"a":[],"entry":[${text},${text}]}`),
  )
  fc.assert(
    fc.property(texts, borders, fc.nat(3), (text, ends, arrays) => {
      const bytes = Buffer.from(text)
      const sliced = sorted(ends, bytes.length)
      return (
        JSON.stringify(outcome(simd, bytes, sliced, arrays)) ===
        JSON.stringify(outcome(plain, bytes, sliced, arrays))
      )
    }),
    { numRuns },
  )
  t.pass('property holds')
})

t.test('also byte by byte, and in a slice as large as may be', async (t) => {
  const text = Buffer.from(`{"entry":[${'{"a":"x\\\\\\"]},{[","b":[{},[]]}, '.repeat(1_900)}{}]}`)
  const each = Array.from(text.subarray(0, 500), (_, i) => i + 1)
  for (const ends of [each, [], [65_536], [1, 63, 64, 65, 127, 128, 129]]) {
    const whole = text.subarray(0, ends === each ? 500 : 65_536)
    const said = outcome(
      simd,
      whole,
      ends.filter((end) => end <= whole.length),
      1,
    )
    t.strictSame(
      said,
      outcome(
        plain,
        whole,
        ends.filter((end) => end <= whole.length),
        1,
      ),
    )
    t.ok(said.some((n) => n > 0))
  }
  t.throws(() => {
    simd.load(Buffer.alloc(65_537))
  }, RangeError)
})

t.test('what an earlier slice left behind is not seen', async (t) => {
  simd.load(Buffer.alloc(65_536, ','))
  const standing = { depth: 2, carry: 0 }
  simd.load(Buffer.from('{}'))
  t.equal(simd.lastCut(0, standing), -1)
  t.same(standing, { depth: 2, carry: 0 })
})

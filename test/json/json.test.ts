import { isUtf8 } from 'node:buffer'
import fc from 'fast-check'
import t from 'tap'
import { removeMembers, splice } from '../../src/json/edit.ts'
import { compileNames } from '../../src/json/names.ts'
import { createScan } from '../../src/json/scan.ts'
import { createSimdScan } from '../../src/json/simd-scan.ts'
import { JsonError } from '../../src/json/token.ts'
import { elements, KIND, kindOf, member, nameOf, textOf } from '../../src/json/tape.ts'

const NONE = compileNames([])
const AB = compileNames(['a', 'b', 'entry'])

const scanners = [createScan, createSimdScan] as const
const accepting = scanners.map((create) => ({ none: create(NONE, 64), ab: create(AB, 64) }))
/** Both scanners decide, and they must agree. */
const accepts = (bytes: Buffer, which: 'none' | 'ab' = 'none'): boolean => {
  const verdicts = accepting.map((scan) => {
    try {
      scan[which](bytes)
      return true
    } catch (error) {
      if (error instanceof JsonError) return false
      throw error
    }
  })
  if (verdicts[0] !== verdicts[1]) throw new Error(`the scanners differ on ${bytes.toString()}`)
  return verdicts[0]!
}
const scan = createSimdScan(AB, 8)
const parses = (bytes: Buffer): boolean => {
  try {
    JSON.parse(bytes.toString('utf8'))
    return isUtf8(bytes)
  } catch {
    return false
  }
}

// RFC 8259, by the classes of the JSON Test Suite: y must be taken, n must be refused.
const vectors: [verdict: 'y' | 'n', text: string][] = [
  ['y', '0'],
  ['y', '-0'],
  ['y', '1.10'],
  ['y', '1e-7'],
  ['y', '1E+2'],
  ['y', '""'],
  ['y', '"\\u00e9"'],
  ['y', '"\\ud83d\\ude00"'],
  ['y', '[]'],
  ['y', '{}'],
  ['y', ' [1 , 2 ] '],
  ['y', '{"a":{"a":1}}'],
  ['y', '[[],{},[{}]]'],
  ['y', 'null'],
  ['y', '"\\/"'],
  ['y', '{"":1}'],
  ['y', '"é😀"'],
  ['n', ''],
  ['n', ' '],
  ['n', '01'],
  ['n', '1.'],
  ['n', '.5'],
  ['n', '1e'],
  ['n', '+1'],
  ['n', '-'],
  ['n', 'NaN'],
  ['n', 'Infinity'],
  ['n', "'a'"],
  ['n', '"a'],
  ['n', '"\\x"'],
  ['n', '"\\u12"'],
  ['n', '"\t"'],
  ['n', '[1,]'],
  ['n', '[,1]'],
  ['n', '[1 2]'],
  ['n', '{"a":1,}'],
  ['n', '{,}'],
  ['n', '{"a"}'],
  ['n', '{"a":}'],
  ['n', '{a:1}'],
  ['n', '{"a" 1}'],
  ['n', '[1}'],
  ['n', '{"a":1]'],
  ['n', '1 2'],
  ['n', '{}{}'],
  ['n', '[1]x'],
  ['n', 'tru'],
  ['n', 'nulll'],
  ['n', '"\\ud83d"'],
  ['n', '"\\ude00\\ud83d"'],
  ['n', '"\\ud83dx"'],
  ['n', '[1'],
  ['n', '{"a":1'],
  ['n', '{"a":1,"a":2}'],
  ['n', '{"\\u0061":1,"a":2}'],
  ['n', '\ufeff{}'],
  ['n', '/**/1'],
  ['n', '["a"\u0000]'],
]

t.test('strict JSON is taken, everything else refused (INPUT-2)', async (t) => {
  for (const [verdict, text] of vectors)
    t.equal(accepts(Buffer.from(text), 'ab'), verdict === 'y', text)
  t.notOk(accepts(Buffer.from([0x22, 0xff, 0x22])), 'invalid UTF-8')
  t.notOk(accepts(Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])), 'an encoded surrogate')
  t.ok(accepts(Buffer.from('['.repeat(64) + ']'.repeat(64))), 'as deep as allowed')
  t.notOk(accepts(Buffer.from('['.repeat(65) + ']'.repeat(65))), 'deeper')
})

t.test('agrees with JSON.parse on whatever is written, and on what it is mutated to', async (t) => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 5 }), (text) => {
      const bytes = Buffer.from(text)
      // Only lone surrogates are refused beyond what JSON.parse refuses.
      return accepts(bytes) || /\\u[dD][89a-fA-F]/.test(text)
    }),
    { numRuns: 500 },
  )
  fc.assert(
    fc.property(fc.json({ maxDepth: 3 }), fc.nat(), fc.nat(255), (text, at, byte) => {
      const bytes = Buffer.from(text)
      bytes[at % bytes.length] = byte
      return !accepts(bytes) || parses(bytes)
    }),
    { numRuns: 2000 },
  )
  t.pass('properties hold')
})

t.test('the tape leads to every member and its decoded text', async (t) => {
  const tape = scan(Buffer.from('{ "b" : [1, "x\\u0041é"], "\\u0061":{"a":"in"}, "c":null }'))
  const [a, b] = [AB.id('a'), AB.id('b')]
  t.equal(textOf(tape, member(tape, member(tape, 0, a), a)), 'in', 'an escaped name hides nothing')
  const [one, text] = [...elements(tape, member(tape, 0, b))]
  t.equal(kindOf(tape, one!), KIND.number)
  t.equal(textOf(tape, text!), 'xAé')
  t.equal(nameOf(tape, text!), b, 'a string in a list knows the name around it')
  t.equal(member(tape, 0, AB.id('entry')), -1)
})

t.test('members are taken out and the rest stays, byte for byte', async (t) => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.string({ minLength: 1 }), { minLength: 1, maxLength: 6 }),
      fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
      fc.constantFrom('', ' ', '\n  '),
      (keys, gone, space) => {
        const text = `{${keys.map((key, i) => `${space}${JSON.stringify(key)}:${space}${i}.10`).join(`${space},`)}}`
        const tape = scan(Buffer.from(text))
        const edits = removeMembers(tape, 0, (key) => gone[keys.indexOf(textOf(tape, key)!)]!)
        const left = splice(tape.bytes, edits).toString()
        const expected = Object.entries(JSON.parse(text) as object).filter(
          ([key]) => !gone[keys.indexOf(key)],
        )
        return (
          JSON.stringify(Object.entries(JSON.parse(left) as object)) === JSON.stringify(expected)
        )
      },
    ),
    { numRuns: 500 },
  )
  t.pass('property holds')
})

import fc from 'fast-check'
import t from 'tap'
import { DETECTORS } from '../../src/policy/masking-schema.ts'
import { waysOf } from '../../src/stages/release/mask/detect/bounded-pattern.ts'
import { findSecrets } from '../../src/stages/release/mask/detect/secrets.ts'
import { createFinder } from '../../src/stages/release/mask/detect/finder.ts'
import { atsOf, PATTERNS } from '../../src/stages/release/mask/detect/patterns.ts'
import { Recognizer } from '../../src/stages/release/mask/detect/recognizer.ts'
import { shownOf } from '../../src/stages/release/mask/detect/shown.ts'
import { PARTS, plainFindAll, plainShown } from '../support/plain-detectors.ts'

const texts = fc
  .array(fc.constantFrom(...PARTS), { minLength: 1, maxLength: 16 })
  .map((parts) => parts.join(''))
const spaced = fc
  .array(fc.constantFrom(...PARTS), { minLength: 1, maxLength: 16 })
  .map((parts) => parts.join(' '))
const always = { seed: 1, numRuns: 4000 }

t.test('one pass finds what each pattern finds by itself (MASK-7)', async (t) => {
  const patterns = Object.values(PATTERNS).map(({ pattern }) => pattern)
  const recognizer = new Recognizer(patterns)
  const met = new Set<number>()
  fc.assert(
    fc.property(fc.oneof(texts, spaced), (text) => {
      const found = patterns.map((): [number, string][] => [])
      recognizer.find(text, -1, (n, start, end) => found[n]?.push([start, text.slice(start, end)]))
      for (const [n, pattern] of patterns.entries()) {
        const expected = [...text.matchAll(pattern)].map(({ 0: match, index }) => [index, match])
        if (expected.length > 0) met.add(n)
        if (JSON.stringify(found[n]) !== JSON.stringify(expected)) return false
      }
      return true
    }),
    always,
  )
  t.equal(met.size, patterns.length, 'every pattern matched something')
})

t.test(
  'addresses in long texts: one walk for each @ finds what a walk from everywhere does',
  async (t) => {
    const { pattern } = PATTERNS.email
    const recognizer = new Recognizer([pattern, PATTERNS.phone.pattern])
    const part = fc.constantFrom(
      'a',
      '1',
      '+',
      '+1',
      '.',
      '@',
      'b.c',
      ' ',
      '-',
      'é',
      '/',
      'localhost',
      'a'.repeat(40),
    )
    const long = fc.array(part, { minLength: 150, maxLength: 400 }).map((parts) => parts.join(''))
    let count = 0
    fc.assert(
      fc.property(long, (text) => {
        const of = atsOf(text)
        const found: [number, string][] = []
        const tell = (n: number, start: number, end: number): void => {
          if (n === 0) found.push([start, text.slice(start, end)])
        }
        recognizer.find(text, -1, tell, of === undefined ? undefined : { pattern: 0, of })
        const expected = [...text.matchAll(pattern)].map(({ 0: match, index }) => [index, match])
        if (of !== undefined) count += expected.length
        return JSON.stringify(found) === JSON.stringify(expected)
      }),
      { seed: 1, numRuns: 2000 },
    )
    t.ok(count > 5_000, `${count} addresses`)
  },
)

t.test('what is found in a text does not depend on how long it is (MASK-7)', async (t) => {
  const find = createFinder(new Set(DETECTORS))
  const spaces = ' '.repeat(300)
  let count = 0
  fc.assert(
    fc.property(fc.oneof(texts, spaced), (text) => {
      const found = find(text)
      count += found.length
      const moved = found.map(({ start, end, name }) => ({
        start: start + 300,
        end: end + 300,
        name,
      }))
      return JSON.stringify(find(spaces + text + spaces)) === JSON.stringify(moved)
    }),
    always,
  )
  t.ok(count > 2_000, `${count} found`)
})

t.test('detectors, alone and together, find what simple ones do (MASK-7)', async (t) => {
  const alone = DETECTORS.map((name) => new Set([name]))
  const sets = [...alone, new Set(DETECTORS), new Set(DETECTORS.toReversed())]
  const finders = sets.map((names) => [names, createFinder(names)] as const)
  let found = 0
  fc.assert(
    fc.property(fc.oneof(texts, spaced), (made) => {
      // Where there is no digit, mail or address at all nothing else is looked for.
      const text = `${made} 0`
      return finders.every(([names, find]) => {
        const all = find(text)
        found += all.length
        return JSON.stringify(all) === JSON.stringify(plainFindAll(text, names))
      })
    }),
    { ...always, numRuns: 1500 },
  )
  t.ok(found > 1000, `${found} findings`)
})

t.test('a word counts as far as 40 signs before a number (MASK-7)', async (t) => {
  const names = new Set(['ca-sin', 'us-itin'] as const)
  const find = createFinder(names)
  for (const word of ['sin', 'cosin', 'sinus', 'itin', 'insurance', 'tin and tin'])
    for (let far = 0; far < 50; far++) {
      const text = `${word} ${'-'.repeat(far)} 046454286 ${word}${' '.repeat(far)} 912781234`
      t.same(find(text), plainFindAll(text, names), text)
    }
  t.same(find(`cosin${' '.repeat(37)}046454286`), [], 'a part of a longer word is no word')
  t.equal(find(`sin${' '.repeat(37)}046454286`).length, 1)
  t.equal(find(`sin${' '.repeat(38)}046454286`).length, 0)
})

t.test('cards are found among digits without end (MASK-7)', async (t) => {
  let cards = 0
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('4', '1', '0', '5'), { minLength: 30, maxLength: 60, size: 'max' }),
      (digits) => {
        const found = findSecrets(digits.join(' ')).map(({ start, end }) => [
          start / 2,
          (end + 1) / 2,
        ])
        const expected: number[][] = []
        for (let n = 0; n < digits.length; n++) {
          const length = [19, 16, 13].find(
            (one) =>
              n + one <= digits.length && findSecrets(digits.slice(n, n + one).join('')).length > 0,
          )
          if (length === undefined) continue
          expected.push([n, n + length])
          cards += 1
          n += length - 1
        }
        return JSON.stringify(found) === JSON.stringify(expected)
      },
    ),
    always,
  )
  t.ok(cards > 1000, `${cards} cards`)
})

const upTo = (most: number): fc.Arbitrary<number> => fc.integer({ min: 1, max: most })
const padded = (number: number, length: number): string => String(number).padStart(length, '0')

t.test('numbers with dots are found where they stand alone (MASK-7, §9.2)', async () => {
  const area = upTo(899).filter((one) => one !== 666)
  const ssn = fc
    .tuple(area, upTo(99), upTo(9999))
    .map(([a, b, c]) => `${padded(a, 3)}.${padded(b, 2)}.${padded(c, 4)}`)
  const card = fc
    .tuple(upTo(0xffffff), upTo(9999999))
    .map(([a, b]) => `4${padded(a % 10 ** 7, 7)}${padded(b, 7)}`)
    .map((head) =>
      Array.from({ length: 10 }, (_, n) => head + String(n)).find(
        (one) => findSecrets(one).length > 0,
      )!,
    )
    .map((digits) => digits.match(/\d{4}/g)!.join('.'))
  const before = fc.constantFrom('', ' ', '(', 'SSN ', 'ssn:', 'card=', 'a. ', '1.5 ', 'é ', '\n')
  const behind = fc.constantFrom('', ' ', ')', '.', '. A', '...', ', 1.5', ';', ' 2', '-', '\n')
  fc.assert(
    fc.property(before, fc.oneof(ssn, card), behind, (head, number, tail) => {
      const found = findSecrets(head + number + tail)
      const [one] = found
      const isWhole = one?.start === head.length && one.end === head.length + number.length
      return found.length === 1 && isWhole
    }),
    always,
  )
})

t.test('OIDs, versions and decimals are none, whatever is in them (MASK-7, §9.2)', async () => {
  const arc = fc.oneof(
    fc.constantFrom('123', '45', '6789', '4111', '1111', '3782', '822463', '10005', '0'),
    fc.nat(999_999_999).map(String),
  )
  const arcs = fc.array(arc, { minLength: 2, maxLength: 8 }).map((list) => list.join('.'))
  const oid = fc.tuple(fc.constantFrom('0', '1', '2'), arcs).map((parts) => parts.join('.'))
  const part = fc.nat(9999).map(String)
  const version = fc.tuple(
    fc.constantFrom('v', 'V', 'version ', 'Version: ', 'rev '),
    fc.array(part, { minLength: 1, maxLength: 4 }),
  )
  const decimal = fc.tuple(fc.nat(99_999_999), fc.nat(99_999_999)).map((parts) => parts.join('.'))
  const around = fc.constantFrom('', ' ', 'urn:oid:', '(', 'x ')
  const behind = fc.constantFrom('', '.', ' ', ')', ' x')
  const numbers = fc.oneof(
    oid,
    version.map(([word, list]) => word + list.join('.')),
    decimal,
  )
  fc.assert(
    fc.property(around, numbers, behind, (head, number, tail) => {
      return findSecrets(head + number + tail).length === 0
    }),
    { ...always, numRuns: 20_000 },
  )
})

t.test('what a reader sees is what is left step by step (MASK-7, row 22)', async () => {
  fc.assert(
    fc.property(texts, (text) => (shownOf(text) ?? text) === plainShown(text)),
    { ...always, numRuns: 20_000 },
  )
})

t.test(
  'no digit is one with its neighbours, and no sign stands for digits of a script',
  async (t) => {
    const wrong: string[] = []
    for (let code = 0; code <= 0x10ffff; code++) {
      const sign = String.fromCodePoint(code)
      const shown = sign.normalize('NFKC')
      if (/[\p{DI}\p{Cf}\p{M}\p{Cs}]/u.test(sign)) continue
      const isAlone = `1${sign}1`.normalize('NFKC') === `1${shown}1`
      if (!isAlone || (shown !== sign && /(?!\d)\p{Nd}/u.test(shown))) wrong.push(code.toString(16))
    }
    t.same(wrong, [])
  },
)

t.test('patterns without an end are not understood, nor what one pass cannot find', async (t) => {
  const all = [
    /a*/,
    /a+/,
    /a{2,}/,
    /a??/,
    /(a)/,
    /(?=a)b/,
    /\bx/,
    /a(?!b)c/,
    /a.c/,
    /^a/,
    /a$/,
    /a/u,
  ]
  for (const pattern of all) t.throws(() => waysOf(pattern), /not understood/, String(pattern))
  t.throws(() => new Recognizer([/a{1,200}b/]), /only last/)
  t.throws(() => new Recognizer([/a{1,200}(?!\w)/]), /only last/)
})

import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { createTreeReaders } from '../../src/json/tree.ts'
import type { Node } from '../../src/json/tree.ts'

const read = createTreeReaders(64)()
const tree = (text: string): Node => read(Buffer.from(text))
const nodesOf = (node: Node): Node[] => [
  node,
  ...[...node.members.values(), ...node.items].flatMap(nodesOf),
]

// MASK-10: a tree of 10 MB at level 60 held them 120 times.
t.test('what is deep inside is not held once more by each level', (t) => {
  const long = 'x'.repeat(100_000)
  for (const [open, close] of [
    ['{"a":', '}'],
    ['[', ']'],
  ] as const) {
    const nest = (text: string) => open.repeat(60) + text + close.repeat(60)
    const nodes = nodesOf(tree(nest(`"${long}"`)))
    t.equal(nodes.length, 61)
    t.ok(nodes.reduce((sum, { canon }) => sum + canon.length, 0) < 61 * 300)
    t.not(nodes[0]?.canon, tree(nest(`"${long.slice(1)}y"`)).canon)
  }
  t.end()
})

t.test('what several texts have in common is read once (RATE-6)', (t) => {
  const items = Array.from({ length: 1000 }, (_, n) => ({ value: `N-${n}`, more: [{ n }] }))
  const [one, other] = [items, [{ value: 'new' }, ...items]].map((list) =>
    read(Buffer.from(JSON.stringify({ list }))),
  )
  const [was, now] = [one, other].map((node) => node?.members.get('list')?.items ?? [])
  t.equal(was?.length, 1000)
  t.ok(was?.every((node, at) => node === now?.[at + 1]))
  t.equal(was?.[7]?.members.get('more')?.items[0]?.members.get('n')?.text, '7', 'and can be opened')
  t.end()
})

t.test('a long member that stands in several texts is read once (RATE-6)', (t) => {
  const list = Array.from({ length: 1000 }, (_, n) => ({ value: `N-${n}` }))
  const [one, other, changed] = [{ list }, { active: true, list }, { list: [...list, 0] }].map(
    (resource) => read(Buffer.from(JSON.stringify(resource))).members.get('list'),
  )
  t.ok(one !== undefined && one === other)
  t.ok(one !== changed && one?.canon !== changed?.canon)
  t.end()
})

t.test('texts stay as they were written when the reader is used again', (t) => {
  const text = '{ "é" : [ 1.10, "\\u0041" , {} ] }'
  const first = tree(text)
  tree('["something else", "that is longer than it", 1, 2, 3]')
  t.strictSame(
    nodesOf(first).map(({ text }) => text),
    [text, '[ 1.10, "\\u0041" , {} ]', '1.10', '"\\u0041"', '{}'],
  )
  t.end()
})

t.test('generated: values are equal when their canonical forms are', (t) => {
  const leaf = fc.oneof(
    fc.constantFrom('', 'a', '#', null, true, 'x'.repeat(300), 'y'.repeat(300)),
    fc.integer({ min: 0, max: 2 }),
  )
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 3 },
      leaf,
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(fc.constantFrom('a', 'b', 'c'), tie('value'), { maxKeys: 3 }),
    ),
  }))
  fc.assert(
    fc.property(value, value, (one, other) => {
      const [a, b] = [tree(JSON.stringify(one)), tree(JSON.stringify(other))]
      const turned =
        typeof one === 'object' && one !== null && !Array.isArray(one)
          ? Object.fromEntries(Object.entries(one).reverse())
          : one
      return (
        (a.canon === b.canon) === isDeepStrictEqual(JSON.parse(a.text), JSON.parse(b.text)) &&
        a.canon === tree(JSON.stringify(turned, null, 1)).canon
      )
    }),
    { numRuns: 2000 },
  )
  t.end()
})

import t from 'tap'
import { restore, RestoreError } from '../../src/json/restore.ts'
import type { Shape } from '../../src/json/restore.ts'
import { createTreeReaders } from '../../src/json/tree.ts'
import { maskWith } from '../support/mask.ts'

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

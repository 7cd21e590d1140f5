import fc from 'fast-check'
import t from 'tap'
import { elementsOf, membersOf, stampResource, valueOf } from '../../src/demo/raw-json.ts'

const stamp = { id: 'x-1', versionId: 3, lastUpdated: '2026-01-02T03:04:05.678Z' }

t.test('spans are those of JSON.parse', async () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(2), (object, indent) => {
      const text = JSON.stringify(object, undefined, indent)
      const expected = JSON.parse(text) as Record<string, unknown>
      const found = membersOf(text).map(({ key, valueStart, end }) => [
        key,
        JSON.stringify(JSON.parse(text.slice(valueStart, end))),
      ])
      const wanted = Object.entries(expected).map(([key, value]) => [key, JSON.stringify(value)])
      return JSON.stringify(found) === JSON.stringify(wanted)
    }),
  )
  fc.assert(
    fc.property(fc.array(fc.jsonValue()), fc.nat(2), (array, indent) => {
      const text = JSON.stringify(array, undefined, indent)
      const found = elementsOf(text).map((element) => JSON.parse(element) as unknown)
      return JSON.stringify(found) === JSON.stringify(array)
    }),
  )
})

t.test('a stamp changes id and meta and nothing else', async (t) => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue()),
      fc.nat(2),
      fc.boolean(),
      (rest, n, own) => {
        const others = Object.fromEntries(
          Object.entries(rest).filter(([key]) => !['id', 'meta', 'resourceType'].includes(key)),
        )
        const text = JSON.stringify(
          {
            ...others,
            ...(own ? { id: 'old', meta: { versionId: '9', tag: [1] } } : {}),
            resourceType: 'Basic',
          },
          undefined,
          n,
        )
        const stamped = stampResource(text, stamp)
        const { id, meta, ...kept } = JSON.parse(stamped) as Record<string, unknown>
        const expected = {
          versionId: '3',
          lastUpdated: stamp.lastUpdated,
          ...(own ? { tag: [1] } : {}),
        }
        return (
          id === stamp.id &&
          JSON.stringify(meta) === JSON.stringify(expected) &&
          Object.keys(others).every((key) => valueOf(stamped, key) === valueOf(text, key)) &&
          Object.keys(kept).length ===
            Object.keys(JSON.parse(text) as object).length - (own ? 2 : 0)
        )
      },
    ),
  )
  t.equal(
    stampResource(' {"resourceType":"Basic","n":[1.10,1e2,-0.0,"\\u0041\\/"]}\n', stamp),
    '{"resourceType":"Basic","id":"x-1","meta":{"versionId":"3",' +
      `"lastUpdated":"${stamp.lastUpdated}"},"n":[1.10,1e2,-0.0,"\\u0041\\/"]}`,
  )
})

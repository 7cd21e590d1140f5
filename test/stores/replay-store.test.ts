import fc from 'fast-check'
import t from 'tap'
import { createMemoryReplay } from '../../src/adapters/memory-replay.ts'
import type { ReplayStore } from '../../src/ports.ts'

/** A clock that tests move. */
function createHeldClock() {
  let at = 1_000_000
  return { now: () => at, advance: (seconds: number) => (at += seconds * 1000) }
}
type HeldClock = ReturnType<typeof createHeldClock>

/** What every replay store must hold, memory or shared. */
function contract(name: string, create: (clock: HeldClock) => ReplayStore) {
  t.test(`${name}: new once, known until its time is over (AUTHN-11)`, async (t) => {
    const clock = createHeldClock()
    const store = create(clock)
    t.teardown(() => store.close())
    t.equal(await store.remember('a', 60), true)
    t.equal(await store.remember('a', 60), false)
    t.equal(await store.remember('b', 60), true, 'keys do not touch each other')
    clock.advance(59)
    t.equal(await store.remember('a', 600), false, 'and being seen again prolongs nothing')
    clock.advance(2)
    t.equal(await store.remember('a', 60), true)
  })

  t.test(`${name}: of many at the same moment one is told true`, async (t) => {
    const store = create(createHeldClock())
    t.teardown(() => store.close())
    const told = await Promise.all(Array.from({ length: 50 }, () => store.remember('a', 60)))
    t.equal(told.filter(Boolean).length, 1)
  })
}

contract('memory', (clock) => createMemoryReplay({ most: 1000, clock }))

t.test('memory: full it rejects, and forgets nothing early (AUTHN-11)', async (t) => {
  const clock = createHeldClock()
  const store = createMemoryReplay({ most: 3, clock })
  for (const key of ['a', 'b', 'c']) t.equal(await store.remember(key, 60), true)
  for (let n = 0; n < 20; n++) await t.rejects(store.remember(`spray-${n}`, 60))
  for (const key of ['a', 'b', 'c']) t.equal(await store.remember(key, 60), false, key)
  clock.advance(61)
  t.equal(await store.remember('d', 60), true, 'room again when their time is over')
})

t.test('memory: whatever happens, no key is new twice within its time', async () => {
  const step = fc.record({ wait: fc.nat(40), key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f') })
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 5 }), fc.array(step), async (most, steps) => {
      const clock = createHeldClock()
      const store = createMemoryReplay({ most, clock })
      const until = new Map<string, number>()
      for (const { wait, key } of steps) {
        clock.advance(wait)
        const live = (until.get(key) ?? 0) > clock.now()
        const told = await store.remember(key, 60).catch(() => 'full')
        if (live && told !== false) throw new Error('forgotten early')
        if (told === true) until.set(key, clock.now() + 60_000)
        const held = [...until.values()].filter((at) => at > clock.now()).length
        if (held > most) throw new Error('more than there is room for')
        if (!live && held < most && told === 'full') {
          // A full sweep may be at most one second old.
          clock.advance(1)
          if (!(await store.remember(key, 60))) throw new Error('refused with room')
          until.set(key, clock.now() + 60_000)
        }
      }
    }),
  )
})

import fc from 'fast-check'
import t from 'tap'
import { TokenCache } from '../../src/stages/authenticate/token-cache.ts'
import type { Verified } from '../../src/stages/authenticate/token-cache.ts'

const entry = (name: string): Verified => ({ principal: { key: name } }) as unknown as Verified

t.test('bounded; what is asked for stays, what nobody asks for goes', async (t) => {
  const cache = new TokenCache(100)
  cache.set('in use', entry('in use'))
  for (let n = 0; n < 1000; n++) {
    cache.set(`flood-${n}`, entry(`flood-${n}`))
    if (n % 20 === 0) t.ok(cache.get('in use'), 'a flood does not push out what is in use')
  }
  const left = Array.from({ length: 1000 }, (_, n) => cache.get(`flood-${n}`)).filter(Boolean)
  t.ok(left.length <= 100, `${left.length} of 100 are left`)
  t.equal(cache.get('flood-0'), undefined)
  t.ok(cache.get('flood-999'))
})

t.test('never another’s entry, never one that was deleted', async () => {
  const key = fc.constantFrom(...Array.from('abcdefghijkl'))
  const step = fc.tuple(fc.constantFrom('set', 'get', 'delete'), key)
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const cache = new TokenCache(6)
      const newest = new Map<string, Verified>()
      for (const [what, name] of steps) {
        if (what === 'set') {
          const made = entry(name)
          newest.set(name, made)
          cache.set(name, made)
        } else if (what === 'delete') {
          newest.delete(name)
          cache.delete(name)
        } else {
          const found = cache.get(name)
          if (found !== undefined && found !== newest.get(name)) return false
        }
      }
      return true
    }),
    { numRuns: 500 },
  )
})

import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import t from 'tap'
import { createSeal } from '../../src/http/seal.ts'

const [one, two] = [randomBytes(32), randomBytes(32)]

t.test('what is sealed opens unchanged, for its context alone', async (t) => {
  const seal = createSeal([one])
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme' }),
      fc.string(),
      fc.string(),
      (text, context, other) => {
        const sealed = seal.close(text, context)
        return (
          /^[A-Za-z0-9_-]+$/.test(sealed) &&
          seal.open(sealed, context) === text &&
          (other === context || seal.open(sealed, other) === undefined)
        )
      },
    ),
  )
  t.not(seal.close('a', 'b'), seal.close('a', 'b'), 'never twice the same')
})

t.test('one changed character, one more or one less opens nothing', async (t) => {
  const seal = createSeal([one])
  const sealed = seal.close('{"target":"/Patient?page=2"}', 'me')
  for (let at = 0; at < sealed.length; at++) {
    const changed = sealed.slice(0, at) + (sealed[at] === 'A' ? 'B' : 'A') + sealed.slice(at + 1)
    if (seal.open(changed, 'me') !== undefined) t.fail(`changed at ${at}`)
    if (seal.open(sealed.slice(0, at), 'me') !== undefined) t.fail(`cut at ${at}`)
  }
  for (const hostile of ['', 'AQ', '.', `${sealed}=`, `${sealed}A`, ` ${sealed}`, 'é', '../x']) {
    t.equal(seal.open(hostile, 'me'), undefined, JSON.stringify(hostile))
  }
})

t.test('keys rotate: the first seals, all open', async (t) => {
  const old = createSeal([one]).close('a', 'b')
  t.equal(createSeal([two, one]).open(old, 'b'), 'a')
  t.equal(createSeal([two]).open(old, 'b'), undefined)
  t.equal(createSeal([two]).open(createSeal([two, one]).close('a', 'b'), 'b'), 'a')
  t.throws(() => createSeal([]), RangeError)
  t.throws(() => createSeal([Buffer.alloc(16)]), RangeError)
})

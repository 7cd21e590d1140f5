import fc from 'fast-check'
import t from 'tap'
import { ReadAhead } from '../../src/adapters/read-ahead.ts'

const MOST = 2_000

/** A source that sends for as long as it may, and what it has been told. */
function createSource() {
  const told = { isPaused: false, aborted: 0, stops: 0 }
  return {
    told,
    pause: () => {
      told.isPaused = true
      told.stops += 1
    },
    resume: () => {
      told.isPaused = false
    },
    abort: () => {
      told.aborted += 1
    },
  }
}

t.test('every byte arrives once, in order, and no more is held than may be', async (t) => {
  let stops = 0
  const act = fc.oneof(
    fc.record({ what: fc.constant('push' as const), size: fc.integer({ min: 1, max: 900 }) }),
    fc.record({ what: fc.constant('next' as const) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(act, { maxLength: 60 }), async (acts) => {
      const source = createSource()
      const body = new ReadAhead(source, MOST)
      const sent: Buffer[] = []
      const read: Promise<IteratorResult<Buffer>>[] = []
      for (const one of acts) {
        if (one.what === 'next') {
          // Whoever reads asks for one at a time.
          if (read.length <= sent.length) read.push(body.next())
        } else if (!source.told.isPaused) {
          const chunk = Buffer.alloc(one.size, sent.length)
          sent.push(chunk)
          body.push(chunk)
        }
        const held = sent.slice(read.length).reduce((sum, { length }) => sum + length + 256, 0)
        if (source.told.isPaused !== held > MOST) return false
        if (held > MOST + 900 + 256) return false
      }
      body.end()
      for (let left = sent.length + 2 - read.length; left > 0; left--) read.push(body.next())
      const got = await Promise.all(read)
      const chunks = got.filter(({ done }) => done !== true).map(({ value }) => value as Buffer)
      stops += source.told.stops
      const isEnded = got.slice(sent.length).every(({ done }) => done === true)
      return (
        isEnded && source.told.aborted === 0 && Buffer.concat(chunks).equals(Buffer.concat(sent))
      )
    }),
    { numRuns: 500 },
  )
  t.ok(stops > 50, `${stops} times the source had to wait`)
})

t.test('pieces of one byte stop the source as well', (t) => {
  const source = createSource()
  const body = new ReadAhead(source, MOST)
  for (let n = 0; !source.told.isPaused && n < MOST; n++) body.push(Buffer.alloc(1))
  t.equal(source.told.stops, 1)
  t.end()
})

t.test('what is left ends the request, once, and what has come is given up', async (t) => {
  const source = createSource()
  const body = new ReadAhead(source, MOST)
  body.push(Buffer.from('one'))
  body.push(Buffer.from('two'))
  for await (const chunk of body) {
    t.equal(chunk.toString(), 'one')
    break
  }
  t.equal(source.told.aborted, 1)
  body.push(Buffer.from('three'))
  body.fail(new Error('aborted'))
  await body.return()
  t.equal(source.told.aborted, 1)
  t.equal((await body.next().catch(() => ({ done: 'told' }))).done, 'told')
  const ended = new ReadAhead(source, MOST)
  ended.end()
  await ended.return()
  t.equal(source.told.aborted, 1, 'of what has ended nothing is left to end')
})

t.test('what breaks is told to whoever reads, and nothing of it is read any more', async (t) => {
  const broken = new Error('broken')
  const waited = new ReadAhead(createSource(), MOST)
  const next = waited.next()
  waited.fail(broken)
  await t.rejects(next, broken)
  t.equal((await waited.next()).done, true)
  const held = new ReadAhead(createSource(), MOST)
  held.push(Buffer.from('half'))
  held.fail(broken)
  await t.rejects(held.next(), broken)
  t.equal((await held.next()).done, true)
})

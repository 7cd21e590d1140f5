import { once } from 'node:events'
import { get } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate, setTimeout } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { createUpstreamPool } from '../../src/adapters/upstream-pool.ts'
import { configSchema } from '../../src/config/schema.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { Interaction } from '../../src/fhir/interaction.ts'
import { forget } from '../../src/http/content.ts'
import { Permit } from '../../src/permit.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { grantOf } from '../support/grants.ts'
import { shippedMasking } from '../support/masking.ts'

// A Bundle too large to hold leaves in pieces (REST-14, INPUT-2, pitfalls §1 rows 8, 19): whatever its
// text is, and wherever it is cut on its way, no more of it leaves than of the same text as a whole.

const CANARY = 'SECRET-CANARY'
const UP = 'http://127.0.0.1:9/base'
const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: UP },
  issuers: [{ url: 'https://issuer.example' }],
})
const { release } = createRelease(config, loadDefinitions('R4'), shippedMasking())
const search: Interaction = {
  code: 'search-type',
  method: 'GET',
  type: 'Observation',
  parameters: [],
}
const permit = Permit.issue({
  interaction: search,
  requested: search,
  body: undefined,
  terms: { grantFor: () => grantOf({ patient: 'p1' }), mayReadBack: true },
  rules: [],
})

type Left = { readonly text: string; readonly refused: boolean }

async function send(body: Buffer | AsyncIterable<Buffer>): Promise<Left> {
  let text = ''
  try {
    const { answer } = await release(permit, { status: 200, headers: {}, body })
    if (Buffer.isBuffer(answer.body)) text = answer.body.toString()
    else for await (const chunk of answer.body ?? []) text += chunk.toString('latin1')
  } catch (error) {
    if ((error as Error).message !== 'upstream-unreadable') throw error
    return { text, refused: true }
  }
  return { text, refused: false }
}

async function* chunked(bytes: Buffer, size: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const observation = (id: string, patient = 'p1', more = ''): string =>
  `{"resourceType":"Observation","id":"${id}","subject":{"reference":"Patient/${patient}"}${more}}`
const own = (id: string, more = ''): string => `{"resource":${observation(id, 'p1', more)}}`
const foreign = `{"resource":${observation(CANARY, 'p2', `,"valueString":"${CANARY}"`)}}`
const HEAD = '"resourceType":"Bundle","type":"searchset"'
const bundle = (entries: string, behind = ''): string => `{${HEAD},"entry":[${entries}]${behind}}`

type Entries = { readonly entry?: readonly { readonly resource: { readonly id: string } }[] }
const idsOf = (text: string): string[] =>
  ((JSON.parse(text) as Entries).entry ?? []).map(({ resource }) => resource.id)

/** What is in a Bundle, or that it is refused. */
const hostile: readonly (readonly [
  what: string,
  text: string | Buffer,
  ids: string[] | 'refused',
])[] = [
  ['nothing wrong', bundle(`${own('a')},${foreign},${own('b')}`), ['a', 'b']],
  [
    'entries behind what looks like them',
    bundle(own('a', `,"note":[{"text":"\\"entry\\":[${'{'.repeat(9)}"}]`)),
    ['a'],
  ],
  [
    'brackets in strings',
    bundle(`${own('a', ',"x":"]}],["')},${foreign},${own('b', ',"y":"\\\\"')}`),
    ['a', 'b'],
  ],
  ['a name with an escape', `{${HEAD},"\\u0065ntry":[${own('a')},${foreign}]}`, ['a']],
  ['twice', bundle(own('a'), `,"entry":[${foreign}]`), 'refused'],
  ['twice, one escaped', bundle(own('a'), `,"\\u0065ntry":[${foreign}]`), 'refused'],
  [
    'twice, the escaped one first',
    `{${HEAD},"\\u0065ntry":[${foreign}],"entry":[${own('a')}]}`,
    'refused',
  ],
  ['twice, one no list', `{${HEAD},"entry":${foreign},"entry":[${own('a')}]}`, 'refused'],
  ['two types', bundle(own('a'), ',"resourceType":"Bundle"'), 'refused'],
  ['another type behind', bundle(own('a'), ',"resourceType":"Patient"'), 'refused'],
  ['a type with an escape behind', bundle(own('a'), ',"resource\\u0054ype":"Patient"'), 'refused'],
  ['entries that are no list', `{${HEAD},"entry":{"resource":${observation(CANARY)}}}`, 'refused'],
  ['a list around', `[${bundle(foreign)}]`, 'refused'],
  ['entries in entries', bundle(`{"entry":[${foreign}]},${own('a')}`), ['a']],
  [
    'entries in another member',
    `{${HEAD},"x":{"entry":[${foreign}]},"entry":[${own('a')}]}`,
    ['a'],
  ],
  [
    'a member that ends in the name',
    `{${HEAD},"x\\"entry":[${foreign}],"y":[${foreign}],"entry":[${own('a')}]}`,
    ['a'],
  ],
  ['entries that are none', bundle(`1,"x",[${foreign}],null,${own('a')}`), ['a']],
  ['a Bundle among the entries', bundle(`{"resource":${bundle(foreign)}},${own('a')}`), ['a']],
  ['a byte order mark', `\ufeff${bundle(own('a'))}`, 'refused'],
  ['more behind', `${bundle(own('a'))}{}`, 'refused'],
  ['an end too many', bundle(`${own('a')}]`), 'refused'],
  ['the wrong end', `{${HEAD},"entry":[${own('a')}}}`, 'refused'],
  ['an end within', bundle(`${own('a')}],"x":[${foreign}`), ['a']],
  ['a comma too many', bundle(`${own('a')},`), 'refused'],
  ['a comma first', bundle(`,${own('a')}`), 'refused'],
  ['two commas', bundle(`${own('a')},,${own('b')}`), 'refused'],
  ['no comma', bundle(`${own('a')}${own('b')}`), 'refused'],
  [
    'a string that does not end',
    bundle(`${own('a')},{"x":"${foreign.replaceAll('"', '')}}`),
    'refused',
  ],
  ['a backslash at an end', bundle(`${own('a', ',"x":"\\"')},${foreign}`), 'refused'],
  ['a line break in a string', bundle(own('a', ',"x":"\n"')), 'refused'],
  ['a lone surrogate', bundle(own('a', ',"x":"\\ud800"')), 'refused'],
  [
    'bytes that are no UTF-8',
    Buffer.concat([
      Buffer.from(bundle(own('a', ',"x":"')).slice(0, -4)),
      Buffer.from([0xc3]),
      Buffer.from('"}}]}'),
    ]),
    'refused',
  ],
  ['as deep as allowed', bundle(own('a', `,"x":${'['.repeat(60)}${']'.repeat(60)}`)), ['a']],
  ['deeper', bundle(own('a', `,"x":${'['.repeat(61)}${']'.repeat(61)}`)), 'refused'],
  [
    'deeper around',
    `{${HEAD},"x":${'['.repeat(64)}${']'.repeat(64)},"entry":[${own('a')}]}`,
    'refused',
  ],
]

t.test('hostile Bundles: pieces come to the same as the whole, wherever they end', async (t) => {
  for (const [what, text, ids] of hostile) {
    // What is small leaves at once; what is large has left in part before the rest is met.
    for (const filling of [0, 40_000]) {
      const long = `"${'é{\\"'.repeat(filling / 5)}"`
      const bytes =
        typeof text === 'string'
          ? Buffer.from(text.replace('"id":"a"', `"id":"a","valueString":${long}`))
          : text
      const whole = await send(bytes)
      t.equal(whole.refused, ids === 'refused', `${what}, whole`)
      const sizes = filling === 0 ? [1, 2, 3, 7, 64, 100_000] : [61, 4_096, 65_536]
      for (const size of sizes) {
        const left = await send(chunked(bytes, size))
        t.notMatch(left.text, CANARY, `${what} by ${size}: nobody else's`)
        t.equal(left.refused, ids === 'refused', `${what} by ${size}`)
        if (ids !== 'refused') t.same(idsOf(left.text), ids, `${what} by ${size}: entries`)
      }
    }
  }
})

t.test('Bundles that come at once: none is made of what another is', async (t) => {
  /** The scanner has one memory: what is between two looks at it may be any number of microtasks. */
  const later = async (id: string, name: string, ticks: number): Promise<string> => {
    while (ticks-- > 0) await Promise.resolve()
    const text = bundle(`${own(`${id}1`)},${own(`${id}2`)}`).replace('entry', name)
    return (await send(chunked(Buffer.from(text), 1 << 16))).text
  }
  const names = ['entry', '\\u0065ntry']
  for (let ticks = 0; ticks < 40; ticks++) {
    for (const one of names) {
      for (const other of names) {
        const [a, b] = await Promise.all([later('a', one, 0), later('b', other, ticks)])
        t.strictSame(
          [idsOf(a), idsOf(b)],
          [
            ['a1', 'a2'],
            ['b1', 'b2'],
          ],
          `${one} ${other} ${ticks}`,
        )
      }
    }
  }
})

t.test('a Bundle that breaks off anywhere is refused', async (t) => {
  const text = `${bundle(`${own('a')},${foreign},${own('b', ',"x":"é\\\\\\"]}"')}`, ' ,"id" : "x"')} `
  const bytes = Buffer.from(text)
  for (let length = 0; length < bytes.length - 1; length++) {
    const left = await send(chunked(bytes.subarray(0, length), 50))
    t.ok(left.refused && !left.text.includes(CANARY), `after ${length} bytes`)
  }
  t.same(idsOf((await send(chunked(bytes, 50))).text), ['a', 'b'])
})

/** Entries of some 300 bytes each, without end. */
function* entries(): Generator<string> {
  for (let i = 0; ; i++) {
    yield i % 7 === 3 ? foreign : own(`o${i}`, `,"valueString":"${'x'.repeat(200)}"`)
  }
}

function batch(source: Generator<string>, bytes: number): string {
  const batch: string[] = []
  for (let length = 0; length < bytes; length += batch.at(-1)!.length) {
    batch.push(source.next().value as string)
  }
  return batch.join(',')
}

t.test('nothing is taken from upstream before it is asked for (REST-14)', async (t) => {
  const source = entries()
  const total = 3_000_000
  let pulled = 0
  const over = new AbortController()
  async function* body(): AsyncGenerator<Buffer> {
    yield Buffer.from(`{${HEAD},"entry":[${batch(source, 1_000)}`)
    while (pulled < total) {
      const chunk = Buffer.from(`,${batch(source, 30_000)}`)
      pulled += chunk.length
      yield chunk
    }
    over.abort()
    yield Buffer.from(']}')
  }
  const { answer } = await release(permit, { status: 200, headers: {}, body: body() })
  const pieces = (answer.body as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  let left = 0
  for (let piece = await pieces.next(); piece.done !== true; piece = await pieces.next()) {
    if (left === 0)
      t.ok(!over.signal.aborted && pulled < 450_000, `the first piece after ${pulled} bytes`)
    left += piece.value.length
    const before = pulled
    for (let i = 0; i < 3; i++) await setImmediate()
    if (pulled !== before) t.fail('went on without being asked')
    if (pulled - left * 1.3 > 450_000) t.fail(`${pulled} bytes taken for ${left}`)
  }
  t.ok(over.signal.aborted && left > total * 0.7, `${left} of ${pulled} bytes have left`)
})

/** A gateway whose upstream answers by hand. */
async function setUp() {
  const asked: ServerResponse[] = []
  const gateway = await startGateway({
    handler: (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/fhir+json' })
      asked.push(response)
    },
  })
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const begin = (path: string): Promise<[IncomingMessage, ServerResponse]> =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}` }
      get(`${gateway.url}${path}`, { headers, agent: false }, (answer) => {
        resolve([answer, asked.at(-1)!])
      }).on('error', reject)
      void (async () => {
        const before = asked.length
        while (asked.length === before) await setTimeout(2)
        asked.at(-1)!.write(`{${HEAD},"entry":[${batch(source, 400_000)}`)
      })()
    })
  const source = entries()
  const audit = async (): Promise<string> => {
    for (let i = 0; i < 200 && (await gateway.auditText()) === ''; i++) await setTimeout(10)
    return gateway.auditText()
  }
  return { gateway, begin, source, audit }
}

/** Reads on from here; `first` when there is something, `all` when there is no more. */
function read(answer: IncomingMessage) {
  let text = ''
  answer.setEncoding('utf8')
  answer.on('data', (chunk: string) => (text += chunk))
  answer.on('error', () => undefined)
  const first = new Promise<string>((resolve) => answer.once('data', resolve))
  const all = new Promise<{ text: string; isWhole: boolean }>((resolve) =>
    answer.once('close', () => {
      resolve({ text, isWhole: answer.complete })
    }),
  )
  answer.resume()
  return { first, all }
}

/** A resource whose text tells which one it is, of `bytes` bytes or a few more. */
const patientOf = (id: string, bytes: number, more = ''): string =>
  `{"resourceType":"Patient","id":"${id}"${more},"x":"${`${id} `.repeat(bytes / (id.length + 1))}"}`

t.test('whole answers that go at once: each gets its own, to the last byte', async (t) => {
  const LINK = '"managingOrganization":{"reference":"'
  let upstreamUrl = ''
  const gateway = await startGateway({
    handler: (request, answer) => {
      const id = request.target.split('/').at(-1) ?? ''
      const isChanged = id.endsWith('changed')
      const more = isChanged ? `,${LINK}${upstreamUrl}/Organization/1"}` : ''
      const body = Buffer.from(patientOf(id, parseInt(id), more))
      answer.writeHead(200, { 'content-type': 'application/fhir+json' })
      // In one piece, and in several.
      if (id.endsWith('torn')) answer.write(body.subarray(0, body.length / 2))
      answer.end(id.endsWith('torn') ? body.subarray(body.length / 2) : body)
    },
  })
  t.teardown(() => gateway.close())
  upstreamUrl = gateway.upstream.url
  const token = await gateway.token({
    scope: 'user/Patient.r',
    fhirUser: 'Practitioner/d1',
    purpose_of_use: 'TREAT',
  })
  const sizes = [1_000, 15_000, 16_500, 30_000, 60_000, 64_900, 130_000, 200_000]
  for (let round = 0; round < 4; round++) {
    await Promise.all(
      sizes.flatMap((size) =>
        ['changed', 'same', 'torn'].map(async (what) => {
          const id = `${size}-${what}`
          const answer = await fetch(`${gateway.url}/Patient/${id}`, {
            headers: { authorization: `Bearer ${token}` },
          })
          const more = what === 'changed' ? `,${LINK}${PUBLIC_URL}/Organization/1"}` : ''
          t.equal(await answer.text(), patientOf(id, size, more), id)
        }),
      ),
    )
  }
})

t.test(
  'large answers that cannot be cut and go at once: each gets its own (pitfalls §1)',
  async (t) => {
    const gateway = await startGateway({
      handler: (request, answer) => {
        const id = /patient=([^&]*)/.exec(request.target)?.[1] ?? ''
        const filled = observation('o', id, `,"x":"${'x'.repeat(3_000)}"`)
        const entries = Array.from({ length: 100 }, () => `{"resource":${filled}}`).join()
        const body = `{${HEAD},"\\u0065ntry":[${entries}]}`
        answer.writeHead(200, { 'content-type': 'application/fhir+json' })
        answer.write(body.slice(0, 100_000))
        globalThis.setImmediate(() => answer.end(body.slice(100_000)))
      },
    })
    t.teardown(() => gateway.close())
    const token = await gateway.token({
      scope: 'user/*.rs',
      fhirUser: 'Practitioner/d1',
      purpose_of_use: 'TREAT',
    })
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        Array.from({ length: 24 }, async (_, n) => {
          const answer = await fetch(`${gateway.url}/Observation?patient=q${n}x`, {
            headers: { authorization: `Bearer ${token}` },
          })
          const named = [...(await answer.text()).matchAll(/Patient\/(\w+)/g)].map(([, id]) => id)
          t.strictSame([...new Set(named)], [`q${n}x`])
          t.equal(named.length, 100)
        }),
      )
    }
  },
)

t.test('what is forgotten is gone at once, and nothing else goes with it', async (t) => {
  const kept = Buffer.alloc(40_000, 'k')
  const body = Buffer.alloc(40_000, 'b')
  forget(body, kept)
  t.equal(body.length, 0)
  t.ok(kept.equals(Buffer.alloc(40_000, 'k')))
  const part = kept.subarray(0, 30_000)
  forget(kept, part)
  t.equal(part.length, 30_000, 'what leaves is a part of what came')
  forget(kept, undefined)
  t.equal(kept.length, 40_000, 'nothing was made of it')
  const memory = new ArrayBuffer(100_000)
  const beside = Buffer.from(memory, 50_000, 50_000)
  forget(Buffer.from(memory, 0, 50_000), kept)
  t.equal(beside.length, 50_000, 'it shares its memory')
  const { poolSize } = Buffer
  t.teardown(() => (Buffer.poolSize = poolSize))
  Buffer.poolSize = 1_000_000
  const [small, other] = [Buffer.allocUnsafe(400_000), Buffer.allocUnsafe(400_000).fill('c')]
  t.equal(small.buffer, other.buffer)
  forget(small, kept)
  t.equal(other.length, 400_000, 'node shares it, however much that is')
})

/** Chunks as undici hands them over: several in one memory, or one in its own; some have no bytes. */
function* handedOver(bytes: Buffer, sizes: readonly number[]): Generator<Buffer> {
  for (let at = 0, n = 0; at < bytes.length; at += READ) {
    const memory = Buffer.from(new Uint8Array(bytes.subarray(at, at + READ)).buffer)
    for (let from = 0; from < memory.length; n++) {
      const size = sizes[n % sizes.length]!
      yield memory.subarray(from, from + size)
      if (n % 3 === 1) yield Buffer.of()
      from += size
    }
  }
}
const READ = 65_536

t.test('chunks are given back once the next is there, and none before its time', async (t) => {
  const source = entries()
  const bytes = Buffer.from(`{${HEAD},"entry":[${batch(source, 700_000)}]}`)
  const whole = await send(bytes)
  let gone = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1_000, max: READ }), { minLength: 1, maxLength: 6 }),
      async (sizes) => {
        const given: Buffer[] = []
        const body = async function* (): AsyncGenerator<Buffer> {
          for (const chunk of handedOver(bytes, sizes)) {
            if (chunk.length > 0) given.push(chunk)
            yield chunk
          }
        }
        const left = await send(body())
        gone += given.filter(({ length }) => length === 0).length
        // What shares its memory with the last is still there.
        const isLastThere = given.at(-1)?.length !== 0
        return isLastThere && !left.refused && entryText(left.text) === entryText(whole.text)
      },
    ),
    { numRuns: 60 },
  )
  t.ok(gone > 20, `${gone} chunks are gone`)
})

/** A Bundle's entries as they stand, without the frame around them. */
function entryText(text: string): string {
  const end = text.lastIndexOf('],"link"')
  return text.slice(text.indexOf('"entry"'), end < 0 ? text.lastIndexOf(']') : end)
}

t.test('a chunk that is gone before it is read is no chunk without bytes', async (t) => {
  const text = bundle(Array.from({ length: 400 }, (_, n) => own(`o${n}`)).join(','))
  const bytes = Buffer.from(text)
  const at = [200, 300].map((n) => bytes.indexOf(`{"resource":${observation(`o${n}`)}`))
  const chunks = [bytes.subarray(0, at[0]), bytes.subarray(...at), bytes.subarray(at[1])]
  const lost = chunks.map((chunk) => Buffer.from(new Uint8Array(chunk).buffer))
  t.equal(idsOf(Buffer.concat([lost[0]!, lost[2]!]).toString()).length, 300, 'would be a Bundle')
  lost[1]!.buffer.transfer(0)
  async function* body(): AsyncGenerator<Buffer> {
    yield* lost
  }
  t.equal((await send(body())).refused, true)
  const [first = Buffer.of(), , last = Buffer.of()] = chunks
  async function* withNone(): AsyncGenerator<Buffer> {
    yield* [Buffer.of(), first, Buffer.of(), Buffer.of(), last, Buffer.of()]
  }
  t.equal(idsOf((await send(withNone())).text).length, 300, 'what never had any is nothing')
  // Of 1024 bytes each, so that slices end where entries do: what is left would be a Bundle.
  const even = (n: number): string => {
    const [id, filling] = [String(n).padStart(6, '0'), ',"valueString":""']
    const left = 1_024 - 1 - own(id, filling).length
    return `,${own(id, filling.replace('""', `"${'x'.repeat(left)}"`))}`
  }
  const chunk = Buffer.from(Array.from({ length: 1_024 }, (_, n) => even(n)).join(''))
  t.equal(chunk.length, 1_048_576)
  async function* lostMeanwhile(): AsyncGenerator<Buffer> {
    yield Buffer.from(`{${HEAD},"entry":[${own('a')}`)
    yield chunk
    yield Buffer.from(`,${own('z')}]}`)
  }
  const { answer } = await release(permit, { status: 200, headers: {}, body: lostMeanwhile() })
  const pieces = (answer.body as AsyncIterable<Buffer>)[Symbol.asyncIterator]()
  t.match(String((await pieces.next()).value), '"id":"000001"', 'some of it has left')
  chunk.buffer.transfer(0)
  await t.rejects(pieces.next(), { message: 'upstream-unreadable' })
})

t.test(
  'streams that go at once, quick and slow: each gets its own, to the last byte',
  async (t) => {
    const textOf = (id: string): string =>
      bundle(
        Array.from({ length: 2_000 }, (_, n) =>
          own(`${id}n${n}`, `,"note":[{"text":"${id} ${'x'.repeat(n % 700)}"}]`),
        ).join(),
      )
    const gateway = await startGateway({
      handler: (request, answer) => {
        const id = /code=(\w+)/.exec(request.target)?.[1] ?? ''
        const body = Buffer.from(textOf(id))
        answer.writeHead(200, { 'content-type': 'application/fhir+json' })
        // Coded in chunks of many sizes, so that one read of the socket has several.
        let size = id.length * 977
        for (let at = 0; at < body.length; at += size, size = (size * 31) % 90_001) {
          answer.write(body.subarray(at, at + size))
        }
        answer.end()
      },
    })
    t.teardown(() => gateway.close())
    const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
    const headers = { authorization: `Bearer ${token}` }
    for (let round = 0; round < 3; round++) {
      await Promise.all(
        Array.from({ length: 10 }, async (_, n) => {
          const id = 'abcdefghij'.slice(n)
          const answer = await fetch(`${gateway.url}/Observation?code=${id}`, { headers })
          const decoder = new TextDecoder()
          let text = ''
          for await (const piece of answer.body ?? []) {
            text += decoder.decode(piece as Uint8Array, { stream: true })
            if (n % 3 === 0) await setTimeout(2)
          }
          t.equal(entryText(text), entryText(textOf(id)), id)
        }),
      )
    }
  },
)

t.test('the first byte leaves before the last one is there', async (t) => {
  const { gateway, begin, source } = await setUp()
  t.teardown(() => gateway.close())
  // Upstream says no more until the client has something: whoever waits for all waits forever.
  const [answer, upstream] = await begin('/Observation')
  const { first, all } = read(answer)
  t.match(await first, '"entry":[{"resource"')
  upstream.end(`,${batch(source, 100_000)}]}`)
  const { text, isWhole } = await all
  t.ok(isWhole)
  const ids = idsOf(text)
  const expected = ids.map((_, i) => `o${Math.floor(i / 6) * 7 + [0, 1, 2, 4, 5, 6][i % 6]!}`)
  t.same(ids, expected, 'every entry of its own, in order')
  t.ok(ids.length > 1_000)
})

t.test('what cannot be read cuts the connection, and no more leaves', async (t) => {
  const { gateway, begin, audit } = await setUp()
  t.teardown(() => gateway.close())
  const [answer, upstream] = await begin('/Observation')
  const { first, all } = read(answer)
  await first
  upstream.end(`,{"x":1 ${foreign}},${own('later')}]}`)
  const { text, isWhole } = await all
  t.notOk(isWhole, 'half an answer does not look like a whole one')
  t.notMatch(text, CANARY)
  t.notMatch(text, 'later')
  t.match(await audit(), 'upstream-unreadable')
})

t.test('what breaks before anybody reads it is refused, and the process stays', async (t) => {
  const gateway = await startGateway({
    config: { upstream: { bufferBytes: 1_000 } },
    handler: (_request, _response, { socket }) => {
      // In one piece: past what is held as a whole, and a length that is none right behind it.
      const piece = `{${HEAD},"entry":[${own(CANARY, `,"note":"${'x'.repeat(2_000)}"`)},`
      socket.end(
        'HTTP/1.1 200 OK\r\ncontent-type: application/fhir+json\r\ntransfer-encoding: chunked\r\n\r\n' +
          `${piece.length.toString(16)}\r\n${piece}\r\nno length\r\n`,
      )
    },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const headers = { authorization: `Bearer ${token}` }
  for (const path of ['/Observation', '/Observation/o1']) {
    const answer = await fetch(`${gateway.url}${path}`, { headers })
    t.equal(answer.status, 502)
    const text = await answer.text()
    t.match(text, '"code":"upstream-unreadable"')
    t.notMatch(text, CANARY)
  }
  const ended = gateway.log.filter((line) => line.includes('"reason":"upstream-unreadable"'))
  t.equal(ended.length, 2)
  for (const line of ended) t.match(line, '"status":502', 'what was answered, not what began')

  const pool = createUpstreamPool(
    configSchema.parse({
      ...config,
      upstream: { url: `http://${gateway.upstream.host}/base`, bufferBytes: 1_000 },
    }),
    {
      credentials: { authorization: () => undefined, rejected: () => undefined },
      log: {
        debug: () => undefined,
        info: () => undefined,
        warn: () => undefined,
        error: () => undefined,
      },
    },
  )
  t.teardown(() => pool.close())
  const signal = new AbortController().signal
  const asked = { method: 'GET', path: '/Observation', query: '', headers: {}, signal } as const
  const { body } = await pool.request(asked)
  if (Buffer.isBuffer(body)) throw new Error('held as a whole')
  await setTimeout(100)
  await t.rejects(body[Symbol.asyncIterator]().next(), { message: 'upstream-unreadable' })
})

t.test('a client that has enough cancels upstream', async (t) => {
  const { gateway, begin, audit } = await setUp()
  t.teardown(() => gateway.close())
  const [answer, upstream] = await begin('/Observation')
  await read(answer).first
  const closed = once(upstream, 'close')
  answer.destroy()
  await closed
  t.notOk(upstream.writableFinished, 'before its end')
  t.match(await audit(), 'AuditEvent', 'and is recorded')
})

/** Sends until nobody takes any more; answers how many megabytes that were, `most` at most. */
async function sendUntilStalled(
  upstream: ServerResponse,
  source: ReturnType<typeof entries>,
  most: number,
): Promise<number> {
  const piece = `,${batch(source, 1_000_000)}`
  const stalled = Symbol('stalled')
  for (let sent = 1; sent <= most; sent++) {
    if (upstream.write(piece)) continue
    if ((await Promise.race([once(upstream, 'drain'), setTimeout(500, stalled)])) === stalled)
      return sent
  }
  return most
}

t.test('a client that does not read keeps upstream from sending', async (t) => {
  const { gateway, begin, source } = await setUp()
  t.teardown(() => gateway.close())
  const [answer, upstream] = await begin('/Observation')
  answer.pause()
  const sent = await sendUntilStalled(upstream, source, 100)
  t.ok(sent < 100, `${sent} MB in all buffers between upstream and client`)
  upstream.end(']}')
  const { text, isWhole } = await read(answer).all
  t.ok(isWhole && idsOf(text).length > 1_000, 'and all of it arrives once it is read')
})

t.test('a client that does not read and then goes away leaves nothing behind', async (t) => {
  const { gateway, begin, audit, source } = await setUp()
  t.teardown(() => gateway.close())
  const [answer, upstream] = await begin('/Observation')
  answer.pause()
  t.ok((await sendUntilStalled(upstream, source, 100)) < 100)
  const closed = once(upstream, 'close')
  answer.destroy()
  await closed
  t.match(await audit(), '"aborted"', 'it is recorded as what it was')
  t.match(await gateway.metrics(), /^fhirewall_exchanges_under_way(?:\{.*\})? 0$/m)
})

t.test('HEAD judges to the end, and shows nothing', async (t) => {
  const head: Interaction = { ...search, method: 'HEAD' }
  const asked = Permit.issue({ ...permit.fields, interaction: head, requested: head })
  const good = Buffer.from(bundle(`${own('a')},${own('b')}`))
  const { answer, tally } = await release(asked, {
    status: 200,
    headers: {},
    body: chunked(good, 9),
  })
  t.equal(answer.body, undefined)
  t.equal(tally.released, 2)
  const bad = Buffer.from(bundle(`${own('a')},${own('b')},`))
  await t.rejects(release(asked, { status: 200, headers: {}, body: chunked(bad, 9) }), {
    message: 'upstream-unreadable',
  })
})

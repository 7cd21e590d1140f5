import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// REST-11: pages tell nothing of what is withheld. Whoever may not see some of the matches is answered, page
// by page and byte by byte, as if upstream did not hold them.

type Resource = Readonly<Record<string, unknown>>
const RESTRICTED = {
  security: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'R' }],
}
const result = (n: number, isHidden: boolean): Resource => ({
  ...{ resourceType: 'Observation', id: `o${n}`, status: 'final', code: { text: 'x' } },
  ...(isHidden ? { meta: RESTRICTED } : {}),
  ...{ subject: { reference: 'Patient/p1' }, performer: [{ reference: `Practitioner/d${n}` }] },
})

/** How a server pages: the size it chooses, the largest it allows, and how it leads on. */
type Paging = {
  readonly own: number
  readonly cap: number
  readonly by: 'search' | 'offset'
  /** Whether it says that there is a last page, and one before. */
  readonly tellsMore: boolean
  readonly space: string
}

/** A server that searches nothing and pages. */
const paging = (held: readonly Resource[], { own, cap, by, tellsMore, space }: Paging): Handler =>
  function answer(request, response, raw) {
    const base = `http://${String(request.headers.host)}/base`
    const asked = new URLSearchParams(request.target.split('?')[1] ?? request.body.toString())
    const count = Math.min(cap, Number(asked.get('_count') ?? own))
    const offset = Number(asked.get('_offset') ?? 0)
    const at = (n: number): string => {
      if (by === 'search') return `${base}?_getpages=abc&_offset=${n}&_count=${count}`
      const query = new URLSearchParams([...asked, ['_count', String(count)]])
      query.set('_offset', String(n))
      return `${base}/Observation?${query.toString()}`
    }
    const page = held.slice(offset, offset + count)
    const brought = asked.has('_include') || by === 'search' ? page : []
    const entry = [
      ...page.map((resource) => ({ resource, search: { mode: 'match' } })),
      ...brought.map(({ id }) => ({
        resource: { resourceType: 'Practitioner', id: String(id).replace('o', 'd') },
        search: { mode: 'include' },
      })),
    ]
    const link = [{ relation: 'self', url: at(offset) }]
    if (offset + count < held.length) link.push({ relation: 'next', url: at(offset + count) })
    if (tellsMore && offset > 0) link.push({ relation: 'previous', url: at(0) })
    if (tellsMore && count > 0)
      link.push({ relation: 'last', url: at(held.length - (held.length % count)) })
    const bundle = { resourceType: 'Bundle', id: 'b', type: 'searchset', total: held.length, link }
    json(JSON.stringify(entry.length > 0 ? { ...bundle, entry } : bundle, null, space))(
      request,
      response,
      raw,
    )
  }

const MOST = 10
const shapes = fc.record({
  hidden: fc.array(fc.boolean(), { maxLength: MOST }),
  count: fc.option(fc.integer({ min: 0, max: 4 })),
  own: fc.integer({ min: 1, max: 4 }),
  cap: fc.integer({ min: 1, max: 5 }),
  by: fc.constantFrom('search' as const, 'offset' as const),
  tellsMore: fc.boolean(),
  space: fc.constantFrom('', ' '),
  includes: fc.boolean(),
  byPost: fc.boolean(),
})

for (const bufferBytes of [262_144, 700]) {
  t.test(`pages are those of what may be seen, ${bufferBytes} bytes at once`, async (t) => {
    const gateway = await startGateway({ config: { upstream: { bufferBytes } } })
    t.teardown(() => gateway.close())
    const claims = { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }
    const authorization = `Bearer ${await gateway.token(claims)}`
    /** All that is told to who follows every link; of sealed addresses their length. */
    async function pagesOf(query: string, byPost: boolean): Promise<string[]> {
      const told: string[] = []
      let target: string | undefined = `${gateway.url}/Observation${query && '?'}${query}`
      while (target !== undefined && told.length < 3 * MOST) {
        const isForm = byPost && told.length === 0
        const answer: Response = isForm
          ? await fetch(`${gateway.url}/Observation/_search`, {
              ...{ method: 'POST', body: new URLSearchParams(query) },
              headers: { authorization },
            })
          : await fetch(target, { headers: { authorization } })
        const text = await answer.text()
        const [, next] =
          /"next","url":"http:\/\/127\.0\.0\.1:9\/fhir(\?_cursor=[^"]*)"/.exec(text) ?? []
        told.push(`${answer.status} ${text.replace(next ?? '-', String(next?.length))}`)
        target = next && gateway.url + next
      }
      return told
    }
    await fc.assert(
      fc.asyncProperty(shapes, async ({ hidden, count, includes, byPost, ...how }) => {
        const query = new URLSearchParams({
          ...(count === null ? {} : { _count: String(count) }),
          ...(includes ? { _include: 'Observation:performer' } : {}),
        }).toString()
        const all = hidden.map((isHidden, n) => result(n, isHidden))
        const seen = all.filter((_, n) => hidden[n] === false)
        gateway.upstream.answerWith(paging(all, how))
        const told = await pagesOf(query, byPost)
        gateway.upstream.answerWith(paging(seen, how))
        assert.deepEqual(told, await pagesOf(query, byPost))
        // And nothing of it is lost, or told twice.
        const ids = told.flatMap((text) =>
          [...text.matchAll(/"id": ?"(o\d+)"/g)].map(([, id]) => id),
        )
        if (count !== 0)
          assert.deepEqual(
            ids,
            seen.map(({ id }) => id),
          )
      }),
      { numRuns: Number(process.env['FHIREWALL_TEST_DOCUMENTS'] ?? 20) },
    )
  })
}

t.test('a chain finds what may be seen, on whatever page it is (SCOPE-10)', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const claims = { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }
  const authorization = `Bearer ${await gateway.token(claims)}`
  const how = { own: 2, cap: 2, by: 'search', tellsMore: false, space: '' } as const
  const asked: string[] = []
  for (const hidden of [
    [true, true, true, false, true, false, true, true, true],
    [false, false],
  ]) {
    let n = 0
    const all = hidden.map((isHidden) => result(isHidden ? 100 + n : n++, isHidden))
    gateway.upstream.answerWith(paging(all, how))
    const target = `${gateway.url}/Observation?has-member:Observation.status=final&_count=0`
    t.equal((await fetch(target, { headers: { authorization } })).status, 200)
    asked.push(gateway.upstream.received.at(-1)?.target ?? '')
  }
  t.match(asked[0], /has-member=Observation%2Fo0,Observation%2Fo1&/)
  t.equal(asked[0], asked[1])
})

t.test('who has nothing left to pay with is told no more (RATE-1)', async (t) => {
  const limits = { principal: { burst: 3, perSecond: 0.001 } }
  const gateway = await startGateway({ config: { limits } })
  t.teardown(() => gateway.close())
  const claims = { scope: 'user/*.rs', fhirUser: 'Practitioner/d1' }
  const authorization = `Bearer ${await gateway.token(claims)}`
  const how = { own: 2, cap: 2, by: 'search', tellsMore: false, space: '' } as const
  gateway.upstream.answerWith(paging([result(0, true), result(1, true)], how))
  const target = `${gateway.url}/Observation?_count=1`
  t.notMatch(await (await fetch(target, { headers: { authorization } })).text(), '"next"')
  t.equal((await fetch(target, { headers: { authorization } })).status, 429)
})

t.test('what is no match takes no place of one, however like it is (REST-11)', async (t) => {
  const modes = ['match', 'match', 'outcome', 'outcome', 'match', 'match']
  const entry = modes.map((mode, n) => ({ resource: result(n, false), search: { mode } }))
  const gateway = await startGateway({
    handler: json(JSON.stringify({ resourceType: 'Bundle', type: 'searchset', entry })),
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })
  const headers = { authorization: `Bearer ${token}` }
  const answer = await fetch(`${gateway.url}/Observation?_count=3`, { headers })
  t.strictSame(
    (await answer.text()).match(/"id":"o\d"/g),
    [0, 1, 2, 3, 4].map((n) => `"id":"o${n}"`),
  )
})

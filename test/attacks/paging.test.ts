import t from 'tap'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// Page links (REST-9; pitfalls §1: `_getpages` replayed by another, links to other hosts).
type Link = { relation: string; url: string }
const KEY = Buffer.alloc(32, 7).toString('base64')

const page = (links: readonly Link[], more = '', entries = 1): string => {
  const entry = Array.from(
    { length: entries },
    (_, n) =>
      `{"resource":{"resourceType":"Observation","id":"o${n}","subject":{"reference":"Patient/p1"},"note":[{"text":"${more}"}]}}`,
  )
  // A page from which something is withheld is filled (pages.test.ts): here only last ones are.
  const isLast = links.every(({ relation }) => relation !== 'next')
  const other = `{"resource":{"resourceType":"Observation","id":"x","subject":{"reference":"Patient/p2"},"note":[{"text":"CANARY"}]}}`
  return `{"resourceType":"Bundle","type":"searchset","total":99,"link":${JSON.stringify(links)},"entry":[${[...entry, ...(isLast ? [other] : [])].join()}]}`
}

async function setUp(config: Record<string, unknown> = {}) {
  const gateway = await startGateway({ config: { paging: { keys: KEY }, ...config } })
  const claims = { scope: 'patient/*.rs', patient: 'p1', sub: 'anna', client_id: 'app' }
  const get = async (url: string, change: Record<string, unknown> = {}) => {
    const token = await gateway.token({ ...claims, ...change })
    gateway.upstream.received.length = 0
    const target = url.replace('http://127.0.0.1:9/fhir', gateway.url)
    const answer = await fetch(target, { headers: { authorization: `Bearer ${token}` } })
    const text = await answer.text()
    t.notMatch(text, /CANARY/, 'nothing of p2, on whatever page')
    return { status: answer.status, text }
  }
  const linksOf = ({ text }: { text: string }) =>
    new Map((JSON.parse(text) as { link: Link[] }).link.map(({ relation, url }) => [relation, url]))
  const answer = (links: readonly Link[], more?: string, entries?: number): void => {
    gateway.upstream.answerWith(json(page(links, more, entries)))
  }
  const next = `${gateway.upstream.url}?_getpages=abc&_getpagesoffset=10&_count=10`
  return { gateway, get, linksOf, answer, next }
}

t.test('a page link is followed by whom it was shown to, and by nobody else', async (t) => {
  const { gateway, get, linksOf, answer, next } = await setUp()
  t.teardown(() => gateway.close())
  answer([
    { relation: 'self', url: `${gateway.upstream.url}/Observation?secret=1` },
    { relation: 'next', url: next },
  ])
  const first = await get(`${gateway.url}/Observation?code=a&_elements=id&_count=1`)
  const link = linksOf(first).get('next') ?? ''
  t.match(link, /^http:\/\/127\.0\.0\.1:9\/fhir\?_cursor=[A-Za-z0-9_-]+$/)
  t.notMatch(first.text, /_getpages|secret=1|total/)

  answer([{ relation: 'previous', url: next }], 'second')
  const second = await get(link)
  t.equal(second.status, 200)
  t.strictSame(
    gateway.upstream.received.map(({ target }) => target),
    ['/base?_getpages=abc&_getpagesoffset=10&_count=10'],
    'upstream’s own address, unchanged',
  )
  t.match(linksOf(second).get('self'), /\/Observation\?code=a/, 'it is a page of what was asked')
  t.notOk(linksOf(second).has('previous'), 'pages go forward alone (REST-11)')
  t.notMatch(second.text, /second/, 'cut down to the elements that were asked for')

  for (const [who, change] of [
    ['another subject', { sub: 'berta' }],
    ['another client', { client_id: 'other' }],
    ['another patient', { patient: 'p2' }],
    ['no end-user', { scope: 'system/*.rs', sub: 'app', patient: undefined }],
  ] as const) {
    const { status } = await get(link, change)
    t.equal(status, 404, who)
    t.strictSame(gateway.upstream.received, [], `${who}: upstream sees nothing`)
  }
  const { status } = await get(link, { scope: 'patient/Condition.rs' })
  t.equal(status, 403, 'the right to the search is asked again')

  for (const target of [
    `${link}x`,
    link.slice(0, -1),
    `${link}&_count=5`,
    `${link}&_cursor=a`,
    `${gateway.url}?_getpages=abc`,
    `${gateway.url}?_getpages=abc&_getpagesoffset=10`,
    `${gateway.url}?_cursor=${Buffer.from('{"target":"/Patient"}').toString('base64url')}`,
    `${gateway.url}/Observation?_cursor=a`,
  ]) {
    const { status } = await get(target)
    t.ok(status >= 400 && status < 500, `${target.slice(-60)}: ${status}`)
    t.strictSame(gateway.upstream.received, [])
  }
})

t.test('no link leads to another host, or out of the base', async (t) => {
  const { gateway, get, linksOf, answer } = await setUp()
  t.teardown(() => gateway.close())
  const { url } = gateway.upstream
  for (const hostile of [
    'http://169.254.169.254/latest/meta-data',
    `${url}.evil.example/x?y=1`,
    `${url}evil?x=1`,
    url.replace('http://', 'http://evil@'),
    `${url}/../admin?x=1`,
    `${url}/%2e%2e/admin?x=1`,
    `${url}/a//b?x=1`,
    `${url}/a\\b?x=1`,
    `${url}?x=1#y`,
    `${url}?x= 1`,
    '//evil.example/fhir?x=1',
    '/base?x=1',
    'file:///etc/passwd',
    '',
  ]) {
    answer([{ relation: 'next', url: hostile }])
    const links = linksOf(await get(`${gateway.url}/Observation`))
    t.strictSame([...links.keys()], ['self'], JSON.stringify(hostile))
  }
})

t.test('links of a streamed answer, before its entries and after them', async (t) => {
  const { gateway, get, linksOf, next } = await setUp({ upstream: { bufferBytes: 2000 } })
  t.teardown(() => gateway.close())
  const text = page([{ relation: 'next', url: next }], 'x'.repeat(200), 100)
  const link = /"link":\[.*?\],/.exec(text)?.[0] ?? ''
  for (const body of [text, text.replace(link, '').replace(/}$/, `,${link.slice(0, -1)}}`)]) {
    const further = json(page([], '', 2))
    gateway.upstream.answerWith((request, ...rest) => {
      ;(request.target.includes('_getpages') ? further : json(body))(request, ...rest)
    })
    const found = await get(`${gateway.url}/Observation`)
    t.equal(found.status, 200)
    t.strictSame([...linksOf(found).keys()], ['self', 'next'])
    t.equal((JSON.parse(found.text) as { entry: unknown[] }).entry.length, 100)
  }
})

t.test('a link lasts as long as it is said to, and over a change of replica', async (t) => {
  const { gateway, get, linksOf, answer, next } = await setUp()
  const other = await setUp({
    paging: { keys: `${Buffer.alloc(32, 9).toString('base64')},${KEY}` },
  })
  const brief = await setUp({ paging: { keys: KEY, lifetimeSeconds: 0.000001 } })
  t.teardown(async () => {
    for (const one of [gateway, other.gateway, brief.gateway]) await one.close()
  })
  answer([{ relation: 'next', url: next }])
  const link = linksOf(await get(`${gateway.url}/Observation?_count=1`)).get('next') ?? ''
  other.answer([])
  // Another issuer is another principal: replicas share theirs, these two do not.
  t.equal((await other.get(link)).status, 404)
  brief.answer([{ relation: 'next', url: brief.next }])
  const gone = brief.linksOf(await brief.get(`${brief.gateway.url}/Observation`)).get('next') ?? ''
  const late = await brief.get(gone)
  t.equal(late.status, 404)
  t.match(late.text, /page-gone/)
})

t.test('a page of a search by POST is read, and its form is not sent again', async (t) => {
  const { gateway, get, linksOf, answer, next } = await setUp()
  t.teardown(() => gateway.close())
  answer([{ relation: 'next', url: next }])
  const token = await gateway.token({
    ...{ scope: 'patient/*.rs', patient: 'p1', sub: 'anna', client_id: 'app' },
  })
  const posted = await fetch(`${gateway.url}/Observation/_search`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/x-www-form-urlencoded',
    },
    body: 'code=a&_count=1',
  })
  const link = linksOf({ text: await posted.text() }).get('next') ?? ''
  t.equal((await get(link)).status, 200)
  const [page] = gateway.upstream.received
  t.equal(`${page?.method} ${page?.target}`, 'GET /base?_getpages=abc&_getpagesoffset=10&_count=10')
  t.equal(page?.body.length, 0)
})

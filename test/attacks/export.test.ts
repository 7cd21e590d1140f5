import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json } from '../support/upstream.ts'

// Pitfall 18: a kick-off that is guarded while the status, the files or the manifest are not. A bulk
// export is bound to its owner from the first answer to the last line (REST-8, REST-21, MASK-8).
const backend = {
  sub: 'app-1',
  scope: 'system/*.rs',
  roles: ['bulk-export'],
}
const CANARY = 'CANARY'

type Options = { claims?: object; method?: string; headers?: Record<string, string> }

async function setUp(config: Record<string, unknown> = {}) {
  const gateway = await startGateway({ config })
  const ask = async (target: string, { claims = backend, method, headers }: Options = {}) => {
    gateway.upstream.received.length = 0
    const answer = await fetch(gateway.url + target, {
      method: method ?? 'GET',
      headers: { authorization: `Bearer ${await gateway.token({ ...claims })}`, ...headers },
    })
    const text = await answer.text().catch(() => 'cut off')
    return { status: answer.status, headers: answer.headers, text, saw: gateway.upstream.received }
  }
  const below = (url: string | null | undefined): string => {
    t.ok(url?.startsWith(PUBLIC_URL), `${String(url)} is ours`)
    return (url ?? '').slice(PUBLIC_URL.length)
  }
  const began: Handler = (_request, response) => {
    response.writeHead(202, {
      'content-location': `${gateway.upstream.url}/$export-poll-status?_jobId=job-1`,
      'x-canary': CANARY,
    })
    response.end(CANARY)
  }
  /** The address of a job that was begun. */
  const begin = async (target = '/$export', claims: object = backend): Promise<string> => {
    gateway.upstream.answerWith(began)
    const { headers } = await ask(target, { claims })
    return below(headers.get('content-location'))
  }
  const manifest = (output: unknown, more: object = {}): Handler =>
    json(
      JSON.stringify({
        transactionTime: '2026-01-01T00:00:00.000Z',
        request: `${gateway.upstream.url}/$export?${CANARY}`,
        requiresAccessToken: false,
        output,
        ...more,
        extension: { note: CANARY },
      }),
      200,
      { 'content-type': 'application/json' },
    )
  /** The addresses of the files of a job. */
  const files = async (status: string, output: unknown, more = {}, claims: object = backend) => {
    gateway.upstream.answerWith(manifest(output, more))
    const { text } = await ask(status, { claims })
    t.notMatch(text, CANARY)
    return JSON.parse(text) as Record<
      'output' | 'deleted' | 'error',
      { type: string; url: string }[]
    > & {
      request: string
      requiresAccessToken: boolean
      link?: { relation: string; url: string }[]
    }
  }
  return { gateway, ask, below, begin, began, manifest, files }
}

t.test('who may begin an export, and of what', async (t) => {
  const { gateway, ask, began } = await setUp()
  t.teardown(() => gateway.close())
  const user = {
    scope: 'system/*.rs user/*.rs',
    fhirUser: 'Practitioner/d1',
    roles: ['bulk-export'],
  }
  const patient = { scope: 'patient/*.rs', patient: 'p1', roles: ['bulk-export'] }
  const narrow = { ...backend, scope: 'system/Observation.rs system/Patient.rs' }
  const ndjson = '_outputFormat=application%2Ffhir%2Bndjson'
  const table: readonly (readonly [
    who: object,
    target: string,
    status: number,
    upstream?: string,
  ])[] = [
    [backend, '/$export', 202, `/$export?${ndjson}`],
    [backend, '/Patient/$export', 202, `/Patient/$export?${ndjson}`],
    [backend, '/Group/g1/$export', 202, `/Group/g1/$export?${ndjson}`],
    [backend, '/$export?_type=Patient,Device', 202, `/$export?${ndjson}&_type=Patient,Device`],
    [backend, '/$export?_outputFormat=ndjson', 202, `/$export?${ndjson}`],
    [
      backend,
      '/$export?_since=2026-01-01T00:00:00%2B01:00',
      202,
      `/$export?${ndjson}&_since=2026-01-01T00%3A00%3A00%2B01%3A00`,
    ],
    [narrow, '/$export', 202, `/$export?${ndjson}&_type=Observation,Patient`],
    [narrow, '/$export?_type=Observation', 202, `/$export?${ndjson}&_type=Observation`],
    // BKS-1: what is asked for explicitly and out of scope fails the whole.
    [narrow, '/$export?_type=Observation,Condition', 403],
    [narrow, '/Group/g1/$export', 403],
    [{ ...backend, roles: [] }, '/$export', 403],
    [{ ...backend, scope: 'system/*.s' }, '/$export', 403],
    [{ ...backend, scope: 'system/*.cud' }, '/$export', 403],
    [user, '/$export', 403],
    [patient, '/$export', 403],
    [patient, '/Patient/$export', 403],
    [backend, '/Patient/p1/$export', 403],
    [backend, '/Observation/$export', 403],
    [backend, '/$export?_type=AuditEvent', 403],
    [backend, '/$export?_type=Binary', 403],
    [backend, '/$export?_type=Nonsense', 400],
    [backend, '/$export?_typeFilter=Patient%3Fname%3Dx', 400],
    [backend, '/$export?_elements=Patient.name', 400],
    [backend, '/$export?patient=p1', 400],
    [backend, '/$export?_since=yesterday', 400],
    [backend, '/$export?_since=2026-01-01T00:00:00Z&_since=2020-01-01T00:00:00Z', 400],
    [backend, '/$export?_outputFormat=text/csv', 406],
    // Upstream's own addresses are nobody's.
    [backend, '/$export-poll-status?_jobId=job-1', 403],
    [backend, '/$export-status?_job=job-1', 404],
    [backend, '/$export-status', 404],
    [backend, '/$export-file?_file=x', 404],
    [backend, '/Binary/file-1', 403],
  ]
  for (const [claims, target, status, upstream] of table) {
    gateway.upstream.answerWith(began)
    const { saw, text, ...answer } = await ask(target, {
      claims,
      headers: { prefer: 'respond-async', accept: 'application/fhir+json' },
    })
    t.equal(answer.status, status, `${JSON.stringify(claims)} ${target}`)
    t.strictSame(
      saw.map((one) => one.target),
      upstream === undefined ? [] : [`/base${upstream}`],
      target,
    )
    t.notMatch(text, CANARY)
    t.equal(answer.headers.get('x-canary'), null)
    if (upstream !== undefined) t.equal(saw[0]?.headers['prefer'], 'respond-async')
  }
  const { status } = await ask('/$export', { method: 'POST' })
  t.equal(status, 403, 'a kick-off by POST is not offered')
  const { status: other } = await ask('/Patient', { headers: { prefer: 'respond-async' } })
  t.equal(other, 403, 'nothing else is answered later')
})

t.test('a job begins below the base, or not at all', async (t) => {
  const { gateway, ask } = await setUp()
  t.teardown(() => gateway.close())
  for (const [what, status, location] of [
    ['elsewhere', 202, 'https://evil.example/job'],
    ['beside the base', 202, gateway.upstream.url.replace('/base', '/base-two/job')],
    ['up from the base', 202, `${gateway.upstream.url}/../admin`],
    ['nowhere', 202, undefined],
    ['at once', 200, `${gateway.upstream.url}/job`],
  ] as const) {
    gateway.upstream.answerWith((_request, response) => {
      response.writeHead(status, location === undefined ? {} : { 'content-location': location })
      response.end('{"resourceType":"Patient","id":"CANARY"}')
    })
    const answer = await ask('/$export')
    t.equal(answer.status, 502, what)
    t.equal(answer.headers.get('content-location'), null, what)
    t.notMatch(answer.text, CANARY, what)
  }
})

t.test(
  'a manifest that goes on says so, below the base and to its owner (pitfall 18)',
  async (t) => {
    const { gateway, ask, below, begin, files, manifest } = await setUp()
    t.teardown(() => gateway.close())
    const job = await begin('/$export?_type=Patient')
    const file = (name: string) => ({
      type: 'Patient',
      url: `${gateway.upstream.url}/Binary/${name}`,
    })
    const next = { relation: 'next', url: `${gateway.upstream.url}/jobs/1?page=2` }
    const first = await files(job, [file('f1')], {
      link: [{ relation: 'previous', url: `https://evil.example/${CANARY}` }, next],
    })
    t.equal(first.request, `${PUBLIC_URL}/$export?_type=Patient`)
    t.strictSame(
      first.link?.map(({ relation }) => relation),
      ['next'],
    )
    const more = below(first.link?.[0]?.url)
    const last = await files(more, [file('f2')], { link: [] })
    t.strictSame(
      gateway.upstream.received.map(({ target }) => target),
      ['/base/jobs/1?page=2'],
    )
    t.equal(last.output.length, 1)
    t.equal(last.link, undefined)
    const { status, saw } = await ask(more, {
      claims: { ...backend, sub: 'app-2', client_id: 'app-2' },
    })
    t.equal(status, 404, 'another client')
    t.strictSame(saw, [])

    for (const link of [
      [{ relation: 'next', url: 'https://evil.example/jobs/1' }],
      [{ relation: 'next', url: `${gateway.upstream.url}/../jobs/1` }],
      [{ relation: 'next' }],
      { relation: 'next', url: next.url },
      'next',
    ]) {
      gateway.upstream.answerWith(manifest([file('f1')], { link }))
      const answer = await ask(job)
      t.equal(answer.status, 502, JSON.stringify(link))
    }
  },
)

t.test('a job and its files are their owner’s', async (t) => {
  const { gateway, ask, below, begin, files } = await setUp()
  t.teardown(() => gateway.close())
  const job = await begin()

  gateway.upstream.answerWith((_request, response) => {
    response.writeHead(202, { 'retry-after': '7', 'x-progress': CANARY })
    response.end(CANARY)
  })
  const running = await ask(job)
  t.equal(running.status, 202)
  t.equal(running.headers.get('retry-after'), '7')
  t.equal(running.headers.get('x-progress'), null)
  t.equal(running.text, '')
  t.strictSame(
    running.saw.map(({ target }) => target),
    ['/base/$export-poll-status?_jobId=job-1'],
  )

  const file = { type: 'Patient', url: `${gateway.upstream.url}/Binary/f1`, count: 3 }
  const audit = { type: 'AuditEvent', url: `${gateway.upstream.url}/Binary/f2` }
  const found = await files(job, [file, audit], {
    error: [{ type: 'OperationOutcome', url: `${gateway.upstream.url}/Binary/f3` }],
    deleted: [{ type: 'Bundle', url: `${gateway.upstream.url}/Binary/f4` }],
  })
  t.strictSame(
    found.output.map((one) => Object.keys(one)),
    [['type', 'url']],
    'no count, and no type that may not leave',
  )
  t.equal(found.request, `${PUBLIC_URL}/$export`, 'what the owner asked, not where it looked')
  t.equal(found.requiresAccessToken, true)
  const target = below(found.output[0]?.url)
  gateway.upstream.answerWith(
    json('{"resourceType":"Patient","id":"p1"}\n', 200, {
      'content-type': 'application/fhir+ndjson',
    }),
  )
  const own = await ask(target, { headers: { accept: 'application/fhir+ndjson' } })
  t.equal(own.text, '{"resourceType":"Patient","id":"p1"}\n')
  t.equal(own.headers.get('content-type'), 'application/fhir+ndjson')
  t.strictSame(
    own.saw.map((one) => [one.method, one.target, one.headers['accept']]),
    [['GET', '/base/Binary/f1', 'application/fhir+ndjson']],
  )

  const others: readonly (readonly [string, object])[] = [
    ['another client', { ...backend, sub: 'app-2', client_id: 'app-2' }],
    ['the same subject by another client', { ...backend, client_id: 'app-2' }],
    ['a user', { scope: 'user/*.rs system/*.rs', fhirUser: 'Practitioner/d1', sub: 'app-1x' }],
    ['the owner without the role', { ...backend, roles: [] }],
    ['the owner without the scope', { ...backend, scope: 'system/Patient.s' }],
  ]
  for (const [who, claims] of others) {
    for (const [what, address, method] of [
      ['the status', job, 'GET'],
      ['to cancel', job, 'DELETE'],
      ['a file', target, 'GET'],
    ] as const) {
      const { status, saw } = await ask(address, { claims, method })
      t.ok(status === 404 || status === 403, `${who}: ${what} is ${status}`)
      t.strictSame(saw, [], `${who}: ${what}`)
    }
  }
  for (const [what, address] of [
    ['a file as a job', target.replace('$export-file?_file', '$export-status?_job')],
    ['a job as a file', job.replace('$export-status?_job', '$export-file?_file')],
    ['one letter changed', `${target.slice(0, -2)}${target.endsWith('AA') ? 'BB' : 'AA'}`],
    ['as a page', target.replace('/$export-file?_file', '?_cursor')],
    ['with a second', `${target}&_file=x`],
    ['with something else', `${target}&_type=Patient`],
  ] as const) {
    const { status, saw } = await ask(address)
    t.ok(status >= 400 && status < 500, `${what} is ${status}`)
    t.strictSame(saw, [], what)
  }

  gateway.upstream.answerWith((_request, response) => {
    response.writeHead(202)
    response.end(CANARY)
  })
  const cancelled = await ask(job, { method: 'DELETE' })
  t.equal(cancelled.status, 202)
  t.equal(cancelled.text, '')
  t.strictSame(
    cancelled.saw.map((one) => [one.method, one.target]),
    [['DELETE', '/base/$export-poll-status?_jobId=job-1']],
  )
})

t.test('a manifest that cannot be followed through the gateway is none', async (t) => {
  const { gateway, ask, begin, manifest } = await setUp()
  t.teardown(() => gateway.close())
  const job = await begin()
  const up = gateway.upstream.url
  const hostile: readonly (readonly [string, Handler])[] = [
    ['object storage', manifest([{ type: 'Patient', url: 'https://s3.example/CANARY' }])],
    ['beside the base', manifest([{ type: 'Patient', url: `${up}-two/CANARY` }])],
    ['up from the base', manifest([{ type: 'Patient', url: `${up}/../CANARY` }])],
    ['encoded up', manifest([{ type: 'Patient', url: `${up}/%2e%2e/CANARY` }])],
    ['no address', manifest([{ type: 'Patient' }])],
    ['no type', manifest([{ url: `${up}/Binary/CANARY` }])],
    ['no list', manifest({ type: 'Patient' })],
    ['no time', manifest([], { transactionTime: CANARY })],
    ['not JSON', json('CANARY', 200, { 'content-type': 'application/json' })],
    ['HTML', json('<p>CANARY</p>', 200, { 'content-type': 'text/html' })],
    ['nothing', json('', 200, { 'content-type': 'application/json' })],
  ]
  for (const [what, handler] of hostile) {
    gateway.upstream.answerWith(handler)
    const { status, text } = await ask(job)
    t.equal(status, 502, what)
    t.notMatch(text, CANARY, what)
  }
})

t.test('a file is released line by line', async (t) => {
  const { gateway, ask, below, begin, files } = await setUp()
  t.teardown(() => gateway.close())
  const file = (name: string, type = 'Patient') => [
    { type, url: `${gateway.upstream.url}/Binary/${name}` },
  ]
  const found = await files(await begin(), file('f1'), {
    deleted: file('f2', 'Bundle'),
    error: file('f3', 'OperationOutcome'),
  })
  const [output, deleted, error] = [found.output, found.deleted, found.error].map((list) =>
    below(list[0]?.url),
  ) as [string, string, string]
  const lines = (text: string, type = 'application/fhir+ndjson') =>
    json(text, 200, { 'content-type': type })

  const ssn = 'http://hl7.org/fhir/sid/us-ssn'
  const label = (code: string) =>
    `"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"${code}"}]}`
  const observation =
    '{"resourceType":"Observation", "id":"o1","valueQuantity":{"value":1.10},"x":"\\u00e9"}'
  gateway.upstream.answerWith(
    lines(
      [
        observation,
        '',
        `{"resourceType":"Patient","id":"p1","identifier":[{"system":"${ssn}","value":"078-05-1120"}]}`,
        `{"resourceType":"Patient","id":"p2",${label('R')},"language":"${CANARY}"}`,
        `{"resourceType":"AuditEvent","id":"a1","outcomeDesc":"${CANARY}"}`,
        `{"resourceType":"Binary","id":"b1","data":"${CANARY}"}`,
        `{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Patient","id":"${CANARY}"}}]}`,
        '{"resourceType":"Device","id":"d1"}',
      ].join('\r\n'),
    ),
  )
  const { text, status } = await ask(output)
  t.equal(status, 200)
  t.notMatch(text, CANARY)
  t.notMatch(text, '078-05')
  const left = text.split('\n')
  t.equal(left.pop(), '')
  t.equal(left[0], observation, 'byte for byte')
  t.strictSame(
    left.map((line) => (JSON.parse(line) as { id: string }).id),
    ['o1', 'p1', 'd1'],
  )
  t.match(JSON.parse(left[1] ?? ''), { identifier: [{ system: ssn }] })
  // Audit has one record for every patient whose data left.
  const records = (await gateway.audit()).map((record) => JSON.stringify(record))
  t.ok(
    records.some((record) => record.includes('Patient/p1') && record.includes('withheld')),
    'the release is on record',
  )
  t.notMatch(await gateway.auditText(), CANARY)

  // Only what a grant without limits covers is told to be deleted; words of upstream never leave.
  gateway.upstream.answerWith(
    lines(
      JSON.stringify({
        resourceType: 'Bundle',
        type: 'transaction',
        entry: [
          { request: { method: 'DELETE', url: 'Patient/p9' } },
          { request: { method: 'DELETE', url: 'AuditEvent/a9' } },
          { request: { method: 'DELETE', url: `Patient?name=${CANARY}` } },
          { request: { method: 'POST', url: 'Patient/p8' } },
          { resource: { resourceType: 'Patient', id: CANARY } },
        ],
      }),
    ),
  )
  t.strictSame(JSON.parse((await ask(deleted)).text), {
    resourceType: 'Bundle',
    type: 'transaction',
    entry: [{ request: { method: 'DELETE', url: 'Patient/p9' } }],
  })
  gateway.upstream.answerWith(
    lines(
      `{"resourceType":"OperationOutcome","text":{"div":"${CANARY}"},"issue":[{"severity":"error","code":"processing","diagnostics":"${CANARY}"}]}\n`,
    ),
  )
  t.strictSame(JSON.parse((await ask(error)).text), {
    resourceType: 'OperationOutcome',
    issue: [{ severity: 'error', code: 'processing' }],
  })

  const good = '{"resourceType":"Device","id":"d1"}\n'
  for (const [what, body] of [
    ['broken JSON', `{"resourceType":"Device","id":"${CANARY}"`],
    ['two on a line', `{"resourceType":"Device"}{"resourceType":"Patient","id":"${CANARY}"}`],
    ['a name twice', `{"resourceType":"Device","resourceType":"Patient","id":"${CANARY}"}`],
    ['too deep', `{"resourceType":"Device","x":${'['.repeat(99)}"${CANARY}"${']'.repeat(99)}}`],
    ['no UTF-8', `{"resourceType":"Device","id":"\xff${CANARY}"}`],
  ] as const) {
    gateway.upstream.answerWith(lines(Buffer.from(`${body}\n${good}`, 'latin1') as never))
    const early = await ask(output)
    t.equal(early.status, 502, `${what} at once`)
    t.notMatch(early.text, CANARY, what)
    // Far into the file the status has left already: the connection is cut, and nothing follows.
    gateway.upstream.answerWith(
      lines(Buffer.from(`${good.repeat(9000)}${body}\n${good}`, 'latin1') as never),
    )
    const late = await ask(output)
    t.ok(late.status === 502 || late.text === 'cut off', `${what} later`)
    t.notMatch(late.text, CANARY, what)
  }
  for (const type of ['application/fhir+json', 'text/html', 'application/octet-stream']) {
    gateway.upstream.answerWith(lines(`{"resourceType":"Patient","id":"${CANARY}"}\n`, type))
    const { status, text } = await ask(output)
    t.equal(status, 502, type)
    t.notMatch(text, CANARY)
  }
})

t.test('what is deleted is told by no name that a profile hides (MASK-12, REST-21)', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'fhirewall-policies-'))
  const rule = (id: string, masking: string): string => `
  - id: ${id}
    effect: permit
    when: "'${id}' in principal.roles"
    levels: [system]
    interactions: [operation]
    operations: [$export]
    types: ['*']
    obligations: { masking: ${masking} }`
  await writeFile(
    join(folder, 'own.yaml'),
    `policy: own\ndescription: for tests\nrules:${rule('masked', 'safe-harbor')}${rule('whole', 'baseline')}`,
  )
  const { gateway, ask, below, begin, files } = await setUp({ policies: folder })
  t.teardown(async () => {
    await gateway.close()
    await rm(folder, { recursive: true })
  })
  for (const [role, isTold] of [
    ['whole', true],
    ['masked', false],
  ] as const) {
    const claims = { ...backend, roles: [role] }
    const job = await begin('/$export', claims)
    const output = [{ type: 'Patient', url: `${gateway.upstream.url}/Binary/f1` }]
    const deleted = [{ type: 'Bundle', url: `${gateway.upstream.url}/Binary/f2` }]
    const found = await files(job, output, { deleted }, claims)
    const send = (text: string): void =>
      gateway.upstream.answerWith(json(text, 200, { 'content-type': 'application/fhir+ndjson' }))
    send('{"resourceType":"Patient","id":"MRN-7"}\n')
    const shown = await ask(below(found.output[0]?.url), { claims })
    t.equal(shown.status, 200)
    t.equal(shown.text.includes('MRN-7'), isTold, `${role}: what is there`)
    send(
      '{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/MRN-7"}}]}\n',
    )
    const gone = await ask(below(found.deleted[0]?.url), { claims })
    t.equal(gone.status, 200)
    t.equal(gone.text.includes('MRN-7'), isTold, `${role}: what is deleted`)
  }
})

t.test('an export from end to end, against a server that really exports', async (t) => {
  const server = await startFhirServer({
    load: Array.from({ length: 30 }, (_, n) =>
      JSON.stringify({
        resourceType: 'Observation',
        id: `o${n}`,
        status: 'final',
        subject: { reference: `Patient/p${n % 3}` },
      }),
    ),
  })
  const gateway = await startGateway({ upstreamUrl: server.url })
  t.teardown(async () => {
    await gateway.close()
    await server.close()
  })
  for (const id of ['p0', 'p1', 'p2']) server.put(`{"resourceType":"Patient","id":"${id}"}`)
  const get = async (url: string, headers: Record<string, string> = {}) =>
    fetch(url.replace(PUBLIC_URL, gateway.url), {
      headers: { authorization: `Bearer ${await gateway.token(backend)}`, ...headers },
    })
  const begun = await get(`${PUBLIC_URL}/Patient/$export`, { prefer: 'respond-async' })
  t.equal(begun.status, 202)
  const job = begun.headers.get('content-location') ?? ''
  t.equal((await get(job)).status, 202, 'still running')
  const manifest = (await (await get(job)).json()) as {
    output: { type: string; url: string }[]
  }
  const lines = new Map<string, number>()
  for (const { type, url } of manifest.output) {
    lines.set(type, (await (await get(url)).text()).trim().split('\n').length)
  }
  t.strictSame([...lines].sort(), [
    ['Observation', 30],
    ['Patient', 3],
  ])
  const statement = (await (await fetch(`${gateway.url}/metadata`)).json()) as {
    rest: { operation?: { name: string }[] }[]
  }
  t.match(statement.rest[0]?.operation, [{ name: 'export' }])
})

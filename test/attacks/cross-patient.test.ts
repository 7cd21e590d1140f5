import t from 'tap'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { Definitions, FhirVersion } from '../../src/fhir/definitions.ts'
import { startGateway } from '../support/gateway.ts'
import type { Handler } from '../support/upstream.ts'
import { json, NUMBERS } from '../support/upstream.ts'

// The cross-patient suite: for every type that can be tied to a patient, whatever a token for p1 can
// try on p2 (SCOPE-11, REST-6, 7, 9, 11, 20; pitfalls §1 rows 1, 2, 6–8, 10–17, 25, 27). Upstream is
// careless: it answers every question with records of both, so that all depends on the gateway.
const CANARY = 'CANARY-OF-P2'
const NEVER = new Set(['AuditEvent', 'Subscription', 'Binary', 'Bundle', 'Parameters'])
const typesOf = (definitions: Definitions): string[] =>
  [...definitions.types].filter(
    (type) => !NEVER.has(type) && (type === 'Patient' || definitions.patientPaths(type).length > 0),
  )
// All of them take longer than a test is given by itself.
t.setTimeout(600_000)
const EVERY = Number(process.env['FHIREWALL_TEST_EVERY'] ?? 20)

type Json = Record<string, unknown>

type Case = {
  readonly what: string
  readonly method: string
  readonly target: string
  readonly body?: unknown
  readonly headers?: Record<string, string>
  /** A write that must not reach upstream. */
  readonly isWrite?: true
}

function suiteOf(definitions: Definitions) {
  /** A record of a type, tied to a patient where the type says whose it is. */
  function recordOf(type: string, owner: 'p1' | 'p2', version = '3'): Json {
    const id = type === 'Patient' ? owner : `${type.toLowerCase()}-${owner}`
    const record: Json = { resourceType: type, id, meta: { versionId: version } }
    const [path] = definitions.patientPaths(type)
    let place = record
    path?.forEach((name, at) => {
      const isLast = at === path.length - 1
      const next: Json = isLast ? { reference: `Patient/${owner}` } : {}
      place[name] = next
      place = next
    })
    return owner === 'p2' ? { ...record, language: CANARY, note: [{ text: CANARY }] } : record
  }
  const idOf = (type: string, owner: 'p1' | 'p2'): string => String(recordOf(type, owner)['id'])
  const strip = (record: Json): Json => ({ ...record, language: undefined, note: undefined })

  /** Row 27: an old version of a record of p1, when it was another patient's. A Patient is always itself. */
  const earlier = (type: string): Json =>
    type === 'Patient'
      ? recordOf(type, 'p1', '1')
      : { ...recordOf(type, 'p2', '1'), id: idOf(type, 'p1') }

  const careless: Handler = (request, response, raw) => {
    const { method, target, body } = request
    const [path = '', query = ''] = target.replace(/^\/base\/?/, '').split('?')
    const [type = '', id, more] = path.split('/')
    const answer = (value: unknown, status = 200): void => {
      const text = JSON.stringify(value)
      json(text, status, { location: `${type}/${id ?? 'new'}/_history/4`, etag: 'W/"4"' })(
        request,
        response,
        raw,
      )
    }
    const known = definitions.types.has(type) ? type : 'Observation'
    if (method === 'DELETE') {
      response.writeHead(204).end()
      return
    }
    if (method === 'PATCH') return answer(recordOf(known, String(id).endsWith('p2') ? 'p2' : 'p1'))
    if (method !== 'GET' && path !== '' && !path.endsWith('_search')) {
      json(body, method === 'POST' ? 201 : 200)(request, response, raw)
      return
    }
    if (method === 'POST' && path === '') {
      const { entry } = JSON.parse(body.toString()) as { entry: unknown[] }
      return answer({
        resourceType: 'Bundle',
        type: 'transaction-response',
        entry: entry.map(() => ({
          resource: recordOf('Observation', 'p2'),
          response: { status: '200' },
        })),
      })
    }
    const isRead = id !== undefined && id !== '_search' && id !== '_history' && !id.startsWith('$')
    if (isRead && (more === undefined || (more === '_history' && path.split('/').length === 4))) {
      const owner = id.endsWith('p2') ? 'p2' : 'p1'
      if (id !== idOf(known, owner)) return answer({ resourceType: 'OperationOutcome' }, 404)
      return answer(path.endsWith('_history/1') ? earlier(known) : recordOf(known, owner))
    }
    const types = query.includes('include') ? [known, 'Patient', 'Observation'] : [known]
    const records = types.flatMap((one) => [recordOf(one, 'p1'), recordOf(one, 'p2')])
    const isHistory = path.includes('_history')
    answer({
      resourceType: 'Bundle',
      type: isHistory ? 'history' : 'searchset',
      total: 4242,
      link: [{ relation: 'next', url: `http://127.0.0.1/${CANARY}` }],
      entry: [
        ...records.map((resource) => ({
          fullUrl: `urn:uuid:${String(resource['id'])}`,
          resource,
          search: { mode: 'match' },
          response: { status: '200', outcome: { resourceType: 'OperationOutcome', id: CANARY } },
        })),
        // What A's history would show of the time before it was A's; and a deletion that says too much.
        { resource: earlier(known) },
        { request: { method: 'DELETE', url: `${known}/${CANARY}` }, response: { status: '204' } },
        { resource: { resourceType: 'OperationOutcome', issue: [{ diagnostics: CANARY }] } },
      ],
    })
  }

  /** Everything to try on one type. */
  function casesOf(type: string): Case[] {
    const [a, b] = [idOf(type, 'p1'), idOf(type, 'p2')]
    const parameter = definitions.patientParameter(type)?.name ?? '_id'
    const link = parameter === '_id' ? 'patient' : parameter
    const ofB = strip(recordOf(type, 'p2'))
    const bundle = (kind: string, ...entries: Json[]) => ({
      resourceType: 'Bundle',
      type: kind,
      entry: entries,
    })
    const get = (what: string, target: string): Case => ({ what, method: 'GET', target })
    const write = (
      what: string,
      method: string,
      target: string,
      body?: unknown,
      headers?: Record<string, string>,
    ): Case => ({
      ...{ what, method, target, isWrite: true },
      ...(body === undefined ? {} : { body }),
      ...(headers === undefined ? {} : { headers }),
    })
    const patch = (path: string) => [{ op: 'replace', path, value: 'Patient/p2' }]
    const pathToPatient = (definitions.patientPaths(type)[0] ?? []).join('/')
    return [
      get('read', `/${type}/${b}`),
      { what: 'head', method: 'HEAD', target: `/${type}/${b}` },
      get('vread', `/${type}/${b}/_history/3`),
      get('vread of an older version', `/${type}/${a}/_history/1`),
      get('history', `/${type}/${b}/_history`),
      get('own history', `/${type}/${a}/_history`),
      get('history of the type', `/${type}/_history`),
      get('history of all', '/_history'),
      get('search', `/${type}`),
      get('search by id', `/${type}?_id=${b}`),
      get('search by both ids', `/${type}?_id=${a},${b}`),
      get('search by patient', `/${type}?${parameter}=p2`),
      get('search by either patient', `/${type}?${parameter}=p1,p2`),
      get('search by not', `/${type}?_tag:not=x`),
      get('search of several types', `?_type=${type},Patient`),
      get('search in a compartment', `/Patient/p2/${type}`),
      get('search in the own compartment', `/Patient/p1/${type}`),
      {
        what: 'search by POST',
        method: 'POST',
        target: `/${type}/_search?_id=${a}`,
        body: `${parameter}=p2`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
      },
      get('elements', `/${type}?_elements=id`),
      get('summary', `/${type}?_summary=true`),
      get('count', `/${type}?_summary=count`),
      get('total', `/${type}?_total=accurate`),
      get('include', `/${type}?_include=*`),
      get('include of the patient', `/${type}?_include=${type}:${link}`),
      get('include, iterated', `/${type}?_include:iterate=${type}:${link}`),
      get('revinclude', `/Patient?_revinclude=${type}:${link}`),
      get('revinclude, iterated', `/Patient?_revinclude:iterate=${type}:${link}`),
      get('chain', `/${type}?${link}:Patient.name=x`),
      get('chain by id', `/${type}?${link}:Patient._id=p2`),
      get('reverse chain', `/Patient?_has:${type}:${link}:_id=${b}`),
      get('a page of upstream', `?_getpages=${type}`),
      get(
        'a page made up',
        `?_cursor=${Buffer.from(`{"target":"/${type}"}`).toString('base64url')}`,
      ),
      get('everything', '/Patient/p2/$everything'),
      get('own everything', `/Patient/p1/$everything?_type=${type}`),
      get('by list', `/${type}?_list=1`),
      get('by filter', `/${type}?_filter=id%20eq%20${b}`),
      get('by text', `/${type}?_text=a`),
      write('create', 'POST', `/${type}`, type === 'Patient' ? ofB : { ...ofB, id: undefined }),
      write('update', 'PUT', `/${type}/${b}`, ofB),
      write('taken over', 'PUT', `/${type}/${b}`, { ...strip(recordOf(type, 'p1')), id: b }),
      // A Patient of the own id is the own, whatever it says.
      ...(type === 'Patient'
        ? []
        : [write('given away', 'PUT', `/${type}/${a}`, { ...ofB, id: a })]),
      write(
        'patch',
        'PATCH',
        `/${type}/${b}`,
        [{ op: 'add', path: '/implicitRules', value: 'x' }],
        {
          'content-type': 'application/json-patch+json',
        },
      ),
      write(
        'patched away',
        'PATCH',
        `/${type}/${a}`,
        type === 'Patient'
          ? [{ op: 'replace', path: '/id', value: 'p2' }]
          : patch(`/${pathToPatient}/reference`),
        { 'content-type': 'application/json-patch+json' },
      ),
      write('delete', 'DELETE', `/${type}/${b}`),
      write('delete by id', 'DELETE', `/${type}?_id=${b}&_tag=x`),
      write(
        'conditional create',
        'POST',
        `/${type}`,
        { ...ofB, id: undefined },
        { 'if-none-exist': `_id=${b}` },
      ),
      write('conditional update', 'PUT', `/${type}?_id=${b}`, ofB),
      {
        what: 'batch',
        method: 'POST',
        target: '',
        body: bundle(
          'batch',
          { request: { method: 'GET', url: `${type}/${b}` } },
          { request: { method: 'GET', url: `${type}?${parameter}=p2` } },
        ),
      },
      write(
        'batch of writes',
        'POST',
        '',
        bundle(
          'batch',
          { resource: ofB, request: { method: 'PUT', url: `${type}/${b}` } },
          { request: { method: 'DELETE', url: `${type}/${b}` } },
        ),
      ),
      {
        what: 'transaction of reads',
        method: 'POST',
        target: '',
        body: bundle('transaction', { request: { method: 'GET', url: `${type}/${b}` } }),
      },
      write(
        'transaction',
        'POST',
        '',
        bundle('transaction', { resource: ofB, request: { method: 'PUT', url: `${type}/${b}` } }),
      ),
      write(
        'transaction that begins well',
        'POST',
        '',
        bundle(
          'transaction',
          { request: { method: 'GET', url: `${type}/${a}` } },
          { request: { method: 'DELETE', url: `${type}/${b}` } },
        ),
      ),
    ]
  }

  return { careless, casesOf, idOf }
}

/** Tokens that are for p1, each by another way. */
const TOKENS: Record<string, Json> = {
  'patient/': { scope: 'patient/*.cruds', patient: 'p1', sub: 'a' },
  'user/ as Patient': { scope: 'user/*.cruds', fhirUser: 'Patient/p1', sub: 'b' },
  'user/ as RelatedPerson': {
    scope: 'user/*.cruds',
    fhirUser: 'RelatedPerson/r',
    patient: 'p1',
    sub: 'c',
  },
}

for (const [version, fhirVersion] of Object.entries(NUMBERS) as [FhirVersion, string][]) {
  const definitions = loadDefinitions(version)
  const { careless, casesOf } = suiteOf(definitions)
  const all = typesOf(definitions)
    .flatMap((type) => casesOf(type).map((one) => ({ ...one, type })))
    .flatMap((one) => Object.keys(TOKENS).map((who) => ({ ...one, who })))
  const every = version === 'R4' ? EVERY : EVERY * 5

  t.test(
    `${version}, nothing of p2 for p1: ${all.length} cases, every ${every}th here`,
    async (t) => {
      t.ok(all.length >= 5000, `${all.length} cases`)
      const gateway = await startGateway({
        handler: careless,
        fhirVersion,
        config: {
          fhir: { version },
          limits: {
            address: { burst: 1_000_000 },
            principal: { burst: 1_000_000, perSecond: 100_000 },
            failures: { burst: 1_000_000 },
          },
        },
      })
      t.teardown(() => gateway.close())
      const tokens = new Map<string, string>()
      for (const [who, claims] of Object.entries(TOKENS)) {
        tokens.set(
          who,
          await gateway.token({ ...claims, exp: Math.floor(Date.now() / 1000) + 3000 }),
        )
      }
      const wrong: string[] = []
      const statuses = new Map<number, number>()
      let tried = 0
      for (const [
        n,
        { what, who, type, method, target, body, headers, isWrite },
      ] of all.entries()) {
        if (n % every !== 0) continue
        tried++
        gateway.upstream.received.length = 0
        const answer = await fetch(gateway.url + target, {
          method,
          headers: {
            authorization: `Bearer ${tokens.get(who)!}`,
            ...(body === undefined ? {} : { 'content-type': 'application/fhir+json' }),
            ...headers,
          },
          ...(body === undefined
            ? {}
            : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
        })
        const text = await answer.text()
        const line = `${who} ${type}: ${what}`
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
        if (answer.status >= 500 && what !== 'transaction of reads') {
          wrong.push(`${line}: ${answer.status} ${text.slice(0, 200)}`)
        }
        if ((text + JSON.stringify([...answer.headers])).includes(CANARY)) {
          wrong.push(`${line}: leaks ${text.slice(0, 300)}`)
        }
        if (text.includes('"total"')) wrong.push(`${line}: counts`)
        const written = gateway.upstream.received.filter(
          (request) => request.method !== 'GET' && !request.target.includes('_search'),
        )
        if (isWrite === true && written.length > 0) {
          wrong.push(`${line}: ${written[0]!.method} ${written[0]!.target} reached upstream`)
        }
      }
      t.strictSame(wrong.slice(0, 20), [], `${wrong.length} of ${tried} are wrong`)
      t.ok((statuses.get(200) ?? 0) > tried / 5, 'and what is the own is not refused')
      const said = (await gateway.auditText()) + gateway.log.join('\n') + (await gateway.metrics())
      t.notMatch(said, CANARY, 'nor in audit, log or metrics')
    },
  )
}

t.test('another patient’s record and one that there is not look alike (C1, ERR-4)', async (t) => {
  const definitions = loadDefinitions('R4')
  const { careless, idOf } = suiteOf(definitions)
  const gateway = await startGateway({ handler: careless })
  t.teardown(() => gateway.close())
  const token = await gateway.token(TOKENS['patient/']!)
  const ask = async (method: string, target: string) => {
    const answer = await fetch(gateway.url + target, {
      method,
      headers: { authorization: `Bearer ${token}`, 'x-request-id': 'the-same-id' },
    })
    const headers = [...answer.headers].filter(([name]) => name !== 'date')
    return JSON.stringify([answer.status, headers, await answer.text()])
  }
  for (const type of typesOf(definitions).filter((_, n) => n % 5 === 0)) {
    for (const method of ['GET', 'HEAD', 'DELETE']) {
      const hidden = await ask(method, `/${type}/${idOf(type, 'p2')}`)
      t.equal(hidden, await ask(method, `/${type}/missing`), `${method} ${type}`)
    }
  }
})

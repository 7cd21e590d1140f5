import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { generatePopulation } from '../../src/demo/population.ts'

type Bundle = {
  total: number
  link: { relation: string; url: string }[]
  entry?: {
    fullUrl: string
    resource: { id: string; resourceType: string; subject?: { reference: string } }
    search?: { mode: string }
  }[]
}

const getText = async (url: string): Promise<string> => (await fetch(url)).text()
const getBundle = async (url: string): Promise<Bundle> =>
  (await (await fetch(url)).json()) as Bundle
const idsOf = (bundle: Bundle): string[] => (bundle.entry ?? []).map((e) => e.resource.id)
const fhirJson = { 'content-type': 'application/fhir+json' }

t.test('create, read, vread, update, delete and history keep the bytes that came', async (t) => {
  const server = await startFhirServer()
  t.teardown(server.close)
  const base = server.url
  const sent =
    '{ "resourceType":"Observation","meta":{"lastUpdated":"1999-01-01","security":[{"code":"R"}]},' +
    '"valueQuantity":{"value":1.10,"unit":"\\u006dg\\/dL"},"note":[{"text":"a\\nb"}]}'
  const created = await fetch(`${base}/Observation`, {
    method: 'POST',
    headers: fhirJson,
    body: sent,
  })
  t.equal(created.status, 201)
  t.equal(created.headers.get('etag'), 'W/"1"')
  const location = created.headers.get('location') ?? ''
  t.match(location, /\/Observation\/\d+\/_history\/1$/)
  t.equal(await getText(location), await created.text(), 'vread')
  const url = location.replace(/\/_history.*/, '')
  const read = await fetch(url)
  t.match(read.headers.get('x-powered-by'), /^HAPI FHIR/)
  t.match(read.headers.get('content-type'), /^application\/fhir\+json/)
  const text = await read.text()
  t.match(text, '"valueQuantity":{"value":1.10,"unit":"\\u006dg\\/dL"},"note":[{"text":"a\\nb"}]}')
  t.match(text, /"meta":\{"versionId":"1","lastUpdated":"2[^"]*Z","security":\[\{"code":"R"\}\]\}/)

  const put = (body: string, match?: string): Promise<Response> =>
    fetch(url, {
      method: 'PUT',
      headers: { ...fhirJson, ...(match === undefined ? {} : { 'if-match': match }) },
      body,
    })
  t.equal((await put(text.replace('1.10', '1.20'), 'W/"7"')).status, 412, 'not the current one')
  t.equal((await put(text.replace('1.10', '1.20'), 'W/"1"')).status, 200)
  t.equal((await put('{"resourceType":"Observation","id":"other"}')).status, 400)
  t.equal((await put('{"resourceType":"Patient"}')).status, 400)
  t.equal((await put('{"resourceType":')).status, 400)
  t.match(await getText(url), '"value":1.20')
  t.match(await getText(`${url}/_history/1`), '"value":1.10')
  t.equal((await fetch(url, { headers: { 'if-none-match': 'W/"2"' } })).status, 304)

  t.equal((await fetch(url, { method: 'DELETE' })).status, 204)
  t.equal((await fetch(url)).status, 410)
  t.match(await getText(url), '"code":"deleted"')
  const history = await getBundle(`${url}/_history`)
  t.equal(history.total, 3)
  t.strictSame(
    (history.entry as unknown as { request: { method: string } }[]).map((e) => e.request.method),
    ['DELETE', 'PUT', 'POST'],
  )
  t.equal((await put(text)).status, 201, 'an update brings it back')
  t.equal((await fetch(`${base}/Observation/none`)).status, 404)
  t.equal((await fetch(`${base}/Nonsense/1`)).status, 404)
  t.equal((await fetch(`${base}/Observation`, { method: 'PATCH', body: '[]' })).status, 405)
  t.equal(await (await fetch(url, { method: 'HEAD' })).text(), '')
})

t.test('search', async (t) => {
  const server = await startFhirServer({ load: generatePopulation(3, 60) })
  t.teardown(server.close)
  const base = server.url
  const search = (query: string): Promise<Bundle> => getBundle(`${base}/${query}`)

  await t.test('by patient, in all the ways a reference can be written', async (t) => {
    const held = server.all('Observation').filter((o) => /"Patient\/patient-7"/.test(o)).length
    for (const query of [
      'patient=patient-7',
      'patient=Patient/patient-7',
      'subject=Patient/patient-7',
      'subject:Patient=patient-7',
      `patient=${encodeURIComponent(`${base}/Patient/patient-7`)}`,
    ]) {
      const bundle = await search(`Observation?${query}&_count=200`)
      t.equal(bundle.total, held, query)
      t.ok(bundle.entry?.every((e) => e.resource.subject?.reference === 'Patient/patient-7'))
      t.ok(bundle.entry?.every((e) => e.search?.mode === 'match'))
      t.equal(bundle.entry?.[0]?.fullUrl, `${base}/Observation/${bundle.entry?.[0]?.resource.id}`)
    }
    t.equal((await search('Observation?patient=patient-7&patient=patient-8')).total, 0, 'AND')
    t.ok((await search('Observation?patient=patient-7,patient-8')).total > held, 'OR')
    t.equal((await search('Observation?patient=Practitioner/patient-7')).total, 0)
    const form = await fetch(`${base}/Observation/_search`, {
      method: 'POST',
      body: new URLSearchParams({ patient: 'patient-7' }),
    })
    t.equal(((await form.json()) as Bundle).total, held, 'POST _search')
    t.equal((await search('Patient/patient-7/Observation')).total, held, 'compartment')
    // The escaped record of every eleventh person is found as well.
    t.ok((await search('Observation?patient=patient-11')).total > 0)
  })

  await t.test('token, string, date, _id, labels', async (t) => {
    t.strictSame(idsOf(await search('Patient?_id=patient-3,patient-4')), ['patient-3', 'patient-4'])
    t.equal((await search('Patient?_id=patient-3&_id=patient-4')).total, 0)
    t.strictSame(idsOf(await search('Patient?identifier=MRN000005')), ['patient-5'])
    const system = 'urn:oid:1.3.6.1.4.1.21367.13.20.1000'
    t.strictSame(idsOf(await search(`Patient?identifier=${system}|MRN000005`)), ['patient-5'])
    t.equal((await search(`Patient?identifier=urn:other|MRN000005`)).total, 0)
    const { name } = JSON.parse(server.get('Patient', 'patient-9') ?? '') as {
      name: { family: string }[]
    }
    const family = name[0]!.family
    t.ok(
      idsOf(await search(`Patient?family=${family.slice(0, 4).toUpperCase()}&_count=99`)).includes(
        'patient-9',
      ),
    )
    t.ok((await search(`Patient?family:exact=${family}`)).total > 0)
    t.equal((await search(`Patient?family:exact=${family.toUpperCase()}`)).total, 0)
    const before = (await search('Patient?birthdate=lt1980-01-01')).total
    const since = (await search('Patient?birthdate=ge1980')).total
    t.equal(before + since, 60)
    t.ok(before > 0 && since > 0)
    const { birthDate } = JSON.parse(server.get('Patient', 'patient-9') ?? '') as {
      birthDate: string
    }
    t.ok(idsOf(await search(`Patient?birthdate=${birthDate}`)).includes('patient-9'))
    t.equal(
      (await search('Condition?_security=R&_count=0')).total,
      server.all('Condition').filter((c) => c.includes('"code":"R"')).length,
    )
    const oldest = await search('Patient?_sort=birthdate&_count=60')
    const newest = await search('Patient?_sort=-birthdate&_count=60')
    const days = (bundle: Bundle): string[] =>
      bundle.entry!.map((e) => (e.resource as unknown as { birthDate: string }).birthDate)
    t.strictSame(days(oldest), [...days(oldest)].sort())
    t.strictSame(days(newest), [...days(oldest)].reverse())
  })

  await t.test('pages lead to everything, once', async (t) => {
    const seen: string[] = []
    let url: string | undefined = `${base}/Observation?_count=150`
    let pages = 0
    while (url !== undefined) {
      const page: Bundle = await getBundle(url)
      seen.push(...idsOf(page))
      url = page.link.find((link) => link.relation === 'next')?.url
      if (url !== undefined) t.match(url, `${base}?_getpages=`)
      pages++
    }
    t.ok(pages > 3)
    t.equal(seen.length, server.count('Observation'))
    t.equal(new Set(seen).size, seen.length)
    t.equal((await fetch(`${base}?_getpages=unknown`)).status, 410)
  })

  await t.test('what is not understood is refused', async (t) => {
    for (const query of [
      'nonsense=1',
      'subject.name=x',
      '_has:Observation:patient:code=1',
      'birthdate=tomorrow',
      'family:fuzzy=x',
      '_count=many',
      '_include=Patient:organization',
    ]) {
      const response = await fetch(`${base}/Patient?${query}`)
      t.equal(response.status, 400, query)
      t.match(await response.json(), { resourceType: 'OperationOutcome' })
    }
  })

  await t.test('$everything brings what is about one patient, page by page', async (t) => {
    const all = await getBundle(`${base}/Patient/patient-9/$everything?_count=1000`)
    const observations = await getBundle(`${base}/Observation?patient=patient-9&_count=1000`)
    t.ok(observations.total > 0)
    t.ok(idsOf(all).includes('patient-9'))
    const ofType = (type: string): string[] =>
      idsOf({ ...all, entry: all.entry!.filter(({ resource }) => resource.resourceType === type) })
    t.same(ofType('Observation').sort(), idsOf(observations).sort())
    t.same(ofType('Patient'), ['patient-9'])

    const some = await getBundle(`${base}/Patient/patient-9/$everything?_type=Observation&_count=2`)
    t.equal(some.total, observations.total)
    t.equal(some.entry?.length, 2)
    t.ok(some.link.some(({ relation }) => relation === 'next'))
    t.equal((await fetch(`${base}/Patient/nobody/$everything`)).status, 404)
    t.equal((await fetch(`${base}/Observation/x/$everything`)).status, 405)
  })

  await t.test('metadata', async (t) => {
    t.match(await (await fetch(`${base}/metadata`)).json(), {
      resourceType: 'CapabilityStatement',
      fhirVersion: '4.0.1',
      implementation: { url: base },
    })
  })
})

t.test('transaction and batch', async (t) => {
  const server = await startFhirServer()
  t.teardown(server.close)
  const bundle = (type: string, entry: object[]): string =>
    JSON.stringify({ resourceType: 'Bundle', type, entry })
  const post = (body: string): Promise<Response> =>
    fetch(server.url, { method: 'POST', headers: fhirJson, body })
  const urn = 'urn:uuid:0c1b1a4e-0000-4000-8000-000000000001'
  const patient = { resourceType: 'Patient' }
  const observation = { resourceType: 'Observation', subject: { reference: urn } }
  const response = await post(
    bundle('transaction', [
      { resource: observation, request: { method: 'POST', url: 'Observation' } },
      { fullUrl: urn, resource: patient, request: { method: 'POST', url: 'Patient' } },
      {
        resource: { resourceType: 'Organization', id: 'o' },
        request: { method: 'PUT', url: 'Organization/o' },
      },
    ]),
  )
  t.equal(response.status, 200)
  t.match(await response.json(), {
    type: 'transaction-response',
    entry: [{ response: { status: '201' } }, { response: { status: '201' } }, {}],
  })
  const [text = ''] = server.all('Observation')
  const reference = /"reference":"Patient\/([^"]+)"/.exec(text)?.[1] ?? ''
  t.ok(server.get('Patient', reference), 'the urn became the new id')

  const count = server.count()
  const bad = { resource: patient, request: { method: 'POST', url: 'Observation' } }
  const good = { resource: patient, request: { method: 'POST', url: 'Patient' } }
  t.equal((await post(bundle('transaction', [good, bad]))).status, 400)
  t.equal(server.count(), count, 'all or nothing')
  t.match(await (await post(bundle('batch', [good, bad]))).json(), {
    entry: [{ response: { status: '201' } }, { response: { status: '400' } }],
  })
  t.equal((await post(bundle('collection', []))).status, 400)
})

const synthea = join(import.meta.dirname, '..', '..', '..', 'shared', 'data', 'synthea', 'r4')
t.test('Synthea bundles', { skip: !existsSync(synthea) && 'not here' }, async (t) => {
  const server = await startFhirServer()
  t.teardown(server.close)
  const sources = readdirSync(synthea).map((name) => readFileSync(join(synthea, name), 'utf8'))
  let entries = 0
  for (const source of sources) {
    server.put(source)
    entries += (JSON.parse(source) as { entry: unknown[] }).entry.length
  }
  t.equal(server.count(), entries, 'every entry')
  t.equal(server.count('Patient'), sources.length)
  const everything = ['Observation', 'Condition', 'Claim', 'Encounter'].flatMap(server.all)
  t.notOk(
    everything.some((text) => text.includes('urn:uuid:')),
    'no dangling reference',
  )
  const decimals = (texts: readonly string[]): string[] =>
    texts
      .flatMap((text) => text.match(/"value": ?-?\d+\.\d+/g) ?? [])
      .map((d) => d.replace(' ', ''))
      .sort()
  const all = ['Observation', 'Claim', 'ExplanationOfBenefit'].flatMap(server.all)
  t.strictSame(decimals(all), decimals(sources), 'decimals as they were written')
  for (const text of server.all('Patient')) {
    const { id } = JSON.parse(text) as { id: string }
    const found = await getBundle(`${server.url}/Observation?patient=${id}&_count=1000`)
    const held = server.all('Observation').filter((o) => o.includes(`Patient/${id}`)).length
    t.equal(found.total, held)
    t.ok(found.entry?.every((e) => e.resource.subject?.reference === `Patient/${id}`))
  }
})

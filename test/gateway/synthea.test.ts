import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { generatePopulation } from '../../src/demo/population.ts'
import { startGateway } from '../support/gateway.ts'

// Every Patient read and every Observation search as patient, clinician and researcher, compared
// with what upstream holds. Synthea bundles where they are at hand, our own population otherwise.
const folder = fileURLToPath(new URL('../../../shared/data/synthea/r4/', import.meta.url))
/** `FHIREWALL_TEST_EVERY=1` for the long run. */
const EVERY = Number(process.env['FHIREWALL_TEST_EVERY'] ?? 4)
const load = existsSync(folder)
  ? readdirSync(folder)
      .filter((_, n) => n % EVERY === 0)
      .map((name) => readFileSync(folder + name, 'utf8'))
  : generatePopulation(7, 12)

type Resource = {
  id: string
  identifier?: { system?: string; value?: string }[]
  subject?: { reference?: string }
}
type Bundle = { entry?: { resource: Resource }[] }

const DECIMAL = /"value" ?: ?(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g
const decimals = (text: string): string[] =>
  Array.from(text.matchAll(DECIMAL), ([, digits]) => digits!)

t.test(`${load.length} records, read and searched by every persona`, async (t) => {
  const server = await startFhirServer({ load })
  t.teardown(() => server.close())
  const gateway = await startGateway({ upstreamUrl: server.url })
  t.teardown(() => gateway.close())

  const patients = server.all('Patient').map((text) => JSON.parse(text) as Resource)
  const ssns = patients.flatMap(({ identifier = [] }) =>
    identifier.filter(({ system }) => system?.endsWith('us-ssn')).map(({ value }) => value!),
  )
  t.ok(patients.length > 0 && ssns.length > 0, `${patients.length} patients, ${ssns.length} SSNs`)
  const held = new Map(
    server.all('Observation').map((text) => [(JSON.parse(text) as Resource).id, text]),
  )

  const known = new Set(decimals([...held.values()].join('')))

  const ask = async (token: string, path: string): Promise<[number, string]> => {
    const answer = await fetch(gateway.url + path, {
      headers: { authorization: `Bearer ${token}` },
    })
    return [answer.status, await answer.text()]
  }
  const clinician = await gateway.token({
    scope: 'user/*.rs',
    fhirUser: 'Practitioner/d1',
    purpose_of_use: ['TREAT'],
    roles: ['clinician'],
  })
  const researcher = await gateway.token({
    scope: 'user/*.rs',
    fhirUser: 'Practitioner/d2',
    purpose_of_use: ['HRESCH'],
    roles: ['researcher'],
  })

  let observations = 0
  for (const [i, { id }] of patients.entries()) {
    const own = await gateway.token({
      scope: 'patient/*.rs',
      patient: id,
      fhirUser: `Patient/${id}`,
    })
    const stranger = patients[(i + 1) % patients.length]!.id
    const seen: string[] = []
    for (const [name, token] of [
      ['patient', own],
      ['clinician', clinician],
      ['researcher', researcher],
    ] as const) {
      const [status, body] = await ask(token, `/Patient/${id}`)
      t.equal(status, 200, `${name} reads Patient/${id}`)
      seen.push(body)
      const isMasked = name === 'researcher'
      const [linked] = isMasked ? await ask(token, `/Observation?subject=Patient/${id}`) : []
      // Whose a record is, is what de-identification hides: nobody may ask by it (REST-12).
      if (isMasked) t.equal(linked, 400, 'a researcher asks for nobody')
      const target = isMasked ? '/Observation?' : `/Observation?subject=Patient/${id}&`
      const [searched, bundle] = await ask(token, `${target}_count=1000`)
      t.equal(searched, 200, `${name} searches Observations`)
      seen.push(bundle)
      const subjects = new Set(
        (JSON.parse(bundle) as Bundle).entry?.map(({ resource }) => resource.subject?.reference),
      )
      t.ok(
        [...subjects].every((subject) => (subject === `Patient/${id}`) !== isMasked),
        `${name}: of that patient only, or of nobody that can be told`,
      )
      for (const { resource } of (JSON.parse(bundle) as Bundle).entry ?? []) {
        observations += 1
        if (isMasked) continue
        const original = held.get(resource.id)!
        // Byte for byte where nothing was to be masked; every decimal with its digits in any case.
        if (!bundle.includes(original)) {
          t.fail(`${name}: Observation/${resource.id} is not what upstream holds`)
        }
      }
      t.strictSame(
        decimals(bundle)
          .filter((digits) => !known.has(digits))
          .slice(0, 3),
        [],
        `${name}: decimals keep their digits`,
      )
    }
    const [strange, text] = await ask(own, `/Patient/${stranger}`)
    if (stranger !== id) t.equal(strange, 404, 'a stranger is not found')
    const [, foreign] = await ask(own, `/Observation?subject=Patient/${stranger}`)
    if (stranger !== id)
      t.notMatch(foreign, '"resourceType":"Observation"', 'nor are their Observations')
    const all = seen.join('') + text + foreign
    t.strictSame(
      ssns.filter((ssn) => all.includes(ssn)),
      [],
      'no unmasked SSN',
    )
  }
  t.ok(observations > 0, `${observations} Observations compared`)
})

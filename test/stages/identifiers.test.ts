import t from 'tap'
import { maskWith } from '../support/mask.ts'

const own = (name: string): string =>
  `masking: ${name}\ndescription: d\nrules: [{ id: r, identifiers: [${name}], method: redact }]\n`
const names = ['national', 'de-kvnr', 'fr-nir', 'br-cpf', 'account'] as const

// Sources: docs/decisions/0028-where-codes-come-from.md.
t.test('identifiers of countries, by system, OID and their own types (MASK-4, §9.2)', async (t) => {
  const { send } = maskWith(names.map(own))
  const system = (text: string): string => `"system":"${text}"`
  const type = (text: string, code: string): string =>
    `"type":{"coding":[{"system":"${text}","code":"${code}"}]}`
  const cases: readonly (readonly [name: (typeof names)[number], members: string])[] = [
    ['national', system('urn:oid:2.16.578.1.12.4.1.4.1')],
    ['national', system('http://hl7.no/fhir/NamingSystem/FNR')],
    ['national', system('urn:oid:1.2.752.129.2.1.3.1')],
    ['national', system('http://electronichealth.se/identifier/personnummer')],
    ['national', system('urn:oid:1.2.208.176.1.2')],
    ['national', system('1.2.246.21')],
    ['national', system('urn:oid:2.16.756.5.32')],
    ['national', system('https://www.ehealth.fgov.be/standards/fhir/core/NamingSystem/ssin')],
    ['national', system('urn:oid:2.16.840.1.113883.3.4424.1.1.616')],
    ['national', system('https://standards.digital.health.nz/ns/nhi-id')],
    ['national', type('http://terminology.hl7.org/CodeSystem/v2-0203', 'NNFIN')],
    ['de-kvnr', system('http://fhir.de/sid/pkv/kvid-10')],
    ['de-kvnr', type('http://fhir.de/CodeSystem/identifier-type-de-basis', 'GKV')],
    ['de-kvnr', type('http://fhir.de/CodeSystem/identifier-type-de-basis', 'KVZ10')],
    ['fr-nir', type('https://hl7.fr/ig/fhir/core/CodeSystem/fr-core-cs-v2-0203', 'INS-NIR')],
    ['fr-nir', type('http://interopsante.org/fhir/CodeSystem/fr-v2-0203', 'INS-C')],
    ['br-cpf', system('https://rnds-fhir.saude.gov.br/NamingSystem/cpf')],
    ['account', type('http://terminology.hl7.org/CodeSystem/v2-0203', 'AND')],
  ]
  for (const [name, members] of cases) {
    const body = `{"resourceType":"Patient","id":"a","identifier":[{${members},"value":"Canary"}]}`
    t.notMatch((await send(body, [[name]])).text, 'Canary', `${name}: ${members}`)
    const [other = name] = names.filter((one) => one !== name)
    t.match((await send(body, [[other]])).text, 'Canary', `not ${other}: ${members}`)
  }
})

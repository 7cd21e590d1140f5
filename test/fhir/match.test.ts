import fc from 'fast-check'
import t from 'tap'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { compileCriteria } from '../../src/fhir/match.ts'
import { parseParameters } from '../../src/fhir/parameter.ts'

const definitions = loadDefinitions('R4')
const BASES = ['https://public.example/fhir', 'http://127.0.0.1:9/base']
const limits = { targetBytes: 8192, parameters: 64, valuesPerParameter: 200 }
const compile = (type: string, text: string) =>
  compileCriteria(
    type,
    parseParameters(text, 'criteria', type, definitions, limits),
    definitions,
    BASES,
  )

const LAB = {
  resourceType: 'Observation',
  id: 'o1',
  meta: {
    lastUpdated: '2026-03-02T10:00:00Z',
    profile: ['http://example.org/lab|1.0'],
    security: [{ system: 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality', code: 'N' }],
    tag: [{ code: 'x' }],
  },
  status: 'final',
  identifier: [{ system: 'urn:a', value: 'A|1' }],
  category: [{ coding: [{ system: 'http://cat', code: 'laboratory' }, { code: 'bare' }] }],
  code: { coding: [{ system: 'http://loinc.org', code: '2160-0' }], text: 'Creatinine' },
  subject: { reference: 'Patient/p1' },
  performer: [{ reference: 'https://public.example/fhir/Practitioner/d1/_history/2' }],
  effectiveDateTime: '2026-03-02',
}
const ANNA = {
  resourceType: 'Patient',
  id: 'p1',
  active: true,
  gender: 'female',
  birthDate: '1970-02',
  name: [{ family: 'Müller', given: ['Anna', 'Maria'] }, { text: 'Anni' }],
  telecom: [
    { system: 'phone', value: '555' },
    { system: 'email', value: 'a@b' },
  ],
  address: [{ city: 'São Paulo', line: ['Rua 1'] }],
}

// criterion, resource, verdict; '-' = not exactly, so that nothing is granted (SCOPE-8).
// prettier-ignore
const ROWS: [type: string, criteria: string, resource: object, verdict: boolean | '-'][] = [
  ['Observation', 'category=laboratory',                        LAB,  true],
  ['Observation', 'category=http://cat|laboratory',             LAB,  true],
  ['Observation', 'category=http://other|laboratory',           LAB,  false],
  ['Observation', 'category=|laboratory',                       LAB,  false],
  ['Observation', 'category=|bare',                             LAB,  true],
  ['Observation', 'category=http://cat|',                       LAB,  true],
  ['Observation', 'category=labor',                             LAB,  false],
  ['Observation', 'category=vital-signs,laboratory',            LAB,  true],
  ['Observation', 'category=laboratory&code=2160-0',            LAB,  true],
  ['Observation', 'category=laboratory&code=1',                 LAB,  false],
  ['Observation', 'category:not=laboratory',                    LAB,  false],
  ['Observation', 'category:not=vital-signs',                   LAB,  true],
  ['Observation', 'category:not=x',                             { resourceType: 'Observation' }, true],
  ['Observation', 'category:missing=true',                      LAB,  false],
  ['Observation', 'category:missing=true',                      { resourceType: 'Observation' }, true],
  ['Observation', 'category:missing=maybe',                     LAB,  '-'],
  ['Observation', 'code:text=Creat',                            LAB,  '-'],
  ['Observation', 'code:in=http://vs',                          LAB,  '-'],
  ['Observation', 'code:above=1',                               LAB,  '-'],
  ['Observation', 'status=final',                               LAB,  true],
  ['Observation', 'status=http://hl7.org/fhir/observation-status|final', LAB, false],
  ['Observation', 'identifier=urn:a|A\\|1',                     LAB,  true],
  ['Observation', 'identifier=A\\|1',                           LAB,  true],
  ['Observation', 'identifier=A',                               LAB,  false],
  ['Observation', 'patient=p1',                                 LAB,  true],
  ['Observation', 'patient=Patient/p1',                         LAB,  true],
  ['Observation', 'patient=Patient/p12',                        LAB,  false],
  ['Observation', 'patient=https://public.example/fhir/Patient/p1', LAB, true],
  ['Observation', 'patient=https://evil.example/fhir/Patient/p1', LAB, '-'],
  ['Observation', 'patient=p1',                                 { ...LAB, subject: { reference: 'Group/p1' } }, false],
  ['Observation', 'subject=Group/p1',                           LAB,  false],
  ['Observation', 'subject:Patient=p1',                         LAB,  true],
  ['Observation', 'subject:Group=p1',                           LAB,  false],
  ['Observation', 'subject:identifier=x',                       LAB,  '-'],
  ['Observation', 'performer=Practitioner/d1',                  LAB,  true],
  ['Observation', 'date=2026-03-02',                            LAB,  true],
  ['Observation', 'date=2026',                                  LAB,  true],
  ['Observation', 'date=2026-03-02T10:00:00Z',                  LAB,  false],
  ['Observation', 'date=gt2026-03-01',                          LAB,  true],
  ['Observation', 'date=gt2026-03-02',                          LAB,  false],
  ['Observation', 'date=ge2026-03-02',                          LAB,  true],
  ['Observation', 'date=le2026-03-02',                          LAB,  true],
  ['Observation', 'date=lt2026-03-02',                          LAB,  false],
  ['Observation', 'date=sa2026-03-01',                          LAB,  true],
  ['Observation', 'date=eb2026-03-02',                          LAB,  false],
  ['Observation', 'date=ne2026-03-02',                          LAB,  false],
  ['Observation', 'date=ge2026-01-01&date=lt2027-01-01',        LAB,  true],
  ['Observation', 'date=ge2026-01-01&date=lt2026-02-01',        LAB,  false],
  ['Observation', 'date=ap2026',                                LAB,  '-'],
  ['Observation', 'date=2026-13',                               LAB,  '-'],
  ['Observation', 'date=2026-02-30',                            LAB,  '-'],
  ['Observation', 'date=ge2026-03-02',                          { ...LAB, effectiveDateTime: undefined, effectivePeriod: { start: '2026-03-01', end: '2026-03-05' } }, true],
  ['Observation', 'date=ge2030',                                { ...LAB, effectiveDateTime: undefined, effectivePeriod: { start: '2026-03-01' } }, true],
  ['Observation', 'date=2026-03-02',                            { ...LAB, effectiveDateTime: 'nonsense' }, false],
  ['Observation', '_lastUpdated=gt2026-03-01',                  LAB,  true],
  ['Observation', '_id=o1',                                     LAB,  true],
  ['Observation', '_id=o2',                                     LAB,  false],
  ['Observation', '_tag=x',                                     LAB,  true],
  ['Observation', '_security=http://terminology.hl7.org/CodeSystem/v3-Confidentiality|N', LAB, true],
  ['Observation', '_profile=http://example.org/lab|1.0',        LAB,  true],
  ['Observation', '_profile=http://example.org/lab',            LAB,  false],
  ['Observation', 'subject.name=a',                             LAB,  '-'],
  ['Observation', 'code-value-quantity=a$1',                    LAB,  '-'],
  ['Observation', 'value-quantity=1',                           LAB,  '-'],
  ['Observation', '_content=a',                                 LAB,  '-'],
  ['Observation', 'category=laboratory',                        { ...LAB, resourceType: 'Condition' }, false],
  ['Patient',     'family=mull',                                ANNA, true],
  ['Patient',     'name=MARIA',                                 ANNA, true],
  ['Patient',     'name=ni',                                    ANNA, false],
  ['Patient',     'name:contains=ni',                           ANNA, true],
  ['Patient',     'family:exact=Müller',                        ANNA, true],
  ['Patient',     'family:exact=muller',                        ANNA, false],
  ['Patient',     'address=sao',                                ANNA, true],
  ['Patient',     'address-city=Sao Paulo',                     ANNA, true],
  ['Patient',     'phone=555',                                  ANNA, true],
  ['Patient',     'phone=a@b',                                  ANNA, false],
  ['Patient',     'email=a@b',                                  ANNA, true],
  ['Patient',     'telecom=a@b',                                ANNA, true],
  ['Patient',     'active=true',                                ANNA, true],
  ['Patient',     'birthdate=1970',                             ANNA, true],
  ['Patient',     'birthdate=1970-02-03',                       ANNA, false],
  ['Patient',     'deceased=true',                              ANNA, '-'],
  ['Patient',     'gender=female,male',                         ANNA, true],
]

t.test(
  'a criterion holds as a server would hold it, or is not held at all (SCOPE-7, 8)',
  async (t) => {
    for (const [type, criteria, resource, verdict] of ROWS) {
      const found = compile(type, criteria.replaceAll(' ', '%20'))
      t.equal(found === undefined ? '-' : found(resource), verdict, `${type}?${criteria}`)
    }
  },
)

t.test(
  'properties: AND narrows, OR widens, and nothing a resource holds makes it throw',
  async (t) => {
    const values = ['laboratory', 'bare', 'x', 'http://cat|', '2160-0']
    const one = fc.constantFrom(...values)
    const name = fc.constantFrom('category', 'code', 'category:not', '_tag')
    fc.assert(
      fc.property(name, one, name, one, fc.anything(), (n, a, m, b, junk) => {
        const holds = (text: string, resource: unknown) =>
          compile('Observation', text)?.(resource) === true
        const alone = holds(`${n}=${a}`, LAB)
        const both = holds(`${n}=${a}&${m}=${b}`, LAB)
        const either = holds(`${n}=${a},${b}`, LAB)
        const isOr = n.endsWith(':not') ? !either || alone : !alone || either
        const hostile = {
          ...LAB,
          category: junk,
          code: junk,
          effectiveDateTime: junk,
          subject: junk,
          meta: junk,
        }
        for (const text of [`${n}=${a}`, 'date=2026', 'subject=Patient/p1', '_lastUpdated=2026'])
          holds(text, hostile)
        return (!both || alone) && isOr && !holds(`${n}=${a}`, junk)
      }),
      { numRuns: 500 },
    )
    t.pass('properties hold')
  },
)

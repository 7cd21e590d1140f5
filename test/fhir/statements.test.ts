import t from 'tap'
import { buildCapabilityStatement } from '../../src/fhir/capability-statement.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { formatOperationOutcome } from '../../src/fhir/operation-outcome.ts'
import { parseReference } from '../../src/fhir/reference.ts'

t.test('references: ours, or none', async (t) => {
  const bases = ['https://gw.example/fhir', 'http://upstream:8080/fhir/']
  // prettier-ignore
  const table: readonly (readonly [string, unknown])[] = [
    ['Patient/1',                                   { type: 'Patient', id: '1' }],
    ['Patient/1/_history/2',                        { type: 'Patient', id: '1', versionId: '2' }],
    ['https://gw.example/fhir/Patient/1',           { type: 'Patient', id: '1' }],
    ['http://upstream:8080/fhir/Patient/1',         { type: 'Patient', id: '1' }],
    ['https://gw.example/fhir2/Patient/1',          undefined],
    ['https://gw.example/fhirPatient/1',            undefined],
    ['https://evil.example/fhir/Patient/1',         undefined],
    ['https://gw.example/fhir/../Patient/1',        undefined],
    ['HTTPS://gw.example/fhir/Patient/1',           undefined],
    ['#contained',                                  undefined],
    ['urn:uuid:a5afddf4-e880-459b-876e-e4591b0acc11', undefined],
    ['Patient/..',                                  undefined],
    ['Patient/1/_history/..',                       undefined],
    ['Patient/1#a',                                 undefined],
    ['Patient/1/',                                  undefined],
    ['/Patient/1',                                  undefined],
    ['Patient?identifier=1',                        undefined],
    ['patient/1',                                   undefined],
    ['Patient/1\n',                                 undefined],
    ['1',                                           undefined],
    ['',                                            undefined],
  ]
  for (const [text, expected] of table) t.strictSame(parseReference(text, bases), expected, text)
})

t.test('ERR-1: an OperationOutcome', async (t) => {
  const text = formatOperationOutcome({
    severity: 'error',
    code: 'login',
    reason: 'credentials-missing',
    text: 'Say "who"',
    expression: 'http._count',
    id: 'r-1',
  })
  t.strictSame(JSON.parse(text), {
    resourceType: 'OperationOutcome',
    issue: [
      {
        severity: 'error',
        code: 'login',
        details: {
          coding: [{ system: 'https://fhirewall.dev/reason', code: 'credentials-missing' }],
          text: 'Say "who"',
        },
        diagnostics: 'Request r-1',
        expression: ['http._count'],
      },
    ],
  })
})

t.test('DISC-4: only what passes is stated, and nothing of upstream', async (t) => {
  const upstream = {
    resourceType: 'CapabilityStatement',
    software: { name: 'HAPI', version: '6.1.0' },
    implementation: { url: 'http://upstream:8080/fhir' },
    format: ['xml', 'json'],
    rest: [
      {
        mode: 'server',
        resource: [
          {
            type: 'Patient',
            interaction: [{ code: 'read' }, { code: 'delete' }, { code: 'search-type' }],
            conditionalDelete: 'multiple',
            searchParam: [
              { name: '_id' },
              { name: 'name', definition: 'http://upstream' },
              { name: 'x' },
            ],
            operation: [{ name: 'everything' }],
          },
          { type: 'Passport', interaction: [{ code: 'read' }] },
          { type: 'Device', interaction: [{ code: 'delete' }] },
        ],
        interaction: [{ code: 'transaction' }],
        operation: [{ name: 'expunge' }],
      },
    ],
  }
  const source = {
    definitions: loadDefinitions('R4'),
    publicUrl: 'https://gw.example/fhir',
    upstream,
    allowed: ['read', 'search-type', 'create'] as const,
    smart: { token: 'https://idp.example/token' },
    now: '2026-01-01T00:00:00Z',
  }
  const text = buildCapabilityStatement(source)
  t.notMatch(
    text,
    /HAPI|6\.1\.0|upstream:|http:\/\/upstream|xml|expunge|everything|delete|transaction/,
  )
  const statement = JSON.parse(text) as { rest: { resource: unknown[] }[] }
  t.strictSame(statement.rest[0]?.resource, [
    {
      type: 'Patient',
      interaction: [{ code: 'read' }, { code: 'search-type' }],
      searchParam: [
        { name: '_id', type: 'token' },
        { name: 'name', type: 'string' },
      ],
    },
  ])
  const more = buildCapabilityStatement({
    ...source,
    allowed: ['read', 'delete', 'conditional-delete', 'operation'],
  })
  t.match(JSON.parse(more), {
    rest: [
      {
        resource: [
          {
            conditionalDelete: 'single',
            operation: [
              {
                name: 'everything',
                definition: 'http://hl7.org/fhir/OperationDefinition/Patient-everything',
              },
            ],
          },
        ],
      },
    ],
  })
  t.notMatch(more, /expunge/)
  t.throws(() => buildCapabilityStatement({ ...source, upstream: {} }), /no CapabilityStatement/)
})

t.test('DISC-4: each version gets the statement it knows', async (t) => {
  const rest = [
    {
      mode: 'server',
      resource: [{ type: 'Patient', interaction: [{ code: 'read' }, { code: 'patch' }] }],
    },
  ]
  // prettier-ignore
  const table = [
    ['DSTU2', 'Conformance',         '1.0.2', 'http://hl7.org/fhir/restful-security-service', ['read']],
    ['STU3',  'CapabilityStatement', '3.0.2', 'http://hl7.org/fhir/restful-security-service', ['read', 'patch']],
    ['R4B',   'CapabilityStatement', '4.3.0', 'http://terminology.hl7.org/CodeSystem/restful-security-service', ['read', 'patch']],
    ['R5',    'CapabilityStatement', '5.0.0', 'http://terminology.hl7.org/CodeSystem/restful-security-service', ['read', 'patch']],
  ] as const
  for (const [version, resourceType, fhirVersion, system, interactions] of table) {
    const source = {
      definitions: loadDefinitions(version),
      publicUrl: 'https://gw.example/fhir',
      upstream: { resourceType, rest },
      allowed: ['read', 'patch'] as const,
      now: '2026-01-01T00:00:00Z',
    }
    const statement = JSON.parse(buildCapabilityStatement(source)) as Record<string, unknown>
    t.match(statement, { resourceType, fhirVersion })
    t.equal(statement['acceptUnknown'], fhirVersion < '4' ? 'no' : undefined, version)
    t.equal(statement['patchFormat'] === undefined, version === 'DSTU2', version)
    t.match(statement['rest'], [
      {
        security: { service: [{ coding: [{ system }] }] },
        resource: [{ type: 'Patient', interaction: interactions.map((code) => ({ code })) }],
      },
    ])
    const other = resourceType === 'Conformance' ? 'CapabilityStatement' : 'Conformance'
    t.throws(() => buildCapabilityStatement({ ...source, upstream: { resourceType: other, rest } }))
  }
})

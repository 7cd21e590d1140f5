import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import { Permit } from '../../src/permit.ts'
import type { Terms } from '../../src/permit.ts'
import { findSecrets, starSecrets } from '../../src/stages/release/mask/detect/secrets.ts'
import { createRelease } from '../../src/stages/release/release.ts'
import { grantOf } from '../support/grants.ts'
import { SAFE_HARBOR, shippedMasking } from '../support/masking.ts'

const config = configSchema.parse({
  public: { url: 'https://public.example/fhir' },
  upstream: { url: 'http://127.0.0.1:9/base' },
  issuers: [{ url: 'https://issuer.example' }],
})
const { release, inspect } = createRelease(config, loadDefinitions('R4'), shippedMasking())

type Change = Parameters<typeof grantOf>[0]
const termsFor = (grants: Record<string, Change>, change: Change = {}): Terms => ({
  grantFor: (type) =>
    grants[type] === undefined ? undefined : grantOf({ ...grants[type], ...change }),
  mayReadBack: true,
})

async function read(text: string, terms: Terms, id?: string): Promise<string> {
  const { resourceType } = JSON.parse(text) as { resourceType: string }
  const interaction =
    resourceType === 'Bundle'
      ? ({ code: 'search-type', method: 'GET', type: 'Observation', parameters: [] } as const)
      : ({
          code: 'read',
          method: 'GET',
          type: resourceType,
          parameters: [],
          ...(id === undefined ? {} : { id }),
        } as const)
  const permit = Permit.issue({
    interaction,
    requested: interaction,
    body: undefined,
    terms,
    rules: [],
  })
  const { answer } = await release(permit, { status: 200, headers: {}, body: Buffer.from(text) })
  return (answer.body as Buffer).toString()
}

const SSN = '123-45-6789'
const PAN = '4111111111111111'

// §9.2, what is found in free text and what is not.
const texts: [text: string, starred: string][] = [
  ['SSN 123-45-6789.', 'SSN ***-**-6789.'],
  ['123 45 6789', '*** ** 6789'],
  ['ssn: 123456789', 'ssn: *****6789'],
  ['S.S.N. 123456789', 'S.S.N. *****6789'],
  ['s. s. n: 123456789', 's. s. n: *****6789'],
  ['Soc. Sec. No. 123456789', 'Soc. Sec. No. *****6789'],
  ['123456789', '123456789'],
  [
    '000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000',
    '000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000',
  ],
  ['card 4111 1111 1111 1111 ok', 'card **** **** **** 1111 ok'],
  ['4111-1111-1111-1111', '****-****-****-1111'],
  [PAN, '************1111'],
  ['378282246310005', '***********0005'],
  ['4111111111111112', '4111111111111112'],
  ['1234567890123456', '1234567890123456'],
  ['１２３-４５-６７８９', '***-**-６７８９'],
  ['٤١١١ ١١١١ ١١١١ ١١١١', '**** **** **** ١١١١'],
  ['123\u201145\u20116789', '***\u2011**\u20116789'],
  ['2026-03-02 10:00', '2026-03-02 10:00'],
  // With dots only where nothing else can be meant.
  ['SSN 123.45.6789.', 'SSN ***.**.6789.'],
  ['(123.45.6789) or 123.45.6788... ', '(***.**.6789) or ***.**.6788... '],
  ['card 4111.1111.1111.1111 ok', 'card ****.****.****.1111 ok'],
  ['3782.822463.10005, 4111.1111.1111.1111.037', '****.******.*0005, ****.****.****.***1.037'],
  ['078.05.1120 4111 1111 1111 1111', '***.**.1120 **** **** **** 1111'],
  ...[
    ...['1.2.840.113883.4.1', '2.16.840.1.123.45.6789', '1.123.45.6789', '123.45.6789.1'],
    ...['.123.45.6789', '1123.45.6789', '123.45.67890', '123..45.6789', '123.45-6789'],
    ...['v123.45.6789', 'version 123.45.6789', 'Ver. 123.45.6789', '123.456.789', '12.345.6789'],
    ...['000.12.3456 666.12.3456 900.12.3456 123.00.4567 123.45.0000'],
    ...['1.4111.1111.1111.1111', '4111.1111.1111.1111.1', '4111.1111.1111.1112'],
    ...['41111111.11111111', '411.111.111.111.1111', '4111.111111111111'],
    ...['2020-01-01T10:11:12.1234567+00:00', '123456.789012', '10.123.45.67', '555.123.4567'],
  ].map((text): [string, string] => [text, text]),
]

t.test('detectors: secrets in text are starred but for the last four (MASK-7, §9.2)', async (t) => {
  for (const [text, expected] of texts)
    t.equal(starSecrets(text, findSecrets(text)), expected, text)
  const note = `${'1 '.repeat(250_000)}${'9'.repeat(250_000)}${'12-'.repeat(80_000)}`
  t.equal(findSecrets(note).length >= 0, true, 'a megabyte made to be slow ends')
})

// Every way to write the same secret, and every place it can stand (MASK-4, MASK-5, rows 22, 35).
const identifier = (system: string, value = SSN): string =>
  `{"system":"${system}","value":"${value}"}`
const places: [name: string, members: string][] = [
  ['identifier', `"identifier":[${identifier('http://hl7.org/fhir/sid/us-ssn')}]`],
  [
    'identifier, bare digits',
    `"identifier":[${identifier('http://hl7.org/fhir/sid/us-ssn', '123456789')}]`,
  ],
  [
    'identifier by OID',
    `"identifier":[${identifier('urn:oid:2.16.840.1.113883.4.1', '123456789')}]`,
  ],
  [
    'identifier by type',
    '"identifier":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"SS"}]},"value":"123456789"}]',
  ],
  [
    'escaped slashes',
    `"identifier":[${identifier('http:\\/\\/hl7.org\\/fhir\\/sid\\/us-ssn', '123456789')}]`,
  ],
  [
    'escaped digits',
    '"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"\\u0031\\u003223456789"}]',
  ],
  [
    'escaped name',
    '"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","v\\u0061lue":"123456789"}]',
  ],
  [
    'beside the value',
    `"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"123456789","_value":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":"123456789"}]}}]`,
  ],
  [
    'contained',
    `"contained":[{"resourceType":"Practitioner","id":"c","identifier":[${identifier('http://hl7.org/fhir/sid/us-ssn', '123456789')}]}]`,
  ],
  ['extension', `"extension":[{"url":"http://x","valueString":"${SSN}"}]`],
  ['primitive extension', `"_birthDate":{"extension":[{"url":"http://x","valueString":"${SSN}"}]}`],
  ['display', `"managingOrganization":{"reference":"Organization/1","display":"${SSN}"}`],
  [
    'reference identifier',
    `"managingOrganization":{"identifier":${identifier('http://hl7.org/fhir/sid/us-ssn', '123456789')}}`,
  ],
  ['narrative', `"text":{"status":"generated","div":"<div>${SSN}</div>"}`],
  ['an unknown element', `"whatever":{"deep":[["${SSN}"]]}`],
  ['escaped digits in text', '"note":[{"text":"12\\u0033-45-6789"}]'],
  ['a card', `"note":[{"text":"paid with 4111 1111 1111 1111"}]`],
]

t.test('an SSN or card number leaves from no place, in no spelling', async (t) => {
  const terms = termsFor({ Patient: {} })
  for (const [name, members] of places) {
    const out = await read(`{"resourceType":"Patient","id":"p1",${members}}`, terms)
    const text = JSON.stringify(JSON.parse(out))
    t.notMatch(text, /123-?45-?6789|4111 ?1111 ?1111/, name)
    t.match(
      JSON.parse(out),
      { meta: { security: [{ code: 'MASKED' }] } },
      `${name}: marked (LABEL-6)`,
    )
  }
})

const observation = (members: string, id = 'o1'): string =>
  `{"resourceType":"Observation","id":"${id}","subject":{"reference":"Patient/p1"},"valueQuantity":{"value":1.10}${members}}`
const CONFIDENTIALITY = 'http://terminology.hl7.org/CodeSystem/v3-Confidentiality'
const label = (code: string, system = CONFIDENTIALITY): string =>
  `,"meta":{"security":[{"system":"${system}","code":"${code}"}]}`

// resource, terms, whether it may leave
const own = { Observation: { patient: 'p1' } }
type Judged = [name: string, text: string, terms: Terms, leaves: boolean]
const judged: Judged[] = [
  ['own', observation(''), termsFor(own), true],
  [
    'absolute on our base',
    observation('').replace('Patient/p1', 'https://public.example/fhir/Patient/p1'),
    termsFor(own),
    true,
  ],
  [
    'absolute on upstream',
    observation('').replace('Patient/p1', 'http://127.0.0.1:9/base/Patient/p1'),
    termsFor(own),
    true,
  ],
  [
    'absolute elsewhere',
    observation('').replace('Patient/p1', 'https://evil.example/fhir/Patient/p1'),
    termsFor(own),
    false,
  ],
  ['a longer id (row 6)', observation('').replace('p1', 'p12'), termsFor(own), false],
  [
    'another type of the same id',
    observation('').replace('Patient/p1', 'Group/p1'),
    termsFor(own),
    false,
  ],
  [
    'only as performer (row 11)',
    observation(',"performer":[{"reference":"Patient/p1"}]').replace('Patient/p1', 'Patient/p2'),
    termsFor(own),
    false,
  ],
  ['no subject', '{"resourceType":"Observation","id":"o1"}', termsFor(own), false],
  ['a type not granted', observation(''), termsFor({ Patient: {} }), false],
  ['label N', observation(label('N')), termsFor(own), true],
  ['label R', observation(label('R')), termsFor(own), false],
  ['label R by escape', observation(label('\\u0052')), termsFor(own), false],
  [
    'label R, STU3 system',
    observation(label('R', 'http://hl7.org/fhir/v3/Confidentiality')),
    termsFor(own),
    false,
  ],
  ['an unknown label', observation(label('X')), termsFor(own), false],
  ['label N by escape', observation(label('\\u004e')), termsFor(own), true],
  ['letters that stand in no code alone', observation(label('UL')), termsFor(own), false],
  ['the same by escape', observation(label('\\u0055L')), termsFor(own), false],
  ['an empty code', observation(label('')), termsFor(own), false],
  ['a code without a system', observation(label('R', '')), termsFor(own), false],
  [
    'a system that only looks like one',
    observation(label('R', 'http://x/v3')),
    termsFor(own),
    true,
  ],
  [
    'label R in a list that wraps meta',
    observation(label('R').replace('"meta":{', '"meta":[{').replace(/\}$/, '}]')),
    termsFor(own),
    false,
  ],
  [
    'label R behind many of another system, as a display and as itself',
    observation(
      label('N').replace(
        '"security":[',
        `"security":[{"system":"http://x","display":"${CONFIDENTIALITY}","code":"R"},{"system":"${CONFIDENTIALITY}","code":"R"},`,
      ),
    ),
    termsFor(own),
    false,
  ],
  [
    'label R in a contained resource',
    observation(`,"contained":[{"resourceType":"Patient"${label('R')}}]`),
    termsFor(own),
    false,
  ],
  [
    'a sensitivity',
    observation(label('HIV', 'http://terminology.hl7.org/CodeSystem/v3-ActCode')),
    termsFor(own),
    false,
  ],
  [
    'a sensitivity, cleared',
    observation(label('HIV', 'http://terminology.hl7.org/CodeSystem/v3-ActCode')),
    termsFor(own, { clearance: { confidentiality: 'N', sensitivities: new Set(['HIV']) } }),
    true,
  ],
  // LABEL-1: what a label means does not hang on how its system is written, or whether it is.
  ...[
    ...['http://www.hl7.org/fhir/v3/Confidentiality', 'https://hl7.org/fhir/v3/Confidentiality/'],
    ...[
      'http://hl7.org/fhir/v3-Confidentiality',
      'http://hl7.org/fhir/ValueSet/v3-Confidentiality',
    ],
    ...[
      'http://www.terminology.hl7.org/CodeSystem/v3-Confidentiality',
      ' URN:OID:2.16.840.1.113883.5.25',
    ],
    ...[
      'http://terminology.hl7.org/CodeSystem/v3-Confidentiality|2.0.0',
      'http:\\/\\/www.hl7.org/v3/Confidentiality',
    ],
  ].map((system): Judged => [
    `label R of ${system}`,
    observation(label('R', system)),
    termsFor(own),
    false,
  ]),
  ...[
    ...['http://www.hl7.org/fhir/v3/ActCode', 'http://hl7.org/fhir/v3-ActCode', '', '  '],
    ...[
      'http://terminology.hl7.org/ValueSet/v3-ActCode',
      'http://www.terminology.hl7.org/CodeSystem/v3-ActCode/',
    ],
    'http://terminology.hl7.org/ValueSet/v3-InformationSensitivityPolicy',
  ].flatMap((system): Judged[] => [
    [`a sensitivity of "${system}"`, observation(label('ETHUD', system)), termsFor(own), false],
    [
      `a sensitivity of "${system}", cleared`,
      observation(label('ETHUD', system)),
      termsFor(own, { clearance: { confidentiality: 'N', sensitivities: new Set(['ETHUD']) } }),
      true,
    ],
    [`how to handle by "${system}"`, observation(label('NORDSCLCD', system)), termsFor(own), true],
  ]),
  ...['HIV', 'hiv', ' Psy ', 'NOPAT', 'r', '\\u0048IV'].map((code): Judged => [
    `${code} without a system`,
    observation(`,"meta":{"security":[{"code":"${code}"}]}`),
    termsFor(own),
    false,
  ]),
  ...['"code":["HIV"]', '"system":null,"code":"HIV"', '"system":["x"],"code":"HIV"'].map(
    (members): Judged => [
      `a label of ${members}`,
      observation(`,"meta":{"security":[{${members}}]}`),
      termsFor(own),
      false,
    ],
  ),
  ...['MASKED', 'TREAT', 'HTEST', 'n', 'local-tag'].map((code): Judged => [
    `${code} without a system is no sensitivity`,
    observation(`,"meta":{"security":[{"code":"${code}"}]}`),
    termsFor(own),
    true,
  ]),
  [
    'a system of somebody else',
    observation(label('HIV', 'http://hl7.org.example/fhir/v3/ActCode')),
    termsFor(own),
    true,
  ],
  [
    'a Bundle as resource',
    '{"resourceType":"Parameters","id":"x"}',
    termsFor({ Parameters: {} }),
    false,
  ],
]

t.test(
  'what may leave, and what is not found instead (LABEL-1, LABEL-4, rows 6, 10, 11)',
  async (t) => {
    for (const [name, text, terms, leaves] of judged) {
      const out = await read(text, terms).catch((error: unknown) => error)
      if (leaves)
        t.equal(
          out,
          text.replace('http://127.0.0.1:9/base', 'https://public.example/fhir'),
          `${name}: byte for byte`,
        )
      else t.match(out, { reason: 'not-found' }, name)
    }
  },
)

t.test(
  'content that goes takes its digest along, which would confirm a guess of it (MASK-8)',
  async (t) => {
    const hash = '"hash":"CANARY1","_hash":{"id":"CANARY2"}'
    const data = '"data":"CANARY0"'
    const terms = termsFor({ Patient: {} })
    for (const photo of [
      `{"contentType":"image/png",${data},${hash},"size":3}`,
      `{${hash},"size":3,${data}}`,
      `{"size":3,"_data":{"id":"CANARY3"},"h\\u0061sh":"CANARY4",${data}}`,
      `{${data},${hash}}`,
      `{"data":["CANARY0","CANARY5"],${hash},"size":3}`,
      `{"url":"data:image/png;base64,CANARY0",${hash},"size":3}`,
      `{${hash},"url":["data:image/png;base64,CANARY0"]}`,
    ]) {
      for (const members of [
        `"photo":[${photo}]`,
        `"extension":[{"url":"x","valueAttachment":${photo}}]`,
      ]) {
        const out = await read(
          `{"resourceType":"Patient","id":"p1",${members},"gender":"female"}`,
          terms,
        )
        t.notMatch(out, 'CANARY', members)
        t.equal(out.includes('"size":3'), photo.includes('"size":3'), 'the rest stays')
        t.match(JSON.parse(out), { gender: 'female', meta: { security: [{ code: 'REDACTED' }] } })
      }
    }
    const elsewhere = `{"resourceType":"Patient","id":"p1","photo":[{"url":"https://x.example/1.png",${hash}}]}`
    t.equal(await read(elsewhere, terms), elsewhere, 'of what stays it stays')
  },
)

t.test('de-identified: nothing of the person is left', async (t) => {
  const canaries = Array.from({ length: 14 }, (_, i) => `CANARY${i}`)
  const c = (i: number): string => canaries[i]!
  const text = `{"resourceType":"Patient","id":"p1","text":{"status":"generated","div":"<div>${c(0)}</div>"},"identifier":[{"system":"x","value":"${c(1)}"}],"name":[{"family":"${c(2)}"}],"telecom":[{"value":"${c(3)}"}],"birthDate":"1970-02-03","address":[{"line":["${c(4)}"],"city":"${c(5)}","state":"MA","postalCode":"${c(6)}"}],"contact":[{"name":{"family":"${c(7)}"}}],"photo":[{"title":"${c(8)}"}],"extension":[{"url":"x","valueString":"${c(9)}"}],"managingOrganization":{"reference":"Organization/1","display":"${c(10)}"},"contained":[{"resourceType":"RelatedPerson","id":"r","telecom":[{"value":"${c(11)}"}],"name":[{"family":"${c(12)}"}],"identifier":[{"value":"${c(13)}"}]}],"gender":"female"}`
  const out = await read(text, termsFor({ Patient: {} }, { masking: SAFE_HARBOR }))
  t.notMatch(out, /CANARY/)
  t.match(JSON.parse(out), { birthDate: '1970', gender: 'female', address: [{ state: 'MA' }] })
  t.match(out, '"REDACTED"')
})

t.test('inspect sees marks of ours, so that none is ever stored (MASK-10)', async (t) => {
  const terms = termsFor({ Patient: {} })
  const masked = await read(
    `{"resourceType":"Patient","id":"p1","identifier":[${identifier('http://hl7.org/fhir/sid/us-ssn')}]}`,
    terms,
  )
  t.match(inspect(terms, Buffer.from(masked)), { type: 'Patient', id: 'p1', marked: true })
  t.match(
    inspect(
      terms,
      Buffer.from(
        `{"resourceType":"Patient","identifier":[${identifier('http://hl7.org/fhir/sid/us-ssn')}]}`,
      ),
    ),
    { masked: 1, marked: false },
  )
  const photo = (url: string): string =>
    `{"resourceType":"Patient","id":"p1","photo":[{"url":"${url}"}]}`
  const emptied = await read(photo('data:image/png;base64,iVBORw0KGgo='), terms)
  t.match(emptied, '"photo":[{"url":"data:,"}]')
  t.match(inspect(terms, Buffer.from(photo('data:,'))), { marked: true })
  t.throws(() => inspect(terms, Buffer.from('{"resourceType":"Patient",}')), {
    name: 'Refusal',
    message: 'body-malformed',
  })
})

t.test(
  'a label on an element hides that element from who is not cleared for it (LABEL-2)',
  async (t) => {
    const CANARY = 'CANARY'
    const inline = (code: string, system = 'v3-Confidentiality') =>
      `{"url":"http:\\/\\/hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/${system}","code":"${code}"}}`
    const PROCESS = [
      '"meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"PROCESSINLINELABEL"}]}',
      '"meta":{"security":[{"code":"PROCESSINLINELABEL"}]}',
    ]
    const rows: readonly (readonly [what: string, members: string, cleared: boolean])[] = [
      [
        'an identifier',
        `"identifier":[{"extension":[${inline('R')}],"value":"${CANARY}"},{"value":"free"}]`,
        false,
      ],
      [
        'by sensitivity',
        `"identifier":[{"extension":[${inline('HIV', 'v3-ActCode')}],"value":"${CANARY}"},{"value":"free"}]`,
        false,
      ],
      [
        'within another',
        `"contact":[{"name":{"extension":[${inline('R')}],"family":"${CANARY}"},"gender":"free"}]`,
        false,
      ],
      [
        'a primitive',
        `"birthDate":"${CANARY}","_birthDate":{"extension":[${inline('R')}]},"gender":"free"`,
        false,
      ],
      [
        'a list of primitives',
        `"name":[{"given":["${CANARY}","${CANARY}"],"_given":[null,{"extension":[${inline('V')}]}],"family":"free"}]`,
        false,
      ],
      [
        'an extension of an extension',
        `"extension":[{"url":"x","extension":[${inline('R')},{"url":"y","valueString":"${CANARY}"}]}],"gender":"free"`,
        false,
      ],
      [
        'in a contained resource',
        `"contained":[{"resourceType":"Patient","identifier":[{"extension":[${inline('R')}],"value":"${CANARY}"}],"gender":"free"}]`,
        false,
      ],
      [
        'a code that nobody knows',
        `"identifier":[{"extension":[${inline('X')}],"value":"${CANARY}"}],"gender":"free"`,
        false,
      ],
      [
        'normal',
        `"identifier":[{"extension":[${inline('N')}],"value":"${CANARY}"}],"gender":"free"`,
        true,
      ],
    ]
    const both = rows.flatMap((row) => PROCESS.map((process) => [...row, process] as const))
    for (const [what, members, isSeen, process] of both) {
      const text = `{"resourceType":"Patient","id":"p1",${process},${members}}`
      const terms = termsFor({ Patient: {} })
      const left = await read(text, terms)
      t.equal(left.includes(CANARY), isSeen, what)
      t.match(left, 'free', `${what}: what is beside it stays`)
      t.doesNotThrow(() => void JSON.parse(left), what)
      if (!isSeen) t.match(left, /"masked".*|REDACTED/, what)
      const high = { confidentiality: 'V' as const, sensitivities: new Set(['HIV']) }
      const cleared = await read(text, termsFor({ Patient: { clearance: high } }))
      t.match(cleared, CANARY, `${what}: who is cleared sees it`)
    }
  },
)

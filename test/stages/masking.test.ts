import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { DETECTORS } from '../../src/policy/masking-schema.ts'
import { loadPolicies, PolicyError } from '../../src/policy/load.ts'
import { isDate } from '../../src/stages/release/mask/dates.ts'
import { createFinder } from '../../src/stages/release/mask/detect/finder.ts'
import { PATTERNS } from '../../src/stages/release/mask/detect/patterns.ts'
import { maskWith } from '../support/mask.ts'

const DAR =
  '{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}'
const MASKED_AGE = DAR.slice(1, -1)
const OLD_AGE =
  '"value":90,"comparator":">=","unit":"years","system":"http://unitsofmeasure.org","code":"a"'
const profile = (rules: string): string => `masking: own\ndescription: d\nrules:\n${rules}`
const rule = (select: string, method: string): string =>
  profile(`  - { id: r, select: [${select}], method: ${method} }\n`)

/** What is left of a resource, without the marks. */
function bare(text: string): string {
  const meta = /"meta":\{"(?:security|tag)":\[[^\]]*\](?:,"tag":\[[^\]]*\])?\},?/
  return text.replace(meta, '').replace(',}', '}')
}

// MASK-1, MASK-2, MASK-3: each method on each kind of element.
const golden: [select: string, method: string, resource: string, expected: string][] = [
  ['Patient.telecom', 'remove', '"telecom":[{"value":"1"}],"active":true', '"active":true'],
  [
    'HumanName',
    'remove',
    '"name":[{"family":"A"}],"contact":[{"name":{"family":"B"},"gender":"male"}]',
    '"contact":[{"gender":"male"}]',
  ],
  [
    'HumanName',
    'remove',
    '"extension":[{"url":"u","valueHumanName":{"family":"A"}}]',
    `"extension":[{"url":"u","valueHumanName":${DAR}}]`,
  ],
  [
    'HumanName.family',
    'redact',
    '"name":[{"family":"A","given":["B"]}]',
    `"name":[{"_family":${DAR},"given":["B"]}]`,
  ],
  [
    'HumanName.given',
    'redact',
    '"name":[{"family":"A","given":["B","C"],"_given":[null,{"id":"x"}]}]',
    `"name":[{"family":"A","_given":[${DAR}]}]`,
  ],
  [
    'HumanName.family',
    'remove',
    '"name":[{"family":"A"},{"given":["B"]}]',
    `"name":[${DAR},{"given":["B"]}]`,
  ],
  [
    "ContactPoint.where(system = 'email')",
    'remove',
    '"telecom":[{"system":"email","value":"a"},{"system":"phone","value":"b"}]',
    '"telecom":[{"system":"phone","value":"b"}]',
  ],
  [
    "ContactPoint.where(system = 'email')",
    'remove',
    '"active":true,"telecom":[{"system":"email","value":"a"}]',
    '"active":true',
  ],
  [
    "Patient.extension('http://x')",
    'remove',
    '"extension":[{"url":"http://x","valueString":"a"},{"url":"http://y","valueString":"b"}]',
    '"extension":[{"url":"http://y","valueString":"b"}]',
  ],
  [
    "Patient.birthDate.extension('http://x')",
    'remove',
    '"birthDate":"2000-01-01","_birthDate":{"extension":[{"url":"http://x","valueString":"a"}]}',
    `"birthDate":"2000-01-01","_birthDate":${DAR}`,
  ],
  [
    'Extension.value.ofType(string)',
    'remove',
    '"extension":[{"url":"u","valueString":"a"}]',
    `"extension":[{"url":"u","_valueString":${DAR}}]`,
  ],
  [
    'Patient.birthDate',
    '{ generalise: year }',
    '"birthDate":"2000-05-06","_birthDate":{"id":"x"}',
    '"birthDate":"2000"',
  ],
  ['Patient.birthDate', '{ generalise: year }', '"birthDate":"2000"', '"birthDate":"2000"'],
  ['Patient.birthDate', '{ generalise: year }', '"birthDate":"1936-05-06"', `"_birthDate":${DAR}`],
  ['Patient.birthDate', '{ generalise: year }', '"birthDate":"long ago"', `"_birthDate":${DAR}`],
  [
    'Address.postalCode',
    '{ generalise: zip3 }',
    '"address":[{"postalCode":"02139-4307"},{"postalCode":"03601"},{"postalCode":"SW1A 1AA"}]',
    `"address":[{"postalCode":"021"},{"postalCode":"000"},{"_postalCode":${DAR}}]`,
  ],
  ['HumanName.family', '{ replace: X }', '"name":[{"family":"A"}]', '"name":[{"family":"X"}]'],
  [
    'HumanName.family',
    '{ last: 4 }',
    '"name":[{"family":"AB-1234567"}]',
    '"name":[{"_family":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"},{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":"**-***4567"}]}}]',
  ],
  ['HumanName.family', '{ last: 4 }', '"name":[{"family":"1234"}]', `"name":[{"_family":${DAR}}]`],
  [
    'Patient.communication.language',
    'remove',
    '"communication":[{"language":{"text":"a"},"preferred":true}]',
    `"communication":[{"language":${DAR},"preferred":true}]`,
  ],
  [
    'Patient.link',
    'redact',
    '"link":[{"other":{"reference":"Patient/2"},"type":"seealso"}]',
    `"link":[{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}],"other":${DAR},"_type":${DAR}}]`,
  ],
  [
    'string',
    'remove',
    '"gender":"male","name":[{"use":"usual","family":"A"}]',
    '"gender":"male","name":[{"use":"usual"}]',
  ],
  ['Patient.active', 'redact', '"active":true', `"_active":${DAR}`],
  ['Patient.photo', 'remove', '"foo":"x","active":true,"nested":{"a":[1]}', '"active":true'],
  [
    'Patient.photo',
    'remove',
    '"active":"yes","gender":7,"name":"John","telecom":[["a"]],"birthDate":{"x":1}',
    '',
  ],
]

t.test(
  'each method on each kind of element, and nothing else changes (MASK-1, MASK-2, MASK-3)',
  async (t) => {
    for (const [select, method, members, expected] of golden) {
      const { send } = maskWith([rule(`"${select}"`, method)])
      const { text } = await send(`{"resourceType":"Patient",${members}}`, [['own']])
      const want = `{"resourceType":"Patient"${expected === '' ? '' : ','}${expected}}`
      t.equal(bare(text), want, `${select} ${method}: ${members}`)
    }
  },
)

t.test(
  'identifiers by name, system, OID and type; what else renders them goes (MASK-2, MASK-4)',
  async (t) => {
    const { send } = maskWith([
      profile(
        "  - { id: r, identifiers: [uk-nhs, {type: MR}, {system: 'http://own/id'}], method: redact }\n",
      ),
    ])
    const rows: [string, boolean][] = [
      ['"system":"https://fhir.nhs.uk/Id/nhs-number"', true],
      ['"system":"HTTPS:\\/\\/fhir.nhs.uk/Id/nhs-number/"', true],
      ['"system":"urn:oid:2.16.840.1.113883.2.1.4.1"', true],
      ['"system":"2.16.840.1.113883.2.1.4.1"', true],
      [
        '"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR"}]}',
        true,
      ],
      ['"type":{"coding":[{"code":"M\\u0052"}]}', true],
      ['"system":"http://own/id|2"', true],
      ['"type":{"coding":[{"system":"http://other","code":"MR"}]}', false],
      ['"system":"http://own/id2"', false],
    ]
    const rendered =
      '"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":"QQQ"}]'
    for (const [members, isMasked] of rows) {
      const { text } = await send(
        `{"resourceType":"Patient","identifier":[{${members},"value":"QQQ",${rendered}}]}`,
        [['own']],
      )
      t.equal(text.includes('QQQ'), !isMasked, members)
    }
  },
)

t.test(
  'pseudonyms: consistent within, different between recipients; dates shifted together (MASK-12)',
  async (t) => {
    const { send } = maskWith([
      profile(
        '  - { id: i, select: [Resource.id, Reference.reference], method: pseudonym }\n  - { id: d, select: [dateTime, date], method: date-shift }\n',
      ),
    ])
    const record = (id: string, day: string): string =>
      `{"resourceType":"Observation","id":"${id}","status":"final","code":{"text":"c"},"subject":{"reference":"Patient/p1"},"focus":[{"reference":"http://127.0.0.1:9/base/Observation/o1/_history/2"},{"reference":"#c"}],"effectiveDateTime":"${day}"}`
    type Seen = {
      id: string
      subject: { reference: string }
      focus: { reference: string }[]
      effectiveDateTime: string
    }
    const see = async (text: string, recipient: string): Promise<Seen> =>
      JSON.parse((await send(text, [['own']], { recipient })).text) as Seen
    const one = await see(record('o1', '2020-02-28T10:00:00.5+01:00'), 'a')
    const two = await see(record('o2', '2020-03-01'), 'a')
    const other = await see(record('o1', '2020-02-28'), 'b')
    t.equal(one.focus[0]?.reference, `Observation/${one.id}`)
    t.equal(one.subject.reference, two.subject.reference)
    t.match(one.focus[1]?.reference, /^#[0-9a-f]{32}$/)
    t.not(one.id, other.id)
    t.not(one.subject.reference, other.subject.reference)
    t.match(one.effectiveDateTime, /^\d{4}-\d\d-\d\dT10:00:00\.5\+01:00$/, 'the time of day stays')
    const days = (text: string): number => Date.parse(text.slice(0, 10)) / 86_400_000
    t.equal(days(two.effectiveDateTime) - days(one.effectiveDateTime), 2, 'the distance stays')
    t.not(one.effectiveDateTime.slice(0, 10), '2020-02-28')
    const unknown = await see(record('o1', '2020-03'), 'a')
    t.equal(unknown.effectiveDateTime, '2020')
  },
)

// Where two rules, a rule and the baseline, or two ways meet at one value.
const meetings: [name: string, rules: string[], ways: string[][], members: string, left: RegExp][] =
  [
    [
      'an escaped name is the name',
      ['select: [Patient.photo], method: remove'],
      [['p0']],
      '"foo":1,"g\\u0065nder":"male"',
      /"g\\u0065nder":"male"/,
    ],
    [
      'two ways, two methods: the milder',
      [
        'select: [Patient.birthDate], method: redact',
        'select: [Patient.birthDate], method: { generalise: year }',
      ],
      [['p0'], ['p1']],
      '"birthDate":"2000-01-02"',
      /"birthDate":"2000"/,
    ],
    [
      'the same the other way round',
      [
        'select: [Patient.birthDate], method: redact',
        'select: [Patient.birthDate], method: { generalise: year }',
      ],
      [['p1'], ['p0']],
      '"birthDate":"2000-01-02"',
      /"birthDate":"2000"/,
    ],
    [
      'one way, two methods: the stricter',
      [
        'select: [Patient.birthDate], method: redact',
        'select: [Patient.birthDate], method: { generalise: year }',
      ],
      [['p0', 'p1']],
      '"birthDate":"2000-01-02"',
      /"_birthDate":\{"extension"/,
    ],
    [
      'a whole and a part: the part',
      ['select: [HumanName], method: remove', 'select: [HumanName.family], method: { replace: X }'],
      [['p0'], ['p1']],
      '"name":[{"family":"F","given":["G"]}]',
      /"name":\[\{"family":"X","given":\["G"\]\}\]/,
    ],
    [
      'withheld by one way, seen by another',
      ['select: [Patient], method: remove', 'select: [HumanName], method: remove'],
      [['p0'], ['p1']],
      '"active":true,"name":[{"family":"F"}]',
      /"active":true\}$/,
    ],
    [
      'an SSN in a text that becomes a pseudonym',
      ['select: [CodeableConcept.text], method: pseudonym'],
      [['p0']],
      '"maritalStatus":{"text":"123-45-6789"}',
      /"text":"[0-9a-f]{32}"/,
    ],
    [
      'an SSN whose identifier becomes a pseudonym',
      ['select: [Identifier.value], method: pseudonym'],
      [['p0']],
      '"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"123-45-6789"}]',
      /"value":"[0-9a-f]{32}"\}/,
    ],
    [
      'an SSN in a telecom whose year is asked for',
      ['select: [Identifier.value], method: { replace: X }'],
      [['p0']],
      '"identifier":[{"system":"http://hl7.org/fhir/sid/us-ssn","value":"123-45-6789","_value":{"id":"123-45-6789"}}]',
      /"value":"X"\}/,
    ],
    [
      'nothing of meta is left but marks',
      ['select: [Patient.photo], method: remove'],
      [['p0']],
      '"meta":{"foo":1}',
      /"meta":\{"security":\[\{[^}]*REDACTED"\}\],"tag":\[\{[^}]*SUBSETTED"\}\]\}/,
    ],
    [
      'what is within itself',
      ['select: [Parameters.parameter.name], method: { replace: X }'],
      [['p0']],
      '"contained":[{"resourceType":"Parameters","parameter":[{"name":"A","part":[{"name":"B","part":[{"name":"C"}]}]}]}]',
      /"name":"X","part":\[\{"name":"X","part":\[\{"name":"X"/,
    ],
    [
      'addresses of extensions stay',
      ['select: [uri], method: remove'],
      [['p0']],
      '"implicitRules":"http://x","extension":[{"url":"http://y","valueUri":"http://z"}]',
      /"extension":\[\{"url":"http:\/\/y","_valueUri":\{"extension"/,
    ],
    [
      'a later rule outweighs',
      [
        'select: [HumanName.family], method: redact }\n  - { id: k, select: [Patient.name.family], method: keep',
      ],
      [['p0']],
      '"name":[{"family":"F"}],"contact":[{"name":{"family":"Q"}}]',
      /"family":"F".*"_family"/,
    ],
    [
      'two methods at one place: the milder',
      [
        'select: [HumanName.family], method: pseudonym',
        'select: [HumanName.family], method: { replace: X }',
      ],
      [['p0'], ['p1']],
      '"name":[{"family":"F"}]',
      /"family":"[0-9a-f]{32}"/,
    ],
    [
      'the same, the other way round',
      [
        'select: [HumanName.family], method: pseudonym',
        'select: [HumanName.family], method: { replace: X }',
      ],
      [['p1'], ['p0']],
      '"name":[{"family":"F"}]',
      /"family":"[0-9a-f]{32}"/,
    ],
  ]

t.test('rules that meet at one value', async (t) => {
  for (const [name, rules, ways, members, left] of meetings) {
    const { send } = maskWith(
      rules.map((text, n) => `masking: p${n}\ndescription: d\nrules:\n  - { id: r, ${text} }\n`),
    )
    const { text } = await send(`{"resourceType":"Patient",${members}}`, ways)
    t.match(text, left, name)
    t.doesNotThrow(() => JSON.parse(text) as unknown, name)
    t.notMatch(text, /123-45/, name)
  }
})

// 45 CFR 164.514(b)(2)(i)(C): ages over 89 become one; what is no such age does not become one.
const ages: [members: string, expected: string][] = [
  ['"value":89,"code":"a"', '"value":89,"code":"a"'],
  ['"value":93.50,"code":"a"', OLD_AGE],
  ['"value":1080,"code":"mo"', OLD_AGE],
  ['"value":1079,"code":"mo"', '"value":1079,"code":"mo"'],
  ['"value":93,"unit":"Years"', OLD_AGE],
  ['"value":93', OLD_AGE],
  ['"comparator":">","value":100,"code":"a"', OLD_AGE],
  ['"comparator":"<","value":100,"code":"a"', MASKED_AGE],
  ['"value":100,"unit":"of something"', MASKED_AGE],
  ['"value":4,"unit":"of something"', '"value":4,"unit":"of something"'],
  ['"unit":"a"', '"unit":"a"'],
]

t.test('ages over 89 (MASK-12)', async (t) => {
  const { send } = maskWith([rule('Age', '{ generalise: age-90 }')])
  for (const [members, expected] of ages) {
    const { text } = await send(`{"resourceType":"Condition","onsetAge":{${members}}}`, [['own']])
    t.equal(bare(text), `{"resourceType":"Condition","onsetAge":{${expected}}}`, members)
  }
})

// Who may see more by one way than by another (SCOPE-6, decision 13).
t.test('a value is masked only where every way that admits it masks it', async (t) => {
  const own = `masking: names\ndescription: d\nrules: [{ id: r, select: [HumanName], method: remove }]\n`
  const two = `masking: families\ndescription: d\nrules: [{ id: r, select: [HumanName.family, Patient.telecom], method: redact }, { id: b, select: [Patient.birthDate], method: { generalise: year } }]\n`
  const { send } = maskWith([own, two])
  const text =
    '{"resourceType":"Patient","name":[{"family":"F","given":["G"]}],"telecom":[{"value":"T"}],"birthDate":"2000-01-02"}'
  const rows: [ways: string[][], left: string][] = [
    [[['names']], 'T 2000-01-02'],
    [[['families']], 'G 2000'],
    [[['names', 'families']], '2000'],
    [[['names'], ['families']], 'G T 2000-01-02'],
    [[['names'], ['names', 'families']], 'T 2000-01-02'],
    [[['names'], []], 'F G T 2000-01-02'],
    [[['safe-harbor'], ['families']], 'G 2000'],
  ]
  for (const [ways, left] of rows) {
    const out = await send(text, ways)
    const found = ['F', 'G', 'T'].filter((one) => out.text.includes(`"${one}"`))
    const day = /"birthDate":"([^"]*)"/.exec(out.text)?.[1] ?? ''
    t.equal([...found, day].join(' '), left, JSON.stringify(ways))
  }
})

t.test(
  'marks: what was done, SUBSETTED when something went, no narrative, no signature (LABEL-6, LABEL-7, MASK-6, MASK-11)',
  async (t) => {
    const { send } = maskWith([rule('HumanName', 'remove')])
    const text =
      '{"resourceType":"Patient","meta":{"security":[{"system":"s","code":"N","display":"D"}],"tag":[]},"text":{"status":"generated","div":"<div>John</div>"},"name":[{"family":"F"}]}'
    const { text: out } = await send(text, [['own']])
    const system = 'http://terminology.hl7.org/CodeSystem/v3-ObservationValue'
    t.equal(
      out,
      `{"resourceType":"Patient","meta":{"security":[{"system":"s","code":"N","display":"D"},{"system":"${system}","code":"REDACTED"}],"tag":[{"system":"${system}","code":"SUBSETTED"}]},"text":{"status":"empty","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">Narrative withheld: parts of this resource are masked.</div>"}}`,
    )
    const signed =
      '{"resourceType":"Provenance","target":[{"reference":"Patient/1","identifier":{"assigner":{"display":"F"}}}],"signature":[{"data":"AAAA"}],"agent":[{"who":{"reference":"Patient/1"}}]}'
    const { send: sendOwn } = maskWith([rule('Reference.display', 'redact')])
    t.notMatch((await sendOwn(signed, [['own']])).text, /"signature"/)
    t.equal(
      (
        await maskWith([rule('Patient.photo', 'remove')]).send(
          '{"resourceType":"Patient","active":true}',
          [['own']],
        )
      ).text,
      '{"resourceType":"Patient","active":true}',
      'nothing altered, nothing marked',
    )
    t.equal(
      (await send('{"resourceType":"Patient","meta":"x"}', [['own']])).text,
      '<not-found>',
      'nowhere to put a mark',
    )
    t.equal(
      (await maskWith([rule('Patient', 'remove')]).send('{"resourceType":"Patient"}', [['own']]))
        .text,
      '<not-found>',
    )
  },
)

t.test(
  'labels select elements and resources; codes stand in for labels nobody set (LABEL-2, LABEL-9)',
  async (t) => {
    const { send } = maskWith([profile('  - { id: r, labels: [R, PSY], method: remove }\n')])
    const inline = (code: string): string =>
      `"extension":[{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"code":"${code}"}}]`
    for (const [code, isMasked] of [
      ['R', true],
      ['V', true],
      ['PSY', true],
      ['N', false],
      ['ETH', false],
    ] as const) {
      const { text } = await send(
        `{"resourceType":"Patient","active":true,"name":[{"family":"F",${inline(code)}}]}`,
        [['own']],
      )
      t.equal(text.includes('"F"'), !isMasked, code)
    }
    const sensitive = ['sensitive-categories']
    const rows: [system: string, code: string, label: string | undefined][] = [
      ['http://hl7.org/fhir/sid/icd-10-cm', 'F10.20', 'ETH'],
      ['urn:oid:2.16.840.1.113883.6.90', 'b20', 'HIV'],
      ['http://hl7.org/fhir/sid/icd-10', 'F329', 'PSY'],
      ['http://hl7.org/fhir/sid/icd-10-cm', 'T74.21XA', 'SDV'],
      ['http://snomed.info/sct', '86406008', 'HIV'],
      ['http://snomed.info/sct/731000124108', '86406008', 'HIV'],
      ['http://loinc.org', '75622-1', 'HIV'],
      ['http://loinc.org', '8480-6', undefined],
      ['http://hl7.org/fhir/sid/icd-10-cm', 'I10', undefined],
      ['http://elsewhere', 'F10', undefined],
    ]
    for (const [system, code, label] of rows) {
      const text = `{"resourceType":"Condition","subject":{"reference":"Patient/1"},"code":{"coding":[{"system":"${system}","code":"${code}"}]}}`
      const way = (...sensitivities: string[]) => ({
        masking: new Set(['baseline', ...sensitive]),
        clearance: { confidentiality: 'N' as const, sensitivities: new Set(sensitivities) },
      })
      t.equal(
        (await send(text, [way()])).text,
        label === undefined ? text : '<not-found>',
        `${system} ${code}`,
      )
      if (label !== undefined)
        t.equal((await send(text, [way(label)])).text, text, `${code} for the cleared`)
      t.equal((await send(text, [[]])).text, text, 'for whom the profile is not in force')
    }
  },
)

t.test(
  'beside the resource and in headers nothing tells what is masked; high-water mark (LABEL-3, REST-16)',
  async (t) => {
    const { send } = maskWith()
    const entry =
      '{"fullUrl":"http://127.0.0.1:9/base/Patient/p1","resource":{"resourceType":"Patient","id":"p1","meta":{"versionId":"77","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}},"response":{"status":"200","location":"http://127.0.0.1:9/base/Patient/p1/_history/77","etag":"W/\\"77\\"","lastModified":"2020-03-04T05:06:07Z"}}'
    const text = `{"resourceType":"Bundle","type":"searchset","timestamp":"2020-03-04T05:06:07Z","entry":[${entry}]}`
    const headers = {
      etag: 'W/"77"',
      'last-modified': 'Wed, 04 Mar 2020 05:06:07 GMT',
      location: 'http://127.0.0.1:9/base/Patient/p1/_history/77',
    }
    const clearance = { confidentiality: 'R' as const, sensitivities: new Set<string>() }
    const masked = await send(
      text,
      [{ masking: new Set(['baseline', 'safe-harbor']), clearance }],
      { headers },
    )
    for (const tell of ['p1', '77', '-03-04', '04 Mar', '05:06'])
      t.notOk((masked.text + JSON.stringify(masked.headers)).includes(tell), tell)
    type Seen = {
      meta: unknown
      entry: { fullUrl: string; resource: { id: string }; response: { location: string } }[]
    }
    const seen = JSON.parse(masked.text) as Seen
    const [first] = seen.entry
    t.equal(first?.fullUrl, `https://public.example/fhir/Patient/${first?.resource.id ?? ''}`)
    t.equal(first?.response.location, first?.fullUrl)
    t.match(seen.meta, { security: [{ code: 'R' }] })
    const plain = await send(text, [{ clearance }], { headers })
    t.strictSame(
      [plain.headers['etag'], plain.headers['last-modified']],
      [undefined, undefined],
      'of what is found, and withheld from it',
    )
    const one = '{"resourceType":"Patient","id":"p1","meta":{"versionId":"77"}}'
    const read = await send(one, [{ clearance }], { headers })
    t.match(read.headers, { etag: 'W/"77"', 'last-modified': headers['last-modified'] })
    t.match(JSON.parse(plain.text), {
      meta: { security: [{ code: 'R' }] },
      timestamp: '2020-03-04T05:06:07Z',
    })
  },
)

t.test('beside the resource an id is none either where it is no text (MASK-12)', async (t) => {
  const { send } = maskWith()
  const resource = '"resource":{"resourceType":"Patient","id":"424242"}'
  for (const beside of [
    `"fullUrl":424242,${resource}`,
    `${resource},"fullUrl":424242`,
    `${resource},"response":{"status":"200","location":424242}`,
    `${resource},"request":{"method":"PUT","url":424242}`,
    `${resource},"fullUrl":["424242"]`,
  ]) {
    const text = `{"resourceType":"Bundle","type":"searchset","entry":[{${beside}}]}`
    const masked = (await send(text, [['safe-harbor']])).text
    t.notMatch(masked, '424242', beside)
    t.match(JSON.parse(masked), { entry: [{ resource: { resourceType: 'Patient' } }] })
  }
})

t.test('which elements a search must not look at (MASK-9, REST-12)', async (t) => {
  const { touches } = maskWith([
    rule(
      'HumanName.family, "Identifier.where(system = \'x\').value", Patient.contact.telecom',
      'redact',
    ),
  ])
  const rows: [names: string, type: string, path: string, expected: boolean][] = [
    ['own', 'Patient', 'name', true],
    ['own', 'Patient', 'name.family', true],
    ['own', 'Patient', 'name.given', false],
    ['own', 'Patient', 'contact', true],
    ['own', 'Patient', 'contact.name', true],
    ['own', 'Patient', 'telecom', false],
    ['own', 'Patient', 'identifier', true],
    ['own', 'Patient', 'gender', false],
    ['own', 'Observation', 'subject', false],
    ['own', 'Observation', 'code', false],
    ['own', 'Nope', 'x', true],
    ['own', 'Patient', 'nope', true],
    ['safe-harbor', 'Observation', 'subject', true],
    ['safe-harbor', 'Observation', 'code', false],
    ['safe-harbor', 'Observation', 'valueQuantity', true],
    ['safe-harbor', 'Observation', 'effectiveDateTime', true],
    ['safe-harbor', 'Observation', 'status', false],
    ['safe-harbor', 'Patient', 'birthDate', true],
    ['safe-harbor', 'Patient', 'address.state', false],
    ['safe-harbor', 'Patient', 'address.postalCode', true],
    ['safe-harbor', 'Patient', 'address', true],
    ['safe-harbor', 'Media', 'status', true],
    ['minimum-necessary', 'Patient', 'telecom', true],
    ['minimum-necessary', 'Patient', 'birthDate', false],
    ['sensitive-categories', 'Patient', 'name', false],
  ]
  for (const [name, type, path, expected] of rows)
    t.equal(
      touches(new Set(['baseline', name]), type, path.split('.')),
      expected,
      `${name} ${type}.${path}`,
    )
  t.throws(() => touches(new Set(['baseline', 'nope']), 'Patient', ['name']), /no masking profile/)
})

// §9.2: known-good samples, one digit off, and what looks alike.
const samples: [text: string, found: string][] = [
  ['943 476 5919', 'uk-nhs'],
  ['943 476 5918', 'phone'],
  ['id 9434765919', ''],
  ['NHS no. 9434765919', 'uk-nhs'],
  ['943\u00a0476\u20115919', 'uk-nhs'],
  ['٩٤٣ ٤٧٦ ٥٩١٩', 'uk-nhs'],
  ['046 454 286', 'ca-sin'],
  ['X110406067', 'de-kvnr'],
  ['X110406068', ''],
  ['AB1234563', 'us-dea'],
  ['AB1234564', ''],
  ['1EG4-TE5-MK73', 'us-mbi'],
  ['912-78-1234', 'us-itin'],
  ['bsn: 111222333', 'nl-bsn'],
  ['8003608166690503', 'au-ihi'],
  ['medicare 2123456701', 'au-medicare'],
  ['529.982.247-25', 'br-cpf'],
  ['RSSMRA85T10A562S', 'it-cf'],
  ['85.07.30-033.28', 'be-ssin'],
  ['811218-9876', 'se-pnr'],
  ['131052-308T', 'fi-hetu'],
  ['12345678Z', 'es-dni'],
  ['PESEL 44051401359', 'pl-pesel'],
  ['ZZZ0016', 'nz-nhi'],
  ['Aadhaar 2341 2341 2346', 'in-aadhaar'],
  ['1 84 12 76 451 089 46', 'fr-nir'],
  ['GB82 WEST 1234 5698 7654 32', 'iban'],
  ['GB82 WEST 1234 5698 7654 33', ''],
  ['+1 (555) 123-4567', 'phone'],
  ['555-123-4567', 'phone'],
  ['a.b@example.org', 'email'],
  ['see http://x.org/y?z', 'url'],
  ['from 10.0.0.1', 'ip'],
  ['from abcd:abcd:abcd:abcd:abcd:abcd:abcd:abcd', 'ip'],
  ['(617)555-1234', 'phone'],
  ['617/555-1234', 'phone'],
  ['1-800-555-1234', 'phone'],
  ['1 (800) 555-1234', 'phone'],
  ['+49 30 1234567', 'phone'],
  ['+49 (0)30 1234567', 'phone'],
  ['+49/30/1234567-0', 'phone'],
  ['+49 17612345678', 'phone'],
  ['+49 (0)17612345678', 'phone'],
  ['+33 1 23 45 67 89', 'phone'],
  ['+44 20 7946 0958', 'phone'],
  ['tel 6175551234', 'phone'],
  ['mobile: 16175551234', 'phone'],
  ['6175551234', ''],
  ['accession 6175551234', ''],
  ['Na +2 140, edema +1 120/80', ''],
  ['DE89-3704-0044-0532-0130-00', 'iban'],
  ['DE89.3704.0044.0532.0130.00', 'iban'],
  ['DE89-3704-0044-0532-0130-01', ''],
  ['1EG4 TE5 MK73', 'us-mbi'],
  ['jöhn@müller.example', 'email'],
  ["o'brien@example.org", 'email'],
  ['jane@localhost', 'email'],
  ['pain@rest', ''],
  ['from fe80::1', 'ip'],
  ['from 2001:db8::8a2e:370:7334', 'ip'],
  ['a::b, 10::2', ''],
  ['123-45-6789', 'us-ssn'],
  ['4111 1111 1111 1111', 'payment-card'],
  ['1.2.840.113619.2.176.3596.3364818.7271.1259708501.876', ''],
  ['2026-03-02 10:00, 120/80, 98.6 F', ''],
]

t.test('detectors: what is found is found whole (MASK-7)', async (t) => {
  const find = createFinder(new Set(DETECTORS))
  const all = samples.filter(([, found]) => /^(?:phone|email|iban)$/.test(found))
  for (const [text] of all) {
    const bare = text.replace(/^(?:tel|mobile:) /, '')
    const noted = `${text} ok`
    t.same(
      find(noted).map(({ start, end }) => noted.slice(start, end)),
      [bare],
      text,
    )
  }
})

t.test('detectors: samples with good and bad check digits (MASK-4, MASK-7, §9.2)', async (t) => {
  const find = createFinder(new Set(DETECTORS))
  for (const [text, found] of samples)
    t.equal(
      find(text)
        .map(({ name }) => name)
        .join(),
      found,
      text,
    )
})

t.test(
  'detectors: every pattern is bounded, so that the cost is that of the length (MASK-7)',
  async (t) => {
    for (const [name, { pattern }] of Object.entries(PATTERNS)) {
      const { source } = pattern
      const plain = source.replace(/\\./g, 'x').replace(/\[[^\]]*\]/g, 'c')
      t.notMatch(plain, /[*+]|\{\d+,\}/, name)
    }
    const find = createFinder(new Set(DETECTORS))
    const units = [
      '1',
      '1-',
      '1 ',
      'a.',
      '@a.',
      'A1',
      '1:',
      'http://',
      'GB82 ',
      'www.',
      '+1 ',
      '+1/',
      '12.',
      'ö',
      "'a",
      'fe80:',
      'fe80::',
      'DE89-',
    ]
    for (const unit of units) {
      const note = unit.repeat(Math.ceil(1_000_000 / unit.length))
      t.ok(find(note).length >= 0, `a megabyte of "${unit}" ends`)
    }
  },
)

// What is wrong with a profile is told with file and line, all at once.
const faults: [name: string, text: string, problem: RegExp][] = [
  ['no such element', rule('Patient.foo', 'remove'), /0\.yaml:4:\d+ Patient has no element foo/],
  ['no such type', rule('Foo.bar', 'remove'), /there is no type Foo/],
  [
    'a choice by its JSON name',
    rule('Observation.valueString', 'remove'),
    /write value\.ofType\(string\)/,
  ],
  [
    'a choice that is none',
    rule('Observation.value.ofType(Address)', 'remove'),
    /never of type Address/,
  ],
  ['not a path', rule('"Patient..x"', 'remove'), /an element is missing/],
  ['another function', rule('"Patient.name.first()"', 'remove'), /first\(\) is not known/],
  [
    'where() on what is not there',
    rule('"Patient.name.where(foo = \'x\')"', 'remove'),
    /HumanName has no element foo/,
  ],
  [
    'where() on what is no simple value',
    rule('"Patient.where(name = \'x\')"', 'remove'),
    /no simple value/,
  ],
  ['labels', rule('Patient.meta.security', 'remove'), /labels .* are never masked/],
  ['the whole of meta', rule('Meta', 'redact'), /labels .* are never masked/],
  ['the address of an extension', rule('Extension.url', 'remove'), /never masked/],
  ['a method that does not fit', rule('HumanName', 'pseudonym'), /for simple values/],
  ['age-90 of a name', rule('HumanName', '{ generalise: age-90 }'), /ages and quantities/],
  ['a method that is none', rule('HumanName', 'blur'), /0\.yaml:4:\d+ /],
  ['span-90 of a name', rule('HumanName', '{ generalise: span-90 }'), /quantities and ranges/],
  ['nearly all of a number', rule('HumanName.family', '{ last: 9 }'), /0\.yaml:4:\d+ /],
  [
    'nothing to select by',
    profile('  - { id: r, method: remove }\n'),
    /one of select, identifiers, detect and labels/,
  ],
  [
    'a detector that is none',
    profile('  - { id: r, detect: [x], method: redact }\n'),
    /0\.yaml:4:\d+ /,
  ],
  [
    'the same rule twice',
    profile(
      '  - { id: r, select: [HumanName], method: remove }\n  - { id: r, select: [Address], method: remove }\n',
    ),
    /0\.yaml:5:\d+ rule "r" is there twice/,
  ],
  ['an unknown key', `${rule('HumanName', 'remove')}foo: 1\n`, /Unrecognized key: "foo"/],
  [
    'the baseline',
    rule('HumanName', 'remove').replace('own', 'baseline'),
    /the baseline cannot be replaced/,
  ],
]

t.test('profiles: every problem with file and line, beside policies of one’s own', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-faults-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  mkdirSync(join(folder, 'masking'))
  const policy = (masking: string): string =>
    `policy: p\ndescription: d\nrules:\n  - { id: r, effect: permit, levels: [user], interactions: [read], types: [Patient], obligations: { masking: ${masking} } }\n`
  const load = (masking: string, text: string): string => {
    writeFileSync(join(folder, 'p.yaml'), policy(masking))
    writeFileSync(join(folder, 'masking', '0.yaml'), text)
    try {
      return `loaded: ${[...loadPolicies(folder).masking.keys()].join(' ')}`
    } catch (error) {
      if (error instanceof PolicyError) return error.message
      throw error
    }
  }
  for (const [name, text, problem] of faults) t.match(load('baseline', text), problem, name)
  const good = rule('HumanName', 'remove')
  t.equal(load('baseline', good), 'loaded: own')
  t.match(load('[own, safe-harbor]', good), /^loaded: .*safe-harbor.*own/)
  t.match(load('nobody', good), /p\.yaml:4:\d+ there is no masking "nobody"/)
  t.equal(load('own', rule('Patient.animal', 'remove')), 'loaded: own', 'of another FHIR version')
})

t.test('the page on masking: its example is a profile, and every construct is in it', async (t) => {
  const page = readFileSync(new URL('../../policies/README.md', import.meta.url), 'utf8')
  const text = /```yaml\n(masking: house-rules\n[\s\S]*?)```/.exec(page)?.[1] ?? ''
  t.doesNotThrow(() => maskWith([text]))
  const methods = ['keep', 'remove', 'redact', 'pseudonym', 'date-shift', 'last', 'replace']
  const words = [...methods, 'year', 'zip3', 'age-90', 'span-90', 'identifiers', 'detect', 'labels']
  for (const word of [...words, 'categories', 'ofType(', 'where(', 'extension(', ' or '])
    t.ok(text.includes(word), word)
})

t.test('what is a date is told from its bytes as from its text (MASK-3)', async (t) => {
  const date = /^\d{4}(?:-\d{2}(?:-\d{2}(?:T[\d:.]{5,30}(?:Z|[+-]\d{2}:\d{2}))?)?)?$/
  const near = fc
    .tuple(
      fc.constantFrom('2019', '2019-03', '2019-03-04', '2019-03-04T', '2019-03-04T', '20190304'),
      fc.oneof(
        fc.constant(''),
        fc.stringMatching(/^[\d:.]{4,31}$/),
        fc.stringMatching(/^[\dT-]{0,4}$/),
      ),
      fc.constantFrom('Z', '+01:00', '-13:30', '+0100', 'z', ''),
    )
    .map((parts) => parts.join(''))
  const counts = [0, 0]
  fc.assert(
    fc.property(fc.oneof(near, fc.string({ maxLength: 12 })), (text) => {
      const bytes = Buffer.from(`"${text}"`)
      const found = isDate(bytes, 1, bytes.length - 1)
      counts[found ? 1 : 0]!++
      return found === date.test(text)
    }),
    { numRuns: 20_000 },
  )
  t.ok(
    counts.every((count) => count > 400),
    counts.join(),
  )
})

t.test(
  'what is masked and an address of upstream’s at once is masked (MASK-3, REST-10)',
  async (t) => {
    const { send } = maskWith([
      rule('Reference.reference', 'pseudonym'),
      // Another name, so that both load.
      rule('Attachment.url', '{ replace: X }').replace('masking: own', 'masking: other'),
    ])
    // Those first that are rewritten whole: the others follow what was found of them.
    for (const slash of ['\\/', '/']) {
      const address = `http://127.0.0.1:9/base/Patient/zq1`.replaceAll('/', slash)
      for (const way of [['own'], ['safe-harbor'], ['other', 'own']]) {
        // Twice, and once more as the first have been.
        for (let n = 0; n < 3; n++) {
          const body = `{"resourceType":"Basic","id":"b","subject":{"reference":"${address}"},"created":"2020-01-01"}`
          const { text } = await send(body, [way])
          t.match(text, /"reference":"Patient\/[0-9a-f]{32}"/, `${way.join()} ${slash}`)
          t.notMatch(text, 'zq1')
        }
      }
    }
  },
)

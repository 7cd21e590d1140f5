import fc from 'fast-check'
import t from 'tap'
import { findSecrets } from '../../src/stages/release/mask/detect/secrets.ts'
import { PATTERNS } from '../../src/stages/release/mask/detect/patterns.ts'
import { mayShowDigits, shownOf } from '../../src/stages/release/mask/detect/shown.ts'
import { maskWith } from '../support/mask.ts'

/** Numbers and contents written so that a reader sees them and a search for them does not. */
const EVERYTHING = ['us-ssn', 'payment-card', ...Object.keys(PATTERNS)]
const own = `masking: own\ndescription: d\nrules: [{ id: r, detect: [${EVERYTHING.join()}], method: redact }]\n`
const { send } = maskWith([own])

const patient = (members: string): string => `{"resourceType":"Patient","id":"a1",${members}}`
const narrative = (text: string): string =>
  patient(`"text":{"status":"generated","div":${JSON.stringify(`<div>${text}</div>`)}}`)
const words = (text: string): string => patient(`"maritalStatus":{"text":${JSON.stringify(text)}}`)

/** The SSN 123-45-6789 and the card 4111 1111 1111 1111: none of these may leave as it came. */
const written: readonly (readonly [name: string, text: string])[] = [
  ['a character reference', '&#49;23-45-6789'],
  ['a hexadecimal reference', '12&#x33;-45-6789'],
  ['a reference for the sign between', '123&#45;45&#8209;6789'],
  ['a named reference for a space', '123&nbsp;45&nbsp;6789'],
  ['a reference nobody sees', '123&shy;-45-67&zwnj;89'],
  ['emphasis', '<b>123</b>-45-<i class="x">6789</i>'],
  ['a comment within', '123<!-- x -->-45-6789'],
  ['a comment with tags in it', '123<!-- <b> > -->-45-6789'],
  ['a tag with its end within', '123<b title=">">-45-6789</b>'],
  ['a section that is not parsed', '<![CDATA[123]]>-45-6789'],
  ['a reference without its end', '&#49&#50&#51-45-6789'],
  ['a tag of no known name', '4111 <x:y>1111</x:y> 1111 1111'],
  ['a number in an attribute', '<span title="123-45-6789">x</span>'],
  ['both, one after the other', '123-45-6789 and &#49;23-45-6789'],
  ['signs of direction', '123\u202d-45\u2066-6789'],
  ['variation selectors and joiners', '123\ufe0f-45\u034f-6789'],
  ['keycaps', '1\ufe0f\u20e32\ufe0f\u20e33-45-6789'],
  ['control characters', '123\u0007-45-\u00006789'],
  ['raised digits', '¹²³-⁴⁵-⁶⁷⁸⁹'],
  ['circled digits', '①②③-④⑤-⑥⑦⑧⑨'],
  ['segmented digits', '\u{1fbf1}\u{1fbf2}\u{1fbf3}-45-6789'],
  ['digits of a script beyond the basic plane', '\u{1e951}\u{1e952}\u{1e953}-45-6789'],
  ['a sign of another plane within', '123\u{e0001}-45-6789'],
]

t.test('a number that only a reader sees is found all the same (MASK-7, row 22)', async (t) => {
  for (const [name, text] of written) {
    for (const [where, body] of [
      ['a narrative', narrative(text)],
      ['a text', words(text)],
    ] as const) {
      for (const way of [[], ['own'], ['payment-card']]) {
        const out = await send(body, [way])
        const place = `${name} in ${where} ${way.join()}`
        t.not(out.text, body, place)
        t.notOk(out.text.includes(JSON.stringify(text).slice(1, -1)), place)
        t.notMatch(out.text, /45-6789|45[^"]{1,8}-6789|⑥⑦⑧⑨"|⁴⁵-⁶⁷/u, place)
      }
    }
  }
})

t.test('what is none stays as it is', async (t) => {
  for (const text of [
    '<table><tr><td>123</td><td>45</td><td>6789</td></tr></table>',
    '<p>4111</p><p>1111</p><p>1111</p><p>1111</p>',
    'x &lt; 12 &amp; y &gt; 34, on 2020-01-01 at 10:11:12',
    '10⁹/l and 12 m², 1234567 é',
    'a < 5, b > 4, c &c. 1234567',
  ]) {
    for (const body of [narrative(text), words(text)]) t.equal((await send(body, [[]])).text, body)
  }
})

t.test('addresses and mail in a narrative, written with references', async (t) => {
  for (const text of ['john&#64;x.example', 'john&commat;x.example', 'j<b>ohn@x</b>.example']) {
    t.notMatch((await send(narrative(text), [['own']])).text, /ohn/, text)
  }
})

t.test('questions keep their numbers: two masked ones could not be told apart', async (t) => {
  const item = '{"linkId":"2.1.1.0"},{"linkId":"2.1.1.1"}'
  const body = `{"resourceType":"QuestionnaireResponse","status":"completed","item":[${item}]}`
  t.match((await send(body, [['safe-harbor']])).text, item)
})

// MASK-8: what nobody can look into does not leave.
t.test('content within an address, a list, or by another name than `data`', async (t) => {
  const content = 'Q2FuYXJ5IGNhbmFyeSBjYW5hcnk='
  const answer = (text: string): string =>
    `{"resourceType":"QuestionnaireResponse","item":[{"answer":[{"valueString":"${text}"}]}]}`
  const picture = `<img src=\\"data:image/png;base64,${content}\\" alt=\\"123456789\\"/>`
  for (const [name, body] of [
    ['an address', patient(`"photo":[{"url":"data:text/plain;base64,${content}"}]`)],
    ['capitals', patient(`"photo":[{"url":" DATA:;base64,${content}"}]`)],
    ['escapes', patient(`"photo":[{"url":"d\\u0061ta:,${content}"}]`)],
    ['an extension', patient(`"extension":[{"url":"x","valueUri":"data:,${content}"}]`)],
    ['a narrative', patient(`"text":{"status":"generated","div":"<div>${picture}</div>"}`)],
    // Without a digit that a scan would note.
    ['without an escape', narrative(`<img src='data:;base64,${content}'/>`)],
    ['a space before `base64`', narrative(`<img src='data:a/b; base64,${content}'/>`)],
    ['an attribute in percent signs', narrative(`<img src=' data:text/html,${content}'/>`)],
    ['an answer', answer(`data:image/png;base64,${content}`)],
    ['an answer in capitals', answer(`DATA:image/png; base64 ,${content}`)],
    ['a space before', answer(`  data:;base64,${content}`)],
    ['a name that nobody knows', patient(`"whatever":["data:;base64,${content}"]`)],
    ['a list', patient(`"photo":[{"data":["${content}"]}]`)],
    ['AuditEvent', `{"resourceType":"AuditEvent","entity":[{"query":"${content}"}]}`],
    ['Device', `{"resourceType":"Device","udiCarrier":[{"carrierAIDC":"${content}"}]}`],
    ['beside itself', patient(`"photo":[{"data":"${content}","_data":{"id":"x"}}]`)],
  ] as const) {
    const { text } = await send(body, [[]])
    t.notOk(text.includes(content), name)
    t.match(text, '"code":"REDACTED"', name)
    t.equal(text.match(/"_data"/g)?.length ?? 0, text.includes('"_data"') ? 1 : 0, name)
  }
})

t.test('a number in what is asked of an address', async (t) => {
  for (const [name, body] of [
    ['an attachment', patient('"photo":[{"url":"https://x.example/a?ssn=123-45-6789"}]')],
    ['percent signs', patient('"photo":[{"url":"https://x.example/a?s=123%2D45%2d6789"}]')],
    ['a reference', patient('"managingOrganization":{"reference":"Patient?x=123-45-6789"}')],
  ] as const) {
    t.notMatch((await send(body, [[]])).text, /45-6789|45%2d6789/i, name)
  }
  const body = patient('"photo":[{"url":"https://x.example/123-45-6789/a?b=12345678901234"}]')
  t.equal((await send(body, [[]])).text, body, 'a path is a name of something')
})

t.test('an identifier that says in other words what it is (MASK-4)', async (t) => {
  for (const members of [
    '"system":["http://hl7.org/fhir/sid/us-ssn"],"value":"123456789"',
    '"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"ss"}]},"value":"123456789"',
    '"type":{"coding":[{"code":"x","display":"Social Security Number"}]},"value":"123456789"',
    '"type":{"text":"S.S.N."},"value":"123456789"',
    '"type":{"text":"Soc. Sec. No."},"value":"123456789"',
  ]) {
    const { text } = await send(patient(`"identifier":[{${members}}]`), [[]])
    t.notMatch(text, /12345/, members)
  }
})

t.test('nine digits that something beside them calls an SSN (MASK-4, MASK-5, §9.2)', async (t) => {
  const observation = (members: string): string => `{"resourceType":"Observation",${members}}`
  const answers = (item: string): string =>
    `{"resourceType":"QuestionnaireResponse","status":"completed","item":[${item}]}`
  for (const [what, body] of [
    ['the code', observation('"code":{"text":"Social Security Number"},"valueString":"123456789"')],
    [
      'the code, which follows',
      observation('"valueString":"123456789","code":{"coding":[{"display":"SSN"}]}'),
    ],
    ['LOINC', observation('"code":{"coding":[{"code":"45396-3"}]},"valueString":"123456789"')],
    ['a component', observation('"component":[{"code":{"text":"SSN"},"valueString":"123456789"}]')],
    ['a question', answers('{"text":"Your SSN?","answer":[{"valueString":" 123456789"}]}')],
    ['its number', answers('{"linkId":"us_ssn","answer":[{"valueString":"123456789 (new)"}]}')],
    [
      'an extension',
      patient('"extension":[{"url":"http://x/patientSSN","valueString":"123456789"}]'),
    ],
    [
      'one in one',
      patient(
        '"extension":[{"url":"http://x/ssn","extension":[{"url":"v","valueString":"123456789"}]}]',
      ),
    ],
    [
      'one with an identifier',
      patient('"extension":[{"url":"http://x/ssn","valueIdentifier":{"value":"123456789"}}]'),
    ],
    ['a system', patient('"identifier":[{"value":"123456789","system":"http://x/ssn"}]')],
    [
      'a longer one',
      patient('"identifier":[{"system":"http://x/social-security-number","value":"123456789"}]'),
    ],
    [
      'who gave it',
      patient('"identifier":[{"value":"123456789","assigner":{"display":"Social Security"}}]'),
    ],
    [
      'a parameter',
      patient(
        '"contained":[{"resourceType":"Parameters","parameter":[{"name":"patientSSN","valueString":"123456789"}]}]',
      ),
    ],
    [
      'the code of what is no primitive',
      observation('"code":{"text":"SSN"},"valueCodeableConcept":{"text":"123456789"}'),
    ],
  ] as const) {
    const { text } = await send(body, [[]])
    t.match(text, '*****6789', what)
    t.notMatch(text, '12345', what)
    t.match(text, '"MASKED"', what)
  }
  for (const body of [
    patient('"identifier":[{"system":"http://x/mrn","value":"123456789"}]'),
    patient('"identifier":[{"system":"http://x/lessness","value":"123456789"}]'),
    patient('"identifier":[{"system":"http://x/ssn","value":"987654321"}]'),
    patient('"identifier":[{"value":"123456789"}],"extension":[{"url":"http://x/ssn"}]'),
    observation('"code":{"text":"SSN"},"valueString":"1234567890"'),
    observation('"note":[{"text":"no SSN"}],"valueString":"123456789"'),
  ])
    t.equal((await send(body, [[]])).text, body)
})

t.test('labels of what is contained, however deep (LABEL-1)', async (t) => {
  const secret =
    '{"resourceType":"Condition","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]}}'
  for (const inner of [
    secret,
    `{"resourceType":"Patient","contained":[${secret}]}`,
    `{"resourceType":"Bundle","entry":[{"resource":${secret}}]}`,
    `{"resourceType":"Parameters","parameter":[{"name":"a","part":[{"name":"b","resource":${secret}}]}]}`,
  ]) {
    t.equal((await send(patient(`"contained":[${inner}]`), [[]])).text, '<not-found>', inner)
  }
})

t.test('safe-harbor: ages and addresses in other places (MASK-12)', async (t) => {
  const age = '"code":{"coding":[{"system":"http://loinc.org","code":"30525-0"}]}'
  const quantity = '{"value":97,"unit":"years","system":"http://unitsofmeasure.org","code":"a"}'
  const observation = (members: string): string =>
    `{"resourceType":"Observation","status":"final",${age},${members}}`
  for (const [name, body] of [
    ['a number', observation('"valueInteger":97')],
    ['a range', observation(`"valueRange":{"low":${quantity}}`)],
    ['a ratio', observation(`"valueRatio":{"numerator":${quantity}}`)],
    ['a component', observation(`"component":[{${age},"valueQuantity":${quantity}}]`)],
    ['a number of a component', observation(`"component":[{${age},"valueInteger":97}]`)],
    ['whom a range is for', observation(`"referenceRange":[{"age":{"low":${quantity}}}]`)],
    [
      'an answer',
      '{"resourceType":"QuestionnaireResponse","status":"completed","item":[{"linkId":"1","answer":[{"valueUri":"http://x.example/97"}]}]}',
    ],
    [
      'an input',
      '{"resourceType":"Task","status":"draft","intent":"order","input":[{"type":{"coding":[{"code":"x"}]},"valueUri":"http://x.example/97"}]}',
    ],
    ['a source', '{"resourceType":"DocumentManifest","source":"http://x.example/97"}'],
    [
      'two addresses of an extension',
      patient('"extension":[{"url":["ombCategory","97"],"valueCode":"x"}]'),
    ],
  ] as const) {
    const bare = (await send(body, [['safe-harbor']])).text.replace(/"id":"[^"]*"/, '')
    t.notMatch(bare, /97/, name)
  }
})

t.test('whoever finds a number was let look for it, however its digits are written', async (t) => {
  const signs = [
    ...Array.from({ length: 10 }, (_, digit) => String(digit)),
    ...['４', '٤', '߄', '④', '⁴', '₄', '㉑', '⒋', '𝟒', '\u{1fbf4}', '4\ufe0f\u20e3'],
    ...['&#52;', '&#x34;', '&#x000034', '<b>4</b>', '4&shy;', '4&zwnj;'],
    ...['-', ' ', '&nbsp;', '\u2011', '\u00ad', '<i>', '</i>', '<!--', '-->', 'x', 'ü'],
    ...['123-45-6789', '4111 1111 1111 1111', 'SSN ', '１２３-４５-６７８９'],
  ]
  let found = 0
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom(...signs), { minLength: 1, maxLength: 24 }),
      (parts: string[]) => {
        const text = parts.join('')
        const findings = [...findSecrets(text), ...findSecrets(shownOf(text) ?? '')]
        if (findings.length > 0) found += 1
        return findings.length === 0 || mayShowDigits(text, 9)
      },
    ),
    { numRuns: 20_000 },
  )
  t.ok(found > 1000, `${found} texts held a number`)
})

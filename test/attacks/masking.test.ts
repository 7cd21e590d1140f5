import fc from 'fast-check'
import t from 'tap'
import { generateResource } from '../support/generate-resource.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import { maskWith } from '../support/mask.ts'

/** Every place in which a masked value can hide, and every way of writing it that hides it. */
const { send } = maskWith()
const CANARY = 'Canary'

const patient = (members: string): string =>
  `{"resourceType":"Patient","id":"a1","active":true,${members}}`

// MASK-5, rows 22, 24, 35.
const places: [name: string, resource: string][] = [
  ['an element', patient('"name":[{"family":"Canary"}]')],
  [
    'contained',
    patient('"contained":[{"resourceType":"Practitioner","id":"x","name":[{"text":"Canary"}]}]'),
  ],
  [
    'contained in contained',
    patient(
      '"contained":[{"resourceType":"Patient","contained":[{"resourceType":"Patient","name":[{"text":"Canary"}]}]}]',
    ),
  ],
  [
    'contained of no known type',
    patient('"contained":[{"resourceType":"Nobody","name":[{"text":"Canary"}]},{"name":"Canary"}]'),
  ],
  [
    'a Bundle within',
    patient(
      '"contained":[{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"http://x/Patient/Canary","resource":{"resourceType":"Patient","name":[{"text":"Canary"}]}}]}]',
    ),
  ],
  [
    'Parameters within',
    patient(
      '"contained":[{"resourceType":"Parameters","parameter":[{"name":"p","valueHumanName":{"text":"Canary"}},{"name":"q","resource":{"resourceType":"Patient","telecom":[{"value":"Canary"}]}},{"name":"r","part":[{"name":"s","part":[{"name":"t","valueString":"Canary"}]}]}]}]',
    ),
  ],
  ['an extension', patient('"extension":[{"url":"http://x","valueString":"Canary"}]')],
  [
    'an extension in an extension',
    patient(
      '"extension":[{"url":"http://x","extension":[{"url":"y","valueAddress":{"line":["Canary"]}}]}]',
    ),
  ],
  [
    'a modifier extension',
    patient('"modifierExtension":[{"url":"http://x","valueString":"Canary"}]'),
  ],
  [
    'beside a primitive',
    patient(
      '"birthDate":"1980-01-01","_birthDate":{"extension":[{"url":"http://x","valueString":"Canary"}]}',
    ),
  ],
  [
    'beside a primitive that is not there',
    patient('"_gender":{"extension":[{"url":"http://x","valueString":"Canary"}]}'),
  ],
  [
    'beside elements of a list',
    patient(
      '"name":[{"given":["A"],"_given":[{"extension":[{"url":"http://x","valueString":"Canary"}]}]}]',
    ),
  ],
  [
    'Reference.display',
    patient('"managingOrganization":{"reference":"Organization/1","display":"Canary"}'),
  ],
  [
    'Reference.identifier',
    patient(
      '"managingOrganization":{"identifier":{"value":"Canary","assigner":{"display":"Canary"}}}',
    ),
  ],
  [
    'the narrative',
    patient(
      '"text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">Canary</div>"}',
    ),
  ],
  [
    'the narrative of a section',
    '{"resourceType":"Composition","status":"final","type":{"text":"t"},"section":[{"title":"Canary","text":{"status":"generated","div":"<div>Canary</div>"},"section":[{"text":{"status":"generated","div":"<div>Canary</div>"}}]}]}',
  ],
  ['a note', '{"resourceType":"Condition","note":[{"authorString":"Canary","text":"Canary"}]}'],
  [
    'an attachment',
    patient(
      '"photo":[{"title":"Canary","url":"http://x/Canary","data":"Q2FuYXJ5","contentType":"text/plain"}]',
    ),
  ],
  [
    'an answer',
    '{"resourceType":"QuestionnaireResponse","status":"completed","item":[{"linkId":"1","text":"Canary","answer":[{"valueString":"Canary","item":[{"linkId":"2","answer":[{"valueString":"Canary"}]}]}]}]}',
  ],
  ['a code in words', '{"resourceType":"Condition","code":{"text":"Canary"}}'],
  [
    'what a payload says',
    '{"resourceType":"Communication","status":"completed","payload":[{"contentString":"Canary"}]}',
  ],
  [
    'an address on a network',
    '{"resourceType":"Endpoint","status":"active","address":"http://Canary.example"}',
  ],
  ['a source', patient('"meta":{"source":"http://Canary.example"}')],
  [
    'the words of a label',
    patient(
      '"meta":{"tag":[{"code":"x","extension":[{"url":"http://x","valueString":"Canary"}],"foo":"Canary"}],"security":["Canary"]}',
    ),
  ],
  ['labels that are none', patient('"meta":{"tag":"Canary"}')],
  [
    'an unknown member',
    patient('"_foo":{"a":"Canary"},"foo":["Canary"],"fhir_comments":["Canary"]'),
  ],
  ['an unknown member of a data type', patient('"address":[{"state":"MA","foo":"Canary"}]')],
  ['an object where a text belongs', patient('"gender":{"Canary":"Canary"}')],
  [
    'a text where an object belongs',
    patient('"address":"Canary","contact":["Canary"],"maritalStatus":["Canary",["Canary"]]'),
  ],
  [
    'a text where a number belongs',
    patient('"multipleBirthInteger":"Canary","deceasedBoolean":"Canary"'),
  ],
  ['a list in a list', patient('"name":[[{"family":"Canary"}]],"gender":[["Canary"]]')],
  ['what is no date', patient('"birthDate":"Canary","deceasedDateTime":"1990-01-01TCanary"')],
  ['what is no ZIP code', patient('"address":[{"postalCode":"02139 Canary"}]')],
  [
    'an id',
    patient('"link":[{"id":"Canary","other":{"reference":"Patient/Canary"},"type":"seealso"}]'),
  ],
  [
    'references of every kind',
    patient(
      '"generalPractitioner":[{"reference":"http://127.0.0.1:9/base/Practitioner/Canary"},{"reference":"https://else.example/Practitioner/Canary"},{"reference":"urn:uuid:Canary"},{"reference":"#Canary"},{"reference":"Canary"},{"reference":"Practitioner/Canary/_history/Canary"},{"reference":"Practitioner?identifier=Canary"}]',
    ),
  ],
  ['a name with an escape', patient('"n\\u0061me":[{"f\\u0061mily":"Canary"}]')],
  ['a value with an escape', patient('"name":[{"family":"\\u0043anary"}]')],
  ['a type with an escape', '{"resourceType":"P\\u0061tient","name":[{"family":"Canary"}]}'],
  [
    'the same member twice',
    '{"resourceType":"Patient","name":[{"family":"A"}],"maritalStatus":{"text":"A"},"maritalStatus":{"text":"Canary"}}',
  ],
  [
    'a value beside itself twice',
    '{"resourceType":"Patient","_gender":{"id":"a"},"_gender":{"extension":[{"url":"u","valueString":"Canary"}]}}',
  ],
  [
    'spaces everywhere',
    '{ "resourceType" : "Patient" , "name" : [ { "family" : "Canary" } ] , "contact" : [ { "name" : { "text" : "Canary" } } ] }',
  ],
]

t.test(
  'safe-harbor: whatever hides a value, it does not leave (MASK-5, MASK-12, rows 22, 35)',
  async (t) => {
    for (const [name, resource] of places) {
      const body = resource.startsWith('{ ') ? resource : resource
      const { text } = await send(body, [['safe-harbor']])
      t.notMatch(text, /canary|Q2FuYXJ5/i, name)
      if (!text.startsWith('<')) t.doesNotThrow(() => JSON.parse(text) as unknown, `${name}: JSON`)
      const bundle = `{"resourceType":"Bundle","type":"searchset","entry":[{"fullUrl":"http://127.0.0.1:9/base/Patient/a1","resource":${resource}}]}`
      const out = await send(bundle, [['safe-harbor']])
      t.notMatch(out.text, /canary|Q2FuYXJ5|a1"/i, `${name}, in a Bundle`)
      if (!out.text.startsWith('<')) t.doesNotThrow(() => JSON.parse(out.text) as unknown)
    }
    t.ok(
      places.every(([, resource]) => /canary/i.test(resource.replace('\\u0043', 'C'))),
      CANARY,
    )
  },
)

// Every place of a number in a text, for each profile that looks for it.
t.test(
  'numbers in texts that stay: found in each, with what the baseline finds (MASK-7)',
  async (t) => {
    const own =
      'masking: own\ndescription: d\nrules: [{ id: r, detect: [uk-nhs, email], method: redact }]\n'
    const { send: sendOwn } = maskWith([own])
    const text = patient(
      '"maritalStatus":{"text":"943 476 5919, a@b.example, 123-45-6789, 4111 1111 1111 1111"},"extension":[{"url":"http://x","valueMarkdown":"9\\u003443 476 5919 943 476 5919"}]',
    )
    const out = await sendOwn(text, [['own']])
    t.match(out.text, '"text":"[masked], [masked], ***-**-6789, **** **** **** 1111"')
    t.notMatch(out.text, /943 476 5919|123-45|a@b/)
  },
)

// As of elements: of one profile the last rule, of several the strictest, however they are named.
t.test(
  'numbers in texts: several profiles show no more than each of them (MASK-1, MASK-7)',
  async (t) => {
    const own = (name: string, rules: string): string =>
      `masking: ${name}\ndescription: d\nrules: [${rules}]\n`
    const of = (detectors: string, method: string, id = 'r'): string =>
      `{ id: ${id}, detect: [${detectors}], method: ${method} }`
    const { send: sendOwn } = maskWith([
      own('four', of('payment-card, iban', '{ last: 4 }')),
      own('two', of('payment-card, iban', '{ last: 2 }')),
      own('none', of('iban', 'redact')),
      own('later', `${of('iban', 'redact', 'q')}, ${of('iban', '{ last: 4 }')}`),
      own('address', of('url', '{ last: 4 }')),
      own('words', of('iban', '{ replace: X }')),
    ])
    const text = observation(
      '"valueString":"4111 1111 1111 1111; DE89 3704 0044 0532 0130 00; https://x.example/4111111111111111"',
    )
    const rows: [names: string[], shown: RegExp][] = [
      [['payment-card', 'four'], /"\[masked\]; \[masked\]; .*\[masked\]"/],
      [['four', 'none'], /"\*{4} \*{4} \*{4} 1111; \[masked\];/],
      [['four', 'two'], /"\*{4} \*{4} \*{4} \*{2}11; [* ]*00;/],
      [['four', 'later'], /; [* ]*30 00;/],
      [['none', 'later'], /; \[masked\];/],
      [['words', 'none'], /; \[masked\];/],
      [['words', 'four'], /; X;/],
      [['address', 'payment-card'], /"\[masked\]; \[masked\]; \[masked\]"/],
    ]
    for (const [names, shown] of rows) {
      for (const order of [names, names.toReversed()]) {
        const { text: out } = await sendOwn(text, [order])
        t.match(out, shown, order.join())
      }
    }
  },
)

const BASE64 = Buffer.from('SSN 123-45-6789').toString('base64')
const UP = 'http://127.0.0.1:9/base'
const INLINE_R =
  '{"url":"http://hl7.org/fhir/uv/security-label-ds4p/StructureDefinition/extension-inline-sec-label","valueCoding":{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}}'
const ACT_CODE = 'http://terminology.hl7.org/CodeSystem/v3-ActCode'
const inline = (members: string): string =>
  `{"resourceType":"Patient","id":"a","meta":{"security":[{"system":"${ACT_CODE}","code":"PROCESSINLINELABEL"}]}${members}}`
const observation = (members: string): string =>
  `{"resourceType":"Observation","id":"a","status":"final",${members}}`
const aged = (code: string): string =>
  observation(
    `"code":{"coding":[{"system":"http://loinc.org","code":"${code}"}]},"valueQuantity":{"value":97,"unit":"a","code":"a"}`,
  )
const ssn = (members: string): string =>
  `{"resourceType":"Patient","id":"a","identifier":[{${members}}]}`

const looked: [what: string, text: string, profile: string, gone: RegExp, there?: RegExp][] = [
  // MASK-12: what stands before an id is a type, or somebody's name.
  [
    'a name in an address',
    observation('"subject":{"reference":"https://portal.example/patients/JaneDoe/1"}'),
    'safe-harbor',
    /JaneDoe/,
  ],
  [
    'a name in a source',
    '{"resourceType":"Observation","id":"a","meta":{"source":"https://portal.example/users/JaneDoe/42"}}',
    'limited-data-set',
    /JaneDoe/,
  ],
  // MASK-8: what nobody can look into goes, whatever a detector finds in it as well.
  [
    'base64 with a number in its address',
    observation(`"valueString":"data:text/plain;name=123-45-6789;base64,${BASE64}"`),
    'payment-card',
    new RegExp(BASE64),
  ],
  [
    'the same',
    observation(`"valueString":"data:text/plain;name=123-45-6789;base64,${BASE64}"`),
    'minimum-necessary',
    new RegExp(BASE64),
  ],
  // MASK-2, MASK-4: beside an identifier that has no value, and in lists where none belongs.
  [
    'an SSN rendered beside no value',
    ssn(
      '"system":"urn:oid:2.16.840.1.113883.4.1","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":"123456789"}]',
    ),
    'baseline',
    /123456789/,
  ],
  ['a type in a list', ssn('"type":[{"text":"SSN"}],"value":"123456789"'), 'baseline', /123456789/],
  ['a text in a list', ssn('"type":{"text":["SSN"]},"value":"123456789"'), 'baseline', /123456789/],
  [
    'a code in a list',
    ssn('"type":{"coding":[{"code":["SS"]}]},"value":"123456789"'),
    'baseline',
    /123456789/,
  ],
  [
    'a system in a list',
    ssn('"system":["http://hl7.org/fhir/sid/us-mbi"],"value":"1EG4TE5MK73"'),
    'minimum-necessary',
    /1EG4TE5MK73/,
  ],
  [
    'a type code in lower case',
    ssn(
      '"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"ppn"}]},"value":"X1234567"',
    ),
    'minimum-necessary',
    /X1234567/,
  ],
  // MASK-7: whatever separates as a space does.
  [
    'line separators',
    observation('"note":[{"text":"123\u202845\u20286789"}]'),
    'baseline',
    /123/,
    /6789/,
  ],
  [
    'tabs of another kind',
    observation('"note":[{"text":"123\\u000b45\\u00856789"}]'),
    'baseline',
    /123/,
    /6789/,
  ],
  // MASK-12 C: ages over 89.
  [
    'an age that was calculated',
    aged('29553-5'),
    'safe-harbor',
    /"value":97/,
    /"value":90,"comparator":">="/,
  ],
  ['an age at death', aged('39016-1'), 'safe-harbor', /"value":97/],
  [
    'an age in a unit that nobody knows',
    aged('30525-0').replaceAll('"a"}', '"decades"}').replace('97', '9.7'),
    'safe-harbor',
    /9\.7/,
  ],
  [
    'ages of a risk',
    '{"resourceType":"RiskAssessment","id":"a","prediction":[{"whenRange":{"low":{"value":93,"unit":"years"},"high":{"value":99,"unit":"years"}}}]}',
    'safe-harbor',
    /93|99/,
  ],
  // 45 CFR 164.514(e): texts that anyone may have written.
  [
    'a conclusion',
    '{"resourceType":"DiagnosticReport","id":"a","conclusion":"Mrs Canary, tel 617-555-1234"}',
    'limited-data-set',
    /Canary/,
  ],
  [
    'who did it',
    '{"resourceType":"AuditEvent","id":"a","agent":[{"name":"Dr Canary","altId":"canary1","requestor":true}]}',
    'limited-data-set',
    /canary/i,
  ],
  // MASK-12 R: one id, one pseudonym.
  [
    'the id of what is contained, in a canonical',
    '{"resourceType":"QuestionnaireResponse","id":"a","questionnaire":"#mrn-4711","contained":[{"resourceType":"Questionnaire","id":"mrn-4711","status":"active"}],"status":"completed"}',
    'safe-harbor',
    /mrn-4711/,
    /"questionnaire":"#([0-9a-f]{32})".*"id":"\1"/,
  ],
  // MASK-3: no member twice.
  [
    'beside a value of the wrong kind',
    '{"resourceType":"Observation","id":"a","status":5,"_status":{"id":"x"}}',
    'minimum-necessary',
    /"_status".*"_status"/,
    /"_status"/,
  ],
  // LABEL-1, LABEL-2, LABEL-6, LABEL-9.
  [
    'a label in a list of lists',
    '{"resourceType":"Observation","id":"a","meta":{"security":[[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]]}}',
    'baseline',
    /Observation/,
    /<not-found>/,
  ],
  [
    'a code system by its bare OID',
    '{"resourceType":"Condition","id":"a","code":{"coding":[{"system":"2.16.840.1.113883.6.90","code":"F11.20"}]}}',
    'sensitive-categories',
    /F11/,
    /<not-found>/,
  ],
  [
    'a label beside one of a list',
    inline(`,"name":[{"given":["A","B"],"_given":[{"extension":[${INLINE_R}]},null]}]`),
    'baseline',
    /"A"/,
    /"_given":\[\{/,
  ],
  [
    'a label on an extension',
    inline(`,"extension":[{"url":"http://x","extension":[${INLINE_R}]}]`),
    'baseline',
    /"extension":\[\{"extension"/,
  ],
  [
    'a label on what is contained',
    inline(`,"contained":[{"resourceType":"Patient","id":"c","extension":[${INLINE_R}]}]`),
    'baseline',
    /"id":"c"|"contained"/,
  ],
  [
    'a label on a name that breaks out',
    inline(`,"_a\\":1,\\"id":{"extension":[${INLINE_R}]}`),
    'baseline',
    /:1,"id":\{/,
  ],
  [
    'a label on labels',
    inline('').replace(
      '}]}',
      `},{"system":"${ACT_CODE}","code":"NORDSCLCD"}],"extension":[${INLINE_R}]}`,
    ),
    'baseline',
    /"code":"R"/,
    /PROCESSINLINELABEL.*NORDSCLCD/,
  ],
]

t.test('what a second look found', async (t) => {
  for (const [what, text, profile, gone, there] of looked) {
    const out = await send(text, [profile === 'baseline' ? [] : [profile]])
    t.notMatch(out.text, gone, what)
    if (there !== undefined) t.match(out.text, there, what)
    if (!out.text.startsWith('<')) t.ok(JSON.parse(out.text), `${what}: still JSON`)
  }
})

// 45 CFR 164.514(b)(2)(i)(C): wherever a number may be an age. `out` is what takes its place.
const NINETY =
  '{"value":90,"comparator":">=","unit":"years","system":"http://unitsofmeasure.org","code":"a"}'
const answer = (value: string): string =>
  `{"resourceType":"QuestionnaireResponse","id":"a","status":"completed","item":[{"linkId":"1","answer":[{${value}}]}]}`
const group = (value: string): string =>
  `{"resourceType":"Group","id":"a","type":"person","actual":true,"characteristic":[{"code":{"coding":[{"system":"http://loinc.org","code":"30525-0"}]},${value},"exclude":false}]}`
const measured = (value: string): string =>
  observation(`"code":{"coding":[{"code":"82811-1"}]},${value}`)
const old: [text: string, out?: string][] = [
  [answer('"valueInteger":97')],
  [answer('"valueDecimal":97.5')],
  [answer('"valueQuantity":{"value":97,"unit":"years","code":"a"}'), NINETY],
  [answer('"valueQuantity":{"value":97}')],
  [group('"valueQuantity":{"value":97,"code":"a"}'), NINETY],
  [group('"valueRange":{"low":{"value":97,"code":"a"}}')],
  [group('"valueRange":{"low":{"value":60,"unit":"years"},"high":{"value":97,"unit":"years"}}')],
  [measured('"valueQuantity":{"value":97,"unit":"years","code":"a"}'), NINETY],
  [measured('"valueQuantity":{"value":97,"unit":"Jahre"}'), NINETY],
  [measured('"valueQuantity":{"value":97,"unit":"year(s)"}'), NINETY],
  [measured('"valueQuantity":{"value":97,"unit":"years","code":"d"}'), NINETY],
  [measured('"valueQuantity":{"value":97,"unit":"y.o.","code":"1"}'), NINETY],
  [measured('"valueQuantity":{"value":97,"code":"{years}"}'), NINETY],
  [measured('"valueQuantity":{"value":97,"code":"a{age}"}'), NINETY],
  [measured('"valueQuantity":{"value":9.7,"unit":"decades"}'), NINETY],
  [measured('"valueQuantity":{"value":1197,"code":"mo"}'), NINETY],
  [measured('"valueQuantity":{"value":4970,"code":"wk"}'), NINETY],
  [measured('"valueQuantity":{"value":34970,"code":"d"}'), NINETY],
  [measured('"valueQuantity":{"comparator":"<","value":97,"code":"a"}')],
  [
    measured('"component":[{"code":{"text":"Age"},"valueQuantity":{"value":97,"code":"a"}}]'),
    NINETY,
  ],
  [
    '{"resourceType":"Claim","id":"a","status":"active","supportingInfo":[{"sequence":1,"valueQuantity":{"value":97,"unit":"years"}}]}',
    NINETY,
  ],
]
const young: readonly string[] = [
  answer('"valueQuantity":{"value":97,"unit":"kg","code":"kg"}'),
  answer('"valueBoolean":true'),
  group('"valueRange":{"low":{"value":18,"code":"a"},"high":{"value":89,"code":"a"}}'),
  measured('"valueQuantity":{"value":97,"unit":"mg/dL","code":"mg/dL"}'),
  measured('"valueQuantity":{"value":970,"unit":"days","code":"d"}'),
  measured('"valueQuantity":{"value":27}'),
  '{"resourceType":"MedicationRequest","id":"a","status":"active","dispenseRequest":{"quantity":{"value":97}}}',
]

t.test('safe-harbor: an age over 89 is one wherever it stands (MASK-12)', async (t) => {
  for (const [text, there] of old) {
    const out = (await send(text, [['safe-harbor']])).text
    t.notMatch(out, /"value\w*":[\d.]*97/, text)
    if (there !== undefined) t.ok(out.includes(there), text)
    t.ok(JSON.parse(out), text)
  }
  for (const text of young) {
    const value = /"value.*?\}|"quantity.*?\}/.exec(text)?.[0] ?? ''
    t.ok((await send(text, [['safe-harbor']])).text.includes(value), text)
  }
})

// MASK-12: what looks as if nobody had written it.
const written: [profiles: string, text: string, gone: RegExp][] = [
  [
    'safe-harbor limited-data-set',
    '{"resourceType":"QuestionnaireResponse","id":"a","questionnaire":"http://hosp.example/Questionnaire/jane-doe|617-555-1234","status":"completed"}',
    /jane|617/,
  ],
  [
    'safe-harbor limited-data-set',
    observation('"meta":{"profile":["http://hosp.example/StructureDefinition/Jane-Doe"]}'),
    /jane/i,
  ],
  [
    'safe-harbor limited-data-set',
    '{"resourceType":"Questionnaire","id":"a","url":"http://hosp.example/Questionnaire/jane-doe","status":"active"}',
    /jane/,
  ],
  ...[
    'Jane Doe MRN 4711',
    'jane@doe.example',
    'http://doe.example/jane',
    `jane-${'x'.repeat(40)}`,
    'Jane\\u00a0Doe',
  ].map((code): [string, string, RegExp] => [
    'safe-harbor limited-data-set',
    observation(`"code":{"coding":[{"system":"http://x","code":"${code}"}]}`),
    /jane/i,
  ]),
  [
    'safe-harbor limited-data-set',
    observation('"code":{"coding":[{"code":"617-555-1234"},{"code":"123-45-6789"}]}'),
    /617|123-/,
  ],
  [
    'minimum-necessary payment-card',
    observation(
      '"code":{"coding":[{"code":"4111 1111 1111 1111"},{"code":"IBAN GB82 WEST 1234 5698 7654 32"}]}',
    ),
    /4111 1111|WEST/,
  ],
  [
    'safe-harbor limited-data-set',
    patient(
      '"extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race|Jane Doe","extension":[{"url":"ombCategory","valueCoding":{"code":"1"}}]},{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race","extension":[{"url":"detailed|Jane Doe","valueDecimal":42.36},{"url":"detailed","valueDecimal":42.36}]}]',
    ),
    /jane|42\.36/i,
  ],
  ['safe-harbor', patient('"address":[{"postalCode":"101","country":"IS"}]'), /"101/],
  ['safe-harbor', patient('"address":[{"country":"Germany","postalCode":"10115"}]'), /"101/],
  ['safe-harbor', patient('"address":[{"postalCode":"10115","country":["DE"]}]'), /"101/],
]
const coded: readonly string[] = [
  '"language":"en-US","code":{"coding":[{"system":"http://snomed.info/sct","code":"900000000000207008"}]}',
  '"valueQuantity":{"value":5,"unit":"mL/min/1.73 m2","system":"http://unitsofmeasure.org","code":"mL/min/{1.73_m2}"}',
  '"code":{"coding":[{"system":"urn:x","code":"123e4567-e89b-12d3-a456-426614174000"},{"system":"http://hl7.org/fhir/sid/ndc","code":"0777-3105-02"}]}',
]

t.test(
  'texts in codes, canonicals and addresses of extensions; foreign codes (MASK-12)',
  async (t) => {
    for (const [profiles, text, gone] of written) {
      for (const name of profiles.split(' ')) {
        const out = (await send(text, [[name]])).text
        t.notMatch(out, gone, `${name}: ${text}`)
        t.ok(JSON.parse(out), text)
      }
    }
    for (const text of coded)
      for (const name of ['safe-harbor', 'limited-data-set', 'payment-card'])
        t.ok((await send(observation(text), [[name]])).text.includes(text), `${name}: ${text}`)
    for (const country of [
      'US',
      'usa',
      'U.S.A.',
      'United States',
      'PR',
      'Guam',
      'VI',
      'AS',
      'MP',
    ]) {
      const text = patient(`"address":[{"postalCode":"02139-4307","country":"${country}"}]`)
      t.match((await send(text, [['safe-harbor']])).text, '"postalCode":"021"', country)
    }
    const race =
      '"extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-race","extension":[{"url":"ombCategory","valueCoding":{"code":"2106-3"}}]}]'
    t.ok((await send(patient(race), [['safe-harbor']])).text.includes(race))
    const answers =
      '{"resourceType":"QuestionnaireResponse","id":"a","questionnaire":"http://hosp.example/Questionnaire/one","contained":[{"resourceType":"Questionnaire","id":"q","url":"http://hosp.example/Questionnaire/one","status":"active"}],"status":"completed"}'
    t.match(
      (await send(answers, [['safe-harbor']])).text,
      /"questionnaire":"(Questionnaire\/[0-9a-f]{32})".*"url":"\1"/,
      'an answer still leads to its questions',
    )
  },
)

// 45 CFR 164.502(b): how to reach somebody, wherever it says so.
const reached: readonly string[] = [
  '"extension":[{"url":"http://x/home","valueAddress":{"line":["12 Canary St"],"text":"12 Canary St"}}]',
  '"extension":[{"url":"http://x/tel","valueContactPoint":{"system":"phone","value":"617-555-1234"}}]',
  '"extension":[{"url":"http://x","extension":[{"url":"y","valueAddress":{"line":["12 Canary St"]}}]}]',
  '"contact":[{"extension":[{"url":"http://x","valueAddress":{"line":["12 Canary St"]}}]}]',
  '"address":[{"city":"B","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/geolocation","extension":[{"url":"latitude","valueDecimal":42.36}]}]}]',
  '"text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">617-555-1234, 12 Canary St</div>"}',
  '"contained":[{"resourceType":"RelatedPerson","id":"r","text":{"status":"generated","div":"<div>12 Canary St</div>"}}]',
  '"identifier":[{"type":{"text":"Passport"},"value":"X617"}]',
  '"identifier":[{"type":[{"text":"U.S. passport no."}],"value":"X617"}]',
  '"identifier":[{"type":{"coding":[{"system":"http://x","code":"1","display":"Passport number"}]},"value":"X617"}]',
  '"identifier":[{"system":"https://hospital.example/passport","value":"X617"}]',
  '"identifier":[{"type":{"text":"Driver\'s license"},"value":"X617"}]',
]

t.test(
  'minimum-necessary: in extensions, narratives and by the words of a type (MASK-4)',
  async (t) => {
    const gone = /Canary|617|42\.36/
    for (const members of reached) {
      t.match(members, gone)
      const out = (await send(patient(members), [['minimum-necessary']])).text
      t.notMatch(out.replace('a1', ''), gone, members)
      t.ok(JSON.parse(out), members)
    }
    const text = patient(
      '"name":[{"family":"F"}],"identifier":[{"type":{"text":"Chart"},"value":"C1"}],"extension":[{"url":"http://x","valueString":"y"}],"address":[{"city":"B"}]',
    )
    t.equal((await send(text, [['minimum-necessary']])).text, text)
  },
)

// 45 CFR 164.514(e)(2): what a limited data set must not have, wherever somebody wrote it.
const LEFT_OUT = /canary|617|oneill|facebook|MEMBER|42\.3|-71\.05|4711/i
const limited: readonly string[] = [
  '{"resourceType":"Account","id":"a","status":"active","name":"Billing for Mrs Canary","description":"tel 617-555-1234, canary@x.example"}',
  '{"resourceType":"CareTeam","id":"a","name":"Care team of Mrs Canary"}',
  '{"resourceType":"CarePlan","id":"a","status":"active","intent":"plan","title":"For Mrs Canary","description":"617-555-1234"}',
  '{"resourceType":"Condition","id":"a","onsetString":"when Mrs Canary moved in"}',
  '{"resourceType":"AllergyIntolerance","id":"a","reaction":[{"manifestation":[{"text":"x"}],"description":"Mrs Canary"}]}',
  '{"resourceType":"Task","id":"a","status":"requested","intent":"order","description":"call Mrs Canary","input":[{"type":{"text":"x"},"valueString":"Mrs Canary"}]}',
  '{"resourceType":"QuestionnaireResponse","id":"a","status":"completed","item":[{"linkId":"1","text":"Your mail, Mrs Canary?","answer":[{"valueUri":"mailto:canary@x.example"}]}]}',
  '{"resourceType":"Coverage","id":"a","status":"active","class":[{"type":{"coding":[{"code":"rxid"}]},"value":"1-MEMBER","name":"Canary"}]}',
  patient(
    '"extension":[{"url":"http://x/web","valueUri":"https://facebook.com/x"},{"url":"http://hl7.org/fhir/StructureDefinition/geolocation","extension":[{"url":"latitude","valueDecimal":42.36},{"url":"longitude","valueDecimal":-71.05}]}]',
  ),
  patient(
    '"address":[{"city":"Boston","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/geolocation","extension":[{"url":"latitude","valueDecimal":42.36}]}]}]',
  ),
  patient('"address":[{"city":"617-555-1234","_city":{"id":"Canary"}}]'),
  observation('"code":{"coding":[{"code":"x","display":"oneill@x.example, 617-555-1234"}]}'),
  '{"resourceType":"ImagingStudy","id":"a","status":"available","series":[{"uid":"MRN-4711"}]}',
]

t.test(
  'limited-data-set: names, numbers and addresses anywhere (45 CFR 164.514(e)(2))',
  async (t) => {
    for (const text of limited) {
      t.match(text, LEFT_OUT)
      const out = (await send(text, [['limited-data-set']])).text
      t.notMatch(out, LEFT_OUT, text)
      t.ok(JSON.parse(out), text)
    }
    // What it is for: days, places, ages and codes.
    const kept: readonly string[] = [
      patient(
        '"birthDate":"1931-02-03","address":[{"city":"Boston","state":"MA","postalCode":"02139-4307","country":"US"}]',
      ),
      patient(
        '"extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex","valueCode":"F"},{"url":"http://hl7.org/fhir/StructureDefinition/patient-birthTime","valueDateTime":"1931-02-03T04:05:06Z"}]',
      ),
      observation(
        '"effectiveDateTime":"2024-05-06T07:08:09Z","code":{"coding":[{"system":"http://loinc.org","version":"2.1.2.3","code":"30525-0","display":"Age"}]},"valueQuantity":{"value":93,"unit":"years","system":"http://unitsofmeasure.org","code":"a"}',
      ),
    ]
    for (const text of kept) {
      const out = (await send(text, [['limited-data-set']])).text
      const id = /"id":"([^"]*)"/.exec(out)?.[1] ?? ''
      t.equal(
        out
          .replace(/"meta":\{.*?\]\},?/, '')
          .replace(id, 'a')
          .replace('a1', 'a'),
        text.replace('a1', 'a'),
      )
    }
  },
)

t.test(
  'criteria and bare ids beside a resource that is masked (MASK-12, REST-10, row 22)',
  async (t) => {
    const entry = (fullUrl: string, url: string): string =>
      `{"fullUrl":"${fullUrl}","resource":{"resourceType":"Patient","id":"p1"},"request":{"method":"PUT","url":"${url}"}}`
    const bundle = (one: string): string =>
      `{"resourceType":"Bundle","type":"history","entry":[${one}]}`
    for (const url of [
      'Patient?family=Canary&birthdate=1970-01-01',
      `${UP}/Patient?family=Canary`,
      'p1',
    ]) {
      const out = await send(bundle(entry('p1', url)), [['safe-harbor']], { code: 'history-type' })
      t.match(out.text, '"request"')
      t.notMatch(out.text, /Canary|1970|"p1"|127\.0\.0\.1/, url)
    }
  },
)

t.test('before R4: bytes of a Binary and details of an AuditEvent (MASK-8)', async (t) => {
  const { send: sendOld } = maskWith([], 'STU3')
  for (const text of [
    `{"resourceType":"Basic","id":"a","contained":[{"resourceType":"Binary","id":"b","content":"${BASE64}"}]}`,
    `{"resourceType":"AuditEvent","id":"a","entity":[{"detail":[{"type":"x","value":"${BASE64}"}]}]}`,
  ]) {
    for (const ways of [[[]], [['minimum-necessary']]])
      t.notMatch((await sendOld(text, ways)).text, BASE64)
  }
})

type Named = {
  readonly id: string
  readonly meta: { readonly versionId: string }
  readonly subject: { readonly reference: string }
  readonly focus: readonly { readonly reference: string }[]
  readonly contained: readonly Named[]
  readonly entry: readonly { readonly fullUrl: string; readonly resource: Named }[]
}
const nameWith = async (profile: string, text: string): Promise<Named> =>
  JSON.parse((await send(text, [[profile]])).text) as Named
const named = (type: string, id: string, more = ''): string =>
  `{"resourceType":"${type}","id":"${id}","meta":{"versionId":"1"}${more}}`
const about = (reference: string, more = ''): string =>
  named('Observation', '1', `,"status":"final","subject":{"reference":"${reference}"}${more}`)
const ELSEWHERE = 'https://other-hospital.example/fhir'

// Two people with one pseudonym are one person to whoever counts them.
t.test('what is not one has not one pseudonym (MASK-12)', async (t) => {
  for (const profile of ['safe-harbor', 'limited-data-set']) {
    const see = (text: string): Promise<Named> => nameWith(profile, text)
    const [patient, group] = [await see(named('Patient', '1')), await see(named('Group', '1'))]
    const ours = `Patient/${patient.id}`
    for (const one of ['Patient/1', `${UP}/Patient/1`, 'https://public.example/fhir/Patient/1']) {
      for (const version of ['', '/_history/1'])
        t.equal((await see(about(one + version))).subject.reference, ours, one)
    }
    const theirs = [
      `${ELSEWHERE}/Patient/1`,
      'https://third.example/fhir/Patient/1',
      `${UP}-two/Patient/1`,
      `${UP}/tenant/Patient/1`,
      'tenant/Patient/1',
    ]
    const seen = await Promise.all(theirs.map(async (one) => (await see(about(one))).subject))
    for (const { reference } of seen) t.match(reference, /^Patient\/[0-9a-f]{32}$/)
    t.equal(new Set([ours, ...seen.map(({ reference }) => reference)]).size, theirs.length + 1)
    t.not(group.id, patient.id, 'types number for themselves')
    t.equal((await see(about('Group/1'))).subject.reference, `Group/${group.id}`)
    t.not(patient.meta.versionId, patient.id, 'a version is no id')
    t.equal(patient.meta.versionId, group.meta.versionId)
    const held = await see(about('#1', `,"contained":[${named('Patient', '1')}]`))
    t.equal(held.subject.reference, `#${held.contained[0]?.id}`, 'what is contained')
    t.not(held.contained[0]?.id, patient.id, 'is nobody outside')
  }
})

t.test('a Bundle from elsewhere is about its own, links and all (MASK-3, MASK-12)', async (t) => {
  const see = (text: string): Promise<Named> => nameWith('limited-data-set', text)
  const entry = (url: string, one: string): string => `{"fullUrl":"${url}","resource":${one}}`
  const bundle = (base: string): string =>
    `{"resourceType":"Bundle","id":"b","type":"collection","entry":[${[
      entry(`${base}/Patient/1`, named('Patient', '1')),
      entry(
        `${base}/Observation/1`,
        about('Patient/1', `,"focus":[{"reference":"${base}/Patient/1"},{"reference":"#"}]`),
      ),
    ].join()}]}`
  const within = (one: string): string => `{"resourceType":"Basic","id":"a","contained":[${one}]}`
  const { id: ours } = await see(named('Patient', '1'))
  for (const base of [UP, ELSEWHERE]) {
    const [patient, observation] = (await see(within(bundle(base)))).contained[0]?.entry ?? []
    const id = patient?.resource.id
    t.equal(id === ours, base === UP, base)
    t.equal(patient?.fullUrl, `Patient/${id}`)
    t.equal(observation?.resource.subject.reference, `Patient/${id}`, 'relative to the entry')
    t.equal(observation?.resource.focus[0]?.reference, `Patient/${id}`)
  }
  // What upstream answers with is its own, whatever it calls itself.
  const answer = `{"resourceType":"Bundle","type":"history","entry":[{"fullUrl":"http://inside/fhir/Patient/1","resource":${named('Patient', '1')},"response":{"status":"200","location":"http://inside/fhir/Patient/1/_history/1"}}]}`
  const out = await send(answer, [['limited-data-set']], { code: 'history-type' })
  const url = `https://public.example/fhir/Patient/${ours}`
  t.match(out.text, `"fullUrl":"${url}"`)
  t.match(out.text, `"location":"${url}"`)
})

// Where upstream is, is nobody's business, nor of use to anybody.
t.test('upstream shows in no address and no narrative (REST-10)', async (t) => {
  const OUR = 'https://public.example/fhir'
  const div = (text: string): string =>
    `<div xmlns=\\"http://www.w3.org/1999/xhtml\\">${text}</div>`
  const told = (text: string): string => `"text":{"status":"generated","div":"${div(text)}"}`
  const answered = (members: string): string =>
    `{"resourceType":"QuestionnaireResponse","id":"a",${members},"status":"completed"}`
  const rows: [text: string, left?: string][] = [
    [answered(`"questionnaire":"${UP}/Questionnaire/1|2"`)],
    [answered(`"meta":{"profile":["${UP}/StructureDefinition/x","http://else/${UP}/x"]}`)],
    [`{"resourceType":"CarePlan","id":"a","instantiatesCanonical":["${UP}/PlanDefinition/1"]}`],
    [`{"resourceType":"Endpoint","id":"a","address":"${UP}"}`],
    [answered(`"questionnaire":"${UP.replaceAll('/', '\\/')}/Questionnaire/1"`)],
    [answered(`"questionnaire":"${UP}-two/Questionnaire/1"`), 'all'],
    [patient(told(`<a href=\\"${UP}/Patient/1\\">${UP}</a> <img src=\\"${UP}?x=1\\"/>`))],
    [patient(told(`<a href='${UP.replaceAll('/', '\\/')}\\/Patient\\/1'>x</a>`))],
    [patient(told(`${UP}-two ${UP}2 ${UP}.x ${UP}/`)), `${UP}-two ${UP}2 ${UP}.x ${OUR}/`],
    [
      `{"resourceType":"Composition","id":"a","contained":[${patient(told(`at ${UP}, \\u00e4`))}],"section":[{"text":{"status":"generated","div":"${div(`${UP}.`)}"}}]}`,
    ],
  ]
  for (const [text, left] of rows) {
    const plain = text.replaceAll(UP.replaceAll('/', '\\/'), UP)
    const expected =
      left === 'all'
        ? text
        : text.replaceAll(/(?<!else\/)http:(?:\\?\/){2}127\.0\.0\.1:9\\?\/base(?![-2]|\.x)/g, OUR)
    const out = await send(text, [[]])
    t.equal(out.text, expected, plain)
    if (left !== undefined && left !== 'all') t.match(out.text, left)
  }
  // What is written comes back to where it was.
  const { inward } = maskWith()
  const seen = patient(told(`<a href=\\"${OUR}/Patient/1\\">x</a>`))
  t.equal(inward(Buffer.from(seen)).toString(), seen.replace(OUR, UP))
  const asked = answered(`"questionnaire":"${OUR}/Questionnaire/1"`)
  t.equal(inward(Buffer.from(asked)).toString(), asked.replace(OUR, UP))
  // A text of somebody's that begins like content in an address stays a text.
  const text = '{"resourceType":"MessageDefinition","id":"a","definition":"data: see above"}'
  t.equal((await send(text, [[]])).text, text)
  const both = await send(
    patient(`"gender":"male","name":[{"text":"SSN 123-45-6789"}],${told(`${UP}/Patient/1`)}`),
    [[]],
  )
  t.notMatch(both.text, /127\.0\.0\.1|123-45/)
  t.ok(JSON.parse(both.text))
})

const ICD = 'http://hl7.org/fhir/sid/icd-10-cm'
const SNOMED = 'http://snomed.info/sct'

// Servers write one code in many ways; whoever reads it knows what is meant.
t.test('a sensitive code is one, however it is written (LABEL-9)', async (t) => {
  const seen = async (coding: object): Promise<boolean> => {
    const code = { coding: [coding] }
    const text = JSON.stringify({ resourceType: 'Condition', id: 'a', code })
    return (await send(text, [['sensitive-categories']])).text !== '<not-found>'
  }
  const sensitive = [
    { system: [ICD], code: 'F11.20' },
    { system: ['http://local', [ICD]], code: 'F11.20' },
    { system: ICD, code: ['E11.9', ['F11.20']] },
    ...[
      'ICD-10-CM',
      'icd10',
      'ICD_10 GM',
      'http://hl7.org/fhir/sid/icd-10-am',
      'http://hl7.org/fhir/ValueSet/icd-10-cm',
      'http://terminology.hl7.org/CodeSystem/icd-10-cm|2024',
      '2.16.840.1.113883.6.90',
      'urn:oid:2.16.840.1.113883.6.90|2024',
    ].map((system) => ({ system, code: 'F11.20' })),
    ...['f1120', ' F11.20|Opioid dependence|', 'F11.20:x', 'F11-20', 'G63.2*+F10.2'].map(
      (code) => ({
        ...{ system: ICD, code },
      }),
    ),
    ...[
      '7200002|Alcoholism|',
      ' 7200002 : 246112005 = 24484000',
      '7200002 |Alcoholism: chronic| : 246112005 |Severity| = 24484000',
      '=== 64572001 |Disease| + 7200002 |Alcoholism|',
      '(7200002)',
    ].map((code) => ({ system: SNOMED, code })),
    { system: 'SNOMED CT', code: '7200002' },
    { system: SNOMED, code: 7200002 },
    { system: 'LOINC', code: '5643-2' },
    { code: 'F11.20' },
    { system: '', code: 'F11' },
    { system: ' ', code: '7200002|Alcoholism|' },
    { code: '5643-2' },
  ]
  for (const coding of sensitive) t.notOk(await seen(coding), JSON.stringify(coding))
  const others = [
    { system: ICD, code: 'E11.9|F11.20|' },
    { system: SNOMED, code: '73211009 |Diabetes| : 246112005 = 7200002' },
    { system: SNOMED, code: '72000021' },
    { system: 'http://local', code: 'F11.20' },
    { system: SNOMED, code: 'F11.20' },
    { code: 'F1120' },
    { code: 'F115' },
    // Hearing and balance, in 7 signs without a point: no diagnosis.
    { system: 'http://hl7.org/fhir/sid/icd-10-pcs', code: 'F13ZBKZ' },
    { system: 'http://www.cms.gov/Medicare/Coding/ICD10', code: 'F15Z01Z' },
  ]
  for (const coding of others) t.ok(await seen(coding), JSON.stringify(coding))
})

const shifting = maskWith([
  'masking: own\ndescription: d\nrules: [{ id: r, select: [date, dateTime, instant], method: date-shift }]\n',
])
const shiftOf = async (dates: string, patient: string): Promise<string> => {
  const text = `{"resourceType":"Observation","id":"a","status":"final","code":{"text":"c"},"subject":{"reference":"Patient/${patient}"},${dates}}`
  return (await shifting.send(text, [['own']])).text
}

// What everybody knows, shifted, tells by how much all other dates of the patient are.
t.test('dates that stand for none tell nothing about a shift (MASK-12)', async (t) => {
  const known = [
    ['9999-12-31', '9999'],
    ['9999-12-31T23:59:59.999+14:00', '9999'],
    ['2999-12-31', '2999'],
    ['2099-12-31', '2099'],
    ['0001-01-01T00:00:00Z', '0001'],
    ['1753-01-01', '1753'],
    ['1840-12-31', '1840'],
    ['1899-12-30T00:00:00Z', '1899'],
    ['1900-01-01', '1900'],
    ['1970-01-01', '1970'],
    ['1969-12-31T19:00:00-05:00', '1969'],
    ['1969-12-31', '1969'],
    ['2000-01-01T00:04:17Z', '2000'],
  ] as const
  for (const [date, left] of known) {
    for (let n = 0; n < 4; n++) {
      const out = await shiftOf(`"effectiveDateTime":"${date}"`, `p${n}`)
      t.match(out, `"effectiveDateTime":"${left}"`, `${date} of p${n}`)
    }
  }
  const instant = await shiftOf('"issued":"9999-12-31T00:00:00Z"', 'p1')
  t.match(instant, '"issued":"9999-01-01T00:00:00Z"', 'an instant has no year alone')
  t.match(await shiftOf('"effectiveDateTime":"1971-01-01"', 'p1'), /Time":"197[01]-\d\d-\d\d"/)
})

t.test('a shifted date is a date of FHIR, or is not there (MASK-3)', async (t) => {
  const odd = [
    '0000-00-00',
    '0000',
    '2020-01-01T617.555.1234Z',
    '2020-01-01T25:00:00Z',
    '2020-01-01T10:00:00+99:00',
    '2020-01-01T10:00:00',
    '+010000-01-01',
  ]
  for (const date of odd) {
    const out = await shiftOf(`"effectiveDateTime":"${date}"`, 'p1')
    t.match(out, /"_effectiveDateTime":\{"extension"/, date)
    t.notMatch(out, /"effectiveDateTime"/, date)
  }
  t.match(await shiftOf('"issued":"2020-01-01"', 'p1'), '"_issued":{', 'an instant without a time')
  const patient = '{"resourceType":"Patient","id":"p1","birthDate":"1980-05-06T00:00:00Z"}'
  const { text } = await shifting.send(patient, [['own']])
  t.match(text, /"birthDate":"\d{4}-\d\d-\d\d"/, 'no time in a date')
  const years = fc.integer({ min: 1, max: 9999 })
  await fc.assert(
    fc.asyncProperty(years, fc.integer({ min: 0, max: 364 }), async (year, day) => {
      const at = new Date(0)
      at.setUTCFullYear(year, 0, day + 1)
      const [date = ''] = at.toISOString().split('T')
      fc.pre(/^\d{4}-/.test(date))
      const out = await shiftOf(`"effectiveDateTime":"${date}"`, `p${day}`)
      const [, seen = ''] = /"effectiveDateTime":"(\d{4}(?:-\d\d-\d\d)?)"/.exec(out) ?? []
      if (seen === '' || Number.isNaN(Date.parse(seen))) throw new Error(`${date}: ${out}`)
    }),
    { numRuns: 200 },
  )
})

// A search finds by what a combination of conditions hides, or it is refused: never one or the other at random.
t.test(
  'no search looks at what any combination of conditions hides (MASK-9, REST-12)',
  async (t) => {
    const conditions = ["system = 'phone'", "use = 'home'", "rank = '1'"]
    const members = ['"system":"phone"', '"use":"home"', '"rank":"1"']
    const rules = fc.array(
      fc.record({
        where: fc.subarray(conditions),
        method: fc.constantFrom('keep', 'remove', 'redact'),
      }),
      { minLength: 1, maxLength: 5 },
    )
    const [one, two] = [conditions.slice(0, 2), conditions.slice(2)]
    const found: (typeof rules extends fc.Arbitrary<infer Rules> ? Rules : never)[] = [
      [
        { where: one, method: 'remove' },
        { where: two, method: 'keep' },
      ],
      ...fc.sample(rules, { numRuns: 60, seed: 18 }),
    ]
    const { send: sendOwn, touches } = maskWith(
      found.map((own, n) => {
        const lines = own.map(({ where, method }, at) => {
          const path = ['ContactPoint', ...where.map((one) => `where(${one})`), 'value'].join('.')
          return `  - { id: r${at}, select: ["${path}"], method: ${method} }\n`
        })
        return `masking: n${n}\ndescription: d\nrules:\n${lines.join('')}`
      }),
    )
    for (const [n, own] of found.entries()) {
      let isHidden = false
      for (let holds = 0; holds < 1 << members.length; holds++) {
        const held = members.filter((_, at) => (holds & (1 << at)) !== 0)
        const text = patient(`"telecom":[{${[...held, '"value":"617"'].join()}}]`)
        isHidden ||= !(await sendOwn(text, [[`n${n}`]])).text.includes('617')
      }
      const isRefused = touches(new Set(['baseline', `n${n}`]), 'Patient', ['telecom', 'value'])
      t.equal(isRefused, isHidden, JSON.stringify(own))
    }
  },
)

// Decision 13: one more way shows no less, and no more than both together.
t.test('properties: nothing altered, nothing changed; ways add up (SCOPE-6)', async (t) => {
  const elements = loadElements('R4')
  const rules = 'rules: [{ id: r, select: [Signature.onBehalfOf], method: remove }]'
  const { send: sendOwn } = maskWith([`masking: nothing\ndescription: d\n${rules}\n`])
  const types = ['Patient', 'Observation', 'Condition', 'Encounter', 'Questionnaire', 'Claim']
  const names = ['safe-harbor', 'limited-data-set', 'minimum-necessary', 'payment-card']
  const record = fc.record({
    type: fc.constantFrom(...types),
    seed: fc.integer(),
    size: fc.integer({ min: 1, max: 120 }),
    one: fc.constantFrom(...names),
    other: fc.constantFrom(...names),
  })
  await fc.assert(
    fc.asyncProperty(record, async ({ type, seed, size, one, other }) => {
      const { text, seeded } = generateResource(elements, type, seed, size)
      const isOpaque = /"(?:data|valueBase64Binary|onBehalfOf)"/.test(text)
      if (!isOpaque) {
        for (const ways of [[[]], [['nothing']], [['sensitive-categories']]]) {
          if ((await sendOwn(text, ways)).text !== text) throw new Error(`changed\n${text}`)
        }
      }
      const [first, second, both, all] = await Promise.all(
        [[[one]], [[other]], [[one], [other]], [[one, other]]].map(
          async (ways) => (await send(text, ways)).text,
        ),
      )
      for (const { canary, way } of seeded) {
        if (way.some((node) => node.type === 'Narrative' || node.name === 'signature')) continue
        const has = (out: string | undefined): boolean => out?.includes(canary) === true
        const place = way.map((node) => node.name).join('.')
        if (has(both) !== (has(first) || has(second)))
          throw new Error(`either way: ${place}\n${text}`)
        if (has(all) && !(has(first) && has(second))) throw new Error(`at once: ${place}\n${text}`)
      }
    }),
    { numRuns: 200 },
  )
  t.pass()
})

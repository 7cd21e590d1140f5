import t from 'tap'
import { maskWith } from '../support/mask.ts'
import { readTree } from '../support/json-tree.ts'

/** A card or SSN leaves no more as a number of JSON than it does as a text (MASK-4, MASK-5, MASK-7, MASK-14). */
const { send } = maskWith()
const PAN = '4111111111111111'

/** One number in many spellings: RFC 8259 §6. */
const spellings: readonly string[] = [
  PAN,
  `-${PAN}`,
  `${PAN}.0`,
  `${PAN}.000000`,
  `${PAN}e0`,
  `${PAN}E-0`,
  '4.111111111111111e15',
  '4.111111111111111E+15',
  '4.1111111111111110e15',
  '0.4111111111111111e16',
  '0.00004111111111111111e+0020',
  '4111111111111111000e-3',
  '41111111111111110.0e-1',
  // No such value, but the number is to be read there.
  `${PAN}e3`,
  `${PAN}e-3`,
  `${PAN}.0e-20`,
  // Other lengths and issuers.
  '378282246310005',
  '5555555555554444',
  '4222222222222',
  '6011000000000000019',
  '6.011000990139424e15',
]

const observation = (members: string): string =>
  `{"resourceType":"Observation","id":"o1","status":"final","code":{"text":"x"},${members}}`

const places: readonly (readonly [what: string, make: (number: string) => string])[] = [
  ['a quantity', (n) => observation(`"valueQuantity":{"value":${n},"unit":"mg"}`)],
  ['spaces around', (n) => observation(`"valueQuantity" : { "value" :\n ${n} }`)],
  ['the last member', (n) => observation(`"referenceRange":[{"low":{"value":${n}}}]`)],
  ['an integer', (n) => observation(`"valueInteger":${n}`)],
  ['a component', (n) => observation(`"component":[{"valueQuantity":{"value":${n}}}]`)],
  [
    'samples',
    (n) =>
      observation(
        `"valueSampledData":{"origin":{"value":${n}},"period":${n},"dimensions":1,"data":"1 2"}`,
      ),
  ],
  ['samples that are none', (n) => observation(`"valueSampledData":{"dimensions":1,"data":${n}}`)],
  ['an extension', (n) => observation(`"extension":[{"url":"http://x","valueDecimal":${n}}]`)],
  [
    'beside a primitive',
    (n) => observation(`"_status":{"extension":[{"url":"http://x","valueDecimal":${n}}]}`),
  ],
  ['contained', (n) => observation(`"contained":[{"resourceType":"Basic","x":{"y":${n}}}]`)],
  ['an unknown element', (n) => observation(`"whatever":${n}`)],
  ['an element with a name that breaks out', (n) => observation(`"a\\":1,\\"b":${n}`)],
  ['an escaped name', (n) => observation(`"wh\\u0061t":${n}`)],
  ['where an object belongs', (n) => observation(`"_status":${n}`)],
  ['and where that already stands', (n) => observation(`"_x":${n},"x":${n}`)],
  ['a list', (n) => observation(`"whatever":[1.10,${n},null,${n}]`)],
  ['a list of nothing else', (n) => observation(`"whatever":[${n}]`)],
  ['a list of all kinds', (n) => observation(`"whatever":["a",${n},{"b":[[${n}]]},[]]`)],
  ['a list where objects belong', (n) => observation(`"_whatever":[{},${n}]`)],
  [
    'a list of FHIR',
    (n) =>
      `{"resourceType":"MolecularSequence","id":"m","coordinateSystem":0,"quality":[{"type":"snp","roc":{"precision":[0.10,${n}]}}]}`,
  ],
  [
    'beside an identifier',
    (n) =>
      `{"resourceType":"Patient","id":"p","identifier":[{"extension":[{"url":"http://x","valueDecimal":${n}}],"value":${n}}]}`,
  ],
]

t.test('a card number leaves as no number, in no spelling and from no place', async (t) => {
  for (const number of spellings) {
    for (const [what, make] of places) {
      const text = make(number)
      for (const ways of [
        [[]],
        [['payment-card']],
        [['limited-data-set']],
        [[], ['payment-card']],
      ]) {
        const out = (await send(text, ways)).text
        const name = `${number}, ${what}, ${ways.join(' or ') || 'baseline'}`
        if (out.includes(number)) t.fail(name)
        // Strictly: no member twice.
        readTree(out)
        if (!/"code":"(?:MASKED|REDACTED)"/.test(out)) t.fail(`${name}: not marked (LABEL-6)`)
        if (/:\[\]|:\{\}/.test(out.replace('[]]', '').replace('[{}', '[')))
          t.fail(`${name}: empty\n${out}`)
      }
    }
  }
  t.pass()
})

const DAR =
  '{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}'
const hidden = (rendered: string): string =>
  `{"extension":[${DAR},{"url":"http://hl7.org/fhir/StructureDefinition/rendered-value","valueString":"${rendered}"}]}`
const LAST = hidden('**** **** **** 1111')

// What stands there then; the rest of the resource is the bytes that came.
const shown: readonly (readonly [members: string, masked: string, profile?: string])[] = [
  [
    `"valueQuantity":{"value":${PAN},"unit":"mg"}`,
    `"valueQuantity":{"_value":${LAST},"unit":"mg"}`,
  ],
  [
    `"valueQuantity":{"value":${PAN}.0,"_value":{"id":"${PAN}"}}`,
    `"valueQuantity":{"_value":${LAST}}`,
  ],
  [`"valueQuantity":{"_value":{"id":"a"},"value":${PAN}.0}`, `"valueQuantity":{"_value":${LAST}}`],
  [
    '"extension":[{"url":"http://x","valueDecimal":4.111111111111111e15}]',
    `"extension":[{"url":"http://x","_valueDecimal":${LAST}}]`,
  ],
  [
    `"whatever":[1.10,${PAN}, null ,2]`,
    `"whatever":[1.10,null,null,2],"_whatever":[null,${LAST},null,null]`,
  ],
  [`"whatever":[${PAN},${PAN}]`, `"_whatever":[${LAST},${LAST}]`],
  [
    `"whatever":[${PAN},1],"_whatever":[null,{"id":"a"}]`,
    `"whatever":[null,1],"_whatever":[${LAST},null]`,
  ],
  [`"whatever":["1.10",[${PAN}],1.10]`, '"whatever":["1.10",[null],1.10]'],
  [`"_whatever":[null,${PAN}]`, `"_whatever":[null,${LAST}]`],
  [`"_x":${PAN},"x":1`, `"_x":${LAST},"x":1`],
  [`"__x":2,"_x":${PAN}`, `"__x":2,"_x":${LAST}`],
  [
    `"valueQuantity":{"value":${PAN},"unit":"mg"}`,
    `"valueQuantity":{"_value":${hidden('[masked]')},"unit":"mg"}`,
    'payment-card',
  ],
]

t.test('what is left says that it is masked, and shows the last four (MASK-14)', async (t) => {
  for (const [members, masked, profile] of shown) {
    const out = await send(observation(members), [profile === undefined ? [] : [profile]])
    const marks = /"meta":\{[^}]*\}(?:,\{[^}]*\})*\]\},/
    t.equal(out.text.replace(marks, ''), observation(masked), members)
    const rule = profile === undefined ? 'payment-card' : 'payment-card/numbers'
    t.ok((out.tally?.masked.get(rule) ?? 0) > 0 || members.includes('[['), members)
  }
  const profiled = await send(
    '{"resourceType":"MolecularSequence","coordinateSystem":0,"quality":[{"type":"snp","roc":{"precision":[0.10,4111111111111111]}}]}',
    [['payment-card']],
  )
  t.match(profiled.text, `"precision":[0.10,null],"_precision":[null,${hidden('[masked]')}]`)
})

// Clinical data: what is no card stays as it came.
const clinical: readonly string[] = [
  '4111111111111112', // Luhn
  '1234567890123456',
  '5.1625542332492',
  '4.111111111111111',
  '411111.1111111111',
  '0.4111111111111111',
  '0.1234567890123456',
  '4111111111111111.5',
  '4.111111111111111e14',
  '4.111111111111111e-15',
  // Milliseconds, microseconds and nanoseconds since 1970, days with times.
  '1700000000000',
  '1767225600000000',
  '1767225600000000000',
  '20260302100000',
  '20260302100000000',
  // Quantities in round figures: 4.3e12 red cells in a litre pass Luhn, and are 13 digits of Visa's range.
  '4.3e12',
  '4300000000000',
  '4300000000000.0',
  '4.2e15',
  '4e999999999999999999999',
  '4e-999999999999999999999',
  '411111111111',
  '41111111111111111111',
  '123456789',
  '0',
  '-0.0e-0',
  `0.${'0'.repeat(100_000)}1`,
]

t.test('numbers that are none stay, byte for byte', async (t) => {
  for (const number of clinical) {
    for (const [what, make] of places) {
      const text = make(number)
      const out = await send(text, [[]])
      if (out.text !== text && !what.includes('beside an id'))
        t.fail(`${number.slice(0, 40)}, ${what}`)
    }
  }
  // §9.2: where numbers stand that look like cards and are none.
  const text = observation(`"category":[{"coding":[{"system":"urn:x","code":${PAN}}]}]`)
  t.equal((await send(text, [[]])).text, text)
})

// MASK-2, MASK-4: nine digits are an SSN where the identifier says so.
const SSN = '"system":"http://hl7.org/fhir/sid/us-ssn"'
const identifiers: readonly string[] = [
  `{${SSN},"value":123456789}`,
  `{${SSN},"value":123456789.0}`,
  `{${SSN},"_value":{"extension":[{"url":"http://x","valueInteger":123456789}]}}`,
  `{${SSN},"extension":[{"url":"http://x","valueInteger":123456789}]}`,
  `{${SSN},"extension":[{"url":"http://x","valueDecimal":1.23456789e8}]}`,
  `{"type":{"coding":[{"code":"SS"}]},"extension":[{"url":"http://x","valueDecimal":123456789}]}`,
]

t.test('nor does an SSN beside its system', async (t) => {
  for (const identifier of identifiers) {
    const out = await send(`{"resourceType":"Patient","id":"p","identifier":[${identifier}]}`, [[]])
    t.notMatch(out.text, /12345678|1\.2345678/, identifier)
    t.match(out.text, /"(?:MASKED|REDACTED)"/, identifier)
  }
})

// MASK-5, §9.2: and where words beside it say so.
const called: readonly (readonly [what: string, make: (number: string) => string])[] = [
  ['the code', (n) => observation(`"valueInteger":${n}`).replace('"x"', '"SSN"')],
  ['a quantity', (n) => observation(`"valueQuantity":{"value":${n}}`).replace('"x"', '"SSN"')],
  ['a component', (n) => observation(`"component":[{"code":{"text":"SSN"},"valueInteger":${n}}]`)],
  [
    'a question',
    (n) =>
      `{"resourceType":"QuestionnaireResponse","status":"completed","item":[{"linkId":"1","text":"Your social security number?","answer":[{"valueInteger":${n}}]}]}`,
  ],
  [
    'its number',
    (n) =>
      `{"resourceType":"QuestionnaireResponse","status":"completed","item":[{"linkId":"us-ssn","answer":[{"valueDecimal":${n}}]}]}`,
  ],
  [
    'an extension',
    (n) =>
      `{"resourceType":"Patient","id":"p","extension":[{"url":"http://x/patientSSN","valueInteger":${n}}]}`,
  ],
  [
    'a parameter',
    (n) =>
      `{"resourceType":"Patient","id":"p","contained":[{"resourceType":"Parameters","parameter":[{"name":"ssn","valueInteger":${n}}]}]}`,
  ],
  [
    'contained',
    (n) =>
      `{"resourceType":"Patient","id":"p","contained":[${observation(`"valueInteger":${n}`).replace('"x"', '"SSN"')}]}`,
  ],
  [
    'a list',
    (n) => observation(`"extension":[{"url":"http://x/ssn","valueInteger":[1,${n},${n}]}]`),
  ],
  [
    'a list of all kinds',
    (n) => observation(`"extension":[{"url":"http://x/ssn","valueInteger":["a",${n}]}]`),
  ],
]

t.test('nor does an SSN that is called one, in any spelling (MASK-5, MASK-4)', async (t) => {
  const numbers: readonly (readonly [number: string, lastFour: string])[] = [
    ['123456789', '6789'],
    ['-123456789', '6789'],
    ['123456789.0', '6789'],
    ['1.23456789e8', '6789'],
    ['1234567890E-1', '6789'],
    // Without the zeros of the first areas.
    ['12345678', '5678'],
    ['1234567', '4567'],
  ]
  for (const [number, lastFour] of numbers)
    for (const [what, make] of called) {
      const text = make(number)
      for (const ways of [[[]], [['limited-data-set']], [[], ['payment-card']]]) {
        const out = await send(text, ways)
        const name = `${number}, ${what}, ${ways.join(' or ') || 'baseline'}`
        if (out.text.includes(number)) t.fail(name)
        readTree(out.text)
        if (!/"code":"(?:MASKED|REDACTED)"/.test(out.text)) t.fail(`${name}: not marked (LABEL-6)`)
        if (ways[0]?.length !== 0 || what === 'a list of all kinds') continue
        t.match(out.text, `"valueString":"***-**-${lastFour}"`, name)
        t.ok((out.tally?.masked.get('ssn') ?? 0) > 0, name)
      }
    }
})

t.test('no count, size or code beside such words changes, nor what is no SSN', async (t) => {
  const rows: readonly string[] = [
    ...['123456', '1234567890', '123456789.5', '900123456', '123006789', '123450000'].flatMap(
      (number) => called.map(([, make]) => make(number)),
    ),
    observation('"valueInteger":123456789'),
    observation('"component":[{"code":{"text":"SSN"}},{"valueInteger":123456789}]'),
    '{"resourceType":"DocumentReference","status":"current","description":"SSN card","content":[{"attachment":{"size":1234567}}]}',
  ]
  for (const text of rows) t.equal((await send(text, [[]])).text, text)
})

t.test('of its last four digits alone nothing is masked: they may be seen', async (t) => {
  const rows: readonly (readonly [members: string, isMasked: boolean])[] = [
    ['"value":1234', false],
    ['"value":-12.34', false],
    ['"value":12345', true],
    ['"value":1.2345e8', true],
    ['"value":"1234"', true],
    ['"value":1234,"_value":{"extension":[{"url":"http://x","valueString":"12345"}]}', true],
    ['"value":1234,"extension":[{"url":"http://x","valueInteger":12345}]', true],
  ]
  for (const [members, isMasked] of rows) {
    const text = `{"resourceType":"Patient","id":"p","identifier":[{${SSN},${members}}]}`
    const out = await send(text, [[]])
    t.equal(out.text !== text, isMasked, members)
  }
})

// Each looked for among all the others would take minutes: that this ends is what is shown.
t.test('many of them hold nobody up (RATE-6)', async (t) => {
  const many = 20_000
  for (const [what, members] of [
    ['in a list', `"a":[${Array.from({ length: many }, () => PAN).join()}]`],
    ['in lists', `"a":[${Array.from({ length: many }, () => `[${PAN},"x"]`).join()}]`],
    ['in a list of all kinds', `"a":["x",${Array.from({ length: many }, () => PAN).join()}]`],
    ['in an object', Array.from({ length: many }, (_, n) => `"a${n}":${PAN}`).join()],
    ['by one name', `${`"a":${PAN},"_a":{},`.repeat(many)}"b":1`],
    ['in a number', `"a":${PAN}${'0'.repeat(1_000_000)}e-1000000`],
    ['that may be SSNs', Array.from({ length: many }, (_, n) => `"a${n}":123456789`).join()],
    ['as texts', Array.from({ length: many }, (_, n) => `"a${n}":"123456789"`).join()],
    [
      'in objects',
      Array.from({ length: many }, (_, n) => `"a${n}":{"b":123456789,"c":"123456789"}`).join(),
    ],
  ] as const) {
    const out = await send(observation(members), [[]])
    t.notMatch(out.text, PAN, what)
  }
})

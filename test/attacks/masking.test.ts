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

import fc from 'fast-check'
import t from 'tap'
import { applyPatch, changes, parsePatch, PatchError, touches } from '../../src/fhir/patch.ts'
import type { FhirPatch } from '../../src/fhir/patch.ts'
import { toRefusal } from '../../src/refusal.ts'

const JSON_PATCH = 'application/json-patch+json'
const FHIR = 'application/fhir+json'

const read = (patch: unknown, type = JSON_PATCH): FhirPatch =>
  parsePatch(Buffer.from(typeof patch === 'string' ? patch : JSON.stringify(patch)), type)

/** The result, or the reason of the refusal; the input must stay as it was. */
function outcome(document: unknown, patch: unknown, type = JSON_PATCH): unknown {
  const before = JSON.stringify(document)
  try {
    return applyPatch(freeze(document), read(patch, type))
  } catch (error) {
    if (error instanceof PatchError) return error.reason
    throw error
  } finally {
    if (JSON.stringify(document) !== before) throw new Error('the input was changed')
  }
}

function freeze(value: unknown): unknown {
  if (typeof value === 'object' && value !== null)
    Object.values(Object.freeze(value)).forEach(freeze)
  return value
}

const BROKEN = 'body-rule-broken'
const MALFORMED = 'body-malformed'
type Row = [name: string, document: unknown, patch: unknown, result: unknown]

const appendixA: Row[] = [
  [
    'A.1 add a member',
    { foo: 'bar' },
    [{ op: 'add', path: '/baz', value: 'qux' }],
    { foo: 'bar', baz: 'qux' },
  ],
  [
    'A.2 add an element',
    { foo: ['bar', 'baz'] },
    [{ op: 'add', path: '/foo/1', value: 'qux' }],
    { foo: ['bar', 'qux', 'baz'] },
  ],
  [
    'A.3 remove a member',
    { baz: 'qux', foo: 'bar' },
    [{ op: 'remove', path: '/baz' }],
    { foo: 'bar' },
  ],
  [
    'A.4 remove an element',
    { foo: ['bar', 'qux', 'baz'] },
    [{ op: 'remove', path: '/foo/1' }],
    { foo: ['bar', 'baz'] },
  ],
  [
    'A.5 replace',
    { baz: 'qux', foo: 'bar' },
    [{ op: 'replace', path: '/baz', value: 'boo' }],
    { baz: 'boo', foo: 'bar' },
  ],
  [
    'A.6 move a value',
    { foo: { bar: 'baz', waldo: 'fred' }, qux: { corge: 'grault' } },
    [{ op: 'move', from: '/foo/waldo', path: '/qux/thud' }],
    { foo: { bar: 'baz' }, qux: { corge: 'grault', thud: 'fred' } },
  ],
  [
    'A.7 move an element',
    { foo: ['all', 'grass', 'cows', 'eat'] },
    [{ op: 'move', from: '/foo/1', path: '/foo/3' }],
    { foo: ['all', 'cows', 'eat', 'grass'] },
  ],
  [
    'A.8 test',
    { baz: 'qux', foo: ['a', 2, 'c'] },
    [
      { op: 'test', path: '/baz', value: 'qux' },
      { op: 'test', path: '/foo/1', value: 2 },
    ],
    { baz: 'qux', foo: ['a', 2, 'c'] },
  ],
  ['A.9 test that fails', { baz: 'qux' }, [{ op: 'test', path: '/baz', value: 'bar' }], BROKEN],
  [
    'A.10 add a nested object',
    { foo: 'bar' },
    [{ op: 'add', path: '/child', value: { grandchild: {} } }],
    { foo: 'bar', child: { grandchild: {} } },
  ],
  [
    'A.11 unknown members',
    { foo: 'bar' },
    [{ op: 'add', path: '/baz', value: 'qux', xyz: 123 }],
    { foo: 'bar', baz: 'qux' },
  ],
  [
    'A.12 add where there is nothing',
    { foo: 'bar' },
    [{ op: 'add', path: '/baz/bat', value: 'qux' }],
    BROKEN,
  ],
  [
    'A.13 a member twice',
    { foo: 'bar' },
    '[{"op":"add","path":"/baz","value":"qux","op":"remove"}]',
    MALFORMED,
  ],
  [
    'A.14 ~ escapes',
    { '/': 9, '~1': 10 },
    [{ op: 'test', path: '/~01', value: 10 }],
    { '/': 9, '~1': 10 },
  ],
  [
    'A.15 strings are no numbers',
    { '/': 9, '~1': 10 },
    [{ op: 'test', path: '/~01', value: '10' }],
    BROKEN,
  ],
  [
    'A.16 add a list',
    { foo: ['bar'] },
    [{ op: 'add', path: '/foo/-', value: ['abc', 'def'] }],
    { foo: ['bar', ['abc', 'def']] },
  ],
]

const corners: Row[] = [
  ['nothing to do', { a: 1 }, [], { a: 1 }],
  ['add replaces a member', { a: 1 }, [{ op: 'add', path: '/a', value: 2 }], { a: 2 }],
  ['add the whole', { a: 1 }, [{ op: 'add', path: '', value: { b: 1 } }], { b: 1 }],
  ['replace the whole', { a: 1 }, [{ op: 'replace', path: '', value: { b: 1 } }], { b: 1 }],
  ['remove the whole', { a: 1 }, [{ op: 'remove', path: '' }], BROKEN],
  ['add at the end by number', { a: [1] }, [{ op: 'add', path: '/a/1', value: 2 }], { a: [1, 2] }],
  ['add beyond the end', { a: [1] }, [{ op: 'add', path: '/a/2', value: 2 }], BROKEN],
  ['add to an empty name', { a: 1 }, [{ op: 'add', path: '/', value: 2 }], { a: 1, '': 2 }],
  ['null is a value', { a: 1 }, [{ op: 'add', path: '/b', value: null }], { a: 1, b: null }],
  ['test null', { a: null }, [{ op: 'test', path: '/a', value: null }], { a: null }],
  ['test null on nothing', {}, [{ op: 'test', path: '/a', value: null }], BROKEN],
  [
    'test in any order',
    { a: { b: 1, c: [2] } },
    [{ op: 'test', path: '/a', value: { c: [2], b: 1 } }],
    { a: { b: 1, c: [2] } },
  ],
  ['test 1.0 equals 1', { a: 1 }, '[{"op":"test","path":"/a","value":1.0}]', { a: 1 }],
  ['test -0 equals 0', { a: 0 }, '[{"op":"test","path":"/a","value":-0}]', { a: 0 }],
  ['test list against object', { a: [] }, [{ op: 'test', path: '/a', value: {} }], BROKEN],
  ['test a shorter list', { a: [1, 2] }, [{ op: 'test', path: '/a', value: [1] }], BROKEN],
  ['leading zero', { a: [1, 2] }, [{ op: 'remove', path: '/a/01' }], BROKEN],
  ['sign', { a: [1, 2] }, [{ op: 'remove', path: '/a/+1' }], BROKEN],
  ['minus', { a: [1, 2] }, [{ op: 'remove', path: '/a/-1' }], BROKEN],
  ['exponent', { a: [1, 2] }, [{ op: 'replace', path: '/a/1e0', value: 2 }], BROKEN],
  ['remove "-"', { a: [1] }, [{ op: 'remove', path: '/a/-' }], BROKEN],
  ['replace "-"', { a: [1] }, [{ op: 'replace', path: '/a/-', value: 2 }], BROKEN],
  ['length is no member', { a: [1] }, [{ op: 'test', path: '/a/length', value: 1 }], BROKEN],
  ['inherited is no member', { a: 1 }, [{ op: 'copy', from: '/toString', path: '/b' }], BROKEN],
  ['through a text', { a: 'xy' }, [{ op: 'test', path: '/a/0', value: 'x' }], BROKEN],
  ['replace nothing', {}, [{ op: 'replace', path: '/a', value: 1 }], BROKEN],
  ['remove nothing', {}, [{ op: 'remove', path: '/a' }], BROKEN],
  ['move to itself', { a: 1 }, [{ op: 'move', from: '/a', path: '/a' }], { a: 1 }],
  ['move into itself', { a: { b: 1 } }, [{ op: 'move', from: '/a', path: '/a/b' }], BROKEN],
  [
    'copy, then change one',
    { a: { b: 1 } },
    [
      { op: 'copy', from: '/a', path: '/c' },
      { op: 'replace', path: '/c/b', value: 2 },
    ],
    { a: { b: 1 }, c: { b: 2 } },
  ],
  [
    'all or nothing',
    { a: 1 },
    [
      { op: 'remove', path: '/a' },
      { op: 'remove', path: '/a' },
    ],
    BROKEN,
  ],
  ['no value', {}, [{ op: 'add', path: '/a' }], MALFORMED],
  ['no path', {}, [{ op: 'remove' }], MALFORMED],
  ['no from', {}, [{ op: 'move', path: '/a' }], MALFORMED],
  ['no op', {}, [{ path: '/a' }], MALFORMED],
  ['unknown op', {}, [{ op: 'spam', path: '/a' }], MALFORMED],
  ['inherited op', {}, [{ op: 'toString', path: '/a' }], MALFORMED],
  ['path without slash', { a: 1 }, [{ op: 'remove', path: 'a' }], MALFORMED],
  ['malformed escape', { a: 1 }, [{ op: 'remove', path: '/~2' }], MALFORMED],
  ['escape at the end', { a: 1 }, [{ op: 'remove', path: '/a~' }], MALFORMED],
  ['not a list', {}, { op: 'remove', path: '/a' }, MALFORMED],
  ['null for an operation', {}, [null], MALFORMED],
]

const hostile: Row[] = [
  ['__proto__ in a path', {}, [{ op: 'add', path: '/__proto__/x', value: 1 }], MALFORMED],
  [
    'constructor in a path',
    {},
    [{ op: 'add', path: '/constructor/prototype/x', value: 1 }],
    MALFORMED,
  ],
  ['__proto__ in from', {}, [{ op: 'copy', from: '/__proto__', path: '/a' }], MALFORMED],
  [
    '__proto__ in a value',
    {},
    '[{"op":"add","path":"/a","value":{"__proto__":{"x":1}}}]',
    MALFORMED,
  ],
  [
    'escaped __proto__',
    {},
    String.raw`[{"op":"add","path":"/a","value":{"\u005f_proto__":1}}]`,
    MALFORMED,
  ],
  ['a member twice in a value', {}, '[{"op":"add","path":"/a","value":{"b":1,"b":2}}]', MALFORMED],
  ['twice by an escape', {}, String.raw`[{"op":"remove","path":"/a","p\u0061th":"/b"}]`, MALFORMED],
  ['twice by letter case', { a: 1 }, '[{"op":"remove","path":"/a","Path":"/subject"}]', MALFORMED],
  ['bytes after the end', {}, '[] []', MALFORMED],
  ['too many operations', {}, Array(1001).fill({ op: 'add', path: '/a', value: 1 }), MALFORMED],
  ['as many as may be', {}, Array(1000).fill({ op: 'add', path: '/a', value: 1 }), { a: 1 }],
  [
    'too deep a value',
    {},
    `[{"op":"add","path":"/a","value":${'['.repeat(65)}${']'.repeat(65)}}]`,
    MALFORMED,
  ],
  ['too deep a path', {}, [{ op: 'remove', path: '/a'.repeat(65) }], MALFORMED],
  [
    'copies of copies',
    { a: [1] },
    Array(60).fill({ op: 'copy', from: '/a', path: '/a/-' }),
    BROKEN,
  ],
  [
    'copies within copies',
    { a: { b: 1 } },
    Array.from({ length: 200 }, () => ({ op: 'copy', from: '', path: '/a' })),
    BROKEN,
  ],
]

for (const [title, rows] of Object.entries({
  'RFC 6902 appendix A': appendixA,
  corners,
  hostile,
})) {
  t.test(`REST-12 JSON Patch: ${title}`, (t) => {
    for (const [name, document, patch, result] of rows)
      t.strictSame(outcome(document, patch), result, name)
    t.equal(({} as Record<string, unknown>)['x'], undefined, 'no prototype was reached')
    t.end()
  })
}

// FHIRPath Patch

type Parts = Record<string, unknown>
const operation = (type: string, path: string, more: Parts[] = []): Parts => ({
  name: 'operation',
  part: [{ name: 'type', valueCode: type }, { name: 'path', valueString: path }, ...more],
})
const parameters = (...operations: unknown[]): Parts => ({
  resourceType: 'Parameters',
  parameter: operations,
})
const name = (text: string): Parts => ({ name: 'name', valueString: text })
const at = (part: string, index: number): Parts => ({ name: part, valueInteger: index })
const ofText = (text: string): Parts => ({ name: 'value', valueString: text })

const P = { resourceType: 'Patient' }
const three = (...systems: string[]): Parts => ({
  ...P,
  identifier: systems.map((system) => ({ system })),
})
const identifier = (system: string): Parts => ({ name: 'value', valueIdentifier: { system } })

// Modelled on the examples that https://hl7.org/fhir/R4/fhirpatch.html refers to.
const examples: Row[] = [
  [
    'no difference',
    { ...P, birthDate: '1920-01-01' },
    parameters(
      operation('replace', 'Patient.birthDate', [{ name: 'value', valueDate: '1920-01-01' }]),
    ),
    { ...P, birthDate: '1920-01-01' },
  ],
  [
    'replace a primitive',
    { ...P, birthDate: '1920-01-01' },
    parameters(
      operation('replace', 'Patient.birthDate', [{ name: 'value', valueDate: '1930-01-01' }]),
    ),
    { ...P, birthDate: '1930-01-01' },
  ],
  [
    'delete a primitive',
    { ...P, birthDate: '1920-01-01' },
    parameters(operation('delete', 'Patient.birthDate')),
    P,
  ],
  [
    'add a primitive',
    P,
    parameters(
      operation('add', 'Patient', [name('birthDate'), { name: 'value', valueDate: '1930-01-01' }]),
    ),
    { ...P, birthDate: '1930-01-01' },
  ],
  ['delete nothing', P, parameters(operation('delete', 'Patient.birthDate')), P],
  [
    'replace nested',
    { ...P, contact: [{ name: { text: 'a' }, gender: 'male' }] },
    parameters(
      operation('replace', 'Patient.contact[0].gender', [{ name: 'value', valueCode: 'female' }]),
    ),
    { ...P, contact: [{ name: { text: 'a' }, gender: 'female' }] },
  ],
  [
    'delete nested',
    { ...P, contact: [{ name: { text: 'a' }, gender: 'male' }] },
    parameters(operation('delete', 'Patient.contact[0].gender')),
    { ...P, contact: [{ name: { text: 'a' } }] },
  ],
  [
    'add nested',
    { ...P, contact: [{ name: { text: 'a' } }] },
    parameters(
      operation('add', 'Patient.contact[0]', [
        name('gender'),
        { name: 'value', valueCode: 'male' },
      ]),
    ),
    { ...P, contact: [{ name: { text: 'a' }, gender: 'male' }] },
  ],
  [
    'add an anonymous type',
    { ...P, contact: [{ gender: 'male' }] },
    parameters(
      operation('add', 'Patient', [
        name('contact'),
        { name: 'value', part: [{ name: 'name', valueHumanName: { text: 'b' } }] },
      ]),
    ),
    { ...P, contact: [{ gender: 'male' }, { name: { text: 'b' } }] },
  ],
  [
    'insert in front',
    three('1', '2'),
    parameters(operation('insert', 'Patient.identifier', [at('index', 0), identifier('0')])),
    three('0', '1', '2'),
  ],
  [
    'insert at the end',
    three('1', '2'),
    parameters(operation('insert', 'Patient.identifier', [at('index', 2), identifier('3')])),
    three('1', '2', '3'),
  ],
  [
    'insert beyond',
    three('1', '2'),
    parameters(operation('insert', 'Patient.identifier', [at('index', 3), identifier('3')])),
    BROKEN,
  ],
  [
    'delete one of a list',
    three('1', '2', '3'),
    parameters(operation('delete', 'Patient.identifier[1]')),
    three('1', '3'),
  ],
  [
    'delete the last of a list',
    three('1'),
    parameters(operation('delete', 'Patient.identifier[0]')),
    P,
  ],
  [
    'delete by where',
    three('1', '2'),
    parameters(operation('delete', "Patient.identifier.where(system = '2')")),
    three('1'),
  ],
  [
    'delete more than one',
    three('1', '2'),
    parameters(operation('delete', 'Patient.identifier')),
    BROKEN,
  ],
  [
    'move up',
    three('1', '2', '3', '4'),
    parameters(operation('move', 'Patient.identifier', [at('source', 3), at('destination', 1)])),
    three('1', '4', '2', '3'),
  ],
  [
    'move down',
    three('1', '2', '3', '4'),
    parameters(operation('move', 'Patient.identifier', [at('source', 0), at('destination', 3)])),
    three('2', '3', '4', '1'),
  ],
  [
    'move beyond',
    three('1', '2'),
    parameters(operation('move', 'Patient.identifier', [at('source', 0), at('destination', 2)])),
    BROKEN,
  ],
]

const url = 'http://example.org/e'
const Q = { resourceType: 'Observation', valueQuantity: { value: 1 } }
const choices: Row[] = [
  [
    'ofType',
    Q,
    parameters(
      operation('replace', 'Observation.value.ofType(Quantity).value', [
        { name: 'value', valueDecimal: 2 },
      ]),
    ),
    { ...Q, valueQuantity: { value: 2 } },
  ],
  ['a choice without ofType', Q, parameters(operation('delete', 'Observation.value')), BROKEN],
  [
    'add a choice',
    P,
    parameters(
      operation('add', 'Patient', [name('deceased'), { name: 'value', valueBoolean: true }]),
    ),
    { ...P, deceasedBoolean: true },
  ],
  [
    'add a choice twice',
    { ...P, deceasedDateTime: '2020' },
    parameters(
      operation('add', 'Patient', [name('deceased'), { name: 'value', valueBoolean: true }]),
    ),
    BROKEN,
  ],
  [
    'add what may be a choice',
    { resourceType: 'Observation' },
    parameters(operation('add', 'Observation', [name('value'), ofText('x')])),
    BROKEN,
  ],
  [
    'extension',
    { ...P, extension: [{ url, valueString: 'a' }] },
    parameters(operation('delete', `Patient.extension('${url}')`)),
    P,
  ],
  [
    'an element with extensions',
    { ...P, birthDate: '1920', _birthDate: { id: 'x' } },
    parameters(operation('delete', 'Patient.birthDate')),
    BROKEN,
  ],
]

const refusals: Row[] = [
  [
    'add what is there',
    { ...P, birthDate: '1920' },
    parameters(
      operation('add', 'Patient', [name('birthDate'), { name: 'value', valueDate: '1930' }]),
    ),
    BROKEN,
  ],
  [
    'replace nothing',
    P,
    parameters(operation('replace', 'Patient.birthDate', [{ name: 'value', valueDate: '1930' }])),
    BROKEN,
  ],
  ['another type', P, parameters(operation('delete', 'Observation.status')), BROKEN],
  ['the resource itself', P, parameters(operation('delete', 'Patient')), BROKEN],
  ...[
    'Patient.name.first()',
    'Patient.name | Patient.contact',
    'Patient..name',
    'Patient.',
    'name',
    'Patient.name[01]',
    'Patient.name[-1]',
    'Patient.where(true)',
    "Patient.name.where(use != 'x')",
    String.raw`Patient.name.where(use = '\'')`,
    'Patient.name.given.resolve()',
    "Patient.name.where(use='a' or use='b')",
    'Patient.__proto__',
    'Patient.constructor',
    "Patient.where(constructor='x')",
    '%resource.name',
    'Patient.name\n',
    'Patient.descendants()',
    '',
    'Patient.ofType(Patient)',
  ].map((path): Row => [
    `path ${path}`,
    { ...P, name: [{ use: 'x', given: ['a'] }] },
    parameters(operation('delete', path)),
    BROKEN,
  ]),
  ['no Parameters', P, { resourceType: 'Patient' }, MALFORMED],
  ['no operations', P, { resourceType: 'Parameters' }, MALFORMED],
  ['unknown type', P, parameters(operation('test', 'Patient.name')), MALFORMED],
  ['a part too many', P, parameters(operation('delete', 'Patient.name', [name('x')])), MALFORMED],
  [
    'a part twice',
    P,
    parameters(operation('delete', 'Patient.name', [{ name: 'path', valueString: 'Patient.id' }])),
    MALFORMED,
  ],
  [
    'two values',
    P,
    parameters(
      operation('add', 'Patient', [name('x'), { name: 'value', valueString: 'a', valueCode: 'b' }]),
    ),
    MALFORMED,
  ],
  [
    'a value as extension',
    P,
    parameters(
      operation('add', 'Patient', [
        name('x'),
        { name: 'value', valueString: 'a', _valueString: {} },
      ]),
    ),
    MALFORMED,
  ],
  [
    'an index of text',
    three('1'),
    parameters(
      operation('insert', 'Patient.identifier', [
        { name: 'index', valueString: '0' },
        identifier('0'),
      ]),
    ),
    MALFORMED,
  ],
  [
    'a forbidden name',
    P,
    parameters(operation('add', 'Patient', [name('__proto__'), ofText('x')])),
    MALFORMED,
  ],
  [
    'a forbidden inner name',
    P,
    parameters(
      operation('add', 'Patient', [
        name('x'),
        { name: 'value', part: [{ name: 'constructor', valueString: 'a' }] },
      ]),
    ),
    MALFORMED,
  ],
  ['no operation', P, parameters({ name: 'other', part: [] }), MALFORMED],
  [
    'too many',
    P,
    parameters(...Array<Parts>(1001).fill(operation('delete', 'Patient.name'))),
    MALFORMED,
  ],
  ['a member twice', P, '{"resourceType":"Parameters","parameter":[],"parameter":[]}', MALFORMED],
]

for (const [title, rows] of Object.entries({
  'examples of the specification': examples,
  choices,
  refusals,
})) {
  t.test(`REST-12 FHIRPath Patch: ${title}`, (t) => {
    for (const [label, document, patch, result] of rows)
      t.strictSame(outcome(document, patch, FHIR), result, label)
    t.end()
  })
}

t.test('REST-15 other types of patches are refused', (t) => {
  for (const type of ['application/xml-patch+xml', 'application/json', 'text/plain', ''])
    t.throws(
      () => read([], type),
      new PatchError('media-type-unsupported', 'the patch is of no type that can be judged'),
      type,
    )
  t.equal(read([], 'Application/JSON-Patch+json; charset=utf-8').kind, 'json')
  try {
    read('[')
  } catch (error) {
    t.equal(toRefusal(error).reason, MALFORMED, 'toRefusal knows the reason')
  }
  t.end()
})

t.test('MASK-9 what a patch reads and writes is told', (t) => {
  const patch = read([
    { op: 'test', path: '/birthDate', value: '1920' },
    { op: 'copy', from: '/name/0/family', path: '/text/div' },
    { op: 'move', from: '/telecom/1', path: '/telecom/0' },
    { op: 'add', path: '/_gender', value: {} },
    { op: 'add', path: '/name/-', value: {} },
    { op: 'replace', path: '', value: {} },
  ])
  t.equal(patch.hasTest, true)
  t.strictSame(changes(patch), [['text', 'div'], ['telecom'], ['gender'], ['name'], []])
  t.strictSame(touches(patch), [...changes(patch), ['birthDate'], ['name', 'family']])
  t.equal(read([{ op: 'remove', path: '/a' }]).hasTest, false)

  const fhir = read(
    parameters(
      operation('delete', "Patient.telecom.where(system = 'phone')[0].value"),
      operation('replace', 'Patient.extension[0].value.ofType(string)', [ofText('x')]),
      operation('add', 'Patient', [name('deceased'), { name: 'value', valueBoolean: true }]),
    ),
    FHIR,
  )
  t.equal(fhir.hasTest, true, 'a where tells something about the state')
  t.strictSame(changes(fhir), [
    ['telecom', 'value'],
    ['extension', 'value'],
    ['extension', 'valueString'],
    ['deceased'],
    ['deceasedBoolean'],
  ])
  t.strictSame(touches(fhir), [...changes(fhir), ['telecom', 'system']])
  t.equal(read(parameters(operation('delete', 'Patient.name[0]')), FHIR).hasTest, false)
  t.end()
})

const json = fc
  .jsonValue({ maxDepth: 4 })
  .map((value) => JSON.parse(JSON.stringify(value)) as unknown)
const NAMES = new Set(['__proto__', 'constructor', 'prototype'])
const clean = json.filter((value) => ![...NAMES].some((one) => JSON.stringify(value).includes(one)))
const escaped = (token: string): string => token.replaceAll('~', '~0').replaceAll('/', '~1')

t.test('many operations on a large value end soon', (t) => {
  const large = Object.fromEntries(Array.from({ length: 50_000 }, (_, index) => [`k${index}`, 0]))
  const before = process.cpuUsage()
  t.equal(outcome(large, Array(1000).fill({ op: 'add', path: '/a', value: 1 })), BROKEN)
  const { user, system } = process.cpuUsage(before)
  // Copying the value for each operation takes minutes; whatever else the machine does is not counted.
  t.ok(user + system < 10_000_000)
  t.end()
})

t.test('adding and then removing gives the original', (t) => {
  const members = fc.dictionary(fc.string(), clean, { maxKeys: 5 })
  fc.assert(
    fc.property(members, fc.string(), clean, fc.array(clean), (object, key, value, list) => {
      fc.pre(!NAMES.has(key) && !Object.hasOwn(object, key) && !Object.hasOwn(object, '__proto__'))
      const document = freeze({ ...object })
      const path = `/${escaped(key)}`
      const there = [{ op: 'add', path, value }]
      t.strictSame((applyPatch(document, read(there)) as Parts)[key], value)
      const result = outcome(document, [
        ...there,
        { op: 'test', path, value },
        { op: 'remove', path },
      ])
      if (JSON.stringify(result) !== JSON.stringify(document)) throw new Error('not the original')
      for (const index of [0, list.length]) {
        const place = `/${index}`
        const again = outcome(list, [
          { op: 'add', path: place, value },
          { op: 'remove', path: place },
        ])
        if (JSON.stringify(again) !== JSON.stringify(list)) throw new Error('not the original list')
      }
    }),
    { numRuns: 200 },
  )
  t.end()
})

t.test('any patch gives a result or a PatchError, and changes no input', (t) => {
  const path = fc.constantFrom('', '/a', '/a/0', '/a/-', '/b', '/b/a', '/b/a/1', '/a/1/b', '/c')
  const one = fc.record({
    op: fc.constantFrom('add', 'remove', 'replace', 'move', 'copy', 'test'),
    path,
    from: path,
    value: clean,
  })
  let applied = 0
  fc.assert(
    fc.property(fc.array(one, { maxLength: 6 }), (operations) => {
      const document = { a: [1, { b: 2 }], b: { a: [3, 4] } }
      const patch = freeze(read(operations)) as FhirPatch
      try {
        JSON.stringify(applyPatch(freeze(document), patch))
        applied++
      } catch (error) {
        if (!(error instanceof PatchError)) throw error
      }
    }),
    { numRuns: 500 },
  )
  t.ok(applied > 20, 'some apply')
  t.end()
})

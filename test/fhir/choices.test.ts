import t from 'tap'
import { createChoices } from '../../src/fhir/choices.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import type { Shape, ShapeOf } from '../../src/json/restore.ts'
import { createTreeReaders } from '../../src/json/tree.ts'

const read = createTreeReaders(64)()
const tree = (value: unknown) => read(Buffer.from(JSON.stringify(value)))
const resource = (resourceType: unknown) => tree({ resourceType })
const ANY = tree({})
/** What is at the end of a way of members. */
const at = (shapeOf: ShapeOf, type: string, ...way: readonly string[]): Shape =>
  way.reduce((shape, name) => shape.inside(name)(ANY), shapeOf(resource(type)))

// MASK-10
t.test('forms of one element are told in every version', (t) => {
  for (const version of ['DSTU2', 'STU3', 'R4', 'R4B', 'R5'] as const) {
    const elements = loadElements(version)
    const shapeOf = createChoices(elements)
    for (const name of elements.names) {
      const structure = elements.structure(name)
      if (structure?.kinds.includes('Resource') !== true) continue
      const shape = shapeOf(resource(name))
      const told = [...structure.elements.values()].filter(({ key, name, isChoice }) => {
        const expected = isChoice ? name : undefined
        return shape.choiceOf(key) === expected && shape.choiceOf(`_${key}`) === expected
      })
      t.equal(told.length, structure.elements.size, `${version} ${name}`)
    }
    for (const way of [
      ['extension'],
      ['_status', 'extension'],
      ['component'],
      ['code', 'coding', '_code', 'extension', 'extension'],
      ['valueQuantity', 'extension'],
    ]) {
      const shape = at(shapeOf, 'Observation', ...way)
      t.equal(shape.choiceOf('valueString'), 'value', `${version} ${way.join('.')}`)
      t.equal(shape.choiceOf('_valueQuantity'), 'value')
      t.equal(shape.choiceOf('id'), undefined)
    }
  }
  t.end()
})

t.test('what is contained is of its own type; what nobody defines may be of any', (t) => {
  const shapeOf = createChoices(loadElements('R4'))
  const contained = shapeOf(resource('Observation')).inside('contained')
  t.equal(contained(resource('Patient')).choiceOf('deceasedBoolean'), 'deceased')
  t.equal(contained(resource('Patient')).choiceOf('effectivePeriod'), undefined)
  const unknown = [
    contained(resource('Nobody')),
    contained(resource(['Patient'])),
    contained(ANY),
    at(shapeOf, 'Observation', 'nobody'),
    at(shapeOf, 'Observation', 'nobody', 'nothing'),
    at(shapeOf, 'Observation', 'status'),
  ]
  for (const shape of unknown) {
    t.equal(shape.choiceOf('effectivePeriod'), 'effective')
    t.equal(shape.choiceOf('_deceasedBoolean'), 'deceased')
    t.equal(shape.choiceOf('active'), undefined)
  }
  // Not what its type defines, but like it.
  const observation = shapeOf(resource('Observation'))
  for (const name of ['valueDecimal', 'valueNobody', 'value', '_value'])
    t.equal(observation.choiceOf(name), 'value', name)
  for (const name of ['values', 'valued', 'onsetAge', 'deceasedBoolean'])
    t.equal(observation.choiceOf(name), undefined, name)
  t.end()
})

/**
 * The byte scanner beside JSON.parse and parse-walk-stringify, alternating rounds, medians.
 *
 *   npm run bench:json
 */
import { scan } from '../src/json/scan.ts'
import { loadDefinitions } from '../src/fhir/definitions.ts'
import { buildVocabulary } from '../src/stages/release/vocabulary.ts'

const { names } = buildVocabulary(loadDefinitions('R4'))

function bundle(bytes: number): Buffer {
  const entries: string[] = []
  for (let length = 0, i = 0; length < bytes; i++) {
    const entry = `{"fullUrl":"http://up.example/fhir/Observation/o${i}","resource":{"resourceType":"Observation","id":"o${i}","meta":{"versionId":"1","lastUpdated":"2026-03-02T10:00:00.000+00:00","source":"#abc${i}"},"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"Laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"2339-0","display":"Glucose [Mass/volume] in Blood"}],"text":"Glucose"},"subject":{"reference":"Patient/p1","display":"Ada Example"},"encounter":{"reference":"Encounter/e${i}"},"effectiveDateTime":"2026-03-02T09:12:44+01:00","issued":"2026-03-02T09:12:44.000+01:00","valueQuantity":{"value":${90 + (i % 20)}.10,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}},"search":{"mode":"match"}}`
    length += entry.length
    entries.push(entry)
  }
  return Buffer.from(`{"resourceType":"Bundle","type":"searchset","entry":[${entries.join(',')}]}`)
}

function walk(value: unknown): unknown {
  if (typeof value === 'string')
    return value.includes('-') ? value.replace(/\b\d{3}-\d{2}-\d{4}\b/g, '*') : value
  if (Array.isArray(value)) return value.map(walk)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, walk(inner)]))
}

const subjects: [name: string, run: (bytes: Buffer) => unknown][] = [
  ['parse, walk, stringify', (bytes) => JSON.stringify(walk(JSON.parse(bytes.toString('utf8'))))],
  ['JSON.parse', (bytes) => JSON.parse(bytes.toString('utf8')) as unknown],
  ['byte scanner', (bytes) => scan(bytes, names, 64)],
]

for (const size of [60_000, 2_000_000]) {
  const bytes = bundle(size)
  const rounds = 15
  const repeat = Math.max(1, Math.round(8_000_000 / size))
  const speeds = subjects.map(() => [] as number[])
  for (let round = -3; round < rounds; round++) {
    for (const [i, [, run]] of subjects.entries()) {
      const begun = performance.now()
      for (let n = 0; n < repeat; n++) run(bytes)
      const speed = (bytes.length * repeat) / 1000 / (performance.now() - begun)
      if (round >= 0) speeds[i]!.push(speed)
    }
  }
  const medians = speeds.map((list) => list.toSorted((a, b) => a - b)[list.length >> 1]!)
  console.log(`\n${(bytes.length / 1000).toFixed(0)} KB`)
  for (const [i, [name]] of subjects.entries()) {
    console.log(
      `${name.padEnd(26)}${medians[i]!.toFixed(0).padStart(6)} MB/s${(medians[i]! / medians[1]!).toFixed(2).padStart(8)} of JSON.parse`,
    )
  }
}

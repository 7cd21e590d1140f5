import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { generatePopulation } from '../../src/demo/population.ts'
import { loadDefinitions } from '../../src/fhir/definitions.ts'
import type { FhirVersion } from '../../src/fhir/definitions.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import { generateResource } from '../support/generate-resource.ts'
import { createProof, resourcesIn } from '../support/proof.ts'

/** Records of Synthea where they are at hand, one folder per version of FHIR. */
const SYNTHEA = fileURLToPath(new URL('../../../shared/data/synthea/', import.meta.url))
const folders = { R4: ['r4', 2000], STU3: ['stu3', 200], DSTU2: ['dstu2', 200] } as const
/** `FHIREWALL_TEST_EVERY=1` for all: people's records say much the same again and again. */
const EVERY = Number(process.env['FHIREWALL_TEST_EVERY'] ?? 10)
const some = (texts: readonly string[], every = EVERY) => texts.filter((_, n) => n % every === 0)

/** All corpora: what no rule meets is the same, and nothing is edited but what is planned. */
async function prove(version: FhirVersion, texts: Iterable<string>): Promise<[number, number]> {
  const proof = createProof(version)
  let [all, same] = [0, 0]
  for (const text of texts) {
    all += 1
    if (await proof.leavesAlone(text)) same += 1
    await proof.editsWhatIsPlanned(text)
  }
  return [all, same]
}

t.test('the demo population', async (t) => {
  const texts = generatePopulation(11, 6).flatMap((text) => [...resourcesIn(text)])
  const [all, same] = await prove('R4', some(texts))
  t.ok(texts.length > 100 && same > all / 2, `${same} of ${all} came out byte for byte`)
})

for (const version of ['R4', 'STU3', 'R5'] as const) {
  t.test(`generated resources of ${version}`, async (t) => {
    const elements = loadElements(version)
    const apart = new Set(['Bundle', 'Parameters', 'Binary', 'OperationOutcome', 'Media'])
    const types = [...loadDefinitions(version).types].filter((type) => !apart.has(type))
    const texts = types.map((type, n) => generateResource(elements, type, n, 60).text)
    const [all, same] = await prove(version, some(texts, Math.ceil(EVERY / 5)))
    // The others hold attachments.
    t.ok(texts.length > 100 && same > all / 5, `${same} of ${all} came out byte for byte`)
  })
}

for (const [version, [name, least]] of Object.entries(folders)) {
  const folder = `${SYNTHEA}${name}/`
  const skip = !existsSync(folder) && 'no records of Synthea at hand'
  t.test(`Synthea, ${version}`, { skip }, async (t) => {
    const files = readdirSync(folder).filter((file) => file.endsWith('.json'))
    const texts = files.flatMap((file) => [...resourcesIn(readFileSync(folder + file, 'utf8'))])
    const [all, same] = await prove(version as FhirVersion, some(texts))
    t.ok(texts.length > least && same > all / 2, `${same} of ${all} came out byte for byte`)
  })
}

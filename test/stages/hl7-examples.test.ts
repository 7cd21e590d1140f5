import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createProof, resourcesIn } from '../support/proof.ts'

/** `1/2` and `2/2` share the work between two processes. */
const [part = 1, parts = 1] = (process.env['FHIREWALL_TEST_PART'] ?? '1/1').split('/').map(Number)
/** Folder of the npm package hl7.fhir.r4.examples, which the longer run installs for itself. */
const folder = process.env['FHIREWALL_HL7_EXAMPLES']
const skip = folder === undefined && 'FHIREWALL_HL7_EXAMPLES names no folder'

t.test('every example of HL7, masked and not (MASK-3, MASK-5)', { skip }, async (t) => {
  const proof = createProof('R4')
  const files = readdirSync(folder ?? '').filter((name) => /^[A-Z].*\.json$/.test(name))
  t.ok(files.length > 5000, `${files.length} examples`)
  const count = { resources: 0, same: 0, canaries: 0 }
  const met = new Set<string>()
  for (const file of files) {
    try {
      for (const text of resourcesIn(readFileSync(join(folder ?? '', file), 'utf8'))) {
        const resource = JSON.parse(text) as object
        // Bundles hold what other files hold too.
        const content = createHash('sha1').update(JSON.stringify(resource)).digest('hex')
        if (met.has(content) || parseInt(content.slice(0, 6), 16) % parts !== part - 1) continue
        met.add(content)
        count.resources += 1
        if (await proof.leavesAlone(text)) count.same += 1
        await proof.editsWhatIsPlanned(text)
        count.canaries += await proof.hides(resource)
      }
    } catch (error) {
      throw new Error(`${file}: ${String(error)}`, { cause: error })
    }
  }
  t.ok(count.same > count.resources * 0.9, JSON.stringify(count))
})

import t from 'tap'
import { startFhirServer } from '../../src/demo/fhir-server.ts'
import { PERSONAS } from '../../src/demo/identity-provider.ts'
import { describeDemo } from '../../src/demo/picture.ts'
import { generatePopulation } from '../../src/demo/population.ts'

t.test('the demo explains itself in 80 columns, with a curl for every persona', async (t) => {
  const upstream = await startFhirServer({ load: generatePopulation(1, 2) })
  t.teardown(upstream.close)
  const text = describeDemo({
    url: 'http://127.0.0.1:18080/fhir',
    adminUrl: 'http://127.0.0.1:18081',
    issuer: 'http://127.0.0.1:18082',
    upstream,
    files: 1,
    auditFile: '/tmp/fhirewall-demo-AbCdEf/audit.jsonl',
    own: 'patient-1',
    other: 'patient-2',
  })
  for (const line of text.split('\n')) t.ok(line.length <= 80, line)
  for (const persona of PERSONAS)
    t.match(text, `curl -s http://127.0.0.1:18082/demo/token/${persona}`)
  t.match(text, '2 patients, 1 file loaded')
})

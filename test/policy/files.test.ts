import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mock } from 'node:test'
import t from 'tap'
import { watchPolicies } from '../../src/adapters/policy-files.ts'
import { startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

const policy = (types: string): string =>
  `policy: p\ndescription: d\nrules:\n  - id: r\n    effect: permit\n    interactions: [read]\n    types: [${types}]\n    levels: [user]\n`

function setUp(text = policy('Patient')) {
  const folder = mkdtempSync(join(tmpdir(), 'fhirewall-policies-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'a.yaml')
  writeFileSync(file, text)
  const lines: string[] = []
  const write = (level: string) => (fields: object, message: string) => {
    lines.push(`${level} ${JSON.stringify(fields)} ${message}`)
  }
  const log = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
  }
  return { folder, file, lines, log }
}

t.test('a good set takes the place of the old one; a bad one never does', async (t) => {
  const { folder, file, lines, log } = setUp()
  const files = watchPolicies(folder, log)
  t.teardown(() => files.close())
  const first = files.current()
  files.look()
  t.equal(files.current(), first, 'nothing changed')
  writeFileSync(file, policy('Patient, Observation'))
  files.look()
  t.not(files.current().hash, first.hash)
  t.match(lines.at(-1), /new policies are in force/)
  const second = files.current()
  for (const bad of ['policy: [', policy('patient'), policy('*nobody'), '']) {
    writeFileSync(file, bad)
    lines.length = 0
    files.look()
    t.equal(files.current(), second, JSON.stringify(bad))
    t.match(lines.join('\n'), /error .*a\.yaml.*"line":\d+/)
    t.match(lines.at(-1), /of before stay in force/)
  }
  rmSync(file)
  files.look()
  t.equal(files.current(), second, 'an empty folder permits no more and no less than before')
  writeFileSync(file, policy('Patient'))
  files.look()
  t.equal(files.current().hash, first.hash, 'the same rules, the same hash')
})

t.test('files that still move are not read; the timer sees what stands still', (t) => {
  const { folder, file, log } = setUp()
  let now = 0
  mock.method(performance, 'now', () => now)
  mock.timers.enable({ apis: ['setInterval', 'setTimeout'] })
  const pass = (ms: number) => {
    now += ms
    mock.timers.tick(ms)
  }
  const files = watchPolicies(folder, log, { intervalMs: 200 })
  const first = files.current().hash
  const seen = new Set<string>()
  // Each of these is a good set that nobody ever meant: the file is being written.
  for (let n = 0; n < 100; n++) {
    writeFileSync(file, `${policy('Observation')}# ${n}`)
    pass(n % 20)
    seen.add(files.current().hash)
  }
  pass(180)
  seen.add(files.current().hash)
  pass(200)
  const last = files.current().hash
  files.close()
  mock.timers.reset()
  mock.restoreAll()
  t.strictSame([...seen], [first], 'while it moves')
  t.not(last, first, 'when it stands')
  t.end()
})

t.test('a ConfigMap is swapped by symbolic links', async (t) => {
  const { folder, log } = setUp()
  const volume = join(folder, 'volume')
  mkdirSync(join(volume, '..one'), { recursive: true })
  mkdirSync(join(volume, '..two'))
  writeFileSync(join(volume, '..one/a.yaml'), policy('Patient'))
  writeFileSync(join(volume, '..two/a.yaml'), policy('Condition'))
  symlinkSync('..one', join(volume, '..data'))
  symlinkSync('..data/a.yaml', join(volume, 'a.yaml'))
  const files = watchPolicies(volume, log)
  t.teardown(() => files.close())
  const before = files.current().hash
  symlinkSync('..two', join(volume, '..tmp'))
  renameSync(join(volume, '..tmp'), join(volume, '..data'))
  files.look()
  t.not(files.current().hash, before)
})

t.test('the gateway decides by the policies of now, and says by which (GOV-2)', async (t) => {
  const { folder, file } = setUp()
  const gateway = await startGateway({
    handler: json('{"resourceType":"Condition","id":"c1"}'),
    config: { policies: folder },
  })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })
  const read = async () =>
    (await fetch(`${gateway.url}/Condition/c1`, { headers: { authorization: `Bearer ${token}` } }))
      .status
  t.equal(await read(), 403)
  writeFileSync(file, policy('Condition'))
  let status = 403
  for (let n = 0; n < 400 && status === 403; n++) {
    await new Promise((done) => setTimeout(done, 20))
    status = await read()
  }
  t.equal(status, 200)
  const hash = /fhirewall_policy_info\{hash="([0-9a-f]{16})"\} 1/.exec(await gateway.metrics())?.[1]
  t.ok(hash)
  const reloads = async (result: string): Promise<string | undefined> =>
    new RegExp(
      `fhirewall_file_reloads_total\\{setting="policies",result="${result}"\\} (\\d+)`,
    ).exec(await gateway.metrics())?.[1]
  t.equal(await reloads('reloaded'), '1', 'a reload is counted like that of any file')
  t.equal(await reloads('failed'), '0')
  writeFileSync(file, 'policy: [')
  for (let n = 0; n < 400 && (await reloads('failed')) === '0'; n++) {
    await new Promise((done) => setTimeout(done, 20))
  }
  t.equal(await reloads('failed'), '1', 'so is one that failed: somebody is alarmed')
  t.equal(await read(), 200, 'the policies of before stay in force')
  const records = await gateway.audit()
  t.match(JSON.stringify(records.at(-1)), hash, 'the audit names the policies')
  t.notMatch(JSON.stringify(records[0]), hash)
})

t.test('what a policy says of pages and parameters holds for the question', async (t) => {
  const { folder } = setUp(
    `${policy('Observation').replace('[read]', '[search-type]')}    obligations: { results: 20, parameters: { forbid: [code] } }\n`,
  )
  const gateway = await startGateway({ config: { policies: folder } })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })
  for (const [query, expected] of [
    ['', '/Observation?_count=20'],
    ['?_count=5', '/Observation?_count=5'],
    ['?_count=50&date=2026', '/Observation?_count=20&date=2026'],
    ['?code=a', '400'],
    ['?code:not=a', '400'],
    ['?_sort=-date&_pretty=true', '/Observation?_sort=-date&_count=20'],
  ] as const) {
    gateway.upstream.received.length = 0
    const answer = await fetch(`${gateway.url}/Observation${query}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    await answer.text()
    const [asked] = gateway.upstream.received
    t.equal(asked?.target.replace('/base', '') ?? String(answer.status), expected, query)
  }
})

t.test(
  'what was permitted by policies of before is shown as they say, and recorded as theirs',
  async (t) => {
    const masked = (profile: string): string =>
      `${policy('Observation').replace('[read]', '[read, search-type]')}    obligations: { masking: ${profile} }\n`
    const profile = (name: string, rules: string): string =>
      `masking: ${name}\ndescription: d\nrules: ${rules}\n`
    const HIDE = '[{ id: h, select: [Observation.note], method: remove }]'
    // prettier-ignore
    const rows: [what: string, after: Record<string, string>][] = [
    ['a profile of the same name hides less', { 'a.yaml': masked('other'), 'masking/a.yaml': profile('house', '[]'), 'masking/b.yaml': profile('other', HIDE) }],
    ['a profile of the name is not there any more', { 'a.yaml': masked('other'), 'masking/a.yaml': profile('other', '[]') }],
    ['nothing is permitted any more', { 'a.yaml': policy('Patient') , 'masking/a.yaml': profile('house', '[]') }],
  ]
    const observation = '{"resourceType":"Observation","id":"o1","note":[{"text":"CANARY"}]}'
    const bundle = `{"resourceType":"Bundle","type":"searchset","entry":[{"resource":${observation}}]}`
    await Promise.all(
      rows.map(async ([what, after]) => {
        const { folder } = setUp(masked('house'))
        mkdirSync(join(folder, 'masking'))
        writeFileSync(join(folder, 'masking/a.yaml'), profile('house', HIDE))
        let tell = (): void => undefined
        const mayTell = new Promise<void>((resolve) => (tell = resolve))
        const gateway = await startGateway({
          config: { policies: folder },
          handler: (request, response, raw) => {
            const body = request.target.endsWith('o1') ? observation : bundle
            void mayTell.then(() => json(body)(request, response, raw))
          },
        })
        t.teardown(() => gateway.close())
        const { received } = gateway.upstream
        received.length = 0
        const hash = async (): Promise<string> =>
          /fhirewall_policy_info\{hash="([0-9a-f]{16})"\} 1/.exec(await gateway.metrics())?.[1] ??
          ''
        const before = await hash()
        const token = await gateway.token({ scope: 'user/*.rs', fhirUser: 'Practitioner/d1' })
        const begun = ['/Observation/o1', '/Observation'].map((target) =>
          fetch(gateway.url + target, { headers: { authorization: `Bearer ${token}` } }),
        )
        const until = async (holds: () => Promise<boolean> | boolean): Promise<void> => {
          for (let n = 0; n < 400 && !(await holds()); n++) {
            await new Promise((done) => setTimeout(done, 20))
          }
        }
        await until(() => received.length === begun.length)
        for (const [name, text] of Object.entries(after)) writeFileSync(join(folder, name), text)
        await until(async () => (await hash()) !== before)
        t.not(await hash(), before, `${what}: the new ones are in force`)
        tell()
        for (const answer of await Promise.all(begun)) {
          const text = await answer.text()
          t.equal(answer.status, 200, `${what}: ${text}`)
          t.match(text, '"o1"', what)
          t.notMatch(text, 'CANARY', what)
        }
        const records = await gateway.audit()
        t.equal(records.length, begun.length)
        for (const record of records)
          t.match(JSON.stringify(record), before, `${what}: whose it was`)
      }),
    )
  },
)

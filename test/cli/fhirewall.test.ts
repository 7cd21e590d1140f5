import { spawn, spawnSync } from 'node:child_process'
import type { StdioOptions } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { flagsFor } from '../../src/cli/engine.ts'
import { startCommands } from '../support/commands.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-cli-'))

const addresses = {
  FHIREWALL_UPSTREAM_URL: 'http://127.0.0.1:8090/fhir',
  FHIREWALL_PUBLIC_URL: 'https://fhir.example.org/fhir',
}
const minimal = {
  ...addresses,
  FHIREWALL_ISSUER: 'https://login.example.org',
}

/** Nothing else of this process: settings could be among it. What one run has compiled the next need not. */
const inherited = {
  PATH: process.env.PATH ?? '',
  NODE_COMPILE_CACHE: join(folder, 'compiled'),
}

/** As a process of its own. */
function spawned(args: string[]) {
  const all = [join(root, 'bin/fhirewall.js'), ...args]
  const { status, stdout, stderr } = spawnSync(process.execPath, all, {
    encoding: 'utf8',
    env: inherited,
  })
  return { status, stdout, stderr }
}

const commands = startCommands()
t.teardown(commands.close)
const fhirewall = async (args: string[], env: Record<string, string> = {}) =>
  commands.run(args, { ...inherited, ...env })

t.test('what the engine is told, it knows: of a wrong flag V8 says no more than a line', (t) => {
  const { stdout } = spawnSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })
  for (const flag of flagsFor(1 << 30)) {
    const [name = ''] = flag.replace(/^--(?:no-)?/, '').split('=')
    t.match(stdout, `--${name} (`)
  }
  const small = flagsFor((1 << 30) - 1)
  t.ok(
    small.length > 0 && !small.some((flag) => /heap|space/.test(flag)),
    'thrift where it is small',
  )
  t.end()
})

t.test('help, version and wrong usage', async (t) => {
  const help = spawned(['--help'])
  t.equal(help.status, 0)
  for (const name of ['start', 'demo', 'check', 'explain', 'test', 'config', 'audit']) {
    t.match(help.stdout, new RegExp(`^ {2}${name} `, 'm'))
  }
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as object
  t.match(manifest, { version: (await fhirewall(['--version'])).stdout.trim() })

  const unknown = spawned(['chek'])
  t.equal(unknown.status, 2)
  t.match(unknown.stderr, 'did you mean "check"?')
  t.equal((await fhirewall([])).status, 2)
  const option = await fhirewall(['config', '--confg', 'x'])
  t.equal(option.status, 2)
  t.match(option.stderr, "'--confg'")
  for (const name of [
    'start',
    'check',
    'explain',
    'test',
    'demo',
    'config',
    'audit',
    'audit verify',
  ]) {
    const { status, stdout } = await fhirewall([...name.split(' '), '--help'])
    t.equal(status, 0)
    t.match(stdout, `Usage: fhirewall ${name}`)
    const wide = stdout.split('\n').filter(({ length }) => length > 80)
    t.same(wide, [], `the help of ${name} fits a terminal`)
  }
})

t.test('config prints what is in effect, without secrets (GOV-5)', async (t) => {
  const env = { ...minimal, FHIREWALL_UPSTREAM_AUTHORIZATION: 'Bearer hunter2' }
  const { status, stdout } = await fhirewall(['config', '--json'], env)
  t.equal(status, 0)
  t.match(JSON.parse(stdout), { port: 8080, upstream: { authorization: '[secret]' } })
  t.notMatch(stdout, /hunter2/)
})

t.test('check reads certificates, keys and secrets as a start would', async (t) => {
  const file = join(folder, 'no-key.pem')
  writeFileSync(file, 'CANARY\nCANARY\n')
  const bad = await fhirewall(['check'], {
    ...addresses,
    FHIREWALL_TLS_CERTIFICATE_FILE: file,
    FHIREWALL_TLS_KEY_FILE: file,
    FHIREWALL_UPSTREAM_CREDENTIALS_KIND: 'bearer',
    FHIREWALL_UPSTREAM_CREDENTIALS_SECRET_FILE: file,
    FHIREWALL_UPSTREAM_ASSERTION_KEY_FILE: file,
    FHIREWALL_REDIS_URL: 'rediss://127.0.0.1',
    FHIREWALL_REDIS_CA_FILE: file,
    FHIREWALL_REDIS_PASSWORD_FILE: file,
    FHIREWALL_DENYLIST_FILE: file,
    FHIREWALL_ISSUERS: `[{url: 'https://a.example', introspection: {clientId: a, clientSecretFile: ${file}}}]`,
  })
  t.equal(bad.status, 1)
  for (const setting of [
    'tls',
    'upstream.credentials.secretFile',
    'upstream.assertion.keyFile',
    'redis.passwordFile',
    'redis.caFile',
    'denylist.file',
    'issuers.introspection',
  ]) {
    t.match(bad.stderr, new RegExp(`^${setting}: `, 'm'))
  }
  t.match(bad.stderr, '7 problems')
  t.notMatch(bad.stderr + bad.stdout, 'CANARY')
})

t.test('check reads masking as the FHIR version of the start does', async (t) => {
  const policies = mkdtempSync(join(folder, 'policies-'))
  cpSync(join(root, 'policies/patient-own-record.yaml'), join(policies, 'a.yaml'))
  mkdirSync(join(policies, 'masking'))
  const profile =
    'masking: own\ndescription: own\nrules: [{id: a, select: [AuditEvent.outcome], method: pseudonym}]\n'
  writeFileSync(join(policies, 'masking/own.yaml'), profile)
  const env = { ...minimal, FHIREWALL_POLICIES: policies }
  t.equal((await fhirewall(['check'], env)).status, 0, 'a code in R4')
  const { status, stderr } = await fhirewall(['check'], { ...env, FHIREWALL_FHIR_VERSION: 'R5' })
  t.equal(status, 1)
  t.match(stderr, 'own.yaml:3:', 'and more than that in R5')
})

t.test('a list in a variable that YAML cannot make is a problem, and no stack', async (t) => {
  for (const list of ['[*nowhere]', '[', `[&a [x], ${'*a, '.repeat(2000)}]`]) {
    const { status, stderr } = await fhirewall(['check'], { ...addresses, FHIREWALL_ISSUERS: list })
    t.equal(status, 1)
    t.match(stderr, 'FHIREWALL_ISSUERS: ')
    t.notMatch(stderr, /\bat .*\.[jt]s:/)
  }
})

t.test('check warns when the audit log could not be written here', async (t) => {
  const missing = join(folder, 'nowhere')
  const env = { ...minimal, FHIREWALL_AUDIT_FILE: join(missing, 'audit.jsonl') }
  const { status, stderr } = await fhirewall(['check'], env)
  t.equal(status, 0, 'it may be checked elsewhere')
  t.match(stderr, `warning: audit.file: the folder ${missing} is not there`)
  t.notOk(existsSync(missing))
  const json = await fhirewall(['check', '--json'], env)
  t.match(JSON.parse(json.stdout), { problems: [], warnings: [/^audit\.file: /] })
})

t.test('check finds every problem of configuration and policies at once', async (t) => {
  const good = await fhirewall(['check'], minimal)
  t.equal(good.status, 0, good.stderr)
  t.match(good.stdout, 'Configuration and policies are good.')

  const file = join(folder, 'bad.yaml')
  writeFileSync(file, 'prot: 1\n')
  const policies = mkdtempSync(join(folder, 'policies-'))
  writeFileSync(join(policies, 'bad.yaml'), 'this is: [not a policy\n')
  const env = { ...minimal, FHIREWALL_POLICIES: policies }
  const bad = await fhirewall(['check', '--config', file], env)
  t.equal(bad.status, 1)
  t.match(bad.stderr, `${file}:1:1 prot: no such key; did you mean "port"?`)
  t.match(bad.stderr, /policies-.*bad\.yaml:\d+:\d+ /)

  const json = await fhirewall(['check', '--config', file, '--json'], env)
  t.equal(json.status, 1)
  t.match(JSON.parse(json.stdout), { problems: [{ file, line: 1, column: 1 }] })
})

t.test('whoever reads only the begin of what is said gets no stack after it', async (t) => {
  const shell = `"$0" "$1" --help | true; exit "\${PIPESTATUS[0]}"`
  const args = ['-c', shell, process.execPath, join(root, 'bin/fhirewall.js')]
  const { status, stderr } = spawnSync('bash', args, { encoding: 'utf8', env: inherited })
  t.equal(status, 0)
  t.notMatch(stderr, 'EPIPE')
})

t.test('start without configuration says what is missing', async (t) => {
  const { status, stderr } = spawned(['start'])
  t.equal(status, 1)
  t.match(stderr, 'FHIREWALL_UPSTREAM_URL: upstream.url: is missing')
  t.notMatch(stderr, /\bat .*\.ts:/, 'and shows no stack')
})

/** A gateway before a server that knows nothing, as a process of its own, once it says where it is. */
async function launch(t: Test, stdio: StdioOptions, env: Record<string, string> = {}) {
  const other = createServer((_, response) => response.writeHead(404).end())
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  t.teardown(() => other.close())
  const base = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
  const child = spawn(process.execPath, [join(root, 'bin/fhirewall.js'), 'start'], {
    stdio,
    env: {
      ...inherited,
      FHIREWALL_UPSTREAM_URL: `${base}/fhir`,
      FHIREWALL_PUBLIC_URL: 'http://127.0.0.1/fhir',
      FHIREWALL_ISSUER: base,
      FHIREWALL_PORT: '0',
      FHIREWALL_ADMIN_PORT: '0',
      FHIREWALL_AUDIT_FILE: join(mkdtempSync(join(folder, 'audit-')), 'audit.jsonl'),
      FHIREWALL_SHUTDOWN_SECONDS: '5',
      ...env,
    },
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve))
  let output = ''
  const { fhir, admin } = await new Promise<{ fhir: string; admin: string }>((resolve, reject) => {
    const read = (chunk: Buffer) => {
      output += chunk.toString()
      const fhir = /^FHIR +(\S+)$/m.exec(output)?.[1]
      const admin = /^admin +(\S+)$/m.exec(output)?.[1]
      if (fhir !== undefined && admin !== undefined) resolve({ fhir, admin })
    }
    child.stdout!.on('data', read)
    child.stderr!.on('data', read)
    void ended.then((code) => {
      reject(new Error(`ended with ${code}: ${output}`))
    })
  })
  return { child, ended, fhir, admin }
}

t.test('start listens, tells where, and SIGTERM ends it', async (t) => {
  const { child, ended, fhir, admin } = await launch(t, 'pipe')
  t.equal((await fetch(`${admin}/livez`)).status, 200)
  t.equal((await fetch(`${fhir}/Patient/1`)).status, 401, 'AUTHN-1')
  child.kill('SIGTERM')
  t.equal(await ended, 0, 'in order, which it would not be after its limit')
})

t.test('whoever asks the admin listener for ever does not keep a stop from ending', async (t) => {
  const { child, ended, admin } = await launch(t, 'pipe')
  const socket = connect(Number(new URL(admin).port), '127.0.0.1', () => {
    socket.write('GET /metrics HTTP/1.1\r\n', () => child.kill('SIGTERM'))
  })
  socket.on('error', () => undefined)
  t.equal(await ended, 0, 'and the audit log is closed in order')
})

t.test(
  'without anybody who reads it, and asked to read its files again, it serves on',
  async (t) => {
    const { child, ended, fhir } = await launch(t, 'pipe')
    for (const output of [child.stdout, child.stderr]) output!.destroy()
    child.kill('SIGHUP')
    for (let n = 0; n < 3; n++) t.equal((await fetch(`${fhir}/Patient/1`)).status, 401)
    child.kill('SIGTERM')
    t.equal(await ended, 0, 'a stop is as orderly as ever')
  },
)

t.test('one Ctrl-C, which comes twice by way of an older Node, is one', async (t) => {
  const { child, ended } = await launch(t, 'pipe')
  child.kill('SIGINT')
  child.kill('SIGTERM')
  t.equal(await ended, 0)
})

t.test('started again by an older Node, it ends when that parent is killed outright', async (t) => {
  const { child, ended } = await launch(t, ['ignore', 'pipe', 'pipe', 'ipc'], {
    FHIREWALL_RESTARTED: '1',
  })
  child.disconnect()
  t.equal(await ended, 1)
})

t.test('explain: why, rule by rule, in 80 columns, and never the token', async (t) => {
  const claims = {
    ...{ iss: 'https://login.example.org', sub: 'anna', client_id: 'app' },
    ...{ scope: 'patient/*.rs', patient: 'p1', exp: 4_000_000_000 },
  }
  const file = join(folder, 'claims.json')
  writeFileSync(file, JSON.stringify(claims))
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const token = `${part({ alg: 'none' })}.${part(claims)}.SIGNATURE-CANARY`
  const tokenFile = join(folder, 'token')
  writeFileSync(tokenFile, token)
  const explain = async (...args: string[]) => fhirewall(['explain', ...args], minimal)

  const yes = await explain('--claims', file, '--request', 'GET /Observation?code=a')
  t.equal(yes.status, 0, yes.stderr)
  t.match(yes.stdout, 'nothing here verifies them')
  t.match(yes.stdout, /→ permit patient-own-record\/own-record +matches/)
  t.match(yes.stdout, /only patient p1/)
  for (const line of yes.stdout.split('\n')) t.ok(line.length <= 80, line)

  const no = await explain('--token', tokenFile, '--request', 'DELETE /Observation/o1')
  t.equal(no.status, 1)
  t.match(no.stdout, /refused: scope-insufficient \(403\)/)
  t.match(no.stdout, /patient\/\*\.rs +no letter "d"/)
  t.notMatch(no.stdout + no.stderr, /CANARY|eyJ/)
  const many = join(folder, 'many.json')
  const scope = 'patient/Patient.r patient/Observation.rs?category=a user/*.rs system/*.rs'
  writeFileSync(many, JSON.stringify({ ...claims, scope }))
  const own = await explain('--claims', many, '--request', 'GET /Patient/p1')
  t.equal(own.status, 0, own.stdout)
  t.match(own.stdout, /→ patient\/Patient\.r +holds/)
  t.match(own.stdout, /patient\/Observation\.rs\?… +not about Patient/)
  t.match(own.stdout, /user\/\*\.rs +no person in fhirUser/)
  t.match(own.stdout, /system\/\*\.rs +for programs alone/)
  for (const line of own.stdout.split('\n')) t.ok(line.length <= 80, line)
  const other = await explain('--claims', many, '--request', 'GET /Patient/p2')
  t.equal(other.status, 1, 'nobody else is reached')
  t.match(other.stdout, /refused +only patient p1 can be reached/)
  t.match(
    (await explain('--claims', file, '--request', 'GET /Nonsense/1')).stdout,
    /refused: interaction/,
  )
  const foreign = join(folder, 'foreign.json')
  writeFileSync(foreign, '{"iss":"https://other.example","sub":"a"}')
  t.match(
    (await explain('--claims', foreign, '--request', 'GET /Patient/p1')).stderr,
    /none of those configured/,
  )
  t.equal((await explain('--claims', file)).status, 2)
  t.equal((await explain('--request', 'GET /Patient/p1')).status, 2)
  writeFileSync(file, 'CANARY')
  const broken = await explain('--claims', file, '--request', 'GET /Patient/p1')
  t.equal(broken.status, 2)
  t.notMatch(broken.stderr, /CANARY/)
})

t.test('test: the cases beside the policies', async (t) => {
  const policies = mkdtempSync(join(tmpdir(), 'fhirewall-cli-'))
  const rule =
    'policy: p\ndescription: d\nrules:\n  - id: r\n    effect: permit\n    interactions: [read]\n    types: [Patient]\n    levels: [user]\n'
  writeFileSync(join(policies, 'a.yaml'), rule)
  const run = async (cases: string) => {
    writeFileSync(join(policies, 'a.test.yaml'), cases)
    return fhirewall(['test', '--policies', policies])
  }
  const good = await run('cases:\n  - allow: { level: user, interaction: read, type: Patient }\n')
  t.equal(good.status, 0, good.stderr)
  t.match(good.stdout, /a\.test\.yaml +1 cases  all hold/)
  for (const line of good.stdout.split('\n')) t.ok(line.length <= 80, line)
  const bad = await run('cases:\n  - deny: { level: user, interaction: read, type: Patient }\n')
  t.equal(bad.status, 1)
  t.match(bad.stderr, /a\.test\.yaml:2:5 .*should be denied, and is allowed by p\/r/)
  t.equal((await run('cases: []\n')).status, 1)
  const unread = await run('cases: [')
  t.equal(unread.status, 1)
  t.match(unread.stderr, /a\.test\.yaml:1:\d+ /)
  t.match(
    (await run('cases:\n  - deny: { level: user, interaction: read, type: Pateint }\n')).stderr,
    /2:\d+ "Pateint"/,
  )
  t.equal((await fhirewall(['test', policies, '--policies', policies])).status, 2)
  writeFileSync(
    join(policies, 'a.test.yaml'),
    'cases:\n  - deny: { level: user, interaction: read, type: Group }\n',
  )
  t.equal((await fhirewall(['test', policies])).status, 0, 'the folder by its place')
  t.equal((await fhirewall(['test'])).status, 0, 'the shipped policies hold')
})

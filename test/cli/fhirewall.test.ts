import { spawn, spawnSync } from 'node:child_process'
import type { StdioOptions } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'fhirewall-cli-'))

const minimal = {
  FHIREWALL_UPSTREAM_URL: 'http://127.0.0.1:8090/fhir',
  FHIREWALL_PUBLIC_URL: 'https://fhir.example.org/fhir',
  FHIREWALL_ISSUER: 'https://login.example.org',
}

function fhirewall(args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'bin/fhirewall.js'), ...args],
    { encoding: 'utf8', env: { PATH: process.env.PATH ?? '', ...env } },
  )
  return { status, stdout, stderr }
}

t.test('help, version and wrong usage', async (t) => {
  const help = fhirewall(['--help'])
  t.equal(help.status, 0)
  for (const name of ['start', 'demo', 'check', 'config', 'audit']) {
    t.match(help.stdout, new RegExp(`^ {2}${name} `, 'm'))
  }
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as object
  t.match(manifest, { version: fhirewall(['--version']).stdout.trim() })

  const unknown = fhirewall(['chek'])
  t.equal(unknown.status, 2)
  t.match(unknown.stderr, 'did you mean "check"?')
  t.equal(fhirewall([]).status, 2)
  const option = fhirewall(['config', '--confg', 'x'])
  t.equal(option.status, 2)
  t.match(option.stderr, "'--confg'")
  for (const command of ['start', 'check']) {
    const { status, stdout } = fhirewall([command, '--help'])
    t.equal(status, 0)
    t.match(stdout, `Usage: fhirewall ${command}`)
  }
})

t.test('config prints what is in effect, without secrets', async (t) => {
  const env = { ...minimal, FHIREWALL_UPSTREAM_AUTHORIZATION: 'Bearer hunter2' }
  const { status, stdout } = fhirewall(['config', '--json'], env)
  t.equal(status, 0)
  t.match(JSON.parse(stdout), { port: 8080, upstream: { authorization: '[secret]' } })
  t.notMatch(stdout, /hunter2/)
})

t.test('check finds every problem of configuration and policies at once', async (t) => {
  const good = fhirewall(['check'], minimal)
  t.equal(good.status, 0, good.stderr)
  t.match(good.stdout, 'Configuration and policies are good.')

  const file = join(folder, 'bad.yaml')
  writeFileSync(file, 'prot: 1\n')
  const policies = mkdtempSync(join(folder, 'policies-'))
  writeFileSync(join(policies, 'bad.yaml'), 'this is: [not a policy\n')
  const env = { ...minimal, FHIREWALL_POLICIES: policies }
  const bad = fhirewall(['check', '--config', file], env)
  t.equal(bad.status, 1)
  t.match(bad.stderr, `${file}:1:1 prot: no such key; did you mean "port"?`)
  t.match(bad.stderr, /policies-.*bad\.yaml:\d+:\d+ /)

  const json = fhirewall(['check', '--config', file, '--json'], env)
  t.equal(json.status, 1)
  t.match(JSON.parse(json.stdout), { problems: [{ file, line: 1, column: 1 }] })
})

t.test('start without configuration says what is missing', async (t) => {
  const { status, stderr } = fhirewall(['start'])
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
      PATH: process.env.PATH ?? '',
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

t.test('start listens, tells where, and SIGTERM ends it within its limit', async (t) => {
  const { child, ended, fhir, admin } = await launch(t, 'pipe')
  t.equal((await fetch(`${admin}/livez`)).status, 200)
  t.equal((await fetch(`${fhir}/Patient/1`)).status, 401, 'AUTHN-1')
  const begun = Date.now()
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  t.ok(Date.now() - begun < 6000)
})

t.test('started again by an older Node, it ends when that parent is killed outright', async (t) => {
  const { child, ended } = await launch(t, ['ignore', 'pipe', 'pipe', 'ipc'], {
    FHIREWALL_RESTARTED: '1',
  })
  child.disconnect()
  t.equal(await ended, 1)
})

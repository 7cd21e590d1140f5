/**
 * The whole pipeline beside nginx as plain proxy, HAProxy verifying RS256 and ES256 (bodies not
 * looked at), and the naive Fastify stack of bench/naive.ts: one machine, one run, alternating
 * rounds. Ratios are those of the medians, and those of the best round of each: a neighbour on a shared
 * machine takes cache away, which costs a program the more the larger it is. The proxy under test runs
 * on one core, load and upstream on another. Before that each has `--warm` seconds of load of every
 * size: on one core a compiler that works beside the program takes its time, and a gateway runs for
 * weeks.
 *
 *   apt-get install nginx-light haproxy wrk
 *   npm run bench -- --seconds 3 --rounds 6 --warm 15
 *
 * `--also DIR` measures the FHIRewall of another checkout in the same rounds, `--connections N` keeps
 * to that many, `--port N` moves the ports, `--profile DIR` writes CPU profiles (and costs time).
 */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createPublicKey } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, readdir, rm, writeFile, mkdir, chmod } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { fileURLToPath } from 'node:url'
import { startIssuer } from '../test/support/issuer.ts'

const run = promisify(execFile)
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '6' },
    warm: { type: 'string', default: '15' },
    size: { type: 'string', multiple: true },
    only: { type: 'string', multiple: true },
    also: { type: 'string', multiple: true, default: [] },
    port: { type: 'string', default: '18090' },
    profile: { type: 'string' },
    connections: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
})
const root = fileURLToPath(new URL('..', import.meta.url))
const node = process.execPath
/** As the image runs node; the naive stack has them, too. */
const LARGE_PAGES = '--use-largepages=silent'
const folder = await mkdtemp(join(tmpdir(), 'fhirewall-bench-'))
await chmod(folder, 0o755)
const children: ChildProcess[] = []
const pinned = cpus().length > 1

const firstPort = Number(values.port)
const PORTS = {
  upstream: firstPort,
  nginx: firstPort + 1,
  rs256: firstPort + 2,
  es256: firstPort + 3,
  naive: firstPort + 4,
  /** Each FHIRewall has two: its own and its admin port. */
  gateway: firstPort + 5,
}
const PUBLIC = `http://127.0.0.1:${PORTS.gateway}/fhir`

function launch(
  core: number,
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): ChildProcess {
  const child = pinned
    ? spawn('taskset', ['-c', String(core), command, ...args], {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...process.env, ...env },
      })
    : spawn(command, args, {
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...process.env, ...env },
      })
  children.push(child)
  return child
}

/** A searchset of about `bytes` bytes, with decimals, notes, an SSN and a card here and there. */
function bundle(type: string, bytes: number): string {
  const entries: string[] = []
  let length = 0
  for (let i = 0; length < bytes; i++) {
    const note =
      i % 10 === 0
        ? ',"note":[{"text":"Caller gave SSN 123-45-6789 and card 4111 1111 1111 1111."}]'
        : ''
    const entry = `{"fullUrl":"http://127.0.0.1:${PORTS.upstream}/base/${type}/o${i}","resource":{"resourceType":"${type}","id":"o${i}","meta":{"versionId":"1","lastUpdated":"2026-03-02T10:00:00.000+00:00","source":"#abc${i}","security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"N"}]},"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"Laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"2339-0","display":"Glucose [Mass/volume] in Blood"}],"text":"Glucose"},"subject":{"reference":"Patient/p1","display":"Ada Example"},"encounter":{"reference":"Encounter/e${i}"},"effectiveDateTime":"2026-03-02T09:12:44+01:00","issued":"2026-03-02T09:12:44.000+01:00","valueQuantity":{"value":${90 + (i % 20)}.10,"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}${note}},"search":{"mode":"match"}}`
    length += entry.length + 1
    entries.push(entry)
  }
  return `{"resourceType":"Bundle","id":"b1","type":"searchset","total":${entries.length},"link":[{"relation":"self","url":"http://127.0.0.1:${PORTS.upstream}/base/${type}?patient=p1"}],"entry":[${entries.join(',')}]}`
}

const PATIENT = `{"resourceType":"Patient","id":"p1","meta":{"versionId":"3","lastUpdated":"2026-03-02T10:00:00.000+00:00","profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"]},"text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">Ada Example, born 1970-01-01</div>"},"extension":[{"url":"http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex","valueCode":"F"}],"identifier":[{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR"}]},"system":"http://hospital.example/mrn","value":"MRN-0001"},{"type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"SS"}]},"system":"http://hl7.org/fhir/sid/us-ssn","value":"123-45-6789"}],"active":true,"name":[{"use":"official","family":"Example","given":["Ada","Grace"]}],"telecom":[{"system":"phone","value":"555-0100","use":"home"},{"system":"email","value":"ada@example.org"}],"gender":"female","birthDate":"1970-01-01","address":[{"use":"home","line":["1 Main Street"],"city":"Springfield","state":"MA","postalCode":"01101","country":"US"}],"maritalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-MaritalStatus","code":"M"}]},"communication":[{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"en-US"}]}}],"generalPractitioner":[{"reference":"Practitioner/d1","display":"Dr. House"}],"managingOrganization":{"reference":"Organization/o1"}}`

const SIZES = [
  { name: '1.6 KB', path: '/Patient/p1', connections: [32, 1] },
  { name: '60 KB', path: '/Observation?patient=p1', connections: [32, 1] },
  { name: '2 MB', path: '/DiagnosticReport?patient=p1', connections: [8, 1] },
]
  .filter(({ name }) => values.size === undefined || values.size.includes(name))
  .map((size) =>
    values.connections === undefined
      ? size
      : { ...size, connections: [Number(values.connections)] },
  )

await mkdir(join(folder, 'base/Patient'), { recursive: true })
await writeFile(join(folder, 'base/Patient/p1'), PATIENT)
await writeFile(join(folder, 'base/Observation'), bundle('Observation', 60_000))
await writeFile(join(folder, 'base/DiagnosticReport'), bundle('DiagnosticReport', 2_000_000))
await writeFile(
  join(folder, 'base/metadata'),
  '{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1"}',
)
await writeFile(
  join(folder, 'upstream.conf'),
  nginx(`
  server { listen 127.0.0.1:${PORTS.upstream}; root ${folder}; default_type application/fhir+json; }`),
)
await writeFile(
  join(folder, 'nginx.conf'),
  nginx(`
  upstream fhir { server 127.0.0.1:${PORTS.upstream}; keepalive 64; }
  server { listen 127.0.0.1:${PORTS.nginx}; location /fhir/ { proxy_pass http://fhir/base/; proxy_http_version 1.1; proxy_set_header Connection ""; } }`),
)

const issuer = await startIssuer()
const claims = {
  aud: PUBLIC,
  scope: 'user/*.rs',
  fhirUser: 'Practitioner/d1',
  purpose_of_use: 'TREAT',
}
const tokens = {
  RS256: await issuer.token(claims, { alg: 'RS256', expiresIn: 36_000 }),
  ES256: await issuer.token(claims, { alg: 'ES256', expiresIn: 36_000 }),
}
const jwks = (await (await fetch(`${issuer.url}/jwks`)).json()) as {
  keys: ({ kty: string } & Record<string, unknown>)[]
}
for (const [alg, kty] of [
  ['RS256', 'RSA'],
  ['ES256', 'EC'],
] as const) {
  const jwk = jwks.keys.find((key) => key.kty === kty)!
  const pem = createPublicKey({ key: jwk, format: 'jwk' }).export({
    type: 'spki',
    format: 'pem',
  })
  await writeFile(join(folder, `${alg}.pem`), pem)
}
await writeFile(
  join(folder, 'haproxy.cfg'),
  `global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
${(['RS256', 'ES256'] as const)
  .map(
    (alg) => `frontend ${alg}
  bind 127.0.0.1:${alg === 'RS256' ? PORTS.rs256 : PORTS.es256}
  http-request deny unless { http_auth_bearer,jwt_verify(${alg},"${folder}/${alg}.pem") 1 }
  http-request replace-path /fhir/(.*) /base/\\1
  default_backend fhir`,
  )
  .join('\n')}
backend fhir
  http-reuse always
  server one 127.0.0.1:${PORTS.upstream}
`,
)

function nginx(servers: string): string {
  return `daemon off; worker_processes 1; pid ${folder}/${Math.random()}.pid; error_log stderr error;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder}; uwsgi_temp_path ${folder}; scgi_temp_path ${folder}; ${servers} }`
}

launch(1, 'nginx', ['-c', join(folder, 'upstream.conf')])
let haproxy: ChildProcess | undefined
const subjects = [
  {
    name: 'nginx, plain proxy',
    port: PORTS.nginx,
    token: tokens.RS256,
    start: () => launch(0, 'nginx', ['-c', join(folder, 'nginx.conf')]),
  },
  {
    name: 'HAProxy, RS256',
    port: PORTS.rs256,
    token: tokens.RS256,
    start: startHaproxy,
  },
  { name: 'HAProxy, ES256', port: PORTS.es256, token: tokens.ES256, start: startHaproxy },
  {
    name: 'naive stack',
    port: PORTS.naive,
    token: tokens.RS256,
    start: () =>
      launch(0, node, [
        LARGE_PAGES,
        join(root, 'bench/naive.ts'),
        String(PORTS.naive),
        `http://127.0.0.1:${PORTS.upstream}/base`,
        issuer.url,
        PUBLIC,
        join(folder, 'naive.jsonl'),
      ]),
  },
  ...[root, ...values.also].map((checkout, at) => ({
    name: at === 0 ? 'FHIRewall' : checkout,
    port: PORTS.gateway + 2 * at,
    token: tokens.RS256,
    start: () => startGateway(checkout, at),
  })),
].filter(({ name }) => values.only === undefined || values.only.some((only) => name.includes(only)))

/** One process has both of its ports. */
function startHaproxy(): ChildProcess {
  haproxy ??= launch(0, 'haproxy', ['-f', join(folder, 'haproxy.cfg')])
  return haproxy
}

function startGateway(checkout: string, at: number): ChildProcess {
  const profiled =
    values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`]
  return launch(0, node, [LARGE_PAGES, ...profiled, join(checkout, 'bin/fhirewall.js'), 'start'], {
    FHIREWALL_UPSTREAM_URL: `http://127.0.0.1:${PORTS.upstream}/base`,
    FHIREWALL_PUBLIC_URL: PUBLIC,
    FHIREWALL_ISSUER: issuer.url,
    FHIREWALL_PORT: String(PORTS.gateway + 2 * at),
    FHIREWALL_ADMIN_PORT: String(PORTS.gateway + 2 * at + 1),
    FHIREWALL_AUDIT_FILE: join(folder, `audit-${at}.jsonl`),
    FHIREWALL_LOG_LEVEL: 'warn',
    FHIREWALL_LIMITS_ADDRESS_BURST: '100000000',
    FHIREWALL_LIMITS_ADDRESS_PER_SECOND: '100000000',
    FHIREWALL_LIMITS_PRINCIPAL_BURST: '100000000',
    FHIREWALL_LIMITS_PRINCIPAL_PER_SECOND: '100000000',
  })
}

const pids = new Map<string, number>()
for (const subject of subjects) {
  const child = subject.start()
  if (child.pid !== undefined) pids.set(subject.name, child.pid)
}

async function untilUp(port: number, token: string, name: string): Promise<void> {
  for (let i = 0; i < 100; i++) {
    try {
      const answer = await fetch(`http://127.0.0.1:${port}/fhir/Patient/p1`, {
        headers: { authorization: `Bearer ${token}` },
      })
      await answer.arrayBuffer()
      if (answer.status === 200) return
    } catch {
      // not yet
    }
    await new Promise((done) => setTimeout(done, 100))
  }
  throw new Error(`${name} does not answer`)
}

/** CPU milliseconds used so far by a process and its children. */
async function cpu(pid: number): Promise<number> {
  let ticks = 0
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    const stat = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (Number(entry) === pid || Number(fields[1]) === pid)
      ticks += Number(fields[11]) + Number(fields[12])
  }
  return ticks * 10
}

async function measure(
  subject: (typeof subjects)[number],
  path: string,
  connections: number,
  seconds = values.seconds,
) {
  const pid = pids.get(subject.name) ?? 0
  const before = await cpu(pid)
  const wrk = [
    'wrk',
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--latency',
    '--timeout',
    '30s',
    '-H',
    `Authorization: Bearer ${subject.token}`,
    `http://127.0.0.1:${subject.port}/fhir${path}`,
  ]
  const command = pinned ? ['taskset', '-c', '1', ...wrk] : wrk
  const { stdout } = await run(command[0]!, command.slice(1))
  const after = await cpu(pid)
  await rest(pid)
  if (stdout.includes('Non-2xx')) throw new Error(`${subject.name} ${path}: ${stdout}`)
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1])
  return {
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]),
    cpu: ((after - before) * 1000) / requests,
  }
}

/**
 * Waits for a process to end what it has begun, 5 seconds at most: eight answers of 2 MB that nobody waits
 * for any more are a quarter of a second of the next one's.
 */
async function rest(pid: number): Promise<void> {
  let before = await cpu(pid)
  for (let n = 0; n < 10; n++) {
    await new Promise((done) => setTimeout(done, 500))
    const now = await cpu(pid)
    if (now - before <= 10) return
    before = now
  }
}

/**
 * The order of a round, after Williams (1949): in as many rounds as there are subjects, or twice as many if
 * they are odd, each comes behind every other as often. One that ends leaves its mark on the next.
 */
function orderOf(round: number, count: number): number[] {
  const order = Array.from({ length: count }, (_, n) => {
    const step = (n + 1) >> 1
    return (round + (n % 2 === 0 ? count - step : step)) % count
  })
  return count % 2 === 1 && round % (2 * count) >= count ? order.reverse() : order
}

const median = (list: number[]): number => list.toSorted((a, b) => a - b)[list.length >> 1] ?? NaN
const rows: {
  size: string
  connections: number
  name: string
  rate: number
  best: number
  cpu: number
}[] = []
try {
  for (const { port, token, name } of subjects) await untilUp(port, token, name)
  for (const { name: size, path, connections } of SIZES) {
    for (const subject of subjects) {
      await measure(subject, path, connections[0] ?? 1, values.warm)
    }
    for (const count of connections) {
      const results = subjects.map(() => ({ rates: [] as number[], cpus: [] as number[] }))
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const i of orderOf(round, subjects.length)) {
          const { rate, cpu } = await measure(subjects[i]!, path, count)
          results[i]!.rates.push(rate)
          results[i]!.cpus.push(cpu)
        }
      }
      for (const [i, { name }] of subjects.entries()) {
        rows.push({
          size,
          connections: count,
          name,
          rate: median(results[i]!.rates),
          best: Math.max(...results[i]!.rates),
          cpu: median(results[i]!.cpus),
        })
      }
      if (!values.json) print(rows.slice(-subjects.length))
    }
  }
  if (values.json) console.log(JSON.stringify(rows))
} finally {
  // A profile is written at the end of a process.
  const ended = children.map(async (child) => {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  })
  for (const child of children) child.kill()
  await Promise.all(ended)
  await issuer.close()
  await rm(folder, { recursive: true, force: true })
}

function print(group: typeof rows): void {
  const ours = group.find(({ name }) => name === 'FHIRewall')
  const line = (name: string, ...columns: string[]): void => {
    console.log(name.padEnd(22) + columns.map((column) => column.padStart(14)).join(''))
  }
  console.log(`\n${group[0]?.size}, ${group[0]?.connections} connections`)
  line('subject', 'req/s', 'CPU us/req', 'FHIRewall is', 'best rounds')
  for (const { name, rate, best, cpu } of group) {
    const times = (own = NaN, other = NaN): string => `${(own / other).toFixed(2)} times`
    line(name, rate.toFixed(0), cpu.toFixed(0), times(ours?.rate, rate), times(ours?.best, best))
  }
}

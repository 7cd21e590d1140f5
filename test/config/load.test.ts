import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tmpdir } from 'node:os'
import fc from 'fast-check'
import t from 'tap'
import type { Problem } from '../../src/config/load.ts'
import { ConfigError, formatProblem, loadConfig, redact } from '../../src/config/load.ts'
import { formatVariable, listSettings } from '../../src/config/settings.ts'

const folder = mkdtempSync(join(tmpdir(), 'fhirewall-config-'))

function write(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

const minimal = {
  FHIREWALL_UPSTREAM_URL: 'http://127.0.0.1:8090/fhir',
  FHIREWALL_PUBLIC_URL: 'https://fhir.example.org/fhir',
  FHIREWALL_ISSUER: 'https://login.example.org',
}

function problemsOf(sources: Parameters<typeof loadConfig>[0]): readonly Problem[] {
  try {
    loadConfig(sources)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

function linesOf(sources: Parameters<typeof loadConfig>[0]): string[] {
  return problemsOf(sources).map((problem) => formatProblem(problem).replace(`${folder}/`, ''))
}

type Schema = { readonly properties?: Readonly<Record<string, Schema | false>> }

t.test('the environment alone is enough', async (t) => {
  const { config, warnings } = loadConfig({
    env: { ...minimal, FHIREWALL_FHIR_VERSION: 'R4', PATH: '/bin', FHIREWALL_RESTARTED: '1' },
  })
  t.strictSame(warnings, [])
  t.equal(config.upstream.url, 'http://127.0.0.1:8090/fhir')
  t.equal(config.port, 8080)
  t.equal(config.admin.host, '127.0.0.1', 'the admin listener is on loopback unless configured')
  t.equal(config.fhir.version, 'R4')
  t.notOk(
    config.issuers[0]!.algorithms.some((name) => name.startsWith('HS')),
    'AUTHN-4',
  )
})

t.test('several issuers, secrets from files, and every type of value (GOV-5)', async (t) => {
  const secret = write('authorization', 'Bearer upstream-credential\n')
  const { config, warnings } = loadConfig({
    env: {
      ...minimal,
      FHIREWALL_ISSUER: 'https://a.example, https://b.example/',
      FHIREWALL_UPSTREAM_AUTHORIZATION_FILE: secret,
      FHIREWALL_REDIS_URL: 'redis://:redis-credential@127.0.0.1',
      FHIREWALL_LIMITS_ADDRESS_PER_SECOND: '2.5',
      FHIREWALL_AUDIT_FILE: '/var/lib/audit.jsonl',
      FHIREWALL_TRUSTED_PROXIES: '10.0.0.0/8, 192.0.2.1,2001:db8::/32',
      FHIREWALL_ALLOW_INSECURE_ISSUERS: 'false',
      FHIREWALL_UPSTREAM_URL: 'http://[::1]:8090/fhir/',
    },
  })
  t.strictSame(
    config.issuers.map(({ url }) => url),
    ['https://a.example', 'https://b.example/'],
    'an issuer is compared exactly, so its slash stays',
  )
  t.equal(config.upstream.authorization, 'Bearer upstream-credential')
  t.equal(config.limits.address.perSecond, 2.5)
  t.equal(config.audit.file, '/var/lib/audit.jsonl')
  t.strictSame(config.trustedProxies, ['10.0.0.0/8', '192.0.2.1', '2001:db8::/32'])
  t.equal(config.upstream.url, 'http://[::1]:8090/fhir', 'a base has no slash at its end')
  t.strictSame(warnings, [])

  const printed = JSON.stringify(redact(config))
  t.notMatch(printed, /-credential/)
  t.match(printed, /\[secret\]/)
  t.equal(config.upstream.authorization, 'Bearer upstream-credential', 'the original is untouched')
})

t.test('a list of issuers as JSON, with the claims of each', async (t) => {
  const issuers = '[{"url": "https://a.example", "claims": {"patient": "ctx.patient"}}]'
  const { config } = loadConfig({
    env: { ...minimal, FHIREWALL_ISSUER: undefined, FHIREWALL_ISSUERS: issuers },
  })
  t.equal(config.issuers[0]!.claims.patient, 'ctx.patient')
  t.equal(config.issuers[0]!.claims.scope, 'scope')
})

t.test('the environment goes before the file', async (t) => {
  const file = write(
    'good.yaml',
    'port: 9000\nlimits: {address: {burst: 7}}\nupstream: {url: https://x.example/fhir, connections: 3}\n',
  )
  const { config } = loadConfig({ file, env: { ...minimal, FHIREWALL_LIMITS_COUNT: '50' } })
  t.equal(config.port, 9000)
  t.equal(config.upstream.url, 'http://127.0.0.1:8090/fhir')
  t.equal(config.upstream.connections, 3)
  t.equal(config.limits.address.burst, 7)
  t.equal(config.limits.count, 50)
})

t.test('what the environment puts away of the file is told at every start', async (t) => {
  const file = write(
    'both.yaml',
    'admin: {host: 127.0.0.1, port: 8081}\nlog: {level: info}\nissuers: [{url: "https://login.example.org", requireBound: mtls}]\n',
  )
  const { config, warnings } = loadConfig({
    file,
    // As the image sets it; and a short form that knows nothing of bound tokens.
    env: { ...minimal, FHIREWALL_ADMIN_HOST: '0.0.0.0', FHIREWALL_LOG_LEVEL: 'info' },
  })
  t.equal(config.admin.host, '0.0.0.0')
  t.equal(config.issuers[0]?.requireBound, 'none')
  t.strictSame(warnings, [
    `${file}:1:9 admin.host does not count: FHIREWALL_ADMIN_HOST goes before it`,
    `${file}:3:1 issuers does not count: FHIREWALL_ISSUER goes before it`,
  ])
})

t.test('an empty text is no address of all machines, and no folder', async (t) => {
  for (const key of ['host', 'admin.host', 'policies', 'audit.file', 'audit.site']) {
    const [first = '', second] = key.split('.')
    const text = second === undefined ? `${first}: ""` : `${first}: {${second}: ""}`
    const file = write('empty.yaml', `${text}\n`)
    t.match(linesOf({ file, env: minimal }).join(), `${key}: is empty`, key)
  }
  t.match(
    linesOf({ env: { ...minimal, FHIREWALL_UPSTREAM_ALLOW_INSECURE: 'constructor' } }),
    [/^FHIREWALL_UPSTREAM_ALLOW_INSECURE: must be true or false/],
    'a name that every object has is no boolean',
  )
})

t.test('every problem of a file and of the environment at once, each with its place', async (t) => {
  const file = write(
    'bad.yaml',
    `host: 127.0.0.1
upsteam: {}
public:
  url: https://x.example/fhir/?a
upstream:
  url: http://10.0.0.1/fhir
  conections: 3
  connections: many
issuers:
  - url: http://idp.example
    algorithms: [none]
  - url: https://a.example
  - url: https://a.example
trustedProxies: ['::ffff:10.0.0.0/8', 0.0.0.0/0, 10.0.0.0/8]
limits:
  address: { burst: -1 }
audit: { site: '', observer: '' }
`,
  )
  const lines = linesOf({
    file,
    env: {
      FHIREWALL_PORT: 'tcp://10.1.2.3:8080',
      FHIREWALL_ADMIN_PORT: '99999',
      FHIREWALL_LOG_LEVL: 'debug',
      FHIREWALL_REDIS_URL_FILE: '/there/is/no/such/file',
      FHIREWALL_AUDIT_SITE: '',
      FHIREWALL_UPSTREAM_ALLOW_INSECURE: 'yes',
    },
  })
  t.match(lines, [
    'bad.yaml:2:1 upsteam: no such key; did you mean "upstream"?',
    'bad.yaml:4:3 public.url: must not have a query',
    'bad.yaml:6:3 upstream.url: must be https:',
    'bad.yaml:7:3 upstream.conections: no such key; did you mean "connections"?',
    'bad.yaml:8:3 upstream.connections: ',
    'bad.yaml:10:5 issuers.0.url: must be https:',
    /^bad\.yaml:11:\d+ issuers\.0\.algorithms\.0: /,
    'bad.yaml:13:5 issuers.2.url: is listed twice',
    /^bad\.yaml:14:\d+ trustedProxies\.0: .*IPv4/,
    /^bad\.yaml:14:\d+ trustedProxies\.1: would believe everyone/,
    'bad.yaml:16:14 limits.address.burst: ',
    /^bad\.yaml:17:\d+ audit\.site: /,
    /^bad\.yaml:17:\d+ audit\.observer: /,
    'FHIREWALL_AUDIT_SITE: is empty',
    'FHIREWALL_LOG_LEVL: no such setting; did you mean "FHIREWALL_LOG_LEVEL"?',
    /^FHIREWALL_PORT: .*enableServiceLinks/,
    'FHIREWALL_REDIS_URL_FILE: the file it names cannot be read: there is no such file',
    'FHIREWALL_UPSTREAM_ALLOW_INSECURE: must be true or false',
    'FHIREWALL_ADMIN_PORT: admin.port: ',
  ])
  t.equal(lines.length, 19)
})

t.test('nothing given: what is missing, by the name of its variable', async (t) => {
  t.strictSame(linesOf({ env: {} }), [
    'FHIREWALL_PUBLIC_URL: public.url: is missing',
    'FHIREWALL_UPSTREAM_URL: upstream.url: is missing',
    'FHIREWALL_ISSUER: issuers: is missing',
  ])
})

t.test('a file that is no configuration', async (t) => {
  for (const [name, text, expected] of [
    ['broken.yaml', 'a: [1\n', 'broken.yaml:2:1 YAML cannot be read'],
    ['twice.yaml', 'port: 1\nport: 2\n', 'twice.yaml:2:1 YAML cannot be read: duplicate key'],
    ['list.yaml', '- 1\n', 'list.yaml: must hold keys and values'],
    ['tag.yaml', 'host: !secret x\n', 'tag.yaml:1:7 YAML cannot be read'],
    ['proto.yaml', '__proto__: {host: x}\n', 'proto.yaml:1:1 __proto__: no such key'],
  ] as const) {
    const lines = linesOf({ file: write(name, text), env: minimal })
    t.match(lines, [expected], name)
    t.equal(lines.length, 1, name)
  }
  t.strictSame(linesOf({ file: join(folder, 'none.yaml'), env: minimal }), [
    'none.yaml: cannot be read: there is no such file',
  ])
  t.strictSame(linesOf({ file: write('empty.yaml', '# nothing\n'), env: minimal }), [])
})

t.test(
  'AUTHN-20, GOV-7: plain http: beyond loopback is refused, or allowed and warned of',
  async (t) => {
    for (const url of [
      'http://10.0.0.1/fhir',
      'http://localhost.example.org/fhir',
      'http://127.0.0.1.example.org/fhir',
      'http://[::2]/fhir',
    ]) {
      const env = { ...minimal, FHIREWALL_UPSTREAM_URL: url }
      t.match(linesOf({ env }), [/^FHIREWALL_UPSTREAM_URL: upstream\.url: must be https:/], url)
      const allowed = loadConfig({ env: { ...env, FHIREWALL_UPSTREAM_ALLOW_INSECURE: 'true' } })
      t.match(allowed.warnings, [/^upstream\.url is plain http/])
    }
    for (const url of ['http://localhost:1/fhir', 'http://127.1.2.3/fhir', 'http://[::1]/fhir']) {
      t.strictSame(linesOf({ env: { ...minimal, FHIREWALL_UPSTREAM_URL: url } }), [], url)
    }
    t.match(linesOf({ env: { ...minimal, FHIREWALL_ISSUER: 'http://login.example.org' } }), [
      /^FHIREWALL_ISSUER: issuers\.0\.url: must be https:/,
    ])
  },
)

t.test('URLs that would lose or leak something are refused', async (t) => {
  for (const url of [
    'https://name:word@x.example/fhir',
    'https://x.example/fhir?a=b',
    'https://x.example/fhir#a',
    'https://x.example/a//b',
    'https://x.example/%2e%2e/fhir',
    'https://x.example/a/../fhir',
    'ftp://x.example/fhir',
    'x.example/fhir',
  ]) {
    const problems = problemsOf({ env: { ...minimal, FHIREWALL_UPSTREAM_URL: url } })
    t.equal(problems.length, 1, url)
    t.notMatch(problems[0]!.message, /name:word/)
  }
  const spoofed = { ...minimal, FHIREWALL_CLIENT_CERTIFICATES_HEADER: 'client-cert' }
  t.match(linesOf({ env: spoofed }), [/^FHIREWALL_CLIENT_CERTIFICATES_HEADER: .*trustedProxies/])
  const header = { ...minimal, FHIREWALL_UPSTREAM_AUTHORIZATION: 'Bearer a\r\nX-Evil: 1' }
  t.match(linesOf({ env: header }), [/^FHIREWALL_UPSTREAM_AUTHORIZATION: .*one line/])
})

t.test(
  'edges: what does not fit together is told before the start (AUTHN-19, AUTHN-20)',
  async (t) => {
    const pem = write('some.pem', 'PEM')
    const own = { FHIREWALL_UPSTREAM_CREDENTIALS_KIND: 'client-credentials' }
    for (const [env, ...expected] of [
      [{ NODE_TLS_REJECT_UNAUTHORIZED: '0' }, 'NODE_TLS_REJECT_UNAUTHORIZED: switches off'],
      [{ FHIREWALL_TLS_CERTIFICATE_FILE: pem }, 'tls.keyFile: is missing'],
      [{ FHIREWALL_TLS_KEY_FILE: pem }, 'tls.certificateFile: is missing'],
      [
        { FHIREWALL_TLS_CERTIFICATE_FILE: '/no/such' },
        'tls.keyFile: ',
        'tls.certificateFile: cannot',
      ],
      [{ FHIREWALL_TLS_MINIMUM_VERSION: '1.1' }, 'tls.minimumVersion: '],
      [
        { FHIREWALL_TLS_CLIENT_CERTIFICATES: 'require' },
        'tls.certificateFile: is missing',
        'tls.clientCaFile: is missing',
      ],
      [
        {
          FHIREWALL_TLS_CERTIFICATE_FILE: pem,
          FHIREWALL_TLS_KEY_FILE: pem,
          FHIREWALL_TLS_TERMINATED_BY: 'proxy',
        },
        'tls.terminatedBy: says who',
      ],
      [
        { FHIREWALL_UPSTREAM_CREDENTIALS_KIND: 'basic' },
        'upstream.credentials.secretFile: is missing',
      ],
      [
        own,
        'upstream.credentials.clientId: is missing',
        'upstream.credentials.issuer: is missing',
        'upstream.credentials.secretFile: is missing',
      ],
      [
        {
          ...own,
          FHIREWALL_UPSTREAM_CREDENTIALS_TOKEN_URL: 'http://10.0.0.1/token',
          FHIREWALL_UPSTREAM_CREDENTIALS_CLIENT_ID: 'gateway',
          FHIREWALL_UPSTREAM_CREDENTIALS_SECRET_FILE: pem,
          FHIREWALL_UPSTREAM_AUTHORIZATION: 'Bearer x',
        },
        'upstream.authorization: is a second credential',
        'upstream.credentials.tokenUrl: must be https:',
      ],
      [
        { FHIREWALL_UPSTREAM_FORWARD_TOKEN: 'true', FHIREWALL_UPSTREAM_AUTHORIZATION: 'Bearer x' },
        'upstream.forwardToken: would be a second',
      ],
      [{ FHIREWALL_UPSTREAM_CERTIFICATE_FILE: pem }, 'need each other', 'needs an https: upstream'],
      [{ FHIREWALL_UPSTREAM_ASSERTION_HEADER: 'Authorization' }, 'upstream.assertion.header: '],
      [{ FHIREWALL_REDIS_PASSWORD_FILE: pem }, 'redis.passwordFile: needs redis.url'],
      [
        { FHIREWALL_REDIS_URL: 'redis://127.0.0.1/x', FHIREWALL_REDIS_CA_FILE: pem },
        'redis.url: must end in a database number',
        'redis.caFile: needs a rediss: URL',
      ],
    ] as const) {
      const lines = linesOf({ env: { ...minimal, ...env } })
      t.equal(lines.length, expected.length, lines.join('\n'))
      for (const text of expected)
        t.ok(
          lines.some((line) => line.includes(text)),
          text,
        )
    }
    const open = { FHIREWALL_TLS_TERMINATED_BY: 'none', FHIREWALL_REDIS_URL: 'redis://10.0.0.1' }
    const { warnings } = loadConfig({ env: { ...minimal, ...open } })
    t.match(warnings, [/tls\.terminatedBy is none/, /redis\.url is plain/])
  },
)

t.test('a FHIR version that nobody could judge is refused', async (t) => {
  for (const version of ['DSTU2', 'STU3', 'R4', 'R4B', 'R5']) {
    const { config } = loadConfig({ env: { ...minimal, FHIREWALL_FHIR_VERSION: version } })
    t.equal(config.fhir.version, version)
  }
  t.match(linesOf({ env: { ...minimal, FHIREWALL_FHIR_VERSION: 'R6' } }), [
    /^FHIREWALL_FHIR_VERSION: fhir\.version: /,
  ])
})

t.test('two ways to give one setting are one too many', async (t) => {
  const file = write('again', 'https://b.example')
  t.match(linesOf({ env: { ...minimal, FHIREWALL_ISSUER_FILE: file } }), [
    'FHIREWALL_ISSUER_FILE: is given by FHIREWALL_ISSUER already',
  ])
  const both = { ...minimal, FHIREWALL_ISSUERS: '[{"url": "https://b.example"}]' }
  t.match(linesOf({ env: both }), ['FHIREWALL_ISSUERS: is given by FHIREWALL_ISSUER already'])
})

t.test('a value is never in a message (GOV-5)', async (t) => {
  const secret = 'hunter2-very-secret'
  for (const setting of listSettings()) {
    if (setting.variable === undefined || setting.variable === 'FHIREWALL_ISSUERS') continue
    const lines = linesOf({ env: { ...minimal, [setting.variable]: `${secret}\u0000` } })
    t.notMatch(lines.join('\n'), secret, setting.variable)
  }
  const file = write(
    'secret.yaml',
    `redis: {url: ${secret}}\nupstream: {authorization: [${secret}}\n`,
  )
  t.notMatch(linesOf({ file, env: minimal }).join('\n'), secret)
})

t.test('every key has a variable of its own and a meaning', async (t) => {
  const settings = listSettings()
  const variables = settings.flatMap(({ variable }) => variable ?? [])
  t.equal(new Set(variables).size, variables.length)
  t.equal(formatVariable(['limits', 'address', 'perSecond']), 'FHIREWALL_LIMITS_ADDRESS_PER_SECOND')
  t.strictSame(
    settings.filter(({ description }) => description === '').map(({ path }) => path.join('.')),
    [],
  )
  t.strictSame(
    settings.filter(({ secret }) => secret).map(({ path }) => path.join('.')),
    ['upstream.authorization', 'dpop.nonceKey', 'paging.keys', 'masking.key', 'redis.url'],
  )
})

t.test('whatever the environment holds: a configuration or a ConfigError', async () => {
  const names = listSettings().flatMap(({ variable }) => variable ?? [])
  const name = fc.constantFrom(...names, ...names.map((variable) => `${variable}_FILE`))
  fc.assert(
    fc.property(fc.dictionary(name, fc.string(), { maxKeys: 5 }), (env) => {
      problemsOf({ env: { ...minimal, ...env } })
    }),
    { numRuns: 200 },
  )
})

t.test(
  'introspection: one way to prove who asks, and opaque tokens are one issuer’s',
  async (t) => {
    const issuer = (url: string, introspection: object) => ({ url, introspection })
    const of = (...issuers: object[]) =>
      linesOf({
        env: {
          ...minimal,
          FHIREWALL_ISSUER: undefined,
          FHIREWALL_ISSUERS: JSON.stringify(issuers),
        },
      })
    const good = { clientId: 'gateway', clientSecretFile: '/dev/null' }
    t.same(of(issuer('https://a.example', good)), [])
    t.same(
      of(
        issuer('https://a.example', good),
        issuer('https://b.example', { ...good, opaque: false }),
      ),
      [],
    )
    t.match(of(issuer('https://a.example', good), issuer('https://b.example', good)), [
      /introspection\.opaque: is true for another issuer already/,
    ])
    t.match(of(issuer('https://a.example', { clientId: 'gateway' })), [/one of them/])
    t.match(of(issuer('https://a.example', { ...good, privateKeyFile: '/dev/null' })), [
      /one of them/,
    ])
    t.match(of(issuer('https://a.example', { ...good, url: 'http://a.example/i' })), [
      /must be https/,
    ])
  },
)

t.test(
  'the chart as the README installs it starts, and keeps secrets out of its ConfigMap',
  async (t) => {
    const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
    const given = [
      ...read('README.md').matchAll(/--set '?config\.([a-z]+)(?:\[0\])?\.([a-z]+)=([^\s']+)/g),
    ]
    const lines = given.flatMap(([, section = '', key = '', value = '']) => [
      `${section}:`,
      `${section === 'issuers' ? '  - ' : '  '}${key}: ${value}`,
    ])
    t.equal(given.length, 3)
    t.strictSame(linesOf({ file: write('chart.yaml', lines.join('\n')), env: {} }), [])

    const { properties } = JSON.parse(read('helm/fhirewall/values.schema.json')) as {
      properties: { config: Schema }
    }
    // What the image or the chart sets in the environment would not count in the file.
    const set = [...read('Dockerfile').matchAll(/FHIREWALL_[A-Z_]+(?==)/g)].map(([name]) => name)
    t.equal(set.length, 3)
    const elsewhere = new Set([...set, 'FHIREWALL_POLICIES'])
    for (const { path, secret, variable = '' } of listSettings()) {
      if (!secret && !elsewhere.has(variable)) continue
      const inChart = path.reduce<Schema | false | undefined>(
        (schema, key) => (schema === false ? schema : schema?.properties?.[key]),
        properties.config,
      )
      t.equal(inChart, false, path.join('.'))
    }
  },
)

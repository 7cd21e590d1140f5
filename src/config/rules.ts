import { BlockList, isIP } from 'node:net'
import type { Path } from './file.ts'
import type { Config } from './schema.ts'

/** What the schema cannot say: a fault at a path, or a warning. */
export type Findings = {
  readonly faults: readonly { readonly path: Path; readonly message: string }[]
  readonly warnings: readonly string[]
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether a URL leads to this very machine. */
export function isLoopback(url: URL): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const family = isIP(host)
  if (family === 0) return host === 'localhost' || host.endsWith('.localhost')
  return loopback.check(host, family === 6 ? 'ipv6' : 'ipv4')
}

/** A FHIR base or issuer URL: nothing in it that would be lost, sent to strangers, or logged. */
function findUrlFault(text: string): string | undefined {
  const url = new URL(text)
  if (url.username !== '' || url.password !== '') return 'must not hold a user name or password'
  if (text.includes('?')) return 'must not have a query'
  if (text.includes('#')) return 'must not have a fragment'
  // Judged as written: URL resolves dot segments, also encoded ones, without a word.
  const written = text.replace(/^\w+:\/\//, '')
  if (/\/\/|[%\\\s]|\/\.\.?(\/|$)/.test(written)) {
    return 'must have a plain path, without "//", "%", "\\" or dot segments'
  }
  return undefined
}

/** A CIDR range, or a plain address. */
function findRangeFault(text: string): string | undefined {
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return 'must be a CIDR range such as 10.0.0.0/8'
  // An IPv4-mapped prefix of 8 bits would cover every IPv4 address.
  if (/^::ffff:/i.test(address))
    return 'must be written as an IPv4 range, not as an IPv4-mapped one'
  if (bits === undefined) return undefined
  if (!/^\d{1,3}$/.test(bits) || Number(bits) > (family === 4 ? 32 : 128)) {
    return 'must end in a prefix length'
  }
  return Number(bits) === 0 ? 'would believe everyone; name your own proxies' : undefined
}

function checkTls({ tls }: Config, fault: (path: Path, message: string | undefined) => void): void {
  const needs = (key: keyof Config['tls'], other: keyof Config['tls']) => {
    if (tls[other] === undefined) fault(['tls', other], `is missing: tls.${key} needs it`)
  }
  if (tls.certificateFile !== undefined) needs('certificateFile', 'keyFile')
  if (tls.keyFile !== undefined) needs('keyFile', 'certificateFile')
  if (tls.clientCertificates !== 'none') needs('clientCertificates', 'certificateFile')
  if (tls.clientCertificates === 'require') needs('clientCertificates', 'clientCaFile')
  if (tls.certificateFile !== undefined && tls.terminatedBy !== undefined) {
    fault(['tls', 'terminatedBy'], 'says who ends TLS elsewhere; tls.certificateFile ends it here')
  }
}

/** AUTHN-19: what upstream is shown is one thing, complete, and never two. */
function checkCredentials(
  { upstream }: Config,
  fault: (path: Path, message: string | undefined) => void,
): void {
  const { credentials, authorization, certificateFile, keyFile } = upstream
  const { kind, secretFile, issuer, tokenUrl, clientId } = credentials
  const missing = (key: string) => {
    fault(['upstream', 'credentials', key], `is missing: credentials of kind ${kind} need it`)
  }
  if (kind === 'basic' || kind === 'bearer') {
    if (secretFile === undefined) missing('secretFile')
  } else if (kind === 'client-credentials') {
    if (clientId === undefined) missing('clientId')
    if ((issuer === undefined) === (tokenUrl === undefined)) missing('issuer')
    if ((secretFile === undefined) === (credentials.keyFile === undefined)) missing('secretFile')
  }
  if (kind !== 'none' && authorization !== undefined) {
    fault(['upstream', 'authorization'], 'is a second credential beside upstream.credentials')
  }
  if (upstream.forwardToken && (kind !== 'none' || authorization !== undefined)) {
    fault(['upstream', 'forwardToken'], 'would be a second credential; keep one of them')
  }
  if ((certificateFile === undefined) !== (keyFile === undefined)) {
    fault(['upstream', 'keyFile'], 'and upstream.certificateFile need each other')
  }
  if (certificateFile !== undefined && !upstream.url.startsWith('https:')) {
    fault(['upstream', 'certificateFile'], 'needs an https: upstream')
  }
}

/** Checks what goes beyond one key. `config` has passed the schema. */
export function checkRules(config: Config): Findings {
  const faults: { path: Path; message: string }[] = []
  const warnings: string[] = []
  const fault = (path: Path, message: string | undefined) => {
    if (message !== undefined) faults.push({ path, message })
  }
  const plain = (path: Path, text: string, allowed: boolean, option: string) => {
    const url = new URL(text)
    if (url.protocol === 'https:' || isLoopback(url)) return
    const name = path.join('.')
    if (allowed)
      warnings.push(`${name} is plain http: what passes can be read and changed on the way`)
    else fault(path, `must be https: (plain http: beyond loopback needs ${option}: true)`)
  }

  fault(['public', 'url'], findUrlFault(config.public.url))
  const published = new URL(config.public.url)
  if (published.protocol === 'http:' && !isLoopback(published)) {
    warnings.push('public.url is plain http: access tokens can be read on the way')
  }
  checkTls(config, fault)
  if (config.tls.terminatedBy === 'none') {
    warnings.push('tls.terminatedBy is none: access tokens and records can be read on the way')
  }
  fault(['upstream', 'url'], findUrlFault(config.upstream.url))
  plain(
    ['upstream', 'url'],
    config.upstream.url,
    config.upstream.allowInsecure,
    'upstream.allowInsecure',
  )
  // A header value that node:http would refuse at the first request, too late.
  if (/[^\t\x20-\x7e]/.test(config.upstream.authorization ?? '')) {
    fault(['upstream', 'authorization'], 'must be one line of plain ASCII')
  }
  checkCredentials(config, fault)
  for (const key of ['issuer', 'tokenUrl'] as const) {
    const text = config.upstream.credentials[key]
    const path = ['upstream', 'credentials', key]
    if (text === undefined) continue
    if (key === 'issuer') fault(path, findUrlFault(text))
    plain(path, text, config.allowInsecureIssuers, 'allowInsecureIssuers')
  }
  const seen = new Set<string>()
  config.issuers.forEach(({ url, introspection }, index) => {
    const path = ['issuers', index, 'url']
    fault(path, findUrlFault(url))
    plain(path, url, config.allowInsecureIssuers, 'allowInsecureIssuers')
    if (seen.has(url)) fault(path, 'is listed twice')
    seen.add(url)
    if (introspection?.url !== undefined) {
      const endpoint = ['issuers', index, 'introspection', 'url']
      plain(endpoint, introspection.url, config.allowInsecureIssuers, 'allowInsecureIssuers')
    }
  })
  const opaque = config.issuers.flatMap(({ introspection }, index) =>
    introspection?.opaque === true ? [index] : [],
  )
  // A token that names nobody must be shown to one issuer only, never tried at each of them.
  for (const index of opaque.slice(1)) {
    fault(['issuers', index, 'introspection', 'opaque'], 'is true for another issuer already')
  }
  config.trustedProxies.forEach((range, index) => {
    fault(['trustedProxies', index], findRangeFault(range))
  })
  if (config.clientCertificates.header !== 'none' && config.trustedProxies.length === 0) {
    fault(['clientCertificates', 'header'], 'needs trustedProxies: it is believed from nobody else')
  }
  if (config.port !== 0 && config.port === config.admin.port && config.host === config.admin.host) {
    fault(['admin', 'port'], 'is the port of the FHIR listener too')
  }
  if (config.redis.url !== undefined) {
    const url = new URL(config.redis.url)
    if (url.protocol === 'redis:' && !isLoopback(url)) {
      warnings.push('redis.url is plain redis: what passes can be read and changed on the way')
    }
    if (!/^\/?\d*$/.test(url.pathname)) fault(['redis', 'url'], 'must end in a database number')
    if (config.redis.caFile !== undefined && url.protocol !== 'rediss:') {
      fault(['redis', 'caFile'], 'needs a rediss: URL')
    }
  } else if (config.redis.passwordFile !== undefined) {
    fault(['redis', 'passwordFile'], 'needs redis.url')
  }
  return { faults, warnings }
}

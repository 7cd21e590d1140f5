import { readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { describeReadError } from './file.ts'
import type { Problem } from './problem.ts'
import { suggest } from './problem.ts'
import type { Setting } from './settings.ts'
import { listSettings } from './settings.ts'

/** A setting given by the environment. */
export type Override = {
  readonly path: readonly string[]
  readonly variable: string
  readonly value: unknown
}

/** The short form for the commonest case: one or several issuer URLs, comma-separated. */
const ISSUER = 'FHIREWALL_ISSUER'

/** Set by bin/fhirewall.js when it starts itself again; no setting. */
const INTERNAL = new Set(['FHIREWALL_RESTARTED'])

const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['false', false],
])

function split(text: string): string[] {
  return text.split(',').map((part) => part.trim())
}

/** The text of a variable as the type its setting has, or an error message. */
function convert(setting: Setting, text: string): { value: unknown } | { message: string } {
  switch (setting.kind) {
    case 'string':
      return { value: text }
    case 'strings':
      return { value: split(text) }
    case 'boolean':
      return BOOLEANS.has(text)
        ? { value: BOOLEANS.get(text) }
        : { message: 'must be true or false' }
    case 'integer':
    case 'number':
      if (/^-?\d+(\.\d+)?$/.test(text)) return { value: Number(text) }
      return {
        message: text.startsWith('tcp://')
          ? 'must be a number; Kubernetes set this for a Service of that name: set enableServiceLinks: false in the pod'
          : 'must be a number',
      }
    case 'objects': {
      try {
        // Throws, as no error of the document: an alias that leads nowhere or grows without end.
        return { value: parse(text, { prettyErrors: false, logLevel: 'error' }) as unknown }
      } catch {
        return { message: 'must be a list, as JSON or YAML' }
      }
    }
  }
}

/** Reads every `FHIREWALL_…` variable. Faults become problems; nothing is thrown. */
export function readEnvironment(env: Readonly<Record<string, string | undefined>>): {
  readonly overrides: readonly Override[]
  readonly problems: readonly Problem[]
} {
  const settings = new Map<string, Setting>()
  for (const setting of listSettings()) {
    if (setting.variable !== undefined) settings.set(setting.variable, setting)
  }
  const known = [...settings.keys(), ISSUER]
  const overrides: Override[] = []
  const problems: Problem[] = []
  const givenBy = new Map<string, string>()
  const report = (variable: string, message: string) => {
    problems.push({ variable, line: 0, column: 0, message })
  }

  // AUTHN-20: it would hold for issuers, upstream and Redis alike.
  if (env['NODE_TLS_REJECT_UNAUTHORIZED'] === '0') {
    const instead = 'unset it, and name your own authority in NODE_EXTRA_CA_CERTS or a caFile'
    report('NODE_TLS_REJECT_UNAUTHORIZED', `switches off every check of certificates; ${instead}`)
  }
  for (const variable of Object.keys(env).sort()) {
    const given = env[variable]
    if (given === undefined || !variable.startsWith('FHIREWALL_') || INTERNAL.has(variable))
      continue
    // The exact name first: FHIREWALL_AUDIT_FILE is audit.file, not the content of audit.
    const fromFile = !known.includes(variable) && variable.endsWith('_FILE')
    const name = fromFile ? variable.slice(0, -'_FILE'.length) : variable
    const setting = settings.get(name === ISSUER ? 'FHIREWALL_ISSUERS' : name)
    if (setting === undefined) {
      report(variable, `no such setting${suggest(variable, known)}`)
      continue
    }
    let text = given
    if (fromFile) {
      try {
        text = readFileSync(given, 'utf8').replace(/\r?\n$/, '')
      } catch (error) {
        report(variable, `the file it names cannot be read: ${describeReadError(error)}`)
        continue
      }
    }
    if (text === '') {
      report(variable, 'is empty; give it a value or leave it out')
      continue
    }
    const key = setting.path.join('.')
    const other = givenBy.get(key)
    if (other !== undefined) {
      report(variable, `is given by ${other} already; keep one of them`)
      continue
    }
    givenBy.set(key, variable)
    const converted =
      name === ISSUER ? { value: split(text).map((url) => ({ url })) } : convert(setting, text)
    if ('message' in converted) report(variable, converted.message)
    else overrides.push({ path: setting.path, variable, value: converted.value })
  }
  return { overrides, problems }
}

import { readdirSync, readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { loadPolicies, PolicyError } from '../policy/load.ts'
import { listFiles } from '../policy/load-masking.ts'
import type { FhirVersion } from '../fhir/definitions.ts'
import type { PolicySet } from '../policy/evaluate.ts'
import type { Log } from '../ports.ts'

/** How long files must stand still before they are read, milliseconds. */
const STILL_MS = 200

/** The policies in force, which follow their files. */
export type PolicyFiles = {
  readonly current: () => PolicySet
  /** Looks now; also done every `intervalMs`, then for what has stood still for a moment. */
  readonly look: () => void
  readonly close: () => void
}

type WatchOptions = {
  readonly intervalMs?: number
  readonly version?: FhirVersion
  /** Called once for each new content: taken over, or refused. */
  readonly reloaded?: (result: 'reloaded' | 'failed') => void
}

/**
 * Loads a folder of policies and goes on watching it. A set that loads without any problem takes the
 * place of the old one at once and whole; one with a problem never does, and all its problems are
 * logged. The content is what is compared, so that a ConfigMap swapped by symbolic links counts, and
 * a touched file does not. Throws PolicyError when the first set has a problem.
 */
export function watchPolicies(
  folder: string,
  log: Log,
  { intervalMs = 2000, version = 'R4', reloaded }: WatchOptions = {},
): PolicyFiles {
  let seen = signatureOf(folder)
  let current = loadPolicies(folder, version)

  function look(): void {
    const signature = signatureOf(folder)
    if (signature === seen) return
    seen = signature
    try {
      const next = loadPolicies(folder, version)
      // Files that changed while they were read: some of before and some of after are no set.
      if (signatureOf(folder) !== signature) {
        seen = ''
        return
      }
      reloaded?.('reloaded')
      if (next.hash === current.hash) return
      current = next
      log.info({ policies: next.hash, rules: next.rules }, 'new policies are in force')
    } catch (error) {
      // Whatever is wrong with new files, the gateway goes on with the old ones.
      const problems = error instanceof PolicyError ? error.problems : []
      for (const { file, line, column, message } of problems) {
        log.error({ file, line, column, problem: message }, 'the policies have a problem')
      }
      if (problems.length === 0) log.error({ error }, 'the policies cannot be read')
      log.error({ policies: current.hash }, 'the policies of before stay in force')
      reloaded?.('failed')
    }
  }

  /** A file half written can be a good one that lacks its last rule, so nothing may move for a while. */
  const stillMs = Math.min(STILL_MS, intervalMs)
  let moving = seen
  let since = -stillMs
  let soon: NodeJS.Timeout | undefined
  function lookWhenStill(): void {
    const signature = signatureOf(folder)
    const now = performance.now()
    if (signature !== moving) {
      moving = signature
      since = now
    }
    const rest = since + stillMs - now
    if (rest <= 0) {
      look()
      return
    }
    clearTimeout(soon)
    soon = setTimeout(lookWhenStill, rest)
    soon.unref()
  }

  const timer = setInterval(lookWhenStill, intervalMs)
  timer.unref()
  return {
    current: () => current,
    look,
    close() {
      clearInterval(timer)
      clearTimeout(soon)
    },
  }
}

/** Names and contents of the folder; '' when it cannot be read. */
function signatureOf(folder: string): string {
  const hash = createHash('sha256')
  try {
    readdirSync(folder)
    for (const one of [folder, join(folder, 'masking')]) {
      for (const file of listFiles(one)) {
        hash.update(JSON.stringify([file, readFileSync(file, 'utf8')]))
      }
    }
  } catch {
    return ''
  }
  return hash.digest('hex')
}

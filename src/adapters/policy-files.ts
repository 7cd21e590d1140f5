import { readdirSync, readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { loadPolicies, PolicyError } from '../policy/load.ts'
import type { PolicySet } from '../policy/evaluate.ts'
import type { Log } from '../ports.ts'

/** The policies in force, which follow their files. */
export type PolicyFiles = {
  readonly current: () => PolicySet
  /** Looks now; also done every `intervalMs`. */
  readonly look: () => void
  readonly close: () => void
}

/**
 * Loads a folder of policies and goes on watching it. A set that loads without any problem takes the
 * place of the old one at once and whole; one with a problem never does, and all its problems are
 * logged. The content is what is compared, so that a ConfigMap swapped by symbolic links counts, and
 * a touched file does not. Throws PolicyError when the first set has a problem.
 */
export function watchPolicies(folder: string, log: Log, intervalMs = 2000): PolicyFiles {
  let seen = signatureOf(folder)
  let current = loadPolicies(folder)

  function look(): void {
    const signature = signatureOf(folder)
    if (signature === seen) return
    seen = signature
    try {
      const next = loadPolicies(folder)
      // A file may have changed between the two looks; then the next one sees it again.
      if (signatureOf(folder) !== signature) seen = ''
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
    }
  }

  const timer = setInterval(look, intervalMs)
  timer.unref()
  return {
    current: () => current,
    look,
    close() {
      clearInterval(timer)
    },
  }
}

/** Names and contents of the folder; '' when it cannot be read. */
function signatureOf(folder: string): string {
  const hash = createHash('sha256')
  try {
    for (const name of readdirSync(folder).sort()) {
      if (!/\.ya?ml$/.test(name)) continue
      hash.update(JSON.stringify([name, readFileSync(join(folder, name), 'utf8')]))
    }
  } catch {
    return ''
  }
  return hash.digest('hex')
}

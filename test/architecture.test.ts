import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { findStale } from '../scripts/write-docs.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Source files as path from the root and text, comments left out. */
function readSources(): { path: string; code: string }[] {
  return readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({
      path: relative(root, path),
      code: readFileSync(path, 'utf8')
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/(^|\s)\/\/.*$/gm, ''),
    }))
}

const sources = readSources()
const where = (pattern: RegExp, allowed: RegExp): string[] =>
  sources
    .filter(({ path, code }) => !allowed.test(path) && pattern.test(code))
    .map(({ path }) => path)

t.test('imports go downward only, without cycles', async (t) => {
  const cruise = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs')
  try {
    execFileSync(process.execPath, [cruise, '--config', '.dependency-cruiser.cjs', 'src'], {
      cwd: root,
      encoding: 'utf8',
    })
    t.pass('no violation')
  } catch (error) {
    t.fail((error as { stdout?: string }).stdout ?? String(error))
  }
})

t.test('only authorize issues a permit', async (t) => {
  t.strictSame(where(/\bPermit\.issue\b/, /^src\/stages\/authorize\//), [])
})

t.test('the process belongs to the command line', async (t) => {
  // The lock of the audit log asks the system whether another process lives; it must name its own.
  const rim = /^src\/(cli\/|main\.ts$|demo\/|adapters\/audit-lock\.ts$)/
  t.strictSame(where(/(?<![.'"\w-])process\.\w|from 'node:process'|(?<!\w)console\./, rim), [])
})

t.test('no default exports and no index.ts', async (t) => {
  t.strictSame(where(/^export default\b/m, /^$/), [])
  t.strictSame(
    sources.filter(({ path }) => path.endsWith('index.ts')).map(({ path }) => path),
    [],
  )
})

t.test('generated documents are as the source says', async (t) => {
  const stale = await findStale()
  t.strictSame(
    stale.map(([name]) => name),
    [],
    'npm run docs writes them',
  )
})

/**
 * `npm run build`: the JavaScript of src/ in dist/, as the container and the published package run
 * it. The demo stays behind: its identity provider is a development dependency.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, rmSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const source = join(root, 'src')
const target = join(root, 'dist')

rmSync(target, { recursive: true, force: true })
execFileSync(
  process.execPath,
  [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json')],
  { stdio: 'inherit' },
)
// Data files beside the code, whether they are imported or read.
cpSync(source, target, {
  recursive: true,
  filter: (path) => {
    if (relative(source, path) === 'demo') return false
    return statSync(path).isDirectory() || !path.endsWith('.ts')
  },
})
console.log(`built ${relative(process.cwd(), target) || target}`)

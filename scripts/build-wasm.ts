/**
 * `npm run build:wasm`: compiles assembly/scan.ts to src/json/scan.wasm, and writes down the sums of
 * both, so that a test without the compiler sees when one has changed without the other. With
 * `--check` nothing is written: the result must be the file that is there, byte for byte.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const [source, target, sums] = ['assembly/scan.ts', 'src/json/scan.wasm', 'assembly/scan.sha256']
const OPTIONS = '-O3 --noAssert --runtime stub --enable simd --enable bulk-memory --initialMemory 1'

execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--prefix', join(root, 'assembly')], {
  stdio: ['ignore', 'ignore', 'inherit'],
})
const room = mkdtempSync(join(tmpdir(), 'fhirewall-wasm-'))
const made = join(room, 'scan.wasm')
const asc = join(root, 'assembly/node_modules/assemblyscript/bin/asc.js')
execFileSync(process.execPath, [asc, source, ...OPTIONS.split(' '), '-o', made], {
  cwd: root,
  stdio: 'inherit',
})
const bytes = readFileSync(made)
rmSync(room, { recursive: true })

const sumOf = (data: Buffer): string => createHash('sha256').update(data).digest('hex')
const lines = `${sumOf(readFileSync(join(root, source)))}  ${source}\n${sumOf(bytes)}  ${target}\n`
if (process.argv.includes('--check')) {
  const same = bytes.equals(readFileSync(join(root, target)))
  if (!same || lines !== readFileSync(join(root, sums), 'utf8')) {
    console.error(`${target} is not what ${source} compiles to: npm run build:wasm writes it`)
    process.exit(1)
  }
} else {
  writeFileSync(join(root, target), bytes)
  writeFileSync(join(root, sums), lines)
}
console.log(`${target}: ${bytes.length} bytes`)

/**
 * `npm run build:wasm`: compiles each module of assembly/ to its .wasm in src/json/, and writes down
 * the sums of both, so that a test without the compiler sees when one has changed without the other.
 * With `--check` nothing is written: the results must be the files that are there, byte for byte.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const MODULES = ['scan', 'cuts']
const OPTIONS = '-O3 --noAssert --runtime stub --enable simd --enable bulk-memory --initialMemory 1'

execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--prefix', join(root, 'assembly')], {
  stdio: ['ignore', 'ignore', 'inherit'],
})
const asc = join(root, 'assembly/node_modules/assemblyscript/bin/asc.js')
const room = mkdtempSync(join(tmpdir(), 'fhirewall-wasm-'))
for (const name of MODULES) build(name)
rmSync(room, { recursive: true })

function build(name: string): void {
  const [source, target] = [`assembly/${name}.ts`, `src/json/${name}.wasm`]
  const sums = join(root, `assembly/${name}.sha256`)
  const made = join(room, `${name}.wasm`)
  execFileSync(process.execPath, [asc, source, ...OPTIONS.split(' '), '-o', made], {
    cwd: root,
    stdio: 'inherit',
  })
  const bytes = readFileSync(made)
  const lines = `${sumOf(readFileSync(join(root, source)))}  ${source}\n${sumOf(bytes)}  ${target}\n`
  if (!process.argv.includes('--check')) {
    writeFileSync(join(root, target), bytes)
    writeFileSync(sums, lines)
  } else if (
    !bytes.equals(readFileSync(join(root, target))) ||
    lines !== readFileSync(sums, 'utf8')
  ) {
    console.error(`${target} is not what ${source} compiles to: npm run build:wasm writes it`)
    process.exitCode = 1
  }
  console.log(`${target}: ${bytes.length} bytes`)
}

function sumOf(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

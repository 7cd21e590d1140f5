#!/usr/bin/env node
// Plain JavaScript that any Node can parse, so that an older Node meets one clear sentence
// and not a syntax error. With the Node that came by `npm ci` it starts again under that one.
import { existsSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NEEDED = 24
const root = join(dirname(fileURLToPath(import.meta.url)), '..')

if (Number(process.versions.node.split('.')[0]) >= NEEDED) {
  if (!process.argv.includes('--require-node')) {
    // A clone runs its TypeScript as it stands; the published package and the container run dist/.
    const source = join(root, 'src', 'cli', 'fhirewall.ts')
    await import(existsSync(source) ? source : join(root, 'dist', 'cli', 'fhirewall.js'))
  }
} else {
  const windows = process.platform === 'win32'
  const bundled = join(root, 'node_modules', '.bin', windows ? 'node.cmd' : 'node')
  if (!existsSync(bundled) || process.env.FHIREWALL_RESTARTED) {
    console.error(
      `fhirewall needs Node.js ${NEEDED} or newer, and this is ${process.version}: ` +
        'run "npm ci" in the project folder, which brings the right one, or install it from nodejs.org.',
    )
    process.exit(1)
  }
  // The inter-process channel lets the child notice when this parent is killed outright.
  const child = spawn(bundled, [fileURLToPath(import.meta.url), ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, FHIREWALL_RESTARTED: '1' },
    shell: windows,
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => {
    if (signal === null) process.exit(code ?? 1)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
  })
}

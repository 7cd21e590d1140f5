// Runs one command after the other in one process: what starting takes is taken once. Its parent sends each.
import type { Run } from './commands.ts'

const entry = new URL('../../src/cli/fhirewall.ts', import.meta.url)
let count = 0

async function run({ args, env }: Run) {
  const said = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    process[name].write = (chunk: string) => {
      said[name] += chunk
      return true
    }
    process[name].removeAllListeners('error')
  }
  process.env = { ...env }
  process.argv = [process.argv[0]!, entry.pathname, ...args]
  process.exitCode = undefined
  // The entry runs as it is loaded, so it is loaded anew each time, and what it needs is not.
  await import(`${entry.href}?${count++}`)
  return { status: process.exitCode, ...said }
}

process.on('message', (message) => {
  void run(message as Run).then((result) => process.send?.(result))
})
process.once('disconnect', () => process.exit())

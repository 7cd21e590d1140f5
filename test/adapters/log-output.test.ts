import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import t from 'tap'
import { openLogOutput } from '../../src/adapters/log-output.ts'

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms))

t.test(
  'a reader that stands still: bounded, not waited for, and what is missing is said',
  async (t) => {
    const path = `${t.testdir({})}/pipe`
    execFileSync('mkfifo', [path])
    // Open at both ends, so that it only ever fills.
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
    t.teardown(() => closeSync(fd))
    const output = openLogOutput(fd, (count) => `missing ${count}\n`)
    const line = `${'x'.repeat(999)}\n`
    const sent = 20_000
    for (let n = 0; n < sent; n++) output.write(line)

    let read = ''
    const chunk = Buffer.alloc(65_536)
    const readAll = async (until: () => boolean) => {
      while (!until()) {
        try {
          read += chunk.toString('latin1', 0, readSync(fd, chunk))
        } catch {
          await sleep(5)
        }
      }
    }
    await readAll(() => /missing \d+\n/.test(read))
    const missing = Number(/missing (\d+)\n/.exec(read)?.[1])
    t.ok(missing > sent / 2, 'no more waits than there is room for')
    const [taken, rest] = read.split(/missing \d+\n/)
    t.equal(taken, line.repeat(sent - missing), 'what is not missing is whole and in order')
    output.write('later\n')
    await readAll(() => read.endsWith('later\n'))
    t.equal(rest, '')
  },
)

t.test('a full disk and a reader that has gone end nothing', async (t) => {
  const module = new URL('../../src/adapters/log-output.ts', import.meta.url).href
  const script = `
    const { openLogOutput } = await import(${JSON.stringify(module)})
    const output = openLogOutput(1, () => 'missing\\n')
    process.once('exit', output.end)
    for (let n = 0; n < 3; n++) {
      output.write('exchange\\n')
      await new Promise((done) => setTimeout(done, 50))
    }
    process.exit(7)`
  for (const output of ['/dev/full', 'gone']) {
    const fd = output === 'gone' ? undefined : openSync(output, 'w')
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', fd ?? 'pipe', 'inherit'],
    })
    child.stdout?.destroy()
    t.strictSame(await once(child, 'exit'), [7, null], output)
    if (fd !== undefined) closeSync(fd)
  }
})

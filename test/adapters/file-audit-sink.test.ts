import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { FileHandle } from 'node:fs/promises'
import {
  appendFile,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { promisify } from 'node:util'
import fc from 'fast-check'
import t from 'tap'
import { createFileAuditSink } from '../../src/adapters/file-audit-sink.ts'
import { verifyAuditFile } from '../../src/adapters/verify-audit-file.ts'
import { loadElements } from '../../src/fhir/elements.ts'
import type { AuditSink } from '../../src/ports.ts'
import { findMisformed } from '../support/forms.ts'
import { findFaults } from '../support/generate-resource.ts'

const elements = loadElements('R4')
const record = (n: number) => JSON.stringify({ resourceType: 'AuditEvent', outcomeDesc: `é ${n}` })
const linesOf = async (file: string) => (await readFile(file, 'utf8')).split('\n').slice(0, -1)

async function written(file: string, count: number): Promise<AuditSink> {
  const sink = await createFileAuditSink(file)
  await Promise.all(Array.from({ length: count }, (_, n) => sink.append([record(n)])))
  return sink
}

t.test('records are chained in order, reopening continues the chain (AUD-9)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  for (let round = 0; round < 3; round++) await (await written(file, 200)).close()
  t.match(await verifyAuditFile(file), { records: 600, firstBad: undefined })
  const [first = ''] = await linesOf(file)
  t.match(JSON.parse(first), {
    resourceType: 'AuditEvent',
    outcomeDesc: 'é 0',
    extension: [
      {
        url: 'https://fhirewall.dev/StructureDefinition/audit-chain',
        extension: [
          { url: 'sequence', valueUnsignedInt: 1 },
          { url: 'previous', valueString: '0'.repeat(64) },
        ],
      },
    ],
  })
  t.equal((await stat(file)).mode & 0o777, 0o600)
  t.equal((await stat(`${file}.head`)).mode & 0o777, 0o600)
  t.notOk(
    (await readdir(t.testdirName)).some((name) => name.includes('lock')),
    'lock released',
  )
})

t.test('a file of looser mode is closed to others (AUD-8)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await writeFile(file, '', { mode: 0o644 })
  await (await written(file, 1)).close()
  t.equal((await stat(file)).mode & 0o777, 0o600)
})

t.test('any flipped byte is found, in every line, the last one too (AUD-9)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await (await written(file, 5)).close()
  const good = await readFile(file)
  const missed: number[] = []
  for (let at = 0; at < good.length; at += 7) {
    const bad = Buffer.from(good)
    bad[at] = (bad[at] ?? 0) ^ 1
    await writeFile(file, bad)
    if ((await verifyAuditFile(file)).firstBad === undefined) missed.push(at)
  }
  t.strictSame(missed, [])
  await writeFile(file, good)
  t.match(await verifyAuditFile(file), { records: 5, firstBad: undefined })
})

t.test('removed, swapped and cut lines are found (AUD-9)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await (await written(file, 6)).close()
  const lines = await linesOf(file)
  const check = async (kept: string[]) => {
    await writeFile(file, kept.map((line) => `${line}\n`).join(''))
    return (await verifyAuditFile(file)).firstBad?.line
  }
  t.equal(await check(lines.toSpliced(2, 1)), 3)
  t.equal(await check(lines.slice(1)), 1)
  t.equal(await check([...lines.slice(0, 2), lines[3]!, lines[2]!, ...lines.slice(4)]), 3)
  t.equal(await check(lines.slice(0, 4)), 5, 'cut at the end')
  t.equal(await check([...lines, lines[5]!]), 7, 'said twice')
  t.equal(await check([...lines, '{"resourceType":"AuditEvent"}']), 7, 'added')
})

t.test('whatever is done to a file or to its head is found (AUD-9)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  const heads: string[] = []
  for (const count of [3, 3, 6]) {
    await (await written(file, count)).close()
    heads.push(await readFile(`${file}.head`, 'utf8'))
  }
  const [, older = '', head = ''] = heads
  const lines = await linesOf(file)
  const joined = (some: readonly string[]) => some.map((line) => `${line}\n`).join('')
  const good = joined(lines)
  const flip = (text: string, at: number, bit: number): Buffer => {
    const bytes = Buffer.from(text)
    const place = at % bytes.length
    bytes[place] = (bytes[place] ?? 0) ^ (1 << bit)
    return bytes
  }
  const place = fc.nat(lines.length - 1)
  const bit = fc.tuple(fc.nat(1_000_000), fc.nat(7))
  type Change = readonly [file: Buffer | string, head?: Buffer | string]
  const changes: fc.Arbitrary<Change> = fc.oneof(
    bit.map(([at, of]): Change => [flip(good, at, of)]),
    bit.map(([at, of]): Change => [good, flip(head, at, of)]),
    fc.tuple(place, fc.nat(3)).map(([at, n]): Change => [joined(lines.toSpliced(at, n + 1))]),
    fc.tuple(place, place).map(([at, to]): Change => {
      return [joined(lines.with(at, lines[to] ?? '').with(to, lines[at] ?? ''))]
    }),
    fc.tuple(place, place).map(([at, to]): Change => {
      return [joined(lines.toSpliced(to, 0, lines[at] ?? ''))]
    }),
    fc.nat(good.length).map((at): Change => [good.slice(0, at)]),
    fc.tuple(fc.nat(good.length), fc.string({ minLength: 1 })).map(([at, more]): Change => {
      return [good.slice(0, at) + more + good.slice(at)]
    }),
    // A file of before, with the head of before: but for what was kept elsewhere.
    fc.constant<Change>([joined(lines.slice(0, 6)), older]),
    fc.constantFrom(-1, 0, 1, 0.5, 1e9).map((sequence): Change => {
      return [good, JSON.stringify({ ...(JSON.parse(head) as object), sequence })]
    }),
    fc
      .constantFrom('', '{}', 'null', '[]', '0', '{"sequence":12}')
      .map((bad): Change => [good, bad]),
  )
  const kept = (await verifyAuditFile(file)).last
  await fc.assert(
    fc.asyncProperty(changes, async ([bytes, said = head]) => {
      fc.pre(!Buffer.from(bytes).equals(Buffer.from(good)) || Buffer.from(said).toString() !== head)
      await writeFile(file, bytes)
      await writeFile(`${file}.head`, said)
      return (await verifyAuditFile(file, kept)).firstBad !== undefined
    }),
    { numRuns: 1000 },
  )
})

t.test('a head that is gone is on record, before a new one hides it (AUD-9)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await (await written(file, 3)).close()
  await rm(`${file}.head`)
  await writeFile(file, (await linesOf(file)).slice(0, 2).join('\n') + '\n')
  const warnings: string[] = []
  const sink = await createFileAuditSink(file, { warn: (_, message) => warnings.push(message) })
  await sink.append([record(9)])
  await sink.close()
  t.match(await verifyAuditFile(file), { records: 4, firstBad: undefined })
  t.match(JSON.parse((await linesOf(file))[2]!), { outcomeDesc: 'audit-head-missing' })
  t.match(warnings, [/without its head/])
  // The gateway's own records are AuditEvents of R4 as well, chain and all (AUD-2).
  const own = JSON.parse((await linesOf(file))[2]!) as object
  t.strictSame(findFaults(elements, own, 'AuditEvent', ''), [])
  t.strictSame(findMisformed(elements, own, 'AuditEvent', ''), [])
})

t.test('a torn last line is set aside, and a record says so', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await (await written(file, 3)).close()
  await appendFile(file, '{"resourceType":"AuditEvent","outc')
  t.match((await verifyAuditFile(file)).firstBad, { line: 4, why: /torn/ })
  const warnings: string[] = []
  const sink = await createFileAuditSink(file, { warn: (_, message) => warnings.push(message) })
  await sink.append([record(9)])
  await sink.close()
  t.equal(await readFile(`${file}.torn-4`, 'utf8'), '{"resourceType":"AuditEvent","outc')
  t.match(await verifyAuditFile(file), { records: 5, firstBad: undefined })
  t.match(JSON.parse((await linesOf(file))[3]!), { outcomeDesc: 'audit-line-torn', outcome: '4' })
  t.match(warnings, [/torn/])
})

t.test('a last line that is no record is not built upon', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await writeFile(file, 'something else\n')
  await t.rejects(createFileAuditSink(file), /no record of this chain/)
  t.equal(await readFile(file, 'utf8'), 'something else\n')
  await t.rejects(stat(`${file}.lock`), { code: 'ENOENT' })
})

t.test('a shortened file is not built upon: that would hide what is missing (AUD-9)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await (await written(file, 3)).close()
  const good = await readFile(file, 'utf8')
  const cut = good.slice(0, good.lastIndexOf('\n', good.length - 2) + 1)
  for (const bad of [cut, '', good.replace('é 2', 'é 3')]) {
    await writeFile(file, bad)
    await t.rejects(createFileAuditSink(file), /move both files away/)
    t.equal(await readFile(file, 'utf8'), bad, 'left as it is')
  }
  await writeFile(file, good)
  await (await written(file, 1)).close()
  t.match(await verifyAuditFile(file), { records: 4, firstBad: undefined })
})

t.test(
  'a file that others shorten or write to takes no more, until it is whole (AUD-9)',
  async (t) => {
    const changes: Record<string, (file: string, good: Buffer) => Promise<void>> = {
      'emptied in place (copytruncate)': (file) => truncate(file, 0),
      'last line cut in half': (file, good) => truncate(file, good.length - 40),
      'something behind it': (file) => appendFile(file, 'garbage\n'),
      'a line more': (file, good) => appendFile(file, good.subarray(good.lastIndexOf('{"resou'))),
    }
    const dir = t.testdir({})
    for (const [what, change] of Object.entries(changes)) {
      for (const syncMs of [20, 60_000]) {
        const file = `${dir}/${Object.keys(changes).indexOf(what)}-${syncMs}.jsonl`
        const warnings: string[] = []
        const warn = (_: object, message: string) => void warnings.push(message)
        const sink = await createFileAuditSink(file, { syncMs, warn })
        await sink.append([record(1), record(2)])
        const good = await readFile(file)
        await change(file, good)
        const changed = await readFile(file)
        // Seen without a record when there is none, and with the next one at the latest.
        while (syncMs === 20 && sink.isReady()) await new Promise((done) => setTimeout(done, 5))
        await t.rejects(sink.append([record(3)]), /changed/, what)
        t.notOk(sink.isReady(), what)
        t.match(warnings[0], /shortened or written to by others.*move .* away together/)
        t.same(await readFile(file), changed, 'left as it is')
        await writeFile(file, good)
        const isTold = async () => (await readFile(file, 'utf8')).includes('audit-records-lost')
        while (syncMs === 20 && !(await isTold())) await new Promise((done) => setTimeout(done, 5))
        if (syncMs === 20) await sink.append([record(3)])
        await sink.close()
        // Whole again: how many are missing, and one more.
        t.match(await verifyAuditFile(file), {
          records: syncMs === 20 ? 4 : 2,
          firstBad: undefined,
        })
      }
    }
  },
)

t.test('one writer: a second is refused, a dead one is taken over', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  const sink = await written(file, 1)
  await t.rejects(createFileAuditSink(file), /another process writes this audit log/)
  const left = await readFile(`${file}.lock`, 'utf8')
  await sink.close()
  const holder = JSON.parse(left) as Record<string, unknown>
  // The pid of a container is always 1: the same pid, started at another time, is another process.
  await writeFile(`${file}.lock`, JSON.stringify({ ...holder, started: '1' }))
  const next = await written(file, 1)
  await next.close()
  await writeFile(`${file}.lock`, JSON.stringify({ ...holder, host: 'elsewhere' }))
  await t.rejects(createFileAuditSink(file), /another process/, 'fresh lock of another machine')
  await rm(`${file}.lock`)
  t.match(await verifyAuditFile(file), { records: 2, firstBad: undefined })
})

t.test('a writer whose lock was taken away stops', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  const sink = await createFileAuditSink(file, { syncMs: 20 })
  await sink.append([record(1)])
  await writeFile(`${file}.lock`, 'another\n')
  await new Promise((resolve) => setTimeout(resolve, 100))
  t.notOk(sink.isReady())
  await t.rejects(sink.append([record(2)]), /taken over/)
  await sink.close()
  t.equal((await linesOf(file)).length, 1)
})

const WRITER = `
import { createFileAuditSink } from ${JSON.stringify(new URL('../../src/adapters/file-audit-sink.ts', import.meta.url).href)}
const sink = await createFileAuditSink(process.argv[1])
for (let n = 0; ; n++) {
  await Promise.all(Array.from({ length: 16 }, (_, i) => sink.append([JSON.stringify({ resourceType: 'AuditEvent', outcomeDesc: String(n * 16 + i) })])))
  process.stdout.write(String(n * 16 + 15) + '\\n')
}`
const node = (...args: string[]) => ['--input-type=module', '--eval', WRITER, ...args]

t.test('killed outright: every record that was confirmed is there (AUD-1)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  const child = spawn(process.execPath, node(file), { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString()
    if (said.length > 2000) child.kill('SIGKILL')
  })
  await once(child, 'close')
  const confirmed = Number(said.trim().split('\n').at(-1))
  t.ok(confirmed > 0)
  const sink = await createFileAuditSink(file)
  await sink.close()
  const { records, firstBad } = await verifyAuditFile(file)
  t.equal(firstBad, undefined)
  t.ok(records > confirmed, `${records} records, ${confirmed} confirmed`)
})

t.test('a write that fails rejects, and leaves no half line (AUD-10)', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  const script = `
    import { createFileAuditSink } from ${JSON.stringify(new URL('../../src/adapters/file-audit-sink.ts', import.meta.url).href)}
    process.on('SIGXFSZ', () => {})
    const sink = await createFileAuditSink(process.argv[1])
    const big = JSON.stringify({ resourceType: 'AuditEvent', outcomeDesc: 'x'.repeat(1500) })
    let written = 0
    try { for (;;) { await sink.append([big]); written++ } } catch (error) {
      const readyAfterFailure = sink.isReady()
      await sink.append([JSON.stringify({ resourceType: 'AuditEvent' })])
      process.stdout.write(JSON.stringify({ written, code: error.code, readyAfterFailure, ready: sink.isReady() }))
    }
    await sink.close()`
  const { stdout } = await promisify(execFile)('bash', [
    '-c',
    'ulimit -f 8; exec "$@"',
    'bash',
    process.execPath,
    '--input-type=module',
    '--eval',
    script,
    file,
  ])
  const found = JSON.parse(stdout) as { written: number }
  t.match(found, { code: 'EFBIG', readyAfterFailure: false, ready: true })
  t.match(await verifyAuditFile(file), { records: found.written + 1, firstBad: undefined })
})

t.test('only one line of JSON is a record', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  const sink = await createFileAuditSink(file)
  for (const bad of ['', '{}\n{}', '[]', '{"a":1}\n']) await t.rejects(sink.append([bad]))
  await sink.close()
  await t.rejects(sink.append([record(1)]), /closed/)
  t.match(await verifyAuditFile(file), { records: 0, firstBad: undefined })
})

t.test('fhirewall audit verify: exit codes and JSON', async (t) => {
  const file = `${t.testdir({})}/audit.jsonl`
  await (await written(file, 3)).close()
  const cli = new URL('../../src/cli/audit.ts', import.meta.url).href
  const run = async (...args: string[]) => {
    const script = `import { audit } from ${JSON.stringify(cli)}; process.exitCode = await audit(process.argv.slice(1))`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script, '--', ...args])
    let out = ''
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    const [code] = (await once(child, 'close')) as [number]
    return { code, out }
  }
  t.match(await run('verify', file), { code: 0, out: /3 records, whole/ })
  const { out } = await run('verify', file)
  const last = /last record: ([0-9a-f]{64})/.exec(out)?.[1] ?? ''
  t.equal((await run('verify', '--last', last, file)).code, 0)
  t.notMatch(out, /cannot be told/)
  // Without what stands beside it nobody can tell that the end was cut off; a hash that was kept can.
  const whole = await readFile(file, 'utf8')
  const cut = `${file}.cut`
  await writeFile(cut, whole.slice(0, whole.lastIndexOf('\n', whole.length - 2) + 1))
  t.match(await run('verify', cut), { code: 0, out: /2 records, whole[^]*cannot be told/ })
  t.match(await run('verify', '--last', last, cut), { code: 1, out: /kept elsewhere is not in it/ })
  t.equal((await run('verify')).code, 2)
  t.equal((await run('verify', '--what')).code, 2)
  t.match(await run('--help'), { code: 0, out: /Usage/ })
  await truncate(file, 10)
  const broken = await run('verify', '--json', file)
  t.equal(broken.code, 1)
  t.match(JSON.parse(broken.out), { file, records: 0, firstBad: { line: 1 } })
  t.equal((await run('verify', `${file}.none`)).code, 1)
})

t.test(
  'while the disk is at a flush, records wait for it in the thread pool (RATE-6)',
  async (t) => {
    const file = `${t.testdir({})}/audit.jsonl`
    const probe = await open(`${file}.probe`, 'w')
    const handles = Object.getPrototypeOf(probe) as Pick<FileHandle, 'datasync' | 'write'>
    await probe.close()
    const { datasync } = handles
    const write = handles.write as (bytes: Uint8Array, at: number) => Promise<unknown>
    // The sink's own timer keeps nobody alive.
    const alive = setInterval(() => undefined, 1000)
    t.teardown(() => {
      clearInterval(alive)
      Object.assign(handles, { datasync, write })
    })
    let pooled = 0
    const [begun, done] = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
    Object.assign(handles, {
      async datasync(this: FileHandle) {
        begun.resolve(undefined)
        await done.promise
        await datasync.call(this)
      },
      write(this: FileHandle, ...args: [Uint8Array, number]) {
        pooled += 1
        return write.apply(this, args)
      },
    })
    const sink = await createFileAuditSink(file, { syncMs: 5 })
    await begun.promise
    const before = pooled
    await sink.append([record(1)])
    t.equal(pooled - before, 1, 'written before the flush has ended, and not on the event loop')
    done.resolve(undefined)
    await sink.close()
    t.match(await verifyAuditFile(file), { records: 1, firstBad: undefined })
  },
)

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import t from 'tap'
import { close, listen } from '../../src/demo/listen.ts'

const program = join(import.meta.dirname, '..', '..', 'bin', 'fhirewall.js')

/** The first of four ports that are free together. */
const freePortBase = async (): Promise<number> => {
  for (;;) {
    const base = 20_000 + Math.floor(Math.random() * 30_000)
    const servers = Array.from({ length: 4 }, () => createServer())
    const tried = await Promise.allSettled(servers.map((s, i) => listen(s, base + i, '127.0.0.1')))
    await Promise.all(servers.filter((s) => s.listening).map(close))
    if (tried.every(({ status }) => status === 'fulfilled')) return base
  }
}

const demo = (...args: string[]) => {
  const child = spawn(process.execPath, [program, 'demo', ...args])
  const said = { out: '', err: '' }
  child.stdout.on('data', (chunk: Buffer) => (said.out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (said.err += chunk.toString()))
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve))
  const until = async (text: string): Promise<void> => {
    while (!said.out.includes(text)) {
      if (child.exitCode !== null) throw new Error(`the demo ended: ${said.err}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  return { child, said, ended, until }
}

t.test('wrong usage is one sentence and exit code 2', async (t) => {
  for (const args of [['--nope'], ['--patients', '0'], ['--port-base', '70000']]) {
    const { said, ended } = demo(...args)
    t.equal(await ended, 2, args.join(' '))
    t.equal(said.out, '')
    t.notMatch(said.err, '    at ')
  }
})

t.test('demo: four listeners, four personas, and a clean end', async (t) => {
  const base = await freePortBase()
  const { child, said, ended, until } = demo('--port-base', `${base}`, '--patients', '5')
  t.teardown(() => child.kill('SIGKILL'))
  await until('Ctrl-C ends the demo.')
  const fhir = `http://127.0.0.1:${base}/fhir`
  const upstream = `http://127.0.0.1:${base + 3}/fhir`
  const ask = async (persona: string, path: string) => {
    const token = await (await fetch(`http://127.0.0.1:${base + 2}/demo/token/${persona}`)).text()
    const response = await fetch(`${fhir}/${path}`, {
      headers: { authorization: `Bearer ${token}` },
    })
    return { status: response.status, text: await response.text() }
  }
  const whole = await (await fetch(`${upstream}/Patient/patient-1`)).text()
  const ssn = /\d{3}-\d\d-\d{4}/.exec(whole)?.[0] ?? ''
  const name = /"family":"[^"]*"/.exec(whole)?.[0] ?? ''
  t.ok(ssn)

  const own = await ask('patient', 'Patient/patient-1')
  t.equal(own.status, 200)
  t.match(own.text, name)
  t.notMatch(own.text, ssn)
  t.notMatch(own.text, ssn.replaceAll('-', ''))
  t.equal((await ask('patient', 'Patient/patient-2')).status, 404)
  const labs = await ask('clinician', 'Observation?patient=patient-1&code=2160-0')
  t.equal(labs.status, 200)
  t.match(labs.text, '"value":1.10,')
  const note = await ask('clinician', 'DocumentReference?patient=patient-1')
  t.equal(note.status, 200)
  t.match(note.text, 'asked for a copy of the bill')
  t.notMatch(note.text, ssn)
  const cohort = await ask('researcher', 'Patient?_count=2')
  t.equal(cohort.status, 200)
  t.notMatch(cohort.text, name)
  const conditions = await ask('backend', 'Condition?patient=patient-1')
  t.equal(conditions.status, 200)
  t.match(conditions.text, 'Hypertensive disorder')
  t.notMatch(conditions.text, 'immunodeficiency', 'labelled V')
  t.equal((await fetch(`${fhir}/Patient/patient-1`)).status, 401)

  const second = demo('--port-base', `${base}`)
  t.equal(await second.ended, 1)
  t.match(second.said.err, /^Port \d+ is in use/)
  t.equal(second.said.err.trim().split('\n').length, 1)

  child.kill('SIGINT')
  t.equal(await ended, 0)
  t.equal(said.err, '', 'nothing to complain about')
  t.ok(existsSync(/\S+audit\.jsonl/.exec(said.out)?.[0] ?? ''))
})

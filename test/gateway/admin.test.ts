import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import t from 'tap'
import { configSchema } from '../../src/config/schema.ts'
import { start } from '../../src/main.ts'
import { PUBLIC_URL, startGateway } from '../support/gateway.ts'
import { json } from '../support/upstream.ts'

// What an orchestrator and a collector ask: answered at once, whoever else does not answer (GOV-7).

/** Takes connections and never says a word. */
async function startFrozen() {
  const server = createServer(() => undefined)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return {
    port,
    url: `http://127.0.0.1:${port}/base`,
    async close() {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

t.test('while upstream does not answer, a start is seen to be alive and not ready', async (t) => {
  const frozen = await startFrozen()
  const room = await startFrozen()
  await room.close()
  const admin = `http://127.0.0.1:${room.port}`
  const state = { hasStarted: false }
  const starting = startGateway({
    upstreamUrl: frozen.url,
    config: { admin: { port: room.port }, upstream: { headersTimeoutSeconds: 3 } },
  }).then((gateway) => {
    state.hasStarted = true
    return gateway
  })
  const ask = async (path: string) => fetch(admin + path).catch(() => undefined)
  while (!state.hasStarted && (await ask('/livez')) === undefined) await wait(20)
  const [live, ready, metrics] = await Promise.all(['/livez', '/readyz', '/metrics'].map(ask))
  t.notOk(state.hasStarted, 'before upstream is given up')
  t.equal(live?.status, 200)
  t.equal(ready?.status, 503)
  t.match(await ready?.json(), { checks: { upstream: false, serving: false } })
  t.match(await metrics?.text(), /^fhirewall_ready 0$/m)
  const gateway = await starting
  t.match(await (await ask('/readyz'))?.json(), { checks: { upstream: false, serving: true } })
  await gateway.close()
  await frozen.close()
  t.equal(await ask('/livez'), undefined, 'and it ends with the rest')
})

t.test('a port that is taken ends the start, and leaves nothing behind', async (t) => {
  const taken = await startFrozen()
  const dir = t.testdir({})
  const file = `${dir}/audit.jsonl`
  for (const ports of [
    { port: 0, admin: { port: taken.port } },
    { port: taken.port, admin: { port: 0 } },
  ]) {
    const config = configSchema.parse({
      ...ports,
      public: { url: PUBLIC_URL },
      upstream: { url: 'http://127.0.0.1:1/base' },
      issuers: [{ url: 'http://127.0.0.1:1' }],
      audit: { file },
      log: { level: 'silent' },
    })
    await t.rejects(start(config), { code: 'EADDRINUSE' })
    t.notOk(existsSync(`${file}.lock`), 'another may write the log')
  }
  await taken.close()
})

t.test('what is under way, frozen or failing holds up no probe', async (t) => {
  const gateway = await startGateway({ handler: () => undefined })
  t.teardown(() => gateway.close())
  const token = await gateway.token({ scope: 'patient/*.rs', patient: 'p1' })
  const leave = new AbortController()
  const asked = Array.from({ length: 50 }, async () =>
    fetch(`${gateway.url}/Patient/p1`, {
      headers: { authorization: `Bearer ${token}` },
      signal: leave.signal,
    }).catch(() => undefined),
  )
  while (gateway.upstream.received.length < 50) await wait(10)
  gateway.issuer.failWith(() => undefined)
  t.equal((await fetch(`${gateway.adminUrl}/livez`)).status, 200)
  t.equal((await fetch(`${gateway.adminUrl}/readyz`)).status, 200)
  t.match(await gateway.metrics(), /^fhirewall_exchanges_under_way 50$/m)
  leave.abort()
  await Promise.all(asked)
  gateway.upstream.answerWith(json('{"resourceType":"Patient","id":"p1"}'))
})

t.test('the FHIR listener tells nothing of it, and it nothing of FHIR', async (t) => {
  const gateway = await startGateway()
  t.teardown(() => gateway.close())
  const { origin } = new URL(gateway.url)
  for (const path of ['/livez', '/readyz', '/metrics']) {
    t.equal((await fetch(origin + path)).status, 404, path)
    t.not((await fetch(gateway.url + path)).status, 200, path)
    for (const method of ['POST', 'PUT', 'DELETE']) {
      t.equal((await fetch(gateway.adminUrl + path, { method })).status, 404, `${method} ${path}`)
    }
    const answer = await fetch(gateway.adminUrl + path, { headers: { origin: 'http://x.example' } })
    t.equal(answer.headers.get('cache-control'), 'no-store')
    t.notOk(answer.headers.has('access-control-allow-origin'), 'no page reads it')
    t.notMatch(await answer.text(), /SECRET|127\.0\.0\.1:(?!\d+"[,}])/, path)
  }
  t.equal((await fetch(`${gateway.adminUrl}/fhir/metadata`)).status, 404)
})

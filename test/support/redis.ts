import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { configSchema } from '../../src/config/schema.ts'
import type { Config } from '../../src/config/schema.ts'

const isThere = spawnSync('redis-server', ['--version']).status === 0
// The tests of a change must not pass because a program was missing.
if (!isThere && process.env['CI'] !== undefined) throw new Error('redis-server is not installed')

/** Why tests that need a redis-server are left out here; undefined = they are not. */
export const withoutRedis: string | undefined = isThere
  ? undefined
  : 'redis-server is not installed'

/** The redis section of a configuration, with its defaults. */
export function redisSettings(redis: Record<string, unknown>): Config['redis'] {
  return configSchema.shape.redis.parse(redis)
}

/** Waits for something to become true; whoever never does is ended by the test's own limit. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((done) => setTimeout(done, 25))
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

/** A real redis-server process on a port of its own, without files. */
export async function startRedis(
  options: { args?: readonly string[]; tls?: readonly string[] } = {},
) {
  const port = await freePort()
  const listen =
    options.tls === undefined
      ? ['--port', String(port)]
      : ['--port', '0', '--tls-port', String(port), '--tls-auth-clients', 'no', ...options.tls]
  const args = [...listen, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
  let child: ChildProcess

  async function begin(): Promise<void> {
    child = spawn('redis-server', [...args, ...(options.args ?? [])], { stdio: 'ignore' })
    await until(
      async () =>
        new Promise((resolve) => {
          const socket = connect(port, '127.0.0.1', () => resolve(true))
          socket.on('connect', () => socket.destroy())
          socket.on('error', () => resolve(false))
        }),
    )
  }
  async function kill(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await begin()
  return {
    port,
    url: `redis${options.tls === undefined ? '' : 's'}://127.0.0.1:${port}`,
    kill,
    /** Begins again, with nothing in it. */
    restart: begin,
    freeze: () => child.kill('SIGSTOP'),
    thaw: () => child.kill('SIGCONT'),
    close: kill,
  }
}

/** Passes bytes through to a port, each answer later by `delay` milliseconds. */
export async function startSlowWire(target: number) {
  const sockets = new Set<Socket>()
  const wire = { delay: 0 }
  const server = createServer((near) => {
    const far = connect(target, '127.0.0.1')
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far)
    far.on('data', (chunk) => setTimeout(() => near.write(chunk), wire.delay))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    wire,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

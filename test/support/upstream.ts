import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** One request as upstream received it. */
export type Received = {
  readonly method: string
  readonly target: string
  readonly headers: NodeJS.Dict<string | string[]>
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
}

export type Handler = (request: Received, response: ServerResponse, raw: IncomingMessage) => void

const capabilitiesOf = (fhirVersion: string): string =>
  JSON.stringify({
    resourceType: fhirVersion.startsWith('1.') ? 'Conformance' : 'CapabilityStatement',
    status: 'active',
    date: '2026-01-01',
    kind: 'instance',
    fhirVersion,
    format: ['json'],
    software: { name: 'SECRET-UPSTREAM-SOFTWARE', version: '6.66' },
    rest: [{ mode: 'server', resource: [{ type: 'Patient' }, { type: 'Observation' }] }],
  })

/** What a server of each version says it speaks. */
export const NUMBERS = {
  R4: '4.0.1',
  DSTU2: '1.0.2',
  STU3: '3.0.2',
  R4B: '4.3.0',
  R5: '5.0.0',
} as const

/** A real HTTP server that records what it receives (but for /metadata) and answers as told. */
export async function startUpstream(
  handler: Handler = json('{"resourceType":"Bundle","type":"searchset"}'),
  fhirVersion = '4.0.1',
) {
  const received: Received[] = []
  let answer = handler
  let spoken = fhirVersion
  const server = createServer((raw, response) => {
    const chunks: Buffer[] = []
    raw.on('data', (chunk: Buffer) => chunks.push(chunk))
    raw.on('error', () => undefined)
    raw.on('end', () => {
      const request: Received = {
        method: raw.method ?? '',
        target: raw.url ?? '',
        headers: raw.headers,
        rawHeaders: raw.rawHeaders,
        body: Buffer.concat(chunks),
      }
      if (request.target === '/base/metadata')
        return json(capabilitiesOf(spoken))(request, response, raw)
      received.push(request)
      answer(request, response, raw)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/base`,
    host: `127.0.0.1:${port}`,
    received,
    /** From now on answer like this. */
    answerWith(next: Handler): void {
      answer = next
    },
    /** From now on /metadata says this version. */
    speak(version: string): void {
      spoken = version
    },
    async close(): Promise<void> {
      server.closeAllConnections()
      await new Promise((done) => server.close(done))
    },
  }
}

/** Answers with this JSON text, byte for byte. */
export function json(
  text: string | Buffer,
  status = 200,
  headers: Record<string, string> = {},
): Handler {
  return (_request, response) => {
    response.writeHead(status, {
      'content-type': 'application/fhir+json;charset=utf-8',
      ...headers,
    })
    response.end(text)
  }
}

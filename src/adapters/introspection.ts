import { randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import type { Config, IssuerConfig } from '../config/schema.ts'
import type { Introspection, IssuerKeys, Log } from '../ports.ts'
import { Refusal } from '../refusal.ts'
import { readBounded, TooLongError } from './bounded-body.ts'
import { watchSigningKey } from './signing-key.ts'
import { parseSecret, watchFiles } from './watched-files.ts'
import type { WatchOptions } from './watched-files.ts'

const LARGEST_ANSWER = 65_536
/** Questions to one issuer at once; who comes on top is told to try again (AUTHN-10). */
const MOST_UNDER_WAY = 64
const ASSERTION_SECONDS = 60

type Ports = {
  readonly log: Log
  readonly keys: Pick<IssuerKeys, 'metadata'>
  /** Milliseconds since the epoch. */
  readonly now: () => number
  readonly reloaded?: NonNullable<WatchOptions<unknown>['reloaded']>
  readonly asked?: (issuer: string, result: 'answered' | 'failed') => void
}

/**
 * Asks issuers about tokens (RFC 7662). Every fault of the way there or of the answer is
 * `issuer-unavailable`: nothing was said of the token then, neither good nor bad.
 */
export function createIntrospection(
  config: Pick<Config, 'issuers'>,
  ports: Ports,
): Introspection & { readonly close: () => void } {
  const askers = new Map(
    config.issuers.flatMap((issuer) =>
      issuer.introspection === undefined
        ? []
        : [[issuer.url, createAsker(issuer, issuer.introspection, ports)] as const],
    ),
  )
  return {
    async ask(issuer, token) {
      const asker = askers.get(issuer)
      if (asker === undefined) throw new Refusal('token-invalid', { detail: 'no introspection' })
      return asker.ask(token)
    },
    close() {
      for (const asker of askers.values()) asker.close()
    },
  }
}

type Settings = NonNullable<IssuerConfig['introspection']>

function createAsker({ url: issuer }: IssuerConfig, settings: Settings, ports: Ports) {
  const proof = watchClientProof(issuer, settings, ports)
  let underWay = 0

  async function ask(token: string): Promise<unknown> {
    if (underWay >= MOST_UNDER_WAY) throw unavailable('too many introspections under way')
    underWay += 1
    try {
      const answer = await post(endpointOf(), token)
      ports.asked?.(issuer, 'answered')
      return answer
    } catch (error) {
      ports.asked?.(issuer, 'failed')
      // Never the message: what is parsed or sent could stand in it.
      const { name, code } = error as NodeJS.ErrnoException
      const isOurs = error instanceof AnswerError || error instanceof TooLongError
      const problem = isOurs ? error.message : (code ?? name)
      ports.log.warn({ issuer, problem }, 'the issuer could not be asked about a token')
      throw unavailable(problem, error)
    } finally {
      underWay -= 1
    }
  }

  function endpointOf(): URL {
    const found = settings.url ?? ports.keys.metadata(issuer)?.['introspection_endpoint']
    if (typeof found !== 'string') throw new AnswerError('no introspection endpoint is known')
    const url = new URL(found)
    if (url.protocol !== 'https:' && url.protocol !== new URL(issuer).protocol) {
      throw new AnswerError('the introspection endpoint is less protected than its issuer')
    }
    return url
  }

  async function post(url: URL, token: string): Promise<unknown> {
    const { headers, fields } = await proof.make()
    // RFC 7662 §2.1: "The protected resource calls the introspection endpoint using an HTTP POST
    // request with parameters sent as application/x-www-form-urlencoded data".
    const answer = await fetch(url, {
      method: 'POST',
      redirect: 'error',
      headers: { accept: 'application/json', ...headers },
      body: new URLSearchParams({ token, token_type_hint: 'access_token', ...fields }),
      signal: AbortSignal.timeout(settings.timeoutSeconds * 1000),
    })
    const type = answer.headers.get('content-type') ?? ''
    if (answer.status !== 200 || !/^application\/json\b/i.test(type)) {
      await answer.body?.cancel()
      throw new AnswerError(`introspection answered ${answer.status}`)
    }
    return JSON.parse(await readBounded(answer, LARGEST_ANSWER)) as unknown
  }

  return { ask, close: proof.close }
}

/** A fault we have words of our own for. */
class AnswerError extends Error {}

function unavailable(detail: string, cause?: unknown): Refusal {
  return new Refusal('issuer-unavailable', {
    detail,
    ...(cause === undefined ? {} : { cause }),
  })
}

type ClientProof = {
  readonly headers: Readonly<Record<string, string>>
  readonly fields: Readonly<Record<string, string>>
}

/** Who we are, by secret (RFC 6749 §2.3.1) or by signature (RFC 7523 §2.2); files are followed. */
function watchClientProof(
  issuer: string,
  settings: Settings,
  ports: Ports,
): { readonly make: () => Promise<ClientProof>; readonly close: () => void } {
  const { clientId, clientSecretFile, privateKeyFile, keyId, algorithm } = settings
  const { log, reloaded } = ports
  const options = {
    ...{ setting: 'issuers.introspection', log },
    ...(reloaded === undefined ? {} : { reloaded }),
  }
  if (privateKeyFile === undefined) {
    const secret = watchFiles(
      [clientSecretFile ?? ''],
      ([content]) => parseSecret(content),
      options,
    )
    return {
      async make() {
        const pair = `${formEncode(clientId)}:${formEncode(secret.current())}`
        const authorization = `Basic ${Buffer.from(pair).toString('base64')}`
        return { headers: { authorization }, fields: {} }
      },
      close: secret.close,
    }
  }
  const key = watchSigningKey({ keyFile: privateKeyFile, algorithm }, options)
  const header = { alg: algorithm, typ: 'JWT', ...(keyId === undefined ? {} : { kid: keyId }) }
  return {
    async make() {
      const now = Math.floor(ports.now() / 1000)
      const assertion = await new SignJWT({ jti: randomUUID() })
        .setProtectedHeader(header)
        .setIssuer(clientId)
        .setSubject(clientId)
        // The issuer alone: an assertion for several could be shown by one to the other.
        .setAudience(issuer)
        .setIssuedAt(now)
        .setExpirationTime(now + ASSERTION_SECONDS)
        .sign(key.current())
      return {
        headers: {},
        fields: {
          client_id: clientId,
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: assertion,
        },
      }
    },
    close: key.close,
  }
}

/** RFC 6749 §2.3.1: both are "encoded using the application/x-www-form-urlencoded algorithm". */
function formEncode(text: string): string {
  return new URLSearchParams({ '': text }).toString().slice(1)
}

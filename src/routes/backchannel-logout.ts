import type { FastifyInstance } from 'fastify'
import type { Config } from '../config/schema.ts'
import type { Log } from '../ports.ts'

const LARGEST_FORM = 32_768
/** Signatures checked at once; whoever comes on top tries again. */
const MOST_UNDER_WAY = 16

/**
 * OpenID Connect Back-Channel Logout 1.0 §2.5: the issuer posts a form with `logout_token`. Answers
 * 200, or 400 whatever was wrong with it. Registered only when an issuer may log out here.
 *
 * @returns the paths taken
 */
export function registerBackchannelLogout(
  fastify: FastifyInstance,
  config: Config,
  ports: { readonly logOut: (token: string) => Promise<{ issuer: string }>; readonly log: Log },
): readonly string[] {
  if (config.issuers.every(({ logoutAudiences }) => logoutAudiences.length === 0)) return []
  const base = new URL(config.public.url).pathname.replace(/\/$/, '')
  const path = `${base}${config.backchannelLogout.path}`
  let underWay = 0

  async function logOut(body: unknown): Promise<number> {
    const form = new URLSearchParams(typeof body === 'string' ? body : '')
    const [token, ...others] = form.getAll('logout_token')
    if (token === undefined || others.length > 0) return 400
    if (underWay >= MOST_UNDER_WAY) return 503
    underWay += 1
    try {
      const { issuer } = await ports.logOut(token)
      ports.log.info({ event: 'authn_token_revoked', issuer }, 'a logout by its issuer')
      return 200
    } catch (error) {
      const { name } = error as Error
      const detail = name === 'LogoutTokenError' ? (error as Error).message : name
      ports.log.warn({ event: 'authn_login_fail', detail }, 'a logout token was not accepted')
      return 400
    } finally {
      underWay -= 1
    }
  }

  void fastify.register((scope, _options, done) => {
    const parser = { parseAs: 'string', bodyLimit: LARGEST_FORM } as const
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      'application/x-www-form-urlencoded',
      parser,
      (_request, body, end) => {
        end(null, body)
      },
    )
    // §2.8: "MUST respond with HTTP 400 Bad Request"; also to what is no form at all.
    scope.setErrorHandler(async (_error, _request, reply) => answer(reply, 400))
    scope.post(path, async (request, reply) => answer(reply, await logOut(request.body)))
    done()
  })
  return [path]
}

type Reply = {
  readonly code: (status: number) => {
    readonly headers: (values: Record<string, string>) => {
      readonly send: (text: string) => unknown
    }
  }
}

/** §2.8: "SHOULD include the Cache-Control HTTP response header field with a no-store value". */
function answer(reply: Reply, status: number): unknown {
  return reply
    .code(status)
    .headers({ 'content-type': 'application/json', 'cache-control': 'no-store' })
    .send(status === 200 ? '{}' : '{"error":"invalid_request"}')
}

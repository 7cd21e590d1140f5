import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** Arguments, and the whole environment. */
export type Run = { readonly args: readonly string[]; readonly env: Record<string, string> }

type Result = { readonly status: number; readonly stdout: string; readonly stderr: string }

/** Commands that end by themselves, one after the other in a process beside this one. */
export function startCommands() {
  const file = fileURLToPath(new URL('./command-process.ts', import.meta.url))
  const child = fork(file, { env: {}, execArgv: [] })
  return {
    run: async (args: readonly string[], env: Record<string, string>): Promise<Result> => {
      const answered = new AbortController()
      child.send({ args, env } satisfies Run)
      const [result] = (await Promise.race([
        once(child, 'message', answered),
        once(child, 'exit', answered).then(() => {
          throw new Error(`it ended the process: ${args.join(' ')}`)
        }),
      ])) as [Result]
      answered.abort()
      return result
    },
    close: () => child.disconnect(),
  }
}

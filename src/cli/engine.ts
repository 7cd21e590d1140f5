import { setFlagsFromString } from 'node:v8'

/** What V8 is told, for a program whose garbage is buffers, and that is idle between bursts (decision 0043). */
export const ENGINE_FLAGS: readonly string[] = [
  // By itself V8 collects the whole heap for every 64 MB of buffers that its young generation has not let go
  // of. Counted in with the heap they are let go of by the collections that are due anyway.
  '--external-memory-accounted-in-global-limit',
  // Such a collection is due once heap and buffers are four times what was left by the one before: what V8 does
  // itself at most. By itself it comes to a tenth more, a few answers of 2 MB.
  '--heap-growing-percent=300',
  // What has become small in an idle time is large again at once.
  '--semi-space-growth-factor=16',
  '--no-memory-reducer-favors-memory',
]

export function tuneEngine(): void {
  for (const flag of ENGINE_FLAGS) setFlagsFromString(flag)
}

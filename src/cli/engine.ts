import { totalmem } from 'node:os'
import { setFlagsFromString } from 'node:v8'

/**
 * By itself V8 collects the whole heap for every 64 MB of buffers that its young generation has not let go
 * of. Counted in with the heap they are let go of by the collections that are due anyway.
 */
export const ENGINE_FLAGS: readonly string[] = ['--external-memory-accounted-in-global-limit']

/** What it is told besides where there is room, for a program that is idle between bursts (decision 0043). */
export const ROOMY_FLAGS: readonly string[] = [
  // A collection is due once heap and buffers are four times what was left by the one before: what V8 does
  // itself with the largest heaps. Of smaller ones it comes to a tenth more, a few answers of 2 MB.
  '--heap-growing-percent=300',
  // What has become small in an idle time is large again at once.
  '--semi-space-growth-factor=16',
  '--no-memory-reducer-favors-memory',
]

/** Bytes from which there is room: in 256 MB a burst was the end of the process. */
export const ROOMY = 1_073_741_824

/** @param memory bytes that the process may have: of its container, or of the machine */
export function tuneEngine(memory = memoryOfProcess()): void {
  for (const flag of ENGINE_FLAGS) setFlagsFromString(flag)
  if (memory >= ROOMY) for (const flag of ROOMY_FLAGS) setFlagsFromString(flag)
}

/** Without a limit the container's is 0, or more than there is. */
function memoryOfProcess(): number {
  return Math.min(process.constrainedMemory() || Infinity, totalmem())
}

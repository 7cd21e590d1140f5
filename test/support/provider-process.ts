import { startProvider } from './provider.ts'

// The provider as a process of its own, that can be killed and frozen. Its parent sends the options.
process.once('message', (options) => {
  void startProvider(options as Parameters<typeof startProvider>[0]).then(({ url }) => {
    process.send?.(url)
  })
})
process.once('disconnect', () => process.exit())

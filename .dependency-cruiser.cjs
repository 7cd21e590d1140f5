/** The floors of docs/architecture.md: import downward only, no cycles. */
const floors = [
  ['^src/(json|fhir|oauth|http)/'],
  ['^src/(exchange|refusal|permit|ports|stages)\\.ts$', '^src/config/'],
  ['^src/(adapters|policy)/'],
  ['^src/stages/'],
  ['^src/(gateway\\.ts$|entries/)'],
  ['^src/server\\.ts$', '^src/(routes|demo)/'],
  ['^src/main\\.ts$', '^src/cli/'],
]
const forbidden = [
  { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
  {
    name: 'stages-know-no-sibling',
    severity: 'error',
    from: { path: '^src/stages/([^/]+)/' },
    to: { path: '^src/stages/', pathNot: '^src/stages/$1/' },
  },
  {
    name: 'masking-knows-no-answer',
    comment: 'what is altered in a resource does not hang on the answer that it comes in',
    severity: 'error',
    from: { path: '^src/stages/release/mask/' },
    to: {
      path: '^src/stages/release/[^/]+\\.ts$',
      pathNot: '/(address|context|identifiers|labels|systems|vocabulary)\\.ts$',
    },
  },
  {
    name: 'core-knows-no-adapter',
    severity: 'error',
    from: { path: '^src/(stages/|gateway\\.ts|entries/)' },
    to: { path: '^src/adapters/' },
  },
  {
    name: 'floor-zero-rooms-are-alone',
    comment: 'fhir/ may use json/; nothing else on the ground floor knows its neighbour',
    severity: 'error',
    from: { path: '^src/(json|fhir|oauth|http)/' },
    to: { path: '^src/(json|fhir|oauth|http)/', pathNot: '^src/($1|json)/' },
  },
  {
    name: 'only-fhir-uses-json',
    severity: 'error',
    from: { path: '^src/(oauth|http)/' },
    to: { path: '^src/json/' },
  },
  {
    name: 'json-knows-no-fhir',
    severity: 'error',
    from: { path: '^src/json/' },
    to: { path: '^src/', pathNot: '^src/json/' },
  },
  {
    name: 'fastify-stays-at-the-rim',
    severity: 'error',
    from: { pathNot: '^src/(server\\.ts|routes/|adapters/|demo/)' },
    to: { path: 'node_modules/(fastify|@fastify)/' },
  },
]
floors.forEach((rooms, floor) => {
  const above = floors.slice(floor + 1).flat()
  if (above.length === 0) return
  forbidden.push({
    name: `floor-${floor}-imports-downward`,
    severity: 'error',
    from: { path: rooms.join('|') },
    to: { path: above.join('|') },
  })
})
module.exports = {
  forbidden,
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'] },
  },
}

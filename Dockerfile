# syntax=docker/dockerfile:1

FROM node:24-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The image has the right Node already, so the platform packages that bring one are left out.
RUN npm ci --omit=optional --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.ts scripts/
COPY src src
RUN node scripts/build.ts && npm prune --omit=dev --omit=optional --ignore-scripts
# The audit log is the only thing that is written. Owned by distroless' user "nonroot".
RUN mkdir -p /audit && chown 65532:65532 /audit && chmod 700 /audit

FROM gcr.io/distroless/nodejs24-debian13:nonroot
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY bin bin
COPY policies policies
COPY config.schema.json LICENSE ./
COPY --from=build --chown=65532:65532 /audit /var/lib/fhirewall
# In a container of its own, loopback would reach nobody. Keep 8081 away from clients.
ENV NODE_ENV=production \
    FHIREWALL_HOST=0.0.0.0 \
    FHIREWALL_ADMIN_HOST=0.0.0.0 \
    FHIREWALL_AUDIT_FILE=/var/lib/fhirewall/audit.jsonl
USER 65532:65532
VOLUME /var/lib/fhirewall
EXPOSE 8080 8081
# Large pages for the code of node, where the kernel has them (docs/decisions/0026).
ENTRYPOINT ["/nodejs/bin/node", "--use-largepages=silent", "/app/bin/fhirewall.js"]
CMD ["start"]

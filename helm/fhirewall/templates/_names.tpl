{{- define "fhirewall.name" -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "fhirewall.selector" -}}
app.kubernetes.io/name: fhirewall
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fhirewall.labels" -}}
{{ include "fhirewall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "fhirewall.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* The container; the same standalone and as a sidecar. */}}
{{- define "fhirewall.container" -}}
name: fhirewall
image: {{ include "fhirewall.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [start, --config, /etc/fhirewall/config.yaml]
env:
  {{- if .Values.policies }}
  - name: FHIREWALL_POLICIES
    value: /etc/fhirewall-policies
  {{- end }}
  {{- if .Values.tls.secretName }}
  - name: FHIREWALL_TLS_CERTIFICATE_FILE
    value: /etc/fhirewall-tls/tls.crt
  - name: FHIREWALL_TLS_KEY_FILE
    value: /etc/fhirewall-tls/tls.key
  {{- end }}
  {{- range $variable, $key := .Values.secretFiles }}
  - name: {{ $variable }}
    value: /etc/fhirewall-secrets/{{ $key }}
  {{- end }}
ports:
  - name: fhir
    containerPort: {{ .Values.config.port | default 8080 }}
  - name: admin
    containerPort: {{ (.Values.config.admin | default dict).port | default 8081 }}
livenessProbe:
  httpGet:
    path: /livez
    port: admin
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet:
    path: /readyz
    port: admin
  periodSeconds: 5
startupProbe:
  httpGet:
    path: /livez
    port: admin
  periodSeconds: 2
  failureThreshold: 30
{{- /* Until everybody has heard that it goes, connections still come. Kubernetes itself waits since 1.30. */}}
{{- if and (gt (int .Values.preStopSeconds) 0) (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
lifecycle:
  preStop:
    sleep:
      seconds: {{ int .Values.preStopSeconds }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  - name: fhirewall-config
    mountPath: /etc/fhirewall
    readOnly: true
  - name: fhirewall-audit
    mountPath: /var/lib/fhirewall
  {{- if .Values.policies }}
  - name: fhirewall-policies
    mountPath: /etc/fhirewall-policies
    readOnly: true
  {{- end }}
  {{- if .Values.tls.secretName }}
  - name: fhirewall-tls
    mountPath: /etc/fhirewall-tls
    readOnly: true
  {{- end }}
  {{- if .Values.secretFiles }}
  - name: fhirewall-secrets
    mountPath: /etc/fhirewall-secrets
    readOnly: true
  {{- end }}
{{- end -}}

{{- define "fhirewall.volumes" -}}
- name: fhirewall-config
  configMap:
    name: {{ include "fhirewall.name" . }}
{{- if .Values.policies }}
- name: fhirewall-policies
  projected:
    sources:
      - configMap:
          name: {{ include "fhirewall.name" . }}-policies
      {{- if .Values.maskingProfiles }}
      - configMap:
          name: {{ include "fhirewall.name" . }}-masking
          items:
            {{- range $file, $_ := .Values.maskingProfiles }}
            - key: {{ $file }}
              path: masking/{{ $file }}
            {{- end }}
      {{- end }}
{{- end }}
{{- if .Values.tls.secretName }}
- name: fhirewall-tls
  secret:
    secretName: {{ .Values.tls.secretName }}
    defaultMode: 0440
{{- end }}
{{- if .Values.secretFiles }}
- name: fhirewall-secrets
  secret:
    secretName: {{ required "secretFiles needs secretName" .Values.secretName }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{- define "podmeter.name" -}}
{{- if contains "podmeter" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-podmeter{{ end -}}
{{- end }}

{{- define "podmeter.selector" -}}
app.kubernetes.io/name: podmeter
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "podmeter.labels" -}}
{{ include "podmeter.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

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

{{/* Podmeter's configuration, with what the values `kubelet` and `web` say of it. */}}
{{- define "podmeter.config" -}}
{{- $tls := dict }}
{{- with .Values.kubelet }}
{{- if and .caHostPath .caConfigMap }}{{ fail "kubelet.caHostPath and kubelet.caConfigMap stand together, but only one of them can hold" }}{{ end }}
{{- if or .caHostPath .caConfigMap }}{{ $_ := set $tls "ca_file" "/etc/podmeter-kubelet/ca.crt" }}{{ end }}
{{- if .serverName }}{{ $_ := set $tls "server_name" .serverName }}{{ end }}
{{- if .insecureSkipVerify }}{{ $_ := set $tls "insecure_skip_verify" true }}{{ end }}
{{- end }}
{{- $own := ternary (dict "kubelet" (dict "tls_config" $tls)) (dict) (gt (len $tls) 0) }}
{{- if .Values.web.kubernetesAuth }}{{ $_ := set $own "web" (dict "kubernetes_auth" true) }}{{ end }}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) }}
{{- end }}

{{/* Where the buffers of remote write lie in the pod; fails where one would lie elsewhere, which is read-only. */}}
{{- define "podmeter.bufferPath" -}}
{{- $path := "/var/lib/podmeter/remote-write" }}
{{- $enabled := .Values.remoteWrite.buffer.enabled }}
{{- range .Values.config.remote_write }}
{{- with .buffer }}
{{- if not $enabled }}{{ fail "config.remote_write has a buffer, which needs remoteWrite.buffer.enabled: the root file system is read-only" }}{{ end }}
{{- if not (hasPrefix (print $path "/") .directory) }}{{ fail (print "config.remote_write has a buffer.directory outside of " $path ", where nothing can be written") }}{{ end }}
{{- end }}
{{- end }}
{{- $path }}
{{- end }}

{{/* Where the kubelet probes, behind the port: by HTTPS if there is TLS, on the loopback if Podmeter listens there. */}}
{{- define "podmeter.probe" -}}
{{- if .Values.web.config.tls_server_config }}, scheme: HTTPS{{ end }}
{{- $listen := .Values.config.listen | default "" }}
{{- if hasPrefix "127." $listen }}, host: {{ splitList ":" $listen | first }}{{ end }}
{{- if hasPrefix "[::1]" $listen }}, host: "::1"{{ end }}
{{- end }}

{{- /* Names, labels and images, each said once. */ -}}

{{- define "tenantry.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 38 | trimSuffix "-" -}}
{{- end -}}

{{- define "tenantry.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 38 | trimSuffix "-" -}}
{{- else if contains (include "tenantry.name" .) .Release.Name -}}
{{- .Release.Name | trunc 38 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tenantry.name" .) | trunc 38 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tenantry.operator" -}}
{{- printf "%s-operator" (include "tenantry.fullname" .) -}}
{{- end -}}

{{- define "tenantry.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "tenantry.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "tenantry.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "tenantry.selectorLabels" -}}
app.kubernetes.io/name: tenantry-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "tenantry.labels" -}}
{{ include "tenantry.selectorLabels" . }}
app.kubernetes.io/part-of: tenantry
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The metadata of an object: (dict "root" $ "name" … "namespace" … "labels" … "annotations" …); the last three may be left out. */ -}}
{{- define "tenantry.metadata" -}}
name: {{ .name }}
{{- with .namespace }}
namespace: {{ . }}
{{- end }}
labels:
  {{- include "tenantry.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /*
An image reference: (dict "root" $ "image" .Values.image). A digest wins over a tag; global.imageRegistry takes the place of the registry, which is
what stands before the first slash and has a dot or a port in it.
*/ -}}
{{- define "tenantry.image" -}}
{{- $repository := .image.repository -}}
{{- with .root.Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "") -}}
{{- end -}}
{{- if .image.digest -}}
{{ $repository }}@{{ .image.digest }}
{{- else -}}
{{ $repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* Secrets to pull images with: this chart's, and those of a parent chart. */ -}}
{{- define "tenantry.imagePullSecrets" -}}
{{- with concat .Values.imagePullSecrets .Values.global.imagePullSecrets | uniq -}}
{{ toYaml . }}
{{- end -}}
{{- end -}}

{{- /* What a ServiceMonitor and a PodMonitor of the operator have in common. */ -}}
{{- define "tenantry.scrape" -}}
port: metrics
path: /metrics
interval: {{ .interval }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
# The operator tells which object it speaks of in the labels namespace and name; they are not the pod's.
honorLabels: true
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

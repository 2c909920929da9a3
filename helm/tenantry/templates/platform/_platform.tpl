{{- /*
Whether the cluster serves the kind before this release begins; Helm refuses a release that has an object of an unknown kind. On the first install it
does not, so a Job applies the Platform, with the marks by which the next upgrade knows it for the release's own.
*/ -}}
{{- define "tenantry.platformIsServed" -}}
{{- if or (not .Release.IsInstall) (.Capabilities.APIVersions.Has "tenantry.dev/v1alpha1/Platform") }}yes{{ end -}}
{{- end -}}

{{- define "tenantry.platformNamespace" -}}
{{- default (include "tenantry.namespace" .) .Values.platform.namespace -}}
{{- end -}}

{{- /* The Platform: (dict "root" $ "annotations" …). */ -}}
{{- define "tenantry.platform" -}}
apiVersion: tenantry.dev/v1alpha1
kind: Platform
metadata:
  {{- $keep := ternary (dict "helm.sh/resource-policy" "keep") dict .root.Values.platform.keep }}
  {{- include "tenantry.metadata" (dict "root" .root "name" .root.Values.platform.name "namespace" (include "tenantry.platformNamespace" .root) "annotations" (merge (dict) $keep (.annotations | default dict))) | nindent 2 }}
spec:
  {{- $spec := deepCopy .root.Values.platform.spec }}
  {{- $secrets := concat .root.Values.imagePullSecrets .root.Values.global.imagePullSecrets | uniq }}
  {{- if and $secrets (not (hasKey $spec "imagePullSecrets")) }}
  {{- $_ := set $spec "imagePullSecrets" $secrets }}
  {{- end }}
  {{- toYaml $spec | nindent 2 }}
{{- end -}}

{{- /* First part of the names: the release's name, with the chart's in it. */ -}}
{{- define "chorus.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "chorus.operator" -}}
{{- include "chorus.fullname" . }}-operator
{{- end -}}

{{- define "chorus.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "chorus.operator" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- /* The labels by which the operator's pods are found. They never change: a selector cannot. */ -}}
{{- define "chorus.selector" -}}
app.kubernetes.io/name: chorus-operator
{{- end -}}

{{- /* Labels that stay the same from version to version, so that an upgrade of the chart alone rolls no pod. */ -}}
{{- define "chorus.stableLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: chorus
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "chorus.labels" -}}
{{ include "chorus.stableLabels" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{- end -}}

{{- /* An image: (dict "root" $ "image" .Values.….image). */ -}}
{{- define "chorus.image" -}}
{{- $image := .image -}}
{{- with $image.registry | default .root.Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- $image.name -}}
{{- if or $image.tag (not $image.digest) }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- with $image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{- /* The namespaces that are served with rbac.scope Namespaces, as a JSON list. */ -}}
{{- define "chorus.namespaces" -}}
{{- .Values.rbac.namespaces | default (list .Release.Namespace) | uniq | sortAlpha | toJson -}}
{{- end -}}

{{- /* Where `helm test` trains: a namespace that is served, the release's own if it is one. */ -}}
{{- define "chorus.testNamespace" -}}
{{- $served := include "chorus.namespaces" . | fromJsonArray -}}
{{- if or (eq .Values.rbac.scope "Cluster") (has .Release.Namespace $served) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- first $served -}}
{{- end -}}
{{- end -}}

{{- /* Whether the API server serves ValidatingAdmissionPolicies; empty when not. Without a cluster (`helm template`) Helm knows no kinds, not even Pod: every release that is supported serves them, unless told not to. */ -}}
{{- define "chorus.servesPolicies" -}}
{{- $served := .Capabilities.APIVersions -}}
{{- if or ($served.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") (not ($served.Has "v1/Pod")) -}}
true
{{- end -}}
{{- end -}}

{{- define "chorus.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

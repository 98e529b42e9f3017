{{- define "modelset-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The release's name, with the chart's unless it has it already. */}}
{{- define "modelset-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "modelset-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "modelset-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelset-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "modelset-operator.selectorText" -}}
app.kubernetes.io/name={{ include "modelset-operator.name" . }},app.kubernetes.io/instance={{ .Release.Name }}
{{- end -}}

{{- define "modelset-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "modelset-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "modelset-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "modelset-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The release that a CRD which is there belongs to, as NAMESPACE/NAME; nothing when it is this one or none. */}}
{{- define "modelset-operator.crdOwner" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "ollamamodelsets.modelset.dev" -}}
{{- $annotations := dig "metadata" "annotations" dict (default dict $found) -}}
{{- $name := get $annotations "meta.helm.sh/release-name" -}}
{{- $namespace := get $annotations "meta.helm.sh/release-namespace" -}}
{{- if and $name (or (ne $name .Release.Name) (ne $namespace .Release.Namespace)) -}}
{{- printf "%s/%s" $namespace $name -}}
{{- end -}}
{{- end -}}

{{/* An image by its registry, name and digest, else tag; call with (dict "image" ... "root" $). */}}
{{- define "modelset-operator.image" -}}
{{- with default .image.registry .root.Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- with .image.digest }}@{{ . }}{{ else }}:{{ default .root.Chart.AppVersion .image.tag }}{{ end -}}
{{- end -}}

{{/* The name of what goes with the operator; call with (dict "suffix" ... "root" $). */}}
{{- define "modelset-operator.nameWith" -}}
{{- $room := int (sub 62 (len .suffix)) -}}
{{- printf "%s-%s" (include "modelset-operator.fullname" .root | trunc $room | trimSuffix "-") .suffix -}}
{{- end -}}

{{/* What the operator does in the namespaces that it serves: exactly the requests it makes, and no Secret. */}}
{{- define "modelset-operator.rules" -}}
# list and watch throughout: all that is looked at is kept by watches.
# The sets themselves; patch: labels and the annotation that name the models.
- apiGroups: [modelset.dev]
  resources: [ollamamodelsets]
  verbs: [list, watch, patch]
# What has become of a set.
- apiGroups: [modelset.dev]
  resources: [ollamamodelsets/status]
  verbs: [patch]
# For children that block their owner's deletion, where the API server asks for that right.
- apiGroups: [modelset.dev]
  resources: [ollamamodelsets/finalizers]
  verbs: [update]
# What a set is made of. Server-side apply: create for what is not there yet, patch for what is; get: before the
# first apply, whether somebody else has an object of the name.
# The Ollama pods; delete: a StatefulSet whose fixed fields are to change is made anew around its pods.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
# By which the proxy finds Ollama, and what pods are to hold. patch also labels the Service that KubeRay makes.
- apiGroups: [""]
  resources: [services, configmaps]
  verbs: [get, list, watch, create, patch]
# Who may talk to the pods.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch]
# How many pods may be away while nodes are drained.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch]
# The proxy.
- apiGroups: [ray.io]
  resources: [rayservices]
  verbs: [get, list, watch, create, patch]
# The number of the proxy's workers, which KubeRay leaves alone when the RayService changes.
- apiGroups: [ray.io]
  resources: [rayclusters]
  verbs: [list, watch, patch]
# Where Ollama is asked, and what keeps pods from running.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Whether the volumes of pods are as large as the set says: those that were retained may not be. patch: they ask for more
# when the set does.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch]
# What people read in `kubectl describe`.
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end -}}

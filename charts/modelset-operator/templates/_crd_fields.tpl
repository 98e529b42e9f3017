{{/* The fields that a schema has, a line each, as `spec.models.name`; call with (dict "schema" ... "path" "spec"). */}}
{{- define "modelset-operator.crd.fields" -}}
{{- $path := .path -}}
{{- range $name, $schema := .schema.properties }}
{{ $path }}.{{ $name }}
{{- include "modelset-operator.crd.fields" (dict "schema" $schema "path" (printf "%s.%s" $path $name)) }}
{{- end }}
{{- with .schema.items }}
{{- include "modelset-operator.crd.fields" (dict "schema" . "path" $path) }}
{{- end }}
{{- end -}}

{{/* What the API server drops of a value by a schema, a line each; call with (dict "value" ... "schema" ... "path" "spec"). */}}
{{- define "modelset-operator.crd.unknown" -}}
{{- $schema := .schema -}}
{{- $path := .path -}}
{{- if kindIs "slice" .value }}
{{- range .value }}
{{- include "modelset-operator.crd.unknown" (dict "value" . "schema" $schema.items "path" $path) }}
{{- end }}
{{- else if and (kindIs "map" .value) (not (index $schema "x-kubernetes-preserve-unknown-fields")) }}
{{- $fields := default dict $schema.properties }}
{{- range $name, $value := .value }}
{{- $inner := hasKey $fields $name | ternary (get $fields $name) $schema.additionalProperties }}
{{- if $inner }}
{{- include "modelset-operator.crd.unknown" (dict "value" $value "schema" $inner "path" (printf "%s.%s" $path $name)) }}
{{- else }}
{{ $path }}.{{ $name }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
The annotations by which the API server knows what a CRD may not lose: the fields that it has, and those that it is to lose,
which no set uses, or which crds.drop names. Fails where sets use others that this chart's schema lacks. `helm template`
sees neither CRD nor sets.
*/}}
{{- define "modelset-operator.crd.fieldAnnotations" -}}
{{- $schema := include "modelset-operator.crd.spec" . | fromYaml }}
{{- $fields := include "modelset-operator.crd.fields" (dict "schema" $schema "path" "spec") | trim | splitList "\n" }}
{{- $dropped := .Values.crds.drop }}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "ollamamodelsets.modelset.dev" }}
{{- if $found }}
{{- $lost := list }}
{{- range (lookup "modelset.dev/v1alpha1" "OllamaModelSet" "" "").items }}
{{- $set := printf "%s/%s" .metadata.namespace .metadata.name }}
{{- $unknown := include "modelset-operator.crd.unknown" (dict "value" .spec "schema" $schema "path" "spec") | trim }}
{{- range $unknown | splitList "\n" | uniq }}
{{- if and . (not (has . $dropped)) }}
{{- $lost = append $lost (printf "%s: %s" $set .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $lost }}
{{- printf "sets use fields that the CustomResourceDefinition of this chart lacks, and would lose them:\n\n  %s\n\nTake them out of the sets, or name the fields in crds.drop to lose them." ($lost | join "\n  ") | fail }}
{{- end }}
{{- $had := dig "metadata" "annotations" "modelset.dev/fields" "" $found | splitList "," }}
{{- range $had }}
{{- if and . (not (has . $fields)) }}
{{- $dropped = append $dropped . }}
{{- end }}
{{- end }}
{{- end }}
modelset.dev/fields: {{ $fields | sortAlpha | join "," }}
{{- with $dropped }}
modelset.dev/dropped: {{ . | uniq | sortAlpha | join "," }}
{{- end }}
{{- end -}}

{{/* The schema of spec. Sizes are bounded because the API server estimates the cost of rules by them. */}}
{{- define "modelset-operator.crd.spec" -}}
type: object
required: [models]
properties:
  models:
    description: The models that every Ollama pod of this set holds.
    type: array
    minItems: 1
    maxItems: 100
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [name]
    x-kubernetes-validations:
      - rule: >-
          self.all(m,
            (has(m.servedNames) ? m.servedNames
              : m.name.endsWith(':latest') ? [m.name, m.name.substring(0, size(m.name) - 7)] : [m.name]
            ).all(n, self.exists_one(o, n in (has(o.servedNames) ? o.servedNames
              : o.name.endsWith(':latest') ? [o.name, o.name.substring(0, size(o.name) - 7)] : [o.name]))))
        message: >-
          two models have one servedNames entry in common; every name that clients send must belong to one model
          (without servedNames a model is served under its name, and under its name without ':latest')
    items:
      type: object
      required: [name]
      properties:
        name:
          description: "Any Ollama reference: [[host[:port]/]namespace/]model[:tag]."
          type: string
          minLength: 1
          maxLength: 200
          x-kubernetes-validations:
            - rule: self.matches('^(([A-Za-z0-9_][A-Za-z0-9_.:-]*/)?[A-Za-z0-9_][A-Za-z0-9_-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$')
              message: >-
                name must be an Ollama reference, [[host[:port]/]namespace/]model[:tag]; a host needs a namespace too,
                such as models.example:5000/library/smollm2
        servedNames:
          description: What clients send as `model`. By default the name, and the name without ':latest'.
          type: array
          minItems: 1
          maxItems: 8
          x-kubernetes-list-type: set
          items:
            type: string
            minLength: 1
            maxLength: 128
            x-kubernetes-validations:
              - rule: self.matches('^[A-Za-z0-9_][A-Za-z0-9_.:/@+-]*$')
                message: >-
                  servedNames may have letters, digits and _ . : / @ + - and begin with a letter, a digit or '_'
        type:
          description: What the model is for. Auto reads the capabilities that Ollama reports.
          type: string
          enum: [Auto, Chat, Embedding]
          default: Auto
        keepAlive:
          description: >-
            How long the model stays in memory after a request: a duration such as 5m, or seconds; negative for ever.
            By default spec.ollama.keepAlive.
          {{- include "modelset-operator.crd.keepAlive" . | nindent 10 }}
  registry:
    description: Where models without a host in their name come from. By default Ollama's own registry.
    type: object
    x-kubernetes-validations:
      - rule: "!self.insecure || has(self.host)"
        message: insecure holds for the registry that host names, so host must be set with it
    properties:
      host:
        description: "host[:port] of a registry, which keeps `smollm2:135m` as `library/smollm2:135m`."
        type: string
        minLength: 1
        maxLength: 100
        x-kubernetes-validations:
          - rule: self.matches('^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]+)?$')
            message: "host must be host[:port], without a scheme and without a path"
      insecure:
        description: Use plain HTTP, or HTTPS without verifying certificates, at that host and no other.
        type: boolean
        default: false
  ollama:
    description: The pods that run the models.
    type: object
    default: {}
    properties:
      image:
        description: By default the image that the operator was installed with.
        type: string
        minLength: 1
        maxLength: 512
      replicas:
        description: The number of pods; each holds every model.
        type: integer
        format: int32
        minimum: 0
        maximum: 1000
        default: 1
      parallel:
        description: How many requests a model answers at once on one pod (OLLAMA_NUM_PARALLEL).
        type: integer
        format: int32
        minimum: 1
        maximum: 1024
        default: 4
      maxLoadedModels:
        description: >-
          How many models one pod has in memory at most (OLLAMA_MAX_LOADED_MODELS); variants of one base count once. When
          another one is asked for, the proxy chooses which gives way. A memory limit in resources bounds them too.
        type: integer
        format: int32
        minimum: 1
        maximum: 100
        default: 3
      keepAlive:
        description: >-
          How long models stay in memory after a request: a duration such as 5m, or seconds; negative for ever.
        default: "-1"
        {{- include "modelset-operator.crd.keepAlive" . | nindent 8 }}
      storage:
        description: The volume of each pod, where the models are kept.
        type: object
        default: {size: 20Gi}
        x-kubernetes-validations:
          - rule: self.size == oldSelf.size
            message: >-
              storage.size cannot be changed, because Kubernetes does not let a StatefulSet change its claims;
              make a new set
          - rule: >-
              has(self.storageClassName) == has(oldSelf.storageClassName)
              && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)
            message: >-
              storage.storageClassName cannot be changed, because Kubernetes does not let a StatefulSet change its
              claims; make a new set
        properties:
          size:
            {{- include "modelset-operator.crd.quantity" . | nindent 12 }}
            maxLength: 32
            x-kubernetes-validations:
              - rule: "type(self) == int ? self > 0 : self.matches('^[0-9.]*[1-9]')"
                message: storage.size must be more than 0, such as 20Gi
            default: 20Gi
          storageClassName:
            description: By default the cluster's default class.
            type: string
            maxLength: 253
          retain:
            description: Keep the volumes when the set is deleted.
            type: boolean
            default: false
      resources:
        default: {requests: {cpu: 100m, memory: 512Mi}}
        {{- include "modelset-operator.crd.resources" . | nindent 8 }}
      drainSeconds:
        description: How long answers may go on when a pod is to stop.
        type: integer
        format: int32
        minimum: 0
        maximum: 3600
        default: 30
      {{- include "modelset-operator.crd.pod" . | nindent 6 }}
  proxy:
    description: The pods that speak OpenAI's API.
    type: object
    default: {}
    properties:
      image:
        description: By default the image that the operator was installed with.
        type: string
        minLength: 1
        maxLength: 512
      replicas:
        description: The number of pods.
        type: integer
        format: int32
        minimum: 1
        maximum: 100
        default: 1
      resources:
        default: {requests: {cpu: 100m, memory: 1Gi}}
        {{- include "modelset-operator.crd.resources" . | nindent 8 }}
      {{- include "modelset-operator.crd.pod" . | nindent 6 }}
      allowedFrom:
        description: >-
          From where the endpoint may be reached, as `from` of a NetworkPolicy; it takes a network that enforces them.
          By default from everywhere.
        type: array
        minItems: 1
        maxItems: 64
        x-kubernetes-list-type: atomic
        items:
          type: object
          minProperties: 1
          properties:
            podSelector: {type: object, x-kubernetes-preserve-unknown-fields: true}
            namespaceSelector: {type: object, x-kubernetes-preserve-unknown-fields: true}
            ipBlock:
              type: object
              required: [cidr]
              properties:
                cidr: {type: string, maxLength: 64}
                except:
                  type: array
                  maxItems: 64
                  x-kubernetes-list-type: atomic
                  items: {type: string, maxLength: 64}
      auth:
        description: Who may call. Without it everybody who reaches the endpoint.
        type: object
        required: [apiKeysSecret]
        properties:
          apiKeysSecret:
            description: >-
              A Secret in the set's namespace, which whoever names it must be allowed to read: each entry is a client's name and its keys, one a line. Changes are
              taken up without a restart; while the Secret does not exist, nobody may call.
            type: object
            required: [name]
            properties:
              name:
                type: string
                minLength: 1
                maxLength: 253
      cors:
        description: Which web pages may call from a browser.
        type: object
        properties:
          allowOrigins:
            description: Origins such as https://chat.example, or '*' for all.
            type: array
            maxItems: 64
            x-kubernetes-list-type: set
            items:
              type: string
              minLength: 1
              maxLength: 253
              x-kubernetes-validations:
                - rule: self == '*' || self.matches('^[a-z][a-z0-9+.-]*://[^/ ]+$')
                  message: allowOrigins must be '*' or scheme://host[:port], without a path
      limits:
        description: Bounds on what each proxy pod accepts.
        type: object
        properties:
          maxQueuedRequests:
            description: >-
              How many requests of a model may wait, beyond those that Ollama runs (spec.ollama.parallel a pod); one
              more gets a 429. By default 1024.
            type: integer
            format: int32
            minimum: 0
          queueTimeoutSeconds:
            description: How long a request may wait before it gets a 503. By default 60.
            type: integer
            format: int32
            minimum: 1
          requestTimeoutSeconds:
            description: How long an answer may take in all. By default as long as it takes.
            type: integer
            format: int32
            minimum: 1
          maxBodyBytes:
            description: Size of a request body; a larger one gets a 413. By default 64 MiB.
            type: integer
            format: int64
            minimum: 1
{{- end -}}

{{- define "modelset-operator.crd.keepAlive" -}}
type: string
minLength: 1
maxLength: 32
x-kubernetes-validations:
  - rule: self.matches('^(-?[0-9]+|-?([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+)$')
    message: keepAlive must be a duration such as 5m or 1h30m, or whole seconds such as "300", or "-1" for ever
  - rule: "!self.matches('[0-9]{6}h|[0-9]{8}m([^s]|$)|[0-9]{10}(s|$)|[0-9]{13}')"
    message: keepAlive is longer than Ollama can count; "-1" keeps a model in memory for ever
{{- end -}}

{{- define "modelset-operator.crd.quantity" -}}
anyOf: [{type: integer}, {type: string}]
x-kubernetes-int-or-string: true
pattern: '^[0-9]+(\.[0-9]+)?(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$'
{{- end -}}

{{/* What a pod has elsewhere too, by the same names; the API server checks it when the pod's owner is applied. */}}
{{- define "modelset-operator.crd.pod" -}}
imagePullSecrets:
  description: Secrets with the credentials to pull the image.
  type: array
  maxItems: 16
  x-kubernetes-list-type: atomic
  items:
    type: object
    required: [name]
    properties:
      name: {type: string, minLength: 1, maxLength: 253}
nodeSelector:
  description: Labels of the nodes to run on.
  type: object
  maxProperties: 64
  additionalProperties: {type: string, maxLength: 63}
tolerations:
  description: Taints of nodes that do not matter.
  type: array
  maxItems: 64
  x-kubernetes-list-type: atomic
  items: {type: object, x-kubernetes-preserve-unknown-fields: true}
affinity:
  description: Near to or far from what to run.
  type: object
  x-kubernetes-preserve-unknown-fields: true
topologySpreadConstraints:
  description: How the pods are to be spread.
  type: array
  maxItems: 16
  x-kubernetes-list-type: atomic
  items: {type: object, x-kubernetes-preserve-unknown-fields: true}
priorityClassName:
  description: How important the pods are.
  type: string
  maxLength: 253
runtimeClassName:
  description: What runs the pods' containers.
  type: string
  maxLength: 253
{{- end -}}

{{- define "modelset-operator.crd.resources" -}}
description: Resources of the container, as in a pod.
type: object
properties:
  requests:
    type: object
    maxProperties: 32
    additionalProperties:
      {{- include "modelset-operator.crd.quantity" . | nindent 6 }}
  limits:
    type: object
    maxProperties: 32
    additionalProperties:
      {{- include "modelset-operator.crd.quantity" . | nindent 6 }}
{{- end -}}

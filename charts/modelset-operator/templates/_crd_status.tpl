{{- define "modelset-operator.crd.status" -}}
type: object
properties:
  observedGeneration: {type: integer, format: int64}
  replicas:
    description: The number of Ollama pods, for the scale subresource.
    type: integer
    format: int32
  desiredReplicas:
    description: How many Ollama pods there are to be, by spec.ollama.replicas or by demand.
    type: integer
    format: int32
  selector:
    description: Selects the Ollama pods, for the scale subresource.
    type: string
  endpoint:
    description: Base URL for OpenAI clients.
    type: string
  modelNames:
    description: What clients may send as `model` now, joined by ';'.
    type: string
  modelsReady:
    description: How many models can answer, of how many.
    type: string
  ollamaReady:
    description: How many Ollama pods are ready, of how many.
    type: string
  conditions:
    type: array
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [type]
    items:
      type: object
      required: [type, status, reason, message, lastTransitionTime]
      properties:
        type: {type: string, maxLength: 316}
        status: {type: string, enum: ["True", "False", Unknown]}
        reason: {type: string, minLength: 1, maxLength: 1024}
        message: {type: string, maxLength: 32768}
        observedGeneration: {type: integer, format: int64, minimum: 0}
        lastTransitionTime: {type: string, format: date-time}
  models:
    type: array
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [name]
    items:
      type: object
      required: [name, phase]
      properties:
        name: {type: string}
        from:
          description: What a variant is made of.
          type: string
        servedNames:
          type: array
          x-kubernetes-list-type: atomic
          items: {type: string}
        type:
          description: Chat or Embedding, as Ollama reports or as the spec says.
          type: string
        phase:
          description: >-
            Pending, Pulling, Creating (of a variant whose base is there), Loading (on disk, not able to answer or not
            preloaded yet), Ready or Failed.
          type: string
        progress:
          description: How much of the model the pods have, e.g. 42%.
          type: string
        readyReplicas:
          description: On how many pods the model can answer, of how many, e.g. 2/3.
          type: string
        digest: {type: string}
        checkedAt:
          description: When a pod last asked the registry what the tag stands for.
          type: string
          format: date-time
        size:
          description: Bytes on disk; nearly all of a variant's are those of its base, and there once.
          type: integer
          format: int64
        memory:
          description: Bytes in memory, for all requests at once; measured once it was loaded, before that calculated.
          type: integer
          format: int64
        capabilities:
          type: array
          x-kubernetes-list-type: atomic
          items: {type: string}
        message:
          description: Why the model is not ready; for a failed pull, Ollama's own words.
          type: string
{{- end -}}

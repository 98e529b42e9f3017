{{/* The schema of spec. Sizes are bounded because the API server estimates the cost of rules by them. */}}
{{- define "modelset-operator.crd.spec" -}}
type: object
required: [models]
x-kubernetes-validations:
  - rule: >-
      !has(self.registry) || !has(self.registry.cache) || !has(self.ollama.env)
      || !self.ollama.env.exists(e, e.name in ['HTTP_PROXY', 'http_proxy', 'NO_PROXY', 'no_proxy'])
    message: >-
      ollama.env may not have HTTP_PROXY or NO_PROXY with registry.cache, because Ollama finds the cache by them
properties:
  models:
    description: The models of this set; each Ollama pod holds every one, or as many pods as its replicas say.
    type: array
    minItems: 1
    maxItems: 100
    x-kubernetes-list-type: map
    x-kubernetes-list-map-keys: [name]
    x-kubernetes-validations:
      # The API server (1.30 to 1.37) estimates 1,690,602 for this rule, where 10,000,000 is the most that one may have; a
      # hundred models of eight names each, all of the longest, take 0.8 of the 1,000,000 that one may take when it
      # runs. So nothing is made anew for each pair: that alone took 9,055,402, and refused a hundred long names.
      - rule: >-
          self.all(m, has(m.servedNames)
            ? self.exists_one(o, has(o.servedNames) && sets.intersects(m.servedNames, o.servedNames))
            : self.all(o, has(o.servedNames)
              ? !(m.name in o.servedNames)
                && !(m.name.endsWith(':latest') && m.name.substring(0, size(m.name) - 7) in o.servedNames)
              : m.name + ':latest' != o.name))
        message: >-
          two models have one servedNames entry in common; every name that clients send must belong to one model
          (without servedNames a model is served under its name, and under its name without ':latest')
      - rule: >-
          self.all(m, !has(m.from) || !self.exists(o, has(o.from)
            && (o.name == m.from || (has(m.adapter) && o.name == m.adapter))))
        message: >-
          from and adapter must name models that are pulled, neither the variant itself nor another entry that has from
    items:
      type: object
      required: [name]
      x-kubernetes-validations:
        - rule: "!has(self.from) || !has(self.refresh)"
          message: >-
            refresh is of models that are pulled, and one with from is not: it is made anew when its base has moved, so make
            the base an entry too and set refresh there
        - rule: "has(self.from) || !(has(self.system) || has(self.template) || has(self.parameters) || has(self.adapter))"
          message: >-
            system, template, parameters and adapter make a variant of another model, so from must be set with them: the
            model that it is made of
        - rule: "!has(self.adapter) || !has(self.from) || self.adapter != self.from"
          message: >-
            adapter must name another model than from, whose own adapter the variant has already
      properties:
        name:
          description: >-
            Any Ollama reference: [[host[:port]/]namespace/]model[:tag]. With from it is what the variant is called, and
            nothing is pulled under it.
          type: string
          minLength: 1
          maxLength: 200
          x-kubernetes-validations:
            - rule: {{ include "modelset-operator.crd.isReference" . }}
              message: >-
                name must be an Ollama reference, [[host[:port]/]namespace/]model[:tag]; a host needs a namespace too,
                such as models.example:5000/library/smollm2
        from:
          description: >-
            Makes it a variant of this model, whose weights and memory it shares: any Ollama reference. The base is
            pulled and kept for it, and served only where it is an entry too.
          type: string
          minLength: 1
          maxLength: 200
          x-kubernetes-validations:
            - rule: {{ include "modelset-operator.crd.isReference" . }}
              message: >-
                from must be an Ollama reference, [[host[:port]/]namespace/]model[:tag]; a host needs a namespace too,
                such as models.example:5000/library/smollm2
        adapter:
          description: >-
            A LoRA for a variant, by the model that has it: any Ollama reference to one that was made with ADAPTER. It is
            pulled and kept for the variant, and served only where it is an entry too. It takes memory of its own.
          type: string
          minLength: 1
          maxLength: 200
          x-kubernetes-validations:
            - rule: {{ include "modelset-operator.crd.isReference" . }}
              message: >-
                adapter must be an Ollama reference, [[host[:port]/]namespace/]model[:tag]; a host needs a namespace too,
                such as models.example:5000/library/smollm2-lora
        system:
          description: The system prompt of a variant, where a request has none. By default the base's.
          type: string
          minLength: 1
          maxLength: 65536
        template:
          description: How a variant's prompts are put together, in Ollama's template language. By default the base's.
          type: string
          minLength: 1
          maxLength: 65536
        parameters:
          description: >-
            Ollama's parameters, by Ollama's names, for requests that say nothing else. Those left out are the base's.
            Another num_ctx, num_batch, num_gpu, main_gpu, use_mmap or num_thread than the base's takes memory of its own.
          type: object
          properties:
            {{- range list "draft_num_predict" "main_gpu" "num_batch" "num_ctx" "num_gpu" "num_keep" "num_predict" "num_thread" "repeat_last_n" "seed" "top_k" }}
            {{ . }}: {type: integer, format: int64}
            {{- end }}
            {{- range list "frequency_penalty" "min_p" "presence_penalty" "repeat_penalty" "temperature" "top_p" "typical_p" }}
            {{ . }}: {type: number}
            {{- end }}
            use_mmap: {type: boolean}
            stop:
              type: array
              minItems: 1
              maxItems: 64
              x-kubernetes-list-type: atomic
              items: {type: string, minLength: 1, maxLength: 256}
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
        contextLength:
          description: >-
            How many tokens a conversation may have (num_ctx), pinned for every request, so that none makes Ollama load
            the model anew. It costs memory: spec.ollama.parallel times. By default the Modelfile's, or Ollama's; that of a
            variant is its base's.
          type: integer
          format: int32
          minimum: 1
          maximum: 16777216
        preload:
          description: >-
            Load the model into memory before it counts as ready, on every pod that keeps it, and again when a pod has
            restarted. When memory is needed for others, the proxy may let go of it later.
          type: boolean
          default: false
        replicas:
          description: >-
            On how many Ollama pods the model is kept; by default on all. Which ones is decided by room (memory, disk),
            and stays so as long as it can. A base is kept on as many as any variant of it.
          type: integer
          format: int32
          minimum: 1
          maximum: 1000
        refresh:
          description: >-
            How often the registry is asked whether the tag has moved, a duration of at least 1m such as 1h; Always is every
            five minutes and whenever a pod starts. A version that is new is pulled by all pods, without a restart. By default
            Never, but for the annotation modelset.dev/refresh.
          type: string
          maxLength: 32
          x-kubernetes-validations:
            - rule: >-
                self in ['Never', 'Always'] || (self.matches('^([0-9]+([.][0-9]+)?(ms|s|m|h))+$')
                && !self.matches('[0-9]{6}') && duration(self) >= duration('1m'))
              message: refresh must be Never, Always, or a duration of at least 1m, such as 30m or 1h30m
  registry:
    description: Where models without a host in their name come from. By default Ollama's own registry.
    type: object
    x-kubernetes-validations:
      - rule: "!self.insecure || has(self.host)"
        message: insecure holds for the registry that host names, so host must be set with it
      - rule: "!has(self.credentialsSecret) || has(self.cache)"
        message: >-
          registry.credentialsSecret is read by the cache alone, and by no Ollama pod, so registry.cache must be set with it;
          {} is enough
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
      credentialsSecret:
        description: >-
          A Secret of the type kubernetes.io/dockerconfigjson in the set's namespace, with who the set is to registries, by
          host; whoever names it must be allowed to read it. Only the cache's pod mounts it. Changes are taken up without
          a restart.
        type: object
        required: [name]
        properties:
          name: {type: string, minLength: 1, maxLength: 253}
      cache:
        description: >-
          One pod of the set that all its Ollama pods pull through, from whatever registry: a model is downloaded from
          outside once, and a download that was interrupted goes on where it was. Turning it on or off replaces the Ollama
          pods one by one.
        type: object
        x-kubernetes-validations:
          - rule: quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0
            message: >-
              registry.cache.size may grow and not shrink, because Kubernetes makes no volume smaller; take the cache out, and
              put it in again when its pod is gone
          - rule: >-
              has(self.storageClassName) == has(oldSelf.storageClassName)
              && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)
            message: >-
              registry.cache.storageClassName cannot be changed, because Kubernetes does not let a StatefulSet change its
              claims; take the cache out, and put it in again when its pod is gone
        properties:
          size:
            description: >-
              How large its volume is. What was not wanted for longest goes when there is no room; no file of a model may be
              larger.
            {{- include "modelset-operator.crd.quantity" . | nindent 12 }}
            maxLength: 32
            x-kubernetes-validations:
              - rule: "type(self) == int ? self > 0 : self.matches('^[0-9.]*[1-9]')"
                message: registry.cache.size must be more than 0, such as 50Gi
            default: 50Gi
          storageClassName:
            description: By default the cluster's default class.
            type: string
            maxLength: 253
          resources:
            default: {requests: {cpu: 50m, memory: 128Mi}}
            {{- include "modelset-operator.crd.resources" . | nindent 12 }}
          {{- include "modelset-operator.crd.placed" . | nindent 10 }}
  ollama:
    description: The pods that run the models.
    type: object
    default: {}
    x-kubernetes-validations:
      - rule: >-
          !has(self.kvCacheType) || self.kvCacheType == 'f16' || (has(self.flashAttention) && self.flashAttention)
        message: kvCacheType other than f16 needs flashAttention, so set flashAttention to true with it
      - rule: "!has(self.autoscaling) || self.replicas == 1"
        message: >-
          ollama.replicas must be left out with ollama.autoscaling, which decides how many pods there are; to scale
          by hand or with a HorizontalPodAutoscaler, remove ollama.autoscaling
    properties:
      image:
        description: By default the image that the operator was installed with.
        type: string
        minLength: 1
        maxLength: 512
      replicas:
        description: >-
          The number of pods. kubectl scale and a HorizontalPodAutoscaler set it; ollama.autoscaling decides in its place.
        type: integer
        format: int32
        minimum: 0
        maximum: 1000
        default: 1
      autoscaling:
        description: >-
          As many pods as requests call for; excludes replicas. A request that comes while there is none waits for one.
        type: object
        required: [maxReplicas]
        x-kubernetes-validations:
          - rule: self.minReplicas <= self.maxReplicas
            message: autoscaling.minReplicas must not be more than autoscaling.maxReplicas
        properties:
          minReplicas:
            description: The fewest pods; with 0 a set that nobody asks has none.
            type: integer
            format: int32
            minimum: 0
            maximum: 1000
            default: 1
          maxReplicas:
            description: The most pods.
            type: integer
            format: int32
            minimum: 1
            maximum: 1000
          targetInFlight:
            description: How many requests, running and waiting together, call for one pod; a good value is parallel.
            type: integer
            format: int32
            minimum: 1
            maximum: 100000
            default: 4
          idleSeconds:
            description: >-
              After how many seconds without a request the last pod goes, where minReplicas is 0. Others go when they
              were not needed for so long, or for three minutes where that is less.
            type: integer
            format: int32
            minimum: 1
            maximum: 604800
            default: 900
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
      flashAttention:
        description: >-
          Whether Ollama computes attention in a way that takes less memory for long contexts (OLLAMA_FLASH_ATTENTION).
          By default Ollama decides by model.
        type: boolean
      kvCacheType:
        description: >-
          How exact what models remember of a conversation is kept (OLLAMA_KV_CACHE_TYPE). q8_0 takes about half the
          memory of f16, q4_0 about a quarter; both need flashAttention. By default f16.
        type: string
        enum: [f16, q8_0, q4_0]
      env:
        description: >-
          Further environment variables of Ollama, as in a pod, but for those from Secrets and ConfigMaps: whoever may make
          a set could read any of them.
        type: array
        maxItems: 64
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [name]
        items:
          type: object
          required: [name]
          properties:
            name:
              type: string
              minLength: 1
              maxLength: 128
              x-kubernetes-validations:
                {{- range $name, $field := include "modelset-operator.crd.ownEnv" . | fromYaml }}
                - rule: self != '{{ $name }}'
                  message: env may not have {{ $name }}; {{ $field }}
                {{- end }}
            value: {type: string, maxLength: 32768}
            valueFrom:
              description: "Where the value comes from: the pod itself, or its resources."
              type: object
              minProperties: 1
              maxProperties: 1
              properties:
                fieldRef:
                  type: object
                  required: [fieldPath]
                  properties:
                    apiVersion: {type: string, maxLength: 64}
                    fieldPath: {type: string, minLength: 1, maxLength: 512}
                resourceFieldRef:
                  type: object
                  required: [resource]
                  properties:
                    containerName: {type: string, maxLength: 63}
                    resource: {type: string, minLength: 1, maxLength: 256}
                    divisor: {x-kubernetes-int-or-string: true, maxLength: 64}
          x-kubernetes-validations:
            - rule: "!(has(self.value) && has(self.valueFrom))"
              message: an entry of env may have value or valueFrom, not both
      keepAlive:
        description: >-
          How long models stay in memory after a request: a duration such as 5m, or seconds; negative for ever.
        default: "-1"
        {{- include "modelset-operator.crd.keepAlive" . | nindent 8 }}
      storage:
        description: The volume of each pod, where the models are kept.
        type: object
        # All that rules look at: a default is held to them as it is, before those inside it are filled in.
        default: {size: 20Gi, retain: false, ephemeral: false}
        x-kubernetes-validations:
          - rule: >-
              self.ephemeral || quantity(string(self.size)).compareTo(quantity(string(oldSelf.size))) >= 0
            message: storage.size may grow and not shrink, because Kubernetes makes no volume smaller; make a new set
          - rule: self.ephemeral == oldSelf.ephemeral
            message: >-
              storage.ephemeral cannot be changed, because a StatefulSet does not take over pods whose models are on
              another kind of volume; make a new set
          - rule: "!(self.ephemeral && has(self.storageClassName))"
            message: >-
              storage.storageClassName is of claims, and with storage.ephemeral there are none, so leave one of them out
          - rule: "!(self.ephemeral && self.retain)"
            message: >-
              storage.ephemeral throws models away with their pod, so there is nothing for storage.retain to keep;
              leave one of them out
          - rule: >-
              has(self.storageClassName) == has(oldSelf.storageClassName)
              && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)
            message: >-
              storage.storageClassName cannot be changed, because Kubernetes does not let a StatefulSet change its
              claims; make a new set
        properties:
          size:
            description: >-
              How large each pod's volume is. It may grow where the StorageClass allows that; the status tells where it does not.
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
          ephemeral:
            description: >-
              Keep models on the node's own disk, as an emptyDir of at most size: they go with their pod, and the next one
              pulls them anew. For sets that are soon thrown away, or where no volumes can be claimed.
            type: boolean
            default: false
      volumes:
        description: >-
          Further volumes of the pods, by claims that are there already; all pods mount the same ones. Whoever sets them
          must be allowed to make pods.
        type: array
        maxItems: 16
        x-kubernetes-list-type: map
        x-kubernetes-list-map-keys: [name]
        x-kubernetes-validations:
          - rule: self.all(v, self.exists_one(o, o.mountPath == v.mountPath))
            message: two volumes have the same mountPath; every volume needs one of its own
        items:
          type: object
          required: [name, mountPath, persistentVolumeClaim]
          properties:
            name:
              description: What the volume is called in the pods.
              type: string
              maxLength: 63
              x-kubernetes-validations:
                - rule: self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')
                  message: "names of volumes may have lower case letters, digits and '-', and no '-' at either end"
                - rule: "!(self in ['models', 'required', 'tmp'])"
                  message: volumes may not be called models, required or tmp; these are volumes of the set's own
            mountPath:
              description: Where the pods see it.
              type: string
              maxLength: 256
              x-kubernetes-validations:
                - rule: self.matches('^(/[^/:]+)+$') && !self.matches('/[.][.]?(/|$)')
                  message: "mountPath must be a whole path such as /adapters, with no ':', no '/' at its end, and no '.' or '..' in it"
                {{- range $path, $use := include "modelset-operator.crd.ownPaths" . | fromYaml }}
                - rule: "!(self + '/').startsWith('{{ $path }}/') && !'{{ $path }}'.startsWith(self + '/')"
                  message: mountPath may not be {{ $path }}, inside it or above it; {{ $use }}
                {{- end }}
            readOnly:
              description: Whether pods may only read it.
              type: boolean
              default: false
            persistentVolumeClaim:
              description: The claim, in the set's namespace.
              type: object
              required: [claimName]
              properties:
                claimName: {type: string, minLength: 1, maxLength: 253}
                readOnly:
                  description: >-
                    Whether nodes attach it only for reading, as claims of ReadOnlyMany need it; then the owner of its files
                    stays as it is.
                  type: boolean
                  default: false
      resources:
        default: {requests: {cpu: 100m, memory: 512Mi}}
        {{- include "modelset-operator.crd.resources" . | nindent 8 }}
      supplementalGroups:
        description: >-
          Further groups, by number, that Ollama runs as: those that own the devices of its node, where a runtime leaves
          them as they are (AMD's), or the files of a claim in volumes.
        type: array
        maxItems: 16
        x-kubernetes-list-type: set
        items: {type: integer, format: int64, minimum: 1, maximum: 2147483647}
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
    x-kubernetes-validations:
      - rule: "!(has(self.autoscaling) && has(self.replicas))"
        message: >-
          autoscaling decides the number of pods, so leave out replicas (and set it to null once, where it is stored)
    properties:
      image:
        description: By default the image that the operator was installed with.
        type: string
        minLength: 1
        maxLength: 512
      replicas:
        description: The number of pods; 1 unless autoscaling decides it.
        type: integer
        format: int32
        minimum: 1
        maximum: 100
      autoscaling:
        description: >-
          The number of pods follows the requests, instead of replicas. Turning it on or off replaces the Ray cluster;
          changing its numbers does not.
        type: object
        required: [maxReplicas]
        x-kubernetes-validations:
          - rule: self.minReplicas <= self.maxReplicas
            message: minReplicas must not be more than maxReplicas
        properties:
          minReplicas:
            description: As many pods there are at least.
            type: integer
            format: int32
            minimum: 1
            maximum: 100
            default: 1
          maxReplicas:
            description: As many pods there are at most.
            type: integer
            format: int32
            minimum: 1
            maximum: 100
          targetOngoingRequests:
            description: For how many requests, running or waiting, there is a pod.
            type: integer
            format: int32
            minimum: 1
            maximum: 100000
            default: 100
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
            description: >-
              How long a request may wait for its turn, while an Ollama pod holds its model, before it gets a 503. By
              default 60.
            type: integer
            format: int32
            minimum: 1
          wakeTimeoutSeconds:
            description: >-
              How long a request may wait for an Ollama pod that holds its model, while there is none (scaled to zero,
              restarting), before it gets a 503. With 0 it gets that at once. By default 300.
            type: integer
            format: int32
            minimum: 0
            maximum: 3600
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

{{/* What the operator sets itself, and what to do instead. */}}
{{- define "modelset-operator.crd.ownEnv" -}}
HOME: it is where the volume is mounted
HOSTNAME: it is the pod's name
OLLAMA_CONTEXT_LENGTH: set contextLength of the models in spec.models instead
OLLAMA_FLASH_ATTENTION: set spec.ollama.flashAttention instead
OLLAMA_HOST: it is where probes and the proxy ask
OLLAMA_KEEP_ALIVE: set spec.ollama.keepAlive instead
OLLAMA_KV_CACHE_TYPE: set spec.ollama.kvCacheType instead
OLLAMA_MAX_LOADED_MODELS: set spec.ollama.maxLoadedModels instead
OLLAMA_MODELS: it is where the volume is mounted, see spec.ollama.storage
OLLAMA_NO_CLOUD: prompts are not to leave the cluster
OLLAMA_NOPRUNE: pulls that were interrupted are to go on
OLLAMA_NUM_PARALLEL: set spec.ollama.parallel instead
{{- end -}}

{{/* Where the operator mounts volumes itself, and what for. */}}
{{- define "modelset-operator.crd.ownPaths" -}}
/etc/modelset: it tells a pod which models it is to hold
/tmp: it is a volume of the pod's own
/var/lib/ollama: it is where the models are kept
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
imagePullPolicy:
  description: When the image is pulled, also where a node has it.
  type: string
  enum: [Always, IfNotPresent, Never]
  default: IfNotPresent
podLabels:
  description: >-
    Further labels of the pods, such as a team's or a cost centre's. Whoever sets them must be allowed to make pods.
  type: object
  maxProperties: 32
  additionalProperties:
    type: string
    maxLength: 63
    x-kubernetes-validations:
      - rule: self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')
        message: >-
          values of podLabels may have letters, digits and - _ . inside, and begin and end with a letter or a digit
  {{- include "modelset-operator.crd.keys" (dict "field" "podLabels" "reserved" "app.kubernetes.io|ray.io|modelset.dev") | nindent 2 }}
podAnnotations:
  description: >-
    Further annotations of the pods, such as those that a service mesh reads. Whoever sets them must be allowed to make pods.
  type: object
  maxProperties: 32
  additionalProperties: {type: string, maxLength: 16384}
  {{- include "modelset-operator.crd.keys" (dict "field" "podAnnotations" "reserved" "ray.io|modelset.dev") | nindent 2 }}
{{ include "modelset-operator.crd.placed" . }}
{{- end -}}

{{/* Where a pod runs, and with which rights to pull its image. */}}
{{- define "modelset-operator.crd.placed" -}}
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

{{/*
Rules for what keys of labels or annotations look like, and whose they may not be: call with (dict "field" ...
"reserved" ...), the latter domains joined by '|', whose subdomains are reserved too.
*/}}
{{- define "modelset-operator.crd.keys" -}}
{{- $reserved := printf "^([^/]*[.])?(%s)/" (replace "." "[.]" .reserved) -}}
x-kubernetes-validations:
  - rule: self.all(key, !key.matches('{{ $reserved }}'))
    messageExpression: >-
      '{{ .field }} may not have ' + self.filter(key, key.matches('{{ $reserved }}'))[0]
      + ': keys of {{ .reserved | splitList "|" | join ", " }} are set by the operator and by KubeRay'
    message: {{ .field }} may have no keys of {{ .reserved | splitList "|" | join ", " }}, which the operator and KubeRay set
  - rule: >-
      self.all(key, key.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))
    message: >-
      keys of {{ .field }} must be [domain/]name: a name of at most 63 letters, digits and - _ . inside, a domain in
      lower case
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

{{- define "modelset-operator.crd.isReference" -}}
self.matches('^(([A-Za-z0-9_][A-Za-z0-9_.:-]*/)?[A-Za-z0-9_][A-Za-z0-9_-]*/)?[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$')
{{- end -}}

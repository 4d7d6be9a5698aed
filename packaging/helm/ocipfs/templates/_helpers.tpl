{{- define "ocipfs.name" -}}
{{- if contains "ocipfs" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-ocipfs" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "ocipfs.selector" -}}
app.kubernetes.io/name: ocipfs
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "ocipfs.labels" -}}
{{ include "ocipfs.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/*
Settings as TOML: a dictionary of `in`, as values have it, and `out`, which is filled. Numbers of values are floats, which TOML would
have as 1e+06, and the program refuses.
*/}}
{{- define "ocipfs.whole" -}}
{{- range $key, $value := .in }}
{{- if kindIs "map" $value }}
{{- $below := dict }}
{{- include "ocipfs.whole" (dict "in" $value "out" $below) }}
{{- $_ := set $.out $key $below }}
{{- else if kindIs "slice" $value }}
{{- $all := list }}
{{- range $value }}
{{- if include "ocipfs.isWhole" . }}
{{- $all = append $all (int64 .) }}
{{- else }}
{{- $all = append $all . }}
{{- end }}
{{- end }}
{{- $_ := set $.out $key $all }}
{{- else if include "ocipfs.isWhole" $value }}
{{- $_ := set $.out $key (int64 $value) }}
{{- else }}
{{- $_ := set $.out $key $value }}
{{- end }}
{{- end }}
{{- end }}

{{- define "ocipfs.isWhole" -}}
{{- if kindIs "float64" . }}{{ if eq (floor .) . }}true{{ end }}{{ end }}
{{- end }}

{{- define "ocipfs.settings" -}}
{{- $settings := dict }}
{{- include "ocipfs.whole" (dict "in" (default dict .Values.settings) "out" $settings) }}
{{- toToml $settings | trim }}
{{- end }}

{{/* The address of the seed: that of its pod behind the headless service, looked up at each dial. */}}
{{- define "ocipfs.seedAddress" -}}
/dns/{{ include "ocipfs.name" . }}-seed-0.{{ include "ocipfs.name" . }}-peers.{{ .Release.Namespace }}.svc/tcp/4001/p2p/$(SEED_PEER)
{{- end }}

{{/* The pod of a node or of the seed: a dictionary of the root context and `component`. */}}
{{- define "ocipfs.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $seed := eq .component "seed" -}}
metadata:
  labels:
    {{- include "ocipfs.selector" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    # Pods read settings at their start only, so they start again when these change.
    checksum/settings: {{ include "ocipfs.settings" $root | sha256sum }}
    {{- with $values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  automountServiceAccountToken: false
  # The variables of services (OCIPFS_PORT and the like) would be read as settings.
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- if and (not $seed) (eq $values.mode "daemonset") }}
    {{- toYaml $values.daemonsetSecurityContext | nindent 4 }}
    {{- else }}
    {{- toYaml $values.podSecurityContext | nindent 4 }}
    {{- end }}
  {{- if not $seed }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq $values.mode "statefulset" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "ocipfs.selector" $root | nindent 10 }}
          app.kubernetes.io/component: node
  {{- end }}
  {{- end }}
  containers:
    - name: ocipfs
      image: {{ printf "%s:%s" $values.image.repository (default $root.Chart.AppVersion $values.image.tag) | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args:
        {{- include "ocipfs.args" . | trim | nindent 8 }}
      env:
        - name: OCIPFS_DATA_DIR
          value: /var/lib/ocipfs
        {{- if $values.seed.enabled }}
        - name: SEED_PEER
          valueFrom:
            secretKeyRef: {name: {{ $values.swarm.existingSecret }}, key: seed.peer}
        - name: SEED_NAME
          valueFrom:
            secretKeyRef: {name: {{ $values.swarm.existingSecret }}, key: seed.name}
        {{- end }}
      ports:
        - name: registry
          containerPort: 5050
          {{- if and (not $seed) (eq $values.mode "daemonset") $values.daemonset.hostPort }}
          hostPort: {{ int64 $values.daemonset.hostPort }}
          hostIP: 127.0.0.1
          {{- end }}
        - name: swarm
          containerPort: 4001
        - name: admin
          containerPort: 5080
      # A large store may take minutes to open after a power failure.
      startupProbe:
        httpGet: {path: /startupz, port: admin}
        periodSeconds: 2
        failureThreshold: 300
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 1
      resources:
        {{- toYaml (ternary (default $values.resources $values.seed.resources) $values.resources $seed) | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: data
          mountPath: /var/lib/ocipfs
        {{- if $seed }}
        - name: swarm
          mountPath: /var/lib/ocipfs/identity.key
          subPath: seed.key
          readOnly: true
        {{- end }}
        {{- if $values.swarm.existingSecret }}
        - name: swarm
          mountPath: /etc/ocipfs/swarm
          readOnly: true
        {{- end }}
        {{- if $values.settings }}
        - name: settings
          mountPath: /etc/ocipfs/settings
          readOnly: true
        {{- end }}
        {{- if $values.auth.existingSecret }}
        - name: users
          mountPath: /etc/ocipfs/users
          readOnly: true
        {{- end }}
        {{- if $values.tls.existingSecret }}
        - name: tls
          mountPath: /etc/ocipfs/tls
          readOnly: true
        {{- end }}
  volumes:
    {{- if and (not $seed) (eq $values.mode "daemonset") }}
    - name: data
      hostPath:
        path: {{ $values.daemonset.hostPath }}
        type: DirectoryOrCreate
    {{- end }}
    {{- if $values.swarm.existingSecret }}
    - name: swarm
      secret:
        secretName: {{ $values.swarm.existingSecret }}
        defaultMode: 0400
        items:
          - {key: swarm.key, path: swarm.key}
          {{- if $seed }}
          - {key: seed.key, path: seed.key}
          {{- end }}
    {{- end }}
    {{- if $values.settings }}
    - name: settings
      configMap:
        name: {{ include "ocipfs.name" $root }}
    {{- end }}
    {{- if $values.auth.existingSecret }}
    - name: users
      secret:
        secretName: {{ $values.auth.existingSecret }}
        defaultMode: 0400
    {{- end }}
    {{- if $values.tls.existingSecret }}
    - name: tls
      secret:
        secretName: {{ $values.tls.existingSecret }}
        defaultMode: 0400
    {{- end }}
{{- end }}

{{- define "ocipfs.args" -}}
{{- $values := .root.Values -}}
{{- if $values.settings }}
- --config=/etc/ocipfs/settings/config.toml
{{- end }}
- serve
- --listen=:5050
- --admin-listen=:5080
{{- if $values.swarm.existingSecret }}
- --swarm-key=/etc/ocipfs/swarm/swarm.key
- --allow-dns
{{- end }}
{{- if and $values.seed.enabled (ne .component "seed") }}
- --peer={{ include "ocipfs.seedAddress" .root }}
- --follow=$(SEED_NAME)
{{- end }}
{{- range $values.swarm.peers }}
- --peer={{ . }}
{{- end }}
{{- range $values.swarm.follow }}
- --follow={{ . }}
{{- end }}
- --prefetch={{ $values.swarm.prefetch }}
- --pull={{ $values.auth.pull }}
{{- if $values.auth.existingSecret }}
- --htpasswd=/etc/ocipfs/users/htpasswd
{{- end }}
{{- if $values.tls.existingSecret }}
- --tls-cert=/etc/ocipfs/tls/tls.crt
- --tls-key=/etc/ocipfs/tls/tls.key
{{- end }}
{{- range $values.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "ocipfs.claim" -}}
- metadata:
    name: data
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .className }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .size }}
{{- end }}

{{- /*
What the operator may do in the namespaces it works in: one list for the ClusterRole and for the Roles, no verb that it does not use.
RBAC lets nobody hand out what they do not have, so what it gives the API (reading ConfigMaps) is in here too.
*/ -}}
{{- define "tenantry.operatorRules" -}}
# The wishes are a person's: read, and told how they fare.
- apiGroups: [tenantry.dev]
  resources: [platforms, tenants]
  verbs: [get, list, watch]
- apiGroups: [tenantry.dev]
  resources: [rolebindings, paymentproviders, ratelimitpolicies]
  verbs: [list, watch]
- apiGroups: [tenantry.dev]
  resources: [platforms/status, tenants/status, rolebindings/status, paymentproviders/status, ratelimitpolicies/status]
  verbs: [patch]
# A Tenant's finalizer lives in its metadata.
- apiGroups: [tenantry.dev]
  resources: [tenants]
  verbs: [patch]
# The tenants' documents.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
# Credentials to seal; keys that are made once, never overwritten, and deleted when they verify nothing any more; passwords
# of managed PostgreSQL and Redis, replaced by a rotation.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, delete]
# What a Platform runs on, collected with it. Which colour takes the requests is read before each decision.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch]
# The Deployment without a colour, of version 0.1.0, is deleted.
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
# A command to a rollout is an annotation, which is removed when it was carried out.
- apiGroups: [tenantry.dev]
  resources: [platforms]
  verbs: [patch]
# Managed PostgreSQL and Redis: a pod each, its volume when that is to grow, backups.
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, patch]
- apiGroups: [batch]
  resources: [cronjobs]
  verbs: [list, watch, create, patch, delete]
# The same by CloudNativePG, where that is installed.
- apiGroups: [postgresql.cnpg.io]
  resources: [clusters]
  verbs: [get, create, patch]
- apiGroups: [postgresql.cnpg.io]
  resources: [databases, databaseroles]
  verbs: [create, patch, delete]
- apiGroups: [postgresql.cnpg.io]
  resources: [scheduledbackups]
  verbs: [create, patch, delete]
- apiGroups: [barmancloud.cnpg.io]
  resources: [objectstores]
  verbs: [create, patch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [list, watch, create, patch]
# Comes and goes with spec.ingress.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [list, watch, create, patch, delete]
# Come and go with spec.autoscaling, spec.gateway and spec.observability.serviceMonitor; the kinds of other projects are used where they are installed.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [podmonitors]
  verbs: [list, watch, create, patch, delete]
# Migrations, and the removal of a tenant's data.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
# Who is to be asked which revision is served.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

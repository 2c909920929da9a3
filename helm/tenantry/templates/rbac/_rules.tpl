{{- /*
What the operator may do in the namespaces it works in: one list for the ClusterRole and for the Roles.
It reads the Secrets that PaymentProviders and Platforms name and writes the ones it makes itself; it never lists core RBAC.
*/ -}}
{{- define "tenantry.operatorRules" -}}
# The wishes: read, with their status and finalizers written; never created or deleted by the operator.
- apiGroups: [tenantry.dev]
  resources: [platforms, tenants, rolebindings, paymentproviders, ratelimitpolicies]
  verbs: [get, list, watch]
- apiGroups: [tenantry.dev]
  resources: [platforms/status, tenants/status, rolebindings/status, paymentproviders/status, ratelimitpolicies/status]
  verbs: [get, patch]
# The finalizer of a Tenant lives in its metadata.
- apiGroups: [tenantry.dev]
  resources: [tenants]
  verbs: [patch]
# Owner references that block deletion need this where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [tenantry.dev]
  resources: [platforms/finalizers, tenants/finalizers]
  verbs: [update]
# Tenants' documents; credentials to seal, and the keys the operator makes.
- apiGroups: [""]
  resources: [configmaps, secrets]
  verbs: [get, list, watch, create, patch, delete]
# What a Platform runs on.
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# Replicas are asked which revision they serve.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end -}}

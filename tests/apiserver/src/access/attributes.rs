//! What a request wants to do, read from its path alone: whether somebody may is decided before it is known whether the kind exists.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>

use axum::http::Method;

use super::User;
use crate::status::Status;

/// One question to the authorizer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub verb: String,
    pub group: String,
    /// Empty for a path that is no resource.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub path: String,
}

impl Attributes {
    /// `watch` and `field_selector` are the query's.
    pub fn of(method: &Method, path: &[&str], watch: bool, field_selector: &str) -> Self {
        let (group, rest) = match path {
            ["api", _version, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
            _ => {
                let (verb, path) = (method.as_str().to_lowercase(), format!("/{}", path.join("/")));
                return Self { verb, path, ..Self::default() };
            }
        };
        // A namespace is a resource in itself: in the eyes of RBAC it lies in itself.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, "status" | "finalize", ..] => (*namespace, rest),
            ["namespaces", namespace, inner @ ..] if !inner.is_empty() => (*namespace, inner),
            ["namespaces", namespace] => (*namespace, rest),
            _ => ("", rest),
        };
        let part = |index: usize| rest.get(index).copied().unwrap_or_default().to_owned();
        let mut name = part(1);
        let verb = match (method.as_str(), name.is_empty()) {
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", true) => "deletecollection",
            ("DELETE", false) => "delete",
            (_, false) => "get",
            (_, true) if watch => "watch",
            (_, true) => "list",
        };
        // A list that asks for one name may be allowed for that name only.
        if matches!(verb, "list" | "watch" | "deletecollection") {
            let named =
                |part: &str| part.strip_prefix("metadata.name=").map(|name| name.trim_start_matches('=').to_owned());
            name = field_selector.split(',').find_map(named).unwrap_or_default();
        }
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: part(0),
            subresource: part(2),
            namespace: namespace.to_owned(),
            name,
            path: String::new(),
        }
    }

    pub fn resource(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            ..Self::default()
        }
    }

    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// `pods` or `pods/log`.
    pub fn combined(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// 403, as kube-apiserver words it.
    pub fn refused(&self, user: &User, why: &str) -> Status {
        let Self { verb, group, namespace, path, .. } = self;
        let mut message = if self.is_resource() {
            let place = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let resource = self.combined();
            format!("User {:?} cannot {verb} resource {resource:?} in API group {group:?} {place}", user.name)
        } else {
            format!("User {:?} cannot {verb} path {path:?}", user.name)
        };
        if !why.is_empty() {
            message = format!("{message}: {why}");
        }
        Status::forbidden(group, &self.resource, &self.name, &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, path: &str, watch: bool, fields: &str) -> String {
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let asked = Attributes::of(method, &path, watch, fields);
        let resource = asked.combined();
        format!("{} {}|{resource} {}|{}{}", asked.verb, asked.group, asked.namespace, asked.name, asked.path)
    }

    #[test]
    fn verbs_names_and_subresources_are_read_from_the_path() {
        assert_eq!(of(&Method::GET, "/api/v1/namespaces/a/pods/p/log", false, ""), "get |pods/log a|p");
        assert_eq!(of(&Method::GET, "/api/v1/pods", true, ""), "watch |pods |");
        assert_eq!(of(&Method::GET, "/api/v1/namespaces/a/pods", false, "metadata.name=p"), "list |pods a|p");
        assert_eq!(
            of(&Method::DELETE, "/apis/apps/v1/namespaces/a/deployments", false, ""),
            "deletecollection apps|deployments a|"
        );
        assert_eq!(of(&Method::GET, "/api/v1/namespaces/a", false, ""), "get |namespaces a|a");
        assert_eq!(of(&Method::PUT, "/api/v1/namespaces/a/finalize", false, ""), "update |namespaces/finalize a|a");
        assert_eq!(of(&Method::GET, "/apis/apps/v1", false, ""), "get | |/apis/apps/v1");
    }
}

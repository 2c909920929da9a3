//! From headers to a user: bearer token, then impersonation.
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>

use std::sync::Arc;

use axum::http::{HeaderMap, header};

use super::{AUTHENTICATED, Attributes, SERVICE_ACCOUNT, User};
use crate::{
    api::Api,
    status::{Result, Status},
};

const EXTRA: &str = "impersonate-extra-";

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Api {
    /// Who asks. Whoever shows no token is anonymous; whoever shows a wrong one is nobody.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<User>> {
        let stated = text(headers, header::AUTHORIZATION.as_str());
        let user = match stated.split_once(' ') {
            None => User::anonymous(),
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                self.tokens.verify(self, token.trim()).ok_or_else(Status::unauthorized)?
            }
            Some(_) => return Err(Status::unauthorized()),
        };
        self.impersonate(Arc::new(user), headers)
    }

    fn impersonate(&self, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>> {
        let wanted = text(headers, "impersonate-user");
        let mut groups: Vec<String> = headers
            .get_all("impersonate-group")
            .iter()
            .filter_map(|group| group.to_str().ok())
            .map(str::to_owned)
            .collect();
        let uid = text(headers, "impersonate-uid");
        if wanted.is_empty() {
            let others =
                !groups.is_empty() || !uid.is_empty() || headers.keys().any(|key| key.as_str().starts_with(EXTRA));
            if others {
                return Err(Status::internal("requested impersonation without impersonating a user"));
            }
            return Ok(user);
        }
        let may = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let mut asked = Attributes::resource("impersonate", group, resource, namespace, name);
            subresource.clone_into(&mut asked.subresource);
            self.authorize(&user, &asked)
        };
        match wanted.strip_prefix(SERVICE_ACCOUNT).and_then(|account| account.split_once(':')) {
            Some((namespace, name)) => {
                may("", "serviceaccounts", "", namespace, name)?;
                if groups.is_empty() {
                    groups = User::service_account(namespace, name).groups;
                }
            }
            None => may("", "users", "", "", wanted)?,
        }
        for group in
            groups.iter().filter(|group| *group != AUTHENTICATED && !group.starts_with("system:serviceaccounts"))
        {
            may("", "groups", "", "", group)?;
        }
        let mut other = User { name: wanted.to_owned(), uid: uid.to_owned(), groups, ..User::default() };
        if !uid.is_empty() {
            may("authentication.k8s.io", "uids", "", "", uid)?;
        }
        for (key, value) in headers {
            let Some(key) = key.as_str().strip_prefix(EXTRA) else { continue };
            let value = value.to_str().unwrap_or_default();
            may("authentication.k8s.io", "userextras", key, "", value)?;
            other.extra.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        if wanted != "system:anonymous" && !other.groups.iter().any(|group| group == AUTHENTICATED) {
            other.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(Arc::new(other))
    }
}

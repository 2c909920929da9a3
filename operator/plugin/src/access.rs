//! Who somebody is in a tenant, and which bindings count for them: the API's question, asked of the document that it
//! serves from. Bindings, roles and conditions mean what `contract` says they mean.

use std::{collections::HashMap, fmt::Write};

use anyhow::{Context, Result};
use contract::{
    RoleName, TenantConfig,
    access::{self, Binding, Permission, Subject, SubjectKind},
    condition::{Auth, Condition, Facts, Request},
};
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::Asker;

/// One who asks, with the request where one is told of.
#[derive(Debug, Clone)]
pub struct Person {
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub api_key: Option<String>,
    pub role: RoleName,
    pub request: Option<Told>,
}

/// A request as it was described.
#[derive(Debug, Clone)]
pub struct Told {
    pub method: String,
    pub path: String,
    ip: Option<std::net::IpAddr>,
    headers: Vec<(String, String)>,
}

/// A binding that names the person, and whether it counts.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// The RoleBinding.
    pub binding: String,
    pub role: RoleName,
    pub permissions: Vec<String>,
    /// As whom the person is meant.
    pub subject: String,
    pub counts: bool,
    /// Why it does not count, or on what that depends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    #[serde(skip)]
    rights: Vec<Permission>,
    #[serde(skip)]
    pub depends: bool,
}

impl Person {
    pub fn new(user: Option<&str>, asker: &Asker) -> Result<Self> {
        let role = RoleName::parse(&asker.role).with_context(|| format!("--role {:?}", asker.role))?;
        let headers = asker.headers.iter().map(|header| {
            let (name, value) =
                header.split_once('=').with_context(|| format!("--header {header:?}: write NAME=VALUE"))?;
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        });
        let headers = headers.collect::<Result<Vec<_>>>()?;
        let request = asker.path.as_ref().map(|path| Told {
            method: asker.method.to_ascii_uppercase(),
            path: path.clone(),
            ip: asker.ip,
            headers,
        });
        Ok(Self {
            user: user.map(str::to_lowercase),
            groups: asker.groups.clone(),
            api_key: asker.api_key.clone(),
            role,
            request,
        })
    }

    pub fn signed_in(&self) -> bool {
        self.user.is_some() || self.api_key.is_some() || !self.groups.is_empty()
    }

    /// What the person's own role allows, without any binding.
    pub fn own(&self) -> Vec<Permission> {
        if self.signed_in() { access::built_in(&self.role).unwrap_or_default() } else { Vec::new() }
    }

    /// As whom a binding means this person.
    pub fn meant_by<'s>(&self, subjects: &'s [Subject]) -> Option<&'s Subject> {
        subjects.iter().find(|subject| {
            let name = subject.compared();
            match subject.kind {
                SubjectKind::User => self.user.as_deref() == Some(&*name),
                SubjectKind::Group => self.groups.iter().any(|group| *group == *name),
                SubjectKind::ApiKey => self.api_key.as_deref() == Some(&*name),
            }
        })
    }

    /// The bindings that name the person. As in the API, a condition sees the roles of the bindings without one.
    pub fn bindings(&self, config: &TenantConfig, now: Timestamp) -> Vec<Held> {
        let named: Vec<_> =
            config.bindings.iter().filter_map(|binding| Some((binding, self.meant_by(&binding.subjects)?))).collect();
        let certain = named.iter().filter(|(binding, _)| binding.when.is_none() && binding.lasts(now));
        let roles = self.roles(certain.map(|(binding, _)| &binding.role));
        let facts = self.facts(&roles);
        named.into_iter().map(|(binding, subject)| held(binding, subject, facts.as_ref(), now)).collect()
    }

    /// The own role, then those of bindings, each once.
    pub fn roles<'r>(&self, bound: impl Iterator<Item = &'r RoleName>) -> Vec<RoleName> {
        let mut roles = if self.signed_in() { vec![self.role.clone()] } else { Vec::new() };
        for role in bound {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        roles
    }

    /// What conditions may speak of; `None` where no request was told of.
    pub fn facts(&self, roles: &[RoleName]) -> Option<Facts> {
        let Told { method, path, ip, headers } = self.request.as_ref()?;
        let headers: HashMap<_, _> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let auth = Auth {
            user_id: self.user.clone().filter(|user| !user.contains('@')).unwrap_or_default(),
            email: self.user.clone().filter(|user| user.contains('@')).unwrap_or_default(),
            roles: roles.iter().map(ToString::to_string).collect(),
        };
        let host = headers.get("host").copied().unwrap_or_default();
        let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
        Some(Facts::new(Request { method, path, host, ip, headers }, &auth))
    }
}

fn held(binding: &Binding, subject: &Subject, facts: Option<&Facts>, now: Timestamp) -> Held {
    let (counts, depends, why) = match (&binding.when, binding.expires_at) {
        (_, Some(end)) if !binding.lasts(now) => (false, false, Some(format!("expired at {end}"))),
        (None, None) => (true, false, None),
        (None, Some(end)) => (true, false, Some(format!("until {end}"))),
        (Some(when), _) => match facts.map(|facts| Condition::compile(when).holds(facts)) {
            None => (false, true, Some(format!("only where {when}"))),
            Some(Some(true)) => (true, false, Some(format!("here holds: {when}"))),
            Some(Some(false)) => (false, false, Some(format!("here does not hold: {when}"))),
            Some(None) => (false, false, Some(format!("cannot be evaluated for this request: {when}"))),
        },
    };
    Held {
        binding: binding.name.clone(),
        role: binding.role.clone(),
        permissions: binding.permissions.iter().map(ToString::to_string).collect(),
        subject: format!("{:?} {}", subject.kind, subject.name),
        counts,
        why,
        rights: binding.permissions.clone(),
        depends,
    }
}

impl Held {
    pub fn allows(&self, resource: &str, verb: &str) -> bool {
        self.rights.iter().any(|permission| permission.allows(resource, verb))
    }

    /// One line on it, without its permissions.
    pub fn line(&self) -> String {
        let mut line = format!("RoleBinding {} ({})", self.binding, self.subject);
        if let Some(why) = &self.why {
            let _ = write!(line, "; {why}");
        }
        line
    }
}

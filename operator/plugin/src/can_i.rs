//! May this person do that: the answer, and the binding that gives it.

use anyhow::{Context, Result};
use contract::{TenantConfig, access::Permission, tenant::TenantState};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    Outcome,
    access::{Held, Person},
    cli,
    connect::Connection,
    live,
    output::{Output, Paint, Shown, table, wrapped},
};

pub async fn run(connection: &Connection, asked: &cli::CanI, out: Output) -> Result<Outcome> {
    let person = Person::new(asked.as_user.as_deref(), &asked.asker)?;
    anyhow::ensure!(person.signed_in(), "say who asks: --as-user alice@acme.example (or --groups, --api-key)");
    let tenant = connection.tenant(&asked.tenant).await?;
    let served = live::served(connection, tenant).await?;
    let now = connection.now;
    if asked.list {
        out.print(&list(&served.config, &person, now))?;
        return Ok(Outcome::Good);
    }
    let (verb, resource) = (asked.verb.as_deref().unwrap_or_default(), asked.resource.as_deref().unwrap_or_default());
    // The same check that a RoleBinding's rules go through.
    Permission::new(resource, verb).context("write for example: can-i read payments")?;
    let answer = answer(&served.config, &person, verb, resource, now);
    out.print(&answer)?;
    Ok(if answer.allowed { Outcome::Good } else { Outcome::No })
}

/// Yes or no, and why.
#[derive(Debug, Clone, Serialize)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
    /// Bindings that would allow it and do not count, or only sometimes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub but: Vec<String>,
}

pub fn answer(config: &TenantConfig, person: &Person, verb: &str, resource: &str, now: Timestamp) -> Answer {
    let bindings = person.bindings(config, now);
    let giving: Vec<_> = bindings.iter().filter(|held| held.allows(resource, verb)).collect();
    let but: Vec<_> = giving.iter().filter(|held| !held.counts).map(|held| held.line()).collect();
    if config.state == TenantState::Suspended {
        let reason = format!("Tenant {} is suspended: every request is refused", config.name);
        return Answer { allowed: false, reason, but };
    }
    if let Some(held) = giving.iter().find(|held| held.counts) {
        return Answer { allowed: true, reason: format!("{} gives the role {}", held.line(), held.role), but };
    }
    if person.own().iter().any(|permission| permission.allows(resource, verb)) {
        let reason = format!("the person's own role {} has it (--role)", person.role);
        return Answer { allowed: true, reason, but };
    }
    let reason = match bindings.iter().filter(|held| held.counts).map(|held| held.role.to_string()).collect::<Vec<_>>()
    {
        roles if roles.is_empty() => {
            format!("no RoleBinding counts, and the role {} has no {resource}:{verb}", person.role)
        }
        roles => format!("neither the role {} nor {} has {resource}:{verb}", person.role, roles.join(", ")),
    };
    Answer { allowed: false, reason, but }
}

impl Shown for Answer {
    fn human(&self, paint: Paint) -> String {
        let word = if self.allowed { paint.good("yes") } else { paint.bad("no") };
        let mut text = format!("{word} - {}\n", self.reason);
        for line in &self.but {
            text += &wrapped(&format!("but: {line}"), 2);
        }
        text
    }
}

/// Everything that may be done.
#[derive(Debug, Clone, Serialize)]
pub struct Listed {
    pub permissions: Vec<Entry>,
    /// Bindings that name the person and do not count, or only sometimes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_counting: Vec<Held>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub permission: String,
    pub from: String,
}

pub fn list(config: &TenantConfig, person: &Person, now: Timestamp) -> Listed {
    let (counting, not_counting): (Vec<_>, Vec<_>) =
        person.bindings(config, now).into_iter().partition(|held| held.counts);
    let own = person
        .own()
        .into_iter()
        .map(|permission| Entry { permission: permission.to_string(), from: format!("own role {}", person.role) });
    let bound = counting.iter().flat_map(|held| {
        held.permissions.iter().map(move |permission| Entry {
            permission: permission.clone(),
            from: format!("RoleBinding {} (role {})", held.binding, held.role),
        })
    });
    let mut permissions: Vec<_> = own.chain(bound).collect();
    permissions.sort_by(|a, b| (&a.permission, &a.from).cmp(&(&b.permission, &b.from)));
    Listed { permissions, not_counting }
}

impl Shown for Listed {
    fn human(&self, paint: Paint) -> String {
        let rows: Vec<_> =
            self.permissions.iter().map(|entry| vec![entry.permission.clone(), entry.from.clone()]).collect();
        let mut text = if rows.is_empty() {
            "nothing but what everybody may who is signed in: one's own profile, payments and sessions\n".to_owned()
        } else {
            table(&["PERMISSION", "FROM"], &rows, 0)
        };
        for held in &self.not_counting {
            text += &paint.dim(wrapped(&format!("not counted: {}", held.line()), 0));
        }
        text
    }
}

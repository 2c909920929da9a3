//! RoleBindings → [`Binding`]s. Access is the one part that never falls back on an older state: a binding that cannot be
//! followed as it is written now gives nothing, because what it gave before may be what was to be taken away.

use std::collections::BTreeSet;

use contract::{
    RoleName,
    access::{BUILT_IN_ROLES, Binding, Permission, Subject, built_in},
};
use crds::{
    RoleBinding,
    conditions::reasons::INVALID,
    role_binding::{PolicyRule, RoleBindingSpec},
};
use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    expression,
    problem::{Checked, Problem, keep},
    verdict::Part,
};

/// What a binding's `when` may speak of.
const VARIABLES: &[&str] = &["request"];

/// Renders the bindings that are in force at `now`.
pub fn bindings<'a>(objects: impl IntoIterator<Item = &'a RoleBinding>, now: Timestamp) -> Part<Binding> {
    let mut part = Part::default();
    for object in objects {
        match binding(object) {
            Ok(entry) => part.add(object, (!expired(&object.spec, now)).then_some(entry), Vec::new()),
            Err(problems) => part.add(object, None, problems),
        };
    }
    part
}

/// Whether the binding's time is over.
pub fn expired(spec: &RoleBindingSpec, now: Timestamp) -> bool {
    spec.expires_at.as_ref().is_some_and(|at| at.0 <= now)
}

fn binding(object: &RoleBinding) -> Checked<Binding> {
    let RoleBindingSpec { tenant_ref: _, role_ref, rules, subjects, expires_at, when } = &object.spec;
    let mut problems = Vec::new();
    let role = RoleName::parse(&role_ref.name)
        .map_err(|error| [Problem::refused(INVALID, format!("spec.roleRef.name: {error}"))]);
    let role = keep(role, &mut problems);
    let permissions = role.as_ref().and_then(|role| keep(permissions(role, rules), &mut problems));
    if let Some(when) = when {
        keep(expression::check("spec.when", when, VARIABLES).map_err(|problem| [problem]), &mut problems);
    }
    match (role, permissions) {
        (Some(role), Some(permissions)) if problems.is_empty() => Ok(Binding {
            name: object.name_any(),
            role,
            permissions,
            subjects: subjects.iter().map(subject).collect(),
            expires_at: expires_at.as_ref().map(|at| at.0),
            when: when.clone(),
        }),
        _ => Err(problems),
    }
}

fn permissions(role: &RoleName, rules: &[PolicyRule]) -> Checked<Vec<Permission>> {
    match (built_in(role), rules) {
        (Some(permissions), []) => Ok(permissions),
        (Some(_), _) => Err(vec![Problem::refused(
            INVALID,
            format!(
                "spec.rules cannot be given for the built-in role {role}: leave them out, or choose another roleRef.name"
            ),
        )]),
        (None, []) => {
            let names: Vec<_> = BUILT_IN_ROLES.iter().map(|(name, _)| *name).collect();
            let message = format!(
                "spec.roleRef.name: {role} is none of the built-in roles ({}): give spec.rules that say what it may do",
                names.join(", ")
            );
            Err(vec![Problem::refused(INVALID, message)])
        }
        (None, rules) => {
            let mut problems = Vec::new();
            let pairs = rules.iter().flat_map(|rule| {
                rule.resources.iter().flat_map(|resource| rule.verbs.iter().map(move |verb| (resource, verb)))
            });
            let permissions: BTreeSet<_> = pairs
                .filter_map(|(resource, verb)| {
                    let permission = Permission::new(resource, verb);
                    keep(
                        permission.map_err(|error| [Problem::refused(INVALID, format!("spec.rules: {error}"))]),
                        &mut problems,
                    )
                })
                .collect();
            if problems.is_empty() { Ok(permissions.into_iter().collect()) } else { Err(problems) }
        }
    }
}

/// As it is compared, so that equal bindings give equal documents.
fn subject(subject: &crds::role_binding::Subject) -> Subject {
    let mut subject = Subject { kind: subject.kind, name: subject.name.clone() };
    subject.name = subject.compared().into_owned();
    subject
}

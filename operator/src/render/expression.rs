//! CEL expressions in a spec: refused where they are written and not when a request meets them.

use cel::Program;
use crds::conditions::reasons::INVALID;

use super::problem::Problem;

/// Checks that `source` parses and speaks only of `variables`. `field` is the path that the message names.
pub fn check(field: &str, source: &str, variables: &[&str]) -> Result<(), Problem> {
    let refuse = |why: String| Problem::refused(INVALID, format!("{field}: {source:?} {why}"));
    let program = Program::compile(source).map_err(|errors| {
        let why = errors
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {}", error.msg));
        refuse(format!("is not a CEL expression{why}"))
    })?;
    let references = program.references();
    let mut unknown: Vec<_> = references
        .variables()
        .into_iter()
        .filter(|name| !variables.contains(name))
        .collect();
    unknown.sort_unstable();
    match unknown.first() {
        None => Ok(()),
        Some(name) => Err(refuse(format!(
            "speaks of {name:?}, and only {} is known here",
            variables.join(" and ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_checked_for_form_and_for_what_it_speaks_of() {
        let check = |source: &str| check("when[0].predicate", source, &["request", "auth"]);
        assert_eq!(check("request.method == 'GET' && !('ADMIN' in auth.roles)"), Ok(()));
        assert_eq!(check("auth.roles.exists(role, role == 'ADMIN')"), Ok(()));
        let message = |source: &str| check(source).unwrap_err().message;
        assert!(message("request.method ==").starts_with("when[0].predicate: \"request.method ==\" is not a CEL"));
        assert!(message("user.name == 'a'").ends_with("speaks of \"user\", and only request and auth is known here"));
        assert!(message(&"(".repeat(4096)).contains("not a CEL expression"));
        assert!(check("").is_err());
    }
}

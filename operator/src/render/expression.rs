//! CEL expressions in a spec: refused where they are written and not when a request meets them.

use cel::{
    Program,
    common::ast::{EntryExpr, Expr, IdedExpr},
};
use contract::{
    condition::{Auth, Condition, Facts, Request},
    expression::check_shape,
};
use crds::conditions::reasons::INVALID;

use super::problem::Problem;

/// What `contract::condition` tells an expression of each variable. Another field has no value, so that a misspelt one
/// would be a condition that silently never holds.
const FIELDS: [(&str, &[&str]); 2] =
    [("request", &["method", "path", "host", "ip", "headers"]), ("auth", &["userId", "email", "roles"])];

/// Checks that `source` parses, speaks only of `variables` and their fields, and comes to true or false. `field` is the
/// path that the message names.
pub fn check(field: &str, source: &str, variables: &[&str]) -> Result<(), Problem> {
    let refuse = |why: String| Problem::refused(INVALID, format!("{field}: {source:?} {why}"));
    check_shape(source).map_err(|error| refuse(error.to_string()))?;
    let program = Program::compile(source).map_err(|errors| {
        let why = errors.errors.first().map_or_else(String::new, |error| format!(": {}", error.msg));
        refuse(format!("is not a CEL expression{why}"))
    })?;
    if let Some(why) = unknown(program.expression(), variables) {
        return Err(refuse(why));
    }
    let facts = Facts::new(Request::default(), &Auth::default());
    match Condition::compile(source).other_than_bool(&facts) {
        Some(found) => Err(refuse(format!("is neither true nor false, it is a value of type {found}: compare it"))),
        None => Ok(()),
    }
}

/// What is wrong with the first name that is none of `known`, nor bound by a macro such as `exists` around it, or with
/// the first field that its variable does not have. (`Program::references` takes what a macro binds for a variable.)
fn unknown(expression: &IdedExpr, known: &[&str]) -> Option<String> {
    let entry = |entry: &EntryExpr| match entry {
        EntryExpr::StructField(field) => unknown(&field.value, known),
        EntryExpr::MapEntry(pair) => unknown(&pair.key, known).or_else(|| unknown(&pair.value, known)),
    };
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) => None,
        Expr::Ident(name) if known.contains(&name.as_str()) => None,
        Expr::Ident(name) => Some(format!("speaks of {name:?}, and only {} is known here", known.join(" and "))),
        Expr::Select(select) => unknown(&select.operand, known).or_else(|| {
            let Expr::Ident(variable) = &select.operand.expr else { return None };
            let (_, fields) = FIELDS.iter().find(|(name, _)| name == variable)?;
            let spoken = format!("{variable}.{}", select.field);
            (!fields.contains(&select.field.as_str()))
                .then(|| format!("speaks of {spoken:?}, and {variable} has only {}", fields.join(", ")))
        }),
        Expr::List(list) => list.elements.iter().find_map(|element| unknown(element, known)),
        Expr::Map(map) => map.entries.iter().find_map(|ided| entry(&ided.expr)),
        Expr::Struct(made) => made.entries.iter().find_map(|ided| entry(&ided.expr)),
        Expr::Call(call) => {
            let target = call.target.as_deref();
            target.into_iter().chain(&call.args).find_map(|part| unknown(part, known))
        }
        Expr::Comprehension(part) => {
            let mut inner = known.to_vec();
            inner.extend([part.iter_var.as_str(), part.accu_var.as_str()]);
            inner.extend(part.iter_var2.as_deref());
            let outside = [&part.iter_range, &part.accu_init].into_iter().find_map(|part| unknown(part, known));
            let inside = [&part.loop_cond, &part.loop_step, &part.result];
            outside.or_else(|| inside.into_iter().find_map(|part| unknown(part, &inner)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_checked_for_form_and_for_what_it_speaks_of() {
        let check = |source: &str| check("when[0].predicate", source, &["request", "auth"]);
        for (variable, fields) in FIELDS {
            // What is said to be there has a value.
            for field in fields {
                let facts = Facts::new(Request::default(), &Auth::default());
                assert!(
                    Condition::compile(&format!("{variable}.{field}")).other_than_bool(&facts).is_some(),
                    "{field}"
                );
            }
        }
        assert_eq!(check("request.method == 'GET' && !('ADMIN' in auth.roles)"), Ok(()));
        assert_eq!(check("auth.roles.exists(role, role == 'ADMIN')"), Ok(()));
        let message = |source: &str| check(source).unwrap_err().message;
        assert!(message("request.method ==").starts_with("when[0].predicate: \"request.method ==\" is not a CEL"));
        assert!(message("user.name == 'a'").ends_with("speaks of \"user\", and only request and auth is known here"));
        assert!(message("auth.roles.exists(role, role == other)").contains("speaks of \"other\""));
        assert!(message("auth.roles.exists(role, true) && role == 'ADMIN'").contains("speaks of \"role\""));
        assert!(
            message("request.foo == 1")
                .ends_with("\"request.foo\", and request has only method, path, host, ip, headers")
        );
        assert!(message("auth.roles == [] || auth.name == 'a'").contains("\"auth.name\", and auth has only userId"));
        assert!(message("1 + 1").ends_with("it is a value of type int: compare it"));
        assert!(message("request.method").ends_with("it is a value of type string: compare it"));
        for header in
            ["request.headers['x-device'] == 'a'", "request.headers.accept != ''", "has(request.headers.accept)"]
        {
            assert_eq!(check(header), Ok(()), "{header}");
        }
        // Parsing this would end the process.
        assert!(message(&"(".repeat(4096)).contains("is too intricate"));
        // And this is as far as it goes.
        for widest in ["a+".repeat(39) + "a", "(".repeat(8) + "a" + &")".repeat(8), "a?b:".repeat(8) + "c"] {
            assert!(message(&widest).contains("speaks of"), "{widest}");
        }
        assert!(check("").is_err());
    }
}

//! Whether a CEL rule speaks of fields that the schema has. The API server type-checks rules when a definition is created;
//! of that, this is the part people run into: a misspelt field, a field of a scalar, a name that nothing declares.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#field-paths>

use kube_cel::cel::{
    Program,
    common::ast::{EntryExpr, Expr, IdedExpr},
};
use serde_json::Value;

/// Names that are types or libraries, not variables.
const BUILT_IN: [&str; 22] = [
    "base64",
    "bool",
    "bytes",
    "cel",
    "cidr",
    "double",
    "dyn",
    "duration",
    "format",
    "int",
    "ip",
    "jsonpatch",
    "list",
    "map",
    "math",
    "null_type",
    "optional",
    "quantity",
    "sets",
    "string",
    "type",
    "uint",
];

/// What `rule`, written at a node with this schema, refers to in vain. A rule that does not parse has no answer here.
pub fn undefined(rule: &str, openapi: &Value, root: bool) -> Vec<String> {
    let Ok(program) = Program::compile(rule) else { return Vec::new() };
    let mut check = Check {
        scope: vec![("self".into(), Some(openapi)), ("oldSelf".into(), Some(openapi))],
        root: root.then_some(openapi),
        problems: Vec::new(),
    };
    check.of(program.expression());
    check.problems
}

struct Check<'s> {
    /// Variables, the innermost last, each with its schema where it is known.
    scope: Vec<(String, Option<&'s Value>)>,
    root: Option<&'s Value>,
    problems: Vec<String>,
}

impl<'s> Check<'s> {
    /// The schema of what an expression yields, where that can be told.
    fn of(&mut self, expression: &IdedExpr) -> Option<&'s Value> {
        match &expression.expr {
            Expr::Ident(name) => {
                let found = self.scope.iter().rev().find(|(known, _)| known == name);
                if found.is_none() && !BUILT_IN.contains(&name.as_str()) && !name.starts_with('@') {
                    self.problems.push(format!("undeclared reference to '{name}' (in container '')"));
                }
                found.and_then(|(_, schema)| *schema)
            }
            Expr::Select(select) => {
                let schema = self.of(&select.operand)?;
                self.field(schema, &select.field)
            }
            Expr::Call(call) => {
                let target = call.target.as_ref().and_then(|target| self.of(target));
                let arguments: Vec<_> = call.args.iter().map(|argument| self.of(argument)).collect();
                match call.func_name.as_str() {
                    "_[_]" => {
                        let list = target.or(*arguments.first()?)?;
                        [&list["items"], &list["additionalProperties"]].into_iter().find(|schema| schema.is_object())
                    }
                    "_?_:_" => *arguments.get(1)?,
                    _ => None,
                }
            }
            Expr::Comprehension(each) => {
                let range = self.of(&each.iter_range);
                self.of(&each.accu_init);
                let item = range.map(|range| &range["items"]).filter(|items| items.is_object());
                let depth = self.scope.len();
                self.scope.push((each.iter_var.clone(), item));
                if let Some(second) = &each.iter_var2 {
                    self.scope.push((second.clone(), None));
                }
                self.scope.push((each.accu_var.clone(), None));
                self.of(&each.loop_cond);
                self.of(&each.loop_step);
                self.of(&each.result);
                self.scope.truncate(depth);
                None
            }
            Expr::List(list) => {
                for element in &list.elements {
                    self.of(element);
                }
                None
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.of(&entry.key);
                        self.of(&entry.value);
                    }
                }
                None
            }
            Expr::Struct(_) | Expr::Literal(_) | Expr::Unspecified => None,
        }
    }

    fn field(&mut self, schema: &'s Value, name: &str) -> Option<&'s Value> {
        let open =
            schema["x-kubernetes-preserve-unknown-fields"] == true || schema["x-kubernetes-embedded-resource"] == true;
        let name = unescape(name);
        // Of an object itself a rule sees its type and its name only, whatever the schema says of metadata.
        if self.root.is_some_and(|root| std::ptr::eq(root, schema))
            && matches!(&*name, "apiVersion" | "kind" | "metadata")
        {
            return None;
        }
        if let Some(field) = schema["properties"].get(&name) {
            return Some(field);
        }
        match schema["type"].as_str() {
            Some("object") if schema["additionalProperties"].is_object() => Some(&schema["additionalProperties"]),
            Some("object") if !open => {
                self.problems.push(format!("undefined field '{name}'"));
                None
            }
            Some(scalar @ ("string" | "integer" | "number" | "boolean" | "array")) if schema["format"].is_null() => {
                self.problems.push(format!("type '{scalar}' does not support field selection"));
                None
            }
            _ => None,
        }
    }
}

/// `__namespace__` is the field `namespace`, `x__dash__y` is `x-y`.
fn unescape(name: &str) -> String {
    if let Some(word) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && !word.contains("__")
    {
        return word.to_owned();
    }
    name.replace("__dot__", ".").replace("__dash__", "-").replace("__slash__", "/").replace("__underscores__", "__")
}

//! What a rule may cost at most by the API server's own estimate, which refuses a definition with a rule over its limit.
//!
//! The figures are those of `cel-go/checker/cost.go` and of Kubernetes' additions to it: a step costs one, a character read
//! costs a tenth, a list costs its longest length times what is done with an item, a string without `maxLength` is as long
//! as a request may be. Only what our rules use is known here; anything else is a panic that says what to add.

use cel::{
    Program,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, operators},
};
use serde_json::{Value, json};

/// Of one rule, in all the places of one object where it is asked.
pub const RULE_LIMIT: u64 = 10_000_000;
/// Of all rules of a definition.
pub const DEFINITION_LIMIT: u64 = 100_000_000;

/// A request has at most 3 MiB, and a string in it two quotes.
const LONGEST_STRING: u64 = 3 * 1024 * 1024 - 2;
/// Kubernetes bounds strings by bytes: a character has up to four.
const BYTES: u64 = 4;

/// Of asking `rule` once of a value of this schema.
pub fn of(rule: &str, schema: &Value) -> u64 {
    let program = Program::compile(rule).unwrap();
    Estimate { rule, schema, items: Vec::new() }.cost(&program.expression().expr)
}

/// What an expression yields, as far as its size and the choice of an overload depend on it.
#[derive(Clone)]
enum Kind {
    /// A value of the object.
    Of(Value),
    /// A string of this length.
    Text(u64),
    /// A list that the rule itself writes.
    List(u64),
    /// Numbers, truth values, times and durations.
    Scalar,
}

struct Estimate<'a> {
    rule: &'a str,
    schema: &'a Value,
    /// The variables of the macros around, innermost last.
    items: Vec<(String, Value)>,
}

impl Estimate<'_> {
    fn cost(&mut self, expression: &Expr) -> u64 {
        match expression {
            Expr::Literal(_) => 0,
            Expr::Ident(_) => 1,
            // `has()` itself is free.
            Expr::Select(select) => self.cost(&select.operand.expr) + u64::from(!select.test),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => 10 + list.elements.iter().map(|element| self.cost(&element.expr)).sum::<u64>(),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            other => self.unknown(&format!("{other:?}")),
        }
    }

    fn call(&mut self, call: &CallExpr) -> u64 {
        let arguments: Vec<_> = call.args.iter().map(|argument| self.cost(&argument.expr)).collect();
        if call.func_name == operators::CONDITIONAL {
            let [condition, yes, no] = arguments[..] else { self.unknown(&call.func_name) };
            return condition + yes.max(no);
        }
        let target = call.target.as_ref().map(|target| self.cost(&target.expr));
        let parts = arguments.iter().sum::<u64>() + target.unwrap_or_default();
        // The sizes that a function's own cost depends on: of its target and its arguments.
        let operands =
            call.target.iter().map(|target| &target.expr).chain(call.args.iter().map(|argument| &argument.expr));
        let kinds: Vec<_> = operands.map(|operand| self.kind(operand)).collect();
        let sizes: Vec<_> = kinds.iter().map(size).collect();
        parts
            + match call.func_name.as_str() {
                operators::LOGICAL_AND | operators::LOGICAL_OR => 0,
                operators::EQUALS | operators::NOT_EQUALS => tenth(sizes[0].min(sizes[1])),
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS
                    if kinds.iter().any(is_text) =>
                {
                    tenth(sizes[0].min(sizes[1]))
                }
                "matches" => tenth(sizes[0] + 1) * sizes[1].div_ceil(4),
                "contains" => tenth(sizes[0]) * tenth(sizes[1]),
                "startsWith" | "endsWith" => tenth(sizes[1]),
                "isCIDR" | "quantity" | "lowerAscii" => tenth(sizes[0]),
                operators::IN => sizes[1],
                operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | operators::LOGICAL_NOT
                | operators::NOT_STRICTLY_FALSE
                | "compareTo"
                | "duration"
                | "size" => 1,
                operators::ADD if !kinds.iter().any(is_text) => 1,
                name => self.unknown(name),
            }
    }

    fn comprehension(&mut self, all: &ComprehensionExpr) -> u64 {
        let (range, start) = (self.cost(&all.iter_range.expr), self.cost(&all.accu_init.expr));
        let Kind::Of(list) = self.kind(&all.iter_range.expr) else { self.unknown("a macro of no list") };
        // A macro walks over the keys of a map.
        let item = list.get("items").cloned().unwrap_or_else(|| json!({ "type": "string" }));
        self.items.push((all.iter_var.clone(), item));
        let each = self.cost(&all.loop_cond.expr) + self.cost(&all.loop_step.expr);
        self.items.pop();
        range + start + size(&Kind::Of(list)) * each + self.cost(&all.result.expr)
    }

    fn kind(&self, expression: &Expr) -> Kind {
        match expression {
            Expr::Literal(LiteralValue::String(text)) => Kind::Text(text.inner().chars().count() as u64),
            Expr::List(list) => Kind::List(list.elements.len() as u64),
            Expr::Call(call) if call.func_name == "lowerAscii" => {
                Kind::Text(call.target.iter().map(|target| size(&self.kind(&target.expr))).sum())
            }
            Expr::Ident(name) if name == "self" || name == "oldSelf" => Kind::Of(self.schema.clone()),
            Expr::Ident(name) => match self.items.iter().rev().find(|(item, _)| item == name) {
                Some((_, schema)) => Kind::Of(schema.clone()),
                None => Kind::Scalar, // what a macro gathers
            },
            Expr::Select(select) if select.test => Kind::Scalar,
            Expr::Select(select) => {
                let Kind::Of(object) = self.kind(&select.operand.expr) else { self.unknown(&select.field) };
                match object["properties"].get(&select.field) {
                    Some(field) => Kind::Of(field.clone()),
                    // Of an object's metadata, rules see the names: strings without a bound.
                    None if select.field == "name" => Kind::Text(LONGEST_STRING),
                    None if select.field == "metadata" => Kind::Of(Value::Null),
                    None => self.unknown(&select.field),
                }
            }
            _ => Kind::Scalar,
        }
    }

    #[expect(clippy::panic, reason = "a wrong estimate would be worse than none")]
    fn unknown(&self, what: &str) -> ! {
        panic!("{}: how much {what} costs is not known here; see cel-go/checker/cost.go", self.rule)
    }
}

fn tenth(characters: u64) -> u64 {
    characters.div_ceil(10)
}

fn is_text(kind: &Kind) -> bool {
    match kind {
        Kind::Text(_) => true,
        Kind::Of(schema) => schema["type"] == "string" && schema["format"] != "date-time",
        Kind::List(_) | Kind::Scalar => false,
    }
}

fn size(kind: &Kind) -> u64 {
    let schema = match kind {
        Kind::Text(size) | Kind::List(size) => return *size,
        Kind::Scalar => return 1,
        Kind::Of(schema) => schema,
    };
    match schema["type"].as_str() {
        Some("string") if schema["format"] == "date-time" => 32,
        Some("string") => {
            let choices = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let longest = || choices.map(str::len).max().map_or(LONGEST_STRING, |length| length as u64);
            schema["maxLength"].as_u64().map_or_else(longest, |length| length * BYTES)
        }
        Some("array") => schema["maxItems"].as_u64().unwrap_or(LONGEST_STRING),
        Some("object") if schema["additionalProperties"].is_object() => {
            schema["maxProperties"].as_u64().unwrap_or(LONGEST_STRING)
        }
        // Kubernetes gives the size of a list or string only; objects and numbers are compared for nothing.
        _ => 0,
    }
}

/// What `ValidateCustomResourceDefinition` of Kubernetes 1.36.2 says of the same rules.
#[test]
fn the_estimate_is_that_of_the_api_server() {
    let text = |length: u64| json!({ "type": "string", "maxLength": length });
    let window = "self.matches('^([0-9]{1,5}(h|m|s)){1,4}$') && duration(self) >= duration('1s') && \
                  duration(self) <= duration('744h')";
    let rate = json!({ "type": "object", "properties": { "limit": { "type": "integer" } } });
    let limit = json!({ "type": "object", "properties": {
        "cost": { "type": "integer" }, "rates": { "type": "array", "maxItems": 8, "items": rate },
    }});
    let engine = json!({ "type": "object", "properties": { "engine": { "type": "string", "enum": ["Hpa", "Keda"] } } });
    let database = json!({ "type": "string", "enum": ["RowLevelSecurity", "Database"] });
    let cidrs = json!({ "type": "array", "maxItems": 64, "items": text(43) });
    for (schema, rule, cost) in [
        (json!({}), "self.metadata.name.size() <= 50", 5),
        (json!({}), "self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z][-a-z0-9]*$')", 1_572_873),
        (json!({}), "self.metadata.name.size() <= 50 && !self.metadata.name.contains('.')", 314_582),
        (cidrs, "self.all(range, isCIDR(range))", 1410),
        (text(16), "quantity(self).compareTo(quantity(oldSelf)) >= 0", 18),
        (text(24), window, 79),
        (limit, "self.rates.all(rate, rate.limit >= self.cost)", 67),
        (engine, "self.engine != 'Keda' || !has(self.prometheus) || has(self.prometheus)", 6),
        (database, "self == oldSelf || self == 'Database'", 6),
    ] {
        assert_eq!(of(rule, &schema), cost, "{rule}");
    }
}

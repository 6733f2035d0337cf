//! Small mistakes that whoever changes a rule could make.

use serde_json::Value;

use crate::promql::{self, Expr};

/// A changed rule.
pub(super) struct Mutant {
    /// The part as it was and as it is.
    pub(super) change: String,
    pub(super) rule: Value,
}

/// Every mutant of a rule whose expression is `expr`.
pub(super) fn of(rule: &Value, expr: &Expr) -> Vec<Mutant> {
    let mut mutants: Vec<Mutant> = of_expression(expr)
        .into_iter()
        .map(|(change, expr)| Mutant { change, rule: with(rule, "expr", Some(expr)) })
        .collect();
    let mut times = |key: &str, from: &str, to: Option<String>| {
        let change = format!("{key} {from} → {}", to.as_deref().unwrap_or("none"));
        mutants.push(Mutant { change, rule: with(rule, key, to) });
    };
    for key in ["for", "keep_firing_for"] {
        if let Some(time) = rule[key].as_str() {
            times(key, time, None);
            times(key, time, thrice(time));
        }
    }
    if rule["alert"].is_string() && rule["for"].is_null() {
        times("for", "none", Some("10m".to_owned()));
    }
    mutants
}

/// The rule with another value of a setting, or without it.
fn with(rule: &Value, key: &str, value: Option<String>) -> Value {
    let mut rule = rule.clone();
    if let Some(settings) = rule.as_object_mut() {
        match value {
            Some(value) => settings.insert(key.to_owned(), Value::String(value)),
            None => settings.remove(key),
        };
    }
    rule
}

/// `5m` → `15m`.
fn thrice(time: &str) -> Option<String> {
    let (number, unit) = time.split_at(time.find(|c: char| !c.is_ascii_digit())?);
    Some(format!("{}{unit}", 3 * number.parse::<u64>().ok()?))
}

/// Every expression with one part changed.
fn of_expression(expr: &Expr) -> Vec<(String, String)> {
    let mut parts = Vec::new();
    expr.clone().walk(&mut |part| parts.push(part.clone()));
    let mut mutants = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        for changed in variants(part) {
            let mut whole = expr.clone();
            let mut index = 0;
            // The parts of what was put in are counted too, but come after it.
            whole.walk(&mut |here| {
                if index == place {
                    *here = changed.clone();
                }
                index += 1;
            });
            mutants.push((format!("{part} → {changed}"), whole.to_string()));
        }
    }
    mutants
}

/// What a part may be mistaken for.
fn variants(part: &Expr) -> Vec<Expr> {
    match part {
        Expr::Binary { op, lhs, rhs, matching, returns_bool } => {
            let operator = |op: &str| Expr::Binary {
                op: op.to_owned(),
                lhs: lhs.clone(),
                rhs: rhs.clone(),
                matching: matching.clone(),
                returns_bool: *returns_bool,
            };
            let mut variants: Vec<Expr> = other_operators(op).iter().map(|op| operator(op)).collect();
            if promql::compares(op) || promql::joins_sets(op) {
                variants.push((**lhs).clone());
            }
            if ["and", "or"].contains(&op.as_str()) {
                variants.push((**rhs).clone());
            }
            variants
        }
        Expr::NumberLiteral { val } => val.parse().map_or(Vec::new(), |value: f64| {
            let others = if value == 0.0 { vec![1.0] } else { vec![value * 0.5, value * 1.5] };
            others.iter().map(|other| Expr::NumberLiteral { val: other.to_string() }).collect()
        }),
        Expr::Aggregation { op, expr, param, grouping, without } => {
            let aggregation = |op: &str, grouping: Vec<String>| Expr::Aggregation {
                op: op.to_owned(),
                expr: expr.clone(),
                param: param.clone(),
                grouping,
                without: *without,
            };
            let fewer = (0..grouping.len()).map(|left_out| {
                let mut labels = grouping.clone();
                labels.remove(left_out);
                aggregation(op, labels)
            });
            let operators = other_aggregations(op).iter().map(|op| aggregation(op, grouping.clone()));
            operators.chain(fewer).collect()
        }
        Expr::Call { func, args } => other_functions(&func.name)
            .iter()
            .map(|name| Expr::Call {
                func: promql::Function { name: (*name).to_owned() },
                args: args.clone(),
            })
            .collect(),
        Expr::Subquery { expr, range, step, offset } => {
            vec![Expr::Subquery { expr: expr.clone(), range: range * 3, step: *step, offset: *offset }]
        }
        Expr::MatrixSelector(selector) => {
            of_selector(selector).into_iter().map(Expr::MatrixSelector).collect()
        }
        Expr::VectorSelector(selector) => {
            of_selector(selector).into_iter().map(Expr::VectorSelector).collect()
        }
        Expr::StringLiteral { .. } | Expr::Paren { .. } | Expr::Unary { .. } => Vec::new(),
    }
}

fn of_selector(selector: &promql::Selector) -> Vec<promql::Selector> {
    let mut variants = Vec::new();
    if let Some(range) = selector.range {
        variants.push(promql::Selector { range: Some(range * 3), ..selector.clone() });
    }
    if selector.offset != 0 {
        variants.push(promql::Selector { offset: 0, ..selector.clone() });
    }
    for left_out in 0..selector.matchers.len() {
        if selector.matchers[left_out].name != "__name__" {
            let mut fewer = selector.clone();
            fewer.matchers.remove(left_out);
            variants.push(fewer);
        }
    }
    variants
}

fn other_operators(op: &str) -> &'static [&'static str] {
    match op {
        ">" => &[">=", "<"],
        "<" => &["<=", ">"],
        ">=" => &[">"],
        "<=" => &["<"],
        "==" => &["!="],
        "!=" => &["=="],
        "+" => &["-"],
        "-" => &["+"],
        "*" => &["/"],
        "/" => &["*"],
        _ => &[],
    }
}

fn other_aggregations(op: &str) -> &'static [&'static str] {
    match op {
        "sum" | "avg" | "min" => &["max"],
        "max" => &["min"],
        _ => &[],
    }
}

fn other_functions(name: &str) -> &'static [&'static str] {
    match name {
        "rate" => &["increase"],
        "increase" => &["rate"],
        "sum_over_time" | "avg_over_time" | "min_over_time" => &["max_over_time"],
        "max_over_time" => &["min_over_time"],
        _ => &[],
    }
}

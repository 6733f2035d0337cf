//! PromQL as Prometheus parses it (`/api/v1/parse_query`): a tree that can be walked, changed and written again.

use std::{fmt, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use testkit::{process::Process, servers, user};

use crate::stack::prometheus;

/// An expression.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub(crate) enum Expr {
    Aggregation {
        op: String,
        expr: Box<Expr>,
        param: Option<Box<Expr>>,
        grouping: Vec<String>,
        without: bool,
    },
    #[serde(rename = "binaryExpr")]
    Binary {
        op: String,
        lhs: Box<Expr>,
        rhs: Box<Expr>,
        matching: Option<Matching>,
        #[serde(rename = "bool")]
        returns_bool: bool,
    },
    Call {
        func: Function,
        args: Vec<Expr>,
    },
    MatrixSelector(Selector),
    VectorSelector(Selector),
    Subquery {
        expr: Box<Expr>,
        range: i64,
        step: i64,
        offset: i64,
    },
    NumberLiteral {
        val: String,
    },
    StringLiteral {
        val: String,
    },
    #[serde(rename = "parenExpr")]
    Paren {
        expr: Box<Expr>,
    },
    #[serde(rename = "unaryExpr")]
    Unary {
        op: String,
        expr: Box<Expr>,
    },
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Function {
    pub(crate) name: String,
}

/// How the sides of an operator find each other.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Matching {
    card: String,
    labels: Vec<String>,
    on: bool,
    include: Vec<String>,
}

/// Which series are read. Times are milliseconds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Selector {
    pub(crate) name: String,
    pub(crate) range: Option<i64>,
    pub(crate) offset: i64,
    pub(crate) matchers: Vec<Matcher>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Matcher {
    pub(crate) name: String,
    pub(crate) value: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// What the Prometheus at `url` reads in `query`.
pub(crate) async fn parse(url: &str, query: &str) -> Result<Expr> {
    let answer = prometheus::api(url, "parse_query", query).await?;
    serde_json::from_value(answer).with_context(|| format!("reading the tree of {query}"))
}

impl Expr {
    /// What it is made of.
    pub(crate) fn children_mut(&mut self) -> Vec<&mut Self> {
        match self {
            Self::Aggregation { expr, param, .. } => {
                param.as_deref_mut().into_iter().chain([expr.as_mut()]).collect()
            }
            Self::Binary { lhs, rhs, .. } => vec![lhs, rhs],
            Self::Call { args, .. } => args.iter_mut().collect(),
            Self::Subquery { expr, .. } | Self::Paren { expr } | Self::Unary { expr, .. } => {
                vec![expr]
            }
            Self::MatrixSelector(_)
            | Self::VectorSelector(_)
            | Self::NumberLiteral { .. }
            | Self::StringLiteral { .. } => Vec::new(),
        }
    }

    /// Calls `visit` with it and everything in it, parents first.
    pub(crate) fn walk(&mut self, visit: &mut impl FnMut(&mut Self)) {
        visit(self);
        for child in self.children_mut() {
            child.walk(visit);
        }
    }

    /// Every selector in it, without its range.
    pub(crate) fn selectors(&self) -> Vec<Selector> {
        let mut found = Vec::new();
        self.clone().walk(&mut |expr| {
            if let Self::MatrixSelector(selector) | Self::VectorSelector(selector) = expr {
                found.push(Selector { range: None, ..selector.clone() });
            }
        });
        found
    }
}

/// Whether `op` compares.
pub(crate) fn compares(op: &str) -> bool {
    ["==", "!=", ">", "<", ">=", "<="].contains(&op)
}

/// Whether `op` is one of sets of series.
pub(crate) fn joins_sets(op: &str) -> bool {
    ["and", "or", "unless"].contains(&op)
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn offset(f: &mut fmt::Formatter<'_>, milliseconds: i64) -> fmt::Result {
    if milliseconds == 0 { Ok(()) } else { write!(f, " offset {}", duration(milliseconds)) }
}

/// As PromQL writes it, in the greatest unit that needs no fraction.
fn duration(milliseconds: i64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    let unit = units.into_iter().find(|(_, length)| milliseconds % length == 0);
    let (unit, length) = unit.unwrap_or(("ms", 1));
    format!("{}{unit}", milliseconds / length)
}

/// One side of an operator: in brackets when it is an operation itself.
struct Side<'a>(&'a Expr);

impl fmt::Display for Side<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            side @ Expr::Binary { .. } => write!(f, "({side})"),
            side => side.fmt(f),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |matcher: &&Matcher| matcher.name != "__name__" || self.name.is_empty();
        let matchers: Vec<String> = self
            .matchers
            .iter()
            .filter(shown)
            // Go's strings and Rust's escape alike what rules have in them.
            .map(|matcher| format!("{}{}{:?}", matcher.name, matcher.kind, matcher.value))
            .collect();
        f.write_str(&self.name)?;
        if !matchers.is_empty() {
            write!(f, "{{{}}}", list(&matchers))?;
        }
        if let Some(range) = self.range {
            write!(f, "[{}]", duration(range))?;
        }
        offset(f, self.offset)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aggregation { op, expr, param, grouping, without } => {
                f.write_str(op)?;
                if *without || !grouping.is_empty() {
                    write!(f, " {} ({}) ", if *without { "without" } else { "by" }, list(grouping))?;
                }
                f.write_str("(")?;
                if let Some(param) = param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{expr})")
            }
            Self::Binary { op, lhs, rhs, matching, returns_bool } => {
                write!(f, "{} {op}", Side(lhs))?;
                if *returns_bool {
                    f.write_str(" bool")?;
                }
                if let Some(matching) = matching
                    && (matching.on || !matching.labels.is_empty())
                {
                    let words = if matching.on { "on" } else { "ignoring" };
                    write!(f, " {words} ({})", list(&matching.labels))?;
                    match matching.card.as_str() {
                        "many-to-one" => write!(f, " group_left ({})", list(&matching.include))?,
                        "one-to-many" => write!(f, " group_right ({})", list(&matching.include))?,
                        _ => {}
                    }
                }
                write!(f, " {}", Side(rhs))
            }
            Self::Call { func, args } => write!(f, "{}({})", func.name, list(args)),
            Self::MatrixSelector(selector) | Self::VectorSelector(selector) => selector.fmt(f),
            Self::Subquery { expr, range, step, offset: back } => {
                write!(f, "{}[{}:", Side(expr), duration(*range))?;
                if *step != 0 {
                    f.write_str(&duration(*step))?;
                }
                f.write_str("]")?;
                offset(f, *back)
            }
            Self::NumberLiteral { val } => f.write_str(val),
            Self::StringLiteral { val } => write!(f, "{val:?}"),
            Self::Paren { expr } => write!(f, "({expr})"),
            Self::Unary { op, expr } => write!(f, "{op}({expr})"),
        }
    }
}

/// The values of `query` now, one a series.
pub(crate) async fn values(url: &str, query: &str) -> Result<Vec<f64>> {
    let answer = prometheus::api(url, "query", query).await?;
    let value = |pair: &serde_json::Value| pair[1].as_str().and_then(|text| text.parse().ok());
    let values: Option<Vec<f64>> = match (answer["resultType"].as_str(), answer["result"].as_array()) {
        (Some("scalar"), _) => value(&answer["result"]).map(|one| vec![one]),
        (Some("vector"), Some(series)) => series.iter().map(|one| value(&one["value"])).collect(),
        (kind, _) => bail!("{query} gives {kind:?}, not a vector"),
    };
    values.with_context(|| format!("reading the values of {query}: {answer}"))
}

/// A Prometheus without a target that keeps its data in `folder`: it parses, and knows nothing but what others write to it.
pub(crate) async fn prometheus(folder: &Path) -> Result<(Process, String)> {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "{}").with_context(|| format!("writing {}", config.display()))?;
    // It makes no folder, and runs as another account when we are root.
    user::give(folder)?;
    user::make_folder(&folder.join("data"))?;
    let url = format!("http://127.0.0.1:{}", testkit::free_port()?);
    let installed = servers::get("monitoring").await?;
    let mut process = installed
        .process("prometheus", "prometheus", folder.join("log"))
        .current_dir(installed.root.join("usr/share/prometheus/web"))
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg("--web.enable-remote-write-receiver")
        .arg(format!("--web.listen-address={}", url.trim_start_matches("http://")))
        .spawn()?;
    let ready = || async { values(&url, "1").await.ok() };
    process.wait_until("Prometheus to answer", Duration::from_secs(60), ready).await?;
    Ok((process, url))
}

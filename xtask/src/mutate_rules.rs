//! `cargo xtask mutate-rules`: changes one thing of one rule at a time and runs the unit tests of that rule. A mutant that no test
//! notices is a mistake that no test would notice.

mod mutants;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use testkit::servers;

use crate::{
    progress::{print, say, step},
    promql::{self, Expr},
    rules,
};

/// Change the rules on purpose and see whether their unit tests notice
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Try only so many mutants, spread over all of them
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Try only the mutants of this alert or recorded series
    #[arg(long, value_name = "NAME", conflicts_with = "sample")]
    rule: Option<String>,
}

/// Mutants that no test can or need notice, each with its reason.
const SURVIVORS: &str = include_str!("mutate_rules/survivors.tsv");
/// How many of a hundred mutants must be noticed.
const ENOUGH: usize = 95;
/// promtool takes longer to start than to run the tests of a rule: it gets those of several mutants at once.
const BATCH: usize = 16;
const PARALLEL: usize = 2;

/// A change of a rule.
struct Mutant {
    /// The rule and the change, as in the list of survivors.
    name: String,
    rule: String,
    changed: Value,
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let listed = survivors(SURVIVORS)?;
    let suite = Suite::read().await?;
    let mut mutants = suite.mutants();
    let names: BTreeSet<&str> = mutants.iter().map(|mutant| mutant.name.as_str()).collect();
    let stale: Vec<&str> = listed.keys().filter(|name| !names.contains(*name)).copied().collect();
    ensure!(stale.is_empty(), "listed survivors that are no mutants:\n{}", stale.join("\n"));
    if let Some(rule) = &args.rule {
        mutants.retain(|mutant| mutant.rule == *rule);
        ensure!(!mutants.is_empty(), "no rule is called {rule}");
    }
    if let Some(sample) = args.sample {
        let every = mutants.len().div_ceil(sample.max(1));
        mutants = mutants.into_iter().step_by(every).collect();
    }
    let unchanged: BTreeSet<&String> = mutants.iter().map(|mutant| &mutant.rule).collect();
    let unchanged: Vec<Mutant> = unchanged.into_iter().map(|rule| suite.unchanged(rule)).collect();
    let alive = step("the unchanged rules pass", suite.survivors(&unchanged)).await?;
    ensure!(alive.len() == unchanged.len(), "the unit tests of the unchanged rules fail");

    let what = format!("{} mutants of {} rules", mutants.len(), unchanged.len());
    let alive = step(&what, suite.survivors(&mutants)).await?;
    let killed = mutants.len() - alive.len();
    let share = 100.0 * killed as f64 / mutants.len() as f64;
    say(&format!("{killed} of {} mutants are noticed: {share:.1} %", mutants.len()));
    let unlisted = alive.iter().filter(|name| !listed.contains_key(name.as_str()));
    let tried = mutants.iter().map(|mutant| &mutant.name);
    let dead = tried.filter(|name| listed.contains_key(name.as_str()) && !alive.contains(*name));
    let mut findings = 0;
    for (finding, name) in
        unlisted.map(|name| ("not noticed", name)).chain(dead.map(|name| ("listed but noticed", name)))
    {
        findings += 1;
        print(&format!("{finding}\t{name}"));
    }
    ensure!(findings == 0, "{findings} findings: add a test, or a line with a reason to survivors.tsv");
    let part = args.rule.is_some() || args.sample.is_some();
    let enough = part || 100 * killed >= ENOUGH * mutants.len();
    ensure!(enough, "less than {ENOUGH} % are noticed: {} survivors are too many", alive.len());
    Ok(())
}

/// The list of survivors: a mutant and a reason on each line.
fn survivors(text: &str) -> Result<BTreeMap<&str, &str>> {
    let mut listed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, reason) = line.split_once('\t').with_context(|| format!("no reason: {line}"))?;
        ensure!(!reason.trim().is_empty(), "no reason: {line}");
        ensure!(listed.insert(name, reason).is_none(), "listed twice: {name}");
    }
    Ok(listed)
}

/// A rule with what its expression reads.
struct Rule {
    value: Value,
    expr: Expr,
    /// Where it is: its group without its rules, and the name of the file.
    group: Value,
    file: String,
}

/// The rules and their unit tests.
struct Suite {
    promtool: PathBuf,
    /// By name, in the order of the files.
    rules: Vec<(String, Rule)>,
    /// Test files.
    tests: Vec<Value>,
}

impl Suite {
    async fn read() -> Result<Self> {
        let folder = tempfile::tempdir().context("creating a folder")?;
        let (_process, url) = promql::prometheus(folder.path()).await?;
        let mut found: Vec<(String, Rule)> = Vec::new();
        for file in rules::files(&rules::folder()?.join("rules"))? {
            let mut content: Value = rules::read(&file)?;
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for group in content["groups"].as_array_mut().into_iter().flatten() {
                for value in list(group["rules"].take()) {
                    let name = value["alert"].as_str().or(value["record"].as_str());
                    let name = name.context("a rule without a name")?.to_owned();
                    let expr = promql::parse(&url, value["expr"].as_str().unwrap_or_default()).await?;
                    ensure!(found.iter().all(|(other, _)| *other != name), "two rules are called {name}");
                    found.push((name, Rule { value, expr, group: group.clone(), file: file.clone() }));
                }
            }
        }
        let files = rules::files(&rules::folder()?.join("tests"))?;
        let tests = files.iter().map(|file| rules::read(file)).collect::<Result<_>>()?;
        let promtool = servers::get("monitoring").await?.binary("promtool");
        Ok(Self { promtool, rules: found, tests })
    }

    fn mutants(&self) -> Vec<Mutant> {
        let mut all = Vec::new();
        let mut names = BTreeSet::new();
        for (rule, found) in &self.rules {
            for mutant in mutants::of(&found.value, &found.expr) {
                let mut name = format!("{rule}: {}", mutant.change);
                // The same part twice in one expression.
                while !names.insert(name.clone()) {
                    name += " (again)";
                }
                all.push(Mutant { name, rule: rule.clone(), changed: mutant.rule });
            }
        }
        all
    }

    fn unchanged(&self, rule: &str) -> Mutant {
        let changed = self.rule(rule).map(|rule| rule.value.clone()).unwrap_or_default();
        Mutant { name: rule.to_owned(), rule: rule.to_owned(), changed }
    }

    fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|(other, _)| other == name).map(|(_, rule)| rule)
    }

    /// Names of the mutants that no test notices.
    async fn survivors(&self, mutants: &[Mutant]) -> Result<BTreeSet<String>> {
        let batches = stream::iter(mutants.chunks(BATCH)).map(|batch| async move {
            let folder = tempfile::tempdir().context("creating a folder")?;
            let mut files = Vec::new();
            for (index, mutant) in batch.iter().enumerate() {
                let written = self.write(mutant, &folder.path().join(index.to_string()))?;
                files.extend(written.into_iter().map(|file| (mutant, format!("{index}/{file}"))));
            }
            let report = folder.path().join("report.xml");
            let mut promtool = Command::new(&self.promtool);
            promtool.args(["test", "rules", "--junit"]).arg(&report).current_dir(folder.path());
            promtool.args(files.iter().map(|(_, file)| file));
            let run = tokio::task::spawn_blocking(move || promtool.output());
            let output = run.await.context("running promtool")?.context("running promtool")?;
            let report = fs::read_to_string(&report).unwrap_or_default();
            let mut alive: BTreeSet<String> = batch.iter().map(|mutant| mutant.name.clone()).collect();
            for (mutant, file) in &files {
                let passed = passed(&report, file).with_context(|| format!("{}: {output:?}", mutant.name))?;
                if !passed {
                    alive.remove(&mutant.name);
                }
            }
            anyhow::Ok(alive)
        });
        let alive: Vec<BTreeSet<String>> = batches.buffer_unordered(PARALLEL).try_collect().await?;
        Ok(alive.into_iter().flatten().collect())
    }

    /// Writes the mutant with what it reads, and its tests: a file for each that has some. Gives their names.
    fn write(&self, mutant: &Mutant, folder: &Path) -> Result<Vec<String>> {
        fs::create_dir(folder).with_context(|| format!("creating {}", folder.display()))?;
        let write = |name: &str, value: &Value| {
            let path = folder.join(name);
            fs::write(&path, value.to_string()).with_context(|| format!("writing {}", path.display()))
        };
        let mut needed = BTreeSet::from([mutant.rule.clone()]);
        self.add_read(&mutant.rule, &mut needed);
        let mut written = Vec::new();
        for (index, file) in self.tests.iter().enumerate() {
            let tests = file["tests"].as_array().into_iter().flatten();
            let tests: Vec<Value> = tests.filter_map(|test| only(&mutant.rule, test)).collect();
            if tests.is_empty() {
                continue;
            }
            let read: Vec<&str> = file["rule_files"].as_array().into_iter().flatten().map(text).collect();
            let groups = self.groups(mutant, |name, rule| {
                needed.contains(name)
                    && read.iter().any(|path| path.rsplit('/').next() == Some(rule.file.as_str()))
            });
            let rules = format!("rules-{index}.json");
            let mut file = file.clone();
            file["group_eval_order"] = groups.iter().map(|group| group["name"].clone()).collect();
            file["rule_files"] = json!([rules]);
            file["tests"] = tests.into();
            write(&rules, &json!({ "groups": groups }))?;
            let tests = format!("tests-{index}.json");
            write(&tests, &file)?;
            written.push(tests);
        }
        ensure!(!written.is_empty(), "{} has no unit test", mutant.rule);
        Ok(written)
    }

    /// The groups of some rules, with the mutant in the place of its rule.
    fn groups(&self, mutant: &Mutant, wanted: impl Fn(&String, &Rule) -> bool) -> Vec<Value> {
        let mut groups: Vec<Value> = Vec::new();
        for (name, rule) in self.rules.iter().filter(|(name, rule)| wanted(name, rule)) {
            let value = if *name == mutant.rule { &mutant.changed } else { &rule.value };
            if groups.last().is_none_or(|group| group["name"] != rule.group["name"]) {
                groups.push(rule.group.clone());
            }
            if let Some(group) = groups.last_mut() {
                let mut rules = list(group["rules"].take());
                rules.push(value.clone());
                group["rules"] = rules.into();
            }
        }
        // Recorded series first: the files are in the order of the alphabet.
        groups.sort_by_key(|group| !text(&group["name"]).ends_with("-recording"));
        groups
    }

    /// Adds the recorded series that a rule reads, and what those read.
    fn add_read(&self, name: &str, needed: &mut BTreeSet<String>) {
        let selectors = self.rule(name).map(|rule| rule.expr.selectors()).unwrap_or_default();
        for selector in selectors {
            if self.rule(&selector.name).is_some() && needed.insert(selector.name.clone()) {
                self.add_read(&selector.name, needed);
            }
        }
    }
}

/// Whether a file of tests passed, as promtool's report says.
fn passed(report: &str, file: &str) -> Result<bool> {
    let suite = report
        .split_once(&format!("<testsuite name=\"{file}\""))
        .and_then(|(_, rest)| rest.split('>').next());
    let suite = suite.context("promtool did not run its tests")?;
    ensure!(suite.contains("errors=\"0\""), "promtool cannot run its tests");
    Ok(suite.contains("failures=\"0\""))
}

/// A test with its checks of one rule, if it has any.
fn only(rule: &str, test: &Value) -> Option<Value> {
    let mut test = test.clone();
    let settings = test.as_object_mut()?;
    let checks = |key: &str, of: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        list(settings.get(key).cloned().unwrap_or_default()).into_iter().filter(of).collect()
    };
    let alerts = checks("alert_rule_test", &|check| check["alertname"] == rule);
    let part_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let series = checks("promql_expr_test", &|check| {
        text(&check["expr"]).split(|c: char| !part_of_a_name(c)).any(|name| name == rule)
    });
    let any = !alerts.is_empty() || !series.is_empty();
    settings.insert("alert_rule_test".to_owned(), alerts.into());
    settings.insert("promql_expr_test".to_owned(), series.into());
    any.then_some(test)
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

//! Commands that report their progress: one statement for the collectors of all of them. Nearly always there are none, so that
//! beginning a statement for each view would be all that it costs.
//!
//! Read from the function behind the views `pg_stat_progress_*`; what its parameters mean is what the views say.

use std::collections::BTreeMap;
use std::fmt::Write;

use exposition::{Desc, Snapshot};

use crate::read::{DATABASE_NAMES, Found, FoundRow, Read};
use crate::session::PgSession;
use crate::sql::Versions;

/// The commands, and the first version that reports them.
const COMMANDS: [(&str, u32); 6] = [
    ("VACUUM", 10),
    ("CREATE INDEX", 12),
    ("CLUSTER", 12),
    ("ANALYZE", 13),
    ("BASEBACKUP", 13),
    ("COPY", 14),
];

/// How many parameters are read; the highest that a view shows is 17.
const PARAMETERS: usize = 17;

/// What commands are made of.
pub(crate) static READS: &[&Read] = &[&DATABASE_NAMES, &RUNNING];

static RUNNING: Read = Read::Statement(|major| {
    let commands = COMMANDS.iter().filter(|(_, since)| *since <= major);
    let commands: Vec<String> = commands.map(|(name, _)| format!("('{name}')")).collect();
    let parameters = (1..=PARAMETERS).fold(String::new(), |mut list, number| {
        let _ = write!(list, ", p.param{number}");
        list
    });
    // A relation of another database has no name here: its OID is shown rather than the name of a relation of this
    // database that happens to have the same OID. Access methods have names for what CREATE INDEX does in phase 2.
    format!(
            "SELECT c.name, p.datid,
                    CASE WHEN p.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
                         THEN p.relid::pg_catalog.regclass::text ELSE p.relid::text END,
                    CASE WHEN c.name = 'CREATE INDEX' AND p.param10 = 2
                         THEN ': ' || pg_catalog.pg_indexam_progress_phasename(p.param9::oid, p.param11) END{parameters}
             FROM (VALUES {commands}) c(name)
             CROSS JOIN LATERAL pg_catalog.pg_stat_get_progress_info(c.name) p",
            commands = commands.join(", ")
        )
});

/// What is shown of a command. Commands with the same labels are added up.
pub struct Report {
    /// The command.
    pub command: &'static str,
    /// First and last major version it is for.
    pub versions: Versions,
    /// Its labels.
    pub labels: &'static [Label],
    /// Its families.
    pub parameters: &'static [Parameter],
}

/// A label of a command.
pub enum Label {
    /// The database it runs in.
    Datname,
    /// The relation it works on.
    Relname,
    /// Name of the label, the parameter with the code, and the names of code 0, 1, …
    Code(&'static str, usize, &'static [&'static str]),
}

/// A family, and the parameter it shows.
pub struct Parameter {
    desc: Desc,
    number: usize,
    since: u32,
    unit: f64,
}

impl Parameter {
    /// A parameter that is a count.
    pub const fn count(name: &'static str, number: usize, help: &'static str) -> Parameter {
        Parameter { desc: Desc::gauge(name, help), number, since: 0, unit: 1.0 }
    }

    /// A parameter in nanoseconds, shown in seconds.
    pub const fn time(name: &'static str, number: usize, help: &'static str) -> Parameter {
        Parameter { desc: Desc::gauge(name, help), number, since: 0, unit: 1e9 }
    }

    /// Name of the family.
    pub fn family(&self) -> &str {
        &self.desc.name
    }

    /// Which parameter it is, from 1 on.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Only from a major version on.
    #[must_use]
    pub const fn since(mut self, major: u32) -> Parameter {
        self.since = major;
        self
    }
}

impl Report {
    /// Its families; those of one major version, if one is named.
    pub(crate) fn families(&self, major: Option<u32>) -> Vec<Desc> {
        let shown = self.parameters.iter().filter(|one| major.is_none_or(|major| one.since <= major));
        shown.map(|one| one.desc.clone()).collect()
    }

    pub(crate) fn decode(&self, found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
        if commands(found, self.command).next().is_none() {
            return;
        }
        let parameters: Vec<_> = self.parameters.iter().filter(|one| one.since <= session.major()).collect();
        let mut sums: BTreeMap<Vec<String>, Vec<Option<f64>>> = BTreeMap::new();
        for command in commands(found, self.command) {
            let labels = self.labels.iter().map(|label| label.of(&command)).collect();
            let sum = sums.entry(labels).or_insert_with(|| vec![None; parameters.len()]);
            for (sum, parameter) in sum.iter_mut().zip(&parameters) {
                if let Some(value) = command.parameter(parameter.number) {
                    *sum = Some(sum.unwrap_or_default() + value / parameter.unit);
                }
            }
        }
        let names: Vec<&str> = self.labels.iter().map(Label::name).collect();
        let table = snapshot.table(&names);
        let columns: Vec<_> = parameters.iter().map(|parameter| table.column(&parameter.desc)).collect();
        for (labels, values) in sums {
            let mut cells = table.row(&labels.iter().map(String::as_str).collect::<Vec<_>>());
            for (column, value) in columns.iter().zip(values) {
                cells.set_some(*column, value);
            }
        }
    }
}

impl Label {
    fn name(&self) -> &'static str {
        match self {
            Label::Datname => "datname",
            Label::Relname => "relname",
            Label::Code(name, ..) => name,
        }
    }

    fn of(&self, command: &Command<'_>) -> String {
        match self {
            Label::Datname => command.datname.unwrap_or_default().to_owned(),
            Label::Relname => command.relname().unwrap_or_default().to_owned(),
            Label::Code(name, number, names) => {
                let code =
                    command.code(*number).and_then(|code| names.get(code).copied()).unwrap_or_default();
                let more = if *name == "phase" { command.subphase() } else { "" };
                format!("{code}{more}")
            }
        }
    }
}

/// A command that runs. What the role may not see of it is absent.
pub(crate) struct Command<'a> {
    row: FoundRow<'a>,
    /// The database it runs in.
    pub(crate) datname: Option<&'a str>,
}

impl<'a> Command<'a> {
    /// The relation it works on.
    pub(crate) fn relname(&self) -> Option<&'a str> {
        self.row.get(2)
    }

    /// What the access method calls the phase, to be put behind its name.
    fn subphase(&self) -> &'a str {
        self.row.get(3).unwrap_or_default()
    }

    /// A parameter that is a number. One that is not known is negative.
    fn parameter(&self, number: usize) -> Option<f64> {
        self.row.float(3 + number).filter(|value| *value >= 0.0)
    }

    /// A parameter that is a code.
    pub(crate) fn code(&self, number: usize) -> Option<usize> {
        self.row.get(3 + number)?.parse().ok()
    }
}

/// The commands of one name.
pub(crate) fn commands<'a>(found: &'a [Found], name: &'a str) -> impl Iterator<Item = Command<'a>> {
    let rows = found.iter().skip(1).flat_map(Found::iter).filter(move |row| row.get(0) == Some(name));
    let mut names = None;
    rows.map(move |row| {
        let names = names.get_or_insert_with(|| found.first().map(Found::by_first).unwrap_or_default());
        let datname = row.get(1).and_then(|oid| names.get(oid).copied());
        Command { row, datname }
    })
}

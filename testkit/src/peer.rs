//! The exporters that ours take the place of, run beside ours: which version is known, where its binary is, and how
//! the pages differ.

use std::{
    collections::BTreeSet,
    env,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use exposition::{Page, parse::Family};
use tempfile::TempDir;

use crate::{
    free_port,
    page::{samples, scrape},
    process::Process,
    servers,
};

const START_LIMIT: Duration = Duration::from_secs(20);

/// An exporter that one of ours takes the place of.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Name in the table of servers, and in messages.
    pub name: &'static str,
    /// The version that ours is compared with.
    pub version: &'static str,
    /// The environment variable that names a binary to use instead of the fetched one.
    pub variable: &'static str,
    binary: &'static str,
    /// What it says of its version; Debian's build of some says none.
    says: &'static str,
}

/// What `pg-exporter --compat=0.19` is compared with.
pub const POSTGRES_EXPORTER: Peer = Peer {
    name: "postgres_exporter",
    version: "0.19.1",
    variable: "PG_PEER",
    binary: "prometheus-postgres-exporter",
    says: " 0.19.1",
};

/// What `redis-exporter --compat=1.86` is compared with.
pub const REDIS_EXPORTER: Peer = Peer {
    name: "redis_exporter",
    version: "1.86.0",
    variable: "REDIS_PEER",
    binary: "prometheus-redis-exporter",
    says: " 1.86.0",
};

/// justwatchcom's sql_exporter, whose files `business-exporter convert` reads.
pub const SQL_EXPORTER: Peer = Peer {
    name: "sql_exporter",
    version: "0.9",
    variable: "SQL_PEER",
    binary: "prometheus-sql-exporter",
    says: "sql_exporter, version",
};

/// Every peer.
pub const PEERS: [Peer; 3] = [POSTGRES_EXPORTER, REDIS_EXPORTER, SQL_EXPORTER];

impl Peer {
    /// Its binary: the one that the variable names, or else the one in the cache of servers, fetched when it is not
    /// there.
    ///
    /// # Errors
    /// When there is none, or one of another version.
    pub async fn binary(&self) -> Result<PathBuf> {
        let binary = match env::var_os(self.variable) {
            Some(path) => PathBuf::from(path),
            None => servers::get(self.name).await?.binary(self.binary),
        };
        let said = says(&binary)?;
        if !said.contains(self.says) {
            bail!(
                "{} is not {} {}: it says {:?}. Name one that is in {}",
                binary.display(),
                self.name,
                self.version,
                said.lines().next().unwrap_or_default(),
                self.variable
            );
        }
        Ok(binary)
    }

    /// Whether there is a binary. When there is none, says on stderr why the test that asks is skipped.
    pub async fn is_here(&self) -> bool {
        let binary = self.binary().await;
        if let Err(error) = &binary {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "skipped: no {} to compare with: {error:#}", self.name);
        }
        binary.is_ok()
    }

    /// Starts it on a free port with these arguments and variables.
    ///
    /// # Errors
    /// As [`Peer::binary`], and when it does not listen within 20 s; the error shows its log.
    pub async fn start(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<RunningPeer> {
        let folder = TempDir::new().context("making a folder for the exporter's log")?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().context("looking for a free port")?));
        let builder = Process::builder(self.name, self.binary().await?, folder.path().join("log"))
            .arg(format!("--web.listen-address={address}"))
            .args(args);
        let mut process =
            variables.iter().fold(builder, |builder, (name, value)| builder.env(name, value)).spawn()?;
        process.wait_for_port(address, START_LIMIT).await?;
        Ok(RunningPeer { process, address, _folder: folder })
    }
}

/// What a binary says about its version.
fn says(binary: &Path) -> Result<String> {
    let output = Command::new(binary)
        .arg("--version")
        .output()
        .with_context(|| format!("asking {} for its version", binary.display()))?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A running peer. Dropping it ends it.
#[derive(Debug)]
pub struct RunningPeer {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    _folder: TempDir,
}

impl RunningPeer {
    /// One scrape.
    ///
    /// # Errors
    /// When it does not answer with a clean page.
    pub async fn page(&self) -> Result<Page> {
        scrape(&format!("http://{}/metrics", self.address)).await
    }
}

/// A difference that is meant.
#[derive(Clone, Copy, Debug)]
pub struct Waiver<'a> {
    /// How the samples begin, as `name{label="value"`.
    pub start: &'a str,
    waived: Waived,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waived {
    /// Nothing about them is compared.
    All,
    /// The peer's series are there, with other values.
    Values,
    /// There are more than the peer's.
    New,
}

impl<'a> Waiver<'a> {
    /// Reads a table with the columns start, `all`, `values` or `new`, and reason, below a line with their names.
    ///
    /// # Errors
    /// When a line is not like that: shows it.
    pub fn table(text: &'a str) -> Result<Vec<Self>> {
        let lines = text.lines().skip(1);
        lines
            .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
                [start, "all", _] => Ok(Self { start, waived: Waived::All }),
                [start, "values", _] => Ok(Self { start, waived: Waived::Values }),
                [start, "new", _] => Ok(Self { start, waived: Waived::New }),
                _ => bail!("not start, all, values or new, and reason: {line:?}"),
            })
            .collect()
    }

    /// Whether a page has samples of the name that it is about, whatever their labels.
    #[must_use]
    pub fn is_about(&self, page: &Page) -> bool {
        let name = self.start.split('{').next().unwrap_or_default();
        page.families.iter().flat_map(|family| &family.samples).any(|sample| sample.name.starts_with(name))
    }
}

/// What differs between the peer's page and ours, where the peer was scraped before and after ours: families that are
/// missing or have another type, series of its families that only one page has, and values that are not between the
/// peer's two. On a server that does nothing but answer, that is nearly everywhere the same value.
#[must_use]
pub fn differences(theirs: [&Page; 2], ours: &Page, waivers: &[Waiver<'_>]) -> Vec<String> {
    let waived = |sample: &str, what: Waived| {
        waivers.iter().any(|waiver| waiver.waived == what && sample.starts_with(waiver.start))
    };
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for family in theirs[0].families.iter().filter(|family| !waived(&family.name, Waived::All)) {
        let kind = |family: &Family| family.kind.map_or("untyped", exposition::Kind::text);
        match ours.family(&family.name) {
            None => found.push(format!("{}: missing", family.name)),
            Some(our) => {
                if kind(our) != kind(family) {
                    found.push(format!("{}: type {}, theirs {}", family.name, kind(our), kind(family)));
                }
                names.extend(family.samples.iter().map(|sample| sample.name.as_str()));
            }
        }
    }
    let of_theirs = |page| {
        let mut samples = samples(page);
        samples.retain(|sample, _| {
            names.contains(sample.split('{').next().unwrap_or_default()) && !waived(sample, Waived::All)
        });
        samples
    };
    let ([before, after], ours) = (theirs.map(of_theirs), of_theirs(ours));
    for (sample, &first) in &before {
        // What came or went between the two scrapes is nobody's mistake.
        let Some(&last) = after.get(sample) else { continue };
        let Some(&value) = ours.get(sample) else {
            found.push(format!("{sample}: missing"));
            continue;
        };
        let same = (first.min(last)..=first.max(last)).contains(&value) || value.is_nan() && first.is_nan();
        if !same && !waived(sample, Waived::Values) {
            found.push(format!("{sample}: {value}, theirs {first} and {last}"));
        }
    }
    let new = ours.keys().filter(|sample| !before.contains_key(*sample) && !after.contains_key(*sample));
    let new = new.filter(|sample| !waived(sample, Waived::New));
    found.extend(new.map(|sample| format!("{sample}: only ours")));
    found
}

#[cfg(test)]
mod tests {
    use super::{Waiver, differences};
    use crate::page::parse;

    #[test]
    fn everything_but_a_value_between_the_peers_two_is_a_difference() {
        let page = |text| parse(text).unwrap();
        let before = page(
            "# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 5\n# TYPE b gauge\nb 1\n# TYPE c gauge\nc 1\n# TYPE d gauge\nd{gone=\"1\"} 1\nd NaN\n",
        );
        let after = page(
            "# TYPE a counter\na{x=\"1\"} 3\na{x=\"2\"} 5\n# TYPE b gauge\nb 1\n# TYPE c gauge\nc 1\n# TYPE d gauge\nd NaN\n",
        );
        let ours = page(
            "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 6\na{x=\"3\"} 6\n# TYPE c counter\nc 1\n# TYPE d gauge\nd NaN\n# TYPE e gauge\ne 1\n",
        );
        let found = differences([&before, &after], &ours, &[]);
        assert_eq!(
            found,
            [
                "b: missing",
                "c: type counter, theirs gauge",
                "a{x=\"2\"}: 6, theirs 5 and 5",
                "a{x=\"3\"}: only ours"
            ]
        );
        let waivers =
            Waiver::table("start\twaived\treason\na{\tvalues\t-\na{x=\"3\tnew\t-\nb\tall\t-").unwrap();
        assert_eq!(differences([&before, &after], &ours, &waivers), ["c: type counter, theirs gauge"]);
        assert!(waivers[2].is_about(&before) && !waivers[2].is_about(&ours));
        assert!(Waiver::table("start\twaived\treason\na\tnothing\t-").is_err());
    }
}

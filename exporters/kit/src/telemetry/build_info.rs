//! `<exporter>_build_info`: which build answers, in the labels of the Go exporters.

use exposition::{Desc, Kind, Snapshot};

/// Facts about this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// The suite's version.
    pub version: &'static str,
    /// Commit, from `GIT_REVISION` in the build's environment, else `unknown`.
    pub revision: &'static str,
    /// Branch, from `GIT_BRANCH` in the build's environment, else `unknown`.
    pub branch: &'static str,
    /// Compiler, such as `rustc 1.95.0`.
    pub compiler: &'static str,
    /// Operating system by Go's name, such as `linux`.
    pub os: &'static str,
    /// Architecture by Go's name, such as `amd64`.
    pub arch: &'static str,
}

/// This build.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: or_unknown(option_env!("GIT_REVISION")),
    branch: or_unknown(option_env!("GIT_BRANCH")),
    compiler: env!("KIT_RUSTC_VERSION"),
    os: std::env::consts::OS,
    arch: go_arch(std::env::consts::ARCH),
};

const fn or_unknown(value: Option<&'static str>) -> &'static str {
    match value {
        Some(value) if !value.is_empty() => value,
        _ => "unknown",
    }
}

const fn go_arch(arch: &'static str) -> &'static str {
    match arch.as_bytes() {
        b"x86_64" => "amd64",
        b"aarch64" => "arm64",
        b"x86" => "386",
        _ => arch,
    }
}

/// `{name}_build_info`, constant 1, for example `name` = `postgres_exporter`.
///
/// The labels are those of the Go exporters (`branch`, `goarch`, `goos`, `goversion`, `revision`, `tags`,
/// `version`), so that dashboards find them; `goversion` holds the Rust compiler and `tags` is empty.
/// `extra` follows, for what one exporter adds.
pub fn build_info(name: &str, extra: &[(&str, &str)]) -> Snapshot {
    let labels = [
        ("branch", BUILD.branch),
        ("goarch", BUILD.arch),
        ("goos", BUILD.os),
        ("goversion", BUILD.compiler),
        ("revision", BUILD.revision),
        ("tags", ""),
        ("version", BUILD.version),
    ];
    let (names, values): (Vec<_>, Vec<_>) = labels.iter().chain(extra).copied().unzip();
    let desc = Desc::new(
        Kind::Gauge,
        format!("{name}_build_info"),
        format!(
            "A metric with a constant '1' value labeled by version, revision, branch and compiler from which {name} was built, and the system it was built for."
        ),
    );
    let mut snapshot = Snapshot::new();
    let table = snapshot.table(&names);
    let column = table.column(&desc);
    table.row(&values).set(column, 1.0);
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_are_the_peers() {
        let mut page = String::new();
        exposition::text::encode(&build_info("postgres_exporter", &[("flavour", "x")]), &mut page);
        let page = exposition::parse::page(&page).unwrap();
        let family = page.family("postgres_exporter_build_info").unwrap();
        assert_eq!(family.kind, Some(Kind::Gauge));
        let sample = &family.samples[0];
        let names: Vec<_> = sample.labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(sample.value, 1.0);
        for name in ["branch", "goarch", "goos", "goversion", "revision", "version", "flavour"] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
        assert!(BUILD.compiler.starts_with("rustc 1."), "{}", BUILD.compiler);
    }
}

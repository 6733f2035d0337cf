//! `pg_settings_*`: every boolean and numeric setting, in seconds and bytes.
//!
//! Reading all settings is the dearest statement of a scrape, and they rarely change: the result is kept until the
//! server loads its configuration again or is promoted.

use exporter_kit::collector::Spec;
use exposition::{Desc, Kind, Snapshot};

use crate::read::{Found, ONE_ROW, Read, Select};
use crate::session::PgSession;
use crate::sql::{Cost, Custom, PgCollector, Query, Scope, ServerLabel, Versions};

/// What the kept result is filed under.
const MEMORY: &str = "settings";

/// Changes when the server loads its configuration, restarts, or is promoted.
const KEY: Select = Select {
    columns: &[
        "pg_catalog.pg_conf_load_time()",
        "pg_catalog.pg_postmaster_start_time()",
        "pg_catalog.pg_is_in_recovery()",
    ],
    from: ONE_ROW,
    joins: &[],
};

/// Not settings of the server.
const EXCLUDED: &str = "'sync_commit_cancel_wait', 'google_dataplex.max_messages'";

/// What this very statement is run under; what the server has is in `reset_val`.
const OURS: &str = "'statement_timeout', 'lock_timeout'";

pub(crate) static COLLECTOR: PgCollector = PgCollector {
    spec: Spec {
        name: "settings",
        doc: "Boolean and numeric settings, converted to seconds and bytes (pg_settings).",
        default_enabled: true,
    },
    scope: Scope::Server,
    cost: Cost::Low,
    queries: &[Query::Custom(Custom {
        versions: Versions::ALL,
        reads: &[&Read::Select(KEY), &Read::Then(unknown)],
        decode,
        families: &[],
        sizes: false,
        server_label: ServerLabel::Until0_19,
    })],
};

fn key(found: &[Found]) -> Option<String> {
    let row = found.first()?.first()?;
    Some([0, 1, 2].map(|column| row.get(column).unwrap_or_default()).join(" "))
}

/// The statement that reads all settings, unless they are known.
fn unknown(found: &[Found], session: &PgSession) -> Option<String> {
    let known = session.memory().get(MEMORY).map(|(known, _)| known);
    (known != key(found)).then(|| {
        format!(
            "SELECT name, CASE WHEN name IN ({OURS}) THEN reset_val ELSE setting END, unit, vartype
             FROM pg_catalog.pg_settings
             WHERE vartype IN ('bool', 'integer', 'real') AND name NOT IN ({EXCLUDED})"
        )
    })
}

fn decode(found: &[Found], session: &PgSession, snapshot: &mut Snapshot) {
    if let (Some(key), Some(settings)) = (key(found), found.get(1)) {
        let mut fresh = Snapshot::new();
        for row in settings.iter() {
            let cell = |index| row.get(index).unwrap_or_default();
            if let Some((desc, value)) = setting(cell(0), cell(1), cell(2), cell(3)) {
                fresh.sample(&desc, value);
            }
        }
        session.memory().put(MEMORY, key, fresh);
    }
    if let Some((_, kept)) = session.memory().get(MEMORY) {
        snapshot.append((*kept).clone());
    }
}

/// The family and the value of a setting; `None` when its unit or value cannot be read.
fn setting(name: &str, value: &str, unit: &str, vartype: &str) -> Option<(Desc, f64)> {
    let (suffix, factor) = match unit {
        "" => ("", 1.0),
        _ => unit_factor(unit)?,
    };
    let value = match (vartype, value) {
        ("bool", "on") => 1.0,
        ("bool", _) => 0.0,
        _ => match value.parse::<f64>() {
            // -1 means "none" or "default", whatever the unit.
            Ok(-1.0) => -1.0,
            Ok(number) => number * factor,
            // Some vendors write the unit behind the value.
            Err(_) => {
                let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
                let (_, own) = unit_factor(value[digits.len()..].trim())?;
                digits.parse::<f64>().ok()? * own
            }
        },
    };
    let clean = name.replace(['.', '-'], "_");
    let (family, help) = match suffix {
        "" => (format!("pg_settings_{clean}"), format!("Server Parameter: {name}")),
        suffix => (
            format!("pg_settings_{clean}_{suffix}"),
            format!("Server Parameter: {name} [Units converted to {suffix}.]"),
        ),
    };
    Some((Desc::new(Kind::Gauge, family, help), value))
}

/// `kB` → bytes, 1024; `16MB` → bytes, 16 × 1024²; `ms` → seconds, 0.001.
fn unit_factor(unit: &str) -> Option<(&'static str, f64)> {
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count = if digits == 0 { 1.0 } else { unit[..digits].parse().ok()? };
    let (base, factor) = match &unit[digits..] {
        "ms" => ("seconds", 0.001),
        "s" => ("seconds", 1.0),
        "min" => ("seconds", 60.0),
        "h" => ("seconds", 3600.0),
        "d" => ("seconds", 86_400.0),
        "B" => ("bytes", 1.0),
        "kB" => ("bytes", 1024.0),
        "MB" => ("bytes", 1024.0 * 1024.0),
        "GB" => ("bytes", 1024.0 * 1024.0 * 1024.0),
        "TB" => ("bytes", 1024.0 * 1024.0 * 1024.0 * 1024.0),
        _ => return None,
    };
    Some((base, count * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (name, value, unit, vartype, family, expected) in [
            ("autovacuum", "on", "", "bool", "pg_settings_autovacuum", 1.0),
            ("fsync", "off", "", "bool", "pg_settings_fsync", 0.0),
            ("shared_buffers", "16384", "8kB", "integer", "pg_settings_shared_buffers_bytes", 134_217_728.0),
            ("wal_segment_size", "16777216", "B", "integer", "pg_settings_wal_segment_size_bytes", 16_777_216.0),
            ("log_temp_files", "-1", "kB", "integer", "pg_settings_log_temp_files_bytes", -1.0),
            ("deadlock_timeout", "1000", "ms", "integer", "pg_settings_deadlock_timeout_seconds", 1.0),
            ("checkpoint_timeout", "5", "min", "integer", "pg_settings_checkpoint_timeout_seconds", 300.0),
            ("auto-explain.rate", "0.5", "", "real", "pg_settings_auto_explain_rate", 0.5),
            ("vendor.buffer", "64MB", "MB", "integer", "pg_settings_vendor_buffer_bytes", 67_108_864.0),
            ("vendor.delay", "100ms", "ms", "integer", "pg_settings_vendor_delay_seconds", 0.1),
        ] {
            let (desc, found) = setting(name, value, unit, vartype).unwrap();
            assert_eq!(desc.name, family);
            assert!((found - expected).abs() < 1e-9, "{name}: {found}");
        }
        assert!(setting("x", "1", "fortnight", "integer").is_none());
        assert!(setting("x", "abc", "", "integer").is_none());
    }
}

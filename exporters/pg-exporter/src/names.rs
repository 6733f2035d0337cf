//! What `--names=clean` calls the families whose name, type or unit postgres_exporter chose badly, without `pg_`.

use exporter_kit::names::CleanName;

pub(crate) const CLEAN: &[CleanName] = &[
    CleanName::gauge("locks_count", "locks"),
    CleanName::gauge("settings_tcp_keepalives_count", "settings_tcp_keepalives_probes"),
    CleanName::gauge("stat_activity_count", "stat_activity_sessions"),
    CleanName::counter("stat_archiver_archived_count", "stat_archiver_archived_total"),
    CleanName::counter("stat_archiver_failed_count", "stat_archiver_failed_total"),
    CleanName::counter("stat_database_blk_read_time", "stat_database_blk_read_seconds_total").times(MILLI),
    CleanName::counter("stat_database_blk_write_time", "stat_database_blk_write_seconds_total").times(MILLI),
    CleanName::gauge("stat_database_stats_reset", "stat_database_stats_reset_timestamp_seconds"),
    CleanName::counter("stat_database_*", "_total"),
];

const MILLI: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::CLEAN;

    #[test]
    fn the_documentation_has_each_of_them() {
        let page = include_str!("../../../docs/compatibility.md");
        for name in CLEAN {
            assert!(page.contains(&format!("| `pg_{}`", name.peer())), "{}", name.peer());
        }
        let rows = page.lines().skip_while(|line| *line != "| name | with `--names=clean` |").skip(2);
        assert_eq!(rows.take_while(|line| line.starts_with('|')).count(), CLEAN.len());
    }
}

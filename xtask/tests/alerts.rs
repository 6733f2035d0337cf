//! Alerts end to end: what breaks is told, what follows from it is not, and what is mended is over.

use std::process::Command;

#[test]
fn who_has_to_know_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command.args(["alerts-e2e", "--no-build", "--dir"]).arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for alert in ["RedisDown", "HighErrorRate", "DatabaseDown", "Watchdog is silent"] {
        assert!(said.contains(alert), "{said}");
    }
}

//! Unit tests of the rules notice mistakes: a sample, spread over all rules. `cargo xtask mutate-rules` tries every one.

use std::process::Command;

#[test]
fn mistakes_in_rules_are_noticed() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    let output = command.args(["mutate-rules", "--sample", "80"]).output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success() && stderr.contains("mutants are noticed"), "{stdout}{stderr}");
}

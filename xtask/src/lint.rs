//! `cargo xtask lint`: clippy over everything, warnings are errors.

use anyhow::Result;

use crate::cargo::{self, PROFILE};

pub(crate) fn run() -> Result<()> {
    cargo::run(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--profile",
        PROFILE,
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ])
}

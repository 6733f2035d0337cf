//! Whether a program that is linked as in its image needs no library of the system, and finds a server by its name all the same.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use testkit::redis::Redis;

use crate::cargo;

/// The one that takes the least time to build.
const PROGRAM: &str = "redis-exporter";

pub(crate) async fn check() -> Result<()> {
    let program = cargo::build_static(&["--package", PROGRAM], &[PROGRAM])?.remove(0);
    let headers = Command::new("readelf").arg("--program-headers").arg(&program).output();
    let headers = headers.context("running readelf, which comes with the linker")?;
    let headers = String::from_utf8_lossy(&headers.stdout);
    ensure!(headers.contains("LOAD") && !headers.contains("INTERP"), "it is linked dynamically:\n{headers}");
    let server = Redis::start().await?;
    let url = format!("redis://localhost:{}", server.port());
    let page = Command::new(&program).args(["once", "--url", &url]).output().context("running it")?;
    let (page, said) = (String::from_utf8_lossy(&page.stdout), String::from_utf8_lossy(&page.stderr));
    ensure!(page.contains("\nredis_up 1\n"), "it does not find localhost: {said}");
    Ok(())
}

//! The data folder that servers of a version start from, which is initialised once.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{EXPORTER, EXPORTER_PASSWORD};
use crate::{
    servers::{self, Installed},
    user::{self, Account},
};

/// The initialised data folder that servers of these binaries start from, made when there is none.
pub(super) fn of(installed: &Installed) -> Result<PathBuf> {
    let owner =
        Account::unprivileged().map_or_else(|| nix::unistd::geteuid().as_raw(), |account| account.uid);
    let folder = servers::cache_dir()?.join(format!("template-{}-{owner}", installed.name));
    servers::once(&folder, |folder| {
        user::give(folder).context("giving the template to the account of the server")?;
        let data = folder.join("data");
        let mut initdb = as_server(installed, "initdb");
        initdb.arg("-D").arg(&data).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ]);
        run(initdb, "")?;
        let conf = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&conf).with_context(|| format!("reading {}", conf.display()))?;
        text += "\ninclude_if_exists 'testkit.conf'\n";
        fs::write(&conf, text).with_context(|| format!("writing {}", conf.display()))?;
        let mut single = as_server(installed, "postgres");
        single.args(["--single", "-c", "password_encryption=scram-sha-256", "-D"]).arg(&data).arg("postgres");
        run(
            single,
            &format!("CREATE ROLE {EXPORTER} LOGIN PASSWORD '{EXPORTER_PASSWORD}' IN ROLE pg_monitor\n"),
        )
    })?;
    Ok(folder.join("data"))
}

/// One of the binaries, as the account that servers run as.
fn as_server(installed: &Installed, binary: &str) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(account) = Account::unprivileged() {
        command.args(account.setpriv_args());
    }
    command
        .args(["--inh-caps=-all", "--"])
        .arg(installed.binary(binary))
        .envs(installed.env())
        .current_dir("/");
    command
}

fn run(mut command: Command, input: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("writing to {command:?}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {command:?}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // A single-user server goes on after an error.
    if !output.status.success() || said.contains("ERROR:") {
        bail!("{command:?} ended with {} and said:\n{said}", output.status);
    }
    Ok(())
}

/// Copies a folder with owners and times.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp")
        .args(["--archive", "--reflink=auto", "--no-target-directory"])
        .args([from, to])
        .output()
        .context("running cp")?;
    if !output.status.success() {
        bail!("cp of {} to {}: {}", from.display(), to.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

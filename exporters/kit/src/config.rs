//! Configuration files and the values in them: strict YAML with errors that show the place, secrets that
//! cannot be printed, durations as Go and Prometheus write them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}; check the path and its permissions")]
    Read {
        /// The file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// The text is not the YAML wanted; unknown keys are errors.
    #[error("{name}:{line}:{column}: {message}")]
    Parse {
        /// The file, or what stands for it.
        name: String,
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// What is wrong, with the lines around it.
        message: String,
    },
    /// A secret that its file, environment variable or program does not give.
    #[error("cannot read the secret from {origin}: {cause}")]
    Secret {
        /// `file NAME`, `environment variable NAME` or `program NAME`.
        origin: String,
        /// Why.
        cause: String,
    },
}

/// Reads a YAML file. `T` denies unknown fields by `#[serde(deny_unknown_fields)]`.
///
/// # Errors
/// [`ConfigError`], naming the file and, when it can be read, the line, column and snippet.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(&read(path)?, &path.display().to_string())
}

/// Reads a YAML file that may be empty or hold only comments: that is `T::default()`.
///
/// # Errors
/// As [`load`].
pub fn load_or_empty<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ConfigError> {
    let text = read(path)?;
    let empty = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#') || line == "---";
    if text.lines().all(empty) { Ok(T::default()) } else { parse(&text, &path.display().to_string()) }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|cause| ConfigError::Read { path: path.display().to_string(), cause })
}

/// Reads YAML text; `name` stands for the file in errors.
///
/// # Errors
/// [`ConfigError::Parse`].
pub fn parse<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, ConfigError> {
    serde_saphyr::from_str(text).map_err(|error: serde_saphyr::Error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let mut message = error.without_snippet().to_string();
        // The place stands at the front already.
        if let Some(end) = message.rfind(" at line ").or_else(|| message.rfind(" (line ")) {
            message.truncate(end);
        }
        let hidden = message.contains(SECRET_IS);
        message.push_str(&snippet(text, line, column, hidden));
        ConfigError::Parse { name: name.to_owned(), line, column, message }
    })
}

/// A value and where it stands, for errors about what it means.
pub use serde_saphyr::Spanned;

/// An error about a value that could be read but makes no sense.
pub fn error_at<T>(text: &str, name: &str, at: &Spanned<T>, message: impl Into<String>) -> ConfigError {
    let (line, column) = (at.referenced.line(), at.referenced.column());
    let message = message.into() + &snippet(text, line, column, false);
    ConfigError::Parse { name: name.to_owned(), line, column, message }
}

/// The lines around an error, with keys but without values: they may be secrets, and a mistyped
/// `pasword` hides from any list of names. Only the value that the error is about is shown, unless `hidden`.
fn snippet(text: &str, line: u64, column: u64, hidden: bool) -> String {
    let line = usize::try_from(line).unwrap_or(0);
    let column = usize::try_from(column).unwrap_or(0).saturating_sub(1);
    if line == 0 {
        return String::new();
    }
    let mut out = String::new();
    for (number, source) in (1..).zip(text.lines()).skip(line.saturating_sub(3)).take(3) {
        if number > line {
            break;
        }
        let keys = match source.split_once(": ").or_else(|| source.strip_suffix(':').map(|key| (key, ""))) {
            Some((key, "")) => format!("{key}:"),
            Some((key, _)) => format!("{key}: \u{2026}"),
            None => "\u{2026}".to_owned(),
        };
        let shown = match source.char_indices().nth(column) {
            // The error is behind the key: it is about the value, or, at any other sign, about the YAML.
            Some((at, sign))
                if number == line
                    && !hidden
                    && sign.is_ascii_alphanumeric()
                    && source[..at].trim_end().ends_with(':') =>
            {
                let value = source[at..].split([',', '}', ']']).next().unwrap_or_default();
                let key = source[..at].rfind(['{', ',']).map_or(0, |before| before + 1);
                " ".repeat(source[..key].chars().count()) + &source[key..at] + value
            }
            _ => keys,
        };
        let _ = fmt::Write::write_fmt(&mut out, format_args!("\n{number:>5} | {shown}"));
    }
    let _ = fmt::Write::write_fmt(&mut out, format_args!("\n      | {}^", " ".repeat(column)));
    out
}

/// A password, token or key. It prints as `***`; [`Secret::reveal`] is the only way to its text.
///
/// In YAML: the text itself, `{file: path}`, `{env: NAME}` or `{command: [program, argument]}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Origin);

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Value(String),
    File(PathBuf),
    Env(String),
    Command(Vec<String>),
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// By hand, because serde's own errors quote the value.
struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SECRET_IS}{SECRET_FORMS}")
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Secret, E> {
        Ok(Secret::from(value.to_owned()))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(wrong_secret())
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(wrong_secret())
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(wrong_secret())
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(wrong_secret())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let secret = match map.next_key::<String>()?.as_deref() {
            Some("file") => Secret::from_file(map.next_value::<String>()?),
            Some("env") => Secret::from_env(map.next_value::<String>()?),
            Some("command") => match map.next_value::<Vec<String>>()? {
                words if words.is_empty() => return Err(wrong_secret()),
                words => Secret(Origin::Command(words)),
            },
            _ => return Err(wrong_secret()),
        };
        match map.next_key::<String>()? {
            None => Ok(secret),
            Some(_) => Err(wrong_secret()),
        }
    }
}

fn wrong_secret<E: serde::de::Error>() -> E {
    E::custom(format_args!("{SECRET_IS}{SECRET_FORMS}"))
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Origin::Value(value))
    }
}

impl Secret {
    /// A secret that is read from this file each time it is needed, without its last line's end.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self(Origin::File(path.into()))
    }

    /// A secret from this environment variable, or from the file that the variable of this name with `_FILE` names.
    pub fn from_env(name: impl Into<String>) -> Self {
        Self(Origin::Env(name.into()))
    }

    /// The text. A file is read anew, so a rotated secret is seen; a program is run, and waited for.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] when the file, the variable or the program does not give it.
    pub fn reveal(&self) -> Result<String, ConfigError> {
        match &self.0 {
            Origin::Value(value) => Ok(value.clone()),
            Origin::File(path) => std::fs::read_to_string(path).map(|text| line(&text)).map_err(|error| {
                ConfigError::Secret { origin: format!("file {}", path.display()), cause: error.to_string() }
            }),
            Origin::Command(words) => printed(words, COMMAND_LIMIT).map_err(|cause| ConfigError::Secret {
                // Its arguments may be secrets.
                origin: format!("program {}", words.first().map_or("", String::as_str)),
                cause,
            }),
            Origin::Env(name) => match (std::env::var(name), std::env::var_os(format!("{name}_FILE"))) {
                (Ok(value), _) => Ok(value),
                (Err(std::env::VarError::NotPresent), Some(file)) => Self::from_file(file).reveal(),
                (Err(error), _) => Err(ConfigError::Secret {
                    origin: format!("environment variable {name}"),
                    // VarError's Debug would show the bytes of a value that is not Unicode; its Display may too.
                    cause: match error {
                        std::env::VarError::NotPresent => format!("it is not set, nor is {name}_FILE"),
                        std::env::VarError::NotUnicode(_) => "it is not UTF-8".to_owned(),
                    },
                }),
            },
        }
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::from(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    /// Where it comes from, as a configuration has it; neither its text nor what a program is given.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = self.to_string();
        match &self.0 {
            Origin::Value(_) => serializer.serialize_str(&shown),
            Origin::File(path) => serializer.collect_map([("file", path.display().to_string())]),
            Origin::Env(name) => serializer.collect_map([("env", name)]),
            Origin::Command(words) => {
                let words: Vec<&str> =
                    words.iter().map(String::as_str).take(1).chain([shown.as_str()]).collect();
                serializer.collect_map([("command", words)])
            }
        }
    }
}

/// Starts the error of a wrong secret.
const SECRET_IS: &str = "a secret is ";
const SECRET_FORMS: &str =
    "text (quote a number), {file: path}, {env: NAME} or {command: [program, argument]}";

/// How long a program may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// A text without its last line's end.
fn line(text: &str) -> String {
    let line = text.strip_suffix('\n').unwrap_or(text);
    line.strip_suffix('\r').unwrap_or(line).to_owned()
}

/// What a program prints; no shell is in between. What it says on stderr goes to ours.
fn printed(words: &[String], limit: Duration) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("there is no program")?;
    let mut command = std::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().map_err(|error| error.to_string())?;
    let process = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(limit) else {
        // It may have ended just now.
        let _ = kill(process, Signal::SIGKILL);
        return Err(format!("it printed nothing for {} s, and was ended", limit.as_secs()));
    };
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("it ended with {}", output.status));
    }
    String::from_utf8(output.stdout).map(|text| line(&text)).map_err(|_| "it printed no UTF-8".to_owned())
}

/// A duration as Go and Prometheus write it: `250ms`, `1m30s`, `1.5h`, `2d`, `0`. For YAML and for clap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write a number with a unit, such as 250ms, 10s, 1m30s or 1.5h")]
pub struct DurationError(String);

/// Units with their length in nanoseconds, largest first. `d`, `w`, `y` are Prometheus', the rest Go's.
const UNITS: &[(&str, u64)] = &[
    ("y", 365 * 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

impl GoDuration {
    /// The duration itself.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl From<GoDuration> for Duration {
    fn from(duration: GoDuration) -> Self {
        duration.0
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let fail = || DurationError(text.to_owned());
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut rest = text;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
            let (number, tail) = rest.split_at(digits);
            let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?;
            let part = nanoseconds(number, *length).ok_or_else(fail)?;
            total = total.checked_add(part).ok_or_else(fail)?;
            rest = tail;
        }
        if text.is_empty() { Err(fail()) } else { Ok(Self(Duration::from_nanos(total))) }
    }
}

/// `number` (digits with at most one point) times `unit`, cut to whole nanoseconds as Go does.
fn nanoseconds(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut total = u128::from(whole.checked_mul(unit)?);
    // 18 digits are finer than a nanosecond of a year.
    let kept = fraction.get(..fraction.len().min(18))?;
    if !kept.is_empty() {
        let scale = 10_u128.pow(u32::try_from(kept.len()).ok()?);
        total += u128::from(kept.parse::<u64>().ok()?) * u128::from(unit) / scale;
    }
    u64::try_from(total).ok()
}

impl fmt::Display for GoDuration {
    /// The shortest exact text, which reads back: `1m30s`, `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in
            UNITS.iter().filter(|(unit, _)| unit.is_ascii() && !matches!(*unit, "y" | "w" | "d"))
        {
            let length = u128::from(*length);
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

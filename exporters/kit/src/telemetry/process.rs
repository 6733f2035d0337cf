//! `process_*`: the nine families of client_golang on Linux, read from `/proc/self`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use exposition::{Column, Desc, Shape, Snapshot};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};

use super::traffic;

/// Length of a tick of `/proc/self/stat`: `USER_HZ` is 100 on every architecture Linux runs on today.
const TICKS_PER_SECOND: f64 = 100.0;

/// What Linux calls "unlimited", as client_golang shows it.
const UNLIMITED: f64 = u64::MAX as f64;

static CPU: Desc =
    Desc::counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.");
static MAX_FDS: Desc = Desc::gauge("process_max_fds", "Maximum number of open file descriptors.");
static OPEN_FDS: Desc = Desc::gauge("process_open_fds", "Number of open file descriptors.");
static RESIDENT: Desc = Desc::gauge("process_resident_memory_bytes", "Resident memory size in bytes.");
static VIRTUAL: Desc = Desc::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.");
static VIRTUAL_MAX: Desc =
    Desc::gauge("process_virtual_memory_max_bytes", "Maximum amount of virtual memory available in bytes.");
static START: Desc =
    Desc::gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.");
static RECEIVED: Desc = Desc::counter(
    "process_network_receive_bytes_total",
    "Number of bytes received by the process over the network.",
);
static SENT: Desc = Desc::counter(
    "process_network_transmit_bytes_total",
    "Number of bytes sent by the process over the network.",
);

static RECEIVED_BY_ALL: Desc = Desc::counter(
    "process_network_receive_bytes_total",
    "Number of bytes received over the network by all processes in this one's network namespace.",
);
static SENT_BY_ALL: Desc = Desc::counter(
    "process_network_transmit_bytes_total",
    "Number of bytes sent over the network by all processes in this one's network namespace.",
);

/// In the order of [`Process::append`]'s values.
fn families(network: Network) -> [&'static Desc; 9] {
    let [received, sent] = match network {
        Network::Own => [&RECEIVED, &SENT],
        Network::Namespace => [&RECEIVED_BY_ALL, &SENT_BY_ALL],
    };
    [&CPU, &MAX_FDS, &OPEN_FDS, &RESIDENT, &VIRTUAL, &VIRTUAL_MAX, &START, received, sent]
}

/// What the network families count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// This process's connections, where all of them are [counted](traffic::counted).
    Own,
    /// The whole network namespace (`/proc/self/net/netstat`), as client_golang does: the only figure that there is where a
    /// library makes connections.
    Namespace,
}

/// This process now. What `/proc` does not tell is left out; without `/proc` the snapshot is empty.
pub fn collect(network: Network) -> Snapshot {
    let mut snapshot = Snapshot::new();
    append(&mut snapshot, network);
    snapshot
}

/// Adds [`collect`]'s samples.
pub fn append(snapshot: &mut Snapshot, network: Network) {
    static OWN: OnceLock<Process> = OnceLock::new();
    static NAMESPACE: OnceLock<Process> = OnceLock::new();
    let this = match network {
        Network::Own => &OWN,
        Network::Namespace => &NAMESPACE,
    };
    this.get_or_init(|| Process::open(Path::new("/proc"), network)).append(snapshot);
}

/// What is kept between two looks: files, which are read from their start each time, and what does not change while
/// the process runs.
struct Process {
    shape: Arc<Shape>,
    columns: [Column; 9],
    statm: Option<File>,
    traffic: Traffic,
    fds: PathBuf,
    max_fds: Option<f64>,
    max_virtual: Option<f64>,
    /// Seconds since 1970 at which the process started.
    start: Option<f64>,
    /// Bytes of a page of memory.
    page_size: Option<f64>,
}

/// Where the values of the network families come from.
enum Traffic {
    Counted,
    /// The file, and what it is read into.
    Netstat(Option<File>, Mutex<Vec<u8>>),
}

impl Process {
    fn open(proc: &Path, network: Network) -> Process {
        let limits = fs::read_to_string(proc.join("self/limits")).unwrap_or_default();
        let mut shape = Shape::new(&[]);
        let columns = families(network).map(|desc| shape.column(desc));
        let open = |name: &str| File::open(proc.join(name)).ok();
        Process {
            shape: Arc::new(shape),
            columns,
            statm: open("self/statm"),
            traffic: match network {
                Network::Own => Traffic::Counted,
                Network::Namespace => {
                    Traffic::Netstat(open("self/net/netstat"), Mutex::new(vec![0; 16 * 1024]))
                }
            },
            fds: proc.join("self/fd"),
            max_fds: soft_limit(&limits, "Max open files"),
            max_virtual: soft_limit(&limits, "Max address space"),
            start: start_time(proc),
            page_size: sysconf(SysconfVar::PAGE_SIZE).ok().flatten().map(|size| size as f64),
        }
    }

    fn append(&self, snapshot: &mut Snapshot) {
        let pages = read(self.statm.as_ref(), &mut [0; 256], Pages::read);
        let bytes = |of: fn(&Pages) -> f64| Some(of(pages.as_ref()?) * self.page_size?);
        let (received, sent) = self.traffic.octets().unzip();
        let values = [
            self.statm.as_ref().and_then(|_| cpu_seconds()),
            self.max_fds,
            open_fds(&self.fds),
            bytes(|pages| pages.resident),
            bytes(|pages| pages.size),
            self.max_virtual,
            self.start,
            received,
            sent,
        ];
        let table = snapshot.table_of(&self.shape);
        let mut row = table.row(&[]);
        for (column, value) in self.columns.iter().zip(values) {
            row.set_some(*column, value);
        }
    }
}

impl Traffic {
    /// Bytes in and out.
    fn octets(&self) -> Option<(f64, f64)> {
        match self {
            Traffic::Counted => {
                let (received, sent) = traffic::bytes();
                Some((received as f64, sent as f64))
            }
            Traffic::Netstat(file, buffer) => {
                read(file.as_ref(), &mut buffer.lock().unwrap_or_else(PoisonError::into_inner), octets)
            }
        }
    }
}

/// What a file says now. The kernel writes the whole text anew for every read, so one read has to do.
fn read<T>(file: Option<&File>, buffer: &mut [u8], parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    let length = file?.read_at(buffer, 0).ok()?;
    parse(std::str::from_utf8(&buffer[..length]).ok()?)
}

/// Number of open files. The size of the folder since Linux 6.2, which is 0 before.
fn open_fds(folder: &Path) -> Option<f64> {
    match fs::metadata(folder).ok()?.len() {
        // The folder is open itself while it is read.
        0 => fs::read_dir(folder).ok().map(|names| names.count().saturating_sub(1) as f64),
        count => Some(count as f64),
    }
}

/// User and system time of all threads. The system call is finer than the ticks of `/proc/self/stat`, and cheaper.
fn cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Memory in pages, from `/proc/self/statm` (proc_pid_statm(5)).
#[derive(Debug, PartialEq)]
struct Pages {
    size: f64,
    resident: f64,
}

impl Pages {
    fn read(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let mut field = || fields.next()?.parse().ok();
        Some(Self { size: field()?, resident: field()? })
    }
}

/// Seconds since 1970 at which this process started.
fn start_time(proc: &Path) -> Option<f64> {
    let read = |name: &str| fs::read_to_string(proc.join(name)).ok();
    Some(boot_time(&read("stat")?)? + start_ticks(&read("self/stat")?)? / TICKS_PER_SECOND)
}

/// When a process started after the machine did, from `/proc/self/stat` (proc_pid_stat(5)).
fn start_ticks(stat: &str) -> Option<f64> {
    // The second field, the program's name, may hold spaces and parentheses. The 22nd is wanted, the tail begins with the 3rd.
    let (_, tail) = stat.rsplit_once(')')?;
    tail.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// Seconds since 1970 at which the machine started.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    let value = limits.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next())?;
    if value == "unlimited" { Some(UNLIMITED) } else { value.parse().ok() }
}

/// Bytes in and out, from netstat's `IpExt:` pair of lines: names, then values.
fn octets(netstat: &str) -> Option<(f64, f64)> {
    // They are near the end of a long text.
    let mut lines = netstat.lines().rev().filter_map(|line| line.strip_prefix("IpExt:"));
    let (values, names) = (lines.next()?, lines.next()?);
    let mut fields = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
    let mut value = |name| fields.find(|field| field.0 == name)?.1.parse().ok();
    Some((value("InOctets")?, value("OutOctets")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(snapshot: &Snapshot) -> exposition::parse::Page {
        let mut text = String::new();
        exposition::text::encode(snapshot, &mut text);
        exposition::parse::page(&text).unwrap()
    }

    #[test]
    fn this_process_has_the_nine_families() {
        let page = page(&collect(Network::Own));
        let names: Vec<_> = page.families.iter().map(|family| family.name.as_str()).collect();
        for desc in families(Network::Own) {
            assert!(names.contains(&desc.name.as_ref()), "{} is missing in {names:?}", desc.name);
        }
        assert_eq!(names.len(), 9);
    }

    #[test]
    fn values_follow_what_the_process_does() {
        let open = || page(&collect(Network::Own)).value("process_open_fds", &[]).unwrap();
        let before = open();
        let files: Vec<_> = (0..10).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert_eq!(open() - before, 10.0);
        drop(files);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let started = page(&collect(Network::Own)).value("process_start_time_seconds", &[]).unwrap();
        assert!(started <= now + 2.0 && started > now - 3600.0, "{started} is not before {now}");
        let resident = page(&collect(Network::Own)).value("process_resident_memory_bytes", &[]).unwrap();
        let size = page(&collect(Network::Own)).value("process_virtual_memory_bytes", &[]).unwrap();
        assert!(resident > 1e5 && size >= resident, "{resident} {size}");
        let used = || page(&collect(Network::Own)).value("process_cpu_seconds_total", &[]).unwrap();
        let before = used();
        let started = std::time::Instant::now();
        while used() - before < 0.02 {
            assert!(started.elapsed().as_secs() < 30, "{} of a busy process", used());
        }
    }

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 1 1 20 0 1 0 12345 4096 99 1";
        assert_eq!(start_ticks(stat), Some(12345.0));
        assert_eq!(
            Pages::read("2566 1731 1445 881 0 262 0\n"),
            Some(Pages { size: 2566.0, resident: 1731.0 })
        );
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files   1024   4096   files\nMax address space   unlimited   unlimited   bytes\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(soft_limit(limits, "Max address space"), Some(18_446_744_073_709_551_615.0));
        let netstat = "TcpExt: A\nTcpExt: 1\nIpExt: X InOctets OutOctets\nIpExt: 1 20 30\n";
        assert_eq!(octets(netstat), Some((20.0, 30.0)));
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }

    #[test]
    fn without_proc_there_is_nothing() {
        let mut snapshot = Snapshot::new();
        Process::open(tempfile::tempdir().unwrap().path(), Network::Namespace).append(&mut snapshot);
        assert!(snapshot.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left_out(text in any::<String>()) {
            let _ = (start_ticks(&text), Pages::read(&text), boot_time(&text));
            let _ = (soft_limit(&text, ""), octets(&text));
        }
    }
}

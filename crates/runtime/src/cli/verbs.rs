//! The verbs with their flags: one table for the parser and for `--help`. Names, short forms and
//! meanings are runc's, whose callers bring their scripts along.

/// One flag of a verb.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    /// What its value is called in the help; `None` for a switch.
    pub(crate) value: Option<&'static str>,
    pub(crate) help: &'static str,
}

/// A verb.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Its operands, as the help writes them.
    pub(crate) operands: &'static str,
    /// How many it takes; `None` for any number above.
    pub(crate) least: usize,
    pub(crate) most: Option<usize>,
    /// What follows the first operand belongs to another program: no flags of ours.
    pub(crate) hands_on: bool,
    pub(crate) flags: &'static [Flag],
    /// More than one line on it.
    pub(crate) text: &'static str,
}

const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, value: None, help }
}

const fn value(long: &'static str, short: Option<char>, value: &'static str, help: &'static str) -> Flag {
    Flag { long, short, value: Some(value), help }
}

const BUNDLE: Flag = value("bundle", Some('b'), "DIR", "directory of the bundle (default: the current one)");
const CONSOLE_SOCKET: Flag =
    value("console-socket", None, "PATH", "Unix socket that receives the master of the process's terminal");
const PID_FILE: Flag = value("pid-file", None, "FILE", "file that the process's id is written to");
const NO_PIVOT: Flag = switch(
    "no-pivot",
    None,
    "move the root mount and chroot instead of pivot_root: for bundles on a ramdisk",
);
const NO_NEW_KEYRING: Flag = switch("no-new-keyring", None, "leave the process the caller's session keyring");
const PRESERVE_FDS: Flag = value(
    "preserve-fds",
    None,
    "N",
    "descriptors passed on beside the standard streams and those of $LISTEN_FDS (default: 0)",
);
const DETACH: Flag = switch("detach", Some('d'), "return when the process runs; it lives on");
const FORMAT: Flag = value("format", Some('f'), "FORMAT", "table or json (default: table)");

/// Flags before the verb.
pub(crate) const GLOBAL: &[Flag] = &[
    switch("debug", None, "log every step"),
    value("log", None, "FILE", "log file (default: standard error)"),
    value("log-format", None, "FORMAT", "text or json (default: text)"),
    value("root", None, "DIR", "directory of the containers' states (default: /run/seacow-runtime)"),
    value("criu", None, "PATH", "ignored: checkpoint and restore are not implemented"),
    switch("systemd-cgroup", None, "make cgroups through systemd; cgroupsPath is then slice:prefix:name"),
    value(
        "rootless",
        None,
        "BOOL",
        "do without cgroups where they are forbidden: true, false or auto (default)",
    ),
];

/// Verbs that are answered with NotImplemented, whatever flags of runc's they come with.
pub(crate) const MISSING: [&str; 2] = ["checkpoint", "restore"];

/// Every verb, in the order of the help.
pub(crate) const ALL: &[Verb] = &[
    Verb {
        name: "checkpoint",
        about: "checkpoint a running container (not implemented)",
        operands: "<container-id>",
        least: 0,
        most: None,
        hands_on: true,
        flags: &[],
        text: "Answers that it is not implemented.",
    },
    Verb {
        name: "create",
        about: "create a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[BUNDLE, CONSOLE_SOCKET, PID_FILE, NO_PIVOT, NO_NEW_KEYRING, PRESERVE_FDS],
        text: "Makes the container that the bundle's config.json describes, up to the point where its first\n\
               process waits for \"start\".",
    },
    Verb {
        name: "delete",
        about: "delete what is left of a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[switch("force", Some('f'), "kill it first when it runs; no error when it does not exist")],
        text: "The container must have stopped, or never have been started.",
    },
    Verb {
        name: "events",
        about: "print statistics and out-of-memory notices of a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[
            value(
                "interval",
                None,
                "DURATION",
                "time between two statistics, such as 500ms or 1m30s (default: 5s)",
            ),
            switch("stats", None, "print statistics once and end"),
        ],
        text: "Every line is a JSON object with type, id and data. Ends when the container does.",
    },
    Verb {
        name: "exec",
        about: "run one more process in a container",
        operands: "<container-id> <command> [argument...]  |  -p process.json <container-id>",
        least: 1,
        most: None,
        hands_on: true,
        flags: &[
            CONSOLE_SOCKET,
            value("cwd", None, "DIR", "working directory in the container"),
            value("env", Some('e'), "NAME=VALUE", "set an environment variable; may be given several times"),
            switch("tty", Some('t'), "give it a terminal"),
            value("user", Some('u'), "UID[:GID]", "user and group, as numbers"),
            value("additional-gids", Some('g'), "GID", "one more group; may be given several times"),
            value(
                "process",
                Some('p'),
                "FILE",
                "a process as config.json describes it, instead of all other flags",
            ),
            DETACH,
            PID_FILE,
            value("process-label", None, "LABEL", "its SELinux label"),
            value("apparmor", None, "PROFILE", "its AppArmor profile"),
            switch("no-new-privs", None, "set no_new_privs"),
            value("cap", Some('c'), "CAP", "add a capability; may be given several times"),
            PRESERVE_FDS,
            value("cgroup", None, "[CONTROLLER[,...]:]PATH", "a cgroup below the container's; it must exist"),
            switch("ignore-paused", None, "go on in a paused container; the process waits to be resumed"),
        ],
        text: "",
    },
    Verb {
        name: "kill",
        about: "send a signal to a container",
        operands: "<container-id> [signal]",
        least: 1,
        most: Some(2),
        hands_on: false,
        flags: &[switch("all", Some('a'), "to all its processes, not only to the first")],
        text: "The signal is a name with or without SIG, or a number (default: SIGTERM).",
    },
    Verb {
        name: "list",
        about: "list containers",
        operands: "",
        least: 0,
        most: Some(0),
        hands_on: false,
        flags: &[FORMAT, switch("quiet", Some('q'), "print ids alone")],
        text: "All that have their states below --root.",
    },
    Verb {
        name: "pause",
        about: "suspend all processes of a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[],
        text: "",
    },
    Verb {
        name: "ps",
        about: "list the processes of a container",
        operands: "<container-id> [option of ps...]",
        least: 1,
        most: None,
        hands_on: true,
        flags: &[FORMAT],
        text: "The table is what ps(1) prints with these options (default: -ef), cut down to the container.",
    },
    Verb {
        name: "restore",
        about: "restore a container from a checkpoint (not implemented)",
        operands: "<container-id>",
        least: 0,
        most: None,
        hands_on: true,
        flags: &[],
        text: "Answers that it is not implemented.",
    },
    Verb {
        name: "resume",
        about: "let a paused container go on",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[],
        text: "",
    },
    Verb {
        name: "run",
        about: "create and start a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[
            BUNDLE,
            CONSOLE_SOCKET,
            DETACH,
            switch("keep", None, "do not delete it when it has ended"),
            PID_FILE,
            switch("no-subreaper", None, "do not adopt its orphans"),
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
        ],
        text: "Without --detach it waits for the container, whose exit status becomes its own, and deletes it.",
    },
    Verb {
        name: "spec",
        about: "write a config.json to start from",
        operands: "",
        least: 0,
        most: Some(0),
        hands_on: false,
        flags: &[BUNDLE, switch("rootless", None, "for a caller who is not root")],
        text: "",
    },
    Verb {
        name: "start",
        about: "let a created container run its program",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[],
        text: "",
    },
    Verb {
        name: "state",
        about: "print the state of a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[],
        text: "",
    },
    Verb {
        name: "update",
        about: "change the limits of a container",
        operands: "<container-id>",
        least: 1,
        most: Some(1),
        hands_on: false,
        flags: &[
            value(
                "resources",
                Some('r'),
                "FILE",
                "linux.resources as config.json has them, or - for standard input",
            ),
            value("blkio-weight", None, "N", "weight of block I/O, 10 to 1000"),
            value("cpu-period", None, "USEC", "period of the CPU quota"),
            value("cpu-quota", None, "USEC", "CPU time in a period; -1 for no limit"),
            value("cpu-burst", None, "USEC", "CPU time that may be saved up"),
            value("cpu-share", None, "N", "CPU weight relative to others (1024 is usual)"),
            value("cpu-rt-period", None, "USEC", "period of real-time scheduling"),
            value("cpu-rt-runtime", None, "USEC", "real-time CPU time in a period"),
            value("cpuset-cpus", None, "LIST", "CPUs, such as 0-2,7"),
            value("cpuset-mems", None, "LIST", "memory nodes"),
            value("kernel-memory", None, "SIZE", "ignored: the kernel has given it up"),
            value("kernel-memory-tcp", None, "SIZE", "ignored: the kernel has given it up"),
            value("memory", None, "SIZE", "memory limit, such as 512M; -1 for none"),
            value("memory-reservation", None, "SIZE", "memory kept when it is short elsewhere"),
            value("memory-swap", None, "SIZE", "memory and swap together; -1 for no limit"),
            value("pids-limit", None, "N", "processes and threads; -1 for no limit"),
            value("l3-cache-schema", None, "TEXT", "not implemented"),
            value("mem-bw-schema", None, "TEXT", "not implemented"),
            value("cpu-idle", None, "0|1", "1 for SCHED_IDLE"),
        ],
        text: "What is not named stays as it is. With --resources all other flags are ignored.",
    },
    Verb {
        name: "features",
        about: "print what this runtime can do",
        operands: "",
        least: 0,
        most: Some(0),
        hands_on: false,
        flags: &[],
        text: "As JSON, in the form of the OCI specification's features document.",
    },
];

/// Finds a verb by its name.
pub(crate) fn find(name: &str) -> Option<&'static Verb> {
    ALL.iter().find(|verb| verb.name == name)
}

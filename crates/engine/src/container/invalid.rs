//! What is wrong with a create or update request, in Docker's words.

use seacow_spec::{Classified, ErrorClass};

use crate::config::CgroupDriver;

/// A request that cannot be carried out as it is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum Invalid {
    #[error("config cannot be empty in order to create a container")]
    EmptyConfig,
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    #[error("a container is cloned 1 to {0} times")]
    CloneCount(usize),
    #[error("a container is forked 1 to {0} times at once")]
    ForkCount(usize),
    #[error("no command specified")]
    NoCommand,
    #[error("invalid hostname format: {0}")]
    Hostname(String),
    #[error("the working directory '{0}' is invalid, it needs to be an absolute path")]
    WorkingDir(String),
    #[error("invalid environment variable: {0}")]
    Env(String),
    #[error("invalid signal: {0}")]
    Signal(String),
    #[error("invalid network mode: {0}")]
    NetworkMode(String),
    #[error("conflicting options: {0} and the network mode")]
    NetworkConflict(&'static str),
    #[error("container cannot be connected to network endpoints: {0}")]
    Endpoints(String),
    #[error("user specified IP address is supported on user defined networks only")]
    StaticAddress,
    #[error("network-scoped alias is supported only for containers in user defined networks")]
    Alias,
    #[error("invalid MAC address: {0}")]
    MacAddress(String),
    #[error("invalid IP address in add-host: {0:?}")]
    ExtraHostAddress(String),
    #[error("bad format for add-host: {0:?}")]
    ExtraHost(String),
    #[error("invalid IPC mode: {0}")]
    IpcMode(String),
    #[error("invalid PID mode: {0}")]
    PidMode(String),
    #[error("invalid UTS mode: {0}")]
    UtsMode(String),
    #[error("invalid user namespace mode: {0:?}: it is empty, for the daemon's choice, or \"host\"")]
    UsernsMode(String),
    #[error(
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode"
    )]
    RemappedPrivileged,
    #[error("cannot share the host's network namespace when user namespaces are enabled")]
    RemappedNetwork,
    #[error("cannot share the host PID namespace when user namespaces are enabled")]
    RemappedPid,
    #[error(
        "cannot join the namespaces of container {0}, which has the host's ids, from a user namespace: use --userns=host"
    )]
    JoinUnmapped(String),
    #[error("cannot join the namespaces of containers in different user namespaces")]
    JoinSeveral,
    #[error("invalid cgroup namespace mode: {0}")]
    CgroupnsMode(String),
    #[error("invalid isolation {0:?} on linux")]
    Isolation(String),
    #[error("conflicting options: hostname and the UTS mode")]
    UtsHostname,
    #[error(transparent)]
    Runtime(#[from] crate::runtime::Unknown),
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    RestartPolicy(String),
    #[error("can't create 'AutoRemove' container with restart policy")]
    AutoRemoveRestart,
    #[error("logger: no log driver named '{0}' is registered")]
    LogDriver(String),
    #[error("unknown log opt '{0}' for json-file log driver")]
    LogOption(String),
    #[error("invalid value {value:?} of log opt '{option}'")]
    LogValue { option: &'static str, value: String },
    #[error("invalid CapAdd: unknown capability: {0:?}")]
    CapAdd(String),
    #[error("invalid CapDrop: unknown capability: {0:?}")]
    CapDrop(String),
    #[error("invalid --security-opt: {0:?}")]
    SecurityOption(String),
    #[error("Decoding seccomp profile failed: {0}")]
    SeccompProfile(String),
    #[error("Invalid value {0}, range for oom score adj is [-1000, 1000]")]
    OomScoreAdj(i32),
    #[error("SHM size can not be less than 0")]
    ShmSize,
    #[error("sysctl {0:?} is not in a separate kernel namespace")]
    Sysctl(String),
    #[error("sysctl {0:?} not allowed in host {1} namespace")]
    SysctlHost(String, &'static str),
    #[error("Minimum memory limit allowed is 6MB")]
    MemoryMinimum,
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    SwapBelowMemory,
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    ReservationAboveMemory,
    #[error("Minimum memory reservation allowed is 6MB")]
    ReservationMinimum,
    #[error("Invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(i64),
    #[error("Conflicting options: Nano CPUs and {0} cannot both be set")]
    NanoCpus(&'static str),
    #[error("Range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    CpuRange(usize),
    #[error("Invalid value {0}, cpu shares may not be negative")]
    CpuShares(i64),
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    CpuPeriod,
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    CpuQuota,
    #[error("Invalid value {value} for {option}")]
    Cpuset { option: &'static str, value: String },
    #[error("Requested {what} are not available - requested {wanted}, available: {available}")]
    CpusetMissing { what: &'static str, wanted: String, available: String },
    #[error("Range of blkio weight is from 10 to 1000")]
    BlkioWeight,
    #[error("invalid pids limit {0}")]
    PidsLimit(i64),
    #[error("invalid ulimit {0}: soft limit must be less than or equal to hard limit: {1} > {2}")]
    UlimitOrder(String, i64, i64),
    #[error("invalid ulimit type: {0}")]
    UlimitType(String),
    #[error("error gathering device information while adding custom device {0:?}: {1}")]
    Device(String, String),
    #[error("cgroup-parent {0:?} is not valid for the {driver} cgroup driver: {how}", driver = .1.name(), how = match .1 {
        CgroupDriver::Systemd => "it should be a valid slice named as \"xxx.slice\"",
        CgroupDriver::Cgroupfs => "it should be a path",
    })]
    CgroupParent(String, CgroupDriver),
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    #[error("invalid device mode: {0}")]
    DeviceMode(String),
    #[error("invalid volume specification: '{spec}': {why}")]
    Bind { spec: String, why: &'static str },
    #[error("invalid mode: {0}")]
    BindMode(String),
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    #[error("Duplicate mount point: {0}")]
    DuplicateMount(String),
    #[error("invalid mount config for type \"{kind}\": {why}")]
    Mount { kind: String, why: String },
    #[error("invalid mount config for type {0:?}: mount type unknown")]
    MountType(String),
    #[error("Unknown storage option: {0}; there is only size")]
    StorageOption(String),
    #[error("invalid size in --storage-opt: {0:?}")]
    StorageSize(String),
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    #[error("invalid link-local, DNS or other address: {0:?}")]
    Dns(String),
    #[error("cannot {0} container {1}: it is the container itself")]
    SelfReference(&'static str, String),
    #[error("Restart policy cannot be updated because AutoRemove is enabled for the container")]
    RestartPolicyAutoRemove,
}

impl Classified for Invalid {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

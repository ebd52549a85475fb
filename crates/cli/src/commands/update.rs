//! `update`: other limits for containers that exist.

use seacow_spec::docker::container::{UpdateRequest, UpdateResponse};
use seacow_spec::docker::host_config::Resources;

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO};
use crate::opts::resources::{nano_cpus, restart_policy, swap};

const FLAGS: &[Flag] = &[
    Flag::new(
        NO,
        "blkio-weight",
        Kind::Uint16,
        "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    )
    .default("0"),
    Flag::new(NO, "cpu-period", Kind::Int, "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag::new(NO, "cpu-quota", Kind::Int, "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag::new(NO, "cpu-rt-period", Kind::Int, "Limit the CPU real-time period in microseconds"),
    Flag::new(NO, "cpu-rt-runtime", Kind::Int, "Limit the CPU real-time runtime in microseconds"),
    Flag::new('c', "cpu-shares", Kind::Int, "CPU shares (relative weight)"),
    Flag::new(NO, "cpus", Kind::Decimal, "Number of CPUs"),
    Flag::new(NO, "cpuset-cpus", Kind::Str, "CPUs in which to allow execution (0-3, 0,1)"),
    Flag::new(NO, "cpuset-mems", Kind::Str, "MEMs in which to allow execution (0-3, 0,1)"),
    Flag::new('m', "memory", Kind::Bytes, "Memory limit"),
    Flag::new(NO, "memory-reservation", Kind::Bytes, "Memory soft limit"),
    Flag::new(
        NO,
        "memory-swap",
        Kind::SwapBytes,
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    ),
    Flag::new(NO, "pids-limit", Kind::Int, "Tune container pids limit (set -1 for unlimited)"),
    Flag::new(NO, "restart", Kind::Str, "Restart policy to apply when a container exits"),
];

/// `update`
pub(crate) const COMMAND: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Update configuration of one or more containers",
    aliases: &["container update", "update"],
    flags: &[FLAGS],
    args: Args::AtLeast(1),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    if !FLAGS.iter().any(|flag| matches.changed(flag.long)) {
        return Err(Failure::refused("you must provide one or more flags when using this command"));
    }
    let resources = Resources {
        blkio_weight: u16::try_from(matches.int("blkio-weight")).unwrap_or(0),
        cpuset_cpus: matches.str("cpuset-cpus").to_owned(),
        cpuset_mems: matches.str("cpuset-mems").to_owned(),
        cpu_shares: matches.int("cpu-shares"),
        memory: matches.bytes("memory"),
        memory_reservation: matches.bytes("memory-reservation"),
        memory_swap: swap(matches),
        cpu_period: matches.int("cpu-period"),
        cpu_quota: matches.int("cpu-quota"),
        cpu_realtime_period: matches.int("cpu-rt-period"),
        cpu_realtime_runtime: matches.int("cpu-rt-runtime"),
        nano_cpus: nano_cpus(matches),
        pids_limit: matches.int_given("pids-limit"),
        ..Resources::default()
    };
    let policy = restart_policy(matches.str("restart")).map_err(Failure::Refused)?;
    let request = UpdateRequest { resources, restart_policy: Some(policy) };
    let client = invocation.client()?;
    let mut failures = Vec::new();
    let mut warnings = Vec::new();
    for name in invocation.args() {
        let call = client.post(format!("/containers/{}/update", escape(name)));
        match call.exchange_json::<_, UpdateResponse>(&request) {
            Ok(answer) => {
                warnings.extend(answer.warnings.unwrap_or_default());
                crate::outln(name)?;
            }
            Err(error) => failures.push(error.into()),
        }
    }
    for warning in warnings {
        crate::outln(&warning)?;
    }
    Failure::all(failures)
}

//! `port`: where a container's ports are published.

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::format::Json;

/// `port`
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List port mappings or a specific mapping for the container",
    aliases: &["container port", "port"],
    args: Args::Between(1, 2),
    run,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let (name, wanted) = (invocation.arg(0), invocation.arg(1));
    let container: Json = invocation.client()?.get(format!("/containers/{}/json", escape(name))).json()?;
    let ports = container.at(&["NetworkSettings", "Ports"]);
    if wanted.is_empty() {
        let mut lines = Vec::new();
        for (port, bindings) in ports.members() {
            lines
                .extend(bindings.array().iter().map(|b| (number(port), format!("{port} -> {}", address(b)))));
        }
        lines.sort();
        return lines.iter().try_for_each(|(_, line)| crate::outln(line));
    }
    let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    if port.parse::<u16>().is_err() {
        return Err(Failure::Refused(format!(
            "Error: invalid port ({wanted}): strconv.ParseUint: parsing {port:?}: invalid syntax"
        )));
    }
    let bindings = ports.get(&format!("{port}/{protocol}")).array();
    if bindings.is_empty() {
        return Err(Failure::Refused(format!("Error: No public port '{wanted}' published for {name}")));
    }
    bindings.iter().try_for_each(|b| crate::outln(&address(b)))
}

fn number(port: &str) -> u32 {
    port.split('/').next().and_then(|p| p.parse().ok()).unwrap_or(0)
}

fn address(binding: &Json) -> String {
    let (ip, port) = (binding.str("HostIp"), binding.str("HostPort"));
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

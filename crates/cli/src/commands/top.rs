//! `top`: a container's processes.

use seacow_spec::docker::container::TopResponse;

use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::Outcome;
use crate::format::table;

/// `top`
pub(crate) const COMMAND: Command = Command {
    usage: "CONTAINER [ps OPTIONS]",
    about: "Display the running processes of a container",
    aliases: &["container top", "top"],
    args: Args::AtLeast(1),
    run,
    interspersed: false,
    ..Command::EMPTY
};

fn run(invocation: &Invocation<'_>) -> Outcome {
    let options = invocation.args()[1..].join(" ");
    let path = format!("/containers/{}/top", escape(invocation.arg(0)));
    let top: TopResponse = invocation.client()?.get(path).query_some("ps_args", &options).json()?;
    let mut text = top.titles.join("\t") + "\n";
    for process in &top.processes {
        text.push_str(&(process.join("\t") + "\n"));
    }
    crate::out(&table::align_with(&text, 20, 3))
}

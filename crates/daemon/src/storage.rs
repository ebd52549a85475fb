//! `seacowd storage`: work on the store file of a data root that no daemon uses.

use std::io::{IsTerminal as _, Write as _};

use seacow_engine::config::StoreFileSize;
use seacow_engine::{Config, EngineError, storefile};

use crate::Fatal;
use crate::config::{Storage, store_file_size};

/// Does it and prints the outcome.
pub(crate) fn run(what: Storage, config: &Config) -> Result<(), Fatal> {
    if !rustix::process::geteuid().is_root() {
        return Err(Fatal::NotRoot);
    }
    let text = match what {
        Storage::Init { size } => {
            let size = size.map_or(Ok(StoreFileSize::OfDisk), |size| store_file_size("size", &size))?;
            init(config, size).map_err(Fatal::Storage)?
        }
        Storage::Status => status(config).map_err(Fatal::Storage)?,
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|source| Fatal::Io { step: "print", source })
}

fn init(config: &Config, size: StoreFileSize) -> Result<String, EngineError> {
    // A terminal has one line, which changes; a log one for everything that was moved.
    let is_terminal = std::io::stderr().is_terminal();
    let (begin, end) = if is_terminal { ("\r\x1b[K", "") } else { ("", "\n") };
    let mut before = String::new();
    let made = storefile::create(config, size, &mut |step| {
        let percent = (step.done.min(step.total) * 100).checked_div(step.total).unwrap_or(100);
        let line = format!("{percent:3} %  {} of {}  {}", mib(step.done), mib(step.total), shown(&step.what));
        if line != before {
            eprint!("{begin}{line}{end}");
            before = line;
        }
    });
    if is_terminal && !before.is_empty() {
        eprintln!();
    }
    made?;
    status(config)
}

/// A name that leaves room beside it: those of layers are long.
fn shown(what: &str) -> String {
    const ROOM: usize = 48;
    if what.chars().count() <= ROOM {
        return what.to_owned();
    }
    what.chars().take(ROOM - 1).chain(['…']).collect()
}

fn status(config: &Config) -> Result<String, EngineError> {
    let Some(status) = storefile::status(config)? else {
        return Ok(format!("{} has no store file\n", config.data_root.display()));
    };
    let mounted = status.mounted.as_ref().map_or_else(
        || "not mounted: no daemon uses it".to_owned(),
        |at| format!("{}, {} used", at.display(), mib(status.used)),
    );
    Ok(format!(
        "Store file: {}\nMounted:    {mounted}\nSize:       {}\nTakes:      {}\nHost free:  {}\n",
        status.file.display(),
        mib(status.size),
        mib(status.allocated),
        mib(status.host_free),
    ))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

//! seacowd: Docker's REST API over the engine.
//!
//! Routes turn requests into calls of the engine's verbs and their results into the answers that
//! Docker's clients of any age know. Nothing is decided here but what concerns HTTP: which status
//! an error class has, what shape an API version wants, how a connection leaves HTTP.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | flags and `daemon.json` |
//! | [`http`] | requests, answers, errors, routing |
//! | [`open_files`] | the daemon's own limit |
//! | [`pidfile`] | one daemon per pid file |
//! | [`routes`] | one file per resource of the API |
//! | [`server`] | sockets and connections |
//! | [`storage`] | the store file of a data root, while no daemon runs |
#![forbid(unsafe_code)]

mod config;
mod http;
mod open_files;
mod pidfile;
mod routes;
mod server;
mod storage;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use seacow_engine::remap::{Remap, RemapError};
use seacow_engine::{Engine, EngineError, Selinux, SelinuxError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use config::{Action, Flags, Settings, SettingsError};
use pidfile::{PidFile, PidFileError};
use server::listen::ListenError;
use server::{accept, activation, listen};

/// Threads for what blocks: one for each stream that a client may take its time with, and as many as
/// make sense for short work on one disk.
const BLOCKING_THREADS: usize = seacow_engine::pipe::MAX_STREAMS + 64;

/// Why the daemon ended.
#[derive(Debug, thiserror::Error)]
enum Fatal {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(
        "seacowd must run as root: start it with sudo, or let systemd do it (rootless mode is not built yet)"
    )]
    NotRoot,
    #[error(transparent)]
    Remap(#[from] RemapError),
    #[error(transparent)]
    Selinux(#[from] SelinuxError),
    #[error("start the engine: {0}")]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Storage(EngineError),
    #[error("{step}: {source}")]
    Io { step: &'static str, source: std::io::Error },
}

fn main() -> ExitCode {
    let mut flags = Flags::parse();
    let action = flags.action.take();
    let validate = flags.validate;
    let result = Settings::new(flags).map_err(Fatal::from).and_then(|settings| {
        if validate {
            println!("configuration OK");
            return Ok(());
        }
        if let Some(Action::Storage(what)) = action {
            return storage::run(what, &settings.engine);
        }
        start_logging(settings.log_level);
        run(settings)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seacowd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One line per event on standard error, where systemd collects it.
fn start_logging(level: tracing::Level) {
    use std::io::IsTerminal as _;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// One thread runs all of async: a request sequence takes 189 µs so and 244 µs with two workers,
/// whose wake-ups cost more than the little work that there is between two system calls.
fn run(settings: Settings) -> Result<(), Fatal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|source| Fatal::Io { step: "start the event loop", source })?;
    let result = runtime.block_on(serve(settings));
    // Work that blocks for good must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

async fn serve(mut settings: Settings) -> Result<(), Fatal> {
    if !rustix::process::geteuid().is_root() {
        return Err(Fatal::NotRoot);
    }
    let _pidfile = settings.pidfile.as_deref().map(PidFile::write).transpose()?;
    settings.engine.open_files = open_files::raise();
    if settings.selinux_enabled {
        settings.engine.selinux = Selinux::of_host()?.map(Arc::new);
        if settings.engine.selinux.is_none() {
            tracing::warn!(
                "SELinux could not be enabled: this host does not have it; containers have no labels"
            );
        }
    }
    if let Some(user) = &settings.userns_remap {
        settings.engine.remap = Remap::resolve(user)?;
    }
    let sockets = listen::open(&settings.hosts, settings.group.as_deref())?;
    let engine = Engine::boot(settings.engine).await?;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(accept::serve_all(sockets, engine.clone(), stopped));
    tracing::info!(hosts = ?settings.hosts, "seacowd {} is ready", env!("CARGO_PKG_VERSION"));
    activation::notify("READY=1");
    await_stop().await?;
    activation::notify("STOPPING=1");
    // Fails only when nobody serves any more.
    let _ = stop.send(true);
    let end = async {
        // A panic in there is logged by itself; the engine is to be shut down all the same.
        let _ = serving.await;
        engine.shutdown(true).await;
    };
    tokio::select! {
        () = end => {}
        again = await_stop() => {
            again?;
            tracing::warn!("asked again to stop; stopping at once");
        }
    }
    remove_sockets(&settings.hosts);
    tracing::info!("seacowd stops; containers go on");
    Ok(())
}

fn remove_sockets(hosts: &[listen::Address]) {
    for host in hosts {
        if let listen::Address::Unix(path) = host
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}

/// Returns on SIGTERM or SIGINT; SIGHUP is answered meanwhile.
async fn await_stop() -> Result<(), Fatal> {
    let listen = |kind| signal(kind).map_err(|source| Fatal::Io { step: "watch for signals", source });
    let mut term = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => tracing::info!(
                "no setting can be changed while the daemon runs; restart it (containers go on meanwhile)"
            ),
        }
    }
}

//! Stopping, killing and restarting.
//!
//! None of these holds `ops` while it waits for the program: a kill or a forced removal must get
//! through to a container that takes its time to stop.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seacow_spec::lifecycle::{Event, State};
use seacow_spec::shim::{Request, Target};
use seacow_spec::signal;

use super::{Container, ContainerError, Invalid};
use crate::Engine;
use crate::config::STOP_TIMEOUT;
use crate::error::EngineError;
use crate::shim::ShimClient;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// How long a container may take to die of SIGKILL. A process in an uninterruptible sleep cannot.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Shims of earlier releases let a pause that comes right after SIGKILL freeze the process before
/// it dies: then it is thawed.
const THAW_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    /// Stops a container: its stop signal, then after `timeout` seconds SIGKILL. −1 waits forever.
    ///
    /// # Errors
    /// It does not run (not modified), the signal is unknown, or it does not die.
    pub async fn stop(
        &self,
        reference: &str,
        timeout: Option<i64>,
        signal: Option<String>,
    ) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("stop a container", async move {
            settle_start(&container).await;
            if !container.cell().is_alive() {
                return Err(ContainerError::NotModified(container.id.to_string(), "stopped").into());
            }
            engine.stop_running(&container, timeout, signal.as_deref()).await?;
            engine.emit(container.event("stop", &[]));
            Ok(())
        })
        .await
    }

    /// Stops a container that runs, and starts it.
    ///
    /// # Errors
    /// As for stop and start.
    pub async fn restart(
        &self,
        reference: &str,
        timeout: Option<i64>,
        signal: Option<String>,
    ) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("restart a container", async move {
            settle_start(&container).await;
            if container.cell().is_alive() {
                // A container removed at its end would have nothing to start again.
                container.cell().restarting += 1;
                let stopped = engine.stop_running(&container, timeout, signal.as_deref()).await;
                container.cell().restarting -= 1;
                stopped?;
                engine.emit(container.event("stop", &[]));
            }
            let _busy = engine.0.pool.busy();
            let _one = container.ops.lock().await;
            match engine.start_locked(&container).await {
                // Somebody else started it in between, which is what was wanted.
                Ok(()) | Err(EngineError::Container(ContainerError::NotModified(..))) => {
                    engine.emit(container.event("restart", &[]));
                    Ok(())
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Sends a signal; SIGKILL also waits for the end, as Docker does.
    ///
    /// # Errors
    /// It does not run, or the signal is unknown.
    pub async fn kill(&self, reference: &str, signal: Option<String>) -> Result<(), EngineError> {
        let container = self.0.containers.find(reference)?;
        let wrap = |source: ContainerError| ContainerError::Kill {
            reference: reference.to_owned(),
            source: Box::new(source),
        };
        let number = match signal.as_deref() {
            None | Some("") => SIGKILL,
            Some(text) => parse(text).map_err(|error| wrap(error.into()))?,
        };
        let shim = container.live_shim().map_err(wrap)?;
        if number == SIGKILL {
            return self.kill_and_wait(&container).await;
        }
        self.signal(&container, &shim, number).await
    }

    async fn stop_running(
        &self,
        container: &Arc<Container>,
        timeout: Option<i64>,
        signal: Option<&str>,
    ) -> Result<(), EngineError> {
        let (configured, seconds) = {
            let cell = container.cell();
            let config = &cell.record.config;
            (config.stop_signal.clone().filter(|signal| !signal.is_empty()), config.stop_timeout)
        };
        let number = match signal.filter(|signal| !signal.is_empty()).map(str::to_owned).or(configured) {
            Some(text) => parse(&text)?,
            None => SIGTERM,
        };
        let seconds = timeout.or(seconds).unwrap_or(STOP_TIMEOUT);
        let mut life = container.watch();
        let (shim, run) = match container.live_run() {
            Ok(live) => live,
            // It ended by itself just now.
            Err(_) => return Ok(()),
        };
        match self.signal(container, &shim, number).await {
            Ok(()) => {}
            Err(_) if !container.cell().is_alive() => return Ok(()),
            Err(error) => tracing::warn!(id = container.id.short(), %error, "send the stop signal"),
        }
        let ended = life.wait_for(|life| life.is_over(run));
        let in_time = match u64::try_from(seconds) {
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), ended).await.is_ok(),
            // Negative: for as long as it takes.
            Err(_) => ended.await.is_ok(),
        };
        if in_time { Ok(()) } else { self.kill_and_wait(container).await }
    }

    /// Sends a signal to the main process; a frozen container is thawed to receive it.
    async fn signal(
        &self,
        container: &Arc<Container>,
        shim: &ShimClient,
        number: i32,
    ) -> Result<(), EngineError> {
        let request = Request::Signal { target: Target::Init, signal: number, all: false };
        shim.send(request, None)?.done().await?;
        self.emit(container.event("kill", &[("signal", number.to_string())]));
        if number == SIGKILL || number == SIGTERM {
            thaw(container, shim).await;
        }
        Ok(())
    }

    /// Kills the main process and waits until its end was reported.
    pub(super) async fn kill_and_wait(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let mut life = container.watch();
        let Ok((shim, run)) = container.live_run() else {
            if container.cell().is_alive() {
                // Its shim was lost and is being cleared away.
                let _ = tokio::time::timeout(KILL_PATIENCE, life.wait_for(|life| !life.is_running())).await;
            }
            return Ok(());
        };
        if let Err(error) = self.signal(container, &shim, SIGKILL).await
            && container.cell().is_alive()
            && !life.borrow().is_over(run)
        {
            return Err(error);
        }
        let begin = Instant::now();
        loop {
            let ended = life.wait_for(|life| life.is_over(run));
            if tokio::time::timeout(THAW_AGAIN, ended).await.is_ok() {
                return Ok(());
            }
            // After the last thaw it has had a moment to end, however long that took to be done.
            if begin.elapsed() >= KILL_PATIENCE {
                return Err(ContainerError::Unkillable(container.id.to_string()).into());
            }
            thaw(container, &shim).await;
        }
    }
}

/// A frozen process does not even die of SIGKILL.
async fn thaw(container: &Container, shim: &ShimClient) {
    let _freezing = container.freezing.lock().await;
    if !container.cell().is_paused() {
        return;
    }
    let Ok(pending) = shim.send(Request::Resume, None) else { return };
    // An error: somebody else thawed it, or it died already.
    if pending.done().await.is_ok() {
        let _ = container.cell().apply(Event::Resumed);
    }
}

/// Lets a start that is under way come to its end.
async fn settle_start(container: &Container) {
    if matches!(container.cell().record.state, State::Starting) {
        drop(container.ops.lock().await);
    }
}

fn parse(text: &str) -> Result<i32, Invalid> {
    signal::parse(text).map_err(|error| Invalid::Signal(error.0))
}

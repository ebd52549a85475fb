//! `POST /containers/{id}/fork`: new containers that go on from the state of one that runs.
//!
//! ```text
//! daemon: reasons ─ drafts ─ networks ··········▶ ready before they are needed
//!                     └ Fork ─▶ paused: files captured ─▶ writable layers ··▶ clones ─ start ─ records
//! shim:                  stop, take │                 │ template             │ one after another
//! ```
//! What can be made beside the shim's work is made meanwhile. A record is written when its clone runs: a
//! daemon that is killed before leaves a half-made one to its shim, which ends it, and one killed afterwards
//! finds it running. Whatever happens, the source goes on.

mod draft;
mod pause;
mod reasons;

use std::sync::Arc;
use std::time::Duration;

use seacow_spec::Timestamp;
use seacow_spec::docker::fork::{ForkAnswer, ForkReasons, ForkTimes};
use seacow_spec::lifecycle::State;
use seacow_spec::shim::{Answer, ForkPath, Forked, Request};

use super::capture::Files;
use super::record::Record;
use super::{Container, ContainerError, Invalid};
use crate::error::EngineError;
use crate::shim::{Pending, ShimClient, ShimError};
use crate::{Caller, Engine};
use draft::Draft;

/// Forks that one call may make: as many as one bridge connects.
const MAX_FORKS: usize = 1000;
/// How long the source may stand still. A gigabyte in pages of 4 KiB takes some 20 ms.
const PAUSE_AT_MOST: Duration = Duration::from_secs(2);
/// How long what makes the next fork cheaper is kept. It may take as much memory as the source.
const KEPT: Duration = Duration::from_secs(60);
/// First version of the shim protocol that knows forks.
const FORKS_SINCE: u32 = 4;

/// Where a clone comes from, among its labels.
const SOURCE: &str = "seacow.fork.source";
const SOURCE_NAME: &str = "seacow.fork.source.name";
const AT: &str = "seacow.fork.at";
const GENERATION: &str = "seacow.fork.generation";

/// What is forked how.
#[derive(Clone, Debug, Default)]
pub struct ForkOptions {
    /// How many; one at least. Ignored where `names` is set.
    pub count: usize,
    /// Name of the one, or what the names of several begin with; invented if absent.
    pub name: Option<String>,
    /// All names.
    pub names: Vec<String>,
}

impl ForkOptions {
    /// What each is to be called.
    fn wanted(&self) -> Result<Vec<Option<String>>, Invalid> {
        let names: Vec<Option<String>> = match (&self.name, self.names.is_empty()) {
            (_, false) => self.names.iter().cloned().map(Some).collect(),
            (_, true) if self.count == 0 || self.count > MAX_FORKS => Vec::new(),
            (None, true) => vec![None; self.count],
            (Some(name), true) if self.count == 1 => vec![Some(name.clone())],
            (Some(name), true) => (1..=self.count).map(|number| Some(format!("{name}-{number}"))).collect(),
        };
        if names.is_empty() || names.len() > MAX_FORKS {
            return Err(Invalid::ForkCount(MAX_FORKS));
        }
        match names.iter().flatten().find(|name| !seacow_spec::names::is_valid(name)) {
            Some(name) => Err(Invalid::Name(name.clone())),
            None => Ok(names),
        }
    }
}

impl Engine {
    /// Makes containers that go on from the state of a running one, all of the same moment.
    ///
    /// # Errors
    /// There is no such container, it does not run or has what cannot be forked, a name is malformed or
    /// taken, or something failed on the way; then there is none of them, and the source goes on.
    pub async fn fork_container(
        &self,
        reference: &str,
        options: ForkOptions,
        caller: Caller,
    ) -> Result<ForkAnswer, EngineError> {
        let began = Timestamp::now();
        let names = options.wanted()?;
        let source = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("fork a container", async move {
            let _busy = engine.0.pool.busy();
            let _one = source.ops.lock().await;
            let (shim, known) = engine.known_reasons(&source)?;
            if !known.is_empty() {
                let (_, all) = engine.examine(&source).await?;
                return Err(ContainerError::NotForkable(all).into());
            }
            // What the shim knows of stands in its refusal.
            engine.fork_locked(&source, &shim, names, caller, began).await
        })
        .await
    }

    /// Everything that stands in the way of a fork. Touches nothing.
    ///
    /// # Errors
    /// There is no such container, or it does not run.
    pub async fn fork_reasons(&self, reference: &str) -> Result<ForkReasons, EngineError> {
        let source = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("examine a container", async move {
            let _one = source.ops.lock().await;
            let (_, reasons) = engine.examine(&source).await?;
            Ok(ForkReasons { reasons })
        })
        .await
    }

    /// All that stands in the way; the caller holds `ops`.
    async fn examine(&self, source: &Arc<Container>) -> Result<(ShimClient, Vec<String>), EngineError> {
        let (shim, mut reasons) = self.known_reasons(source)?;
        // Another runtime's, and an older shim's, is refused already.
        if self.is_ours(&source.record()) && shim.version() >= FORKS_SINCE {
            match shim.send(Request::Examine, None)?.answer().await? {
                Answer::Examined { reasons: more } => reasons.extend(more),
                _ => return Err(ShimError::Unexpected { asked: "what stands in the way" }.into()),
            }
        }
        Ok((shim, reasons))
    }

    /// What can be known without its shim.
    fn known_reasons(&self, source: &Arc<Container>) -> Result<(ShimClient, Vec<String>), EngineError> {
        let record = source.record();
        let pid = match record.state {
            State::Running { pid, .. } => pid,
            State::Paused { .. } => {
                return Err(ContainerError::Paused(record.id.to_string(), "forking it").into());
            }
            _ => return Err(ContainerError::NotRunning(record.id.to_string()).into()),
        };
        let shim = source.live_shim()?;
        let mut reasons = reasons::of_record(&record, self.config());
        if shim.version() < FORKS_SINCE {
            reasons.push("an older seacow started it, whose shim cannot fork: start it again".to_owned());
        } else {
            reasons.extend(reasons::of_mounts(&record, pid));
        }
        Ok((shim, reasons))
    }

    fn is_ours(&self, record: &Record) -> bool {
        matches!(self.config().runtimes.find(&record.host_config.runtime), Ok(None))
    }

    async fn fork_locked(
        &self,
        source: &Arc<Container>,
        shim: &ShimClient,
        names: Vec<Option<String>>,
        caller: Caller,
        began: Timestamp,
    ) -> Result<ForkAnswer, EngineError> {
        let record = source.record();
        let mut drafts = Vec::with_capacity(names.len());
        for name in names {
            match Draft::new(self, origin_of(&record), name) {
                Ok(draft) => drafts.push(draft),
                Err(error) => {
                    undo(self, drafts).await;
                    return Err(error);
                }
            }
        }
        let makers = draft::make_networks(self, &mut drafts);
        let outcome = self.branch(source, shim, &mut drafts, caller, began).await;
        // They end by themselves once nobody wants what they make.
        drop(makers);
        self.let_forks_go_in_time(source);
        match outcome {
            Ok((forked, times)) => {
                let ids: Vec<&str> = drafts.iter().map(Draft::id).collect();
                self.emit(source.event("fork", &[("clones", ids.join(","))]));
                Ok(answer(&drafts, forked, times))
            }
            Err(error) => {
                undo(self, drafts).await;
                Err(error)
            }
        }
    }

    /// The pause, and what follows from it.
    async fn branch(
        &self,
        source: &Arc<Container>,
        shim: &ShimClient,
        drafts: &mut [Draft],
        caller: Caller,
        began: Timestamp,
    ) -> Result<(Forked, ForkTimes), EngineError> {
        let (words, theirs) = pause::socket()?;
        let at_most = u32::try_from(PAUSE_AT_MOST.as_millis()).unwrap_or(u32::MAX);
        let pending = shim.send(Request::Fork { pause_at_most: at_most }, Some(theirs))?;
        let files = match self.capture_in_pause(source, words).await {
            Ok(Some(files)) => files,
            // The shim says why.
            Ok(None) => return Err(awaited(pending).await.err().unwrap_or(ShimError::Lost).into()),
            Err(error) => return Err(error),
        };
        let made = match self.may_clone(&files, caller) {
            Ok(()) => self.make_all(&source.record(), shim, drafts, (pending, &files), began).await,
            Err(error) => Err(error),
        };
        self.let_files_go(files).await;
        made
    }

    /// Has the shim make and start the clones, one after another without a pause between: while it works on
    /// one, the next one's files are made. Then they are containers.
    async fn make_all(
        &self,
        source: &Record,
        shim: &ShimClient,
        drafts: &mut [Draft],
        (pending, files): (Pending, &Files),
        began: Timestamp,
    ) -> Result<(Forked, ForkTimes), EngineError> {
        // The first one's while the shim makes the template.
        let mut pending = Some(pending);
        let mut forked = Forked::default();
        for draft in drafts.iter_mut() {
            draft.furnish(self, files).await?;
            if let Some(pending) = pending.take() {
                forked = awaited(pending).await?;
            }
            draft.order(self, source, shim).await?;
        }
        for draft in drafts.iter_mut() {
            draft.begin(began).await?;
        }
        let ready = |draft: &Draft| draft.ready;
        let times = ForkTimes {
            first: micros(drafts.iter().map(ready).min().unwrap_or_default()),
            all: micros(drafts.iter().map(ready).max().unwrap_or_default()),
            ..ForkTimes::default()
        };
        for draft in drafts.iter_mut() {
            draft.commit(self)?;
        }
        Ok((forked, times))
    }

    /// Lets go of what is kept of a fork when there was no other for a while.
    fn let_forks_go_in_time(&self, source: &Arc<Container>) {
        let number = {
            let mut cell = source.cell();
            cell.forks += 1;
            cell.forks
        };
        let (engine, source) = (Arc::downgrade(&self.0), Arc::downgrade(source));
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            let (Some(_engine), Some(source)) = (engine.upgrade(), source.upgrade()) else { return };
            let _one = source.ops.lock().await;
            if source.cell().forks != number {
                return;
            }
            if let Ok(shim) = source.live_shim() {
                retire(&shim).await;
            }
        });
    }
}

async fn awaited(pending: Pending) -> Result<Forked, ShimError> {
    match pending.answer().await? {
        Answer::Forked(forked) => Ok(forked),
        _ => Err(ShimError::Unexpected { asked: "a fork" }),
    }
}

/// Has a shim let go of what is kept of forks.
pub(crate) async fn retire(shim: &ShimClient) {
    if shim.version() < FORKS_SINCE {
        return;
    }
    let retired = match shim.send(Request::Retire, None) {
        Ok(pending) => pending.done().await,
        Err(error) => Err(error),
    };
    match retired {
        Ok(()) | Err(ShimError::Lost) => {}
        Err(error) => tracing::debug!(%error, "let go of what is kept of a fork"),
    }
}

/// Takes back whatever there is of them.
async fn undo(engine: &Engine, drafts: Vec<Draft>) {
    futures_util::future::join_all(drafts.into_iter().map(|draft| draft.undo(engine))).await;
}

/// The record of a clone but for what is its own, with labels that tell where it comes from.
fn origin_of(source: &Record) -> Record {
    let mut record = source.clone();
    let labels = record.config.labels.get_or_insert_default();
    let generation = labels.get(GENERATION).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    labels.insert(SOURCE.to_owned(), source.id.to_string());
    labels.insert(SOURCE_NAME.to_owned(), source.name.clone());
    labels.insert(AT.to_owned(), Timestamp::now().to_string());
    labels.insert(GENERATION.to_owned(), (generation + 1).to_string());
    // They are the source's, and go with it.
    record.mounts.iter_mut().for_each(|mount| mount.anonymous = false);
    record
}

fn answer(drafts: &[Draft], forked: Forked, times: ForkTimes) -> ForkAnswer {
    ForkAnswer {
        containers: drafts.iter().map(Draft::answer).collect(),
        times: ForkTimes { pause: forked.pause, files: forked.files, template: forked.ready, ..times },
        path: match forked.path {
            ForkPath::Snapshot => "snapshot",
            ForkPath::Kept => "kept",
            ForkPath::Shadow => "shadow",
        }
        .to_owned(),
        copied_bytes: forked.copied,
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

//! `POST /build`: the builder's wishes carried out with the engine's own verbs.
//!
//! The builder decides and blocks, so a build has a thread of its own; the thread asks the async
//! engine through its runtime's handle. A `RUN` is an ordinary container that takes the ordinary
//! start path; its writable layer becomes the image's new layer by a rename. A client that goes
//! away cancels its build. What is kept from build to build is told in `docs/design/build.md`.
//!
//! | module | what |
//! |---|---|
//! | `context` | the files that Docker's clients send |
//! | [`contexts`](ContextFailure) | the files that our own client sends, and that are kept |
//! | `ours` | builds of our own client |
//! | `output` | an image's files for a client |
//! | `executor` | what the builder asks for |
//! | `step`, `mounts` | a `RUN`, and what is mounted for it |
//! | `tree` | an image's files, mounted |
//! | `finish` | what a step's layer must not keep |
//! | `caches` | directories of `RUN --mount=type=cache` |
//! | `fetch`, `git` | what `ADD` names |
//! | `session`, `agent` | secrets and ssh agents of our own client |
//! | `memory` | what need not be found out again |
//! | `prune`, `leftovers` | what is thrown away |

mod agent;
mod caches;
mod context;
mod contexts;
mod error;
mod executor;
mod fetch;
mod finish;
mod git;
mod leftovers;
mod memory;
mod mounts;
mod ours;
mod output;
mod prune;
mod session;
mod sink;
mod step;
mod tree;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use seacow_build::dockerfile::Dockerfile;
use seacow_build::{BuildOptions, Cancel, Context};

pub(crate) use caches::Caches;
pub use contexts::ContextFailure;
pub(crate) use contexts::Contexts;
pub use error::BuildFailure;
pub(crate) use finish::Finish;
pub(crate) use memory::Memory;
pub(crate) use session::Sessions;

use crate::error::EngineError;
use crate::pipe::{self, Progress, ProgressSender, UploadReader};
use crate::{Caller, Engine};

/// What a client wants built.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// The query's names and values.
    pub query: Vec<(String, String)>,
    /// Tell the ids of stages (API 1.30 and newer).
    pub aux: bool,
}

impl Engine {
    /// Builds an image from the context that is sent. What goes wrong once the first step was told
    /// comes with the progress.
    ///
    /// # Errors
    /// An option is malformed or not there, or the context or its Dockerfile cannot be used.
    pub async fn build_image(
        &self,
        request: BuildRequest,
        caller: Caller,
        upload: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Progress, EngineError> {
        let mut options = BuildOptions::from_query(&request.query).map_err(BuildFailure::from)?;
        options.aux = request.aux;
        let reader = pipe::upload(upload);
        let engine = self.clone();
        let work = move |progress: &ProgressSender| engine.run_build(&options, caller, reader, progress);
        Ok(pipe::progress_once_begun(work, BuildFailure::message).await?)
    }

    /// One build, on a thread that may block.
    fn run_build(
        &self,
        options: &BuildOptions,
        caller: Caller,
        upload: UploadReader,
        progress: &ProgressSender,
    ) -> Result<(), BuildFailure> {
        let files = context::Files::receive(self, upload)?;
        let context = Context::open(files.path(), &options.dockerfile)?;
        self.build_from(options, None, &context, caller, progress, None)
    }

    /// Builds; the Dockerfile is the context's unless another one is given.
    fn build_from(
        &self,
        options: &BuildOptions,
        file: Option<Dockerfile>,
        context: &Context,
        caller: Caller,
        progress: &ProgressSender,
        session: Option<Arc<session::Session>>,
    ) -> Result<(), BuildFailure> {
        let cancel = Cancel::new();
        let _watching = {
            let (cancel, progress) = (cancel.clone(), progress.clone());
            Watching(tokio::spawn(async move {
                progress.disconnected().await;
                cancel.cancel();
            }))
        };
        let executor = executor::BuildExecutor::new(self, caller, options, cancel.clone(), session);
        let sink = Box::new(sink::ToClient(progress.clone()));
        let built = match file {
            Some(file) => {
                seacow_build::build_dockerfile(file, options, Some(context), &executor, sink, &cancel)
            }
            None => seacow_build::build(options, context, &executor, sink, &cancel),
        };
        built?;
        Ok(())
    }
}

/// Watches for a client that goes away. It ends with its build, however that ends: the client's stream
/// lasts as long as anybody may write to it.
struct Watching(tokio::task::JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

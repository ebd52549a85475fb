//! `POST /build`: the builder's wishes carried out with the engine's own verbs.
//!
//! The builder decides and blocks, so a build has a thread of its own; the thread asks the async
//! engine through its runtime's handle. A `RUN` is an ordinary container that takes the ordinary
//! start path; its writable layer becomes the image's new layer by a rename. A client that goes
//! away cancels its build.

mod context;
mod error;
mod executor;
mod leftovers;
mod prune;
mod sink;
mod step;
mod tree;

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use seacow_build::{BuildOptions, Cancel, Context};

pub use error::BuildFailure;

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
        let context = Context::open(files.path())?;
        let cancel = Cancel::new();
        let watching = {
            let (cancel, progress) = (cancel.clone(), progress.clone());
            tokio::spawn(async move {
                progress.disconnected().await;
                cancel.cancel();
            })
        };
        let executor = executor::BuildExecutor::new(self, caller, options);
        let mut sink = sink::ToClient(progress);
        let built = seacow_build::build(options, &context, &executor, &mut sink, &cancel);
        watching.abort();
        built?;
        Ok(())
    }
}

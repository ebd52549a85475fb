//! Builds of our own client: the context by its name, secrets and agents with it.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::Stream;
use seacow_build::executor::Secret;
use seacow_build::options::NamedContext;
use seacow_build::{BuildOptions, dockerfile};
use seacow_spec::docker::build::{BuildStart, ContextList, ContextWanted, NamedSource};
use seacow_spec::{ErrorClass, ErrorReport};

use super::contexts::{ContextFailure, LONGEST_LIST};
use super::session::Session;
use super::{BuildFailure, BuildRequest};
use crate::error::EngineError;
use crate::pipe::{self, Progress, ProgressSender};
use crate::{Caller, ClientSocket, Engine, blocking};

/// Bytes of one secret, as Docker has it.
const LARGEST_SECRET: usize = 500 << 10;

impl Engine {
    /// What of a client's files is not here.
    ///
    /// # Errors
    /// The list is malformed.
    pub async fn context_wanted(&self, list: ContextList) -> Result<ContextWanted, EngineError> {
        let engine = self.clone();
        let wanted = blocking::run("look for a build context", move || {
            engine.0.contexts.wanted(&engine.config().data_root, &list)
        });
        Ok(wanted.await?.map_err(BuildFailure::from)?)
    }

    /// Takes a list (its length in eight bytes, big end first, then JSON) and the files that are missing.
    ///
    /// # Errors
    /// The list is malformed, a file is not what it says, or the disk failed.
    pub async fn context_receive(
        &self,
        upload: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    ) -> Result<ContextWanted, EngineError> {
        let engine = self.clone();
        let mut reader = pipe::upload(upload);
        let received = pipe::run("take a build context", move || -> Result<String, ContextFailure> {
            let mut length = [0; 8];
            reader.read_exact(&mut length)?;
            let length = u64::from_be_bytes(length);
            if length > LONGEST_LIST {
                return Err(ContextFailure::List("it is too long".into()));
            }
            let mut text = Vec::new();
            (&mut reader).take(length).read_to_end(&mut text)?;
            let list: ContextList =
                serde_json::from_slice(&text).map_err(|error| ContextFailure::List(error.to_string()))?;
            engine.0.contexts.receive(&engine.config().data_root, &list, &mut reader)
        });
        let id = received.await?.map_err(BuildFailure::from)?;
        Ok(ContextWanted { id, missing: Vec::new() })
    }

    /// Builds from a context that is here.
    ///
    /// # Errors
    /// As [`Engine::build_image`].
    pub async fn build_from_context(
        &self,
        request: BuildRequest,
        session: String,
        start: BuildStart,
        caller: Caller,
    ) -> Result<Progress, EngineError> {
        let mut options = BuildOptions::from_query(&request.query).map_err(BuildFailure::from)?;
        options.aux = request.aux;
        let engine = self.clone();
        let work =
            move |progress: &ProgressSender| engine.run_ours(&mut options, &session, start, caller, progress);
        Ok(pipe::progress_once_begun(work, BuildFailure::message).await?)
    }

    /// One build of our client, on a thread that may block.
    fn run_ours(
        &self,
        options: &mut BuildOptions,
        name: &str,
        start: BuildStart,
        caller: Caller,
        progress: &ProgressSender,
    ) -> Result<(), BuildFailure> {
        let (contexts, data_root) = (&self.0.contexts, &self.config().data_root);
        let lease = contexts.take(data_root, &start.context)?;
        let mut others = Vec::new();
        for (name, source) in &start.contexts {
            let named = match source {
                NamedSource::Image(reference) => NamedContext::Image(reference.clone()),
                NamedSource::Context(id) => {
                    let lease = contexts.take(data_root, id)?;
                    let named = NamedContext::Files(Arc::new(lease.open()?));
                    others.push(lease);
                    named
                }
            };
            options.contexts.insert(name.clone(), named);
        }
        let secrets = secrets(&start.secrets)?;
        let session = Arc::new(Session::new(secrets, start.agents.into_iter().collect(), progress.clone()));
        let known = self.0.build_sessions.open(name, Arc::clone(&session));
        if known.is_none() {
            return Err(BuildFailure::Offer("the session's name is taken".into()));
        }
        let context = lease.open()?;
        let file = match &start.dockerfile {
            Some(text) => Some(dockerfile_of(text, &options.dockerfile)?),
            None => None,
        };
        self.build_from(options, file, &context, caller, progress, Some(session))
    }

    /// A client connects its ssh agent.
    ///
    /// # Errors
    /// There is no such session.
    pub fn build_agent(
        &self,
        session: &str,
        connection: u64,
        socket: ClientSocket,
    ) -> Result<(), ErrorReport> {
        let Some(session) = self.0.build_sessions.find(session) else {
            return Err(ErrorReport::new(ErrorClass::NotFound, "no such build"));
        };
        session.give(connection, socket);
        Ok(())
    }

    /// Whether a build of this session is going on.
    pub fn has_build_session(&self, session: &str) -> bool {
        self.0.build_sessions.find(session).is_some()
    }
}

fn dockerfile_of(text: &str, name: &str) -> Result<dockerfile::Dockerfile, BuildFailure> {
    dockerfile::parse(text.as_bytes()).map_err(|error| {
        BuildFailure::Context(seacow_build::context::ContextError::malformed(name, text, error))
    })
}

fn secrets(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, Secret>, BuildFailure> {
    let mut secrets = BTreeMap::new();
    for (id, text) in given {
        let data =
            STANDARD.decode(text).map_err(|error| BuildFailure::Offer(format!("secret {id}: {error}")))?;
        if data.len() > LARGEST_SECRET {
            let text = format!("secret {id}: more than {LARGEST_SECRET} bytes");
            return Err(BuildFailure::Offer(text));
        }
        secrets.insert(id.clone(), Secret(data));
    }
    Ok(secrets)
}

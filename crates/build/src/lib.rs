//! The builder: the whole language of Dockerfiles, carried out for `POST /build` and for our own client.
//!
//! A build reads a Dockerfile from a [`Context`], plans its stages, and carries them out step by
//! step, independent stages at the same time. Each step is first looked up in the cache (an image made earlier on the same parent by the
//! same step) and otherwise done; each makes an image. What it takes to run a command or to mount an
//! image is the engine's, behind the [`Executor`] trait; this crate decides, hashes and copies.
//!
//! Vocabulary: a *step* is one instruction; a *stage* is a `FROM` with its steps; the *context* is
//! what the client sent; a *change* is what a step did to the files; a *trigger* is an `ONBUILD`
//! instruction of a base image.
//!
//! Not here: BuildKit's API, other platforms, downloads (the engine's), unpacking the client's tar (the
//! caller does it, into a directory), HTTP.
//!
//! | module | what |
//! |---|---|
//! | [`dockerfile`] | bytes to typed steps |
//! | [`expand`] | variables and quotes in words |
//! | [`ignore`] | `.dockerignore` |
//! | [`options`] | the query of `POST /build` |
//! | [`context`] | the client's files |
//! | [`executor`] | what the engine is asked for |
//! | [`output`] | the stream of messages |
//! | [`cancel`] | telling a build to stop |
//! | [`error`] | why it failed |
//! | `plan` | which stages, which steps |
//! | `shared` | what the stages of a build share, and their order |
//! | `lint` | build checks |
//! | `excerpt` | lines of the Dockerfile around something |
//! | `nearest` | what a mistyped name may have meant |
//! | `args` | `ARG` and `--build-arg` |
//! | `stage` | the state between two steps |
//! | `config` | the container config, and when two steps are the same |
//! | `steps` | carrying out a step |
//! | `copy` | `COPY` and `ADD`: select, hash, place |
//! | `changes` | `--change` of commit and import |
//! | [`gopath`], `gofmt` | Go's paths and patterns, Go's texts |
//! | [`platform`], [`ports`] | `--platform`, `EXPOSE` |
#![forbid(unsafe_code)]

mod args;
mod build;
pub mod cancel;
mod changes;
mod config;
pub mod context;
pub mod copy;
pub mod dockerfile;
pub mod error;
mod excerpt;
pub mod executor;
pub mod expand;
mod gofmt;
pub mod gopath;
pub mod ignore;
mod lint;
mod nearest;
pub mod options;
pub mod output;
mod plan;
pub mod platform;
pub mod ports;
mod rooted;
mod shared;
mod stage;
mod steps;

pub use build::{build, build_dockerfile};
pub use cancel::Cancel;
pub use changes::apply_changes;
pub use context::Context;
pub use error::BuildError;
pub use executor::Executor;
pub use options::BuildOptions;
pub use output::{Disconnected, Kept, Sink};

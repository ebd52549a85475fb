//! One clone in the making. Every step is undone by [`Draft::undo`].

use std::fs::OpenOptions;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

use seacow_net::netns::{self, Inside};
use seacow_spec::Timestamp;
use seacow_spec::docker::fork::ForkedContainer;
use seacow_spec::lifecycle::Event;
use seacow_spec::shim::{NewClone, PROTOCOL_VERSION, Request, Rootfs};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::container::capture::Files;
use crate::container::clone::record_of;
use crate::container::record::Record;
use crate::container::spec_build::Template;
use crate::container::{Container, ContainerError, remove, settle_hostname};
use crate::error::EngineError;
use crate::network::files::{self, Names};
use crate::network::{Endpoint, NetworkError};
use crate::shim::{Pending, ShimClient, ShimError};
use crate::slot::make_directory;
use crate::{Engine, blocking};

/// Threads that make network namespaces: the kernel makes them one by one, beside the shim's work.
const MAKERS: usize = 2;

/// As the shim makes logs: for their owner, and whoever may read them.
const LOG_MODE: u32 = 0o640;

/// A network namespace that is on its way.
type Network = oneshot::Receiver<Result<OwnedFd, EngineError>>;

/// A clone that nobody sees yet.
pub(super) struct Draft {
    record: Record,
    template: Template,
    endpoint: Option<Endpoint>,
    network: Option<Network>,
    rootfs: Option<Rootfs>,
    container: Option<Arc<Container>>,
    shim: Option<ShimClient>,
    orders: Option<Orders>,
    started: Option<(i32, Timestamp)>,
    /// From the call until it ran.
    pub(super) ready: Duration,
    visible: bool,
}

/// What the shim was asked.
struct Orders {
    sibling: Pending,
    clone: Pending,
    start: Pending,
}

impl Draft {
    /// Takes id, name, address and labels.
    pub(super) fn new(engine: &Engine, source: Record, name: Option<String>) -> Result<Self, EngineError> {
        let mut record = record_of(&source, name.as_deref())?;
        record.mounts.clone_from(&source.mounts);
        let template = engine.own_template(&record)?;
        let template =
            template.ok_or_else(|| ContainerError::Unsupported("a fork that joins others".into()))?;
        let registry = &engine.0.containers;
        match name {
            Some(_) => registry.reserve(&record.name, &record.id)?,
            None => record.name = registry.invent_name(&record.id)?,
        }
        settle_hostname(&mut record);
        let mut draft = Self {
            record,
            template,
            endpoint: None,
            network: None,
            rootfs: None,
            container: None,
            shim: None,
            orders: None,
            started: None,
            ready: Duration::ZERO,
            visible: false,
        };
        match draft.settle(engine) {
            Ok(()) => Ok(draft),
            Err(error) => {
                registry.release(&draft.record.name, &draft.record.id);
                engine.release_labels(&draft.record.id);
                Err(error)
            }
        }
    }

    fn settle(&mut self, engine: &Engine) -> Result<(), EngineError> {
        self.record.labels = engine.new_labels(&self.record)?;
        if self.template.bridged {
            self.endpoint = Some(engine.bridge().lease(None)?);
        }
        self.record.endpoint.clone_from(&self.endpoint);
        Ok(())
    }

    pub(super) fn id(&self) -> &str {
        self.record.id.as_str()
    }

    pub(super) fn answer(&self) -> ForkedContainer {
        let address = self.endpoint.as_ref().map(|endpoint| endpoint.address.to_string());
        ForkedContainer {
            id: self.record.id.to_string(),
            name: self.record.name.clone(),
            ip_address: address.unwrap_or_default(),
            ready: super::micros(self.ready),
        }
    }

    /// Its writable layer, directories and files.
    pub(super) async fn furnish(&mut self, engine: &Engine, from: &Files) -> Result<(), EngineError> {
        let rootfs = engine.make_root(&self.record, None, Some(from.clone())).await?;
        self.rootfs = Some(rootfs);
        let (names, endpoint) = (Names::of(&self.record), self.endpoint.clone());
        let (owner, label) = (self.template.owner, self.template.mount_label(&self.record.id)?);
        let (inner, id) = (engine.0.clone(), self.record.id.clone());
        let logs = self.record.host_config.log_config.kind != "none";
        blocking::run("make a clone's directories", move || {
            let dir = inner.config.exec_dir(&id);
            make_directory(&dir)?;
            if logs {
                // The shim has less to do when it finds it.
                let path = inner.config.log_path(&id);
                let made = OpenOptions::new().append(true).create(true).mode(LOG_MODE).open(&path);
                made.map_err(|error| ContainerError::io("make", &path, error))?;
            }
            names.write(&dir, endpoint.as_ref(), &inner.config)?;
            files::give(&dir, owner, &label)?;
            match &endpoint {
                Some(endpoint) => crate::network::keep(endpoint, &dir),
                None => Ok(()),
            }
        })
        .await??;
        Ok(())
    }

    /// Asks for everything at once: the shim works off requests in order, and what follows a failure is
    /// refused.
    pub(super) async fn order(
        &mut self,
        engine: &Engine,
        source: &Record,
        family: &ShimClient,
    ) -> Result<(), EngineError> {
        let network = match self.network.take() {
            Some(network) => Some(network.await.map_err(|_| ContainerError::Gone(self.id().to_owned()))??),
            None => None,
        };
        let rootfs = self.rootfs.take().ok_or_else(|| ContainerError::Gone(self.id().to_owned()))?;
        let addresses = match (&source.endpoint, &self.endpoint) {
            (Some(from), Some(to)) => vec![(IpAddr::V4(from.address), IpAddr::V4(to.address))],
            _ => Vec::new(),
        };
        let order = NewClone {
            prepare: self.template.prepare(&self.record.id)?,
            create: engine.create_request(&self.record, &self.template, rootfs)?,
            addresses,
        };
        let failed = |error| ContainerError::io("make", std::path::Path::new("a socket pair"), error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let theirs = theirs.into_std().map_err(failed)?;
        let container = self.container.insert(Container::new(self.record.clone()));
        container.cell().apply(Event::Start).map_err(ContainerError::from)?;
        container.tell(|life| life.begun += 1);
        let dir = engine.config().exec_dir(&self.record.id);
        let shim = self.shim.insert(ShimClient::new(ours, None));
        shim.listen(engine.sink(container));
        // The shim is of the version of its family.
        drop(shim.send(Request::Hello { version: PROTOCOL_VERSION }, None)?);
        let clone = shim.send(Request::Clone(Box::new(order)), network)?;
        let start = shim.send(Request::Start, None)?;
        // Last, so that all of that lies there when it looks.
        let sibling = family.send(Request::Sibling { dir }, Some(theirs.into()))?;
        self.orders = Some(Orders { sibling, clone, start });
        Ok(())
    }

    /// Waits until it runs.
    pub(super) async fn begin(&mut self, began: Timestamp) -> Result<(), EngineError> {
        let Some(Orders { sibling, clone, start }) = self.orders.take() else {
            return Err(ContainerError::Gone(self.id().to_owned()).into());
        };
        sibling.done().await?;
        clone.held().await?;
        let (pid, at) = start.started().await?;
        self.started = Some((pid, at));
        let nanos = at.unix_nanos().saturating_sub(began.unix_nanos());
        self.ready = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Ok(())
    }

    /// It is a container like any other from now on.
    pub(super) fn commit(&mut self, engine: &Engine) -> Result<(), EngineError> {
        let (Some(container), Some(shim), Some((pid, at))) =
            (self.container.clone(), self.shim.clone(), self.started)
        else {
            return Err(ShimError::Lost.into());
        };
        engine.0.containers.insert(Arc::clone(&container));
        self.visible = true;
        engine.save_new(&container)?;
        engine.emit(container.event("create", &[]));
        engine.started(&container, shim, pid, at)?;
        engine.publish_clone(&container)
    }

    /// Takes everything back; what cannot be taken back is logged and found at the next boot.
    pub(super) async fn undo(self, engine: &Engine) {
        if self.visible {
            if let Err(error) = engine.remove(self.record.id.as_str(), remove::ALL).await {
                tracing::warn!(id = self.record.id.short(), %error, "take a fork back");
            }
            return;
        }
        if let Some(container) = &self.container {
            container.cell().removed = true;
        }
        if let Some(shim) = &self.shim {
            shim.mute();
            if let Err(error) = shim.delete().await {
                tracing::warn!(id = self.record.id.short(), %error, "take a clone back");
            }
        }
        engine.0.containers.release(&self.record.name, &self.record.id);
        engine.release_labels(&self.record.id);
        engine.drop_root(&self.record.id).await;
        if let Some(endpoint) = &self.endpoint {
            engine.bridge().release(endpoint.address);
        }
        let config = engine.config();
        let dirs = [config.exec_dir(&self.record.id), config.container_dir(&self.record.id)];
        let remove = move || dirs.iter().for_each(|dir| crate::slot::remove_tree(dir));
        let _ = blocking::run("remove a clone's directories", remove).await;
    }
}

/// The makers of network namespaces, stopped when nobody waits for them.
pub(super) struct Makers(Vec<AbortHandle>);

impl Drop for Makers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// One namespace to be made.
struct Wanted {
    endpoint: Option<Endpoint>,
    give: oneshot::Sender<Result<OwnedFd, EngineError>>,
}

/// Begins to make the drafts' network namespaces.
pub(super) fn make_networks(engine: &Engine, drafts: &mut [Draft]) -> Makers {
    let mut lists: Vec<Vec<Wanted>> = (0..MAKERS).map(|_| Vec::new()).collect();
    for (list, draft) in (0..MAKERS).cycle().zip(drafts) {
        let (give, receiver) = oneshot::channel();
        draft.network = Some(receiver);
        lists[list].push(Wanted { endpoint: draft.endpoint.clone(), give });
    }
    let make = |list: Vec<Wanted>| {
        let engine = engine.clone();
        let work = move || {
            for Wanted { endpoint, give } in list {
                // Where nobody waits for it any more it goes with its descriptor.
                if !give.is_closed() {
                    let _ = give.send(make_network(&engine, endpoint.as_ref()));
                }
            }
        };
        tokio::task::spawn_blocking(work).abort_handle()
    };
    Makers(lists.into_iter().filter(|list| !list.is_empty()).map(make).collect())
}

fn make_network(engine: &Engine, endpoint: Option<&Endpoint>) -> Result<OwnedFd, EngineError> {
    match endpoint {
        Some(endpoint) => Ok(engine.bridge().namespace(endpoint)?),
        None => {
            let made = netns::make(None, &Inside::default());
            Ok(made.map(|(made, _)| made).map_err(NetworkError::from)?)
        }
    }
}

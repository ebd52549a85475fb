//! `POST /containers/create`.
//!
//! Everything is checked before anything is made. Then the container is made invisibly: name
//! reserved, volumes and snapshot made, a prepared shim told what it will be. It appears in the
//! registry when its record is noted; until then every step is undone by [`Draft::undo`].

use std::sync::Arc;

use seacow_spec::docker::container::{CreateRequest, CreateResponse};
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::lifecycle::State;
use seacow_spec::shim::{Program, Rootfs};
use seacow_spec::{ContainerId, Timestamp};

use super::capture::Files;
use super::kept::Kept;
use super::record::{self, MountRecord, Record};
use super::spec_build::Template;
use super::{
    Container, ContainerError, Invalid, merge, mounts, normalize, resources, security, userns, volumes,
};
use crate::error::EngineError;
use crate::network::Mode;
use crate::network::files::{self, Names};
use crate::slot::{Likeness, Slot};
use crate::storage::BaseImage;
use crate::{Caller, Engine, blocking};

/// A request that was found good.
pub(super) struct Plan {
    pub(super) record: Record,
    /// What its shim is like, when that is known before the start: it joins nobody's namespaces.
    pub(super) template: Option<Template>,
    pub(super) image: BaseImage,
    pub(super) warnings: Vec<String>,
    /// Where its files come from, if not from the image.
    pub(super) origin: Option<Origin>,
}

/// The container that a new one goes on from.
pub(super) struct Origin {
    pub(super) files: Files,
    /// The other's, as many as the new one's and in the same order.
    pub(super) mounts: Vec<MountRecord>,
}

/// What exists of a container that is not visible yet.
struct Draft {
    record: Record,
    slot: Option<Slot>,
    /// What it executes, if the slot is this container already.
    program: Option<Program>,
    /// Volumes that were made for it.
    anonymous: Vec<String>,
    snapshot: bool,
    container: Option<Arc<Container>>,
}

impl Engine {
    /// Makes a container. It is there, or not at all.
    ///
    /// # Errors
    /// The request is malformed or asks for what seacow does not do, the image does not exist, the
    /// name is taken, or the disk fails.
    pub async fn create(
        &self,
        name: Option<String>,
        platform: Option<String>,
        request: CreateRequest,
        caller: Caller,
    ) -> Result<CreateResponse, EngineError> {
        let engine = self.clone();
        self.finish("create a container", async move {
            let _busy = engine.0.pool.busy();
            crate::step!("create: begun");
            let plan = engine.plan(name.as_deref(), platform.as_deref(), request, caller).await?;
            crate::step!("create: request checked");
            engine.build(name, plan).await
        })
        .await
    }

    /// Makes the container of a build's step; nobody gets to see `secret_env` but its program.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub(crate) async fn create_step(
        &self,
        request: CreateRequest,
        caller: Caller,
        secret_env: Vec<String>,
    ) -> Result<CreateResponse, EngineError> {
        let engine = self.clone();
        self.finish("create a container", async move {
            let _busy = engine.0.pool.busy();
            let mut plan = engine.plan(None, None, request, caller).await?;
            plan.record.secret_env = secret_env;
            engine.build(None, plan).await
        })
        .await
    }

    /// Checks the request against everything that is known without making anything.
    async fn plan(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: CreateRequest,
        caller: Caller,
    ) -> Result<Plan, EngineError> {
        let name = name.map(|name| name.strip_prefix('/').unwrap_or(name));
        if let Some(name) = name.filter(|name| !seacow_spec::names::is_valid(name)) {
            return Err(Invalid::Name(name.to_owned()).into());
        }
        let CreateRequest { mut config, mut host_config, networking_config } = request;
        if config.image.is_empty() && config.cmd.is_none() && config.entrypoint.is_none() {
            return Err(Invalid::EmptyConfig.into());
        }
        normalize::config(&config)?;
        let image = self.base_image(&config.image, platform).await?;
        if image.host && !caller.may_use_host_image() {
            return Err(ContainerError::HostImage.into());
        }
        let health_of_image = config.healthcheck.is_none() && image.config.healthcheck.is_some();
        merge::merge(&mut config, &image.config)?;
        normalize::merged(&mut config)?;
        let network = self.network_mode(&host_config.network_mode, config.network_disabled == Some(true))?;
        host_config.network_mode = network.text();
        let mut mac_address = normalize::endpoints(&networking_config, &host_config.network_mode)?;
        if let Some(mac) = config.mac_address.as_deref().filter(|mac| !mac.is_empty()) {
            mac_address = Some(normalize::mac_address(mac)?);
        }
        check_conflicts(&config, &network, mac_address.is_some())?;
        if host_config.uts_mode == "host" && !config.hostname.is_empty() {
            return Err(Invalid::UtsHostname.into());
        }
        let mut warnings = Kept::here().drop_others(&mut host_config.resources);
        normalize::host(&mut host_config)?;
        self.settle_runtime(&mut host_config)?;
        let parent = &host_config.resources.cgroup_parent;
        if !parent.is_empty() && !self.config().cgroup_driver.takes(parent) {
            return Err(Invalid::CgroupParent(parent.clone(), self.config().cgroup_driver).into());
        }
        let taken_over = self.volumes_of_others(&host_config)?;
        warnings.extend(doubts(&host_config, health_of_image));
        let mut record = Record {
            version: record::VERSION,
            // Replaced when the container gets its id.
            id: ContainerId::random().map_err(ContainerError::Random)?,
            name: name.unwrap_or_default().to_owned(),
            created: Timestamp::now(),
            image_id: image.id.clone(),
            mounts: mounts::collect(&config, &host_config, taken_over)?,
            config,
            host_config,
            network,
            mac_address,
            endpoint: None,
            state: State::Created { failure: None },
            finished_at: None,
            error: String::new(),
            labels: None,
            restart_count: 0,
            secret_env: Vec::new(),
        };
        self.settle_volume_drivers(&mut record).await;
        check_values(&record)?;
        self.check_ports(&record)?;
        self.check_labels(&record)?;
        userns::check(&record, self.config())?;
        check_mounts(&record, self.config())?;
        let template = self.own_template(&record)?;
        Ok(Plan { record, template, image, warnings, origin: None })
    }

    /// The runtime by name, and that it exists.
    fn settle_runtime(&self, host: &mut HostConfig) -> Result<(), Invalid> {
        let runtimes = &self.config().runtimes;
        if host.runtime.is_empty() {
            host.runtime.clone_from(&runtimes.default);
        }
        runtimes.find(&host.runtime)?;
        Ok(())
    }

    /// The template of a container that joins nobody's namespaces and memory, and has no plug-in's volumes;
    /// `None` for one that does, since whose or where they are is known at the start only.
    pub(super) fn own_template(&self, record: &Record) -> Result<Option<Template>, ContainerError> {
        let joins = |mode: &str| mode.starts_with("container:");
        let host = &record.host_config;
        let joins = joins(&host.network_mode) || joins(&host.pid_mode) || joins(&host.ipc_mode);
        if joins || record.is_plugged() || self.uses_shared_memory(record) {
            return Ok(None);
        }
        Template::of(record, self.config(), |other| Err(ContainerError::NotRunning(other.to_owned())))
            .map(Some)
    }

    /// Makes what was planned.
    pub(super) async fn build(
        &self,
        name: Option<String>,
        plan: Plan,
    ) -> Result<CreateResponse, EngineError> {
        let Plan { mut record, template, image, warnings, origin } = plan;
        let template = template.filter(|_| self.may_keep_ready());
        let (slot, program) = match &template {
            Some(template) => self.take_slot(&mut record, template, origin.is_none()),
            None => (None, None),
        };
        record.labels = self.new_labels(&record)?;
        let like = match slot.as_ref().and_then(|slot| slot.guess.as_ref()) {
            Some(guess) => Some(Arc::clone(guess.likeness())),
            None if origin.is_some() => None,
            None => template.as_ref().and_then(|t| Likeness::of(&record, t, &image)).map(Arc::new),
        };
        let cold = template.is_some() && slot.is_none();
        let mut draft =
            Draft { record, slot, program, anonymous: Vec::new(), snapshot: false, container: None };
        match self.furnish(name, &mut draft, &image, origin.as_ref()).await {
            Ok(container) => {
                if let Some(like) = like {
                    self.0.pool.expect(like);
                }
                self.note_use(&image.id);
                self.emit(container.event("create", &[]));
                if cold {
                    self.make_ready_meanwhile(&container);
                }
                Ok(CreateResponse { id: container.id.to_string(), warnings })
            }
            Err(error) => {
                draft.undo(self).await;
                Err(error)
            }
        }
    }

    /// A slot for the container, which takes its id, and what it executes if the slot is that
    /// container already (`guess`: it may be).
    fn take_slot(
        &self,
        record: &mut Record,
        template: &Template,
        guess: bool,
    ) -> (Option<Slot>, Option<Program>) {
        let guesses = guess.then_some(&self.0.pool);
        let guessed = guesses.and_then(|pool| {
            pool.take_guessed(self, |slot, guess| {
                if slot.template != *template || !guess.is_of(&record.image_id) {
                    return None;
                }
                let mut as_slot = Record { id: slot.id.clone(), ..record.clone() };
                settle_hostname(&mut as_slot);
                guess.fits(&as_slot, slot, self)
            })
        });
        let (slot, program) = match guessed {
            Some((slot, program)) => (Some(slot), Some(program)),
            None => (self.0.pool.take(template, self), None),
        };
        if let Some(slot) = &slot {
            record.id = slot.id.clone();
        }
        (slot, program)
    }

    async fn furnish(
        &self,
        name: Option<String>,
        draft: &mut Draft,
        image: &BaseImage,
        origin: Option<&Origin>,
    ) -> Result<Arc<Container>, EngineError> {
        let registry = &self.0.containers;
        let id = draft.record.id.clone();
        if name.is_some() {
            registry.reserve(&draft.record.name, &id)?;
        } else {
            draft.record.name = registry.invent_name(&id)?;
        }
        settle_hostname(&mut draft.record);
        let container = match (draft.program.take(), draft.slot.take()) {
            (Some(program), Some(slot)) => self.take_over(draft, slot, program).await?,
            (_, slot) => {
                draft.slot = slot;
                draft.anonymous = volumes::make(self, &mut draft.record).await?;
                let from = origin.map(|origin| origin.files.clone());
                let rootfs = self.make_root(&draft.record, image.chain.as_ref(), from).await?;
                draft.snapshot = true;
                volumes::make_scratch(self, &draft.record).await?;
                match origin {
                    None => volumes::fill(self, &draft.record, image.chain.as_ref()).await?,
                    Some(origin) => volumes::copy(self, &origin.mounts, &draft.record).await?,
                }
                crate::step!("create: snapshot made");
                self.tell_shim(draft, rootfs).await?
            }
        };
        self.save_new(&container)?;
        self.settle_volumes(&draft.anonymous);
        crate::step!("create: record noted");
        registry.insert(Arc::clone(&container));
        self.keep_ready_for_a_while(&container);
        Ok(container)
    }

    /// Makes the container of the draft out of a slot that is this container already.
    async fn take_over(
        &self,
        draft: &mut Draft,
        slot: Slot,
        program: Program,
    ) -> Result<Arc<Container>, EngineError> {
        draft.snapshot = true;
        draft.record.endpoint.clone_from(&slot.endpoint);
        let container = draft.container.insert(Container::new(draft.record.clone())).clone();
        self.adopt_guessed(&container, slot, program).await?;
        crate::step!("create: guess taken");
        Ok(container)
    }

    /// Makes the container of the draft, with the shim of its slot, if there is one, at work on it.
    async fn tell_shim(&self, draft: &mut Draft, rootfs: Rootfs) -> Result<Arc<Container>, EngineError> {
        if let Some(slot) = &draft.slot {
            draft.record.endpoint.clone_from(&slot.endpoint);
            let names = Names::of(&draft.record);
            if names != slot.names {
                let dir = self.config().exec_dir(&slot.id);
                names.write(&dir, slot.endpoint.as_ref(), self.config())?;
                files::give(&dir, slot.template.owner, &slot.template.mount_label(&slot.id)?)?;
            }
            self.make_sources(&draft.record).await?;
        }
        let container = draft.container.insert(Container::new(draft.record.clone())).clone();
        if let Some(slot) = draft.slot.take() {
            self.adopt_or_undo(&container, slot, rootfs).await?;
            crate::step!("create: shim told");
        }
        Ok(container)
    }
}

/// What is accepted but may not do what one expects.
fn doubts(host: &HostConfig, health_of_image: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if health_of_image {
        warnings.push(
            "The image's HEALTHCHECK is kept but not run: health checks are not implemented in seacow yet."
                .into(),
        );
    }
    if host.resources.oom_kill_disable == Some(true) && host.resources.memory == 0 {
        warnings.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                .into(),
        );
    }
    warnings
}

/// Gives a container the hostname that it has if it asks for none.
pub(crate) fn settle_hostname(record: &mut Record) {
    if record.config.hostname.is_empty() {
        record.config.hostname = match record.network {
            _ if record.host_config.uts_mode == "host" => host_name(),
            Mode::Host => host_name(),
            Mode::Bridge | Mode::None | Mode::Container(_) => record.id.short().to_owned(),
        };
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn check_conflicts(
    config: &seacow_spec::docker::container::ContainerConfig,
    network: &Mode,
    mac: bool,
) -> Result<(), Invalid> {
    match network {
        Mode::Container(_) if !config.hostname.is_empty() => Err(Invalid::NetworkConflict("hostname")),
        Mode::Container(_) | Mode::Host | Mode::None if mac => Err(Invalid::NetworkConflict("mac-address")),
        Mode::Bridge | Mode::None | Mode::Host | Mode::Container(_) => Ok(()),
    }
}

/// What would otherwise fail only at the start: devices, profiles, ulimits.
fn check_values(record: &Record) -> Result<(), ContainerError> {
    resources::devices(&record.host_config.resources)?;
    resources::limits(&record.host_config.resources)?;
    let options = record.host_config.security_opt.as_deref().unwrap_or_default();
    security::parse(options, record.host_config.privileged, &[]).map(|_| ())
}

/// What needs our own runtime, or the host's ids.
fn check_mounts(record: &Record, config: &crate::Config) -> Result<(), ContainerError> {
    let ours = matches!(config.runtimes.find(&record.host_config.runtime), Ok(None));
    let remapped = userns::remap(record, config).is_some();
    for mount in &record.mounts {
        if mount.plugin().is_some() && mount.scratch {
            let what = "the option O for a volume of a plug-in";
            return Err(ContainerError::Unsupported(what.into()));
        }
        if !mount.subpath.is_empty() && !ours {
            let what = format!("a mount's subpath with the runtime {:?}", record.host_config.runtime);
            return Err(ContainerError::Unsupported(what));
        }
        if remapped && (mount.scratch || mount.point.kind == "image") {
            let what = "a mount of an image or with the option O in a user namespace";
            return Err(ContainerError::Unsupported(what.into()));
        }
    }
    Ok(())
}

impl Draft {
    /// Takes everything back; what cannot be taken back is logged and found at the next boot.
    async fn undo(self, engine: &Engine) {
        engine.0.containers.release(&self.record.name, &self.record.id);
        engine.release_labels(&self.record.id);
        if let Some(container) = self.container {
            container.cell().removed = true;
            engine.let_go(&container).await;
            if let Err(error) = engine.forget_record(&container).await {
                tracing::warn!(id = container.id.short(), %error, "delete the record of a failed create");
            }
        }
        if let Some(slot) = self.slot {
            slot.destroy(engine).await;
        }
        if self.snapshot {
            engine.drop_root(&self.record.id).await;
        }
        for name in self.anonymous {
            volumes::discard(engine, &name).await;
        }
        let dir = engine.config().container_dir(&self.record.id);
        let _ = blocking::run("remove a log directory", move || crate::slot::remove_tree(&dir)).await;
    }
}

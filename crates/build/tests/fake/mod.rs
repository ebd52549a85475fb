//! An engine of directories: images are plain copies, `RUN` is a handful of made-up commands.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fake that fails is a failed test"
)]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use seacow_build::executor::{
    Change, Executor, Fetched, Image, Pull, Remote, RunStep, Secret, StepContainer, StepOutput, Stream, View,
    Workspace,
};
use seacow_build::{BuildError, BuildOptions, Cancel, Context, Kept, Sink, build};
use seacow_spec::docker::build::JsonMessage;
use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::oci::image::ImageConfig;
use seacow_spec::{Digest, ErrorClass, ErrorReport, Reference, Timestamp};

/// Says why a test does nothing, if it does.
pub(crate) fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0);
    if !root {
        eprintln!("SKIP: needs root, for chown");
    }
    root
}

#[derive(Default)]
struct State {
    images: Vec<(Image, Option<Digest>)>,
    names: HashMap<String, Digest>,
    layers: HashMap<Digest, PathBuf>,
    tags: Vec<String>,
    pulls: Vec<Pull>,
    steps: Vec<RunStep>,
    left: Vec<String>,
    fetched: Vec<Remote>,
    memory: BTreeMap<String, String>,
    commits: Vec<Option<Timestamp>>,
}

pub(crate) struct Engine {
    dir: tempfile::TempDir,
    next: AtomicU32,
    state: Mutex<State>,
    pub(crate) cancel: Cancel,
    /// Two steps that say `meet` wait for each other.
    meeting: std::sync::Barrier,
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) remote_files: BTreeMap<String, String>,
}

pub(crate) struct Outcome {
    pub(crate) result: Result<Digest, BuildError>,
    pub(crate) messages: Vec<JsonMessage>,
}

impl Outcome {
    /// The stream's texts in one, ids replaced by `ID`.
    pub(crate) fn text(&self) -> String {
        let text: String = self.messages.iter().filter_map(|message| message.stream.as_deref()).collect();
        let words = text.split_inclusive([' ', '\n']).map(|word| {
            let bare = word.trim_end();
            let is_id = bare.len() == 12 && bare.bytes().all(|b| b.is_ascii_hexdigit());
            if is_id { word.replace(bare, "ID") } else { word.to_owned() }
        });
        words.collect()
    }

    pub(crate) fn error(&self) -> String {
        self.result.as_ref().expect_err("the build should fail").to_string()
    }

    pub(crate) fn id(&self) -> Digest {
        match &self.result {
            Ok(id) => id.clone(),
            Err(error) => panic!("{error}\n{}", self.text()),
        }
    }
}

impl Engine {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("seacow-build-").tempdir().unwrap();
        fs::create_dir(dir.path().join("context")).unwrap();
        Self {
            dir,
            next: AtomicU32::new(1),
            state: Mutex::default(),
            cancel: Cancel::new(),
            meeting: std::sync::Barrier::new(2),
            secrets: BTreeMap::new(),
            remote_files: BTreeMap::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn context(&self) -> PathBuf {
        self.dir.path().join("context")
    }

    /// A base image with these files, made before and not by a build.
    pub(crate) fn base(&self, name: &str, config: ContainerConfig, files: &[(&str, &str)]) -> Digest {
        let dir = self.new_dir();
        for (path, text) in files {
            let path = dir.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let layer = self.digest();
        self.state().layers.insert(layer.clone(), dir);
        let mut image = ImageConfig { config: Some(config), os: "linux".into(), ..ImageConfig::default() };
        image.rootfs.diff_ids.push(layer);
        let id = self.digest();
        let mut state = self.state();
        state.names.insert(name.to_owned(), id.clone());
        state.images.push((Image { id: id.clone(), config: Arc::new(image) }, None));
        id
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Outcome {
        self.build_with(dockerfile, &BuildOptions::default())
    }

    pub(crate) fn build_with(&self, dockerfile: &str, options: &BuildOptions) -> Outcome {
        fs::write(self.context().join("Dockerfile"), dockerfile).unwrap();
        let kept = Kept::default();
        let context = Context::open(&self.context(), "Dockerfile").unwrap();
        let result = build(options, &context, self, Box::new(kept.clone()), &self.cancel);
        Outcome { result, messages: kept.messages() }
    }

    /// Where an image's files are.
    pub(crate) fn files(&self, image: &Digest) -> PathBuf {
        self.rootfs(Some(image)).unwrap_or_else(|| self.dir.path().join("nothing"))
    }

    pub(crate) fn image(&self, id: &Digest) -> ImageConfig {
        let state = self.state();
        state.images.iter().find(|(image, _)| image.id == *id).unwrap().0.config.as_ref().clone()
    }

    pub(crate) fn history(&self, id: &Digest) -> Vec<(String, bool)> {
        let history = self.image(id).history.into_iter();
        history.map(|line| (line.created_by, line.empty_layer)).collect()
    }

    pub(crate) fn steps(&self) -> Vec<RunStep> {
        self.state().steps.clone()
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        self.state().tags.clone()
    }

    pub(crate) fn pulls(&self) -> Vec<Pull> {
        self.state().pulls.clone()
    }

    /// What was fetched.
    pub(crate) fn fetched(&self) -> Vec<Remote> {
        self.state().fetched.clone()
    }

    /// The epochs with which layers were made.
    pub(crate) fn commits(&self) -> Vec<Option<Timestamp>> {
        self.state().commits.clone()
    }

    /// Gives an image another name.
    pub(crate) fn name(&self, id: &Digest, name: &str) {
        self.state().names.insert(name.to_owned(), id.clone());
    }

    /// Forgets that images were built here, as if they had been pulled.
    pub(crate) fn forget_builds(&self) {
        self.state().images.iter_mut().for_each(|(_, parent)| *parent = Some(Digest::from_sha256(&[1; 32])));
    }

    /// Containers that were made and not removed.
    pub(crate) fn left_containers(&self) -> usize {
        self.state().left.len()
    }

    fn digest(&self) -> Digest {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut bytes = [0xd5; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        Digest::from_sha256(&bytes)
    }

    fn new_dir(&self) -> PathBuf {
        let dir = self.dir.path().join(format!("fs{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn rootfs(&self, image: Option<&Digest>) -> Option<PathBuf> {
        let state = self.state();
        let (image, _) = state.images.iter().find(|(one, _)| Some(&one.id) == image)?;
        state.layers.get(image.config.rootfs.diff_ids.last()?).cloned()
    }

    /// A copy of an image's files.
    fn copy_of(&self, image: Option<&Digest>) -> (Option<PathBuf>, PathBuf) {
        let (base, dir) = (self.rootfs(image), self.new_dir());
        if let Some(base) = &base {
            let done = Command::new("cp").arg("-a").arg(base.join(".")).arg(&dir).status().unwrap();
            assert!(done.success());
        }
        (base, dir)
    }

    fn change(&self, base: Option<&Path>, dir: &Path) -> Change {
        let same = match base {
            Some(base) => {
                let status =
                    Command::new("diff").args(["-r", "-q", "--no-dereference"]).arg(base).arg(dir).output();
                status.unwrap().status.success()
            }
            None => fs::read_dir(dir).unwrap().next().is_none(),
        };
        if same {
            return Change::Empty;
        }
        let layer = self.digest();
        self.state().layers.insert(layer.clone(), dir.to_owned());
        Change::Layer(layer)
    }
}

impl Executor for Engine {
    fn resolve(&self, name: &str, pull: Pull, _progress: &mut dyn Sink) -> Result<Image, ErrorReport> {
        let mut state = self.state();
        state.pulls.push(pull);
        let found =
            state.names.get(name).and_then(|id| state.images.iter().find(|(image, _)| image.id == *id));
        let missing = || ErrorReport::new(ErrorClass::NotFound, format!("No such image: {name}"));
        found.map(|(image, _)| image.clone()).ok_or_else(missing)
    }

    fn children(&self, parent: Option<&Digest>) -> Result<Vec<Image>, ErrorReport> {
        let state = self.state();
        let built = state.images.iter().filter(|(image, _)| image.config.container_config.is_some());
        Ok(built.filter(|(_, own)| own.as_ref() == parent).map(|(image, _)| image.clone()).collect())
    }

    fn create_image(&self, config: &ImageConfig, parent: Option<&Digest>) -> Result<Digest, ErrorReport> {
        let id = self.digest();
        let image = Image { id: id.clone(), config: Arc::new(config.clone()) };
        self.state().images.push((image, parent.cloned()));
        Ok(id)
    }

    fn inherit(
        &self,
        config: &ImageConfig,
        parent: Option<&Digest>,
        _source: &Digest,
    ) -> Result<Digest, ErrorReport> {
        self.create_image(config, parent)
    }

    fn fetch(&self, remote: &Remote, _cancel: &Cancel) -> Result<Box<dyn Fetched + '_>, ErrorReport> {
        self.state().fetched.push(remote.clone());
        let dir = self.new_dir();
        match remote {
            Remote::Url { url, name } => match self.remote_files.get(url) {
                Some(text) => fs::write(dir.join(name), text).unwrap(),
                None => return Err(ErrorReport::new(ErrorClass::NotFound, format!("{url}: 404"))),
            },
            Remote::Git { .. } => fs::write(dir.join("README"), "read me").unwrap(),
        }
        let root = fs::File::open(&dir).unwrap();
        Ok(Box::new(Tree { engine: self, base: None, dir, root }))
    }

    fn recall(&self, key: &str) -> Option<String> {
        self.state().memory.get(key).cloned()
    }

    fn remember(&self, key: String, value: String) {
        self.state().memory.insert(key, value);
    }

    fn secret(&self, id: &str) -> Option<Secret> {
        self.secrets.get(id).map(|text| Secret(text.clone().into_bytes()))
    }

    fn has_agent(&self, id: &str) -> bool {
        id == "default"
    }

    fn container(&self, step: &RunStep) -> Result<Box<dyn StepContainer + '_>, ErrorReport> {
        let (base, dir) = self.copy_of(step.image.as_ref());
        let id = seacow_spec::id::random_hex().unwrap();
        let mut state = self.state();
        state.steps.push(step.clone());
        state.left.push(id.clone());
        Ok(Box::new(Container { engine: self, step: step.clone(), base, dir, id }))
    }

    fn workspace(&self, image: Option<&Digest>) -> Result<Box<dyn Workspace + '_>, ErrorReport> {
        let (base, dir) = self.copy_of(image);
        let root = fs::File::open(&dir).unwrap();
        Ok(Box::new(Tree { engine: self, base, dir, root }))
    }

    fn view(&self, image: Option<&Digest>) -> Result<Box<dyn View + '_>, ErrorReport> {
        let dir = self.rootfs(image).unwrap_or_else(|| self.new_dir());
        let root = fs::File::open(&dir).unwrap();
        Ok(Box::new(Tree { engine: self, base: None, dir, root }))
    }

    fn tag(&self, _image: &Digest, name: &Reference) -> Result<(), ErrorReport> {
        self.state().tags.push(name.to_string());
        Ok(())
    }
}

struct Tree<'a> {
    engine: &'a Engine,
    base: Option<PathBuf>,
    dir: PathBuf,
    root: fs::File,
}

impl View for Tree<'_> {
    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

impl Fetched for Tree<'_> {
    fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    fn commit(&self) -> Option<&str> {
        Some("0123456789012345678901234567890123456789")
    }
}

impl Workspace for Tree<'_> {
    fn commit(self: Box<Self>, epoch: Option<Timestamp>) -> Result<Change, ErrorReport> {
        self.engine.state().commits.push(epoch);
        Ok(self.engine.change(self.base.as_deref(), &self.dir))
    }
}

struct Container<'a> {
    engine: &'a Engine,
    step: RunStep,
    base: Option<PathBuf>,
    dir: PathBuf,
    id: String,
}

impl StepContainer for Container<'_> {
    fn id(&self) -> &str {
        &self.id
    }

    fn warnings(&self) -> &[String] {
        &[]
    }

    /// `say x`, `warn x`, `touch /path`, `meet`, `exit n`, `hang`, separated by ` && `.
    fn run(&mut self, output: &mut dyn StepOutput, cancel: &Cancel) -> Result<i32, ErrorReport> {
        let command = self.step.config.cmd.clone().unwrap_or_default();
        for part in command.last().map(String::as_str).unwrap_or_default().split(" && ") {
            let (verb, rest) = part.split_once(' ').unwrap_or((part, ""));
            let line = format!("{rest}\n");
            let gone = |_| ErrorReport::new(ErrorClass::Unavailable, "nobody listens");
            match verb {
                "say" => output.write(Stream::Stdout, line.as_bytes()).map_err(gone)?,
                "warn" => output.write(Stream::Stderr, line.as_bytes()).map_err(gone)?,
                "touch" => fs::write(self.dir.join(rest.trim_start_matches('/')), rest).unwrap(),
                "meet" => _ = self.engine.meeting.wait(),
                "exit" => return Ok(rest.parse().unwrap()),
                "hang" => {
                    let (killed, died) = std::sync::mpsc::channel();
                    cancel.on_cancel(move || _ = killed.send(()));
                    died.recv().unwrap();
                    return Ok(137);
                }
                _ => return Ok(127),
            }
        }
        Ok(0)
    }

    fn commit(&mut self, epoch: Option<Timestamp>) -> Result<Change, ErrorReport> {
        self.engine.state().commits.push(epoch);
        Ok(self.engine.change(self.base.as_deref(), &self.dir))
    }

    fn remove(self: Box<Self>) -> Result<(), ErrorReport> {
        self.engine.state().left.retain(|id| *id != self.id);
        Ok(())
    }
}

//! Trees as datasets of zfs, by the zfs tools. Not tried on a zfs: there is none where seacow is made.
//!
//! ```text
//! <pool>/…/seacow-<digest>          holds all trees of a data root; mounted at <data root>/trees
//! <pool>/…/seacow-<digest>/<name>   one tree, mounted by zfs at <data root>/trees/<name>
//! layers/<chain>/tree               a symlink to such a place; so is snapshots/<key>/root
//! ```
//! What has a place on the disk by its mount cannot be renamed, exchanged and thrown away as directories are:
//! a symlink can. A dataset that no symlink leads to is garbage; it is destroyed after whatever was removed,
//! and at open.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::error::{At, IoFailure};
use crate::layout::{Layout, ROOT, TREE};

/// What statfs says of a zfs.
pub(in crate::snapshot) const MAGIC: u64 = 0x2fc1_2fc1;
/// How often a dataset is promoted over those cloned from it before it is given up: each time another clone
/// takes its snapshots over.
const PROMOTIONS: usize = 128;

/// Runs `zfs` with arguments and gives its output.
pub(super) trait Run: Send + Sync {
    fn run(&self, arguments: &[&str]) -> io::Result<String>;
}

/// The program of the host.
struct Program;

impl Run for Program {
    fn run(&self, arguments: &[&str]) -> io::Result<String> {
        // Its words are read below.
        let mut zfs = Command::new("zfs");
        zfs.args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
        let done = zfs.output()?;
        if done.status.success() {
            return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
        }
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned()))
    }
}

/// The datasets of one data root.
pub(in crate::snapshot) struct Zfs {
    tools: Box<dyn Run>,
    /// The dataset above all trees.
    parent: String,
    /// Where it is mounted.
    place: PathBuf,
    /// Drafts, layers, snapshots.
    dirs: [PathBuf; 3],
    /// Held while a dataset has no symlink yet, and while those without are looked for.
    making: Mutex<()>,
}

impl fmt::Debug for Zfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zfs").field("parent", &self.parent).finish_non_exhaustive()
    }
}

/// Whether the tools are there and know the data root; if not, what is missing.
pub(in crate::snapshot) fn works(place: &Path) -> Result<(), String> {
    match rustix::fs::statfs(place) {
        Ok(found) if found.f_type as u64 == MAGIC => {}
        Ok(_) => return Err("its file system is not zfs".to_owned()),
        Err(errno) => return Err(errno.to_string()),
    }
    match dataset_of(&Program, place) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("the zfs tools are not installed (package zfsutils-linux)".to_owned())
        }
        Err(error) => Err(format!("the zfs tools do not answer: {error}")),
    }
}

/// The dataset that a directory is in.
fn dataset_of(tools: &dyn Run, place: &Path) -> io::Result<String> {
    let answer = tools.run(&["list", "-H", "-o", "name", &place.to_string_lossy()])?;
    let first = answer.lines().next().unwrap_or_default().trim();
    if first.is_empty() {
        return Err(io::Error::other(format!("zfs list names no dataset for {}", place.display())));
    }
    Ok(first.to_owned())
}

impl Zfs {
    /// Makes the dataset above all trees, if it is not there, and has all of them mounted.
    pub(in crate::snapshot) fn open(layout: &Layout) -> Result<Self, IoFailure> {
        Self::open_with(Box::new(Program), layout)
    }

    fn open_with(tools: Box<dyn Run>, layout: &Layout) -> Result<Self, IoFailure> {
        let data = layout.data();
        let holder = dataset_of(&*tools, data).at("find the dataset of", data)?;
        let digest = crate::hash::digest(data.as_os_str().as_encoded_bytes());
        let parent = format!("{holder}/seacow-{}", digest.hex().get(..12).unwrap_or_default());
        let dirs = [layout.drafts(), layout.layers(), layout.snapshots()];
        let zfs = Self { tools, parent, place: data.join("trees"), dirs, making: Mutex::new(()) };
        if zfs.tools.run(&["list", "-H", "-o", "name", &zfs.parent]).is_err() {
            let mountpoint = format!("mountpoint={}", zfs.place.display());
            let options = ["-o", &mountpoint, "-o", "xattr=sa", "-o", "acltype=posixacl", "-o", "atime=off"];
            let words: Vec<&str> =
                ["create"].into_iter().chain(options).chain([zfs.parent.as_str()]).collect();
            zfs.run(&words)?;
        }
        for name in zfs.names()? {
            zfs.mount(&name)?;
        }
        Ok(zfs)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, IoFailure> {
        let last = arguments.last().copied().unwrap_or_default();
        self.tools.run(arguments).at("run zfs for", last)
    }

    fn dataset(&self, name: &str) -> String {
        format!("{}/{name}", self.parent)
    }

    /// After a boot of the machine nobody else may have done it.
    fn mount(&self, name: &str) -> Result<(), IoFailure> {
        match self.tools.run(&["mount", &self.dataset(name)]) {
            Err(error) if !error.to_string().contains("already mounted") => {
                Err(error).at("mount the dataset", name)
            }
            _ => Ok(()),
        }
    }

    /// Names of all trees.
    fn names(&self) -> Result<Vec<String>, IoFailure> {
        let answer =
            self.run(&["list", "-H", "-r", "-d", "1", "-t", "filesystem", "-o", "name", &self.parent])?;
        Ok(children(&answer, &self.parent))
    }

    /// A new, empty tree, and a symlink to it at `link`. Gives its place.
    pub(super) fn create(&self, link: &Path) -> Result<PathBuf, IoFailure> {
        let name = crate::layout::random()?;
        let _whole = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(&["create", &self.dataset(&name)])?;
        self.link(&name, link)
    }

    /// A tree that begins as another one is now, and a symlink to it at `link`.
    pub(super) fn clone(&self, from: &Path, link: &Path) -> Result<PathBuf, IoFailure> {
        let (source, name) = (self.named_by(from)?, crate::layout::random()?);
        let moment = format!("{}@{name}", self.dataset(&source));
        let _whole = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.run(&["snapshot", &moment])?;
        let cloned = self.run(&["clone", &moment, &self.dataset(&name)]);
        // Goes with its last clone; at once if there is none.
        let marked = self.run(&["destroy", "-d", &moment]);
        cloned?;
        marked?;
        self.link(&name, link)
    }

    fn link(&self, name: &str, link: &Path) -> Result<PathBuf, IoFailure> {
        let place = self.place.join(name);
        std::os::unix::fs::symlink(&place, link).at("link to", link)?;
        Ok(place)
    }

    /// Nothing is changed in a tree any more.
    pub(super) fn seal(&self, link: &Path) -> Result<(), IoFailure> {
        let dataset = self.dataset(&self.named_by(link)?);
        self.run(&["set", "readonly=on", &dataset]).map(drop)
    }

    /// The tree that a symlink leads to.
    fn named_by(&self, link: &Path) -> Result<String, IoFailure> {
        let target = std::fs::read_link(link).at("read the link", link)?;
        name_in(&self.place, &target).ok_or_else(|| {
            IoFailure::new("find the dataset of", link, io::Error::other("it leads elsewhere"))
        })
    }

    /// Destroys every tree that no symlink of the store leads to.
    pub(in crate::snapshot) fn sweep(&self) -> Result<(), IoFailure> {
        let _whole = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.linked()?;
        for name in self.names()? {
            if !wanted.contains(&name) {
                self.destroy(&name)?;
            }
        }
        Ok(())
    }

    /// Drafts first: what becomes a layer or a snapshot meanwhile is seen there or here.
    fn linked(&self) -> Result<HashSet<String>, IoFailure> {
        let mut names = HashSet::new();
        let [drafts, layers, snapshots] = &self.dirs;
        for (dir, links) in [
            (drafts, [TREE, ROOT, "next/root"].as_slice()),
            (layers, [TREE].as_slice()),
            (snapshots, [ROOT].as_slice()),
        ] {
            for entry in crate::store::names(dir)? {
                let targets =
                    links.iter().filter_map(|link| std::fs::read_link(dir.join(&entry).join(link)).ok());
                names.extend(targets.filter_map(|target| name_in(&self.place, &target)));
            }
        }
        Ok(names)
    }

    /// One that others were cloned from goes after one of these has taken its snapshots over.
    fn destroy(&self, name: &str) -> Result<(), IoFailure> {
        let dataset = self.dataset(name);
        for _ in 0..PROMOTIONS {
            match self.tools.run(&["destroy", "-r", &dataset]) {
                Err(error) if error.to_string().contains("dependent clones") => {}
                Err(error) if error.to_string().contains("dataset does not exist") => return Ok(()),
                done => return done.map(drop).at("destroy the dataset", &dataset),
            }
            let list = ["list", "-H", "-r", "-d", "1", "-t", "snapshot", "-o", "clones", &dataset];
            let Some(clone) = first_clone(&self.run(&list)?) else { break };
            self.run(&["promote", &clone])?;
        }
        Err(IoFailure::new("destroy the dataset", &dataset, io::Error::other("others still depend on it")))
    }
}

/// Of `zfs list -r`: what is directly below.
fn children(answer: &str, parent: &str) -> Vec<String> {
    let below = answer.lines().filter_map(|line| line.trim().strip_prefix(parent)?.strip_prefix('/'));
    below.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect()
}

/// Of the property `clones`: names with commas, or `-`.
fn first_clone(answer: &str) -> Option<String> {
    let names = answer.lines().flat_map(|line| line.trim().split(','));
    names.map(str::trim).find(|name| !name.is_empty() && *name != "-").map(str::to_owned)
}

fn name_in(place: &Path, target: &Path) -> Option<String> {
    let name = target.strip_prefix(place).ok()?.to_str()?;
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Answers in the words of OpenZFS 2.1's manual pages and sources, and notes what it is asked.
    #[derive(Clone, Default)]
    struct Script {
        asked: Arc<Mutex<Vec<String>>>,
        answers: Arc<Mutex<Vec<Answer>>>,
    }

    /// To what begins so.
    type Answer = (String, Result<String, String>);

    impl Script {
        fn answer(&self, words: &str, answer: Result<&str, &str>) {
            let answer = answer.map(str::to_owned).map_err(str::to_owned);
            self.answers.lock().unwrap().push((words.to_owned(), answer));
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.asked.lock().unwrap())
        }
    }

    impl Run for Script {
        fn run(&self, arguments: &[&str]) -> io::Result<String> {
            let words = arguments.join(" ");
            self.asked.lock().unwrap().push(words.clone());
            let mut answers = self.answers.lock().unwrap();
            match answers.iter().position(|(asked, _)| words.starts_with(asked.as_str())) {
                Some(at) => answers.remove(at).1.map_err(io::Error::other),
                None => Ok(String::new()),
            }
        }
    }

    struct Lab {
        script: Script,
        zfs: Zfs,
        layout: Layout,
        _dir: tempfile::TempDir,
    }

    fn lab() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::create(dir.path().join("data"), dir.path().join("exec")).unwrap();
        let script = Script::default();
        script.answer("list -H -o name /", Ok("tank/var\n"));
        script.answer("list -H -o name tank/var/seacow-", Err("cannot open 'x': dataset does not exist"));
        let zfs = Zfs::open_with(Box::new(script.clone()), &layout).unwrap();
        Lab { script, zfs, layout, _dir: dir }
    }

    #[test]
    fn the_dataset_above_is_made_once() {
        let lab = lab();
        let asked = lab.script.asked();
        let parent = &lab.zfs.parent;
        assert!(parent.starts_with("tank/var/seacow-") && parent.len() == "tank/var/seacow-".len() + 12);
        let place = lab.layout.data().join("trees");
        let create = format!(
            "create -o mountpoint={} -o xattr=sa -o acltype=posixacl -o atime=off {parent}",
            place.display()
        );
        assert_eq!(asked[2], create);
        // The next time it is there, with two trees of which one is not mounted.
        let script = Script::default();
        script.answer("list -H -o name /", Ok("tank/var\n"));
        script.answer("list -H -o name tank", Ok("x\n"));
        script.answer("list -H -r", Ok(&format!("{parent}\n{parent}/one\n{parent}/two\n{parent}/two/no\n")));
        script.answer("mount", Err("cannot mount 'tank/one': filesystem already mounted"));
        Zfs::open_with(Box::new(script.clone()), &lab.layout).unwrap();
        let mounts: Vec<_> = script.asked().into_iter().filter(|asked| asked.starts_with("mount")).collect();
        assert_eq!(mounts, [format!("mount {parent}/one"), format!("mount {parent}/two")]);
    }

    #[test]
    fn trees_are_created_cloned_and_sealed() {
        let lab = lab();
        lab.script.asked();
        let (first, second) = (lab.layout.data().join("first"), lab.layout.data().join("second"));
        let place = lab.zfs.create(&first).unwrap();
        assert_eq!(std::fs::read_link(&first).unwrap(), place);
        lab.zfs.clone(&first, &second).unwrap();
        lab.zfs.seal(&second).unwrap();
        let parent = &lab.zfs.parent;
        let name = |link: &Path| lab.zfs.named_by(link).unwrap();
        let (one, two) = (name(&first), name(&second));
        let wanted = [
            format!("create {parent}/{one}"),
            format!("snapshot {parent}/{one}@{two}"),
            format!("clone {parent}/{one}@{two} {parent}/{two}"),
            format!("destroy -d {parent}/{one}@{two}"),
            format!("set readonly=on {parent}/{two}"),
        ];
        assert_eq!(lab.script.asked(), wanted);
        // A failed clone leaves no snapshot and no link.
        let third = lab.layout.data().join("third");
        lab.script.answer("clone", Err("cannot create 'x': out of space"));
        let error = lab.zfs.clone(&first, &third).unwrap_err();
        assert!(error.to_string().contains("out of space"), "{error}");
        assert!(lab.script.asked().last().unwrap().starts_with("destroy -d ") && !third.exists());
        // Nobody is led astray.
        std::os::unix::fs::symlink("/etc", &third).unwrap();
        assert!(lab.zfs.seal(&third).is_err());
    }

    #[test]
    fn what_nothing_leads_to_is_destroyed() {
        let lab = lab();
        let layer = lab.layout.layers().join("some");
        std::fs::create_dir(&layer).unwrap();
        lab.zfs.create(&layer.join(TREE)).unwrap();
        let kept = lab.zfs.named_by(&layer.join(TREE)).unwrap();
        lab.script.asked();
        let parent = lab.zfs.parent.clone();
        lab.script.answer("list -H -r", Ok(&format!("{parent}\n{parent}/{kept}\n{parent}/gone\n")));
        lab.script.answer("destroy", Err("cannot destroy 'gone': filesystem has dependent clones\nuse '-R'"));
        lab.script.answer("list -H -r", Ok(&format!("-\n{parent}/heir,{parent}/other\n")));
        lab.zfs.sweep().unwrap();
        let wanted = [
            format!("list -H -r -d 1 -t filesystem -o name {parent}"),
            format!("destroy -r {parent}/gone"),
            format!("list -H -r -d 1 -t snapshot -o clones {parent}/gone"),
            format!("promote {parent}/heir"),
            format!("destroy -r {parent}/gone"),
        ];
        assert_eq!(lab.script.asked(), wanted);
    }

    #[test]
    fn without_zfs_it_is_said_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let why = works(dir.path()).unwrap_err();
        // A machine with a zfs for its temporary files has the tools.
        assert!(why.contains("is not zfs") || why.contains("tools"), "{why}");
    }
}

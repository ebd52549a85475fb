//! What the store's tests share: a store in a temporary directory, tars made in code, mounts.
#![allow(unreachable_pub, reason = "a module of the test program")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use seacow_spec::oci::image::ImageConfig;
use seacow_spec::shim::Rootfs;
use seacow_store::archive::Bind;
use seacow_store::{DriverKind, Image, Store, StoreOptions};

/// A store of its own, removed at the end.
pub struct TestStore {
    pub dir: tempfile::TempDir,
    pub driver: Option<DriverKind>,
    pub store: Option<Arc<Store>>,
}

impl TestStore {
    pub fn new() -> Self {
        Self::at(&std::env::temp_dir(), None)
    }

    /// Below a directory, with a driver.
    pub fn at(dir: &Path, driver: Option<DriverKind>) -> Self {
        let dir = tempfile::Builder::new().prefix("seacow-store-test-").tempdir_in(dir).unwrap();
        let mut this = Self { dir, driver, store: None };
        this.open();
        this
    }

    pub fn options(&self) -> StoreOptions {
        let mut options = StoreOptions::new(self.dir.path().join("data"), self.dir.path().join("exec"));
        options.driver = self.driver;
        options
    }

    /// Opens it, again if it was open.
    pub fn open(&mut self) {
        self.store = None;
        self.store = Some(Arc::new(Store::open(self.options()).unwrap()));
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Names in a directory of the data root, sorted.
    pub fn names(&self, dir: &str) -> Vec<String> {
        if let Some(store) = &self.store {
            store.settle();
        }
        let entries = std::fs::read_dir(self.data().join(dir)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn in_mounted(&self, rootfs: &Rootfs, work: &(dyn Fn(&Path) + Sync)) {
        in_mounted(self, rootfs, &[], work);
    }
}

impl std::ops::Deref for TestStore {
    type Target = Arc<Store>;

    fn deref(&self) -> &Arc<Store> {
        self.store.as_ref().unwrap()
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        if let Some(store) = &self.store {
            store.remove_host_mask().unwrap();
        }
    }
}

/// Works in a mounted root by a path, which only the thread of the mount can see.
pub fn in_mounted(store: &Store, rootfs: &Rootfs, binds: &[Bind], work: &(dyn Fn(&Path) + Sync)) {
    let path = store.exec_root().join("mnt/root");
    store.with_mounted(rootfs, binds, |_| work(&path)).unwrap();
}

/// Tests of what only root may do say so when they cannot.
pub fn is_root(test: &str) -> bool {
    let root = std::fs::metadata("/proc/self").is_ok_and(|meta| {
        use std::os::unix::fs::MetadataExt;
        meta.uid() == 0
    });
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

/// A tar builder for the simple cases.
pub struct Tar(pub tar::Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(size);
        header
    }

    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let mut header = Self::header(tar::EntryType::Regular, 0o644, content.len() as u64);
        self.0.append_data(&mut header, name, content).unwrap();
        self
    }

    pub fn dir(mut self, name: &str, mode: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        self.0.append_data(&mut header, name, std::io::empty()).unwrap();
        self
    }

    pub fn link(mut self, kind: tar::EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, 0o777, 0);
        self.0.append_link(&mut header, name, target).unwrap();
        self
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.link(tar::EntryType::Symlink, name, target)
    }

    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(tar::EntryType::Link, name, target)
    }

    pub fn node(mut self, kind: tar::EntryType, name: &str, major: u32, minor: u32) -> Self {
        let mut header = Self::header(kind, 0o640, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0.append_data(&mut header, name, std::io::empty()).unwrap();
        self
    }

    /// A member whose name no decent tar would write.
    pub fn raw(mut self, name: &str, link: Option<&str>, kind: tar::EntryType) -> Self {
        let mut header = Self::header(kind, 0o644, 0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        self.0.append(&header, std::io::empty()).unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// A one-layer image with a name.
pub fn image(store: &Store, name: &str, tar: &[u8]) -> Image {
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    let image = store.images().import(tar, config).unwrap();
    store.images().tag(&image.id, &name.parse().unwrap()).unwrap();
    store.images().resolve(name).unwrap()
}

//! Hears of writes and renames in a log directory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// inotify on one directory.
pub(super) struct DirectoryWatch(AsyncFd<OwnedFd>);

impl DirectoryWatch {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, directory, events)?;
        #[expect(
            deprecated,
            reason = "the replacement is unsafe; an OwnedFd that nobody takes out is what it asks for"
        )]
        let registered = AsyncFd::new(watch)?;
        Ok(Self(registered))
    }

    /// Returns when something changed since the last call. Which file does not matter.
    pub(super) async fn changed(&mut self) {
        let Ok(mut ready) = self.0.readable().await else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        // Everything that is queued; the reader looks at all files anyway.
        while let Ok((_, _)) = rustix::io::read(self.0.get_ref(), &mut buffer) {}
        ready.clear_ready();
    }
}

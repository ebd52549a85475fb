//! Removes what was moved to the trash, behind everybody's back: on some disks freeing a few blocks
//! takes milliseconds, and nobody waits for garbage.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::error::{At, IoFailure};
use crate::layout::remove_tree;

/// A thread that removes directories, one after the other. Dropping it waits for the last one.
#[derive(Debug)]
pub(crate) struct Sweeper {
    /// Not bounded: what waits here are names of directories that are on the disk anyway.
    sender: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

enum Job {
    Remove(PathBuf),
    AfterEach(Box<dyn Fn() + Send>),
    Tell(SyncSender<()>),
}

impl Sweeper {
    pub(crate) fn start() -> Result<Self, IoFailure> {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("seacow-sweeper".into())
            .spawn(move || sweep(&receiver))
            .at("start the thread that removes", "trash")?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// To be removed some time. What is left when the process dies is removed at the next open.
    pub(crate) fn remove(&self, path: PathBuf) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(Job::Remove(path));
        }
    }

    /// To be done after every removal from now on.
    pub(crate) fn after_each(&self, work: Box<dyn Fn() + Send>) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(Job::AfterEach(work));
        }
    }

    /// Returns when everything is gone that was given before.
    pub(crate) fn settle(&self) {
        let (done, told) = sync_channel(1);
        if let Some(sender) = &self.sender
            && sender.send(Job::Tell(done)).is_ok()
        {
            let _ = told.recv();
        }
    }
}

fn sweep(jobs: &Receiver<Job>) {
    let mut after: Option<Box<dyn Fn() + Send>> = None;
    for job in jobs {
        match job {
            Job::Remove(path) => {
                // What cannot be removed is tried again at the next open.
                drop(remove_tree(&path));
                if let Some(after) = &after {
                    after();
                }
            }
            Job::AfterEach(work) => after = Some(work),
            Job::Tell(waiting) => drop(waiting.send(())),
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

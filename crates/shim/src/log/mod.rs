//! The container's log: json-file, rotated, never in the container's way.
//!
//! A disk that is full costs log entries, not the container: what could not be written is counted,
//! and the count becomes an entry of its own once writing works again. Nothing is synced; a log
//! is worth no fsync.

pub(crate) mod json;
pub(crate) mod lines;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use seacow_spec::Timestamp;
use seacow_spec::shim::LogConfig;

use self::json::entry;
use self::lines::Piece;
use crate::io::client::Stream;

/// Docker's mode for log files: they may hold secrets.
const MODE: u32 = 0o640;
/// Rotated files beyond this are not looked after; a bound for the renames of one rotation.
const MAX_FILES: u32 = 1000;
/// Formatted entries are written when this much has come together within one read.
const BATCH: usize = 32 << 10;

/// A log that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("open log {}: {source}", path.display())]
pub(crate) struct OpenError {
    /// The file.
    pub(crate) path: PathBuf,
    /// Why.
    pub(crate) source: io::Error,
}

/// What could not be written.
#[derive(Debug, Default)]
struct Lost {
    entries: u64,
    bytes: u64,
    why: String,
}

/// A json-file log.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    max_size: u64,
    max_files: u32,
    file: Option<File>,
    /// Size of the newest file, all entries in it whole.
    size: u64,
    batch: Vec<u8>,
    batch_entries: u64,
    lost: Lost,
}

impl Log {
    /// Opens what `config` says, appending to what is there; `None` when nothing is logged.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub(crate) fn open(config: &LogConfig) -> Result<Option<Self>, OpenError> {
        let LogConfig::JsonFile { path, max_size, max_files } = config else { return Ok(None) };
        let (file, size) = open(path).map_err(|source| OpenError { path: path.clone(), source })?;
        Ok(Some(Self {
            path: path.clone(),
            max_size: *max_size,
            max_files: (*max_files).clamp(1, MAX_FILES),
            file: Some(file),
            size,
            batch: Vec::new(),
            batch_entries: 0,
            lost: Lost::default(),
        }))
    }

    /// Size of the newest file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds an entry; [`Self::flush`] writes it at the latest.
    pub(crate) fn add(&mut self, stream: Stream, piece: Piece<'_>) {
        let start = self.batch.len();
        entry(&mut self.batch, piece.text, piece.unfinished, stream, piece.time);
        let grown = self.size + self.batch.len() as u64;
        if self.max_size > 0 && grown > self.max_size && self.size + start as u64 > 0 {
            let newest = self.batch.split_off(start);
            self.flush();
            self.rotate();
            self.batch = newest;
        }
        self.batch_entries += 1;
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.note_loss();
        let batch = std::mem::take(&mut self.batch);
        let entries = std::mem::take(&mut self.batch_entries);
        if let Err(error) = self.write(&batch) {
            self.lost.entries += entries;
            self.lost.bytes += batch.len() as u64;
            self.lost.why = error.to_string();
        }
    }

    /// Says in the log what is missing from it, as soon as that can be written.
    fn note_loss(&mut self) {
        if self.lost.entries == 0 {
            return;
        }
        let Lost { entries, bytes, why } = &self.lost;
        let text = format!("seacow: {entries} log entries ({bytes} bytes) were lost: {why}");
        let mut note = Vec::new();
        entry(&mut note, text.as_bytes(), false, Stream::Stderr, Timestamp::now());
        if self.write(&note).is_ok() {
            self.lost = Lost::default();
        }
    }

    /// Writes all or nothing: what was written of entries that did not fit is cut off again.
    fn write(&mut self, entries: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let (file, size) = open(&self.path)?;
                self.size = size;
                self.file.insert(file)
            }
        };
        match file.write_all(entries) {
            Ok(()) => {
                self.size += entries.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Where this fails too, one entry is torn; its readers skip what is not JSON. A file
                // that somebody truncated meanwhile must not be stretched again.
                if file.metadata().is_ok_and(|now| now.len() > self.size) {
                    let _ = file.set_len(self.size);
                }
                Err(error)
            }
        }
    }

    /// `log` → `log.1` → `log.2` …, the oldest goes. Readers that follow see another inode.
    fn rotate(&mut self) {
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.max_files.saturating_sub(1)).rev() {
            let _ = fs::rename(numbered(n), numbered(n + 1));
        }
        let moved = if self.max_files > 1 {
            fs::rename(&self.path, numbered(1))
        } else {
            fs::remove_file(&self.path)
        };
        // A file that someone else moved away is as good as rotated. One that cannot be moved
        // grows on: an entry too many rather than one too few.
        if moved.is_ok() || !self.path.exists() {
            self.file = None;
            self.size = 0;
        }
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, max_size: u64, max_files: u32) -> Log {
        let path = dir.join("c-json.log");
        Log::open(&LogConfig::JsonFile { path, max_size, max_files }).unwrap().unwrap()
    }

    fn add(log: &mut Log, text: &[u8]) {
        log.add(Stream::Stdout, Piece { text, unfinished: false, time: Timestamp::UNIX_EPOCH });
    }

    fn texts(path: &Path) -> Vec<String> {
        let content = fs::read_to_string(path).unwrap();
        content
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                value["log"].as_str().unwrap().trim_end().to_owned()
            })
            .collect()
    }

    #[test]
    fn rotation_keeps_the_newest_files_and_never_exceeds_the_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 300, 3);
        for n in 0..40 {
            add(&mut log, format!("entry {n}").as_bytes());
            log.flush();
        }
        let mut all = Vec::new();
        for name in ["c-json.log.2", "c-json.log.1", "c-json.log"] {
            let path = dir.path().join(name);
            assert!(fs::metadata(&path).unwrap().len() <= 300, "{name}");
            all.extend(texts(&path));
        }
        let first = 40 - all.len();
        assert_eq!(all, (first..40).map(|n| format!("entry {n}")).collect::<Vec<_>>());
        assert!(!dir.path().join("c-json.log.3").exists());
        assert_eq!(log.size(), fs::metadata(dir.path().join("c-json.log")).unwrap().len());
    }

    #[test]
    fn rotation_within_one_batch() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 300, 2);
        for n in 0..9 {
            add(&mut log, format!("entry {n}").as_bytes());
        }
        log.flush();
        let mut all = texts(&dir.path().join("c-json.log.1"));
        all.extend(texts(&dir.path().join("c-json.log")));
        assert_eq!(all.last().unwrap(), "entry 8");
        assert!(all.len() >= 4);
    }

    #[test]
    fn one_file_only_and_an_entry_larger_than_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 100, 1);
        add(&mut log, &[b'x'; 500]);
        add(&mut log, b"small");
        log.flush();
        assert_eq!(texts(&dir.path().join("c-json.log")), ["small"]);
        assert!(!dir.path().join("c-json.log.1").exists());
    }

    #[test]
    fn a_log_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        add_and_close(log(dir.path(), 1000, 2), b"before");
        let mut again = log(dir.path(), 1000, 2);
        assert!(again.size() > 0);
        add(&mut again, b"after");
        again.flush();
        assert_eq!(texts(&dir.path().join("c-json.log")), ["before", "after"]);
    }

    fn add_and_close(mut log: Log, text: &[u8]) {
        add(&mut log, text);
        log.flush();
    }

    #[test]
    fn what_a_full_disk_costs_is_counted_and_noted_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 0, 1);
        add(&mut log, b"first");
        log.flush();
        let good = log.file.replace(OpenOptions::new().append(true).open("/dev/full").unwrap());
        for text in [b"lost 1", b"lost 2"] {
            add(&mut log, text);
            log.flush();
        }
        log.file = good;
        add(&mut log, b"second");
        add(&mut log, b"third");
        log.flush();
        let texts = texts(&dir.path().join("c-json.log"));
        assert_eq!(texts.len(), 4);
        assert_eq!((texts[0].as_str(), texts[2].as_str(), texts[3].as_str()), ("first", "second", "third"));
        assert!(texts[1].starts_with("seacow: 2 log entries ("), "{}", texts[1]);
        assert!(texts[1].ends_with("No space left on device (os error 28)"), "{}", texts[1]);
    }
}

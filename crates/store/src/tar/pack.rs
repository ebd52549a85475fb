//! Packing a stream on several processors.
//!
//! ```text
//! work ─▶ blocks ─▶ packers, any order ─▶ in order ─▶ out
//! ```
//! gzip: one member, whose blocks are deflated on their own, each with the end of the one before as its dictionary, so
//! that little is lost. zstd: one frame a block. What comes out depends on what goes in alone, not on how many
//! processors there are.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of a block.
const GZIP_BLOCK: usize = 512 << 10;
const ZSTD_BLOCK: usize = 4 << 20;
/// How far deflate looks back.
const WINDOW: usize = 32 << 10;
/// Packers at most: memory is what each has in hand.
const MAX_PACKERS: usize = 8;
/// Blocks for each packer that may be on their way.
const AHEAD: usize = 3;
/// Magic, deflate, no flags, no time, no hint, Unix.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
/// An empty last block of deflate.
const DEFLATE_END: [u8; 2] = [3, 0];

/// How a stream is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, of a level from 1 (fast) to 9.
    Gzip(u32),
    /// zstd, of a level from 1 (fast) to 19.
    Zstd(i32),
}

impl Packing {
    /// As dockerd packs layers: the level is that of Go's library where none is said.
    pub const DOCKER: Self = Self::Gzip(6);
    /// zstd where its level does not matter: the library's own default.
    pub const ZSTD: Self = Self::Zstd(3);

    fn block(self) -> usize {
        match self {
            Self::Gzip(_) => GZIP_BLOCK,
            Self::Zstd(_) => ZSTD_BLOCK,
        }
    }
}

/// Has `work` write into something that packs it and writes to `out`.
///
/// # Errors
/// What `work` says; else `out` does not take it.
pub fn pack<T, E>(
    packing: Packing,
    out: &mut (dyn Write + Send),
    work: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E>
where
    E: From<io::Error>,
{
    let packers = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_PACKERS);
    let (jobs, queue) = sync_channel::<Job>(packers);
    let (done, results) = sync_channel(packers);
    // One for each block between the one who cuts and the one who writes.
    let (begun, ended) = sync_channel(AHEAD * packers);
    // Gone with the last packer, so that whoever cuts notices.
    let queue = Arc::new(Mutex::new(queue));
    std::thread::scope(|scope| {
        for _ in 0..packers {
            let (queue, done) = (Arc::clone(&queue), done.clone());
            scope.spawn(move || work_off(packing, &queue, &done));
        }
        drop((queue, done));
        let writer = scope.spawn(move || write_out(packing, out, &results, &ended));
        let mut blocks =
            Blocks { jobs, begun, size: packing.block(), block: Vec::new(), before: Vec::new(), number: 0 };
        let outcome = work(&mut blocks);
        let flushed = blocks.send();
        drop(blocks);
        let broken = || io::Error::other("a thread panicked");
        let written = writer.join().unwrap_or_else(|_| Err(broken()));
        // Whoever writes fails when nobody takes it any more: why that is says the one who takes it.
        match (outcome, written) {
            (_, Err(error)) => Err(error.into()),
            (outcome, Ok(())) => {
                let value = outcome?;
                flushed?;
                Ok(value)
            }
        }
    })
}

/// A block to be packed.
struct Job {
    number: u64,
    /// The end of the one before.
    before: Vec<u8>,
    bytes: Vec<u8>,
}

/// A packed block.
struct Packed {
    number: u64,
    bytes: io::Result<Vec<u8>>,
    crc: Crc,
}

/// Cuts what is written into blocks.
struct Blocks {
    jobs: SyncSender<Job>,
    begun: SyncSender<()>,
    size: usize,
    block: Vec<u8>,
    before: Vec<u8>,
    number: u64,
}

impl Blocks {
    fn send(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.block, Vec::with_capacity(self.size));
        let tail = bytes[bytes.len().saturating_sub(WINDOW)..].to_vec();
        let job = Job { number: self.number, before: std::mem::replace(&mut self.before, tail), bytes };
        self.number += 1;
        self.begun.send(()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.jobs.send(job).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.size - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        if self.block.len() == self.size {
            self.send()?;
        }
        Ok(taken)
    }

    /// A block ends where it is full: what comes out does not depend on when somebody flushes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn work_off(packing: Packing, queue: &Mutex<Receiver<Job>>, done: &SyncSender<Packed>) {
    let mut deflate = None;
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut crc = Crc::new();
        let bytes = match packing {
            Packing::Gzip(level) => {
                crc.update(&job.bytes);
                let deflate = deflate.get_or_insert_with(|| Compress::new(Compression::new(level), false));
                deflated(deflate, &job)
            }
            Packing::Zstd(level) => zstd::bulk::compress(&job.bytes, level),
        };
        // Nobody takes it any more: then nobody sends either.
        if done.send(Packed { number: job.number, bytes, crc }).is_err() {
            return;
        }
    }
}

/// A block as deflate, which ends at a byte and is not the last.
fn deflated(deflate: &mut Compress, job: &Job) -> io::Result<Vec<u8>> {
    deflate.reset();
    if !job.before.is_empty() {
        deflate.set_dictionary(&job.before).map_err(io::Error::other)?;
    }
    let mut out = Vec::with_capacity(job.bytes.len() / 2 + 1024);
    let mut taken = 0;
    loop {
        let before = deflate.total_in();
        let status = deflate
            .compress_vec(&job.bytes[taken..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        taken += usize::try_from(deflate.total_in() - before).unwrap_or(usize::MAX);
        // Room that is left says that all of it is out.
        if taken == job.bytes.len() && (out.len() < out.capacity() || status == Status::BufError) {
            return Ok(out);
        }
        out.reserve(job.bytes.len() / 4 + 1024);
    }
}

fn write_out(
    packing: Packing,
    out: &mut (dyn Write + Send),
    results: &Receiver<Packed>,
    ended: &Receiver<()>,
) -> io::Result<()> {
    if matches!(packing, Packing::Gzip(_)) {
        out.write_all(&GZIP_HEAD)?;
    }
    let mut waiting = BTreeMap::new();
    let (mut next, mut crc) = (0, Crc::new());
    while let Ok(packed) = results.recv() {
        waiting.insert(packed.number, packed);
        while let Some(packed) = waiting.remove(&next) {
            out.write_all(&packed.bytes?)?;
            crc.combine(&packed.crc);
            next += 1;
            // One was begun for it.
            let _ = ended.try_recv();
        }
    }
    match packing {
        Packing::Gzip(_) => {
            out.write_all(&DEFLATE_END)?;
            out.write_all(&crc.sum().to_le_bytes())?;
            // Modulo 2^32, as the format says.
            out.write_all(&crc.amount().to_le_bytes())?;
        }
        // Nothing at all is not a frame.
        Packing::Zstd(level) if next == 0 => out.write_all(&zstd::bulk::compress(&[], level)?)?,
        Packing::Zstd(_) => {}
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn packed(packing: Packing, bytes: &[u8], step: usize) -> Vec<u8> {
        let mut out = Vec::new();
        pack(packing, &mut out, |to| bytes.chunks(step).try_for_each(|piece| to.write_all(piece))).unwrap();
        out
    }

    fn unpacked(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        super::super::compress::unpack(bytes).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    /// Text that repeats, and noise.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        (0..len)
            .map(|at| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if at % 7000 < 3000 { (state >> 24) as u8 } else { b"what repeats "[at % 13] }
            })
            .collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        for packing in [Packing::DOCKER, Packing::Gzip(1), Packing::ZSTD] {
            for len in [0, 1, GZIP_BLOCK - 1, GZIP_BLOCK, 3 * GZIP_BLOCK + 17, 2 * ZSTD_BLOCK + 5] {
                let bytes = sample(len);
                let small = packed(packing, &bytes, 777);
                assert!(unpacked(&small) == bytes, "{packing:?} {len}");
                assert!(
                    small == packed(packing, &bytes, 100_000),
                    "{packing:?} {len}: depends on the pieces"
                );
            }
        }
    }

    #[test]
    fn any_gunzip_takes_it_for_one_member() {
        let bytes = sample(3 * GZIP_BLOCK);
        let gz = packed(Packing::DOCKER, &bytes, 4096);
        let mut one = flate2::read::GzDecoder::new(&gz[..]);
        let mut out = Vec::new();
        one.read_to_end(&mut out).unwrap();
        assert!(out == bytes);
        let mut alone = flate2::write::GzEncoder::new(Vec::new(), Compression::new(6));
        alone.write_all(&bytes).unwrap();
        let alone = alone.finish().unwrap().len();
        assert!(gz.len() < alone + alone / 50, "{} in blocks, {alone} in one", gz.len());
    }

    #[test]
    fn failures_on_either_side() {
        let failed: io::Result<()> =
            pack(Packing::DOCKER, &mut Vec::new(), |_| Err(io::Error::other("the source")));
        assert_eq!(failed.unwrap_err().to_string(), "the source");
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let failed: io::Result<()> =
            pack(Packing::ZSTD, &mut Full, |out| out.write_all(&sample(4 * ZSTD_BLOCK * MAX_PACKERS)));
        assert_eq!(failed.unwrap_err().to_string(), "the disk");
    }
}

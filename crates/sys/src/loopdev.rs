//! Block devices whose blocks are a file's.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use crate::{Errno, raw};

const CONTROL: &str = "/dev/loop-control";
/// Block devices of loop(4).
const MAJOR: u32 = 7;
/// How often somebody else may take the free device that we were told.
const TRIES: u32 = 64;

const LOOP_SET_CAPACITY: libc::Ioctl = 0x4c07;
const LOOP_CLR_FD: libc::Ioctl = 0x4c01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4c05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;

const FLAG_AUTOCLEAR: u32 = 4;
const FLAG_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    real_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<Info>() == 232 && size_of::<Config>() == 304);

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        real_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// Why a file could not be made a block device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has none to give.
    #[error("ask {CONTROL} for a free loop device")]
    NoFree(#[source] Errno),
    /// The device cannot be opened.
    #[error("open {}", .0.display())]
    Open(PathBuf, #[source] Errno),
    /// The kernel refuses the file.
    #[error("attach {} to {}", file.display(), device.display())]
    Configure {
        /// The file.
        file: PathBuf,
        /// The device.
        device: PathBuf,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },
}

impl Error {
    /// The kernel's answer.
    pub fn errno(&self) -> Errno {
        match self {
            Self::NoFree(errno) | Self::Open(_, errno) | Self::Configure { errno, .. } => *errno,
        }
    }
}

/// An attached device. It is detached when it was last used after this is dropped: no mount of it,
/// no descriptor.
#[derive(Debug)]
pub struct Device {
    file: File,
    path: PathBuf,
    direct: bool,
}

impl Device {
    /// Makes `file` the next free device: blocks of 4 KiB, read and written past the page cache
    /// where the file's own file system can. It detaches itself when nobody uses it any more, also
    /// after its maker was killed.
    pub fn attach(file: BorrowedFd<'_>, name: &Path) -> Result<Self, Error> {
        let control = open(Path::new(CONTROL)).map_err(Error::NoFree)?;
        for _ in 0..TRIES {
            // SAFETY: the ioctl takes no argument and gives a number.
            let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
            let number = raw::check(number.into()).map_err(Error::NoFree)?;
            let path = node(number).map_err(Error::NoFree)?;
            let device = open(&path).map_err(|errno| Error::Open(path.clone(), errno))?;
            match configure(&device, file, name) {
                Ok(direct) => return Ok(Self { file: device, path, direct }),
                // Somebody else was quicker.
                Err(Errno::BUSY) => {}
                Err(errno) => return Err(Error::Configure { file: name.into(), device: path, errno }),
            }
        }
        Err(Error::NoFree(Errno::BUSY))
    }

    /// The device that has this file already, if there is one.
    pub fn of(file: &File) -> Result<Option<Self>, Errno> {
        let meta = file.metadata().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let Ok(entries) = std::fs::read_dir("/sys/block") else { return Ok(None) };
        for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let backed = Path::new("/sys/block").join(&name).join("loop/backing_file").exists();
            if !name.starts_with("loop") || !backed {
                continue;
            }
            let path = Path::new("/dev").join(&name);
            // Gone again since it was listed, or hidden: then it is not ours.
            let Ok(device) = open(&path) else { continue };
            if let Ok(info) = status(&device)
                && (info.device, info.inode) == (meta.dev(), meta.ino())
            {
                return Ok(Some(Self { file: device, path, direct: info.flags & FLAG_DIRECT_IO != 0 }));
            }
        }
        Ok(None)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Takes notice that the file has grown.
    pub fn refresh_size(&self) -> Result<(), Errno> {
        // SAFETY: the ioctl takes no argument.
        raw::check(unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_SET_CAPACITY) }.into()).map(drop)
    }

    /// Detaches it as soon as nobody uses it: for a device that was attached without asking for that.
    pub fn detach(&self) -> Result<(), Errno> {
        // SAFETY: the ioctl takes no argument.
        raw::check(unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_CLR_FD) }.into()).map(drop)
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Attaches the file; says whether directly.
fn configure(device: &File, file: BorrowedFd<'_>, name: &Path) -> Result<bool, Errno> {
    let mut info = Info { flags: FLAG_AUTOCLEAR | FLAG_DIRECT_IO, ..Info::EMPTY };
    let bytes = name.as_os_str().as_encoded_bytes();
    // What losetup shows; the kernel keeps 63 bytes.
    info.file_name.iter_mut().take(63).zip(bytes).for_each(|(to, from)| *to = *from);
    let fd = u32::try_from(file.as_raw_fd()).map_err(|_| Errno::BADF)?;
    let config = Config { fd, block_size: 4096, info, reserved: [0; 8] };
    // SAFETY: the ioctl reads one `struct loop_config`, whose layout Config has; the descriptor in it
    // is borrowed for the call, and the kernel takes its own reference.
    let done = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) };
    raw::check(done.into())?;
    // Where the file's file system cannot, the kernel goes through the page cache without a word.
    Ok(status(device)?.flags & FLAG_DIRECT_IO != 0)
}

fn status(device: &File) -> Result<Info, Errno> {
    let mut info = Info::EMPTY;
    // SAFETY: the ioctl writes one `struct loop_info64`, whose layout Info has.
    raw::check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) }.into())?;
    Ok(info)
}

/// The device's node, made where /dev is not the kernel's own.
fn node(number: libc::c_long) -> Result<PathBuf, Errno> {
    let path = PathBuf::from(format!("/dev/loop{number}"));
    if std::fs::metadata(&path).is_ok_and(|meta| meta.file_type().is_block_device()) {
        return Ok(path);
    }
    let minor = u32::try_from(number).map_err(|_| Errno::RANGE)?;
    let device = rustix::fs::makedev(MAJOR, minor);
    match rustix::fs::mknodat(CWD, &path, FileType::BlockDevice, Mode::from_raw_mode(0o600), device) {
        Ok(()) | Err(Errno::EXIST) => Ok(path),
        Err(errno) => Err(errno),
    }
}

fn open(path: &Path) -> Result<File, Errno> {
    let opened = File::options().read(true).write(true).open(path);
    opened.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

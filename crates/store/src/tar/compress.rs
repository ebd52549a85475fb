//! What a stream is packed with, told by its first bytes.

use std::io::{self, BufReader, Read};

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// Largest window a zstd frame may ask for (2^27 = 128 MiB, the format's own recommendation).
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory an xz stream may ask for; `xz -9` needs 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;
const BUFFER: usize = 128 << 10;
/// The longest of the magics, rounded up.
const MAGIC_LEN: u64 = 8;

/// Unpacks a stream that is packed with gzip, bzip2, xz or zstd, which its first bytes tell; any
/// other is as it is. Packed ones may consist of several members. Memory is bounded whatever a
/// stream asks for, its length is not: whoever reads it bounds that.
///
/// # Errors
/// The first bytes cannot be read.
pub fn unpack<'a>(mut packed: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    // A pipe may give one byte at a time.
    let mut start = Vec::new();
    (&mut packed).take(MAGIC_LEN).read_to_end(&mut start)?;
    let begins = start.clone();
    let begins = |magic| begins.starts_with(magic);
    let reader = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(packed));
    Ok(if begins(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if begins(BZIP2) {
        Box::new(bzip2::bufread::MultiBzDecoder::new(reader))
    } else if begins(XZ) {
        Box::new(lzma_rust2::XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB))
    } else if begins(ZSTD) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Box::new(decoder)
    } else {
        Box::new(reader)
    })
}

/// Whether this is how a stream begins that [`unpack`] unpacks.
pub(crate) fn is_packed(start: &[u8]) -> bool {
    [GZIP, ZSTD, BZIP2, XZ].iter().any(|magic| start.starts_with(magic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpack(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn every_packing() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"hello").unwrap();
        let gz = gz.finish().unwrap();
        assert_eq!(all(&gz).unwrap(), b"hello");
        assert_eq!(all(&[gz.clone(), gz].concat()).unwrap(), b"hellohello");
        assert_eq!(all(&zstd::encode_all(&b"hello"[..], 1).unwrap()).unwrap(), b"hello");
        assert_eq!(all(b"plain").unwrap(), b"plain");
        assert_eq!(all(b"").unwrap(), b"");
        let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bz.write_all(b"hello").unwrap();
        let bz = bz.finish().unwrap();
        assert_eq!(all(&bz).unwrap(), b"hello");
        assert_eq!(all(&[bz.clone(), bz].concat()).unwrap(), b"hellohello");
        assert_eq!(all(&[XZ_HELLO, XZ_HELLO].concat()).unwrap(), b"hellohello");
    }

    /// What `xz` makes of "hello".
    const XZ_HELLO: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x0, 0x0, 0x4, 0xe6, 0xd6, 0xb4, 0x46, 0x2, 0x0, 0x21, 0x1, 0x16, 0x0,
        0x0, 0x0, 0x74, 0x2f, 0xe5, 0xa3, 0x1, 0x0, 0x4, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0, 0x0, 0x0, 0x0,
        0xb1, 0x37, 0xb9, 0xdb, 0xe5, 0xda, 0x1e, 0x9b, 0x0, 0x1, 0x1d, 0x5, 0xb8, 0x2d, 0x80, 0xaf, 0x1f,
        0xb6, 0xf3, 0x7d, 0x1, 0x0, 0x0, 0x0, 0x0, 0x4, 0x59, 0x5a,
    ];

    #[test]
    fn broken_streams_end_with_an_error() {
        for magic in [GZIP, BZIP2, XZ, ZSTD] {
            for rest in [&b""[..], &[0; 64], &[0xff; 64]] {
                all(&[magic, rest].concat()).unwrap_err();
            }
        }
        for cut in XZ.len()..XZ_HELLO.len() {
            all(&XZ_HELLO[..cut]).unwrap_err();
        }
    }

    #[test]
    fn an_xz_stream_cannot_ask_for_any_memory() {
        // The dictionary's size is one byte, behind the ids of filter and properties; 40 stands for
        // 4 GiB less one. The header's checksum follows.
        let mut greedy = XZ_HELLO.to_vec();
        let size = greedy.windows(2).position(|pair| pair == [0x21, 0x01]).unwrap() + 2;
        greedy[size] = 40;
        let header = 12..12 + (usize::from(greedy[12]) + 1) * 4 - 4;
        let mut crc = flate2::Crc::new();
        crc.update(&greedy[header.clone()]);
        greedy[header.end..header.end + 4].copy_from_slice(&crc.sum().to_le_bytes());
        let error = all(&greedy).unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }
}

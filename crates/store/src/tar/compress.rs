//! What a stream is packed with, told by its first bytes.

use std::io::{self, BufReader, Read};

const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// Largest window a zstd frame may ask for (2^27 = 128 MiB, the format's own recommendation).
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 << 10;
/// The longest of the magics, rounded up.
const MAGIC_LEN: u64 = 8;

/// Unpacks a gzip, zstd or plain stream. Packed ones may consist of several members.
pub(crate) fn unpack<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    // A pipe may give one byte at a time.
    let mut start = Vec::new();
    (&mut reader).take(MAGIC_LEN).read_to_end(&mut start)?;
    let (is_gzip, is_zstd) = (start.starts_with(GZIP), start.starts_with(ZSTD));
    for (magic, name) in [(BZIP2, "bzip2"), (XZ, "xz")] {
        if start.starts_with(magic) {
            let text = format!("the stream is packed with {name}; gzip, zstd and plain tar are understood");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    }
    let reader = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(reader));
    if is_gzip {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)));
    }
    if is_zstd {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
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
        assert!(all(b"BZh91AY").unwrap_err().to_string().contains("bzip2"));
    }
}

//! The 512-byte header block, read and written.

/// Tar's unit.
pub(crate) const BLOCK: usize = 512;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

impl Kind {
    pub(crate) fn typeflag(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// A header block that came in.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8; BLOCK]);

impl<'a> Raw<'a> {
    pub(crate) fn typeflag(&self) -> u8 {
        self.0[156]
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Old tars summed signed characters.
    pub(crate) fn checksum_holds(&self) -> bool {
        let Some(stored) = octal(&self.0[148..156]) else { return false };
        let field = 148..156;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if field.contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte as i8);
        }
        stored == unsigned || stored == signed
    }

    pub(crate) fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..262] == b"ustar" && !self.is_gnu()
    }

    /// Name with the ustar prefix in front.
    pub(crate) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[0..100]);
        if !self.is_ustar() {
            return name.to_vec();
        }
        // Schilling's star keeps times behind a shorter prefix.
        let prefix = if &self.0[508..512] == b"tar\0" { &self.0[345..476] } else { &self.0[345..500] };
        match text(prefix) {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    pub(crate) fn link(&self) -> &'a [u8] {
        text(&self.0[157..257])
    }

    pub(crate) fn mode(&self) -> Option<i64> {
        number(&self.0[100..108])
    }

    pub(crate) fn uid(&self) -> Option<i64> {
        number(&self.0[108..116])
    }

    pub(crate) fn gid(&self) -> Option<i64> {
        number(&self.0[116..124])
    }

    pub(crate) fn size(&self) -> Option<i64> {
        number(&self.0[124..136])
    }

    pub(crate) fn mtime(&self) -> Option<i64> {
        number(&self.0[136..148])
    }

    /// Major and minor; absent in pre-POSIX headers.
    pub(crate) fn device(&self) -> Option<(i64, i64)> {
        if !self.is_ustar() && !self.is_gnu() {
            return Some((0, 0));
        }
        Some((number(&self.0[329..337])?, number(&self.0[337..345])?))
    }

    /// GNU's old sparse header: up to four pairs here.
    pub(crate) fn gnu_sparse(&self) -> (&'a [u8], bool, Option<i64>) {
        (&self.0[386..482], self.0[482] != 0, number(&self.0[483..495]))
    }
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    let len = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    &field[..len]
}

/// Octal text, or GNU's big-endian binary marked by the top bit.
pub(crate) fn number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => base256(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_blank = |b: &u8| *b == b' ' || *b == 0;
    let start = field.iter().position(|b| !is_blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let len = digits.iter().position(is_blank).unwrap_or(digits.len());
    if len == 0 {
        return Some(0);
    }
    digits[..len].iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement; the top bit is the mark, the one below it the sign.
fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value = i128::from(field[0] & 0x3f) - if negative { 0x40 } else { 0 };
    for byte in &field[1..] {
        value = value.checked_mul(256)?.checked_add(i128::from(*byte))?;
    }
    i64::try_from(value).ok()
}

/// A header block that goes out: ustar, numbers in octal.
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

impl Block {
    pub(crate) fn new(typeflag: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.0[156] = typeflag;
        block.0[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    /// Cut to the field. A cut must not end in a slash, or readers that know no PAX take a file
    /// for a directory (Go does the same).
    pub(crate) fn name(&mut self, name: &[u8]) {
        let cut = &name[..name.len().min(100)];
        let cut = if name.len() > 100 { trim_slashes(cut) } else { cut };
        self.0[..cut.len()].copy_from_slice(cut);
    }

    pub(crate) fn link(&mut self, link: &[u8]) {
        let len = link.len().min(100);
        self.0[157..157 + len].copy_from_slice(&link[..len]);
    }

    pub(crate) fn numbers(&mut self, mode: i64, uid: i64, gid: i64, size: i64, mtime: i64) {
        put_octal(&mut self.0[100..108], mode);
        put_octal(&mut self.0[108..116], uid);
        put_octal(&mut self.0[116..124], gid);
        put_octal(&mut self.0[124..136], size);
        put_octal(&mut self.0[136..148], mtime);
    }

    pub(crate) fn device(&mut self, major: u32, minor: u32) {
        put_octal(&mut self.0[329..337], i64::from(major));
        put_octal(&mut self.0[337..345], i64::from(minor));
    }

    /// Writes the checksum; nothing may change afterwards.
    pub(crate) fn seal(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: i64 = self.0.iter().map(|b| i64::from(*b)).sum();
        put_octal(&mut self.0[148..155], sum);
        self.0
    }
}

pub(crate) fn trim_slashes(name: &[u8]) -> &[u8] {
    let len = name.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    &name[..len]
}

/// Whether a number has room in an octal field of `width` bytes with its final NUL.
pub(crate) fn fits(width: u32, value: i64) -> bool {
    value >= 0 && value < 1 << ((width - 1) * 3)
}

/// Zero-padded, NUL at the end; what does not fit is written as zero, its true value is in PAX.
fn put_octal(field: &mut [u8], value: i64) {
    let mut value = if fits(u32::try_from(field.len()).unwrap_or(0), value) { value } else { 0 };
    let digits = field.len() - 1;
    field[digits] = 0;
    for at in (0..digits).rev() {
        field[at] = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_all_dialects() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"00009\0\0\0"), None);
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff"), Some(-1));
        assert_eq!(number(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(number(b"77777777777\0"), Some(0o77_777_777_777));
    }

    #[test]
    fn a_written_block_reads_back() {
        let mut block = Block::new(b'0');
        block.name(b"dir/file");
        block.numbers(0o100_644, 2_097_151, 1, 8_589_934_591, 1);
        block.device(4, 64);
        let bytes = block.seal();
        let raw = Raw(&bytes);
        assert!(raw.checksum_holds() && !raw.is_gnu() && !raw.is_zero());
        assert_eq!(raw.name(), b"dir/file");
        assert_eq!((raw.uid(), raw.gid()), (Some(2_097_151), Some(1)));
        assert_eq!((raw.size(), raw.device()), (Some(8_589_934_591), Some((4, 64))));
    }
}

//! Reading attributes out of a message's payload.

/// One attribute: type (without the nested and byte-order flags) and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The attribute's type.
    pub kind: u16,
    /// Its value; for a nested attribute, attributes again.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as a native-endian `u32`, when it is four bytes.
    pub fn u32(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.value.try_into().ok()?))
    }

    /// The value as a native-endian `u16`, when it is two bytes.
    pub fn u16(&self) -> Option<u16> {
        Some(u16::from_ne_bytes(self.value.try_into().ok()?))
    }

    /// The value as a native-endian `u64`, when it is eight bytes.
    pub fn u64(&self) -> Option<u64> {
        Some(u64::from_ne_bytes(self.value.try_into().ok()?))
    }

    /// The value as text, without the terminating zero.
    pub fn text(&self) -> Option<&'a str> {
        text(self.value)
    }

    /// The attributes inside this one.
    pub fn nested(&self) -> Attributes<'a> {
        attributes(self.value)
    }
}

/// A zero-terminated (or not) text.
pub fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end)?).ok()
}

/// The attributes in `bytes`. Ends quietly at the first malformed one, as the kernel's own
/// lenient parser does.
pub fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

/// Iterator over attributes, see [`attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The first attribute of this type.
    pub fn find_kind(mut self, kind: u16) -> Option<Attribute<'a>> {
        self.find(|a| a.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let len = usize::from(u16::from_ne_bytes(self.rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.rest.get(2..4)?.try_into().ok()?) & !FLAGS;
        let value = self.rest.get(4..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Attribute { kind, value })
    }
}

/// NLA_F_NESTED | NLA_F_NET_BYTEORDER.
const FLAGS: u16 = 0xc000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_batch_writes_and_stops_at_garbage() {
        let mut bytes = vec![8, 0, 1, 0, 9, 0, 0, 0, 6, 0, 2, 0x80, b'a', 0, 0, 0];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].u32(), Some(9));
        assert_eq!((found[1].kind, found[1].text()), (2, Some("a")));
        bytes.extend([200, 0, 1, 0]);
        assert_eq!(attributes(&bytes).count(), 2);
        assert_eq!(attributes(&[3, 0, 0, 0]).count(), 0);
    }
}

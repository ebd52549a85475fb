//! Writing requests: one growing buffer, lengths patched when a message or attribute is closed.

/// A sequence of netlink messages that goes to the kernel in one send.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

/// What the batch remembers of one message, to tell its answer from the others'.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) wants_ack: bool,
    /// Where the sequence number is to be patched in.
    pub(super) sequence_at: usize,
}

const HEADER: usize = 16;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many messages it holds.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The buffer's size in bytes (the kernel takes what fits the socket's send buffer).
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a request that the kernel must acknowledge. `step` says what it is for and becomes the
    /// error's text; `flags` are added to REQUEST and ACK; `fill` writes the payload.
    pub fn request(
        &mut self,
        step: impl Into<String>,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> &mut Self {
        self.push(step.into(), kind, flags | NLM_F_REQUEST | NLM_F_ACK, true, fill)
    }

    /// Adds a message without acknowledgement (begin and end of an nftables transaction, a dump,
    /// where the end of the list is the acknowledgement).
    pub fn message(
        &mut self,
        step: impl Into<String>,
        kind: u16,
        flags: u16,
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> &mut Self {
        self.push(step.into(), kind, flags | NLM_F_REQUEST, false, fill)
    }

    fn push(
        &mut self,
        name: String,
        kind: u16,
        flags: u16,
        wants_ack: bool,
        fill: impl FnOnce(&mut Payload<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.steps.push(Step { name, wants_ack, sequence_at: start + 8 });
        fill(&mut Payload { bytes: &mut self.bytes });
        let len = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        put(&mut self.bytes, start, &len.to_ne_bytes());
        pad(&mut self.bytes);
        self
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The bytes to send, with sequence numbers `first`, `first + 1`, … patched in.
    pub(super) fn numbered(&self, first: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let mut sequence = first;
        for step in &self.steps {
            put(&mut bytes, step.sequence_at, &sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
        bytes
    }

    /// Payload of the `index`-th message, for tests and traces.
    pub fn payload(&self, index: usize) -> Option<&[u8]> {
        let start = self.steps.get(index)?.sequence_at - 8;
        let len = u32::from_ne_bytes(self.bytes.get(start..start + 4)?.try_into().ok()?);
        self.bytes.get(start + HEADER..start + usize::try_from(len).ok()?)
    }
}

/// Writes one message's payload: the fixed header of its family first, then attributes.
#[derive(Debug)]
pub struct Payload<'a> {
    bytes: &'a mut Vec<u8>,
}

const NLA_F_NESTED: u16 = 0x8000;

impl Payload<'_> {
    /// Raw bytes, padded to four (the family's fixed header).
    pub fn header(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        pad(self.bytes);
        self
    }

    /// An attribute with this value.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // nla_len is 16 bits; a longer value cannot be expressed, and the kernel refuses the
        // message because its parts do not add up.
        let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
        self
    }

    /// An attribute without value.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.attr(kind, &[])
    }

    /// One byte.
    pub fn attr_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    /// Two bytes, native order.
    pub fn attr_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Four bytes, native order.
    pub fn attr_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Four bytes, network order (nftables).
    pub fn attr_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Two bytes, network order.
    pub fn attr_be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Eight bytes, network order.
    pub fn attr_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Text with its terminating zero.
    pub fn attr_text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// An attribute of attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Payload<'_>)) -> &mut Self {
        self.open(kind | NLA_F_NESTED, fill)
    }

    /// A nested attribute without the NESTED flag, for old rtnetlink types that are used so by
    /// iproute2 (IFLA_LINKINFO, VETH_INFO_PEER).
    pub fn nested_plain(&mut self, kind: u16, fill: impl FnOnce(&mut Payload<'_>)) -> &mut Self {
        self.open(kind, fill)
    }

    fn open(&mut self, kind: u16, fill: impl FnOnce(&mut Payload<'_>)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(&mut Payload { bytes: self.bytes });
        let len = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        put(self.bytes, start, &len.to_ne_bytes());
        pad(self.bytes);
        self
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(at..at + value.len()) {
        slot.copy_from_slice(value);
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::super::attributes;
    use super::*;

    #[test]
    fn lengths_padding_and_numbers() {
        let mut batch = Batch::new();
        batch.request("one", 16, 0x400, |m| {
            m.header(&[1, 2, 3, 4]).attr_text(3, "eth0").nested(18, |m| {
                m.attr_text(1, "veth").nested(2, |m| {
                    m.attr_u32(4, 7);
                });
            });
        });
        batch.message("two", 17, 0, |m| {
            m.header(&[9]);
        });
        let bytes = batch.numbered(41);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[4..8], &[16, 0, 5, 4]);
        assert_eq!(&bytes[8..12], &[41, 0, 0, 0]);
        let second = u32::from_ne_bytes(bytes[0..4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[second + 4..second + 12], &[17, 0, 1, 0, 42, 0, 0, 0]);
        let found: Vec<_> = attributes(&batch.payload(0).unwrap()[4..]).collect();
        assert_eq!(found[0].text(), Some("eth0"));
        let info: Vec<_> = found[1].nested().collect();
        assert_eq!(info[1].nested().next().unwrap().u32(), Some(7));
    }
}

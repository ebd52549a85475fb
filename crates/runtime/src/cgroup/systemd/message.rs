//! D-Bus messages, as far as a conversation with systemd needs them.
//!
//! Little-endian. Every value is aligned to its own size, structs to eight bytes, counted from the
//! start of the message; header and body both begin at a multiple of eight, so that each can be
//! written by itself. (D-Bus specification, "Message Format" and "Marshaling".)

use super::BusError;

/// The longest message that is accepted; systemd's are a few kilobytes.
const MAX_MESSAGE: usize = 1 << 20;
/// The part of the header that has always the same length.
pub(super) const FIXED_HEADER: usize = 16;

/// A property's value: a D-Bus variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `b`
    Bool(bool),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `a(ss)`
    TextPairs(Vec<(String, String)>),
    /// `a(st)`
    TextNumbers(Vec<(String, u64)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::TextPairs(_) => "a(ss)",
            Self::TextNumbers(_) => "a(st)",
        }
    }
}

/// A named property of a unit.
pub(super) type Property = (&'static str, Value);

/// Bytes of a body or header in the making.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// The length counts neither itself nor the padding before the first element.
    fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.0.len();
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let bytes = length(self.0.len() - start).to_le_bytes();
        if let Some(place) = self.0.get_mut(at - 4..at) {
            place.copy_from_slice(&bytes);
        }
    }

    fn value(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::U64(value) => self.u64(*value),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, |w| w.0.extend(bytes)),
            Value::Numbers(list) => self.array(4, |w| list.iter().for_each(|n| w.u32(*n))),
            Value::TextPairs(list) => self.array(8, |w| {
                for (first, second) in list {
                    w.align(8);
                    w.text(first);
                    w.text(second);
                }
            }),
            Value::TextNumbers(list) => self.array(8, |w| {
                for (text, number) in list {
                    w.align(8);
                    w.text(text);
                    w.u64(*number);
                }
            }),
        }
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[Property]) {
        self.array(8, |w| {
            for (name, value) in properties {
                w.align(8);
                w.text(name);
                w.value(value);
            }
        });
    }

    /// An empty array of structs.
    pub(super) fn no_structs(&mut self) {
        self.array(8, |_| {});
    }
}

fn length(bytes: usize) -> u32 {
    // A message of this size is refused before it is sent.
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Who is called, and what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    /// Bus name; `None` when there is only one at the other end.
    pub(super) destination: Option<&'a str>,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// Types of the body.
    pub(super) signature: &'a str,
}

// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A method call, ready to be sent.
pub(super) fn call(method: &Method<'_>, serial: u32, body: Writer) -> Result<Vec<u8>, BusError> {
    let mut header = Writer(vec![b'l', METHOD_CALL, 0, 1]);
    header.u32(length(body.0.len()));
    header.u32(serial);
    let mut texts = vec![(PATH, "o", method.path), (INTERFACE, "s", method.interface)];
    texts.push((MEMBER, "s", method.member));
    texts.extend(method.destination.map(|name| (DESTINATION, "s", name)));
    header.array(8, |w| {
        for (code, kind, text) in texts {
            w.align(8);
            w.0.push(code);
            w.signature(kind);
            w.text(text);
        }
        if !method.signature.is_empty() {
            w.align(8);
            w.0.push(SIGNATURE);
            w.signature("g");
            w.signature(method.signature);
        }
    });
    header.align(8);
    header.0.extend(body.0);
    if header.0.len() > MAX_MESSAGE {
        return Err(BusError::Malformed("a message of ours is too long"));
    }
    Ok(header.0)
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The answer to the call with that serial; the body.
    Return { serial: u32, body: Vec<u8> },
    /// The refusal of it.
    Error { serial: u32, name: String, message: String },
    /// A signal.
    Signal { member: String, body: Vec<u8> },
    /// Something that concerns us not.
    Other,
}

/// How long the message is that begins with these bytes.
pub(super) fn total_length(fixed: &[u8; FIXED_HEADER]) -> Result<usize, BusError> {
    let [order, ..] = *fixed;
    if order != b'l' {
        return Err(BusError::Malformed("not little-endian"));
    }
    let mut reader = Reader { bytes: fixed, at: 4 };
    let body = reader.u32()? as usize;
    reader.at = 12;
    let fields = reader.u32()? as usize;
    let total = (FIXED_HEADER.saturating_add(fields)).next_multiple_of(8).saturating_add(body);
    if fields > MAX_MESSAGE || total > MAX_MESSAGE {
        return Err(BusError::Malformed("too long"));
    }
    Ok(total)
}

/// Takes a whole message apart.
pub(super) fn parse(message: &[u8]) -> Result<Received, BusError> {
    let kind = *message.get(1).ok_or(TRUNCATED)?;
    let mut reader = Reader { bytes: message, at: 12 };
    let fields = reader.u32()? as usize;
    let end = FIXED_HEADER.saturating_add(fields);
    let (mut serial, mut name, mut member) = (None, String::new(), String::new());
    while reader.at < end {
        reader.align(8);
        let code = reader.u8()?;
        match (code, reader.signature()?.as_str()) {
            (REPLY_SERIAL, "u") => serial = Some(reader.u32()?),
            (ERROR_NAME, "s") => name = reader.text()?,
            (MEMBER, "s") => member = reader.text()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return Err(BusError::Malformed("a header field of unknown type")),
        }
    }
    let body = message.get(end.next_multiple_of(8)..).ok_or(TRUNCATED)?.to_vec();
    Ok(match (kind, serial) {
        (METHOD_RETURN, Some(serial)) => Received::Return { serial, body },
        (ERROR, Some(serial)) => {
            let message = Reader { bytes: &body, at: 0 }.text().unwrap_or_default();
            Received::Error { serial, name, message }
        }
        (SIGNAL, _) => Received::Signal { member, body },
        _ => Received::Other,
    })
}

const TRUNCATED: BusError = BusError::Malformed("truncated");

/// Takes values out of a message.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads a body from its beginning.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BusError> {
        let end = self.at.checked_add(count).ok_or(TRUNCATED)?;
        let taken = self.bytes.get(self.at..end).ok_or(TRUNCATED)?;
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, BusError> {
        self.take(1)?.first().copied().ok_or(TRUNCATED)
    }

    pub(super) fn u32(&mut self) -> Result<u32, BusError> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map_err(|_| TRUNCATED)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(super) fn text(&mut self) -> Result<String, BusError> {
        let length = self.u32()? as usize;
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    fn signature(&mut self) -> Result<String, BusError> {
        let length = usize::from(self.u8()?);
        let text = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_as_the_specification_lays_it_out() {
        let mut body = Writer::default();
        body.text("a.scope");
        body.properties(&[("Delegate", Value::Bool(true)), ("PIDs", Value::Numbers(vec![7]))]);
        let method =
            Method { destination: None, path: "/o", interface: "i.f", member: "M", signature: "sa(sv)" };
        let bytes = call(&method, 5, body).unwrap();
        // Fixed part: order, kind, flags, version, body length, serial.
        assert_eq!(bytes[..4], [b'l', 1, 0, 1]);
        assert_eq!(bytes[8..12], 5u32.to_le_bytes());
        let body_length = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let fixed: [u8; FIXED_HEADER] = bytes[..16].try_into().unwrap();
        assert_eq!(total_length(&fixed).unwrap(), bytes.len());
        let body = &bytes[bytes.len() - body_length..];
        #[rustfmt::skip]
        let expected = [
            7, 0, 0, 0, b'a', b'.', b's', b'c', b'o', b'p', b'e', 0, // "a.scope"
            48, 0, 0, 0, // bytes of the array
            8, 0, 0, 0, b'D', b'e', b'l', b'e', b'g', b'a', b't', b'e', 0, 1, b'b', 0, 1, 0, 0, 0,
            0, 0, 0, 0, // to the next struct
            4, 0, 0, 0, b'P', b'I', b'D', b's', 0, 2, b'a', b'u', 0, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0,
        ];
        assert_eq!(body, expected);
    }

    #[test]
    fn answers_errors_and_signals() {
        // As an answer looks that systemd gave: fields REPLY_SERIAL and SIGNATURE, body an object path.
        let answer = |kind: u8, extra: &dyn Fn(&mut Writer), body: &Writer| {
            let mut header = Writer(vec![b'l', kind, 1, 1]);
            header.u32(length(body.0.len()));
            header.u32(9);
            header.array(8, |w| extra(w));
            header.align(8);
            header.0.extend(&body.0);
            header.0
        };
        let reply = |w: &mut Writer| {
            w.0.push(REPLY_SERIAL);
            w.signature("u");
            w.u32(3);
        };
        let mut body = Writer::default();
        body.text("/job/1");
        let message = answer(METHOD_RETURN, &reply, &body);
        assert_eq!(parse(&message).unwrap(), Received::Return { serial: 3, body: body.0.clone() });
        let refusal = answer(
            ERROR,
            &|w| {
                reply(w);
                w.align(8);
                w.0.push(ERROR_NAME);
                w.signature("s");
                w.text("x.NoSuchUnit");
            },
            &body,
        );
        let expected = Received::Error { serial: 3, name: "x.NoSuchUnit".into(), message: "/job/1".into() };
        assert_eq!(parse(&refusal).unwrap(), expected);
        // Whatever is cut off is said, and never read beyond.
        for length in 0..refusal.len() - 8 {
            drop(parse(&refusal[..length]));
        }
        assert!(total_length(b"B\x01\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0").is_err());
        assert!(total_length(b"l\x01\0\x01\xff\xff\xff\xff\x01\0\0\0\xff\xff\xff\xff").is_err());
    }
}

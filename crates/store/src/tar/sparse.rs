//! Sparse members in GNU's four dialects: which parts of the file the stream carries.

use super::pax::decimal;

/// One part of a file that the stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A sparse file: its whole size, and what of it is not zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SparseMap {
    pub(crate) size: u64,
    pub(crate) segments: Vec<Segment>,
}

impl SparseMap {
    /// In order, without overlap, within the size, and as long together as the stream's part.
    pub(crate) fn is_sound(&self, stored: u64) -> bool {
        let (mut end, mut sum) = (0u64, 0u64);
        for segment in &self.segments {
            let Some(next) = segment.offset.checked_add(segment.len) else { return false };
            if segment.offset < end || next > self.size {
                return false;
            }
            end = next;
            sum += segment.len;
        }
        sum == stored
    }
}

/// What PAX records of dialects 0.0, 0.1 and 1.0 have said so far.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    numbers: Vec<u64>,
    major: Option<u64>,
    pub(crate) seen: bool,
}

impl PaxSparse {
    /// Takes one `GNU.sparse.…` record; false when it is malformed.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.seen = true;
        match key {
            b"GNU.sparse.name" => self.name = Some(value.to_vec()),
            b"GNU.sparse.major" => self.major = decimal(value),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => match decimal(value) {
                Some(size) => self.size = Some(size),
                None => return false,
            },
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => match decimal(value) {
                Some(number) => self.numbers.push(number),
                None => return false,
            },
            b"GNU.sparse.map" => {
                for number in value.split(|b| *b == b',').filter(|text| !text.is_empty()) {
                    let Some(number) = decimal(number) else { return false };
                    self.numbers.push(number);
                }
            }
            _ => {}
        }
        true
    }

    /// Dialect 1.0 keeps the map in front of the data.
    pub(crate) fn map_is_in_data(&self) -> bool {
        self.major == Some(1)
    }

    /// The map of dialects 0.0 and 0.1.
    pub(crate) fn map(&self) -> Option<SparseMap> {
        pairs(&self.numbers).map(|segments| SparseMap { size: self.size.unwrap_or(0), segments })
    }
}

pub(crate) fn pairs(numbers: &[u64]) -> Option<Vec<Segment>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[offset, len]| Segment { offset: *offset, len: *len }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsound_maps_are_seen() {
        let map = |size, pairs: &[(u64, u64)]| SparseMap {
            size,
            segments: pairs.iter().map(|(offset, len)| Segment { offset: *offset, len: *len }).collect(),
        };
        assert!(map(10, &[(0, 2), (8, 2)]).is_sound(4));
        assert!(map(10, &[(10, 0)]).is_sound(0));
        assert!(!map(10, &[(0, 2), (8, 2)]).is_sound(5));
        assert!(!map(10, &[(8, 2), (0, 2)]).is_sound(4));
        assert!(!map(10, &[(0, 5), (4, 2)]).is_sound(7));
        assert!(!map(10, &[(9, 2)]).is_sound(2));
        assert!(!map(10, &[(u64::MAX, 2)]).is_sound(2));
    }
}

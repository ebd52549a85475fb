//! A stream of output cut into log entries where Docker cuts it: at newlines, and every 16 KiB of
//! a line that is longer.

use seacow_spec::Timestamp;

/// Longest text of one entry, newline not counted (moby's `defaultBufSize`).
pub(crate) const MAX_TEXT: usize = 16 << 10;
/// Memory kept while no line is unfinished.
const KEEP: usize = 256;

/// A piece of output for one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// Its text, without the newline.
    pub(crate) text: &'a [u8],
    /// No newline followed: the line goes on in the next entry, or the output ended.
    pub(crate) unfinished: bool,
    /// When it was read; all pieces of one line have the time of the first.
    pub(crate) time: Timestamp,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    held: Vec<u8>,
    /// When the first piece of the line was cut off, if one was.
    cut: Option<Timestamp>,
}

impl Lines {
    /// Takes the next output and calls `emit` for each entry it completes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            let room = MAX_TEXT - self.held.len();
            let window = &bytes[..bytes.len().min(room)];
            match window.iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    self.complete(&window[..end], false, emit);
                    self.cut = None;
                    bytes = &bytes[end + 1..];
                }
                None if window.len() == room => {
                    self.complete(window, true, emit);
                    bytes = &bytes[room..];
                }
                None => {
                    self.held.extend_from_slice(window);
                    return;
                }
            }
        }
    }

    /// The output ended: what is unfinished becomes an entry.
    pub(crate) fn finish(&mut self, emit: &mut impl FnMut(Piece<'_>)) {
        if !self.held.is_empty() {
            self.complete(&[], true, emit);
        }
    }

    fn complete(&mut self, tail: &[u8], unfinished: bool, emit: &mut impl FnMut(Piece<'_>)) {
        let time = self.cut.unwrap_or_else(Timestamp::now);
        if unfinished {
            self.cut = Some(time);
        }
        if self.held.is_empty() {
            emit(Piece { text: tail, unfinished, time });
        } else {
            self.held.extend_from_slice(tail);
            emit(Piece { text: &self.held, unfinished, time });
            self.held.clear();
            if self.held.capacity() > KEEP {
                self.held = Vec::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(parts: &[&[u8]]) -> Vec<(Vec<u8>, bool)> {
        let mut lines = Lines::default();
        let mut pieces = Vec::new();
        let mut emit = |piece: Piece<'_>| pieces.push((piece.text.to_vec(), piece.unfinished));
        for part in parts {
            lines.push(part, &mut emit);
        }
        lines.finish(&mut emit);
        pieces
    }

    #[test]
    fn lines_are_cut_at_newlines_over_any_split() {
        let text = b"one\n\ntwo\r\nlast";
        let whole = cut(&[text]);
        assert_eq!(
            whole,
            [
                (b"one".to_vec(), false),
                (b"".to_vec(), false),
                (b"two\r".to_vec(), false),
                (b"last".to_vec(), true)
            ]
        );
        for size in 1..text.len() {
            assert_eq!(cut(&text.chunks(size).collect::<Vec<_>>()), whole);
        }
    }

    #[test]
    fn long_lines_are_cut_every_16_kib() {
        for (len, expected) in [
            (MAX_TEXT - 1, vec![(MAX_TEXT - 1, false)]),
            // As moby: the buffer is full before the newline is seen.
            (MAX_TEXT, vec![(MAX_TEXT, true), (0, false)]),
            (MAX_TEXT * 2 + 5, vec![(MAX_TEXT, true), (MAX_TEXT, true), (5, false)]),
        ] {
            let mut text = vec![b'x'; len];
            text.push(b'\n');
            for size in [1, 1000, 4096, MAX_TEXT, usize::MAX] {
                let pieces = cut(&text.chunks(size).collect::<Vec<_>>());
                assert_eq!(pieces.iter().map(|(t, u)| (t.len(), *u)).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn the_pieces_of_a_line_share_a_time() {
        let mut lines = Lines::default();
        let mut times = Vec::new();
        let mut emit = |piece: Piece<'_>| times.push(piece.time);
        lines.push(&vec![b'x'; MAX_TEXT * 2 + 1], &mut emit);
        std::thread::sleep(std::time::Duration::from_millis(2));
        lines.push(b"\nnext\n", &mut emit);
        assert_eq!(times[0], times[1]);
        assert_eq!(times[0], times[2]);
        assert!(times[3] > times[0]);
    }
}

/// The text of a pair, on the stack.
pub(super) struct PairText {
    start: usize,
    buffer: [u8; PAIR_TEXT],
}

impl PairText {
    pub(super) fn new(t: u64, f: u32) -> Self {
        let mut text = Self {
            start: PAIR_TEXT,
            buffer: [0; PAIR_TEXT],
        };
        if f != 0 {
            text.prepend_number(u64::from(f));
            text.prepend(b':');
        }
        text.prepend_number(t);
        text
    }

    fn prepend(&mut self, byte: u8) {
        self.start -= 1;
        self.buffer[self.start] = byte;
    }

    fn prepend_number(&mut self, mut number: u64) {
        loop {
            self.prepend(b'0' + (number % 10) as u8);
            number /= 10;
            if number == 0 {
                return;
            }
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

pub(super) fn parse_pair(bytes: &[u8]) -> Option<(u64, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (t, f) = match text.split_once(':') {
        Some((t, f)) => (t, f.parse().ok()?),
        None => (text, 0),
    };
    let pair = (t.parse().ok()?, f);
    // A number has one text. `+1`, `01` and `1:0` were not written by `pair`.
    (PairText::new(pair.0, pair.1).as_bytes() == bytes).then_some(pair)
}

/// 20 digits, a colon, 10 digits.
const PAIR_TEXT: usize = 31;

/// The text of a number, on the stack.
pub(super) struct NumberText {
    start: usize,
    buffer: [u8; LONGEST],
}

impl NumberText {
    /// Writes `t`, or `t:f` if `f` is not zero.
    pub(super) fn pair(t: u64, f: u32) -> Self {
        let mut text = Self::new();
        if f != 0 {
            text.prepend_number(u64::from(f));
            text.prepend(b':');
        }
        text.prepend_number(t);
        text
    }

    pub(super) fn int(number: i64) -> Self {
        let mut text = Self::new();
        text.prepend_number(number.unsigned_abs());
        if number < 0 {
            text.prepend(b'-');
        }
        text
    }

    fn new() -> Self {
        Self {
            start: LONGEST,
            buffer: [0; LONGEST],
        }
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

/// Reads what [`NumberText::pair`] writes.
pub(super) fn parse_pair(bytes: &[u8]) -> Option<(u64, u32)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (t, f) = match text.split_once(':') {
        Some((t, f)) => (t, f.parse().ok()?),
        None => (text, 0),
    };
    let pair = (t.parse().ok()?, f);
    // A number has one text. `+1`, `01` and `1:0` were not written by `pair`.
    (NumberText::pair(pair.0, pair.1).as_bytes() == bytes).then_some(pair)
}

/// Reads what [`NumberText::int`] writes.
pub(super) fn parse_int(bytes: &[u8]) -> Option<i64> {
    let number = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    // `+1`, `01` and `-0` are read by `parse`, and no store writes them.
    (NumberText::int(number).as_bytes() == bytes).then_some(number)
}

/// 20 digits, a colon, 10 digits.
const LONGEST: usize = 31;

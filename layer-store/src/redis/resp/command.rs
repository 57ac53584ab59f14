use crate::{Key, Value};

/// Writes one command, as an array of bulk strings, to the end of a buffer.
///
/// The number of arguments comes first on the wire, so it has to be known at the start.
pub(in crate::redis) struct Command<'o> {
    out: &'o mut Vec<u8>,
    /// The arguments that are still to come.
    left: usize,
}

impl<'o> Command<'o> {
    /// Begins a command of `args` arguments after its name.
    pub(in crate::redis) fn new(out: &'o mut Vec<u8>, name: &str, args: usize) -> Self {
        out.push(b'*');
        push_number(out, args as u64 + 1);
        out.extend_from_slice(b"\r\n");
        let mut command = Self {
            out,
            left: args + 1,
        };
        command.text(name);
        command
    }

    pub(in crate::redis) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.push(b'$');
        push_number(self.out, bytes.len() as u64);
        self.out.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(bytes);
        self.end_argument()
    }

    pub(in crate::redis) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(in crate::redis) fn value(&mut self, value: &Value) -> &mut Self {
        value.with_bytes(|bytes| {
            self.bytes(bytes);
        });
        self
    }

    pub(in crate::redis) fn int(&mut self, number: i64) -> &mut Self {
        self.written(|out| {
            if number < 0 {
                out.push(b'-');
            }
            push_number(out, number.unsigned_abs());
        })
    }

    pub(in crate::redis) fn unsigned(&mut self, number: u64) -> &mut Self {
        self.written(|out| push_number(out, number))
    }

    pub(in crate::redis) fn key(&mut self, key: &Key<'_>) -> &mut Self {
        self.written(|out| key.render(out))
    }

    /// Adds an argument that `write` appends. Its length goes before it once it is known.
    fn written(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        // Room for a length of two digits, as that of most keys. Others move the text by a byte.
        const ROOM: &[u8; 5] = b"$00\r\n";
        let at = self.out.len();
        self.out.extend_from_slice(ROOM);
        write(self.out);
        let len = self.out.len() - at - ROOM.len();
        match len {
            10..=99 => {
                self.out[at + 1] = b'0' + (len / 10) as u8;
                self.out[at + 2] = b'0' + (len % 10) as u8;
            }
            _ => {
                let mut digits = Vec::with_capacity(8);
                push_number(&mut digits, len as u64);
                self.out.splice(at + 1..at + 3, digits);
            }
        }
        self.end_argument()
    }

    fn end_argument(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"\r\n");
        debug_assert!(self.left > 0, "more arguments than announced");
        self.left -= 1;
        self
    }
}

impl Drop for Command<'_> {
    fn drop(&mut self) {
        debug_assert!(
            self.left == 0 || std::thread::panicking(),
            "fewer arguments than announced"
        );
    }
}

fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdentityRef, KeySpace};

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut out = Vec::new();
        Command::new(&mut out, "SET", 4)
            .text("k")
            .bytes(b"a\r\nb")
            .text("PX")
            .unsigned(5_000);
        Command::new(&mut out, "PING", 0);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n$2\r\nPX\r\n$4\r\n5000\r\n*1\r\n$4\r\nPING\r\n"
        );
    }

    #[test]
    fn a_length_of_any_number_of_digits_is_written_before_its_text() {
        let space = KeySpace::new("data", "s");
        for len in [0, 1, 9, 10, 85, 86, 99, 100, 120] {
            let text = "x".repeat(len);
            let key = Key::new(&space, IdentityRef::Text(text.as_bytes()));
            let mut rendered = Vec::new();
            key.render(&mut rendered);
            let mut out = b"before".to_vec();
            Command::new(&mut out, "GET", 1).key(&key);
            let expected = format!(
                "before*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n",
                rendered.len(),
                String::from_utf8(rendered).unwrap()
            );
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        for number in [0, 7, -7, 42, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            Command::new(&mut out, "X", 1).int(number);
            let text = number.to_string();
            let expected = format!("*2\r\n$1\r\nX\r\n${}\r\n{text}\r\n", text.len());
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "fewer arguments than announced")]
    fn a_missing_argument_is_noticed() {
        Command::new(&mut Vec::new(), "GET", 1);
    }
}

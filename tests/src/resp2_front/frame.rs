/// Returns the length of the first command or reply in RESP2, if it is there to its end.
///
/// # Panics
///
/// Panics if it is none.
pub(super) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let mut len = line + 2;
    let count = || -> i64 {
        let text = str::from_utf8(&bytes[1..line]).expect("a count is ASCII");
        text.parse().expect("a count is a number")
    };
    match bytes[0] {
        b'+' | b'-' | b':' => Some(len),
        b'$' => {
            if let Ok(body) = usize::try_from(count()) {
                len += body + 2;
            }
            (bytes.len() >= len).then_some(len)
        }
        b'*' => {
            for _ in 0..count().max(0) {
                len += frame_len(&bytes[len..])?;
            }
            Some(len)
        }
        other => panic!("{:?} begins nothing in RESP2", char::from(other)),
    }
}

/// Returns the first word of a command.
pub(super) fn command_name(command: &[u8]) -> &[u8] {
    command
        .split(|byte| *byte == b'\n')
        .nth(2)
        .and_then(|line| line.strip_suffix(b"\r"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_ends_where_the_next_begins() {
        for frame in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-12\r\n",
            "$-1\r\n",
            "$0\r\n\r\n",
            "$4\r\n\r\n\r\n\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*3\r\n:1\r\n*1\r\n$1\r\na\r\n+x\r\n",
        ] {
            let bytes = [frame, "+next\r\n"].concat().into_bytes();
            assert_eq!(frame_len(&bytes), Some(frame.len()), "{frame:?}");
            for short in 0..frame.len() {
                assert_eq!(frame_len(&bytes[..short]), None, "{frame:?} to {short}");
            }
        }
    }

    #[test]
    fn a_command_has_a_name() {
        let command = b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n";
        assert_eq!(command_name(command), b"HELLO");
        assert_eq!(command_name(b"PING\r\n"), b"");
    }
}
